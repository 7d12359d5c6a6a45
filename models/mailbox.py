"""What an engine has told one reader and the reader has not taken yet. Words that come fast are handed over together.

A server-sent event, a websocket message and a frame on a screen cost the same for one word as for five, and nobody
reads twenty pieces a second. The first words of an answer never wait, nor does its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from visavis.models.errors import ModelError
from visavis.models.generation import Embedding, GenerationChunk, WordHeat

Event = GenerationChunk | ModelError | tuple[WordHeat, ...] | Embedding


class Mailbox:
    """Belongs to one event loop; `put` is called there. Words are kept until `pause_s` after the last ones were handed
    over, by a timer, or until something else comes. Bounded by the length of an answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pause_s: float) -> None:
        self._loop, self._pause_s = loop, pause_s
        self._ready: asyncio.Queue[Event] = asyncio.Queue()
        self._kept: list[str] = []
        self._next_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def get(self) -> Event:
        """The next event, as soon as there is one."""
        return await self._ready.get()

    def put(self, event: Event) -> None:
        """Hand it over now, or keep its words for a moment."""
        if not isinstance(event, GenerationChunk) or not (event.text or event.completion):
            self._hand_over()
            self._ready.put_nowait(event)
        elif event.completion is not None:
            self._ready.put_nowait(replace(event, text="".join(self._kept) + event.text))
            self.close()
        else:
            self._keep(event.text)

    def close(self) -> None:
        """No more words are expected, or nobody is left to read them."""
        self._forget_timer()
        self._kept.clear()

    def _keep(self, words: str) -> None:
        self._kept.append(words)
        wait_s = self._next_at - self._loop.time()
        if wait_s <= 0:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(wait_s, self._hand_over)

    def _hand_over(self) -> None:
        self._forget_timer()
        if self._kept:
            self._ready.put_nowait(GenerationChunk("".join(self._kept)))
            self._kept.clear()
            self._next_at = self._loop.time() + self._pause_s

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
