"""The parts of a message: texts, and pictures in all the forms that clients write, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PictureId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="The id of a picture of /v1/images.")]
PictureUrl = Annotated[
    str,
    Field(
        pattern=r"^([dD][aA][tT][aA]:|[hH][tT][tT][pP][sS]?://|[0-9a-f]{64}$)",
        description="A data URL, the address of an allowed host, or the id of a picture of /v1/images.",
    ),
]


class Body(BaseModel):
    """Strict about types, indifferent to unknown fields."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class TextPart(Body):
    """A piece of text."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class RefusalPart(Body):
    """What an assistant said instead of an answer."""

    type: Literal["refusal"]
    refusal: str


class ThoughtPart(Body):
    """What a model thought before an answer, as some clients send it back; it is passed over."""

    type: Literal["thinking", "redacted_thinking", "reasoning"]


class ImageUrl(Body):
    """`detail` is accepted and changes nothing."""

    url: PictureUrl
    detail: str | None = None


class ImageUrlPart(Body):
    """A picture in OpenAI's form."""

    type: Literal["image_url", "input_image"]
    image_url: ImageUrl | PictureUrl


class FileReference(Body):
    """A picture by its id."""

    file_id: PictureId


class FileData(Body):
    """A picture as a data URL."""

    file_data: PictureUrl


class FilePart(Body):
    """A picture as a file."""

    type: Literal["file"]
    file: FileReference | FileData


class ImageFilePart(Body):
    """A picture of `/v1/images`."""

    type: Literal["image_file"]
    image_file: FileReference


class ImageIdPart(Body):
    """A picture of `/v1/images`, as LangChain writes it."""

    type: Literal["image", "input_image"]
    file_id: PictureId


class ImageBase64Part(Body):
    """A picture as LangChain writes it."""

    type: Literal["image"]
    base64: str


class ImageAddressPart(Body):
    """A picture as LangChain writes it."""

    type: Literal["image"]
    url: PictureUrl


class Base64Source(Body):
    """The bytes of a picture."""

    type: Literal["base64"]
    data: str


class UrlSource(Body):
    """The address of a picture."""

    type: Literal["url"]
    url: PictureUrl


class ImageSourcePart(Body):
    """A picture as Anthropic's clients write it."""

    type: Literal["image"]
    source: Base64Source | UrlSource


PicturePart = (
    ImageUrlPart | FilePart | ImageFilePart | ImageIdPart | ImageBase64Part | ImageAddressPart | ImageSourcePart
)
