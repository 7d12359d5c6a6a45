"""An engine that says one sentence, word by word, as slowly as a test wants it."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from visavis.models.generation import Completion, FinishReason, GenerationChunk, GenerationRequest, WordHeat
from visavis.models.images import image_id


@dataclass
class ScriptedEngine:
    answer: str = "a red square on white"
    pause_s: float = 0.0
    asked: list[GenerationRequest] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    model_name: str = "scripted"

    def add_image(self, data: bytes) -> str:
        self.images.add(image_id(data))
        return image_id(data)

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        self.asked.append(request)
        for word in self.answer.split():
            await asyncio.sleep(self.pause_s)
            yield GenerationChunk(word + " ")
        yield GenerationChunk("", Completion(self.answer + " ", FinishReason.STOP, confidence=0.5))

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        rows = ((1.0, 0.0), (0.0, 0.0))
        return tuple(WordHeat(match[0], *match.span(), rows) for match in re.finditer(r"\S+", answer))
