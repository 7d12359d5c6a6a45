"""What the store keeps, as JSON text: turns, final events and replay pieces. Knows no Redis.

A turn's entry is "<turn> <json>"; a waiting turn's has its position before that.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from visavis.dialogue.events import Event, FinalEvent, event_from_dict, event_to_dict
from visavis.dialogue.turns import Region, Role, Status, Turn, answer_turn


def dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def dump_events(events: Sequence[Event]) -> str:
    return dump([event_to_dict(event) for event in events]) if events else ""


def load_events(data: bytes) -> list[Event]:
    return [event_from_dict(event) for event in json.loads(data)]


def dump_turn(turn: Turn, status: Status = Status.WAITING) -> str:
    region = None if turn.region is None else asdict(turn.region)
    record = {"text": turn.text, "images": turn.images, "at": turn.at, "region": region, "status": str(status)}
    return dump(record)


def dump_final(at: float, final: FinalEvent) -> str:
    return dump({"at": at, "final": event_to_dict(final)})


def load_turn(entry: bytes) -> Turn:
    id, data = entry.decode().split(" ", 1)
    record = json.loads(data)
    if "final" in record:
        return answer_turn(cast(FinalEvent, event_from_dict(record["final"])), record["at"])
    region = None if record["region"] is None else Region(**record["region"])
    status = Status(record["status"])
    return Turn(id, Role.USER, record["text"], tuple(record["images"]), record["at"], region, status)


def load_waiting(entry: bytes) -> tuple[int, Turn]:
    position, rest = entry.split(b" ", 1)
    return int(position), load_turn(rest)


def load_place(entry: bytes) -> tuple[str, int]:
    position, turn, _ = entry.decode().split(" ", 2)
    return turn, int(position)
