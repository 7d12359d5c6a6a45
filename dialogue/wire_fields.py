"""What the fields of a client's frames may hold, as types for pydantic; see `commands`.

What a type refuses is a pydantic error or, where the protocol has a code for it, a `DialogueError`. The validation's
context is the `Limits`.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, GetPydanticSchema, Strict, ValidationInfo

from visavis.dialogue.errors import BadRequest, TooLong, UnknownImage, UnknownSession, UnsupportedVersion
from visavis.dialogue.limits import Limits
from visavis.dialogue.turns import Region

VERSION = 1
MAX_TITLE = 120

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SESSION = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEPT_CONTROLS = "\n\t"
_OVERRIDES = "\u202d\u202e"  # direction overrides make a text read otherwise than it is written


def check_session_id(session: str) -> str:
    """`session` itself; raises `UnknownSession` when no server can have made it."""
    if not _SESSION.fullmatch(session):
        raise UnknownSession("This conversation is not known here.")
    return session


def clean_text(text: str, limits: Limits) -> str:
    """What a person typed, without control characters and outer white space.

    Raises:
        BadRequest: NUL or half a surrogate pair in it. TooLong: more characters than allowed.
    """
    if "\0" in text:
        raise BadRequest("The text contains a NUL character; please send plain text.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadRequest("The text contains half of a surrogate pair; please send valid Unicode.")
    text = text.replace("\r\n", "\n")
    kept = (char for char in text if char in _KEPT_CONTROLS or unicodedata.category(char) != "Cc")
    text = "".join(char for char in kept if char not in _OVERRIDES).strip()
    if len(text) > limits.max_characters:
        raise TooLong(f"A message may have at most {limits.max_characters:,} characters; this one has {len(text):,}.")
    return text


def _limits(info: ValidationInfo) -> Limits:
    assert isinstance(info.context, Limits)
    return info.context


def _supported(version: int) -> int:
    if version != VERSION:
        raise UnsupportedVersion(f"This server speaks version {VERSION} of the protocol, not {str(version)[:20]}.")
    return version


def is_uuid(value: object) -> bool:
    """Whether it can be the id of a turn or a request."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _uuid(value: str) -> str:
    if not is_uuid(value):
        raise ValueError("it should be a UUID, such as 7f9c24e5-7a0c-4b55-9d2e-0d6b6f1c2a33")
    return value


def _image_id(value: str) -> str:
    if not _SHA256.fullmatch(value):
        raise UnknownImage("One of the pictures is not known in this conversation; please send it again.")
    return value


def _few_images(images: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    most = _limits(info).max_images
    if len(images) > most:
        raise BadRequest(f"A turn may show at most {most} pictures; this one has {len(images)}.")
    return tuple(dict.fromkeys(images))


def _one_line(text: str, info: ValidationInfo) -> str:
    title = " ".join(clean_text(text, _limits(info)).split())
    if not title:
        raise BadRequest("The title is empty.")
    if len(title) > MAX_TITLE:
        raise TooLong(f"A title may have at most {MAX_TITLE} characters; this one has {len(title):,}.")
    return title


Integer = Annotated[int, Strict()]
Fraction = Annotated[float, Strict(), Field(ge=0, le=1)]
Size = Annotated[float, Strict(), Field(gt=0, le=1)]
TurnId = Annotated[str, AfterValidator(_uuid)]
SessionId = Annotated[str, AfterValidator(check_session_id)]
ImageId = Annotated[str, AfterValidator(_image_id)]
Text = Annotated[str, AfterValidator(lambda text, info: clean_text(text, _limits(info)))]
Title = Annotated[str, AfterValidator(_one_line)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
LinkCode = Annotated[str, Field(max_length=40, pattern=r"^[A-Za-z0-9-]+$")]
Token = Annotated[str, Field(min_length=32, max_length=4096, pattern=r"^[\x21-\x7e]*$")]


@dataclass(frozen=True, slots=True)
class RegionFields:
    """A region as it comes."""

    image: ImageId
    x: Fraction
    y: Fraction
    w: Size
    h: Size


def _inside(region: RegionFields) -> Region:
    if region.x + region.w > 1.0001 or region.y + region.h > 1.0001:
        raise ValueError("it should lie inside of the picture: x + w and y + h at most 1")
    return Region(region.image, region.x, region.y, region.w, region.h)


Version = Annotated[Integer, AfterValidator(_supported)]
Images = Annotated[tuple[ImageId, ...], AfterValidator(_few_images)]
RegionField = Annotated[
    Region, GetPydanticSchema(lambda _, handler: handler(Annotated[RegionFields, AfterValidator(_inside)]))
]
