"""What a conversation of an earlier schema becomes, one version at a time. Pure: knows no Redis.

1: questions and answers were entries of their own, one after the other; there were no branches, titles and owners,
   pictures had no numbers, and of those that were shown only the newest were known.
2: an entry is an exchange; see `store_scripts`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from visavis.dialogue.json_text import write_json

KINDS = {
    **{"meta": "hash", "turns": "list", "index": "hash", "images": "hash", "queue": "list"},
    **{"versions": "hash", "shown": "zset", "places": "set", "control": "set"},
}
"""The keys of a conversation that last; what else it has runs out by itself."""

Kept = dict[str, Any]
"""Them by name: a hash as fields and values, a list or set as entries, a sorted set as members and scores; all text."""

_SHOWN = 64
_TITLE_CHARACTERS = 60


def migrated(kept: Kept, schema: int, migrations: Mapping[int, Callable[[Kept], Kept]] | None = None) -> Kept:
    """What is kept as `schema`, as the version after the last of `migrations` keeps it; they go by where they start."""
    steps = MIGRATIONS if migrations is None else migrations
    while schema in steps:
        kept, schema = steps[schema](kept), schema + 1
    return kept | {"meta": kept["meta"] | {"schema": str(schema)}}


def _exchanges(kept: Kept) -> Kept:
    meta, turns = dict(kept["meta"]), kept["turns"]
    pairs = [
        (*question.split(" ", 1), answer.split(" ", 1)[1])
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
    ]
    exchanges = [(id, _question(question), json.loads(answer)) for id, question, answer in pairs]
    count = int(meta.get("count", 0)) // 2
    index = {id: str(count - len(exchanges) + place) for place, (id, _, _) in enumerate(exchanges)}
    newest = json.loads(meta.pop("newest", "[]"))
    shown = {f"{index[id]} {' '.join(asked['images'])}": index[id] for id, asked, _ in exchanges if asked["images"]}
    if newest and not shown:  # the turn that showed them has left by age
        shown = {f"0 {' '.join(newest)}": "0"}
    if count:
        meta |= {"count": str(count), "path": f"0-{count - 1}"}
    if exchanges:
        _, asked, answer = exchanges[0]
        meta["title"] = " ".join((asked["text"] or answer["final"].get("text", "")).split())[:_TITLE_CHARACTERS]
    if "attempt" in meta:
        meta["deaths"] = "0"
    return kept | {
        "meta": meta | {"owner": "", "pictures": str(len(kept["images"]))},
        "turns": [f"{id} - {write_json({'question': asked} | answer)}" for id, asked, answer in exchanges],
        "index": index,
        "images": {sha256: f"{number} {ref}" for number, (sha256, ref) in enumerate(kept["images"].items(), 1)},
        "queue": [_waiting(*entry.split(" ", 2)) for entry in kept["queue"]],
        "shown": dict(list(shown.items())[-_SHOWN:]),
    }


def _question(data: str) -> dict[str, Any]:
    """Its status is that of its answer."""
    return {name: value for name, value in json.loads(data).items() if name != "status" and value is not None}


def _waiting(position: str, id: str, data: str) -> str:
    return f"{position} {id} {write_json(_question(data))}"


MIGRATIONS: Mapping[int, Callable[[Kept], Kept]] = {1: _exchanges}
