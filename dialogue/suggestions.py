"""What one might ask next about a picture, made by rule from the answer's own words.

Pure functions over English text; what they do not understand gets no question of its own. They do not see the picture:
a question is about something that was named, and never about what the model was not sure to see.
"""

import re
from collections.abc import Sequence

from visavis.dialogue.events import TurnCompleted

COUNT = 3
UNSURE = 0.3  # below this confidence what an answer names may not be there
_PEOPLE = (
    r"\b(?P<person>man|woman|boy|girl|child|baby|person|player|men|women|boys|girls|children|kids|people|players)\b"
)
_ANIMAL = r"\b(?P<animal>(?:dog|cat|horse|bird|cow|elephant|bear|zebra|giraffe)s?|sheep)\b"
_THING = (
    r"\b(?:an?|the|one|two|three)(?: \w+){0,3}? (?P<thing>[a-z]+)(?= (?:is|are|in|on|at|with|and|near|\w{2,}ing)\b)"
)
_COLORS = r"\b(?:black|white|brown|red|blue|green|yellow|orange|pink|purple|gr[ae]y|tan|golden|colou?rs?)\b"
_DOING = r"\b(?:is|are) \w+ing\b|\bdoing\b"
_WORN = r"\bwear\w*\b|\b(?:shirt|dress|jacket|coat|suit|uniform)s?\b"
_PLACE = r"\b(?:in|on|at|through|across|along|near|by) (?:an?|the)\b|\bwhere\b|\b(?:in|out)(?:doors|side)\b"
_NO = r"no\b|there (?:is|are) no\b|i (?:don't|do not|can't|cannot) see\b"
_MANY = r"(?:men|women|children|people|sheep|\ws)$"


def suggestions(answer: TurnCompleted, asked: Sequence[str]) -> tuple[str, ...]:
    """At most `COUNT` questions that `answer` leaves open; none of a kind that was `asked` about the same picture."""
    said, sure = answer.text.casefold(), answer.confidence is None or answer.confidence >= UNSURE
    if answer.image is None or not re.search("[a-z]{2}", said):
        return ()
    known = "\n".join([said if sure else "", *asked]).casefold()
    denies = bool(re.match(_NO, said))  # what it names then is not there
    possible = [*(_about_what_is_named(said) if sure and not denies else []), ("Where was this taken?", _PLACE)]
    possible.append(("Is there a person in the picture?", _PEOPLE))
    return tuple(question for question, told in possible if not re.search(told, known))[:COUNT]


def _about_what_is_named(said: str) -> list[tuple[str, str]]:
    """Questions, each with the words that would have answered or asked it."""
    found = re.search(_PEOPLE, said) or re.search(_ANIMAL, said) or re.search(_THING, said)
    if found is None:
        return []
    kind, noun = found.lastgroup, found[found.lastgroup or 0]
    subject = f"{'are' if re.search(_MANY, noun) else 'is'} the {noun}"
    doing, color = (f"What {subject} doing?", _DOING), (f"What color {subject}?", _COLORS)
    if kind == "thing":
        return [color]
    return [doing, color if kind == "animal" else (f"What {subject} wearing?", _WORN)]
