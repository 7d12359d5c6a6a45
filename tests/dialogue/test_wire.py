import json
import uuid
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from hypothesis import given
from hypothesis import strategies as st

from visavis.dialogue import commands, wire
from visavis.dialogue.errors import BadRequest, Busy, DialogueError, ErrorCode
from visavis.dialogue.events import (
    Event,
    TextDelta,
    Timings,
    TurnAccepted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnQueued,
    TurnRestarted,
    Usage,
)
from visavis.dialogue.limits import ImageLimits, Limits
from visavis.dialogue.model_choice import ModelChoice
from visavis.dialogue.turns import (
    Exchange,
    Feedback,
    ImageRef,
    Region,
    Role,
    Session,
    SessionSummary,
    Turn,
    answer_turn,
)
from visavis.dialogue.wire_fields import clean_text

LIMITS = Limits()
ID = "7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33"
OTHER = "0d0d4f0e-6bd9-4d8c-9f55-3b0f2f3c1a77"
SHA = "a" * 64
SESSION = "0123456789abcdef" * 2
TOKEN = "0d0d4f0e-6bd9-4d8c-9f55-3b0f2f3c1a77"


def parse(**fields: Any) -> commands.Command:
    return wire.parse_command(json.dumps(fields), LIMITS)


def refusal(frame: str) -> DialogueError:
    with pytest.raises(DialogueError) as refused:
        wire.parse_command(frame, LIMITS)
    json.loads(wire.error_frame(refused.value)).keys()
    return refused.value


def test_commands() -> None:
    region = {"image": SHA, "x": 0, "y": 0.5, "w": 1, "h": 0.5}
    resume = {"turn": ID, "attempt": 2, "seq": 0}
    assert parse(type="hello", version=1, later="ignored") == commands.Hello(1)
    assert parse(type="hello", version=1, session=SESSION, token=TOKEN, resume=resume) == commands.Hello(
        1, SESSION, TOKEN, commands.Resume(ID, 2, 0)
    )
    assert parse(type="image", id=ID, mime="image/png", bytes=3) == commands.ImageCommand(ID, 3, "image/png")
    assert parse(type="turn", id=ID, text="  Why?\r\nso ") == commands.TurnCommand(ID, "Why?\nso")
    assert parse(type="turn", id=ID, text="", images=[SHA, SHA], region=region) == commands.TurnCommand(
        ID, "", (SHA,), Region(SHA, 0, 0.5, 1, 0.5)
    )
    assert parse(type="cancel", turn=ID) == commands.Cancel(ID)
    assert parse(type="history", before=None) == commands.HistoryCommand()
    assert parse(type="history", before=ID, limit=200) == commands.HistoryCommand(ID, 200)
    assert parse(type="new") == commands.New()
    assert parse(type="forget") == commands.Forget()
    assert parse(type="regenerate", turn=ID, id=OTHER) == commands.Regenerate(ID, OTHER)
    assert parse(type="edit", turn=ID, id=OTHER, text=" No. ") == commands.Edit(ID, OTHER, "No.")
    assert parse(type="select", turn=ID) == commands.Select(ID)
    assert parse(type="feedback", turn=ID, score=-1) == commands.FeedbackCommand(ID, -1)
    assert parse(type="feedback", turn=ID, score=1, consent=True) == commands.FeedbackCommand(ID, 1, True)
    assert parse(type="sessions", query="red cat") == commands.SessionsCommand("red cat")
    assert parse(type="title", text="Two\n cats ") == commands.TitleCommand("Two cats")


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ("null", "got null."),
        ("[]", "got a list."),
        ('{"type":"turn","id":7}', "got a whole number."),
        (f'{{"type":"image","id":"{ID}","bytes":7.5}}', "got a fraction."),
        ('{"type":"turn","id":true}', "got a boolean."),
        ('{"type":"turn","id":{}}', "got an object."),
        (f'{{"type":"turn","id":"{ID}","region":"here"}}', "'region': input should be a valid object, got a string."),
        (f'{{"type":"hello","version":1,"session":"{SESSION}","resume":[]}}', "a valid object, got a list."),
    ],
)
def test_what_came_is_said_in_the_words_of_json(frame: str, said: str) -> None:
    assert str(refusal(frame)).endswith(said)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "bad_request"),
        ({"type": None}, "bad_request"),
        ({"type": ["turn"]}, "bad_request"),
        ({"type": "dance"}, "bad_request"),
        ({"type": "\ud800"}, "bad_request"),
        ({"type": "hello"}, "bad_request"),
        ({"type": "hello", "version": True}, "bad_request"),
        ({"type": "hello", "version": "1"}, "bad_request"),
        ({"type": "hello", "version": 2}, "unsupported_version"),
        ({"type": "hello", "version": 1, "session": "guess"}, "unknown_session"),
        ({"type": "hello", "version": 1, "session": "{x}:turns\n" + "0" * 22}, "unknown_session"),
        ({"type": "hello", "version": 1, "resume": {"turn": ID, "attempt": 1, "seq": 1}}, "bad_request"),
        (
            {"type": "hello", "version": 1, "session": SESSION, "resume": {"turn": ID, "attempt": 0, "seq": 1}},
            "bad_request",
        ),
        ({"type": "turn", "id": "1", "text": "x"}, "bad_request"),
        ({"type": "turn", "id": ID, "text": 5}, "bad_request"),
        ({"type": "turn", "id": ID, "text": ""}, "bad_request"),
        ({"type": "turn", "id": ID, "text": " \u0007\n"}, "bad_request"),
        ({"type": "turn", "id": ID, "text": "a\0b"}, "bad_request"),
        ({"type": "turn", "id": ID, "text": "a\ud83d"}, "bad_request"),
        ({"type": "turn", "id": ID, "text": "x" * 4001}, "too_long"),
        ({"type": "turn", "id": ID, "text": "x", "images": SHA}, "bad_request"),
        ({"type": "turn", "id": ID, "text": "x", "images": [1]}, "bad_request"),
        ({"type": "turn", "id": ID, "text": "x", "images": ["../etc"]}, "unknown_image"),
        ({"type": "turn", "id": ID, "text": "x", "images": [SHA] * 9}, "bad_request"),
        (
            {"type": "turn", "id": ID, "text": "x", "region": {"image": SHA, "x": 0.9, "y": 0, "w": 0.5, "h": 1}},
            "bad_request",
        ),
        (
            {"type": "turn", "id": ID, "text": "x", "region": {"image": SHA, "x": 0, "y": 0, "w": "1", "h": 1}},
            "bad_request",
        ),
        ({"type": "image", "id": ID, "mime": "image/png"}, "bad_request"),
        ({"type": "image", "id": ID, "mime": "image/png", "bytes": 0}, "bad_request"),
        ({"type": "image", "id": ID, "mime": "image/png", "bytes": 1.5}, "bad_request"),
        ({"type": "cancel"}, "bad_request"),
        ({"type": "hello", "version": 1, "token": "short"}, "bad_request"),
        ({"type": "hello", "version": 1, "token": "é" * 40}, "bad_request"),
        ({"type": "regenerate", "id": ID}, "bad_request"),
        ({"type": "edit", "id": ID, "turn": ID, "text": "  "}, "bad_request"),
        ({"type": "edit", "id": ID, "turn": ID, "text": "x" * 4001}, "too_long"),
        ({"type": "feedback", "id": ID, "turn": ID, "score": 2}, "bad_request"),
        ({"type": "feedback", "id": ID, "turn": ID, "score": 1, "consent": "yes"}, "bad_request"),
        ({"type": "title", "text": " "}, "bad_request"),
        ({"type": "title", "text": "x" * 121}, "too_long"),
        ({"type": "history", "limit": 201}, "bad_request"),
        ({"type": "history", "limit": 10**400}, "bad_request"),
    ],
)
def test_wrong_commands_are_refused_with_their_id(fields: dict[str, Any], code: str) -> None:
    error = refusal(json.dumps(fields))
    assert error.code == code
    assert error.id == (fields.get("id") if fields.get("id") == ID else None)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "nonsense",
        "[]",
        "null",
        '"hello"',
        '{"type": "new"',
        '{"type": "new"} {}',
        '{"type": "new", "type": "forget"}',
        '{"type": "turn", "region": {"x": 1, "x": 2}}',
        '{"type": "new", "x": NaN}',
        '{"type": "new", "x": -Infinity}',
        '{"type": "new", "x": ' + "9" * 5000 + "}",
        "[" * 60_000,
        '{"a":' * 10_000,
        '{"type": "new", "x": ' + "[" * 20_000 + "]" * 20_000 + "}",
        '{"type": "turn", "id": "' + ID + '", "text": "x", "region": {"x": 1e999, "y": 0, "w": 1, "h": 1}}',
        "\ud800",
        "\0",
        "\ufeff{}",
    ],
)
def test_hostile_frames_are_bad_requests(frame: str) -> None:
    assert refusal(frame).code == ErrorCode.BAD_REQUEST


def test_frames_over_the_limit_are_too_long() -> None:
    assert refusal(json.dumps({"type": "turn", "id": ID, "text": "x" * 100_000})).code == ErrorCode.TOO_LONG
    frame = json.dumps({"type": "new", "x": "é" * 32_760}, ensure_ascii=False)
    assert len(frame) < LIMITS.max_frame_bytes < len(frame.encode())
    assert refusal(frame).code == ErrorCode.TOO_LONG


def test_text_is_cleaned_and_counted_in_characters() -> None:
    assert clean_text(" a\u0007\u202eb\tc\u0085 ", LIMITS) == "ab\tc"
    assert clean_text("\U0001f600" * 4000, LIMITS) == "\U0001f600" * 4000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(list(commands.CommandName))
fields = st.sampled_from(["id", "text", "images", "region", "turn", "version", "session", "resume", "limit", "bytes"])


@given(st.text() | st.builds(json.dumps, json_values))
def test_any_frame_is_a_command_or_a_refusal(frame: str) -> None:
    try:
        wire.parse_command(frame, LIMITS)
    except DialogueError as error:
        json.loads(wire.error_frame(error))


@given(names, st.dictionaries(fields, json_values | st.just(ID) | st.just(1)))
def test_any_fields_are_a_command_or_a_refusal(name: str, values: dict[str, Any]) -> None:
    try:
        wire.parse_command(json.dumps({"type": name, **values}), LIMITS)
    except DialogueError as error:
        wire.error_frame(error).encode()


@given(st.uuids(), st.text(max_size=200))
def test_what_is_accepted_is_what_was_sent(id: uuid.UUID, text: str) -> None:
    try:
        command = parse(type="turn", id=str(id), text=text)
    except BadRequest:
        return
    assert isinstance(command, commands.TurnCommand) and command.id == str(id)
    assert command.text == clean_text(command.text, LIMITS) and command.text.encode()


places = st.fixed_dictionaries(
    {"session": st.just(SESSION), "turn": st.just(ID), "attempt": st.integers(1), "seq": st.integers(1)}
)
words = st.text(st.characters(exclude_categories=["Cs"]))
usages = st.builds(Usage, st.integers(0), st.integers(0), st.integers(0))
events = st.one_of(
    places.map(lambda place: TurnAccepted(**place)),
    places.map(lambda place: TurnRestarted(**place)),
    st.builds(lambda place, position: TurnQueued(**place, position=position), places, st.integers(1)),
    st.builds(lambda place, text: TextDelta(**place, text=text), places, words),
    st.builds(lambda place, text: TurnCancelled(**place, text=text), places, words),
    st.builds(lambda place, text: TurnFailed(**place, code="busy", message=text), places, words),
    st.builds(
        lambda place, text, usage, left_out, confidence: TurnCompleted(
            **place,
            text=text,
            html=text,
            usage=usage,
            left_out=left_out,
            confidence=confidence,
            timings=Timings(1, 2, 3),
        ),
        places,
        words,
        usages,
        st.lists(st.just(ID)).map(tuple),
        st.none() | st.floats(0, 1),
    ),
)


@given(events)
def test_events_go_to_a_frame_and_back(event: Event) -> None:
    frame = wire.event_frame(event)
    assert wire.parse_event(frame) == event
    assert "\n" not in frame and json.loads(frame)["type"] == event.name


@pytest.mark.parametrize("frame", ["{}", "[]", "x", '{"type": "ready"}', '{"type": "turn.delta"}'])
def test_what_is_no_event_is_refused(frame: str) -> None:
    with pytest.raises(ValueError):
        wire.parse_event(frame)


def test_server_frames() -> None:
    turn = Turn(ID, Role.USER, "What?", (SHA,), 12.5, Region(SHA, 0, 0, 1, 1))
    final = TurnFailed(session=SESSION, turn=ID, attempt=1, seq=2, code="busy", message="Wait.")
    shown = {"role": "user", "text": "What?", "html": None, "images": [SHA], "status": "completed", "error": None}
    rest = {"at": 12.5, "alternatives": [], "feedback": None, "region": {"image": SHA, "x": 0, "y": 0, "w": 1, "h": 1}}
    rest |= {"replaces": None, "confidence": None, "suggestions": []}
    assert wire.turn_to_dict(turn) == {"id": ID, **shown, **rest}
    assert wire.turn_to_dict(answer_turn(final, 1.0))["error"] == {"code": "busy", "message": "Wait."}
    place = {"session": SESSION, "turn": ID, "attempt": 1, "seq": 2}
    done = TurnCompleted(**place, text="A cat.", html="", confidence=0.3, suggestions=("Where?",))  # type: ignore[arg-type]
    listed_answer = wire.turn_to_dict(answer_turn(done, 1.0))
    assert (listed_answer["confidence"], listed_answer["suggestions"]) == (0.3, ["Where?"])
    stopped = TurnCancelled(**place, text="", html="")  # type: ignore[arg-type]
    assert wire.turn_to_dict(answer_turn(stopped, 1.0))["html"] == "", "as its event said"
    choice = ModelChoice({"m": FakeChatModel(), "n": FakeChatModel()})
    ready = json.loads(wire.ready_frame(Session(SESSION, waiting=(turn,)), choice, Limits(ImageLimits(max_bytes=5))))
    assert ready["model"] == "m"
    assert ready["models"] == [{"name": name, "pictures": True, "remote": False} for name in "mn"]
    assert ready["type"] == "ready" and ready["limits"]["image_bytes"] == 5 and len(ready["turns"]) == 1
    stored = json.loads(wire.image_stored_frame(ID, ImageRef(SHA, 4, 3, "image/png", 9)))
    assert stored == {"type": "image.stored", "id": ID, "image": SHA, "width": 4, "height": 3}
    page = Session(
        SESSION, (Exchange(turn, answer_turn(final, 1.0, Feedback(1, True)), (Exchange(turn, turn),)),), more=True
    )
    history = json.loads(wire.history_frame(page))
    assert history["more"] is True and [turn["role"] for turn in history["turns"]] == ["user", "assistant"]
    assert history["turns"][1]["feedback"] == {"score": 1, "consent": True}
    assert [other["text"] for other in history["turns"][0]["alternatives"]] == ["What?"]
    listed = json.loads(wire.sessions_frame([SessionSummary(SESSION, "Cats", 5.0, 3)]))
    assert listed["sessions"] == [{"id": SESSION, "title": "Cats", "at": 5.0, "turns": 3}]
    assert json.loads(wire.forgotten_frame({"turns": 2})) == {"type": "forgotten", "receipt": {"turns": 2}}
    assert json.loads(wire.error_frame(Busy("Wait.", id=ID))) == {
        "type": "error",
        "code": "busy",
        "message": "Wait.",
        "id": ID,
    }
