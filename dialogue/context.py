"""A session and its next turn -> LangChain messages that fit a budget; pictures go by reference (their sha256).

Knows no store and no model. A person's message is a list of blocks: the pictures, then the text.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from visavis.dialogue.events import TurnCompleted
from visavis.dialogue.picture_references import named_pictures
from visavis.dialogue.turns import Exchange, Region, Session, Turn

CONTEXT_TOKENS = 2_048
DESCRIBE = "Describe the picture."  # what a picture without words asks


@dataclass(frozen=True)
class Budget:
    """How much a model is shown: tokens in all, question-answer pairs of the history, and pictures beside those that a
    turn is about. `image_tokens` is what a picture costs until a model has said it. The operator's `instructions` come
    first of all, for models that take them. A model with `context_tokens` of its own gets so many.
    """

    exchanges: int = 8
    tokens: int = CONTEXT_TOKENS
    images: int = 4
    image_tokens: int = 257
    instructions: str = ""

    def of(self, model: object) -> "Budget":
        """This, as far as the model does not say otherwise."""
        return replace(self, tokens=getattr(model, "context_tokens", None) or self.tokens)


@dataclass(frozen=True, slots=True)
class Context:
    """What the model gets; `images` are those that the turn is about, `left_out` the loaded turns that did not fit."""

    messages: list[BaseMessage]
    images: tuple[str, ...]
    left_out: tuple[str, ...]


def build_messages(session: Session, turn: Turn, budget: Budget) -> Context:
    """The latest exchanges that fit, then `turn`, about the pictures that it means (see `meant_pictures`).

    Every picture is shown where it came up, so that what was said about it follows it.
    """
    # What failed or was stopped before a word is no part of the talk.
    exchanges = [one for one in session.exchanges if one.answer.text]
    images = turn.about or meant_pictures(session, turn)
    image_tokens = _image_tokens(exchanges, budget)
    left = budget.tokens - _text_tokens(turn.text + budget.instructions) - len(images) * image_tokens
    kept = _fit(exchanges, budget.exchanges, left)
    left -= sum(map(_exchange_tokens, kept))
    carrier = _carrier(session, turn, images, kept)
    spare = min(budget.images - (0 if carrier is turn else len(images)), left // max(1, image_tokens))
    shown = _shown_images(kept, images, spare) | dict.fromkeys(images, carrier.id)
    messages: list[BaseMessage] = [SystemMessage(content=budget.instructions)] if budget.instructions else []
    for one in kept:
        own = images if one.question is carrier else one.question.images
        here = tuple(image for image in own if shown.get(image) == one.question.id)
        messages += [_user_message(one.question, here), AIMessage(content=one.answer.text)]
    messages.append(_user_message(turn, images if turn is carrier else ()))
    left_out = tuple(one.question.id for one in exchanges[: len(exchanges) - len(kept)])
    return Context(messages, images, left_out)


def meant_pictures(session: Session, turn: Turn) -> tuple[str, ...]:
    """The pictures a turn is about; of several the last is the one to look at.

    The one that it points into; those that its words name by their places; its own; else those that were talked about
    last.
    """
    if turn.region is not None:
        return (*(image for image in turn.images if image != turn.region.image), turn.region.image)
    groups = [*session.shown, *([turn.images] if turn.images else [])]
    before = next(iter(reversed(_talked_about(session))), session.newest_images)
    named = named_pictures(turn.text, groups, turn.images or before)
    if named:  # "compare it with the first one" is about one's own as well
        return (*(image for image in named if image not in turn.images), *turn.images) if _adds(turn, named) else named
    return turn.images or before


def _adds(turn: Turn, named: Sequence[str]) -> bool:
    return bool(turn.images) and not set(named) & set(turn.images)


def _talked_about(session: Session) -> list[tuple[str, ...]]:
    """What each of the latest exchanges was about, oldest first; empty where nothing had been shown."""
    found: list[tuple[str, ...]] = []
    for one in session.exchanges:
        found.append(one.question.about or one.question.images or (found[-1] if found else session.newest_images))
    return found


def _carrier(session: Session, turn: Turn, images: tuple[str, ...], kept: list[Exchange]) -> Turn:
    """The turn whose message shows the pictures: `turn`, or the earliest kept one since which all talk was about them
    (the turn that showed them may have failed, or be out of the window)."""
    if turn.images or turn.region:
        return turn
    since: set[str] = set()
    for one, about in zip(reversed(session.exchanges), reversed(_talked_about(session)), strict=True):
        if about != images:
            break
        since.add(one.question.id)
    return next((one.question for one in kept if one.question.id in since), turn)


def _fit(exchanges: list[Exchange], most: int, tokens: int) -> list[Exchange]:
    kept: list[Exchange] = []
    for one in reversed(exchanges[-most:] if most else []):
        tokens -= _exchange_tokens(one)
        if tokens < 0:
            break
        kept.insert(0, one)
    return kept


def _image_tokens(exchanges: list[Exchange], budget: Budget) -> int:
    """What a picture cost the model when it last looked at some."""
    for one in reversed(exchanges):
        final = one.answer.final
        looked_at = 0 if not isinstance(final, TurnCompleted) else final.usage.images or len(one.answer.images) == 1
        if isinstance(final, TurnCompleted) and looked_at and final.usage.image_tokens:
            return final.usage.image_tokens // looked_at
    return budget.image_tokens


def _exchange_tokens(one: Exchange) -> int:
    return _text_tokens(one.question.text) + _text_tokens(one.answer.text)


def _text_tokens(text: str) -> int:
    """A guess for any vocabulary: about four bytes a token, and what stands between messages."""
    return 4 + len(text.encode("utf-8", "replace")) // 4


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
