"""Questions made from captions by rule: what colour, how many, what somebody does, where, and whether a thing is there.

Captions hold facts that the dialogues never ask for. A question is asked only where the captions of a photo agree; that
something is missing is said only of things that people who describe a photo do not leave out. Pure functions of texts.
(Question generation from captions: Ren, Kiros and Zemel 2015; our rules are simpler and surer.)
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

COLORS = (
    "black",
    "white",
    "brown",
    "red",
    "blue",
    "green",
    "yellow",
    "orange",
    "pink",
    "purple",
    "gray",
    "tan",
    "golden",
)
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
PLURALS = {
    "dogs": "dog",
    "men": "man",
    "women": "woman",
    "boys": "boy",
    "girls": "girl",
    "children": "child",
    "people": "person",
    "horses": "horse",
    "kids": "child",
}
WHO = "man|woman|boy|girl|child|dog|person|baby|player|lady|kid|toddler|guy"
PRONOUNS = {"man": "He", "boy": "He", "guy": "He", "woman": "She", "girl": "She", "lady": "She"}
PLACES = (
    "beach|snow|water|grass|street|field|park|forest|woods|sidewalk|road|pool|ocean|lake|river|yard|city|dirt|sand|"
    "mountain|hill|bench|couch|track|ice|gym|kitchen|playground|path|trail|lawn"
)
WORN = "shirt|jacket|hat|dress|coat|shorts|pants|sweater|helmet|suit|jersey|swimsuit|cap|uniform|t-shirt|collar"
THINGS = WORN + "|ball|toy|frisbee|car|bike|bicycle|boat|motorcycle|kayak|bird|horse|dog|umbrella"
SALIENT: dict[str, str] = {
    "dog": "dogs?|pupp(?:y|ies)|poodle|retriever|terrier|greyhounds?|collie|labrador|animals?",
    "horse": "horses?|pony|ponies|jockey|animals?|equestrian|bronco|rodeo",
    "bird": "birds?|seagulls?|ducks?|pigeons?|geese|goose|parrot|eagle|animals?",
    "child": "child(?:ren)?|kids?|boys?|girls?|bab(?:y|ies)|toddlers?|infant|people|person|player|students?",
    "woman": "wom[ae]n|lad(?:y|ies)|females?|girls?|people|person|players?|couple|bride|crowd|group|someone",
    "man": "m[ae]n|guys?|males?|boys?|people|person|players?|couple|groom|crowd|group|someone|\\w+(?:er|ist)s?",
    "bicycle": "bik\\w*|bicycl\\w*|cycl\\w*|bmx",
    "skateboard": "skat\\w*|board\\w*",
    "surfboard": "surf\\w*|board\\w*|wave\\w*",
    "boat": "boats?|kayak\\w*|canoe\\w*|raft\\w*|ship|sail\\w*|row\\w*|paddl\\w*",
    "guitar": "guitar\\w*|band|music\\w*|instrument\\w*|concert",
    "snow": "snow\\w*|ski\\w*|sled\\w*|winter|ice|icy",
}
RARE = frozenset({"horse", "bird", "boat", "guitar", "surfboard", "skateboard"})
"""Missing from so many photos that "no" would be learned by heart."""
VERB = re.compile(
    rf"\b(?:a|an|the|one)(?: \w+){{0,2}}? ({WHO})(?: is)?"
    r" ((?:\w+ing) (?:[a-z' -]+?))(?= while| and|[.,;]|$)"
)
COLORED = re.compile(
    r"\b(?:a|an|the|his|her|its|in|wearing|with)(?: \w+)??"
    rf" ((?:(?:{'|'.join(COLORS)})(?: and )?)+) ({THINGS})\b"
)
PLACE = re.compile(rf"\b((?:on|in|through|at|along|down|across|by|near) (?:the|a)(?: \w+)? (?:{PLACES}))\b")
NO_VERBS = frozenset(
    {"wearing", "being", "having", "looking", "something", "nothing", "evening", "morning", "building"}
)


@dataclass(frozen=True)
class Made:
    """A made question with a whole answer and a short one."""

    question: str
    answer: str
    short: str


def questions_of(captions: Sequence[str]) -> list[Made]:
    """All questions that the captions of one photo answer."""
    plain = [caption.lower().rstrip(" .!") for caption in captions]
    if len(plain) < 2:
        return []
    return [*_colors(plain), *_counts(plain), *_actions(plain), *_places(plain), *_presence(plain)]


def choose(captions: Sequence[str], chance: random.Random, count: int) -> list[Made]:
    """At most `count` of them, and in two of five cases one about something that is missing."""
    made = questions_of(captions)
    missing = [item for item in made if item.answer.startswith("No, I don't see")]
    there = [item for item in made if item not in missing]
    chosen = chance.sample(there, min(count, len(there)))
    return chosen + (chance.sample(missing, 1) if missing and chance.random() < 0.4 else [])


def _colors(captions: Sequence[str]) -> list[Made]:
    seen: dict[str, Counter[str]] = {}
    for caption in captions:
        for colors, thing in COLORED.findall(caption):
            seen.setdefault(thing, Counter())[colors.strip().removesuffix(" and")] += 1
    made = []
    for thing, counts in seen.items():
        if len(counts) > 1 or (thing == "dog" and any("two dogs" in item or "dogs" in item for item in captions)):
            continue  # two colours may be two things
        color = next(iter(counts))
        are = "are" if thing.endswith(("shorts", "pants")) else "is"
        it = "They are" if are == "are" else "It is"
        made.append(Made(f"What color {are} the {thing}?", f"{it} {color}.", color))
        made.append(Made(f"What colour {are} the {thing}?", f"The {thing} {are} {color}.", color))
        made.append(Made(f"{are.capitalize()} the {thing} {color}?", f"Yes, {it.lower()} {color}.", "yes"))
        other = COLORS[(COLORS.index(color.split()[0]) + len(thing)) % len(COLORS)]
        if other not in color and (other, color) != ("golden", "brown"):
            made.append(Made(f"{are.capitalize()} the {thing} {other}?", f"No, {it.lower()} {color}.", "no"))
    return made


def _counts(captions: Sequence[str]) -> list[Made]:
    made = []
    for plural, single in PLURALS.items():
        numbers = Counter(
            match
            for caption in captions
            for match in re.findall(rf"\b({'|'.join(NUMBERS)})(?: \w+)?? {plural}\b", caption)
        )
        if len(numbers) == 1 and numbers.total() >= 2:
            number = next(iter(numbers))
            made.append(Made(f"How many {plural} are there?", f"There are {number} {plural}.", number))
            made.append(Made(f"How many {plural} do you see?", f"I see {number} {plural}.", number))
        alone = sum(bool(re.search(rf"\b(?:a|an|the|one)(?: \w+){{0,2}}? {single}\b", item)) for item in captions)
        many = any(
            re.search(rf"\b{plural}\b|\banother\b|\bother\b|\btwo\b|\bgroup\b|\b\w+s {single}", item)
            for item in captions
        )
        if alone >= 3 and not many:
            made.append(Made(f"How many {plural} are there?", f"There is one {single}.", "one"))
    return made


def _actions(captions: Sequence[str]) -> list[Made]:
    made = []
    for caption in captions:
        for who, action in VERB.findall(caption):
            verb = action.split()[0]
            if verb in NO_VERBS or len(action.split()) > 8:
                continue
            subject = PRONOUNS.get(who, "It" if who == "dog" else f"The {who}")
            made.append(Made(f"What is the {who} doing?", f"{subject} is {action.strip()}.", verb))
    return made


def _places(captions: Sequence[str]) -> list[Made]:
    places = [match for caption in captions for match in PLACE.findall(caption)]
    nouns = Counter(place.split()[-1] for place in places)
    agreed = [place for place in places if nouns[place.split()[-1]] >= 2]
    who = Counter(word for caption in captions for word in re.findall(rf"\b({WHO})\b", caption)).most_common(1)
    if not agreed or not who:
        return []
    subject = who[0][0]
    said = PRONOUNS.get(subject, "It" if subject == "dog" else f"The {subject}")
    place = min(agreed, key=len)
    return [
        Made(f"Where is the {subject}?", f"{said} is {place}.", place.split()[-1]),
        Made("Where was this taken?", f"It was taken {place}.", place.split()[-1]),
    ]


def _presence(captions: Sequence[str]) -> list[Made]:
    made = []
    for thing, pattern in SALIENT.items():
        there = sum(bool(re.search(rf"\b{thing}s?\b", caption)) for caption in captions)
        name = thing if thing == "snow" else f"a {thing}"
        if there >= 2:
            made.append(Made(f"Is there {name} in the picture?", f"Yes, I see {name}.", "yes"))
            made.append(Made(f"Do you see {name}?", f"Yes, there is {name}.", "yes"))
        elif thing not in RARE and not any(re.search(rf"\b(?:{pattern})\b", caption) for caption in captions):
            made.append(Made(f"Is there {name}?", f"No, I don't see {name}.", "no"))
    return made
