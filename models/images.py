"""Bytes to a picture that the engine may decode: limits are checked on the header, before a pixel is decoded.

Callers normalise pictures before they come here; this is the last gate, for bytes from anywhere. It knows no tensors.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from visavis.models.errors import BadImage, ImageTooLarge, UnsupportedImage

FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class PictureLimits:
    """The largest picture that is accepted."""

    max_image_bytes: int = 20 << 20
    max_pixels: int = 40_000_000


def image_id(data: bytes) -> str:
    """The name of a picture: the sha256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


def check_picture(data: bytes, limits: PictureLimits) -> None:
    """Look at size and header only.

    Raises:
        BadImage, ImageTooLarge, UnsupportedImage: what is wrong with the bytes.
    """
    if len(data) > limits.max_image_bytes:
        raise ImageTooLarge(f"a picture may have {limits.max_image_bytes} bytes, this one has {len(data)}")
    with _open(data) as picture:
        width, height = picture.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"a picture may have {limits.max_pixels} pixels, this one has {width} x {height}")


def decode_picture(data: bytes) -> Image.Image:
    """Checked bytes -> an upright RGB picture.

    Raises:
        BadImage: the pixels are broken or cut off.
    """
    with _open(data) as picture:
        try:
            return ImageOps.exif_transpose(picture).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise BadImage("the picture is broken or cut off") from error


def cut_out(picture: Image.Image, x: float, y: float, w: float, h: float) -> Image.Image:
    """A part of the picture, given as shares of its sides; at least a pixel."""
    left, top = (int(start * side) for start, side in zip((x, y), picture.size, strict=True))
    right, low = (round(end * side) for end, side in zip((x + w, y + h), picture.size, strict=True))
    return picture.crop((left, top, max(right, left + 1), max(low, top + 1)))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnsupportedImage(f"expected a picture as {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge("the picture has too many pixels") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise BadImage("the picture is broken or cut off") from error
