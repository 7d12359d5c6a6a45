"""One answer on its way to a platform: the newest text as often as the channel's budget allows, the last one surely."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from visavis.bot.adapters.pace import Pace
from visavis.bot.adapters.platform import Ending, Limited, Outcome, PlatformError, Refused, Reply
from visavis.bot.adapters.text import harmless, split_text
from visavis.dialogue.errors import StoreUnavailable

log = logging.getLogger(__name__)

_PAUSES_S = (0.5, 1, 2, 5, 10, 20, 30, 60, 60, 60, 60, 60, 60, 60, 60)
"""Between tries of a final text while the platform is out of reach; being told to wait does not count as one."""
_GONE = "…"
_MORE = Outcome(Ending.MORE)
STATUS_S = 8.0  # a status is told again while there is no text: on some platforms it fades
LEAVING_S = 2.0  # for a draft under way while the process goes down


class LostLease(Exception):
    """Another process has the message: this one shows nothing more."""


class Screen:
    """`limit` is what a message takes. `keep` keeps the reply's state, and the message for this process; it is called
    before whatever is shown, and whenever the state has changed, and raises `LostLease`."""

    def __init__(self, reply: Reply, pace: Pace, limit: int, keep: Callable[[], Awaitable[None]]) -> None:
        self._reply = reply
        self._pace = pace
        self._limit = limit
        self._keep = keep
        self._known = dict(reply.state)
        known = sum(key.isdecimal() for key in reply.state)  # parts of which another process knows what stands there
        self._shown: list[tuple[str, Outcome | None]] = [("", None)] * known
        self._text, self._status = "", ""
        self._changed, self._closing = asyncio.Event(), asyncio.Event()

    def tell(self, text: str, status: str = "") -> None:
        """The text so far, or in what state it is while there is none."""
        if (text, status) != (self._text, self._status):
            self._text, self._status = text, status
            self._changed.set()

    @contextlib.asynccontextmanager
    async def drafting(self) -> AsyncIterator[None]:
        """Show what is told, while the context lasts."""
        drafts = asyncio.create_task(self._draft())
        try:
            yield
            self._closing.set()
            await drafts  # a post that is under way may become one; nobody knows it yet
        except BaseException:
            self._closing.set()
            await asyncio.wait([drafts], timeout=LEAVING_S)
            raise
        finally:
            drafts.cancel()

    async def finish(self, text: str, outcome: Outcome) -> None:
        """Show the whole text and how it ended; waits as long as the platform says, and tries again if it is away.

        Raises:
            PlatformError: it is away for too long. Refused: it does not want the text. LostLease.
        """
        pauses = iter(_PAUSES_S)
        while True:
            try:
                return await self._put_all(text, outcome)
            except Limited as error:
                self._pace.cool(error.retry_after_s)
            except Refused:
                raise
            except PlatformError:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _draft(self) -> None:
        """The newest text at a time; what cannot be shown now is left to the next one."""
        while not self._closing.is_set():
            await self._first(self._changed, self._closing, timeout_s=None if self._text else STATUS_S)
            if self._closing.is_set():
                return
            wait_s = self._pace.take(final=False)
            if wait_s:
                await self._first(self._closing, timeout_s=wait_s)
                continue
            self._changed.clear()
            await self._show()

    async def _show(self) -> None:
        try:
            if self._text.strip():
                await self._put_all(self._text, None)
            elif self._status:
                await self._hold()
                await self._reply.status(self._status)
            await self._keep_state()
        except LostLease:
            self._closing.set()
        except Limited as error:
            self._pace.cool(error.retry_after_s)
            self._changed.set()
        except Refused as error:  # nor will it show the next one, and platforms count what they refuse
            log.warning("no drafts are shown: %s", error)
            self._closing.set()
        except PlatformError as error:
            log.warning("a draft could not be shown: %s", error)
        except Exception:  # the final text may well be shown
            log.exception("a draft could not be shown")

    async def _put_all(self, text: str, outcome: Outcome | None) -> None:
        """Bring every part up to date, in order. At the end, those that an earlier attempt had and this one has not are
        emptied."""
        parts = split_text(harmless(text), self._limit) or [_GONE]
        wanted = [*((part, _MORE) for part in parts[:-1]), (parts[-1], outcome)]
        if outcome is not None:
            wanted += [(_GONE, _MORE)] * (len(self._shown) - len(parts))
        for number, part in enumerate(wanted):
            if self._shown[number : number + 1] != [part]:
                await self._put(number, *part, paced=outcome is not None)

    async def _put(self, number: int, text: str, outcome: Outcome | None, *, paced: bool) -> None:
        if paced:
            await self._pace.wait()
        await self._hold()
        await self._reply.put(number, text, outcome)
        self._shown[number : number + 1] = [(text, outcome)]
        await self._keep_state()

    async def _hold(self) -> None:
        """Make sure that the message is still this process's: one that was frozen for a while may have lost it."""
        try:
            await self._keep()
        except StoreUnavailable:
            raise PlatformError("nobody knows whose message it is while the store is away") from None

    async def _keep_state(self) -> None:
        """A store that is away now may take it after the next change."""
        if self._reply.state == self._known:
            return
        try:
            await self._keep()
            self._known = dict(self._reply.state)
        except StoreUnavailable as error:
            log.warning("what is shown could not be kept: %s", error)

    @staticmethod
    async def _first(*events: asyncio.Event, timeout_s: float | None = None) -> None:
        """Until one of the events is set, or the time is over."""
        waits = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
