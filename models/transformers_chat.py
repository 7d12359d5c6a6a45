"""A chat as transformers' pipelines write it -> the question, what was said before, and the picture that is meant.

The rules are those of `read_conversation`; here stands only what transformers' form has of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from PIL import Image
from transformers.image_utils import load_image

from visavis.models.chat_messages import Conversation, read_conversation

_KINDS: Mapping[str, type[BaseMessage]] = {"user": HumanMessage, "assistant": AIMessage}
_PLACES = ("image", "url", "path", "base64", "image_url")


def read_chat(messages: Sequence[Mapping[str, Any]]) -> tuple[Conversation, Image.Image | None]:
    """`messages` have a `role` and a `content` of text or of parts; other roles than user and assistant are left out.

    Raises:
        BadRequest, TextTooLong: as `read_conversation`. What `load_image` raises on a picture.
    """
    pictures: list[Any] = []
    known = [message for message in messages if message["role"] in _KINDS]
    conversation = read_conversation([_message(message, pictures) for message in known])
    shown = None if conversation.image is None else load_image(pictures[int(conversation.image, 16)])
    return conversation, shown


def _message(message: Mapping[str, Any], pictures: list[Any]) -> BaseMessage:
    content = message.get("content") or ""
    parts: Any = content if isinstance(content, str) else [_part(part, pictures) for part in content]
    return _KINDS[message["role"]](content=parts)


def _part(part: Mapping[str, Any], pictures: list[Any]) -> dict[str, Any]:
    """A picture gets its number for a name, since these have no sha256 yet."""
    if part.get("type") not in ("image", "image_url"):
        return dict(part)
    place = next((part[name] for name in _PLACES if part.get(name) is not None), None)
    pictures.append(place["url"] if isinstance(place, Mapping) else place)
    return {"type": "image", "file_id": f"{len(pictures) - 1:064x}"}
