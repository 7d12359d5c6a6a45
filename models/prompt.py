"""THE chat template: how a question and the dialogue so far become the text encoder's two segments.

Training and serving both use it and nothing else. It knows no tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

CAPTION_PROMPT = "Describe the picture."
SHORT_HINT = "In one word."
SHORT_TALK = 3
"""So many earlier exchanges are told whole: talks that models are trained on are no longer."""
KEPT_EXCHANGES = 2
"""Of a longer talk. More helps no follow-up, and draws answers to what nobody asks about any more."""

Exchange = tuple[str, str]
"""One earlier question and its answer."""

_OPENING = re.compile(
    r"^(?:(?:hi|hey|hello|thanks|thank you|okay|ok|great|cool|nice|good|perfect|wow|oh|well|so)(?: there)?[,.!;:]+ )+",
    re.IGNORECASE,
)
_FEW = r"(?:just |only |exactly )*(?:(?:a )?(?:one|1|single)|a|two|2|a few)[ -]words?\b"
_WISH = r"(?:\b(?:please|just|only|briefly|give me|answer|reply|respond|say it|tell me)[ ,]+)*"
_SHORT = re.compile(
    rf"{_WISH}(?:\b(?:in|with|using|use) {_FEW}|\b{_FEW} (?:answer|reply)|\b(?:answer|reply) briefly"
    rf"|(?:^|(?<=[.?!,;:(] )|(?<=\()){_FEW}(?=(?: please)?[.,:;!?)]|(?: please)?$)"
    r"|^(?:briefly|in short)(?=[:,])|(?<=[.?!,] )(?:briefly|in short|short answer)(?=[.?!]|$))"
    r"(?: (?:answer|reply))?(?:,? (?:please|only)\b)?[.:,;!)]*",
    re.IGNORECASE,
)
_PICTURE = r"(?:the|this|that|my) (?:whole |entire )?(?:picture|image|photo|photograph|scene)"
_DESCRIBES = re.compile(
    r"(?:please |can you |could you |now |then |and |so |ok,? |okay,? )*"
    rf"(?:(?:describe|caption)(?: to me)? {_PICTURE}|what (?:do|can) you see(?: (?:in|on) {_PICTURE})?"
    rf"|what(?:'s| is)(?: shown| happening| going on)? (?:in|on) {_PICTURE}|what does {_PICTURE} show"
    rf"|(?:tell me|what can you (?:tell me|say)) about {_PICTURE})"
    r"(?: here| please| for me| again| in (?:more )?detail)*"
)


def render(question: str, history: Sequence[Exchange] = ()) -> tuple[str, str]:
    """The question, and the exchanges that it may follow from with the newest first, so that cutting the end loses the
    oldest.

    However a short answer is asked for, it is put as `in_one_word` puts it; only the question itself may ask so, not
    what came before. Who wants the whole picture described follows from nothing.
    """
    asked, short = _parted(question)
    if short and not asked and history:  # "In one word?": what was asked before
        asked, history = _parted(history[-1][0])[0], history[:-1]
    if _DESCRIBES.fullmatch(asked.casefold().rstrip(" .?!")):
        asked, history = "What is this?" if short else asked, ()
    told = history if len(history) <= SHORT_TALK else history[-KEPT_EXCHANGES:]
    before = " | ".join(f"{_parted(one)[0]} {answered.strip()}" for one, answered in reversed(told))
    return in_one_word(asked) if short else asked, before


def in_one_word(question: str) -> str:
    """Ask for a short answer, as a person would."""
    return f"{question.strip()} {SHORT_HINT}"


def _parted(question: str) -> tuple[str, bool]:
    """The question without a greeting before it and the wish for a short answer, and whether there was one."""
    question = _OPENING.sub("", question, count=1) or question
    asked, wishes = _SHORT.subn(" ", question)
    if question.endswith(SHORT_HINT) or not wishes:
        return question.removesuffix(SHORT_HINT).strip(), wishes > 0
    asked = re.sub(r"[ ,(]+(?=[.?!]|$)", "", " ".join(asked.split())).strip(" -,:;)")
    return (asked[:1].upper() + asked[1:] if asked.strip(".?!") else ""), True
