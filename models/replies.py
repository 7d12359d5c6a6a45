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
_WELL_AGAIN = ("I'm well, thank you! What would you like to know about the picture?",)
_NOD = ("All right. Show me a picture whenever you like.",)
_NOD_AGAIN = ("All right. What else would you like to know about the picture?",)

_DOER = r"(?:can|could|do|will) (?:you|visavis|this bot|this app)"
_SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            rf"(?:.* )?(?:what|things)(?: (?:all|else|exactly|stuff))? (?:{_DOER}|you can)(?: \w+)? do(?: for me)?",
            rf"how {_DOER} help(?: me)?|what (?:else )?{_DOER} (?:help(?: me)? with|offer|answer|know|tell me)",
            r"(?:(?:can|could|will|would) you |i (?:need|want) (?:some |your )?|need )?help(?: me)?(?: out)?",
            r"what (?:else )?(?:can|could|should|may|do) i (?:ask|do|say|try)(?: you)?(?: with (?:you|this))?",
            r"what (?:(?:kinds?|sorts?) of )?(?:questions|things) (?:can|should|may) (?:i ask|you answer)(?: you)?",
            r"how (?:does this|do you|do i|can i|should i|to) (?:work|use (?:this|you)|start|begin)",
            r"(?:who|what) are you(?: exactly| really)?|who (?:made|built|created|trained|programmed) you",
            r"what are you (?:good at|able to do|capable of|for|called)|how old are you|where are you from",
            r"(?:.* )?your (?:\w+ )?(?:name|job|purpose|capabilities|features|skills|abilities|functions|limits)",
            r"what(?:'s| is) (?:visavis|this (?:bot|app|site))|what (?:features|skills|abilities) do you have",
            r"(?:tell me |explain )(?:something )?(?:about (?:yourself|you)|who you are|how (?:this|you) works?)",
            r"(?:introduce|describe) yourself|(?:what|which)(?: kind of)? (?:model|ai|bot) (?:are you|is this)",
            r"are you (?:(?:an?|the|really|real|just) )*(?:bot|robot|human|human being|ai|person|machine|computer"
            r"|program|model|chatbot|chatgpt|gpt|real|alive|there|smart)(?: or .+)?",
            r"(?:can|do) you (?:see|understand|describe) (?:any |my )?(?:pictures|images|photos)|can you see",
            r"what languages? (?:do|can) you (?:speak|understand|know)|(?:do|can) you (?:speak|understand) [a-z]+",
        ),
        _ABOUT,
        _ABOUT,
    ),
    (
        (
            r"how (?:are|r) (?:you|u|things)(?: doing)?|how do you do|what'?s up|sup|how have you been",
            r"how(?:'s| is) (?:it going|life|everything|your day)",
        ),
        _WELL,
        _WELL_AGAIN,
    ),
    (
        (
            r"(?:many |no )?(?:thanks|thank (?:you|u)|thankyou|thx|ty|cheers)"
            r"(?: (?:a lot|a bunch|a million|so much|very much|indeed|for .+))?",
            r"much appreciated|(?:i )?(?:really )?appreciate (?:it|that|your help)",
            r"(?:that(?:'s| is| was)|you(?:'re| are| were)) (?:very |really |so |a )*(?:helpful|kind|great help)",
            r"that(?:'s| is| was) (?:all|it)(?: for (?:now|today))?|nothing else",
        ),
        _THANKS,
        _THANKS,
    ),
    (
        (
            r"good ?bye|bye(?: bye)?|see (?:you|ya)(?: later| soon| tomorrow)?|cya|good night|take care|farewell",
            r"talk to you (?:later|soon|tomorrow)|have a (?:nice|good|great) (?:day|evening|night|one|weekend)",
            r"i(?:'m| am) (?:done|leaving)|(?:i )?(?:have to|must|need to|gotta) go",
        ),
        _FAREWELL,
        _FAREWELL,
    ),
    (
        (
            r"hi+|hey+|hello+|hiya|howdy|hallo|hola|yo|greetings|good (?:morning|afternoon|evening|day)|morning",
            r"(?:it's |it is )?(?:nice|pleased|good|great) to (?:meet|see) you",
        ),
        _GREETING,
        _GREETING_AGAIN,
    ),
    (
        (
            r"ok(?:ay)?|alright|all right|right|sure|yes|yeah|yep|no|nope|cool|great|nice|wow|awesome|amazing|perfect",
            r"good|fine|excellent|wonderful|interesting|lovely|got it|i (?:see|understand)|understood|makes sense",
            r"(?:good|nice|great) (?:job|work|bot|one|answer)|well done|lol|(?:ha)+h?|hm+|oh|ah|never ?mind|sorry",
            r"no (?:problem|worries)|you(?:'re| are) welcome|i (?:love|like) (?:you|it|this)|(?:just )?test(?:ing)?",
        ),
        _NOD,
        _NOD_AGAIN,
    ),
)
"""What is said about no picture, and what is said to it before and after a picture was shown; the weightiest first."""
_BEFORE = r"(?:(?:so|and|but|well|then|now|please|hey|hi|hello|ok|okay) )*"
_AFTER = r"(?: (?:there|again|visavis|bot|friend|buddy|mate|all|everyone|everybody|please|here|then|now|today))*"
_PATTERNS = tuple(
    (re.compile(f"{_BEFORE}(?:{'|'.join(any_of)}){_AFTER}"), first, later) for any_of, first, later in _SMALL_TALK
)
_FILLERS = re.compile(r"(?:please|visavis|bot|so|well|then|now|um+|uh+|and|but)?")
_CLAUSES = re.compile(r"[\s.,!?~:;)(*_-]*(?:[.,!?~:;)(*_]|\s-)[\s.,!?~:;)(*_-]*|\s+and\s+|^\W+|\W+$")


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
    """The reply to the weightiest part, if there is nothing but small talk. "Okay?" doubts, it does not nod."""
    parts = [part for part in _CLAUSES.split(question.casefold().replace("’", "'")) if not _FILLERS.fullmatch(part)]
    kinds = [next((rank for rank, kind in enumerate(_PATTERNS) if kind[0].fullmatch(part)), None) for part in parts]
    weightiest = min((kind for kind in kinds if kind is not None), default=None)
    if weightiest is None or None in kinds:
        return None
    _, first, later = _PATTERNS[weightiest]
    return None if first is _NOD and "?" in question else _choose(later if has_picture else first, question)


def _choose(wordings: tuple[str, ...], question: str) -> str:
    return wordings[zlib.crc32(question.encode()) % len(wordings)]
