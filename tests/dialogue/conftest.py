"""Two real servers for the store: the embedded Valkey of the wheel and a stock Redis; each is started once."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis
from store_servers import start_redis, start_valkey

from visavis.dialogue.store import Store
from visavis.dialogue.store_client import connect

# Nothing here is timed: a busy machine must not fail a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


_START = {"valkey": start_valkey, "redis": start_redis}


@pytest.fixture(scope="session", params=["valkey", "redis"])
def store_url(request: pytest.FixtureRequest) -> Iterator[str]:
    # Not pytest's own folder: the path of a unix socket may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="vv") as folder:
        yield from _START[request.param](Path(folder))


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    client = connect(store_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def store(redis: Redis) -> Store:
    return Store(redis)
