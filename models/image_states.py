"""Pictures that an engine holds: their bytes by sha256, and what the model computed from each look at them alone.

Both are bounded by bytes; features that were dropped are made again from the bytes. A picture is encoded slice by
slice, so that whoever drives the model can do something else in between. It knows no questions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from visavis.models.byte_cache import ByteCache
from visavis.models.errors import ModelError, UnknownImage
from visavis.models.generation import Region
from visavis.models.image_features import ImageFeatures
from visavis.models.images import PictureLimits, check_picture, decode_picture, image_id
from visavis.models.looks import Look
from visavis.models.processor import Processor
from visavis.models.regions import cut_out
from visavis.models.visavis_model import ImageState, VisavisModel
from visavis.models.vision_encoder import VisionEncoder
from visavis.models.vision_transformer import VisionTransformer
from visavis.models.words_in_pictures import WordReader, asks_to_read

BLOCKS_A_SLICE = 2  # of ViT-S/14: about two decode steps of 32 rows
_PICTURE_BYTES = 64 << 20


@dataclass
class ImageCounters:
    """How often a picture was encoded, found ready, or not; they only ever grow."""

    encoder_forwards: int = 0
    image_hits: int = 0
    image_misses: int = 0

    def add(self, name: str, more: int = 1) -> int:
        """Count, from any thread; what it is now."""
        with _COUNTING:
            value: int = getattr(self, name) + more
            setattr(self, name, value)
        return value


_COUNTING = threading.Lock()


class ImageStates:
    """Safe to use from several threads.

    Each picture is encoded once: whoever wants it meanwhile waits for the same result.
    """

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        counters: ImageCounters,
        *,
        cache_bytes: int,
        limits: PictureLimits,
        reader: WordReader | None = None,
    ) -> None:
        self.limits = limits
        self._reader = reader
        self._model = model
        self._processor = processor
        self._counters = counters
        self._pictures: ByteCache[str, bytes] = ByteCache(max(_PICTURE_BYTES, 2 * limits.max_image_bytes), len)
        self._states: ByteCache[Look, ImageState] = ByteCache(cache_bytes, lambda state: state.nbytes)
        self._claimed: set[Look] = set()
        self._claiming = threading.Lock()

    @property
    def cached_bytes(self) -> int:
        """Bytes held of what was computed."""
        return self._states.nbytes

    def add(self, data: bytes) -> str:
        """Take the bytes of a picture and return their sha256; nothing is computed yet. Raises as `check_picture`."""
        check_picture(data, self.limits)
        sha256 = image_id(data)
        self._pictures.put(sha256, data)
        return sha256

    def look(self, sha256: str, region: Region | None, question: str) -> Look:
        """How a question looks at a picture: its words are read where they may be asked for and somebody can."""
        return Look(sha256, region, self._reader is not None and asks_to_read(question))

    def holds(self, look: Look) -> bool:
        """True if `encode` needs no bytes from anybody."""
        return self.is_ready(look) or look.sha256 in self._pictures

    def is_ready(self, look: Look) -> bool:
        """True if nothing has to be computed."""
        return look in self._states

    def get(self, look: Look) -> ImageState | None:
        """What the picture alone decides, if it is ready."""
        return self._states.get(look)

    @property
    def being_encoded(self) -> int:
        """How many pictures workers have in hand."""
        return len(self._claimed)

    def keep(self, look: Look, state: ImageState) -> None:
        """Have it ready from now on."""
        self._states.put(look, state)

    def claim(self, look: Look) -> Encoding | None:
        """A picture to encode, for whoever asks first; None while somebody else has it in hand."""
        with self._claiming:
            picture = replace(look, read=False)  # with its words or without, it is encoded once
            if picture in self._claimed:
                return None
            self._claimed.add(picture)
        return Encoding(look, self._slices(look), lambda: self._claimed.discard(picture))

    def encode_together(self, looks: Sequence[Look]) -> dict[Look, ImageState | ModelError]:
        """Several pictures in one forward, as an accelerator likes it; what cannot be read gets its error. Looks that
        have to be read for words are left out: an `Encoding` does them. For a worker that is alone."""
        pixels: dict[Look, Tensor] = {}
        done: dict[Look, ImageState | ModelError] = {}
        for look in (look for look in looks if not look.read):
            try:
                pixels[look] = self._processor.pixel_values(self._picture(look))
            except ModelError as error:
                done[look] = error
        if pixels:
            self._counters.add("image_misses", len(pixels))
            self._counters.add("encoder_forwards", len(pixels))
            together = torch.cat(list(pixels.values())).to(self._model.device, self._model.dtype)
            states = self._model.image_state(self._model.encode_image(together))
            for row, look in enumerate(pixels):
                done[look] = states.rows(torch.tensor([row], device=together.device))
        return done

    def _slices(self, look: Look) -> Generator[None, None, ImageState]:
        if look.read:
            return (yield from self._read(look))
        picture = self._picture(look)
        self._counters.add("image_misses")
        pixels = self._processor.pixel_values(picture).to(self._model.device, self._model.dtype)
        self._counters.add("encoder_forwards")
        features = yield from encode_in_slices(self._model.encoder.vision, pixels)
        return self._model.image_state(features)

    def _read(self, look: Look) -> Generator[None, None, ImageState]:
        """The state without words, known or made, with the words that the reader finds."""
        silent = replace(look, read=False)
        state = self._states.get(silent)
        if state is None:
            state = yield from self._slices(silent)
            self._states.put(silent, state)
        yield
        assert self._reader is not None
        ids = self._processor.encode_answer("".join(f" {line}" for line in self._reader.read(self._picture(look))))
        return self._model.with_words(state, torch.tensor([ids], device=self._model.device)) if ids else state

    def _picture(self, look: Look) -> Image.Image:
        data = self._pictures.get(look.sha256)
        if data is None:
            raise UnknownImage([look.sha256])
        picture = decode_picture(data)
        return picture if look.region is None else cut_out(picture, look.region)


class Encoding:
    """A picture in the hands of one worker, on its way to its state.

    Raises, from `advance`:
        UnknownImage: its bytes are needed. BadImage: its pixels are broken.
    """

    def __init__(self, look: Look, slices: Generator[None, None, ImageState], let_go: Callable[[], None]) -> None:
        self.look = look
        self._slices = slices
        self.let_go = let_go
        """Somebody else may have it. To be called at the end, however it comes."""

    def advance(self) -> ImageState | None:
        """Do the next slice of work; the state once it is whole."""
        try:
            next(self._slices)
        except StopIteration as end:
            state: ImageState = end.value
            return state
        return None


def encode_in_slices(vision: VisionEncoder, pixels: Tensor) -> Generator[None, None, ImageFeatures]:
    """What `vision` gives for pixels (1, 3, H, W). On a CPU it pauses after every few blocks, as decode steps have to
    wait for it; on an accelerator it is quick. A tower of another kind runs whole, too."""
    tower = vision.tower
    if pixels.device.type != "cpu" or not isinstance(tower, VisionTransformer):
        return vision(pixels)  # type: ignore[no-any-return]
    features = vision.begin(pixels, len(tower.blocks))
    for start in range(0, len(tower.blocks), BLOCKS_A_SLICE):
        yield
        patches = tower.run(features.patches, start, start + BLOCKS_A_SLICE)
        features = replace(features, patches=patches)
    return vision.finish(features, 0)
