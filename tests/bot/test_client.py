"""The client of the wire against a real gateway: whole answers over lost connections, refusals, two tabs."""

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest
from running_gateway import RunGateway
from scripted_chat_model import ScriptedChatModel

from visavis.bot.client import ChatClient, ServerRefused, ServerUnreachable
from visavis.dialogue.events import Event, TextDelta, TurnCancelled, TurnCompleted

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "client" / "ask.py"
LONG_ANSWER = " ".join(f"word{number}" for number in range(40))


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_picture_and_a_question_bring_a_streamed_answer(run_gateway: RunGateway, photo: bytes) -> None:
    model = ScriptedChatModel()
    async with run_gateway(model) as url, ChatClient(url) as client:
        image = await client.add_image(photo)
        events = [event async for event in client.ask("What is this?", [image])]
    last = events[-1]
    assert isinstance(last, TurnCompleted)
    assert last.text.strip() == "a red square on white"
    assert text_of(events) == last.text
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert image in str(model.asked[0])


async def test_an_answer_is_whole_over_a_lost_connection(run_gateway: RunGateway) -> None:
    model = ScriptedChatModel(answer=LONG_ANSWER, pause_s=0.02)
    async with run_gateway(model) as url, ChatClient(url) as client:
        events: list[Event] = []
        async with contextlib.aclosing(client.ask("Tell me.")) as stream:
            async for event in stream:
                events.append(event)
                if len(events) in (1, 5, 9):
                    client._open_socket.transport.abort()
    assert isinstance(events[-1], TurnCompleted)
    assert text_of(events) == events[-1].text
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(model.asked) == 1


async def test_a_restarted_gateway_knows_the_conversation(run_gateway: RunGateway) -> None:
    async with run_gateway() as url, ChatClient(url) as client:
        async for _ in client.ask("One."):
            pass
        session = client.session
    async with run_gateway() as url, ChatClient(url, session=session) as client:
        assert [turn["role"] for turn in client.turns] == ["user", "assistant"]
        await client.forget()
        with pytest.raises(ServerRefused) as refused:
            async with ChatClient(url, session=session):
                pass
    assert refused.value.code == "unknown_session"


async def test_a_picture_arrives_over_a_lost_connection_and_a_huge_one_is_refused(
    run_gateway: RunGateway, photo: bytes
) -> None:
    async with run_gateway() as url, ChatClient(url) as client:
        client._open_socket.transport.abort()
        image = await client.add_image(photo)
        with pytest.raises(ServerRefused) as refused:
            await client.add_image(bytes(50 * 2**20))
        assert refused.value.code == "image_too_large"
        assert [event async for event in client.ask("What is it?", [image])]


async def test_cancel_ends_the_turn(run_gateway: RunGateway) -> None:
    async with run_gateway(ScriptedChatModel(answer=LONG_ANSWER, pause_s=0.05)) as url, ChatClient(url) as client:
        turn = "7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33"
        events: list[Event] = []
        async for event in client.ask("Tell me.", turn=turn):
            events.append(event)
            if isinstance(event, TextDelta) and len(events) < 6:
                await client.cancel(turn)
    assert isinstance(events[-1], TurnCancelled)
    assert LONG_ANSWER.startswith(text_of(events).strip())


async def test_refusals_are_errors_with_a_code(run_gateway: RunGateway) -> None:
    async with run_gateway() as url, ChatClient(url) as client:
        with pytest.raises(ServerRefused, match="picture") as refused:
            await client.add_image(b"no picture")
        assert refused.value.code == "bad_image"
        with pytest.raises(ServerRefused) as refused:
            await anext(client.ask("What?", ["0" * 64]))
        assert refused.value.code == "unknown_image"
        assert [event async for event in client.ask("Still there?")]


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:x"])
async def test_an_address_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(ServerUnreachable):
        async with ChatClient(url):
            pass


async def test_a_stranger_at_the_address_is_one_sentence() -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def chatter(socket: ServerConnection) -> None:
        await socket.send("welcome" if socket.request and "b" in socket.request.path else "{}")

    async with serve(chatter, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for path in ("a", "b"):
            with pytest.raises(ServerUnreachable, match="No visavis server"):
                async with ChatClient(f"127.0.0.1:{port}/{path}"):
                    pass


async def test_an_address_without_a_server_is_one_sentence() -> None:
    with pytest.raises(ServerUnreachable, match=r"^No visavis server answers at ws://127.0.0.1:1/chat"):
        async with ChatClient("127.0.0.1:1"):
            pass


async def test_a_foreign_origin_gets_403_from_the_real_server(run_gateway: RunGateway) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async with run_gateway() as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url.replace("http", "ws") + "/chat", origin="https://evil.example", proxy=None)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
    assert b"not allowed" in refused.value.response.body


async def test_the_example_in_the_docs_runs(run_gateway: RunGateway, photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo)
    async with run_gateway(ScriptedChatModel()) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, EXAMPLE, url, tmp_path / "photo.png", "What is this?", "Is it red?"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, wrong = await process.communicate()
    assert (process.returncode, wrong) == (0, b"")
    words = told.decode().split("\n")
    assert [line for line in words if line.startswith(">")] == ["> What is this?", "> Is it red?"]
    assert told.decode().count("a red square on white") == 2
