"""What a picture shows, in the model's words, for those who cannot see it: made once, kept with the picture."""

from __future__ import annotations

import asyncio
import logging

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from visavis.dialogue.context import DESCRIBE
from visavis.dialogue.store_images import ImageStore

log = logging.getLogger(__name__)


class AltTexts:
    """Captions by the chat model, one at a time: nobody waits for an answer because of them."""

    def __init__(self, model: BaseChatModel, images: ImageStore) -> None:
        self._model = model
        self._images = images
        self._captioning = asyncio.Lock()

    async def known(self, sha256: str) -> str | None:
        """The text that was made before."""
        return await self._images.caption(sha256)

    async def make(self, sha256: str) -> str | None:
        """The text, made now unless somebody else has just made it; None when the model fails."""
        async with self._captioning:
            text = await self.known(sha256)
            if text is None and (text := await self._caption(sha256)) is not None:
                await self._images.set_caption(sha256, text)
            return text

    async def _caption(self, sha256: str) -> str | None:
        question = HumanMessage(content=[{"type": "image", "file_id": sha256}, {"type": "text", "text": DESCRIBE}])
        try:
            return "".join([str(chunk.text) async for chunk in self._model.astream([question])]).strip()
        except Exception:  # the edge to any model: a picture without a text is better than none
            log.warning("a picture could not be described", exc_info=True)
            return None
