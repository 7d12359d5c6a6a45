"""A process of its own that begins to answer a turn and never ends; the test that starts it kills it."""

import asyncio
import sys

from fake_chat_model import FakeChatModel

from visavis.dialogue.commands import TurnCommand
from visavis.dialogue.events import TextDelta
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import open_store


async def answer_half(url: str, session: str, turn: str) -> None:
    model = FakeChatModel(pieces=["Half ", "an answer"], gate=asyncio.Semaphore(1))
    policy = TurnPolicy(lease_s=1, renew_s=0.2, flush_s=0.01)
    async with DialogueManager(open_store(url), model, policy=policy) as manager:
        async for event in manager.run_turn(session, TurnCommand(turn, "What is it?")):
            if isinstance(event, TextDelta):
                await asyncio.sleep(0.1)
                print(event.seq, flush=True)


asyncio.run(answer_half(*sys.argv[1:]))
