"""Pictures in Redis: each kept once, by the hash of its bytes, for as long as a session shows it."""

from typing import Any

from redis.asyncio import Redis

from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.errors import UnknownImage
from visavis.dialogue.images import NormalisedImage
from visavis.dialogue.json_text import write_json
from visavis.dialogue.store_client import MONTH_S, image_key, store_errors


class ImageStore:
    """Pictures by sha256. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, redis: Redis, *, ttl_s: int = MONTH_S) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def save(self, session: str, image: NormalisedImage) -> None:
        """Keep a picture on behalf of a session."""
        key, ref = image_key(image.ref.sha256), write_json(image.ref)
        with store_errors():
            await self._redis.eval(scripts.SAVE_IMAGE, 1, key, image.data, ref, session, self._ttl_s)

    async def read(self, sha256: str) -> bytes:
        """The normalised bytes; reading extends their time to live. Raises `UnknownImage`."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hget(image_key(sha256), "data")
        pipe.expire(image_key(sha256), self._ttl_s)
        with store_errors():
            data, _ = await pipe.execute()
        if data is None:
            raise unknown_image()
        return bytes(data)

    async def caption(self, sha256: str) -> str | None:
        """What a model once said that the picture shows."""
        with store_errors():
            caption: Any = await self._redis.hget(image_key(sha256), "caption")
        return None if caption is None else caption.decode()

    async def set_caption(self, sha256: str, caption: str) -> None:
        """Keep what a model says that the picture shows, for as long as the picture."""
        with store_errors():
            await self._redis.eval(scripts.SET_CAPTION, 1, image_key(sha256), caption.encode("utf-8", "replace"))

    async def release(self, session: str, sha256: str) -> bool:
        """End a session's use of a picture; True when it was the last one and the picture is gone."""
        with store_errors():
            return bool(await self._redis.eval(scripts.RELEASE_IMAGE, 1, image_key(sha256), session))


def unknown_image() -> UnknownImage:
    return UnknownImage("One of the pictures is not known in this conversation; please send it again.")
