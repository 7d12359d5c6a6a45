"""What a gateway keeps in Redis, as one value: sessions, turns and pictures. Only `store*.py` imports redis."""

from redis.asyncio import Redis

from visavis.dialogue.store_channels import ChannelStore
from visavis.dialogue.store_client import MONTH_S, connect
from visavis.dialogue.store_images import ImageStore
from visavis.dialogue.store_persons import PersonStore
from visavis.dialogue.store_sessions import SessionStore
from visavis.dialogue.store_turns import TurnStore
from visavis.dialogue.store_upgrade import check_version, upgrade_store


class Store:
    """All parts of the store over one client; their methods raise `StoreUnavailable` when Redis does not answer."""

    def __init__(
        self, redis: Redis, *, ttl_s: int = MONTH_S, replay_grace_s: int = 120, kept_turns: int = 2_000
    ) -> None:
        self._redis = redis
        self._ttl_s = ttl_s
        self._is_open = False
        self.persons = PersonStore(redis, ttl_s=ttl_s)
        self.sessions = SessionStore(redis, self.persons, ttl_s=ttl_s)
        self.turns = TurnStore(redis, ttl_s=ttl_s, replay_grace_s=replay_grace_s, kept_turns=kept_turns)
        self.images = ImageStore(redis, ttl_s=ttl_s)

    def channel(self, name: str) -> ChannelStore:
        """The part of a platform, such as `slack`."""
        return ChannelStore(self._redis, name, ttl_s=self._ttl_s)

    async def open(self) -> int:
        """Upgrade what an earlier version has kept, once; how many conversations that were.

        Raises:
            StoreTooNew: a later version has used the store; nothing was touched.
        """
        upgraded = 0 if self._is_open else await upgrade_store(self._redis, self.sessions.all_sessions())
        self._is_open = True
        return upgraded

    async def ping(self) -> None:
        """Raises `StoreUnavailable` unless the store answers, `StoreTooNew` if it has gone beyond this version."""
        await check_version(self._redis)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def open_store(url: str, *, ttl_s: int = MONTH_S) -> Store:
    """The store at `url`; lazy: nothing is asked of it yet."""
    return Store(connect(url), ttl_s=ttl_s)
