"""The last gate for picture bytes, and the cache bounded by bytes."""

import io
import zlib

import pytest
from PIL import Image
from tiny_checkpoint import drawn_picture

from visavis.models.byte_cache import ByteCache
from visavis.models.errors import ImageTooLarge, ModelError, UnsupportedImage
from visavis.models.images import PictureLimits, check_picture, decode_picture

LIMITS = PictureLimits(max_image_bytes=10_000, max_pixels=10_000)


def huge_png_header() -> bytes:
    header = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"\x00")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"x" * 20_000, ImageTooLarge),
        (drawn_picture(size=(200, 100)), ImageTooLarge),
        (huge_png_header(), ImageTooLarge),
        (b"", UnsupportedImage),
        (b"GIF89a" + bytes(100), UnsupportedImage),
    ],
)
def test_refused_by_size_and_header(data: bytes, error: type[ModelError]) -> None:
    with pytest.raises(error):
        check_picture(data, LIMITS)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_any_mode_becomes_rgb(mode: str) -> None:
    data = io.BytesIO()
    Image.new(mode, (5, 7)).save(data, "JPEG" if mode == "CMYK" else "PNG")
    assert (decode_picture(data.getvalue()).mode, decode_picture(data.getvalue()).size) == ("RGB", (5, 7))


def test_camera_orientation_is_applied() -> None:
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (5, 7)).save(data, "JPEG", exif=exif)
    assert decode_picture(data.getvalue()).size == (7, 5)


def test_cache_drops_what_was_not_used_for_longest() -> None:
    cache: ByteCache[bytes] = ByteCache(10, len)
    for key in "abc":
        cache.put(key, b"1234")
        cache.get("a")
    assert [key in cache for key in "abc"] == [True, False, True]
    cache.put("a", b"1")
    assert (cache.nbytes, len(cache)) == (5, 2)
    cache.put("c", b"x" * 11)
    assert (cache.nbytes, "c" in cache) == (1, False)
