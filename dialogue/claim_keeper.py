"""The claims of all turns that run in this process, kept up together, by one round trip to the store for all of them.

Knows of a turn only what it wants to be renewed.
"""

import asyncio
import logging
from typing import Protocol

from visavis.dialogue.claims import Renewal
from visavis.dialogue.errors import StoreUnavailable
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.store_turns import TurnStore

logger = logging.getLogger(__name__)


class Claimed(Protocol):
    """A turn that runs here."""

    def renewal(self) -> Renewal | None:
        """What its claim needs now, if anything."""
        ...

    def take_renewed(self, renewal: Renewal, answer: int) -> None:
        """The store's answer to that."""
        ...


class ClaimKeeper:
    """Asks each turn every `flush_s` seconds whether its lease is due or something is to be added to its replay."""

    def __init__(self, turns: TurnStore, policy: TurnPolicy) -> None:
        self._turns = turns
        self._policy = policy
        self._kept: dict[Claimed, None] = {}
        self._renewing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, turn: Claimed) -> None:
        """Keep its claim up from now on. No await here nor at the end of `_keep`: none is missed."""
        self._kept[turn] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep())

    def drop(self, turn: Claimed) -> None:
        """Renew it no more."""
        self._kept.pop(turn, None)

    async def leave(self, turn: Claimed) -> None:
        """The same; returns when a renewal that is under way has ended."""
        self.drop(turn)
        async with self._renewing:
            pass

    async def _keep(self) -> None:
        while self._kept:
            try:
                async with self._renewing:
                    await self._renew()
            except Exception:  # the edge of a task
                logger.exception("the claims of running turns could not be renewed; it is tried again")
            await asyncio.sleep(self._policy.flush_s)

    async def _renew(self) -> None:
        """Without the store it goes on: if another process takes a turn over meanwhile, the fencing token keeps this
        one from writing."""
        due = [(turn, renewal) for turn in self._kept if (renewal := turn.renewal()) is not None]
        if not due:
            return
        try:
            answers = await self._turns.renew([renewal for _, renewal in due], self._policy.lease_s)
        except StoreUnavailable:
            answers = [None] * len(due)
        for (turn, renewal), answer in zip(due, answers, strict=True):
            if answer is None:
                logger.warning("the claim of turn %s could not be renewed", renewal.claim.turn.id)
            else:
                turn.take_renewed(renewal, answer)
