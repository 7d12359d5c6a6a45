"""The model's text as a platform may show it: it pings nobody, loads nothing, and is cut where it reads well.

Pure functions. What is made of a text only ever grows at its end while the text does, so that it can be streamed.
"""

from __future__ import annotations

import re

BREAK = "\u200b"  # a zero-width space: nobody sees it, and no client finds a mention in what it parts
# `<@U1>`, `<#C1>`; `<!channel>`; `@everyone`, parted before its last letter, so that a text that grows keeps its start;
# `![](address)`, which would be loaded from there.
_ACTIVE = re.compile(r"<(?=[@#&])|<!(?=[a-z])|(?i:@everyon(?=e)|@her(?=e)|@channe(?=l)|@grou(?=p))|!(?=\[)")
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
_LONGEST_FENCE = 40


def harmless(text: str) -> str:
    """The text without mentions, channel links, pictures from the network, control and direction characters,
    and halves of characters."""
    return _ACTIVE.sub(lambda found: found.group() + BREAK, _INVISIBLE.sub("", text))


def split_text(text: str, limit: int) -> list[str]:
    """The text in parts of at most `limit` characters (at least 100), cut between paragraphs, lines or words.

    A code block that is cut ends with its part and begins anew in the next one. An empty text is no part.
    """
    parts: list[str] = []
    opening = ""
    while text.strip():
        head = f"{opening}\n" if opening else ""
        if len(head) + len(text) <= limit:
            return [*parts, head + text]
        room = limit - len(head)
        cut = _cut(text, room)
        if _open_fence(head + text[:cut]):  # the line that ends the block has to fit as well
            cut = _cut(text, room - _LONGEST_FENCE - 1)
        piece = head + text[:cut].rstrip()
        opening = _open_fence(piece)
        parts.append(f"{piece}\n{_marker(opening)}" if opening else piece)
        text = text[cut:].lstrip("\n") if opening else text[cut:].lstrip()
    return parts


def _cut(text: str, room: int) -> int:
    """Where to end a part: behind the last paragraph, line, sentence or word of what fits, unless that is early."""
    for separator in ("\n\n", "\n", ". ", " "):
        place = text.rfind(separator, room // 2, room)
        if place > 0:
            return place + len(separator)
    return room


def _open_fence(text: str) -> str:
    """The line that opened the code block in which the text ends; empty outside of one."""
    opening = ""
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        marker, rest = fence.groups()
        if not opening:
            opening = line.strip() if len(line) <= _LONGEST_FENCE else marker[:_LONGEST_FENCE]
        elif marker.startswith(_marker(opening)) and not rest.strip():
            opening = ""
    return opening


def _marker(opening: str) -> str:
    """The line that closes a block."""
    return opening[: len(opening) - len(opening.lstrip(opening[0]))]
