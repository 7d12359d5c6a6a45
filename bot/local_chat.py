"""A conversation in this process, without a server and without a store: `ask`, `caption` and `chat` use it.

Holds how an engine is opened for one command and the messages of one conversation. Pictures are checked and normalised
as the server does it, so that answers are the same. Imports torch only when a model is opened.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage

from visavis.bot.chat_models import model_folder
from visavis.bot.settings import Settings
from visavis.dialogue.errors import UnknownImage
from visavis.dialogue.images import normalise_image
from visavis.dialogue.limits import ImageLimits


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
        image = normalise_image(path.read_bytes(), self._limits)
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
    """Messages so far and the model that answers them."""

    model: BaseChatModel
    messages: list[BaseMessage] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    async def ask(self, text: str, images: list[str]) -> AsyncGenerator[str, None]:
        """Yield the answer piece by piece; `last` then holds its metadata. An answer that failed leaves no trace."""
        question = HumanMessage(_content(text, images))
        whole = ""
        stream = cast(AsyncGenerator[AIMessageChunk, None], self.model.astream([*self.messages, question]))
        async with contextlib.aclosing(stream) as chunks:
            async for chunk in chunks:
                self.last = chunk.response_metadata or self.last
                whole += chunk.text
                yield chunk.text
        self.messages += [question, AIMessage(whole)]


def _content(text: str, images: list[str]) -> Any:
    if not images:
        return text
    return [*({"type": "image", "file_id": sha256} for sha256 in images), {"type": "text", "text": text}]


@contextlib.contextmanager
def open_model(settings: Settings, images: MemoryImages) -> Iterator[BaseChatModel]:
    """The model of the settings in this process; its threads end with the context.

    Raises:
        ModelNotFound, ModelError: one sentence each.
    """
    folder = model_folder(settings.model)
    with _quick_imports():
        from visavis.models.chat_model import VisavisChatModel
        from visavis.models.engine import InferenceEngine
        from visavis.models.loading import load_model

    model, processor = load_model(folder, settings.device)
    with InferenceEngine(model, processor) as engine:
        yield VisavisChatModel(engine=engine, image_source=images)


@contextlib.contextmanager
def _quick_imports() -> Iterator[None]:
    """A sixth of the time that torch and transformers take is garbage collection that finds nothing. OpenMP reads its
    wait policy once, at import: threads that spin are slow on a busy machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
