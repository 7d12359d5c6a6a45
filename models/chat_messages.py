"""LangChain messages to a generation request: which picture is meant, and what was said about it so far.

Pure functions without tensors and sockets. Pictures are named by sha256; bytes that come inside a message (base64) are
taken out and handed on beside the request.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from visavis.models.errors import BadImage, BadRequest
from visavis.models.generation import GenerationRequest, Message, Region, Role, SamplingParameters, Shown
from visavis.models.images import image_id
from visavis.models.prompt import CAPTION_PROMPT, Exchange
from visavis.models.replies import is_small_talk
from visavis.models.text_checks import bounded_text, printable_text

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")
_ROLES: Mapping[type[BaseMessage], Role] = {SystemMessage: "system", HumanMessage: "user", AIMessage: "assistant"}


@dataclass
class _Said:
    """The text of a message and its pictures; `region` is the part of the last one that is meant, `parts` is all as it
    was written."""

    text: str = ""
    images: list[str] = field(default_factory=list)
    region: Any = None
    parts: list[str | Shown] = field(default_factory=list)


@dataclass(frozen=True)
class Conversation:
    """A question as the messages put it, all that was said, and the bytes of pictures that came inside, by sha256."""

    question: str
    history: tuple[Exchange, ...]
    image: str | None
    inline: Mapping[str, bytes]
    region: Any = None
    dialogue: tuple[Message, ...] = ()

    def request(
        self, sampling: SamplingParameters, region: Region | None = None, deadline_s: float | None = None
    ) -> GenerationRequest:
        """The request that an engine takes."""
        asked = (self.question, self.history, self.image)
        return GenerationRequest(*asked, region, sampling, deadline_s, dialogue=self.dialogue)


def read_conversation(messages: Sequence[BaseMessage]) -> Conversation:
    """Read the last human message as the question.

    It is about the last picture in it, else about the newest picture shown before. The history holds what was said
    since that picture was shown, without small talk and turns without an answer. A picture without a text is described.
    The dialogue holds everything.

    Raises:
        BadRequest, TextTooLong, BadImage: a message does not have the expected form.
    """
    inline: dict[str, bytes] = {}
    read = [(message, _read(message, inline)) for message in messages if isinstance(message, tuple(_ROLES))]
    said = [one for one in read if not isinstance(one[0], SystemMessage)]
    if not said or not isinstance(said[-1][0], HumanMessage):
        raise BadRequest("the last message must be one of the user")
    question = said[-1][1]
    shown_at = max((index for index, (_, part) in enumerate(said) if part.images), default=None)
    image = None if shown_at is None else said[shown_at][1].images[-1]
    if not question.text and not question.images:
        raise BadRequest("the last message has neither text nor a picture")
    if not question.text:
        question.parts.append(CAPTION_PROMPT)
    return Conversation(
        question=question.text or CAPTION_PROMPT,
        history=_exchanges(said[shown_at or 0 : -1]),
        image=image,
        inline=inline,
        region=question.region,
        dialogue=tuple(Message(_role(message), tuple(part.parts)) for message, part in read if part.parts),
    )


def _role(message: BaseMessage) -> Role:
    return next(role for kind, role in _ROLES.items() if isinstance(message, kind))


def _exchanges(said: Sequence[tuple[BaseMessage, _Said]]) -> tuple[Exchange, ...]:
    """Questions with the answers that follow them."""
    exchanges = [
        (asked.text or CAPTION_PROMPT, answered.text)
        for (first, asked), (second, answered) in itertools.pairwise(said)
        if isinstance(first, HumanMessage) and isinstance(second, AIMessage) and answered.text
    ]
    return tuple(exchange for exchange in exchanges if not is_small_talk(exchange[0]))


def _read(message: BaseMessage, inline: dict[str, bytes]) -> _Said:
    content: Any = message.content
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    said, texts = _Said(), []
    for block in blocks:
        block = {"type": "text", "text": block} if isinstance(block, str) else block
        if block.get("type") == "text":
            text = _checked_text(block.get("text"))
            # Instructions may be long: a model that reads none is not to mind.
            texts.append("" if isinstance(message, SystemMessage) else bounded_text(text))
            said.parts += [printable_text(text)] if text.strip() else []
        elif block.get("type") in ("image", "image_url") and isinstance(message, HumanMessage):
            said.images.append(_image(block, inline))
            said.parts.append(Shown(said.images[-1]))
            extras = block.get("extras")
            said.region = extras.get("region") if isinstance(extras, Mapping) else None
        elif isinstance(message, HumanMessage):
            raise BadRequest(f"expected blocks of type text, image or image_url, not {block.get('type')!r}")
    said.text = " ".join(text for text in texts if text)
    return said


def _checked_text(text: Any) -> str:
    if not isinstance(text, str):
        raise BadRequest(f"the text of a message must be a string, not {type(text).__name__}")
    return text


def _image(block: Mapping[str, Any], inline: dict[str, bytes]) -> str:
    """The sha256 of the picture of a block."""
    file_id, encoded = block.get("file_id"), block.get("base64")
    if isinstance(file_id, str) and _SHA256.fullmatch(file_id):
        return file_id
    if encoded is None:
        url = block.get("image_url", block.get("url"))
        url = url.get("url") if isinstance(url, Mapping) else url
        start = _DATA_URL.match(url) if isinstance(url, str) else None
        if start is None:
            raise BadRequest("a picture comes as a file_id (sha256), as base64 or as a data:image/...;base64, URL")
        encoded = url[start.end() :]  # type: ignore[index]
    return _keep(encoded, inline)


def _keep(encoded: Any, inline: dict[str, bytes]) -> str:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise BadImage("the picture is not valid base64") from error
    sha256 = image_id(data)
    inline[sha256] = data
    return sha256


def read_region(region: Any, image: str | None) -> Region | None:
    """The part that is meant, unless it is one of another picture than `image`. Raises BadRequest."""
    if region is None:
        return None
    if not isinstance(region, Mapping):
        raise BadRequest("a region is an object of the numbers x, y, w and h")
    if region.get("image", image) != image:
        return None
    try:
        return Region(*(float(region[name]) for name in ("x", "y", "w", "h")))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRequest("a region needs the numbers x, y, w and h") from error
