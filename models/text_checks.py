"""What a text is made of, before the model sees it: no model, no tokens.

It says whether the letters are ones that the model reads; it does not guess languages.
"""

from __future__ import annotations

import re
import unicodedata

from visavis.models.errors import TextTooLong

MAX_TEXT_CHARACTERS = 16_000
_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Composed characters and single spaces; no control characters, no lone surrogates (tokenizers choke on them)."""
    return " ".join(_UNREADABLE.sub(" ", unicodedata.normalize("NFKC", text)).split())


def printable_text(text: str) -> str:
    """The text as it was written, lines and all, without control characters and lone surrogates."""
    return _CONTROLS.sub("", text.replace("\r\n", "\n"))


def bounded_text(text: str) -> str:
    """The text cleaned, of a length that a model may be given.

    Raises:
        TextTooLong: more than `MAX_TEXT_CHARACTERS`.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise TextTooLong(f"a text may have {MAX_TEXT_CHARACTERS} characters, this one has {len(text)}")
    return clean_text(text)


def is_readable(text: str) -> bool:
    """False if most letters of the text are of a script that the model was not trained on (it reads Latin letters)."""
    if text.isascii():
        return True
    letters = [letter for letter in text if letter.isalpha()]
    latin = sum("LATIN" in unicodedata.name(letter, "") for letter in letters)
    return 2 * latin >= len(letters)


def has_words(text: str) -> bool:
    """False for a text of signs alone, such as emoji or question marks: whatever is said to it would be a guess."""
    return any(char.isalnum() for char in text)
