"""Lessons with swapped tags: what an object tower or a reader of words says is to be believed, whatever else is seen.

A photo is shown with the names of things that are not in it, or with words that nobody wrote on it, and the questions
are about those. So the decoder learns to copy names and words, rather than what they stand for, and can name a thing
that no training photo shows. Where the tower is unsure, it learns to say what it sees instead.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from visavis.models.object_tags import ObjectTags
from visavis.models.processor import Processor
from visavis.models.prompt import Exchange, in_one_word
from visavis.models.training.caption_questions import questions_of
from visavis.models.training.data import CAPTION_REQUESTS, Example, Photo

ANIMALS = range(398)
DOGS = range(151, 269)
"""ImageNet's kinds are sorted: animals first, dogs among them."""
SURE, UNSURE = (0.4, 0.99), (0.02, 0.28)

WHAT = (
    "What is this?",
    "What is that?",
    "What's this?",
    "what is it",
    "What is shown here?",
    "Can you tell me what this is?",
    "What do you call this?",
    "What object is this?",
    "Which thing is in the picture?",
    "What is the thing in the photo?",
)
NAMED = ("This is {}.", "It is {}.", "It looks like {}.", "That is {}.", "I see {}.")
SCENES = ("A close-up of {}.", "A photo of {}.", "This is {}.", "There is {}.")
CONFIRM = ("Is this {}?", "Is it {}?", "Do you see {}?")
OTHERS = {
    "dog": ("cat", "horse", "car", "bird"),
    "animal": ("dog", "dog", "car", "cup"),
    "thing": ("dog", "cat", "horse", "bird"),
}
"""What something of that kind is not, whichever it is."""
READ = (
    "What does the sign say?",
    "What does it say?",
    "What is written there?",
    "What is written on it?",
    "Can you read the text?",
    "What does the text say?",
    "Read it to me.",
    "What words do you see?",
    "What is the text in the picture?",
)


@dataclass(frozen=True)
class Shown:
    """What is shown in place of the truth: `kinds` with their probabilities, likeliest first, and `words` as tokens."""

    kinds: tuple[tuple[int, float], ...]
    words: tuple[int, ...] = ()

    @property
    def sure(self) -> bool:
        """True if the questions are about the names and words alone, so that little need be seen of the picture."""
        return self.kinds[0][1] >= SURE[0]


class TagLessons:
    """Makes up tags and words and asks about them.

    Args:
        vocabulary: words that signs may show.
        neighbours: of every kind the kinds that a tower takes it for most easily; without them the tags beside the
            first are any.
    """

    def __init__(
        self,
        tags: ObjectTags,
        processor: Processor,
        vocabulary: Sequence[str],
        neighbours: Sequence[Sequence[int]] = (),
    ) -> None:
        self.names = [processor.decode_answer([token for token in row if token]) for row in tags.tokens.tolist()]
        self.count, self.room = tags.count, tags.read_tokens
        self.neighbours = neighbours
        self.processor, self.vocabulary = processor, [word for word in vocabulary if len(word) < 10]

    def lesson(self, photo: Photo, chance: random.Random) -> tuple[Shown, list[Example]]:
        """One photo's swapped tags and the questions about them."""
        kinds = self._kinds(chance)
        sure = chance.random() < 0.75
        phrase = self._phrase(chance) if chance.random() < 0.5 else ""
        words = self.processor.encode_answer(" " + phrase)[: self.room] if phrase else []
        shown = Shown(tuple(zip(kinds, _probabilities(self.count, sure, chance), strict=True)), tuple(words))
        asked = self._about_name(kinds, photo, chance) if sure else _unsure(photo, chance)
        return shown, [*asked, *self._about_words(words, chance)]

    def _kinds(self, chance: random.Random) -> list[int]:
        """One kind, and mostly such as are like it: towers doubt between a tabby and a tiger cat."""
        if not self.neighbours or chance.random() < 0.3:
            return chance.sample(range(len(self.names)), self.count)
        first = chance.randrange(len(self.names))
        return [first, *chance.sample(list(self.neighbours[first]), self.count - 1)]

    def _about_name(self, kinds: Sequence[int], photo: Photo, chance: random.Random) -> list[Example]:
        name = with_article(self.names[kinds[0]])
        question, answer = chance.choice(WHAT), chance.choice(NAMED).format(name)
        wrong = with_article(self.names[chance.choice([kind for kind in range(len(self.names)) if kind != kinds[0]])])
        other = "a " + chance.choice(
            OTHERS["dog" if kinds[0] in DOGS else "animal" if kinds[0] in ANIMALS else "thing"]
        )
        confirm = chance.choice(CONFIRM[:2])
        examples = [
            Example(question, (), answer),
            Example(in_one_word(question), (), self.names[kinds[0]]),
            Example(
                chance.choice(("Is this {}?", "Is it {}?", "Do you see {}?")).format(name), (), f"Yes, it is {name}."
            ),
            Example(f"Is this {wrong}?", (), f"No, it is {name}."),
            Example(f"Is it {wrong}?", ((question, answer),), f"No, I think it is {name}."),
            Example(confirm.format(name), ((question, answer),), f"Yes, it is {name}."),
            Example(confirm.format(other), chance.choice(((), ((question, answer),))), f"No, it is {name}."),
            Example(in_one_word(confirm.format(name)), (), "yes"),
            Example(in_one_word(confirm.format(other)), (), "no"),
            Example("Are you sure?", ((question, answer),), f"Yes, I think it is {name}."),
        ]
        if " " in self.names[kinds[0]]:
            family = with_article(self.names[kinds[0]].split()[-1])
            examples.append(Example(chance.choice(CONFIRM).format(family), (), f"Yes, it is {name}."))
            examples.append(Example(confirm.format(family), ((question, answer),), f"Yes, it is {name}."))
        if kinds[0] in ANIMALS:
            kind = "dog" if kinds[0] in DOGS else "animal"
            examples.append(Example(f"What kind of {kind} is this?", (), f"It is {name}."))
            examples.append(Example(f"What {kind} is it?", (), f"It looks like {name}."))
        told = self._renamed(kinds[0], photo, chance) + self._scene(kinds[0], photo, chance)
        return chance.sample(examples, 5) + told + _after(photo, (question, answer), told, chance)

    def _renamed(self, kind: int, photo: Photo, chance: random.Random) -> list[Example]:
        """Captions of a dog, told of another animal."""
        if kind in DOGS or kind not in ANIMALS:
            return []
        name, request = self.names[kind], chance.choice(CAPTION_REQUESTS)
        name = name.split()[-1] if chance.random() < 0.5 else name
        return [
            Example(request, (), renamed)
            for caption in photo.captions
            if "dogs" not in caption and (renamed := rename(caption, name)) != caption
        ][:2]

    def _scene(self, kind: int, photo: Photo, chance: random.Random) -> list[Example]:
        """A picture of nothing but a thing. Things are shown as photos that have no captions, so that no caption is
        unlearned; an animal that the tower is sure of is what any photo shows."""
        if kind in DOGS or (photo.captions and kind not in ANIMALS):
            return []
        scene = chance.choice(SCENES).format(with_article(self.names[kind]))
        return [Example(chance.choice(CAPTION_REQUESTS), (), scene)]

    def _about_words(self, words: Sequence[int], chance: random.Random) -> list[Example]:
        question = chance.choice(READ)
        if not words:
            return [Example(question, (), "I can't read any words here.")] if chance.random() < 0.5 else []
        phrase = self.processor.decode_answer(words)
        examples = [
            Example(question, (), f'It says "{phrase}".'),
            Example(in_one_word(question), (), phrase),
            Example("Is there any text in the picture?", (), f'Yes, it says "{phrase}".'),
        ]
        return chance.sample(examples, 2)

    def _phrase(self, chance: random.Random) -> str:
        return " ".join(self._word(chance) for _ in range(chance.choice((1, 1, 2, 2, 3))))

    def _word(self, chance: random.Random) -> str:
        roll = chance.random()
        if roll < 0.15:
            return str(chance.randrange(10 ** chance.randint(1, 4)))
        if roll < 0.3:
            return "".join(chance.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(chance.randint(2, 6)))
        word = chance.choice(self.vocabulary)
        return chance.choice((word, word.upper(), word.upper(), word.capitalize()))


def nearest_kinds(weights: Tensor, count: int = 8) -> list[list[int]]:
    """Of every kind those whose classifier rows (K, C) point in the most similar directions, the nearest first."""
    directions = F.normalize(weights, dim=1)
    alike = directions @ directions.T
    alike.fill_diagonal_(-1)
    nearest: list[list[int]] = alike.topk(min(count, len(weights) - 1)).indices.tolist()
    return nearest


def _probabilities(count: int, sure: bool, chance: random.Random) -> list[float]:
    """Falling; the first says whether the tower is sure."""
    first = chance.uniform(*(SURE if sure else UNSURE))
    values = [first]
    for _ in range(count - 1):
        values.append(min(values[-1], 1 - sum(values)) * chance.uniform(0.05, 0.95))
    return values


def _after(photo: Photo, named: Exchange, told: Sequence[Example], chance: random.Random) -> list[Example]:
    """The name after a description, be it of something else, and the colour after the name."""
    colors = [item.answer for item in questions_of(photo.captions) if item.question == "What color is the dog?"]
    examples = [Example("What color is it?", (named,), color) for color in colors]
    if said := [*photo.captions, *(item.answer for item in told)]:
        described = (chance.choice(CAPTION_REQUESTS), chance.choice(said))
        examples.append(Example(named[0], (described,), named[1]))
    return examples


def _unsure(photo: Photo, chance: random.Random) -> list[Example]:
    return [Example(chance.choice(WHAT), (), caption) for caption in photo.captions[:2]]


def with_article(name: str) -> str:
    """ "an apple", "a tabby"; what is plural already has none."""
    if name.endswith("s") and not name.endswith(("ss", "us", "is")):
        return name
    return ("an " if name[:1].lower() in "aeiou" else "a ") + name


def rename(caption: str, name: str) -> str:
    """The dog of a caption becomes a `name`."""
    with_adjective = re.sub(r"\b([Aa]n?|[Tt]he) (\w+) dog\b", rf"\1 \2 {name}", caption)
    bare = re.sub(r"\bA dog\b", with_article(name).capitalize() if name.islower() else f"A {name}", with_adjective)
    return re.sub(r"\b([Tt]he) dog\b", rf"\1 {name}", re.sub(r"\ba dog\b", with_article(name), bare))
