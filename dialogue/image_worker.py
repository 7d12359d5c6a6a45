"""Pictures are decoded in processes of their own, with bounds of memory and time: a decoder that goes wild takes
nothing with it.

    python -m visavis.dialogue.image_worker

is such a process: frames in on standard input, frames out on standard output, until the input ends. A frame is a line
of JSON that tells how many bytes follow it.
"""

import asyncio
import json
import logging
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from visavis.dialogue.errors import BadImage, DialogueError, ImageTooLarge, UnsupportedImage
from visavis.dialogue.images import NormalisedImage, normalise_image
from visavis.dialogue.limits import ImageLimits
from visavis.dialogue.turns import ImageRef

logger = logging.getLogger(__name__)

WORKERS = 2
MEMORY_BYTES = 2**30  # of address space: five times what 40 megapixels take as RGBA
TIME_S = 20.0
_LONGEST_LINE = 64 * 1024
_ERRORS: dict[str, type[DialogueError]] = {str(kind.code): kind for kind in (BadImage, ImageTooLarge, UnsupportedImage)}


class ImageWorkers:
    """At most `WORKERS` processes, each started when it is needed and kept; a call gets the first one that is free."""

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, time_s: float = TIME_S) -> None:
        self._options = (str(memory_bytes),)
        self._time_s = time_s
        self._free: asyncio.LifoQueue[asyncio.subprocess.Process | None] = asyncio.LifoQueue()
        for _ in range(WORKERS):
            self._free.put_nowait(None)

    async def normalise(self, data: bytes, limits: ImageLimits) -> NormalisedImage:
        """`normalise_image` in another process; one that takes too long or too much is ended, and is `BadImage`."""
        process = await self._free.get()
        try:
            if process is None or process.returncode is not None:
                process = await self._start()
            async with asyncio.timeout(self._time_s):
                return await _ask(process, data, limits)
        except DialogueError:
            raise
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            logger.warning("a picture could not be decoded within the bounds (%s)", type(error).__name__)
            _end(process)
            process = None
            raise BadImage("The picture takes too much to decode.") from None
        except BaseException:  # what it would still answer belongs to nobody
            _end(process)
            process = None
            raise
        finally:
            self._free.put_nowait(process)

    async def aclose(self) -> None:
        """End the processes."""
        while not self._free.empty():
            if (process := self._free.get_nowait()) is not None:
                _end(process)
                await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "visavis.dialogue.image_worker", *self._options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=_LONGEST_LINE,
        )


def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is not None:
        with suppress(ProcessLookupError):
            process.kill()


async def _ask(process: asyncio.subprocess.Process, data: bytes, limits: ImageLimits) -> NormalisedImage:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(_line({"limits": asdict(limits), "bytes": len(data)}))
    process.stdin.write(data)
    await process.stdin.drain()
    answer = json.loads(await process.stdout.readuntil())
    if "code" in answer:
        raise _ERRORS[answer["code"]](answer["message"])
    return NormalisedImage(ImageRef(**answer["ref"]), await process.stdout.readexactly(answer["bytes"]))


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _work(source: BinaryIO, sink: BinaryIO) -> None:
    while line := source.readline():
        asked = json.loads(line)
        try:
            image = normalise_image(source.read(asked["bytes"]), ImageLimits(**asked["limits"]))
        except DialogueError as error:
            sink.write(_line({"code": str(error.code), "message": str(error)}))
        else:
            sink.write(_line({"ref": asdict(image.ref), "bytes": len(image.data)}) + image.data)
        sink.flush()


def main() -> None:
    """Take no more memory than is allowed, then answer until the input ends."""
    with suppress(ImportError, ValueError, OSError):  # not every system knows this bound
        import resource

        most = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    _work(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
