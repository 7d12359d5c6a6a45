"""Bytes -> a checked, upright, shrunk picture named by the hash of its bytes. Pillow's limits live here.

Pure and blocking: call it in a thread. Knows no store and no socket. The header is checked before a pixel is decoded.
"""

import hashlib
import io
import logging
import re
from dataclasses import dataclass

from PIL import Image, features

from visavis.dialogue.errors import BadImage, DialogueError, ImageTooLarge, UnsupportedImage
from visavis.dialogue.limits import ImageLimits
from visavis.dialogue.turns import ImageRef

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 90
_JPEG_FORMATS = ("JPEG", "MPO")  # what was JPEG before has its noise: to try PNG would cost ten times all the rest
_MAX_PNG_COLOURS = 2**16  # with more, PNG never wins and costs a quarter of a second to find that out
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNSUPPORTED = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
    b"\0\0\1\0": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"icns": "ICNS",
    b"qoif": "QOI",
    b"DDS ": "DDS",
    b"%!PS": "PostScript",
    b"gimp xcf": "GIMP",
}
_NETPBM = re.compile(rb"P[1-7]\s")
_TGA_END = b"TRUEVISION-XFILE.\0"


@dataclass(frozen=True, slots=True)
class NormalisedImage:
    """A reference and the bytes it names."""

    ref: ImageRef
    data: bytes


def normalise_image(data: bytes, limits: ImageLimits) -> NormalisedImage:
    """The first frame of a picture: upright, RGB on white, longest side shrunk to `limits.max_side`, no metadata.

    Raises:
        BadImage: not a picture, or a damaged one. UnsupportedImage: a picture in a format that is not read.
        ImageTooLarge: more bytes or pixels than allowed.
    """
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    with _open(data, limits) as image:
        rgb, was_jpeg = _decode(image, limits.max_side), image.format in _JPEG_FORMATS
    return _encode(rgb, tries_png=not was_jpeg)


def too_many_bytes(size: int, limits: ImageLimits) -> ImageTooLarge:
    """The error for a picture of `size` bytes."""
    allowed, came = limits.max_bytes / 2**20, size / 2**20
    return ImageTooLarge(f"A picture may have at most {allowed:.4g} MiB; this one has {came:.1f} MiB.")


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    """Read the header only, and refuse what must not be decoded."""
    formats = ["JPEG", "PNG", "WEBP", "GIF"] + (["AVIF"] if features.check("avif") else [])
    allowed = f"A picture may have at most {limits.max_pixels / 1e6:.4g} megapixels"
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge(f"{allowed}; this one has far more.") from None
    except Exception as error:  # the parsers of foreign bytes raise anything, from SyntaxError to struct.error
        logger.debug("picture refused: %r", error)
        raise _unreadable(data) from None
    if image.width * image.height > limits.max_pixels:
        raise ImageTooLarge(f"{allowed}; this one is {image.width} x {image.height}.")
    return image


def _unreadable(data: bytes) -> DialogueError:
    start = data[:64].lstrip()
    if data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"avis"):
        return UnsupportedImage("HEIC pictures and videos are not read; please send JPEG, PNG, WebP or GIF.")
    if name := _format_name(data, start):
        return UnsupportedImage(f"{name} files are not read; please send JPEG, PNG, WebP or GIF.")
    return BadImage("This is not a picture that can be read; JPEG, PNG, WebP and GIF can.")


def _format_name(data: bytes, start: bytes) -> str:
    """Of a format that is known and not read; empty for any other."""
    if _NETPBM.match(data):
        return "Netpbm"
    if data.endswith(_TGA_END):
        return "TGA"
    return next((name for magic, name in _UNSUPPORTED.items() if data.startswith(magic) or start.startswith(magic)), "")


def _decode(image: Image.Image, max_side: int) -> Image.Image:
    try:
        image.draft(None, (max_side, max_side))  # a large JPEG is decoded at 1/2, 1/4 or 1/8: less memory and time
        image.load()
        return _upright(_on_white(_shrink(_eight_bits(image), max_side)), image)
    except Exception as error:  # as in _open
        logger.debug("picture refused: %r", error)
        raise BadImage("The picture is damaged or incomplete.") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Palettes and deep greys become modes that can be resized."""
    if image.mode.startswith("I"):  # plain conversion would clip 16-bit greys to white
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    if image.mode in ("RGB", "L", "RGBA", "LA", "CMYK") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _shrink(image: Image.Image, max_side: int) -> Image.Image:
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upright(image: Image.Image, original: Image.Image) -> Image.Image:
    try:
        orientation = original.getexif().get(_ORIENTATION_TAG)
    except Exception as error:  # a broken EXIF block does not spoil the picture
        logger.debug("EXIF ignored: %r", error)
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _encode(image: Image.Image, tries_png: bool) -> NormalisedImage:
    # A fresh canvas: whatever the file carried in `info` (comments, EXIF, profiles) is left behind.
    clean = Image.new("RGB", image.size)
    clean.paste(image)
    data, mime = _save(clean, "JPEG", quality=_JPEG_QUALITY), "image/jpeg"
    if tries_png and clean.getcolors(_MAX_PNG_COLOURS) is not None:
        png = _save(clean, "PNG", compress_level=6)
        data, mime = (png, "image/png") if len(png) < len(data) else (data, mime)
    ref = ImageRef(hashlib.sha256(data).hexdigest(), clean.width, clean.height, mime, len(data))
    return NormalisedImage(ref, data)


def _save(image: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()
