"""Token ids in, finished words out: a streamed answer never shows half a word or a broken character.

It knows a `decode` function and stop strings; no model, no sockets. Answers are short, so each step decodes all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_LAST_WORD = re.compile(r"\s*\S*\Z")


class StreamingDetokenizer:
    """Pieces of text for tokens as they come. All pieces joined equal `text` after `finish`.

    The last word is held back until the next one begins, because more tokens may belong to it; so are characters that
    could begin a stop string. Bytes that make no character are left out, and so is white space at both ends.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._kept_back = max((len(string) - 1 for string in self._stop), default=0)
        self._ids: list[int] = []
        self._sent = 0
        self.text = ""
        self.stopped = False

    def add(self, token_id: int) -> str:
        """Take one token and return what may be shown now (often nothing). Sets `stopped` at a stop string."""
        self._ids.append(token_id)
        self.text = self._cut_at_stop(self._decode(self._ids).replace("\ufffd", "").lstrip())
        if self.stopped:
            return ""
        safe = self.text[: len(self.text) - self._kept_back] if self._kept_back else self.text
        return self._send(_LAST_WORD.sub("", safe, count=1))

    def finish(self) -> str:
        """The rest of the text, once no token follows."""
        self.text = self.text.rstrip()
        return self._send(self.text)

    def _cut_at_stop(self, text: str) -> str:
        found = [at for at in (text.find(string) for string in self._stop) if at >= 0]
        self.stopped = bool(found)
        return text[: min(found)] if found else text

    def _send(self, shown: str) -> str:
        piece = shown[self._sent :]
        self._sent = max(self._sent, len(shown))
        return piece
