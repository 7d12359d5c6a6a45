"""Messages that are no question: `link`, `forget`, `new`, `continue`, ... and nothing else, with or without a `/`.

The same on all platforms. Knows none of them.
"""

from __future__ import annotations

import re

from visavis.bot.adapters.platform import Ending, Incoming, Outcome
from visavis.dialogue.errors import BadRequest, UnknownSession
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.persons import Receipt
from visavis.dialogue.rate_limits import Action
from visavis.dialogue.store_channels import ChannelStore
from visavis.dialogue.turns import SessionSummary

HELP = """Show me a picture and ask about it; go on asking in the same thread. I also understand:
`link`: a code that joins your conversations here with those on another channel (`link CODE` there)
`sessions`, `continue 2`: your latest conversations, and to go on with one of them here
`new`: begin anew · `stop`: stop the answer · `forget`: delete this conversation
`forget everything`: delete all that is kept about you, on all joined channels"""

_COMMAND = re.compile(
    r"/?(?:(help|new|stop|sessions|link|forget)|(link)\s+([A-Za-z0-9-]{8,40})|(forget)\s+(everything)"
    r"|(continue)(?:\s+(\d{1,2}))?)",
    re.IGNORECASE,
)
_LISTED = 10


def parse_command(text: str) -> tuple[str, str] | None:
    """The word and what stands behind it."""
    found = _COMMAND.fullmatch(text.strip())
    if found is None:
        return None
    word, *rest = [group for group in found.groups() if group is not None]
    return word.lower(), rest[0] if rest else ""


async def answer_command(
    incoming: Incoming, manager: DialogueManager, channel: ChannelStore
) -> tuple[str, Outcome] | None:
    """What is said to a command, None to any other message; raises `DialogueError`s."""
    command = None if incoming.files or incoming.replaces else parse_command(incoming.text)
    if command is None:
        return None
    manager.rates.take(Action.REQUEST, incoming.person)
    text = await _Commands(incoming, manager, channel).run(*command)
    return text, Outcome(Ending.NOTICE, private=True)


class _Commands:
    def __init__(self, incoming: Incoming, manager: DialogueManager, channel: ChannelStore) -> None:
        self._incoming = incoming
        self._person = incoming.person
        self._manager = manager
        self._channel = channel

    async def run(self, word: str, rest: str) -> str:
        """The reply to one command."""
        match word, rest:
            case "link", _:
                return await self._link(rest)
            case "forget", "":
                return _receipt(await self._manager.forget(await self._own_session()))
            case "forget", _:
                return _receipt(await self._manager.persons.forget(self._person))
            case "new", _:
                before = await self._channel.session_at(self._incoming.place)
                made = await self._manager.new_session(self._person)
                await self._channel.bind(self._incoming.place, made, before)
                return "This is a new conversation."
            case "stop", _:
                return await self._stop()
            case "sessions", _:
                return await self._sessions()
            case "continue", _:
                return await self._continue(int(rest or 1))
        return HELP

    async def _link(self, code: str) -> str:
        self._only_for_one("A code is only for you")
        if not code:
            offered = await self._manager.persons.offer_link(self._person)
            return f"Type `link {offered}` where you want to go on, within ten minutes."
        names = await self._manager.persons.accept_link(self._person, code)
        channels = sorted({name.partition(":")[0] for name in names})
        return f"Joined: {', '.join(channels)}. `sessions` lists your conversations."

    async def _own_session(self) -> str:
        """The conversation of this place, if the person takes part in it."""
        session = await self._channel.session_at(self._incoming.place)
        if session is None:
            raise UnknownSession("There is no conversation here yet.")
        await self._manager.open_session(session, self._person)
        return session

    async def _stop(self) -> str:
        session = await self._own_session()
        waiting = (await self._manager.open_session(session, self._person)).waiting
        for turn in waiting:
            await self._manager.turns.cancel(session, turn.id)
        return "Stopped." if waiting else "Nothing is being answered here."

    async def _sessions(self) -> str:
        self._only_for_one("Your conversations are only for you")
        found = (await self._others())[:_LISTED]
        lines = [f"{number}. {one.title or 'without a title'}" for number, one in enumerate(found, 1)]
        return "\n".join(
            [*lines, "`continue 1` goes on with the first one here."] if lines else ["There are no others."]
        )

    async def _continue(self, number: int) -> str:
        if not self._incoming.is_private:
            raise BadRequest("Others could read that here; please say it in a direct message.")
        here, found = await self._channel.session_at(self._incoming.place), await self._others()
        if not 1 <= number <= len(found):
            raise BadRequest(f"There is no conversation {number}; `sessions` lists yours.")
        await self._channel.bind(self._incoming.place, found[number - 1].id, here)
        return f"Going on with: {found[number - 1].title or 'a conversation without a title'}."

    async def _others(self) -> list[SessionSummary]:
        """The person's conversations but the one of this place."""
        here = await self._channel.session_at(self._incoming.place)
        return [one for one in await self._manager.persons.sessions(self._person) if one.id != here]

    def _only_for_one(self, why: str) -> None:
        if not (self._incoming.is_private or self._incoming.can_whisper):
            raise BadRequest(f"{why}; please say that in a direct message.")


def _receipt(receipt: Receipt) -> str:
    return (
        f"Deleted: {receipt.sessions} conversation(s) with {receipt.turns} messages and {receipt.images} picture(s). "
        "What stands in this channel is yours to delete."
    )
