"""Which conversation a place of a platform has."""

from __future__ import annotations

import logging

from visavis.bot.adapters.platform import Incoming
from visavis.dialogue.errors import UnknownSession
from visavis.dialogue.manager import DialogueManager
from visavis.dialogue.store_channels import ChannelStore

log = logging.getLogger(__name__)


async def open_place(incoming: Incoming, manager: DialogueManager, channel: ChannelStore) -> str:
    """The session of the message's place, made if there is none (any more); its person takes part in it."""
    session = await channel.session_at(incoming.place)
    if session is not None:
        try:
            await manager.persons.join(session, incoming.person)
            return session
        except UnknownSession:
            log.debug("a place outlived its conversation")
    made = await manager.new_session(incoming.person)
    held = await channel.bind(incoming.place, made, before=session)
    if held != made:  # somebody else's message was first
        await manager.forget(made)
        await manager.persons.join(held, incoming.person)
    return held
