"""A conversation of ours -> messages that a model of somebody else's can read.

Pictures go as bytes, since nobody else can fetch them; a part that is pointed at goes along as a picture of its own.
Knows no providers.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from visavis.bot.providers.failures import TakesNoPictures
from visavis.models.chat_model import ImageSource
from visavis.models.images import cut_out, decode_picture

_UNSEEN = "(a picture that you cannot see)"
_PART = "The question is about this part of the picture:"
Block = dict[str, Any]


async def readable(
    messages: Sequence[BaseMessage], images: ImageSource | None, region: Mapping[str, float] | None, *, pictures: bool
) -> list[BaseMessage]:
    """The messages with the bytes of their pictures; without `pictures`, with a note in the place of older ones.

    Raises:
        TakesNoPictures: the last message shows one, without `pictures`.
    """
    if not pictures and messages and _shows(messages[-1]):
        raise TakesNoPictures
    last = len(messages) - 1
    return [
        await _message(message, images, region if number == last else None, pictures=pictures)
        for number, message in enumerate(messages)
    ]


def without_system(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The same for models that know no system prompts: its words begin the next message of the user."""
    kept: list[BaseMessage] = []
    words: list[Block] = []
    for message in messages:
        if isinstance(message, SystemMessage):
            words.append({"type": "text", "text": str(message.text)})
        elif words and isinstance(message, HumanMessage):
            kept.append(HumanMessage(content=[*words, *_blocks(message)]))
            words = []
        else:
            kept.append(message)
    return kept


async def _message(
    message: BaseMessage, images: ImageSource | None, region: Mapping[str, float] | None, *, pictures: bool
) -> BaseMessage:
    if not isinstance(message, HumanMessage) or not _shows(message):
        return AIMessage(content=str(message.text)) if isinstance(message, AIMessage) else message
    blocks: list[str | dict[Any, Any]] = []
    for block in _blocks(message):
        if block.get("type") not in ("image", "image_url"):
            blocks.append(block)
        elif pictures:
            blocks += await _picture(block, images, region)
        else:
            blocks.append({"type": "text", "text": _UNSEEN})
    return HumanMessage(content=blocks)


async def _picture(block: Block, images: ImageSource | None, region: Mapping[str, float] | None) -> list[Block]:
    if (sha256 := block.get("file_id")) is None:
        encoded = block.get("base64")
        if encoded is None:
            return [block]
        data = base64.b64decode(encoded)
    else:
        if images is None:
            raise ValueError("a picture was named by its id, and there is nowhere to read it from")
        data = await images.read(sha256)
    extras = block.get("extras")
    region = region or (extras.get("region") if isinstance(extras, Mapping) else None)
    if region is None:
        return [_block(data)]
    part = await asyncio.to_thread(_cut_out, data, *(float(region[side]) for side in ("x", "y", "w", "h")))
    return [_block(data), {"type": "text", "text": _PART}, _block(part)]


def _cut_out(data: bytes, x: float, y: float, w: float, h: float) -> bytes:
    part = io.BytesIO()
    cut_out(decode_picture(data), x, y, w, h).save(part, "JPEG", quality=90)
    return part.getvalue()


def _block(data: bytes) -> Block:
    mime = "image/png" if data.startswith(b"\x89PNG") else "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"
    return {"type": "image", "base64": base64.b64encode(data).decode("ascii"), "mime_type": mime}


def _blocks(message: BaseMessage) -> list[Block]:
    content = message.content if isinstance(message.content, list) else [message.content]
    return [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]


def _shows(message: BaseMessage) -> bool:
    return any(block.get("type") in ("image", "image_url") for block in _blocks(message))
