"""A platform that is none, and an empty store."""

import pytest
from fake_platform import FakePlatform

from visavis.dialogue.store_client import connect


@pytest.fixture(autouse=True)
async def empty_store(store_url: str) -> None:
    """A turn that another test left behind would be taken up by the next one."""
    redis = connect(store_url)
    await redis.flushall()
    await redis.aclose()


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()
