"""A session and its next turn -> LangChain messages that fit a budget; pictures go by reference (their sha256).

Knows no store and no model. A person's message is a list of blocks: the pictures, then the text.
"""

from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from visavis.dialogue.turns import Exchange, Region, Session, Turn

DESCRIBE = "Describe the picture."  # what a picture without words asks


@dataclass(frozen=True)
class Budget:
    """How much of the history a model is shown: question-answer pairs, their characters, and pictures among them."""

    exchanges: int = 8
    characters: int = 4_000
    images: int = 4


@dataclass(frozen=True, slots=True)
class Context:
    """What the model gets; `images` are those that the turn is about, `left_out` the loaded turns that did not fit."""

    messages: list[BaseMessage]
    images: tuple[str, ...]
    left_out: tuple[str, ...]


def build_messages(session: Session, turn: Turn, budget: Budget) -> Context:
    """The latest exchanges that fit, then `turn`; without pictures of its own it is about the newest of the session.

    Every picture is shown where it came up, so that what was said about it follows it.
    """
    # What failed or was stopped before a word is no part of the talk.
    exchanges = [one for one in session.exchanges if one.answer.text]
    kept = _fit(exchanges, budget)
    images = _meant_images(session, turn)
    carrier = _carrier(session, turn, kept)
    spare = budget.images - (0 if carrier is turn else len(images))
    shown = _shown_images(kept, images, spare) | dict.fromkeys(images, carrier.id)
    messages: list[BaseMessage] = []
    for one in kept:
        own = images if one.question is carrier else one.question.images
        here = tuple(image for image in own if shown.get(image) == one.question.id)
        messages += [_user_message(one.question, here), AIMessage(content=one.answer.text)]
    messages.append(_user_message(turn, images if turn is carrier else ()))
    left_out = tuple(one.question.id for one in exchanges[: len(exchanges) - len(kept)])
    return Context(messages, images, left_out)


def _meant_images(session: Session, turn: Turn) -> tuple[str, ...]:
    """The pictures a turn is about; the one that it points into comes last: that is the one to look at."""
    if turn.region is None:
        return turn.images or session.newest_images
    return (*(image for image in turn.images if image != turn.region.image), turn.region.image)


def _carrier(session: Session, turn: Turn, kept: list[Exchange]) -> Turn:
    """The turn whose message shows the pictures: `turn` with its own, else the earliest kept one that came with or
    after the newest (the turn that showed them may have failed, or be out of the window)."""
    if turn.images or turn.region:
        return turn
    questions = [one.question for one in session.exchanges]
    shown_at = max((i for i, question in enumerate(questions) if question.images == session.newest_images), default=0)
    since = {question.id for question in questions[shown_at:]}
    return next((one.question for one in kept if one.question.id in since), turn)


def _fit(exchanges: list[Exchange], budget: Budget) -> list[Exchange]:
    kept: list[Exchange] = []
    characters = 0
    for one in reversed(exchanges[-budget.exchanges :] if budget.exchanges else []):
        characters += len(one.question.text) + len(one.answer.text)
        if characters > budget.characters:
            break
        kept.insert(0, one)
    return kept


def _shown_images(kept: list[Exchange], images: tuple[str, ...], most: int) -> dict[str, str]:
    """At most `most` pictures beside `images` -> the turn of the history that shows them, their latest one."""
    shown: dict[str, str] = {}
    for one in reversed(kept):
        for image in one.question.images:
            if image not in images and len(shown) < most:
                shown.setdefault(image, one.question.id)
    return shown


def _user_message(turn: Turn, images: tuple[str, ...]) -> HumanMessage:
    text = turn.text or DESCRIBE
    if not images:
        return HumanMessage(content=text)
    return HumanMessage(
        content=[*(_image_block(image, turn.region) for image in images), {"type": "text", "text": text}]
    )


def _image_block(image: str, region: Region | None) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "image", "file_id": image}
    if region is not None and region.image == image:
        fractions = asdict(region)
        fractions.pop("image")
        block["extras"] = {"region": fractions}
    return block
