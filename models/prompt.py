"""THE chat template: how a question and the dialogue so far become the text encoder's two segments.

Training and serving both use it and nothing else. It knows no tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

CAPTION_PROMPT = "Describe the picture."
SHORT_HINT = "In one word."

Exchange = tuple[str, str]
"""One earlier question and its answer."""


def render(question: str, history: Sequence[Exchange] = ()) -> tuple[str, str]:
    """The question, and the earlier exchanges with the newest first, so that cutting the end loses the oldest."""
    return question.strip(), " | ".join(f"{asked.strip()} {answered.strip()}" for asked, answered in reversed(history))


def in_one_word(question: str) -> str:
    """Ask for a short answer, as a person would."""
    return f"{question.strip()} {SHORT_HINT}"
