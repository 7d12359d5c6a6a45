"""Messages of a request -> LangChain messages whose pictures were checked, and the text and pictures of the question.

Pictures come as data URLs, as base64, as ids of `/v1/images` or as addresses; the newest ones count, up to a limit.
Knows no models; where bytes come from is the business of a `PictureReader`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from visavis.bot.openai_api.bodies import Message
from visavis.bot.openai_api.content_parts import (
    Base64Source,
    FileData,
    FilePart,
    FileReference,
    ImageAddressPart,
    ImageBase64Part,
    ImageFilePart,
    ImageIdPart,
    ImageSourcePart,
    ImageUrl,
    ImageUrlPart,
    PicturePart,
    RefusalPart,
    TextPart,
    ThoughtPart,
    UrlSource,
)
from visavis.bot.openai_api.errors import ApiError, api_error
from visavis.dialogue.context import DESCRIBE
from visavis.dialogue.errors import DialogueError

Kind = Literal["data", "url", "id"]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_LIST = re.compile(r"<attached_files>.*?</attached_files>\s*", re.DOTALL)  # Open WebUI's; files come beside it
_KINDS: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "developer": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


@dataclass(frozen=True)
class PictureSource:
    """A picture as a request names it; `place` says where."""

    kind: Kind
    value: str
    place: str


class PictureReader(Protocol):
    """Gets pictures, each a content block of LangChain."""

    async def block(self, source: PictureSource) -> dict[str, Any]:
        """Raises DialogueError or ApiError: it cannot be had, or is no picture."""
        ...


@dataclass
class Said:
    """What a message holds, in order of its parts."""

    role: str
    parts: list[str | PictureSource] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Its words, a line for each part."""
        return "\n".join(part for part in self.parts if isinstance(part, str))

    @property
    def pictures(self) -> list[PictureSource]:
        """Its pictures."""
        return [part for part in self.parts if not isinstance(part, str)]


def read_messages(messages: Sequence[Message]) -> list[Said]:
    """The messages up to the last one of the user; those of tools are left out.

    Raises:
        ApiError: a part that is no text and no picture.
    """
    said = [_read(message, f"messages.{index}") for index, message in enumerate(messages) if message.role in _KINDS]
    asked = max((index for index, one in enumerate(said) if one.role == "user"), default=None)
    if asked is None:
        raise ApiError("There is no message of the user.", param="messages")
    last = said[asked]
    if not last.text.strip() and not last.pictures:  # what a turn without words asks everywhere
        last.parts = [DESCRIBE]
    # An assistant's message that only calls tools has no words, and providers refuse empty ones.
    return [one for one in said[: asked + 1] if one.role != "assistant" or one.text.strip()]


async def to_langchain(said: Sequence[Said], reader: PictureReader, most: int) -> list[BaseMessage]:
    """The messages with at most `most` pictures, the newest ones.

    Raises:
        ApiError: a picture of the last message cannot be used, or it has more than `most`.
    """
    if len(said[-1].pictures) > most:
        raise ApiError(f"A message may have at most {most} pictures, this one has {len(said[-1].pictures)}.")
    spare = most
    messages: list[BaseMessage] = []
    for one in reversed(said):
        kept = one.pictures[max(0, len(one.pictures) - spare) :] if spare else []
        spare -= len(kept)
        messages.insert(0, await _message(one, kept, reader))
    return messages


async def read_picture(source: PictureSource, reader: PictureReader) -> dict[str, Any]:
    """The block of a picture; an error names its place in the request."""
    try:
        return await reader.block(source)
    except DialogueError as error:
        raise api_error(error, param=source.place) from error


async def _message(said: Said, pictures: Sequence[PictureSource], reader: PictureReader) -> BaseMessage:
    """Words stay where they are among the pictures: they may name them."""
    kind = _KINDS[said.role]
    if not pictures:
        return kind(content=said.text)
    blocks: list[str | dict[Any, Any]] = []
    for part in said.parts:
        if isinstance(part, str):
            blocks.append({"type": "text", "text": part})
        elif part in pictures:
            blocks.append(await read_picture(part, reader))
    return kind(content=blocks)


def _read(message: Message, place: str) -> Said:
    said = Said(message.role)
    parts = [message.content] if isinstance(message.content, str) else message.content or ()
    for number, part in enumerate(parts):
        match part:
            case str(text) | TextPart(text=text) | RefusalPart(refusal=text):
                said.parts += [words] if (words := _FILE_LIST.sub("", text)) else []
            case ThoughtPart():
                pass
            case _ if message.role == "user":
                said.parts.append(picture_source(part, f"{place}.content.{number}"))
    return said


def picture_source(part: PicturePart, place: str) -> PictureSource:
    """Whichever form the client writes."""
    match part:
        case ImageUrlPart(image_url=ImageUrl(url=value)) | FilePart(file=FileData(file_data=value)):
            pass
        case ImageUrlPart(image_url=str(value)) | ImageAddressPart(url=value) | ImageIdPart(file_id=value):
            pass
        case FilePart(file=FileReference(file_id=value)) | ImageFilePart(image_file=FileReference(file_id=value)):
            pass
        case ImageSourcePart(source=UrlSource(url=value)):
            pass
        case ImageBase64Part(base64=data) | ImageSourcePart(source=Base64Source(data=data)):
            value = f"data:;base64,{data}"
    return PictureSource(_kind_of(value), value, place)


def _kind_of(value: str) -> Kind:
    if _SHA256.fullmatch(value):
        return "id"
    return "data" if value[:5].lower() == "data:" else "url"
