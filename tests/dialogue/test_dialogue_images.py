import hashlib
import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from visavis.dialogue.errors import BadImage, DialogueError, ImageTooLarge, UnsupportedImage
from visavis.dialogue.images import NormalisedImage, normalise_image
from visavis.dialogue.limits import ImageLimits

LIMITS = ImageLimits()


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decode(normal: NormalisedImage) -> Image.Image:
    image = Image.open(io.BytesIO(normal.data))
    image.load()
    return image


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def close(pixel: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 6 for a, b in zip(pixel, colour, strict=True))


def photo(width: int, height: int) -> Image.Image:
    return Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 60).convert("RGB")


def test_the_hash_names_the_normalised_bytes() -> None:
    normal = normalise_image(encode(Image.new("RGB", (40, 30), "red")), LIMITS)
    ref = normal.ref
    assert ref.sha256 == hashlib.sha256(normal.data).hexdigest()
    assert (ref.width, ref.height, ref.bytes) == (40, 30, len(normal.data))
    assert ref == normalise_image(encode(Image.new("RGB", (40, 30), "red"), "WEBP", lossless=True), LIMITS).ref


def test_jpeg_for_photos_and_png_where_it_is_smaller() -> None:
    noise = Image.effect_noise((300, 300), 80).convert("RGB")
    assert normalise_image(encode(noise), LIMITS).ref.mime == "image/jpeg"
    assert normalise_image(encode(Image.new("RGB", (300, 300), "blue")), LIMITS).ref.mime == "image/png"


@pytest.mark.parametrize("format", ["JPEG", "MPO"])
def test_what_came_as_jpeg_is_not_tried_as_png(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, saved = encode(photo(300, 200), format), []
    save = Image.Image.save

    def note(self: Image.Image, where: Any, format: str, **options: Any) -> None:
        saved.append(format)
        save(self, where, format, **options)

    monkeypatch.setattr(Image.Image, "save", note)
    assert normalise_image(data, LIMITS).ref.mime == "image/jpeg"
    assert saved == ["JPEG"]


@pytest.mark.parametrize(
    ("size", "expected"), [((2048, 1024), (1024, 512)), ((1, 20_000), (1, 1024)), ((1, 1), (1, 1))]
)
def test_the_longest_side_is_shrunk(size: tuple[int, int], expected: tuple[int, int]) -> None:
    normal = normalise_image(encode(Image.new("RGB", size, "green")), LIMITS)
    assert (normal.ref.width, normal.ref.height) == expected == decode(normal).size


def test_a_large_jpeg_is_shrunk() -> None:
    normal = normalise_image(encode(photo(3000, 2000), "JPEG"), LIMITS)
    assert (normal.ref.width, normal.ref.height) == (1024, 683)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_is_turned_upright(orientation: int, format: str) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 32, 16))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(normalise_image(encode(stored, format, exif=exif), LIMITS))
    assert image.size == (64, 32)
    assert close(image.getpixel((4, 4)), (255, 0, 0)) and close(image.getpixel((60, 28)), (255, 255, 255))


def test_metadata_is_left_behind() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    for format, more in (("JPEG", {"comment": b"secret place"}), ("PNG", {}), ("WEBP", {})):
        data = encode(photo(64, 64), format, exif=exif, icc_profile=b"secret place" * 20, **more)
        normal = normalise_image(data, LIMITS)
        assert b"secret" in data and b"secret" not in normal.data
        assert not decode(normal).getexif()


@pytest.mark.parametrize(
    ("image", "format", "colour"),
    [
        (Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", (254, 0, 0)),
        (Image.new("L", (20, 20), 77), "PNG", (77, 77, 77)),
        (Image.new("1", (20, 20), 1), "PNG", (255, 255, 255)),
        (Image.new("LA", (20, 20), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (0, 0, 255, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (20, 20), (0, 0, 255, 255)), "WEBP", (0, 0, 255)),
        (Image.new("RGBA", (2048, 20), (0, 0, 0, 128)), "PNG", (127, 127, 127)),
        (Image.new("I;16", (20, 20), 257 * 77), "PNG", (77, 77, 77)),
        (Image.new("RGB", (20, 20), (0, 255, 0)).convert("P"), "PNG", (0, 255, 0)),
        (Image.new("RGB", (20, 20), (0, 255, 0)).quantize(4), "GIF", (0, 255, 0)),
    ],
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, format: str, colour: tuple[int, int, int]) -> None:
    result = decode(normalise_image(encode(image, format), LIMITS))
    assert result.mode == "RGB" and close(result.getpixel((5, 5)), colour)


def test_a_transparent_palette_becomes_white() -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    result = decode(normalise_image(encode(image, "PNG", transparency=0), LIMITS))
    assert close(result.getpixel((5, 5)), (255, 255, 255))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue", "green")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=50)
    assert close(decode(normalise_image(data, LIMITS)).getpixel((5, 5)), (255, 0, 0))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read() -> None:
    image = decode(normalise_image(encode(Image.new("RGB", (30, 30), "red"), "AVIF"), LIMITS))
    assert close(image.getpixel((5, 5)), (254, 0, 0))


@pytest.mark.parametrize("size", [(50_000, 50_000), (12_000, 12_000), (10_000, 4_001)])
def test_too_many_pixels_are_refused_by_the_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge, match="40 megapixels"):
        normalise_image(png_header(*size), LIMITS)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(ImageTooLarge, match=r"at most 20 MiB; this one has 30\.0 MiB"):
        normalise_image(b"\0" * (30 * 2**20), LIMITS)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_truncated_pictures_are_bad(format: str) -> None:
    data = encode(photo(200, 200), format)
    for part in (len(data) // 3, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(BadImage):
            normalise_image(data[:part], LIMITS)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello, I am a text", b"<html><img src=x></html>", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_picture_is_bad(data: bytes) -> None:
    with pytest.raises(BadImage):
        normalise_image(data, LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"  <?xml version='1.0'?><svg/>",
        b"%PDF-1.7",
        b"\0\0\0\x18ftypheic\0\0\0\0",
        encode(Image.new("RGB", (4, 4)), "TIFF"),
        encode(Image.new("RGB", (4, 4)), "BMP"),
        encode(Image.new("RGB", (4, 4)), "JPEG2000"),
        encode(Image.new("RGB", (4, 4)), "PPM"),
        encode(Image.new("L", (4, 4)), "PPM"),
        encode(Image.new("RGB", (4, 4)), "TGA"),
        encode(Image.new("RGB", (4, 4)), "ICNS"),
        encode(Image.new("RGB", (4, 4)), "DDS"),
        encode(Image.new("RGB", (4, 4)), "EPS"),
    ],
)
def test_other_formats_are_named(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="JPEG, PNG, WebP or GIF"):
        normalise_image(data, LIMITS)


def test_a_wrong_checksum_and_a_text_bomb_are_bad() -> None:
    data = bytearray(encode(photo(50, 50)))
    data[29] ^= 0xFF  # in the checksum of the header chunk
    with pytest.raises(BadImage):
        normalise_image(bytes(data), LIMITS)
    bomb = b"zTXtkey\0\0"[4:] + zlib.compress(b"\0" * 100_000_000, 9)
    chunk = struct.pack(">I", len(bomb)) + b"zTXt" + bomb + struct.pack(">I", zlib.crc32(b"zTXt" + bomb))
    whole = encode(photo(50, 50))
    with pytest.raises(BadImage):
        normalise_image(whole[:33] + chunk + whole[33:], LIMITS)


SAMPLES = [encode(photo(40, 30), format) for format in ("JPEG", "PNG", "GIF", "WEBP")]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12), st.data())
def test_damage_gives_a_picture_or_a_refusal(
    sample: bytes, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(sample)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    cut = data.draw(st.sampled_from([len(damaged), len(damaged) - 3, len(damaged) // 2]))
    try:
        normal = normalise_image(bytes(damaged[:cut]), ImageLimits(max_pixels=10_000))
    except DialogueError as error:
        assert error.code in ("bad_image", "image_too_large", "unsupported_image")
    else:
        assert decode(normal).size == (normal.ref.width, normal.ref.height)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_picture_or_a_refusal(data: bytes) -> None:
    with pytest.raises(DialogueError):
        normalise_image(data, LIMITS)


def test_a_broken_exif_block_does_not_spoil_the_picture() -> None:
    data = encode(photo(40, 30), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff not exif")
    assert decode(normalise_image(data, LIMITS)).size == (40, 30)
