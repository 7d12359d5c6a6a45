"""Which pictures a turn is about, when it takes more than the turn's own words to know: "the one with the dog".

The chat model's optional `likeness(text, images)` tells how well the description fits each picture (the softmax of its
numbers says which one is meant; nothing if it cannot tell). Where that does not help, the description is compared with
what was said about each picture, then with what the model says that it shows; such captions are kept with the picture.
Any chat model will do.
"""

import asyncio
import logging
import math
from contextlib import aclosing
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from visavis.dialogue.context import DESCRIBE, meant_pictures
from visavis.dialogue.picture_references import best_match, described_picture, named_pictures
from visavis.dialogue.store_images import ImageStore
from visavis.dialogue.turns import Session, Turn

logger = logging.getLogger(__name__)

_CANDIDATES = 8  # the newest: each may cost the model a caption
_CLEAR = 0.5  # the likest picture is meant if it is likelier than all others together


async def choose_pictures(session: Session, turn: Turn, model: BaseChatModel, images: ImageStore) -> tuple[str, ...]:
    """The pictures a turn is about; of several the last is the one to look at.

    Raises:
        StoreUnavailable. What the model fails to caption is not found by its description.
    """
    groups = [*session.shown, *([turn.images] if turn.images else [])]
    shown = list(dict.fromkeys(image for group in groups for image in group))[-_CANDIDATES:]
    what = described_picture(turn.text)
    if not what or len(shown) < 2 or turn.region is not None or named_pictures(turn.text, groups):
        return meant_pictures(session, turn)
    found = await _likest(what, shown, model) or best_match(what, _said_about(session, shown))
    if found is None:
        captions = await asyncio.gather(*(_caption(image, model, images) for image in shown))
        found = best_match(what, dict(zip(shown, captions, strict=True)))
    return meant_pictures(session, turn) if found is None else (found,)


async def _likest(what: str, shown: list[str], model: BaseChatModel) -> str | None:
    likeness: Any = getattr(model, "likeness", None)
    try:
        logits = await likeness(what, shown) if likeness is not None else ()
    except Exception:  # the edge to any model: there are other ways to find out
        logger.warning("pictures could not be compared with a description", exc_info=True)
        return None
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return next((image for image, weight in zip(shown, weights, strict=False) if weight > _CLEAR * sum(weights)), None)


def _said_about(session: Session, shown: list[str]) -> dict[str, str]:
    """What answers said about each picture, and questions that were answered by yes."""
    said: dict[str, list[str]] = {image: [] for image in shown}
    for one in session.exchanges:
        answer = one.answer.text.casefold()
        for image in one.answer.images:
            if image in said and not answer.startswith("no"):
                said[image] += [answer, one.question.text] if answer.startswith("yes") else [answer]
    return {image: " ".join(texts) for image, texts in said.items()}


async def _caption(image: str, model: BaseChatModel, images: ImageStore) -> str:
    caption = await images.caption(image)
    if caption is not None:
        return caption
    question = HumanMessage(content=[{"type": "image", "file_id": image}, {"type": "text", "text": DESCRIBE}])
    pieces = []
    try:
        async with aclosing(cast(Any, model.astream([question]))) as chunks:
            async for chunk in chunks:
                pieces.append(str(chunk.text))
    except Exception:  # the edge to any model: the turn itself goes on without
        logger.warning("a picture could not be captioned", exc_info=True)
        return ""
    await images.set_caption(image, "".join(pieces))
    return "".join(pieces)
