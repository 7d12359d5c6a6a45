"""uvicorn's protocols with two bounds that it lacks: how long a request may take to come, how many pieces a frame has.

Without them a client that sends next to nothing holds a socket for ever, and one that sends single bytes makes each of
them cost forty here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

REQUEST_TIMEOUT_S = 20.0
MOST_PIECES = 16_384


class PunctualHttp(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """Closes a connection on which no whole request head has come for as long as `REQUEST_TIMEOUT_S`."""

    _timer: asyncio.TimerHandle | None = None
    _was_waiting = False

    def connection_made(self, transport: Any) -> None:
        """Begin to look at the clock."""
        super().connection_made(transport)
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to look at."""
        self._look_no_more()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, *event: Any) -> None:
        """The head of a websocket's request has come: the socket is no longer this protocol's."""
        self._look_no_more()
        super().handle_websocket_upgrade(*event)

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S / 2, self._look)

    def _look_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Between two requests uvicorn's keep-alive timer runs until the first byte of the next one."""
        is_between = self.cycle is None or (self.cycle.response_complete and self.timeout_keep_alive_task is None)
        if is_between and self._was_waiting:
            self.transport.close()
            return
        self._was_waiting = is_between
        self._look_later()


class WholesaleSockets(WebSocketsSansIOProtocol):
    """Refuses a frame that comes in more than `MOST_PIECES` pieces."""

    def handle_cont(self, event: Frame) -> None:
        """A further piece of the frame at hand."""
        if len(self.frames) < MOST_PIECES:
            super().handle_cont(event)
        elif not self.close_sent:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many pieces")
            self.handle_parser_exception()
