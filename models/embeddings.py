"""Pictures and texts as vectors in one space, as LangChain's `Embeddings`: over an engine or over a model server.

A picture comes as bytes, or as a data URL where a program has texts alone to give. Only a model that was trained with
`itc` has such a space.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from anyio.from_thread import start_blocking_portal
from langchain_core.embeddings import Embeddings

from visavis.models.errors import BadImage
from visavis.models.generation import Embedding
from visavis.models.model_client import ModelClient
from visavis.models.text_checks import bounded_text

if TYPE_CHECKING:
    from visavis.models.engine import InferenceEngine

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,")


class VisavisEmbeddings(Embeddings):
    """Unit vectors: the dot product of two says how well they fit. Give it either an `engine` or a `base_url`.

    Raises:
        ModelError: as the engine has it; NoSharedSpace (`no_shared_space`) from a model without the space.
    """

    def __init__(self, *, engine: InferenceEngine | None = None, base_url: str | None = None) -> None:
        if (engine is None) == (base_url is None):
            raise ValueError("VisavisEmbeddings needs either an engine or a base_url")
        self._backend = ModelClient(base_url) if engine is None and base_url is not None else engine

    @classmethod
    def of(cls, backend: InferenceEngine | ModelClient) -> Self:
        """Over what a chat model asks; its connections stay the chat model's to close."""
        made = cls.__new__(cls)
        made._backend = backend
        return made

    async def aembed(self, inputs: Sequence[str | bytes]) -> list[Embedding]:
        """Texts and the bytes of pictures, in order, each with the number of tokens that it took."""
        assert self._backend is not None
        embeddings = []
        for one in inputs:
            if isinstance(one, str):
                embeddings.append(await self._backend.embed(bounded_text(one)))
            elif isinstance(self._backend, ModelClient):
                embeddings.append(await self._backend.embed(image=await self._backend.add_image(one)))
            else:
                embeddings.append(await self._backend.embed(image=self._backend.add_image(one)))
        return embeddings

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Texts, and pictures as data URLs."""
        return [list(made.vector) for made in await self.aembed([_picture_or_text(text) for text in texts])]

    async def aembed_query(self, text: str) -> list[float]:
        """The same for one."""
        return (await self.aembed_documents([text]))[0]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The same from a thread without an event loop: one is run beside it for this call."""
        with start_blocking_portal() as portal:
            try:
                return portal.call(self.aembed_documents, texts)
            finally:
                portal.call(self.aclose)

    def embed_query(self, text: str) -> list[float]:
        """The same for one."""
        return self.embed_documents([text])[0]

    async def aclose(self) -> None:
        """Close the connections to a model server; an engine stays its owner's."""
        if isinstance(self._backend, ModelClient):
            await self._backend.aclose()


def _picture_or_text(text: str) -> str | bytes:
    start = _DATA_URL.match(text)
    if start is None:
        return text
    try:
        return base64.b64decode(text[start.end() :], validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadImage("the picture is not valid base64") from error
