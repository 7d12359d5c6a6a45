"""Decoding in processes of their own: the same pictures and refusals, within bounds of memory and time."""

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from visavis.dialogue.errors import BadImage, ImageTooLarge, UnsupportedImage
from visavis.dialogue.image_worker import WORKERS, ImageWorkers
from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import ImageLimits

LIMITS = ImageLimits()


def picture(size: tuple[int, int] = (40, 30), format: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.radial_gradient("L").resize(size).save(data, format)
    return data.getvalue()


@pytest.fixture
async def workers() -> AsyncIterator[ImageWorkers]:
    workers = ImageWorkers()
    yield workers
    await workers.aclose()


async def test_a_picture_comes_back_as_from_a_call_and_processes_are_used_again(workers: ImageWorkers) -> None:
    pictures = [picture((40 + number, 30)) for number in range(6)]
    done = await asyncio.gather(*(workers.normalise(data, LIMITS) for data in pictures))
    assert done == [normalise_image(data, LIMITS) for data in pictures]
    started = [workers._free.get_nowait() for _ in range(WORKERS)]
    assert len({process.pid for process in started if process is not None}) == WORKERS
    for process in started:
        workers._free.put_nowait(process)


async def test_refusals_are_the_same_and_cost_nothing_else(workers: ImageWorkers) -> None:
    for data, limits, refusal in [
        (b"no picture", LIMITS, BadImage),
        (b"%PDF-1.7", LIMITS, UnsupportedImage),
        (picture((64, 64)), ImageLimits(max_pixels=100), ImageTooLarge),
        (picture()[:60], LIMITS, BadImage),
    ]:
        with pytest.raises(refusal):
            await workers.normalise(data, limits)
    assert (await workers.normalise(picture(), LIMITS)).ref.width == 40


async def test_what_takes_too_much_memory_is_bad_and_the_next_one_is_decoded() -> None:
    workers = ImageWorkers(memory_bytes=200 * 2**20)
    large = io.BytesIO()
    Image.new("RGB", (9_000, 9_000)).save(large, "PNG", compress_level=1)
    with pytest.raises(BadImage):
        await workers.normalise(large.getvalue(), ImageLimits(max_pixels=10**9))
    assert (await workers.normalise(picture(), LIMITS)).ref.width == 40
    await workers.aclose()


async def test_what_takes_too_long_is_ended(workers: ImageWorkers) -> None:
    slow = ImageWorkers(time_s=0.001)
    with pytest.raises(BadImage, match="too much"):
        await slow.normalise(picture((4000, 4000)), LIMITS)
    slow._time_s = 60
    assert (await slow.normalise(picture(), LIMITS)).ref.width == 40
    await slow.aclose()


async def test_a_process_that_was_killed_is_replaced(workers: ImageWorkers) -> None:
    await workers.normalise(picture(), LIMITS)
    process = workers._free.get_nowait()
    assert process is not None
    process.kill()
    await process.wait()
    workers._free.put_nowait(process)
    assert (await workers.normalise(picture(), LIMITS)).ref.width == 40
