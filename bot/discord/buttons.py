"""The buttons below an answer. What they need is in their names: any process understands them, also a later one."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import discord

from visavis.bot.adapters.platform import Ending, Outcome


class Press(StrEnum):
    """What a button is for."""

    STOP = "stop"
    AGAIN = "again"
    WHY = "why"


_LABELS = {Press.STOP: "Stop", Press.AGAIN: "Regenerate", Press.WHY: "Show why"}
_NAME = re.compile(r"visavis:(stop|again|why):(\d{0,20})")


def buttons(owner: str, outcome: Outcome | None) -> discord.ui.View | None:
    """Below an answer that is being written, or that has ended. `owner` alone may press them; empty: everybody."""
    if outcome is None:
        wanted = [Press.STOP]
    elif not outcome.turn:
        return None
    else:
        wanted = [Press.AGAIN] if outcome.ending is not Ending.NOTICE else []
        wanted += [Press.WHY] if outcome.can_explain else []
    view = discord.ui.View(timeout=None)
    for press in wanted:
        name = f"visavis:{press}:{owner}"
        view.add_item(discord.ui.Button(label=_LABELS[press], custom_id=name, style=discord.ButtonStyle.secondary))
    view.stop()  # presses come by `on_interaction`; discord.py need not remember each message
    return view


def pressed(interaction: discord.Interaction) -> tuple[Press, str] | None:
    """Which of our buttons it was, and whose it is."""
    data: Any = interaction.data or {}
    found = _NAME.fullmatch(str(data.get("custom_id", "")))
    return (Press(found[1]), found[2]) if found else None
