"""A conversation in this process, without a server and without a store: `ask`, `caption` and `chat` use it.

Holds how an engine is opened for one command and what was said in one conversation. Pictures are checked and normalised
as the server does it, so that answers are the same. It speaks to the engine itself: importing LangChain would cost a
command that answers once half a second. Imports torch only when a model is opened.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from visavis.bot.chat_models import model_place, shown_name
from visavis.bot.settings import Settings
from visavis.dialogue.errors import UnknownImage
from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import ImageLimits
from visavis.models.checkpoint_files import FOREIGN
from visavis.models.generation import (
    Completion,
    GenerationChunk,
    GenerationRequest,
    Message,
    SamplingParameters,
    Shown,
    WordHeat,
)
from visavis.models.prompt import CAPTION_PROMPT
from visavis.models.replies import is_small_talk
from visavis.models.text_checks import bounded_text


class Engine(Protocol):
    """What is needed of `models.engine.InferenceEngine`."""

    @property
    def several_pictures(self) -> bool:
        """Whether the model is shown more than the picture that a question is about."""
        ...

    def looks_at(self, request: GenerationRequest) -> tuple[str, ...]:
        """The pictures that have to be added before."""
        ...

    def add_image(self, data: bytes) -> str:
        """Take a picture."""
        ...

    def stream(self, request: GenerationRequest) -> AsyncGenerator[GenerationChunk, None]:
        """The answer in pieces; the last one carries the completion."""
        ...

    async def explain(self, request: GenerationRequest, answer: str) -> tuple[WordHeat, ...]:
        """Where in the picture the words of an answer come from."""
        ...


class MemoryImages:
    """Pictures by their sha256, for as long as the process lives."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._images: dict[str, bytes] = {}

    def add(self, path: Path) -> str:
        """Read, check and normalise a picture; gives its sha256.

        Raises:
            OSError: the file cannot be read. DialogueError: it is no picture that can be used.
        """
        return self.add_bytes(path.read_bytes())

    def add_bytes(self, data: bytes) -> str:
        """The same for the bytes of a file."""
        image = normalise_image(data, self._limits)
        self._images[image.ref.sha256] = image.data
        return image.ref.sha256

    def clear(self) -> None:
        """Forget all pictures."""
        self._images.clear()

    async def read(self, sha256: str) -> bytes:
        """The bytes of a picture; raises UnknownImage if it was never added."""
        if sha256 not in self._images:
            raise UnknownImage("This picture has not been shown yet.")
        return self._images[sha256]


@dataclass
class LocalConversation:
    """The picture that is talked about, what was said about it and before, and the engine that answers."""

    engine: Engine
    images: MemoryImages
    beams: int = 1
    image: str | None = None
    history: tuple[tuple[str, str], ...] = ()
    last: Completion | None = None
    dialogue: tuple[Message, ...] = ()

    async def ask(self, text: str, images: list[str]) -> AsyncGenerator[str, None]:
        """Yield the answer piece by piece; `last` then holds it whole. An answer that failed leaves no trace.

        A picture without a text is described; one that is new starts a new history.
        """
        image, history = (images[-1], ()) if images else (self.image, self.history)
        question = bounded_text(text) or CAPTION_PROMPT
        asked = (*self.dialogue, Message("user", (*map(Shown, images), text if text.strip() else CAPTION_PROMPT)))
        sampling = SamplingParameters(beams=self.beams)
        request = GenerationRequest(question, history, image, sampling=sampling, dialogue=asked)
        for shown in self.engine.looks_at(request):
            self.engine.add_image(await self.images.read(shown))
        stream = self.engine.stream(request)
        async with contextlib.aclosing(stream) as chunks:
            async for chunk in chunks:
                self.last = chunk.completion
                yield chunk.text
        said = (question, self.last.text if self.last else "")
        self.dialogue = (*asked, Message("assistant", (said[1],))) if said[1] else self.dialogue
        self.image, self.history = image, history if is_small_talk(question) or not said[1] else (*history, said)


def instructed(settings: Settings) -> tuple[Message, ...]:
    """How a conversation begins: with the operator's instructions, which our own model does not read."""
    return (Message("system", (settings.instructions,)),) if settings.instructions else ()


@contextlib.contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """An engine with the model of the settings in this process; its threads end with the context.

    Raises:
        ModelNotFound, ModelError: one sentence each.
    """
    if (place := model_place(settings.model)).startswith(FOREIGN):
        from visavis.models.transformers_loading import load_transformers_engine

        name = shown_name(settings.model)
        with load_transformers_engine(place.removeprefix(FOREIGN), model_name=name, device=settings.device) as foreign:
            yield foreign
        return
    folder = Path(place)
    with _quick_imports(), ThreadPoolExecutor(1, "weights") as reading:
        from visavis.models.weight_files import read_weights

        weights = reading.submit(read_weights, folder)  # while this thread imports the rest
        from visavis.models.engine import InferenceEngine
        from visavis.models.loading import load_model
        from visavis.models.precision import Precision, serve_with
        from visavis.models.words_in_pictures import WordReader

        model, processor = load_model(folder, settings.device, read=weights.result)
        serve_with(model, Precision(settings.precision))
    with InferenceEngine(model, processor, reader=WordReader.find()) as engine:
        yield engine


@contextlib.contextmanager
def _quick_imports() -> Iterator[None]:
    """A sixth of the time that torch takes to import is garbage collection that finds nothing. OpenMP reads its
    wait policy once, at import: threads that spin are slow on a busy machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
