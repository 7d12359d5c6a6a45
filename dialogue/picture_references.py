"""Which pictures a question means: "the first one", "compare them", "the one with the dog".

Pure functions over text. They read English; a question that they do not understand is about what was talked about last.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_PICTURE = r"(?:one|picture|image|photo|photograph|pic|shot|screenshot)"
_PICTURES = r"(?:ones|pictures|images|photos|photographs|pics|shots|screenshots)"
_ORDINAL = re.compile(rf"\b(?:({'|'.join(_ORDINALS)})|(\d{{1,2}})(?:st|nd|rd|th))\b(?! (?:question|answer|time))")
_NAMED = re.compile(rf"\b{_PICTURE} (?:number |no\.? ?|#)?(\d{{1,2}}|{'|'.join(_NUMBERS)})\b(?! (?:of|with))")
_PLACE = rf"(?:\d{{1,2}}|{'|'.join(_NUMBERS)})"
_LISTED = re.compile(rf"\b{_PICTURES} ({_PLACE}(?:(?:, ?| ?& ?|,? (?:and|or|with|to) ){_PLACE})+)\b")
_AFTER_ORDINAL = re.compile(rf"^ {_PICTURE}s?\b")
_LATEST = re.compile(rf"\b(?:last|latest|newest|most recent) {_PICTURE}\b")
_THIS = re.compile(rf"\bthis {_PICTURE}\b")
_OTHER = re.compile(rf"\bother {_PICTURE}\b")
_BEFORE = re.compile(rf"\b(?:previous|earlier) {_PICTURE}\b|\b{_PICTURE} before\b")
_THE_TWO = rf"\bthe two\b(?! (?!(?:of|are|have|do|differ|look|show|match|{_PICTURES})\b)\w)"
_BOTH = re.compile(rf"\bboth\b|{_THE_TWO}|\btwo {_PICTURES}\b|\bbetween (?:them|these|the)\b")
_RUN = re.compile(
    rf"\b(first|last|latest|newest) (\d{{1,2}}|{'|'.join(_NUMBERS[1:])})\b"
    rf"(?= {_PICTURES}\b| ?(?:[?.!,;]|$)| (?:are|have|do|differ|look|show|match)\b)"
)
_ALL = re.compile(
    rf"\bcompare\b|\bdifferences?\b.*\bbetween\b|\bin common\b|\bhow do (?:they|these) differ\b"
    rf"|\b(?:all|each|any|which) (?:of )?(?:them|these|the {_PICTURES}|{_PICTURES}|{_PICTURE})\b"
)
_DESCRIBED = re.compile(rf"\b(?:the|that) {_PICTURE} (?:with|of|showing|that shows|where|in which) (?P<what>[^?.!;]+)")
_REST = re.compile(r",| (?:is|are|was|does|do|did|what|how|where|who|why|can|looks?)\b")
_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    _WORD.findall("a an the is are was were in on at of and or it its this that there with to s he she they")
)


def named_pictures(text: str, groups: Sequence[Sequence[str]], talked_about: Sequence[str] = ()) -> tuple[str, ...]:
    """The pictures that order words name, in the order of the words; empty when there are none.

    `groups` are the pictures shown so far, those of one turn together, oldest first. Places count within the newest
    group when it has several pictures and all those places, else over all. "The other one" is none of those that are
    `talked_about` (by default the newest).
    """
    text = " ".join(text.casefold().split())
    newest, shown = list(groups[-1]) if groups else [], list(dict.fromkeys(image for one in groups for image in one))
    if len(shown) < 2:
        return ()
    scope = newest if len(newest) > 1 else shown
    latest, places = _latest_first(groups), _places(text)
    counted = scope if all(place <= len(scope) for place in places) else shown
    found = [counted[place - 1] for place in places if 0 < place <= len(counted)] + _run(text, scope, shown)
    if _BEFORE.search(text):
        found.append(latest[1])
    if _OTHER.search(text):
        found.append(next((image for image in latest if image not in (talked_about or latest[:1])), latest[1]))
    if _LATEST.search(text) or (_THIS.search(text) and (found or len(newest) > 1)):
        found.append(latest[0])
    if not found and (_BOTH.search(text) or _ALL.search(text)):
        found = [*(scope[-2:] if _BOTH.search(text) and len(newest) < 2 else scope)]
    return tuple(dict.fromkeys(found))


def described_picture(text: str) -> str:
    """How a question describes the picture that it means ("the dog" in "the one with the dog"), or nothing."""
    match = _DESCRIBED.search(" ".join(text.casefold().split()))
    return _REST.split(match["what"])[0].strip() if match else ""


def best_match(description: str, said: Mapping[str, str]) -> str | None:
    """The picture about which those words were said, of `said` by picture, oldest first; the newest of equals.

    Words count by how few of the pictures they fit (inverse document frequency); None when no word was said of any.
    """
    words = {image: set(_stems(text)) for image, text in said.items()}
    spread = Counter(word for found in words.values() for word in found)
    scores = {
        image: sum(math.log(1 + len(said) / spread[word]) for word in set(_stems(description)) & found)
        for image, found in words.items()
    }
    best = max(scores.values(), default=0.0)
    return next((image for image in reversed(list(scores)) if scores[image] == best), None) if best else None


def _places(text: str) -> list[int]:
    """The places that are named, from 1, in the order of the words."""
    places = {}
    for match in _ORDINAL.finditer(text):
        if _AFTER_ORDINAL.match(text[match.end() :]) or _listed(text[match.end() :]) or _alone(text, match):
            places[match.start()] = int(match[2]) if match[2] else _ORDINALS.index(match[1]) + 1
    for match in _NAMED.finditer(text):
        places[match.start()] = _number(match[1])
    for match in _LISTED.finditer(text):
        places |= {match.start(1) + one.start(): _number(one[0]) for one in re.finditer(_PLACE, match[1])}
    return [places[start] for start in sorted(places)]


def _run(text: str, scope: Sequence[str], shown: Sequence[str]) -> list[str]:
    """ "The first two", "the last three pictures"; none where there are not so many."""
    match = _RUN.search(text)
    if match is None:
        return []
    count = _number(match[2])
    counted = scope if count <= len(scope) else shown
    if not 0 < count <= len(counted):
        return []
    return list(counted[:count] if match[1] == "first" else counted[-count:])


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS.index(word) + 1


def _latest_first(groups: Sequence[Sequence[str]]) -> list[str]:
    """All pictures by when each was shown last."""
    return list(dict.fromkeys(image for group in reversed(groups) for image in reversed(group)))


def _listed(rest: str) -> bool:
    """The first of "the first and the third picture"."""
    return re.match(rf"^,? (?:and|with|or|to|than|,) (?:the )?(?:{'|'.join(_ORDINALS)}|last|\d)", rest) is not None


def _alone(text: str, ordinal: re.Match[str]) -> bool:
    """ "And the second?", at the end of what is said."""
    return text[: ordinal.start()].endswith("the ") and re.match(r" ?(?:[?.!,;]|$)", text[ordinal.end() :]) is not None


def _stems(text: str) -> list[str]:
    """Words without those that say nothing and without the plural's ending."""
    words = (word for word in _WORD.findall(text.casefold()) if word not in _STOP)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]
