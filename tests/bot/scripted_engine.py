"""An engine that says one sentence, word by word, as slowly as a test wants it."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

from visavis.models.errors import Busy, ModelError, NoSharedSpace, UnknownImage
from visavis.models.generation import Completion, Embedding, FinishReason, GenerationChunk, GenerationRequest, WordHeat
from visavis.models.images import PictureLimits, image_id


class _Pictures(set[str]):
    limits = PictureLimits()
    cached_bytes = 0


@dataclass
class ScriptedEngine:
    """`busy_times`: how many questions it refuses. `breaks_after`: the number of words after which it fails."""

    answer: str = "a red square on white"
    pause_s: float = 0.0
    busy_times: int = 0
    breaks_after: int | None = None
    running: int = 0
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[GenerationRequest] = field(default_factory=list)
    images: _Pictures = field(default_factory=_Pictures)
    model_name: str = "scripted"
    alive: bool = True
    several_pictures: bool = False

    def looks_at(self, request: GenerationRequest) -> tuple[str, ...]:
        if self.several_pictures:
            return tuple(image for message in request.dialogue for image in message.images)
        return () if request.image is None else (request.image,)

    def add_image(self, data: bytes) -> str:
        self.images.add(image_id(data))
        return image_id(data)

    async def embed(self, text: str = "", *, image: str | None = None) -> Embedding:
        raise NoSharedSpace

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        if missing := [image for image in self.looks_at(request) if image not in self.images]:
            raise UnknownImage(missing)
        if self.busy_times:
            self.busy_times -= 1
            raise Busy(1)
        self.asked.append(request)
        self.running += 1
        try:
            for number, word in enumerate(self.answer.split()):
                if number == self.breaks_after:
                    raise ModelError("the secret of the engine")
                await asyncio.sleep(self.pause_s)
                yield GenerationChunk(word + " ")
            completion = Completion(self.answer + " ", FinishReason.STOP, confidence=0.5, image=request.image)
            completion = replace(
                completion, images=self.looks_at(request), image_tokens=9 * len(self.looks_at(request))
            )
            yield GenerationChunk("", completion)
        finally:
            self.running -= 1
            self.freed.set()

    async def likeness(self, text: str, images: Sequence[str]) -> tuple[float, ...]:
        return ()

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        rows = ((1.0, 0.0), (0.0, 0.0))
        return tuple(WordHeat(match[0], *match.span(), rows) for match in re.finditer(r"\S+", answer))
