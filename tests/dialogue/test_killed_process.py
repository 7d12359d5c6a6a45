import asyncio
import signal
import sys
import uuid
from pathlib import Path

from fake_chat_model import FakeChatModel

from visavis.dialogue.events import Event, TextDelta, TurnCompleted, TurnRestarted
from visavis.dialogue.limits import TurnPolicy
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store import Store

SCRIPT = Path(__file__).with_name("dying_process.py")


async def test_kill_9_in_mid_answer_loses_and_doubles_nothing(store_url: str, store: Store) -> None:
    model, turn = FakeChatModel(), str(uuid.uuid4())
    session = await store.sessions.create()
    command = (sys.executable, str(SCRIPT), store_url, session, turn)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"2\n"
    async with DialogueManager(store, model, policy=TurnPolicy(lease_s=1, poll_s=0.02)) as manager:
        log = await manager.turns.attach(session, turn)
        seen: list[Event] = []
        async for event in manager.turns.follow(log, 1, 1):
            seen.append(event)
            if event.attempt == 1:
                process.send_signal(signal.SIGKILL)
                await process.wait()
        assert [(event.attempt, event.seq) for event in seen] == [(1, 2), *((2, seq) for seq in range(1, 6))]
        assert isinstance(seen[0], TextDelta) and isinstance(seen[1], TurnRestarted)
        assert isinstance(seen[-1], TurnCompleted) and seen[-1].text == "A red ball."
        assert len((await manager.history(session)).exchanges) == 1 and len(model.asked) == 1
