"""All pictures of a conversation and its instructions, on every way to a model that takes them: the API, the wire and
the command line, in process and through a model server."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from api_server import chat_model, data_url, picture
from langchain_core.messages import AIMessage, HumanMessage
from openai import AsyncOpenAI
from running_gateway import RunGateway, listening, serving
from scripted_engine import ScriptedEngine
from typer.testing import CliRunner

from visavis.bot import terminal_chat
from visavis.bot.app import create_app
from visavis.bot.cli import app
from visavis.bot.client import ChatClient
from visavis.bot.settings import Settings
from visavis.dialogue.errors import UnknownImage
from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import ImageLimits
from visavis.models.chat_model import VisavisChatModel
from visavis.models.engine_api import create_app as create_model_app
from visavis.models.generation import Message, Shown

COLORS = ("red", "blue", "green")
RED, BLUE, GREEN = (Shown(normalise_image(picture(color), ImageLimits()).ref.sha256) for color in COLORS)


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine(several_pictures=True)


@pytest.fixture
async def served(engine: ScriptedEngine) -> AsyncIterator[VisavisChatModel]:
    """The engine behind a model server's HTTP."""
    config = uvicorn.Config(create_model_app(engine), lifespan="off", log_level="warning")  # type: ignore[arg-type]
    async with listening(uvicorn.Server(config)) as url:
        yield VisavisChatModel(base_url=f"{url}/v1")


def part(color: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(picture(color)), "detail": "low"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_reaches_the_model_as_it_was_written(
    run_gateway: RunGateway, engine: ScriptedEngine, served: VisavisChatModel, stream: bool
) -> None:
    messages: Any = [
        {"role": "developer", "content": "Be brief.\n- One word."},
        {"role": "user", "content": [part("red"), text("What is it?")]},
        {"role": "assistant", "content": "A square."},
        {"role": "user", "content": [text("A:"), part("blue"), text("B:"), part("green"), text("Which is greener?")]},
    ]
    async with run_gateway(served) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        done: Any = await client.chat.completions.create(
            model="visavis",
            messages=messages,
            stream=stream,
            stream_options={"include_usage": True} if stream else None,
        )
        chunks = [chunk async for chunk in done] if stream else [done]
    assert engine.asked[-1].dialogue == (
        Message("system", ("Be brief.\n- One word.",)),
        Message("user", (RED, "What is it?")),
        Message("assistant", ("A square.",)),
        Message("user", ("A:", BLUE, "B:", GREEN, "Which is greener?")),
    )
    told = next(chunk.visavis for chunk in chunks if getattr(chunk, "visavis", None))
    assert told["images"] == [RED.sha256, BLUE.sha256, GREEN.sha256]
    assert told["image"] == GREEN.sha256
    assert chunks[-1].usage.prompt_tokens_details.image_tokens == 3 * 9
    assert engine.images == {RED.sha256, BLUE.sha256, GREEN.sha256}


async def test_a_conversation_keeps_its_pictures_and_begins_with_instructions(
    settings: Settings, engine: ScriptedEngine
) -> None:
    vera = settings.model_copy(update={"instructions": "You are Vera.\nBe kind."})
    gateway = create_app(vera, chat_model=chat_model(engine))
    async with serving(gateway, vera) as url, ChatClient(url) as client:
        engine.images.update(one.sha256 for one in (RED, BLUE, GREEN))
        red, blue, green = [await client.add_image(picture(color)) for color in COLORS]
        ends = []
        for words, images in (("What are these?", [red, blue]), ("And this?", [green]), ("Is it the first one?", [])):
            ends += [event async for event in client.ask(words, images) if isinstance(event, TurnCompleted)]
    first, _, third = engine.asked
    assert first.dialogue == (
        Message("system", ("You are Vera.\nBe kind.",)),
        Message("user", (RED, BLUE, "What are these?")),
    )
    assert {image for message in third.dialogue for image in message.images} == {RED.sha256, BLUE.sha256, GREEN.sha256}
    assert [end.usage.images for end in ends] == [2, 3, 3]
    assert [end.usage.image_tokens for end in ends] == [18, 27, 27]


class Sources:
    """One picture is left of two."""

    async def read(self, sha256: str) -> bytes:
        if sha256 != BLUE.sha256:
            raise UnknownImage("This picture is gone.")
        return normalise_image(picture("blue"), ImageLimits()).data


async def test_an_older_picture_that_is_gone_fails_no_question(engine: ScriptedEngine) -> None:
    model = chat_model(engine, Sources())

    def shown(color: Shown) -> HumanMessage:
        return HumanMessage([{"type": "image", "file_id": color.sha256}, text("What is it?")])

    await model.ainvoke([shown(RED), AIMessage("A square."), shown(BLUE)])
    first, _, last = engine.asked[-1].dialogue
    assert (first.parts, last.parts) == (("What is it?",), (BLUE, "What is it?"))
    with pytest.raises(UnknownImage):
        await model.ainvoke([shown(BLUE), AIMessage("A square."), shown(RED)])


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, engine: ScriptedEngine) -> CliRunner:
    monkeypatch.setattr(terminal_chat, "open_engine", lambda settings: contextlib.nullcontext(engine))
    return CliRunner(env={"VISAVIS_INSTRUCTIONS": "You are Vera."})


def photo_files(folder: Path) -> list[str]:
    for color in COLORS[:2]:
        (folder / f"{color}.png").write_bytes(picture(color))
    return [str(folder / f"{color}.png") for color in COLORS[:2]]


def test_ask_shows_several_photos(command: CliRunner, engine: ScriptedEngine, tmp_path: Path) -> None:
    red, blue = photo_files(tmp_path)
    done = command.invoke(app, ["ask", red, "Which is red?", "Why?", "--also", blue])
    assert done.exit_code == 0, done.stderr
    asked = (Message("system", ("You are Vera.",)), Message("user", (RED, BLUE, "Which is red?")))
    assert engine.asked[0].dialogue == asked
    assert engine.asked[1].dialogue == (
        *asked,
        Message("assistant", (f"{engine.answer} ",)),
        Message("user", ("Why?",)),
    )


def test_ask_tells_of_a_model_of_one_photo(command: CliRunner, engine: ScriptedEngine, tmp_path: Path) -> None:
    engine.several_pictures = False
    red, blue = photo_files(tmp_path)
    done = command.invoke(app, ["ask", red, "Which is red?", "--also", blue])
    assert (done.exit_code, engine.asked) == (1, [])
    assert "one photo at a time" in done.stderr
