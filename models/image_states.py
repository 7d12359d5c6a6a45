"""Pictures that an engine holds: their bytes, and what the model computed from each picture alone, by sha256.

Both are bounded by bytes; features that were dropped are made again from the bytes. A picture is encoded slice by
slice, so that whoever drives the model can do something else in between. It knows no questions.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from torch import Tensor

from visavis.models.byte_cache import ByteCache
from visavis.models.errors import UnknownImage
from visavis.models.image_features import ImageFeatures
from visavis.models.images import PictureLimits, check_picture, decode_picture, image_id
from visavis.models.processor import Processor
from visavis.models.visavis_model import ImageState, VisavisModel
from visavis.models.vision_encoder import VisionEncoder
from visavis.models.vision_transformer import VisionTransformer

BLOCKS_A_SLICE = 2  # of ViT-S/14: about two decode steps of 32 rows
_PICTURE_BYTES = 64 << 20


@dataclass
class ImageCounters:
    """How often a picture was encoded, found ready, or not; they only ever grow."""

    encoder_forwards: int = 0
    image_hits: int = 0
    image_misses: int = 0


class ImageStates:
    """`add` and `holds` may be called from any thread, the others from the one that drives the model.

    One picture is encoded at a time; whoever wants it meanwhile gets the same result.
    """

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
        self._encoding: Generator[None, None, ImageState] | None = None
        self._encoded: str | None = None

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
        """True if `encode` needs no bytes from anybody."""
        return self.is_ready(sha256) or sha256 in self._pictures

    def is_ready(self, sha256: str) -> bool:
        """True if nothing has to be computed."""
        return sha256 in self._states

    def get(self, sha256: str) -> ImageState | None:
        """What the picture alone decides, if it is ready."""
        return self._states.get(sha256)

    @property
    def encoding(self) -> str | None:
        """The picture that is being encoded."""
        return self._encoded

    def encode(self, sha256: str) -> ImageState | None:
        """Do the next slice of work on a picture; the state once it is whole. Another picture is given up for it.

        Raises:
            UnknownImage: its bytes are needed. BadImage: its pixels are broken.
        """
        if self._encoding is None or self._encoded != sha256:
            self._encoding, self._encoded = self._slices(sha256), sha256
        try:
            next(self._encoding)
        except StopIteration as end:
            state: ImageState = end.value
            self._give_up()
            self._states.put(sha256, state)
            return state
        except Exception:
            self._give_up()
            raise
        return None

    def _give_up(self) -> None:
        self._encoding = self._encoded = None

    def _slices(self, sha256: str) -> Generator[None, None, ImageState]:
        data = self._pictures.get(sha256)
        if data is None:
            raise UnknownImage([sha256])
        self._counters.image_misses += 1
        pixels = self._processor.pixel_values(decode_picture(data)).to(self._model.device, self._model.dtype)
        self._counters.encoder_forwards += 1
        features = yield from encode_in_slices(self._model.encoder.vision, pixels)
        return self._model.image_state(features)


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
