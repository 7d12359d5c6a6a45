"""What the store keeps, as JSON text: exchanges, waiting turns and replay pieces; a session of them. Knows no Redis.

The forms of the entries are told in `store_scripts`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import orjson

from visavis.dialogue.events import Event, FinalEvent, event_from_dict, event_to_dict
from visavis.dialogue.json_text import write_json
from visavis.dialogue.turns import Exchange, Feedback, Region, Role, Session, Status, Turn, answer_turn

SCHEMA = 2  # how a conversation is kept: what it was before, and how that becomes this, is told in `store_migrations`
SHOWN_TURNS = 50


def dump_events(events: Sequence[Event]) -> str:
    return write_json([event_to_dict(event) for event in events]) if events else ""


def load_events(data: bytes) -> list[Event]:
    return [event_from_dict(event) for event in orjson.loads(data)]


def dump_question(turn: Turn) -> str:
    return write_json(_question(turn))


def dump_exchange(question: Turn, at: float, final: FinalEvent) -> str:
    return write_json({"question": _question(question), "at": at, "final": event_to_dict(final)})


def load_session(id: str, loaded: Sequence[Any]) -> Session | None:
    """What the script LOAD gives; None for no session."""
    schema, owner, title, more, target, entries, others, queue, shown = loaded
    if schema is None:
        return None
    return Session(
        id,
        _with_alternatives(map(load_exchange, entries), others),
        tuple(load_waiting(entry)[1] for entry in queue),
        tuple(tuple(entry.decode().split()[1:]) for entry in shown),
        bool(more),
        None if target is None else load_exchange(target),
        (owner or b"").decode(),
        (title or b"").decode(),
    )


def dump_feedback(feedback: Feedback) -> str:
    return write_json(asdict(feedback))


def load_exchange(entry: bytes) -> Exchange:
    id, feedback, data = entry.decode().split(" ", 2)
    record = orjson.loads(data)
    final = cast(FinalEvent, event_from_dict(record["final"]))
    answer = answer_turn(final, record["at"], None if feedback == "-" else Feedback(**orjson.loads(feedback)))
    return Exchange(_load_question(id, record["question"], answer.status), answer)


def load_waiting(entry: bytes) -> tuple[int, Turn]:
    """How many were ahead of a waiting turn when it came, and the turn."""
    position, id, data = entry.decode().split(" ", 2)
    return int(position), _load_question(id, orjson.loads(data), Status.WAITING)


def load_place(entry: bytes) -> tuple[str, int]:
    position, id, _ = entry.decode().split(" ", 2)
    return id, int(position)


def _with_alternatives(exchanges: Iterable[Exchange], others: list[bytes]) -> tuple[Exchange, ...]:
    """`others` are pairs: a turn, and an entry that stands in its place in another branch."""
    found: dict[str, list[Exchange]] = {}
    for turn, entry in zip(others[::2], others[1::2], strict=True):
        found.setdefault(turn.decode(), []).append(load_exchange(entry))
    return tuple(replace(one, alternatives=tuple(found.get(one.question.id, ()))) for one in exchanges)


def _question(turn: Turn) -> dict[str, Any]:
    region = None if turn.region is None else asdict(turn.region)
    more = {"region": region, "replaces": turn.replaces, "seed": turn.seed, "about": turn.about or None}
    more |= {"model": turn.model or None}
    return {"text": turn.text, "images": turn.images, "at": turn.at} | {k: v for k, v in more.items() if v is not None}


def _load_question(id: str, record: dict[str, Any], status: Status) -> Turn:
    record["images"], record["about"] = tuple(record["images"]), tuple(record.get("about", ()))
    if region := record.get("region"):
        record["region"] = Region(**region)
    return Turn(id, Role.USER, status=status, **record)
