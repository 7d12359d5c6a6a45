"""A conversation in a terminal with a server: the wire's events become what is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from visavis.bot.client import ChatClient
from visavis.bot.terminal_chat import converse, write
from visavis.dialogue.events import TextDelta, TurnCompleted, TurnFailed, TurnRestarted


async def chat_with_server(url: str) -> None:
    """Chat over the wire until `/quit` or the end of the input; a lost connection is made again.

    Raises:
        ServerUnreachable, ServerRefused.
    """
    async with ChatClient(url) as client:
        write(f"Connected to {client.model}.\n")

        async def add(path: Path) -> str:
            return await client.add_image(await asyncio.to_thread(path.read_bytes))

        await converse(add, lambda text, images: _pieces(client, text, images))


async def _pieces(client: ChatClient, text: str, images: list[str]) -> AsyncGenerator[str, None]:
    """What to write of a turn's events."""
    written = ""
    async with contextlib.aclosing(client.ask(text, images)) as events:
        async for event in events:
            match event:
                case TextDelta():
                    written += event.text
                    yield event.text
                case TurnRestarted():
                    written = ""
                    yield "\n(once more) "
                case TurnCompleted():
                    yield event.text.removeprefix(written)  # deltas whose replay had expired
                case TurnFailed():
                    yield event.message
