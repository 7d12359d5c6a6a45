"""docs/protocol.md against the code: every command, frame, field and code is there, and every example is true."""

import json
import re
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_chat_model import FakeChatModel

from visavis.dialogue import wire
from visavis.dialogue.commands import COMMANDS, CommandName
from visavis.dialogue.errors import ErrorCode, RateLimited
from visavis.dialogue.events import EventName, TurnCompleted, Usage
from visavis.dialogue.explaining import Explanation, WordMap
from visavis.dialogue.limits import Limits
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.persons import Receipt
from visavis.dialogue.sockets import CloseCode
from visavis.dialogue.turns import Exchange, Feedback, ImageRef, Role, Session, SessionSummary, Turn, answer_turn

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
SENT, TOLD = (
    [json.loads(line) for line in block.splitlines()]
    for block in re.findall(r"```json\n(.*?)```", PAGE.partition("## Every frame once")[2], re.DOTALL)
)
FINAL = TurnCompleted(
    session="s", turn="t", attempt=1, seq=1, text="", html="", image="i", usage=Usage(0, 0, 0), confidence=None
)
EXCHANGE = Exchange(Turn("t", Role.USER, ""), answer_turn(FINAL, 0.0, Feedback(1)))
FRAMES = [
    wire.ready_frame(Session("s"), ModelChoice({"m": FakeChatModel()}), Limits(), "web:a"),
    wire.image_stored_frame("id", ImageRef("i", 1, 1, "image/png", 1)),
    wire.history_frame(Session("s", (EXCHANGE,))),
    wire.sessions_frame([SessionSummary("s", "t", 0.0, 1)]),
    wire.title_frame("s", "t"),
    wire.feedback_frame("t", Feedback(1)),
    wire.explanation_frame(Explanation("t", "i", (1, 1), "", (WordMap(0, 1, ""),))),
    wire.forgotten_frame(asdict(Receipt(None, 1, 1, 1, 0.0))),
    wire.link_frame("c", 1),
    wire.linked_frame(["web:a"]),
    wire.error_frame(RateLimited("m", id="t")),
]


def shape(value: Any) -> Any:
    """The keys of an object and of the objects in it; of a list, those of its last item."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(value[-1])] if isinstance(value, list) and value and isinstance(value[-1], dict) else None


@pytest.mark.parametrize("name", CommandName)
def test_every_command_has_an_example_with_all_its_fields(name: CommandName) -> None:
    [example] = [one for one in SENT if one["type"] == name]
    command = wire.parse_command(json.dumps(example), Limits())
    assert example.keys() - {"type"} == {field.name for field in fields(COMMANDS[name])}
    given = {key: value for key, value in example.items() if key != "type"}
    assert json.loads(json.dumps(asdict(command))) == given and is_dataclass(command)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: json.loads(frame)["type"])
def test_every_frame_has_an_example_with_all_its_fields(frame: str) -> None:
    made = json.loads(frame)
    [example] = [one for one in TOLD if one["type"] == made["type"]]
    assert shape(example) == shape(made)


@pytest.mark.parametrize("name", EventName)
def test_every_event_has_an_example_that_is_one(name: EventName) -> None:
    [example] = [one for one in TOLD if one["type"] == name]
    assert json.loads(wire.event_frame(wire.parse_event(json.dumps(example)))) == example


def test_nothing_is_missing() -> None:
    assert {json.loads(frame)["type"] for frame in FRAMES} == set(wire.FrameName)
    assert {one["type"] for one in TOLD} == {*wire.FrameName, *EventName}
    for word in (*ErrorCode, *map(str, CloseCode)):
        assert re.search(rf"^\| `?{word}`? \|", PAGE, re.MULTILINE), word
    for name in CommandName:
        assert f"### `{name}`" in PAGE, name
