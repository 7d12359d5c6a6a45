"""Captions of many photos in process, one result after another; a bad photo does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from visavis.bot.local_chat import LocalConversation, MemoryImages, open_engine
from visavis.bot.settings import Settings
from visavis.dialogue.errors import DialogueError, ErrorCode

Result = dict[str, Any]


async def captions(settings: Settings, photos: Sequence[Path], show: Callable[[Result], None]) -> bool:
    """Give `{image, caption, confidence}` or `{image, error: {code, message}}` for every photo; True if all went well.

    Raises:
        ModelNotFound, ModelError: the model cannot be used at all.
    """
    images = MemoryImages(settings.limits.image)
    all_well = True
    with open_engine(settings) as engine:
        for photo in photos:
            images.clear()
            result = await _caption(LocalConversation(engine, images), photo)
            all_well &= "error" not in result
            show(result)
    return all_well


async def _caption(conversation: LocalConversation, photo: Path) -> Result:
    try:
        pieces = [piece async for piece in conversation.ask("", [conversation.images.add(photo)])]
    except OSError as error:
        return {"image": str(photo), "error": {"code": ErrorCode.BAD_IMAGE, "message": f"{error.strerror}."}}
    except DialogueError as error:
        return {"image": str(photo), "error": {"code": error.code, "message": str(error)}}
    confidence = conversation.last.confidence if conversation.last else None
    return {"image": str(photo), "caption": "".join(pieces).strip(), "confidence": confidence}
