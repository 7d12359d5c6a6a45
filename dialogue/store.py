"""What a gateway keeps in Redis, as one value: sessions, turns and pictures. Only `store*.py` imports redis."""

from redis.asyncio import Redis

from visavis.dialogue.store_channels import ChannelStore
from visavis.dialogue.store_client import MONTH_S, connect, store_errors
from visavis.dialogue.store_images import ImageStore
from visavis.dialogue.store_persons import PersonStore
from visavis.dialogue.store_sessions import SessionStore
from visavis.dialogue.store_turns import TurnStore


class Store:
    """All parts of the store over one client; their methods raise `StoreUnavailable` when Redis does not answer."""

    def __init__(
        self, redis: Redis, *, ttl_s: int = MONTH_S, replay_grace_s: int = 120, kept_turns: int = 2_000
    ) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self.persons = PersonStore(redis, ttl_s=ttl_s)
        self.sessions = SessionStore(redis, self.persons, ttl_s=ttl_s)
        self.turns = TurnStore(redis, ttl_s=ttl_s, replay_grace_s=replay_grace_s, kept_turns=kept_turns)
        self.images = ImageStore(redis, ttl_s=ttl_s)

    def channel(self, name: str) -> ChannelStore:
        """The part of a platform, such as `slack`."""
        return ChannelStore(self._redis, name, ttl_s=self._ttl_s)

    async def ping(self) -> None:
        """Raises `StoreUnavailable` unless the store answers."""
        with store_errors():
            await self._redis.ping()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def open_store(url: str, *, ttl_s: int = MONTH_S) -> Store:
    """The store at `url`; lazy: nothing is asked of it yet."""
    return Store(connect(url), ttl_s=ttl_s)
