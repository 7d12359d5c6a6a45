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
_AFTER_ORDINAL = re.compile(rf"^ {_PICTURE}s?\b")
_LATEST = re.compile(rf"\b(?:last|latest|newest|most recent|this) {_PICTURE}\b")
_BEFORE = re.compile(rf"\b(?:previous|earlier|other) {_PICTURE}\b|\b{_PICTURE} before\b")
_BOTH = re.compile(rf"\bboth\b|\bthe two\b|\btwo {_PICTURES}\b|\bbetween (?:them|these|the)\b")
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


def named_pictures(text: str, groups: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The pictures that order words name, in the order of the words; empty when there are none.

    `groups` are the pictures shown so far, those of one turn together, oldest first. Places count within the newest
    group when it has several pictures and that place, else over all.
    """
    text = " ".join(text.casefold().split())
    newest, shown = list(groups[-1]) if groups else [], list(dict.fromkeys(image for one in groups for image in one))
    if len(shown) < 2:
        return ()
    scope = newest if len(newest) > 1 else shown
    found = [_at(place, scope, shown) for place in _places(text)]
    if _BEFORE.search(text):
        found.append(shown[-2])
    if _LATEST.search(text) and (found or len(newest) > 1):
        found.append(shown[-1])
    if not [image for image in found if image] and (_BOTH.search(text) or _ALL.search(text)):
        found = [*(scope[-2:] if _BOTH.search(text) and len(newest) < 2 else scope)]
    return tuple(dict.fromkeys(image for image in found if image))


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
        if _AFTER_ORDINAL.match(text[match.end() :]) or _listed(text[match.end() :]):
            places[match.start()] = int(match[2]) if match[2] else _ORDINALS.index(match[1]) + 1
    for match in _NAMED.finditer(text):
        places[match.start()] = int(match[1]) if match[1].isdigit() else _NUMBERS.index(match[1]) + 1
    return [places[start] for start in sorted(places)]


def _listed(rest: str) -> bool:
    """The first of "the first and the third picture"."""
    return re.match(rf"^,? (?:and|with|or|to|than|,) (?:the )?(?:{'|'.join(_ORDINALS)}|last|\d)", rest) is not None


def _at(place: int, scope: Sequence[str], shown: Sequence[str]) -> str | None:
    here = scope if place <= len(scope) else shown
    return here[place - 1] if 0 < place <= len(here) else None


def _stems(text: str) -> list[str]:
    """Words without those that say nothing and without the plural's ending."""
    words = (word for word in _WORD.findall(text.casefold()) if word not in _STOP)
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]
