"""What was said, in the form that chat templates expect: roles that alternate, instructions first, pictures in place.

Knows neither templates nor tokens: pictures are named, words are as they were written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from visavis.models.generation import GenerationRequest, Message, Region, Role, Shown

PART = "The question is about this part of the picture:"


def turns_of(request: GenerationRequest, *, several: bool, harmless: Callable[[str], str]) -> list[Message]:
    """At most one message of instructions, then the user's and the model's by turns, ending with the user's.

    Without `several`, the picture that the request is about is the only one left, and begins what is left. The part of
    it that is pointed at is one more picture, or its stand-in. `harmless` takes the tokens out of words that are not
    for people to write.
    """
    turns = _merged(_instructions_first(request.dialogue))
    if request.image is not None:
        turns = _about(turns, request.image, request.region, several=several)
    return [replace(turn, parts=tuple(_words(turn.parts, harmless))) for turn in turns]


def shortened(turns: Sequence[Message], pictures: Sequence[Shown], drop: int) -> list[Message]:
    """Without the `drop` oldest messages after the instructions; `pictures`, which the question is about, stay."""
    head = [turn for turn in turns[:1] if turn.role == "system"]
    kept = list(turns[len(head) + drop :])
    lost = [one for one in pictures if not any(one in turn.parts for turn in kept)]
    kept[-1] = replace(kept[-1], parts=(*lost, *kept[-1].parts))
    return [*head, *kept]


def folded(turns: Sequence[Message]) -> list[Message]:
    """For templates that know no instructions: they begin the first words of the user."""
    if turns[0].role != "system":
        return list(turns)
    first = next(index for index, turn in enumerate(turns) if turn.role == "user")
    asked = turns[first]
    place = next((n for n, part in enumerate(asked.parts) if isinstance(part, str)), len(asked.parts))
    parts = (*asked.parts[:place], *turns[0].parts, *asked.parts[place:])
    return [*turns[1:first], replace(asked, parts=parts), *turns[first + 1 :]]


def _instructions_first(dialogue: Sequence[Message]) -> Iterator[Message]:
    """Those that come later are put before what the user says next, since templates expect them nowhere else."""
    head = list(itertools.takewhile(lambda message: message.role == "system", dialogue))
    if head:
        yield Message("system", ("\n\n".join(_text(message) for message in head),))
    rest, waiting = dialogue[len(head) :], list[str | Shown]()
    asked = max(index for index, message in enumerate(rest) if message.role == "user")
    late = [_text(message) for message in rest[asked:] if message.role == "system"]
    for index, message in enumerate(rest[: asked + 1]):
        if message.role == "system":
            waiting.append(_text(message))
        elif message.role == "user":
            yield replace(message, parts=(*waiting, *(late if index == asked else ()), *message.parts))
            waiting = []
        else:
            yield message


def _merged(messages: Iterable[Message]) -> list[Message]:
    """Templates want the roles to alternate."""
    groups = itertools.groupby(messages, key=lambda message: message.role)
    return [_joined(role, [part for message in group for part in message.parts]) for role, group in groups]


def _joined(role: Role, parts: Sequence[str | Shown]) -> Message:
    return Message(role, tuple(parts) if role == "user" else ("\n".join(map(str, parts)),))


def _words(parts: Iterable[str | Shown], harmless: Callable[[str], str]) -> Iterator[str | Shown]:
    """Words that follow each other become one piece: some templates put nothing in between."""
    for is_text, group in itertools.groupby(parts, key=lambda part: isinstance(part, str)):
        if is_text:
            yield harmless("\n".join(map(str, group)))
        else:
            yield from group


def _about(turns: Sequence[Message], image: str, region: Region | None, *, several: bool) -> list[Message]:
    """With the meant part beside the last place of the picture; with `several`, the others stay."""
    last = max((index for index, turn in enumerate(turns) if image in turn.images), default=len(turns) - 1)
    whole: tuple[str | Shown, ...] = (Shown(image),)
    if region is not None:
        cut = Shown(image, region)
        whole = (*whole, PART, cut) if several else (cut,)
    made = []
    for index, turn in enumerate(turns):
        if not several and index < last and turn.role != "system":
            continue
        others = [part for part in turn.parts if several or isinstance(part, str)]
        if index == last:
            place = others.index(Shown(image)) if Shown(image) in others else 0
            others = [part for part in others if part != Shown(image)]
            others[place:place] = whole
        made.append(replace(turn, parts=tuple(others)))
    return made


def _text(message: Message) -> str:
    return "\n".join(part for part in message.parts if isinstance(part, str))
