import asyncio
import io
import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_chat_model import FakeChatModel
from PIL import Image
from redis.asyncio import Redis

from visavis.dialogue.connection import serve_connection
from visavis.dialogue.errors import StoreUnavailable
from visavis.dialogue.limits import Limits, TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.sockets import SocketClosed
from visavis.dialogue.store import Store
from visavis.dialogue.store_client import connect
from visavis.dialogue.store_turns import TurnStore

FAST = TurnPolicy(lease_s=0.5, renew_s=0.1, flush_s=0.02, poll_s=0.02, sweep_s=0.05)
HELLO = {"type": "hello", "version": 1}


def png(size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(buffer, "PNG")
    return buffer.getvalue()


def named(token: str | None) -> str:
    return "" if token is None else f"web:{token[:8]}"


class Client:
    """Both the fake socket that a connection sees and the client at its other end."""

    def __init__(self, manager: DialogueManager, address: str = "") -> None:
        self.address = address
        self._to_server: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._to_client: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.closed: tuple[int, str] | None = None
        self.reads = True
        self.serving = asyncio.create_task(serve_connection(self, manager, named))

    async def receive(self) -> str | bytes:
        frame = await self._to_server.get()
        if frame is None:
            raise SocketClosed
        return frame

    async def send(self, text: str) -> None:
        if not self.reads:
            await asyncio.sleep(60)
        self._to_client.put_nowait(json.loads(text))

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def say(self, frame: dict[str, Any] | str | bytes) -> None:
        self._to_server.put_nowait(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            return await self._to_client.get()

    async def ask(self, frame: dict[str, Any] | str | bytes) -> dict[str, Any]:
        self.say(frame)
        return await self.hear()

    async def hear_turn(self) -> list[dict[str, Any]]:
        frames = [await self.hear()]
        while frames[-1]["type"] not in ("turn.completed", "turn.failed", "turn.cancelled"):
            frames.append(await self.hear())
        return frames

    def hears_nothing(self) -> bool:
        return self._to_client.empty()

    async def leave(self) -> None:
        self._to_server.put_nowait(None)
        await self.serving


class Room:
    def __init__(self, manager: DialogueManager, model: FakeChatModel) -> None:
        self.manager, self.model = manager, model
        self.clients: list[Client] = []

    async def client(self, hello: dict[str, Any] | None = None, address: str = "") -> tuple[Client, dict[str, Any]]:
        client = Client(self.manager, address)
        self.clients.append(client)
        return client, await client.ask(hello or HELLO)


def make_room(redis: Redis, limits: Limits | None = None) -> Room:
    model = FakeChatModel()
    return Room(DialogueManager(Store(redis), model, limits, policy=FAST), model)


@pytest.fixture
async def room(redis: Redis) -> AsyncIterator[Room]:
    room = make_room(redis)
    yield room
    for client in room.clients:
        if not client.serving.done():
            await client.leave()
    await room.manager.drain(0)


def turn(text: str = "What?", **more: Any) -> dict[str, Any]:
    return {"type": "turn", "id": str(uuid.uuid4()), "text": text, **more}


async def test_a_conversation_about_a_picture(room: Room) -> None:
    client, ready = await room.client()
    assert ready["type"] == "ready" and ready["turns"] == [] and ready["model"] == "visavis-embedded"
    assert ready["limits"]["images"] == 8 and ready["limits"]["image_bytes"] == 20 * 2**20
    upload = {"type": "image", "id": str(uuid.uuid4()), "mime": "image/png", "bytes": len(png())}
    client.say(upload)
    stored = await client.ask(png())
    assert (stored["type"], stored["id"], stored["width"]) == ("image.stored", upload["id"], 8)
    asked = turn(images=[stored["image"]])
    client.say(asked)
    frames = await client.hear_turn()
    assert [frame["type"] for frame in frames] == ["turn.accepted", *["turn.delta"] * 3, "turn.completed"]
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5]
    assert {(f["session"], f["turn"], f["attempt"]) for f in frames} == {(ready["session"], asked["id"], 1)}
    assert set(frames[-1]) == {
        *("type", "session", "turn", "attempt", "seq", "text", "html", "image", "left_out"),
        *("usage", "timings", "confidence", "model", "suggestions"),
    }
    again, ready = await room.client({**HELLO, "session": ready["session"]})
    assert [(t["role"], t["text"]) for t in ready["turns"]] == [("user", "What?"), ("assistant", "A red ball.")]
    page = await again.ask({"type": "history", "limit": 1})
    assert page["type"] == "history" and not page["more"] and page["turns"][-1]["html"] == "<p>A red ball.</p>"


async def test_hello_comes_first_and_only_in_version_1(room: Room) -> None:
    client = Client(room.manager)
    room.clients.append(client)
    for frame in (turn(), {"type": "new"}, {"type": "history"}, {"type": "cancel", "turn": turn()["id"]}, b"x"):
        refused = await client.ask(frame)
        named = frame.get("id") if isinstance(frame, dict) else None
        assert (refused["code"], refused.get("id")) == ("bad_request", named)
    assert (await client.ask({**HELLO, "version": 2}))["code"] == "unsupported_version"
    assert (await client.ask({**HELLO, "session": "0" * 32}))["code"] == "unknown_session"
    assert (await client.ask(HELLO))["type"] == "ready"


async def test_bad_frames_cost_nothing_else(room: Room) -> None:
    client, _ = await room.client()
    for frame in ("{", "[" * 60_000, {"type": "dance"}, {"type": "edit", "turn": turn()["id"]}, b"surprise"):
        assert (await client.ask(frame))["code"] == "bad_request"
    assert (await client.ask(turn("x" * 100_000)))["code"] == "too_long"
    unknown = turn(images=["a" * 64])
    assert (await client.ask(unknown)).items() >= {"code": "unknown_image", "id": unknown["id"]}.items()
    lost = {"type": "cancel", "turn": unknown["id"]}
    assert (await client.ask(lost)).items() >= {"code": "unknown_turn", "id": unknown["id"]}.items()
    client.say(turn())
    assert (await client.hear_turn())[-1]["type"] == "turn.completed"


async def test_an_answer_is_explained_or_refused_in_its_own_frame(room: Room) -> None:
    client, _ = await room.client()
    asked = turn()
    client.say(asked)
    await client.hear_turn()
    refused = await client.ask({"type": "explain", "turn": asked["id"]})
    assert (refused["type"], refused["code"], refused["id"]) == ("error", "bad_request", asked["id"])
    unknown = await client.ask({"type": "explain", "turn": turn()["id"]})
    assert unknown["code"] == "unknown_turn"
    assert (await client.ask({"type": "explain", "turn": "x"}))["code"] == "bad_request"


async def test_pictures_that_are_refused(room: Room) -> None:
    client, _ = await room.client()

    async def upload(data: bytes, size: int | None = None) -> dict[str, Any]:
        announced = {"type": "image", "id": str(uuid.uuid4()), "mime": "image/png", "bytes": size or len(data)}
        client.say(announced)
        answer = await client.ask(data)
        assert answer["id"] == announced["id"]
        return answer

    assert (await upload(b"no picture"))["code"] == "bad_image"
    assert (await upload(b"%PDF-1.7 x"))["code"] == "unsupported_image"
    assert (await upload(png(), 5))["code"] == "bad_request"
    # Refused by its announcement; the binary frame that follows is passed over.
    assert (await upload(png(), 30 * 2**20))["code"] == "image_too_large"
    for wrong in ({"bytes": 0}, {"bytes": "5"}, {"bytes": 2**40}, {"bytes": 5, "id": "x"}, {"bytes": 5, "mime": 7}, {}):
        assert (await client.ask({"type": "image", "id": str(uuid.uuid4()), **wrong}))["code"] == "bad_request"
        client.say(png())
    assert (await client.ask(png()))["code"] == "bad_request", "nothing has announced it"
    client.say({"type": "image", "id": str(uuid.uuid4()), "mime": "image/png", "bytes": 5})
    assert (await client.ask({"type": "history"}))["code"] == "bad_request"
    assert (await client.hear())["type"] == "history"
    assert (await upload(png()))["type"] == "image.stored"


async def test_turns_sent_at_once_are_answered_in_order(room: Room) -> None:
    client, _ = await room.client()
    room.model.gate = asyncio.Semaphore(0)
    asked = [turn(str(i)) for i in range(3)]
    for one in asked:
        client.say(one)
    accepted = [await client.hear() for _ in range(5)]
    assert [f["position"] for f in accepted if f["type"] == "turn.queued"] == [1, 2]
    for _ in range(9):
        room.model.gate.release()
    finals = [(await client.hear_turn())[-1]["turn"] for _ in asked]
    assert finals == [one["id"] for one in asked]


async def test_cancel_and_cancel_again(room: Room) -> None:
    client, _ = await room.client()
    room.model.gate = asyncio.Semaphore(1)
    asked = turn()
    client.say(asked)
    assert [(await client.hear())["type"] for _ in range(2)] == ["turn.accepted", "turn.delta"]
    for _ in range(2):
        client.say({"type": "cancel", "turn": asked["id"]})
    final = await client.hear()
    assert (final["type"], final["text"], final["seq"]) == ("turn.cancelled", "A ", 3)
    client.say({"type": "cancel", "turn": asked["id"]})
    assert (await client.ask({"type": "history"}))["turns"][1]["status"] == "cancelled"


async def test_a_repeated_turn_is_one_stream_for_its_sender_and_a_replay_for_others(room: Room) -> None:
    client, ready = await room.client()
    room.model.gate = asyncio.Semaphore(0)
    asked = turn()
    for _ in range(5):
        client.say(asked)
    assert (await client.hear())["type"] == "turn.accepted"
    # A reload of the page in mid-answer: the running turn is shown and followed without asking.
    other, ready = await room.client({**HELLO, "session": ready["session"]})
    assert [(t["text"], t["status"]) for t in ready["turns"]] == [("What?", "waiting")]
    for _ in range(3):
        room.model.gate.release()
    seen = await client.hear_turn()
    replayed = await other.hear_turn()
    assert replayed[0]["type"] == "turn.accepted" and replayed[1:] == seen
    assert await client.ask(asked) == replayed[0]
    assert await client.hear_turn() == seen
    assert len(room.model.asked) == 1


async def test_resume_gets_exactly_what_was_missed(room: Room) -> None:
    client, ready = await room.client()
    asked = turn()
    client.say(asked)
    frames = await client.hear_turn()
    await client.leave()
    for seq in range(len(frames) + 1):
        resume = {"turn": asked["id"], "attempt": 1, "seq": seq}
        client, _ = await room.client({**HELLO, "session": ready["session"], "resume": resume})
        if seq < len(frames):
            assert await client.hear_turn() == frames[seq:]
        assert (await client.ask({"type": "history"}))["type"] == "history"  # nothing more came before


async def test_resume_in_mid_answer(room: Room) -> None:
    client, ready = await room.client()
    room.model.gate = asyncio.Semaphore(1)
    asked = turn()
    client.say(asked)
    first = [await client.hear() for _ in range(2)]
    await client.leave()
    assert room.manager.running_turns == 1
    resume = {"turn": asked["id"], "attempt": 1, "seq": 2}
    client, _ = await room.client({**HELLO, "session": ready["session"], "resume": resume})
    for _ in range(3):
        room.model.gate.release()
    rest = await client.hear_turn()
    assert [frame["seq"] for frame in [*first, *rest]] == [1, 2, 3, 4, 5]
    assert len(room.model.asked) == 1


async def test_resume_after_the_replay_has_expired_says_so_and_runs_nothing(room: Room, redis: Redis) -> None:
    client, ready = await room.client()
    asked = turn()
    client.say(asked)
    frames = await client.hear_turn()
    await redis.delete(f"visavis:{{{ready['session']}}}:live")
    resume = {"turn": asked["id"], "attempt": 1, "seq": 2}
    client, _ = await room.client({**HELLO, "session": ready["session"], "resume": resume})
    assert (await client.hear()).items() >= {"code": "replay_expired", "id": asked["id"]}.items()
    assert await client.hear() == frames[-1]
    unknown = {"turn": str(uuid.uuid4()), "attempt": 1, "seq": 2}
    client, _ = await room.client({**HELLO, "session": ready["session"], "resume": unknown})
    assert (await client.hear()).items() >= {"code": "unknown_turn", "id": unknown["turn"]}.items()
    assert len(room.model.asked) == 1


async def test_new_and_forget(room: Room) -> None:
    client, first = await room.client()
    client.say(turn())
    await client.hear_turn()
    forgotten = await client.ask({"type": "forget"})
    assert forgotten["type"] == "forgotten" and forgotten["receipt"]["turns"] == 2
    for name in ("turn", "regenerate", "edit", "select", "feedback"):
        request = {"id": str(uuid.uuid4())} if name in ("turn", "regenerate", "edit") else {}
        frame = {"type": name, "turn": str(uuid.uuid4()), "text": "x", "score": 1, **request}
        refused = await client.ask(frame)
        assert (refused["code"], refused.get("id")) == ("unknown_session", request.get("id"))
    second = await client.ask({"type": "new"})
    assert second["type"] == "ready" and second["session"] != first["session"]


async def test_who_says_nothing_or_reads_nothing_is_cut_off(redis: Redis) -> None:
    room = make_room(redis, Limits(hello_timeout_s=0.05, send_timeout_s=0.05))
    silent = Client(room.manager)
    await silent.serving
    assert silent.closed == (1008, "no hello came")
    babbling = Client(room.manager)
    while not babbling.serving.done():  # what is refused gives it no more time
        babbling.say({"type": "history"})
        await asyncio.sleep(0.01)
    assert babbling.closed == (1008, "no hello came")
    client, ready = await room.client()
    client.reads = False
    asked = turn()
    client.say(asked)
    async with asyncio.timeout(5):
        await client.serving
    assert client.closed is not None and client.closed[0] == 1013
    resume = {"turn": asked["id"], "attempt": 1, "seq": 0}
    client, _ = await room.client({**HELLO, "session": ready["session"], "resume": resume})
    assert (await client.hear_turn())[-1]["text"] == "A red ball."
    await client.leave()


async def test_a_store_that_is_down(tmp_path: Any) -> None:
    store = connect(f"unix://{tmp_path}/nobody.sock")
    room = make_room(store)
    client, answer = await room.client()
    assert answer["code"] == "store_unavailable"
    await client.leave()
    await store.aclose()


async def test_a_bug_is_logged_and_told_without_its_traceback(
    room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: Any) -> None:
        raise RuntimeError("secret path")

    client, _ = await room.client()
    monkeypatch.setattr(room.manager, "history", broken)
    with caplog.at_level(logging.ERROR):
        answer = await client.ask({"type": "history"})
    assert answer["code"] == "internal_error" and "secret" not in str(answer)
    assert "secret path" in caplog.text


async def test_a_store_that_is_away_for_a_moment_is_told_once_and_the_turn_goes_on(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, ready = await room.client()
    room.model.gate = asyncio.Semaphore(0)
    asked, glance = turn(), TurnStore.glance
    client.say(asked)
    await client.hear()
    elsewhere = make_room(room.manager._store._redis)
    other, _ = await elsewhere.client({**HELLO, "session": ready["session"]})
    assert (await other.hear())["type"] == "turn.accepted"

    async def away(*args: Any) -> None:
        raise StoreUnavailable("The store does not answer.")

    monkeypatch.setattr("visavis.dialogue.watching._STORE_PAUSE_S", 0.05)
    monkeypatch.setattr(TurnStore, "glance", away)
    assert (await other.hear()).items() >= {"code": "store_unavailable", "id": asked["id"]}.items()
    await asyncio.sleep(0.2)
    assert other.hears_nothing()
    monkeypatch.setattr(TurnStore, "glance", glance)
    for _ in range(3):
        room.model.gate.release()
    frames = await other.hear_turn()
    assert [frame["seq"] for frame in frames] == [2, 3, 4, 5]
    await other.leave()


TOKEN = "0d0d4f0e-6bd9-4d8c-9f55-3b0f2f3c1a77"


async def test_regenerate_edit_and_select(room: Room) -> None:
    client, ready = await room.client()
    asked, again = turn("What?"), str(uuid.uuid4())
    client.say(asked)
    await client.hear_turn()
    client.say({"type": "regenerate", "turn": asked["id"], "id": again})
    frames = await client.hear_turn()
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5] and frames[0]["turn"] == again
    client.say({"type": "edit", "turn": again, "id": str(uuid.uuid4()), "text": "Why?"})
    await client.hear_turn()
    _, ready = await room.client({**HELLO, "session": ready["session"]})
    question, answer = ready["turns"]
    assert question["text"] == "Why?" and [one["text"] for one in question["alternatives"]] == ["What?", "What?"]
    assert [one["id"] for one in answer["alternatives"]] == [asked["id"], again]
    selected = await client.ask({"type": "select", "turn": asked["id"]})
    assert selected["type"] == "history" and selected["turns"][0]["id"] == asked["id"]
    for name in ("regenerate", "edit", "select"):
        frame = {"type": name, "turn": str(uuid.uuid4()), "id": str(uuid.uuid4()), "text": "x"}
        refused = await client.ask(frame)
        assert refused["code"] == "unknown_turn" and refused["id"] == frame["turn" if name == "select" else "id"]


async def test_feedback_title_and_the_list_of_ones_own(room: Room) -> None:
    client, ready = await room.client({**HELLO, "token": TOKEN})
    asked = turn("Two cats?")
    client.say(asked)
    await client.hear_turn()
    thought = {"type": "feedback", "turn": asked["id"], "score": 1, "consent": True}
    assert await client.ask(thought) == thought
    named = await client.ask({"type": "title", "text": " My  pets "})
    assert named == {"type": "title", "session": ready["session"], "text": "My pets"}
    first = ready["session"]
    await client.ask({"type": "new"})
    client.say(turn("A dog?"))
    await client.hear_turn()
    listed = await client.ask({"type": "sessions"})
    assert [one["title"] for one in listed["sessions"]] == ["A dog?", "My pets"]
    found = await client.ask({"type": "sessions", "query": "cats"})
    assert [one["id"] for one in found["sessions"]] == [first]
    _, ready = await room.client({**HELLO, "session": first, "token": TOKEN})
    assert ready["title"] == "My pets" and ready["turns"][1]["feedback"] == {"score": 1, "consent": True}


async def test_foreign_conversations_are_unknown_and_nobody_has_a_list(room: Room) -> None:
    _, ready = await room.client({**HELLO, "token": TOKEN})
    other, refused = await room.client({**HELLO, "session": ready["session"], "token": TOKEN[::-1]})
    assert refused["code"] == "unknown_session"
    assert (await other.ask({**HELLO, "session": ready["session"]}))["type"] == "ready"  # who has the id may read it
    assert (await other.ask({"type": "sessions"}))["code"] == "unauthorized"


async def test_a_resume_that_fails_leaves_no_doubt_whose_connection_it_is(room: Room) -> None:
    client, mine = await room.client({**HELLO, "token": TOKEN})
    client.say(turn("Mine?"))
    await client.hear_turn()
    other, theirs = await room.client({**HELLO, "token": TOKEN[::-1]})
    other.say(turn("Theirs?"))
    await other.hear_turn()
    lost = {"turn": str(uuid.uuid4()), "attempt": 1, "seq": 1}
    back, _ = await room.client({**HELLO, "session": mine["session"], "token": TOKEN, "resume": lost})
    assert (await back.hear())["code"] == "unknown_turn"
    assert [one["title"] for one in (await back.ask({"type": "sessions"}))["sessions"]] == ["Mine?"]
    await back.ask({**HELLO, "session": theirs["session"], "token": TOKEN[::-1], "resume": lost})
    assert (await back.hear())["code"] == "unknown_turn"
    assert [one["title"] for one in (await back.ask({"type": "sessions"}))["sessions"]] == ["Theirs?"]


async def test_two_channels_are_joined_by_a_code_and_forgotten_at_once(room: Room, redis: Redis) -> None:
    web, ready = await room.client({**HELLO, "token": TOKEN})
    web.say(turn("Two cats?"))
    await web.hear_turn()
    offered = await web.ask({"type": "link"})
    assert offered["type"] == "link" and offered["expires_s"] == 600
    other, _ = await room.client({**HELLO, "token": TOKEN[::-1]})
    assert (await other.ask({"type": "link", "code": "WRONG"}))["code"] == "bad_request"
    assert await other.ask({"type": "link", "code": offered["code"].lower()}) == {"type": "linked", "channels": ["web"]}
    assert (await other.ask({"type": "link", "code": offered["code"]}))["code"] == "bad_request", "it works once"
    assert (await other.ask({**HELLO, "session": ready["session"], "token": TOKEN[::-1]}))["type"] == "ready"
    other.say(turn("And a dog?"))
    await other.hear_turn()
    assert len((await other.ask({"type": "sessions"}))["sessions"]) == 1
    assert (await web.ask({"type": "link"}))["type"] == "link", "a code that nobody brings is forgotten, too"
    forgotten = await other.ask({"type": "forget", "everything": True})
    assert {name: forgotten["receipt"][name] for name in ("session", "sessions", "turns", "images")} == {
        "session": None,
        "sessions": 2,
        "turns": 4,
        "images": 0,
    }
    assert await redis.keys() == []
    nobody, _ = await room.client()
    assert (await nobody.ask({"type": "forget", "everything": True}))["code"] == "unauthorized"


async def test_too_much_at_a_time_is_refused_with_when_to_try_again(redis: Redis) -> None:
    limits = Limits(turns_per_minute=2, images_per_minute=1, persons_per_address=1, sockets_per_session=2)
    room = make_room(redis, limits)
    async with room.manager:
        client, ready = await room.client({**HELLO, "token": TOKEN}, "192.0.2.1")
        for _ in range(2):
            client.say(turn())
            await client.hear_turn()
        asked = turn()
        refused = await client.ask(asked)
        assert (refused["code"], refused["id"]) == ("rate_limited", asked["id"]) and 0 < refused["retry_after_s"] <= 31
        for other in ({**HELLO, "token": TOKEN}, HELLO):  # the same person, the same address
            again, _ = await room.client(other, "192.0.2.1")
            assert (await again.ask(turn()))["code"] == "rate_limited"
        free, _ = await room.client(HELLO, "192.0.2.2")
        free.say(turn())
        await free.hear_turn()
        image = {"type": "image", "id": str(uuid.uuid4()), "bytes": len(png())}
        free.say(image)
        assert (await free.ask(png()))["type"] == "image.stored"
        assert (await free.ask(image))["code"] == "rate_limited"
        free.say(png())  # what was refused is passed over
        first, refused = [await room.client({**HELLO, "session": ready["session"]}) for _ in range(2)]
        assert [first[1]["type"], refused[1].get("code")] == ["ready", "rate_limited"]
        await client.leave()
        assert (await refused[0].ask({**HELLO, "session": ready["session"]}))["type"] == "ready"
        for one in room.clients:
            await one.leave()
