"""Pictures that an engine holds: their bytes, and what the model computed from each picture alone, by sha256.

Both are bounded by bytes; features that were dropped are made again from the bytes. It knows no questions.
"""

from __future__ import annotations

from dataclasses import dataclass

from visavis.models.byte_cache import ByteCache
from visavis.models.errors import UnknownImage
from visavis.models.images import PictureLimits, check_picture, decode_picture, image_id
from visavis.models.processor import Processor
from visavis.models.visavis_model import ImageState, VisavisModel

_PICTURE_BYTES = 64 << 20


@dataclass
class ImageCounters:
    """How often a picture was encoded, found ready, or not; they only ever grow."""

    encoder_forwards: int = 0
    image_hits: int = 0
    image_misses: int = 0


class ImageStates:
    """`add` and `holds` may be called from any thread, `state` from the one that drives the model."""

    def __init__(
        self,
        model: VisavisModel,
        processor: Processor,
        counters: ImageCounters,
        *,
        cache_bytes: int,
        limits: PictureLimits,
    ) -> None:
        self.limits = limits
        self._model = model
        self._processor = processor
        self._counters = counters
        self._pictures: ByteCache[bytes] = ByteCache(max(_PICTURE_BYTES, 2 * limits.max_image_bytes), len)
        self._states: ByteCache[ImageState] = ByteCache(cache_bytes, lambda state: state.nbytes)

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

    def holds(self, sha256: str) -> bool:
        """True if `state` needs no bytes from anybody."""
        return sha256 in self._states or sha256 in self._pictures

    def state(self, sha256: str) -> ImageState:
        """What the picture alone decides: ready, or computed now (in one thread, so no two compute the same).

        Raises:
            UnknownImage: its bytes are needed. BadImage: its pixels are broken.
        """
        state = self._states.get(sha256)
        if state is not None:
            self._counters.image_hits += 1
            return state
        data = self._pictures.get(sha256)
        if data is None:
            raise UnknownImage([sha256])
        self._counters.image_misses += 1
        pixels = self._processor.pixel_values(decode_picture(data)).to(self._model.device, self._model.dtype)
        self._counters.encoder_forwards += 1
        state = self._model.image_state(self._model.encode_image(pixels))
        self._states.put(sha256, state)
        return state
