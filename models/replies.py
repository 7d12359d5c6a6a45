"""What is said without running the decoder: greetings, thanks, what this is, no picture yet, no words it can read.

The model answers about pictures alone, so these have their own words here, for every channel alike. Pure functions;
which of several wordings is used depends on the question only, so that a repeated turn gets the same answer.
"""

from __future__ import annotations

import re
import zlib

from visavis.models.text_checks import has_words, is_readable

UNREADABLE = (
    "I'm sorry, I can't read that script. I only understand English: could you ask me in English, please?",
    "I can't read those letters, so I would only be guessing. I understand English: please try that.",
)
NO_WORDS = (
    "I can't make a question out of that: I only read English words. What would you like to know?",
    "I only understand words, English ones. Could you ask me in words, please?",
)
NO_PICTURE = (
    "Show me a picture first, then ask me about it.",
    "I answer questions about pictures, and I don't see one yet. Show me a picture first, please.",
    "There is no picture for me to look at yet. Show me one and ask again.",
)
NOT_A_PHOTO = (
    "This doesn't look like a photo to me: I can only talk about photos, not about drawings, charts or screens.",
    "I don't think this is a photo. Drawings, documents and screenshots are nothing that I can read.",
)
_GREETING = (
    "Hello! Show me a picture and ask me about it.",
    "Hi there! Give me a picture and we can talk about it.",
)
_GREETING_AGAIN = ("Hello! Ask me anything about your picture.", "Hi! What would you like to know about the picture?")
_THANKS = ("You're welcome!", "My pleasure. Ask on if you like.", "Glad to help!")
_FAREWELL = ("Goodbye! It was nice looking at pictures with you.", "See you! Bring more pictures.")
_ABOUT = (
    "I'm Visavis, a small model that looks at a picture and answers short questions about it: what is in it, colors,"
    " how many, what people do. I can describe it, too. I only read English, and I make mistakes.",
)
_WELL = ("I'm well, thank you! Shall we look at a picture?",)

_CALL = r"(?:,? (?:there|again|visavis|bot|friend|all|everyone|everybody))?"
_SMALL_TALK: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        rf"(?:hi|hey|hello|hiya|howdy|greetings|good (?:morning|afternoon|evening|day)){_CALL}",
        _GREETING,
        _GREETING_AGAIN,
    ),
    (r"(?:(?:hi|hey|hello),? )?(?:how are you|how do you do|how's it going)(?: doing)?(?: today)?", _WELL, _WELL),
    (
        r"(?:ok(?:ay)?,? |great,? |cool,? )?(?:many |no,? )?(?:thanks|thank you|thx|ty|cheers)"
        rf"(?: (?:a lot|so much|very much|again|for (?:your|the) help))?{_CALL}",
        _THANKS,
        _THANKS,
    ),
    (r"(?:good ?bye|bye(?: bye)?|see you(?: later| soon)?|good night|take care)" + _CALL, _FAREWELL, _FAREWELL),
    (
        r"(?:(?:hi|hey|hello),? )?(?:help(?: me)?|what (?:can|do) you do|what can i (?:ask|do)(?: you)?"
        r"|how (?:does this|do you) work|(?:who|what) are you|what is (?:visavis|this (?:bot|app))"
        r"|are you (?:an? )?(?:bot|robot|human|ai|person))"
        r"(?: please| here| then)?",
        _ABOUT,
        _ABOUT,
    ),
)
_PATTERNS = tuple((re.compile(pattern), first, later) for pattern, first, later in _SMALL_TALK)


def reply_without_model(question: str, *, has_picture: bool) -> str | None:
    """The whole reply to a (cleaned) question that the model need not or cannot answer; None if it is to answer."""
    if not is_readable(question):
        return _choose(UNREADABLE, question)
    small_talk = _small_talk(question, has_picture)
    if small_talk is not None:
        return small_talk
    if not has_picture:
        return _choose(NO_PICTURE, question)
    return None if has_words(question) else _choose(NO_WORDS, question)


def reply_to_no_photo(question: str) -> str:
    """What is said of a picture that is no photo, instead of guessing."""
    return _choose(NOT_A_PHOTO, question)


def is_small_talk(question: str) -> bool:
    """True for a turn that is not about any picture, so that it is no context for the next question."""
    return not (is_readable(question) and has_words(question)) or _small_talk(question, True) is not None


def _small_talk(question: str, has_picture: bool) -> str | None:
    bare = question.casefold().replace("’", "'").strip(" .,!?~:;)(*_")
    for pattern, first, later in _PATTERNS:
        if pattern.fullmatch(bare):
            return _choose(later if has_picture else first, question)
    return None


def _choose(wordings: tuple[str, ...], question: str) -> str:
    return wordings[zlib.crc32(question.encode()) % len(wordings)]
