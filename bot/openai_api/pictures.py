"""Where the pictures of a request come from: the message itself, a session, or an allowed host on the network.

All are checked and normalised as uploads are. Knows no messages.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from visavis.bot.openai_api.conversation import PictureSource
from visavis.bot.openai_api.errors import ApiError, api_error
from visavis.bot.openai_api.url_fetcher import UrlFetcher
from visavis.dialogue.errors import BadImage, DialogueError
from visavis.dialogue.images import NormalisedImage, too_many_bytes
from visavis.dialogue.limits import ImageLimits
from visavis.dialogue.manager import DialogueManager

_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*?)(;base64)?,", re.IGNORECASE)


class Pictures:
    """Reads the pictures of all requests of a gateway."""

    def __init__(
        self,
        manager: DialogueManager,
        fetcher: UrlFetcher,
        normalise: Callable[[bytes, ImageLimits], Awaitable[NormalisedImage]],
    ) -> None:
        self._manager = manager
        self._fetcher = fetcher
        self._normalise = normalise
        self._limits = manager.limits.image

    async def block(self, source: PictureSource, session: str | None) -> dict[str, Any]:
        """The picture as a content block of LangChain: by reference if a session has it, else its bytes as base64."""
        if source.kind == "id":
            return {"type": "image", "file_id": await self._of_session(source, session)}
        image = await self._normalise(await self._bytes(source), self._limits)
        encoded = base64.b64encode(image.data).decode("ascii")
        return {"type": "image", "base64": encoded, "mime_type": image.ref.mime}

    async def read(self, source: PictureSource, session: str | None) -> bytes:
        """The bytes of the picture as they would be kept; an error names its place in the request."""
        try:
            if source.kind == "id":
                sha256 = await self._of_session(source, session)
                return (await self._manager.read_image(session or "", sha256))[1]
            return (await self._normalise(await self._bytes(source), self._limits)).data
        except DialogueError as error:
            raise api_error(error, param=source.place) from error

    async def keep(self, source: PictureSource, session: str) -> str:
        """The id of the picture in the session, which has it from now on."""
        if source.kind == "id":
            return await self._of_session(source, session)
        return (await self._manager.add_image(session, await self._bytes(source))).sha256

    async def _of_session(self, source: PictureSource, session: str | None) -> str:
        if session is None:
            message = "A picture's id belongs to a session: name it in X-Visavis-Session or in visavis.session."
            raise ApiError(message, param=source.place)
        ref, _ = await self._manager.read_image(session, source.value)
        return ref.sha256

    async def _bytes(self, source: PictureSource) -> bytes:
        if source.kind == "url":
            return await self._fetcher.fetch(source.value, self._limits)
        if 3 * len(source.value) // 4 > self._limits.max_bytes + 1024:
            raise too_many_bytes(3 * len(source.value) // 4, self._limits)
        return await asyncio.to_thread(_decode, source.value)


def _decode(url: str) -> bytes:
    """The bytes of a data URL; padding and white space as clients leave them."""
    start = _DATA_URL.match(url)
    if start is None:
        raise BadImage("Expected a data URL such as data:image/png;base64,...")
    if start[3] is None:
        return unquote_to_bytes(url[start.end() :])
    encoded = re.sub(r"\s+|%0A|%0D|=|%3D", "", url[start.end() :]).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("The picture in the data URL is not valid base64.") from None
