"""Conversations in a terminal, in this process. Answers are written as they come.

Holds what is typed and shown, for `server_chat` as well; what is asked of the model is `local_chat`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

from visavis.bot.local_chat import LocalConversation, MemoryImages, instructed, open_engine
from visavis.bot.settings import Settings
from visavis.dialogue.errors import BadRequest, DialogueError
from visavis.models.errors import ModelError

HELP = "Type a question; /image PATH shows a picture, /quit ends."
IMAGE, QUIT = "/image", "/quit"
AddImage = Callable[[Path], Awaitable[str]]
Answer = Callable[[str, list[str]], AsyncGenerator[str, None]]


async def ask(settings: Settings, photos: Sequence[Path], questions: Sequence[str]) -> None:
    """Answer the questions about the photos, in order, each with the earlier ones in mind.

    Raises:
        OSError, DialogueError: a photo cannot be used, or the model takes one at a time.
        ModelNotFound, ModelError: the model cannot be used.
    """
    images = MemoryImages(settings.limits.image)
    shown = [images.add(photo) for photo in photos]
    with open_engine(settings) as engine:
        if len(shown) > 1 and not engine.several_pictures:
            raise BadRequest("This model looks at one photo at a time.")
        conversation = LocalConversation(engine, images, dialogue=instructed(settings))
        for question in questions:
            if len(questions) > 1:
                write(f"> {question}\n")
            await _write_answer(conversation.ask(question, shown))
            shown = []


async def chat_in_process(settings: Settings) -> None:
    """Chat with the model in this process until `/quit` or the end of the input."""
    images = MemoryImages(settings.limits.image)
    with open_engine(settings) as engine:
        conversation = LocalConversation(engine, images, dialogue=instructed(settings))

        async def add(path: Path) -> str:
            return await asyncio.to_thread(images.add, path)

        await converse(add, conversation.ask)


async def converse(add: AddImage, answer: Answer) -> None:
    """Read lines and write answers until `/quit` or the end of the input."""
    write(HELP + "\n")
    shown: list[str] = []
    while (line := await _read_line("> ")) is not None:
        command, _, rest = line.strip().partition(" ")
        if command == QUIT:
            return
        try:
            if command == IMAGE and rest.strip():
                shown.append(await add(_path(rest)))
                write("The picture is there; ask about it.\n")
            elif command.startswith("/"):
                write(HELP + "\n")
            elif command:
                await _write_answer(answer(line.strip(), shown))
                shown = []
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            write(f"{error.filename}: {error.strerror}.\n")
        except (DialogueError, ModelError) as error:
            write(f"{error}\n")


def _path(typed: str) -> Path:
    return Path(typed.strip().strip("\"'")).expanduser()


async def _write_answer(pieces: AsyncGenerator[str, None]) -> None:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            write(piece)
    write("\n")


def write(text: str) -> None:
    """Written at once, without control characters: an answer must not drive the terminal."""
    sys.stdout.write("".join(char for char in text if char.isprintable() or char in "\n\t"))
    sys.stdout.flush()


async def _read_line(prompt: str) -> str | None:
    """The next line, None at the end of the input. Read in a daemon thread, which never keeps the process from ending
    (the event loop's own threads would be waited for) while the loop goes on answering the server's pings."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def deliver(line: str | None) -> None:
        if not answer.done():
            answer.set_result(line)

    def read() -> None:
        try:
            line: str | None = input(prompt)
        except (EOFError, ValueError):
            line = None
        with contextlib.suppress(RuntimeError):  # the loop is gone after Ctrl-C
            loop.call_soon_threadsafe(deliver, line)

    threading.Thread(target=read, name="terminal", daemon=True).start()
    return await answer
