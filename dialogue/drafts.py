"""HTML of an answer that is still being written: as it will be, as far as that can be told: nothing jumps later.

What is not finished (half a marker, a link without its address, the head of a table) is hidden or closed. Blocks that
are complete are rendered once, so that a long answer costs no more than its length. Knows no events.
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from visavis.dialogue.html import clean_html, markdown

PACE_S = 0.15
_LARGEST_SHARE = 0.05  # of the time that drafts may take from whatever else this process does

_FORMATTED = re.compile(r"[\\`*_~#|>\n\[&<]|^\s*(?:[-+]|\d+[.)])\s")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_ONLY_MARKS = re.compile(r"[-+*=#>|`~_:\s]*(?:\d+[.)]?(?:\s[*_`~]*)?)?")
_HALF_LINK = re.compile(r"\[([^\[\]\n]*)(?:\](?:\([^()\s]*)?)?$")
_MARK = re.compile(r"(?<!\\)(?:\*{1,3}|(?<!\w)_{1,3}|_{1,3}(?!\w)|~~|`+)")


class Draft(NamedTuple):
    """`html` follows the first `after` blocks of what was shown before; the rest of that is void."""

    html: str
    after: int


class DraftWriter:
    """Drafts of one answer, at most one in `PACE_S`; none before its text has anything to format."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = 0.0
        self._rest = ""
        self._after = 0
        self._is_formatted = False

    def add(self, text: str) -> Draft | None:
        """Take the next piece of the answer in; a draft if it is time for one."""
        self._rest = (self._rest + text).replace("\r\n", "\n")
        self._is_formatted = self._is_formatted or bool(_FORMATTED.search(self._rest))
        now = self._clock()
        if not self._is_formatted or now < self._next_at:
            return None
        draft = self._draft()
        self._next_at = now + max(PACE_S, (self._clock() - now) / _LARGEST_SHARE)
        return draft

    def _draft(self) -> Draft:
        shown = finished(self._rest)
        tokens = markdown().parse(shown)
        html = clean_html(markdown().renderer.render(tokens, markdown().options, {}))
        draft = Draft(html, self._after)
        starts = [token.map[0] for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]
        if len(starts) > 1:
            self._after += len(starts) - 1
            self._rest = "\n".join(self._rest.split("\n")[starts[-1] :])
        return draft


def finished(text: str) -> str:
    """`text` (whole blocks, the last one open) without what is only half there."""
    if len(_FENCE.findall(text)) % 2:
        return text
    head, gap, block = text.rpartition("\n\n")
    if block.lstrip().startswith("|") and block.count("\n") < 2:
        return head  # a table is one only after its second line
    before, newline, line = block.rpartition("\n")
    if _ONLY_MARKS.fullmatch(line):
        return head + gap + before
    return head + gap + before + newline + _closed(_HALF_LINK.sub(r"\1", line))


def _closed(line: str) -> str:
    """With the markers that are still open closed; one that has nothing behind it yet goes."""
    line = line.rstrip()
    waiting: list[str] = []
    for found in _MARK.finditer(line):
        mark, code = found[0], bool(waiting) and waiting[-1].startswith("`")
        if waiting and waiting[-1] == mark and (code or not line[found.start() - 1].isspace()):
            waiting.pop()
        elif found.end() == len(line):
            line = line[: found.start()].rstrip()
        elif not code and not line[found.end()].isspace():
            waiting.append(mark)
    return line + "".join(reversed(waiting))
