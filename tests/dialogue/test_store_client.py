"""What redis-py's connections are spared, and what they keep."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

from visavis.dialogue.store_client import connect


async def test_no_write_takes_a_task(redis: Redis) -> None:
    await redis.set("a", "1")
    loop, made = asyncio.get_running_loop(), []

    def counted(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
    ) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **options)

    loop.set_task_factory(counted)  # type: ignore[arg-type]
    try:
        assert await redis.get("a") == b"1"
        assert await redis.pipeline(transaction=False).get("a").get("b").execute() == [b"1", None]
        assert not made
        assert await redis.pipeline(transaction=True).set("a", "2").get("a").execute() == [True, b"2"]
    finally:
        loop.set_task_factory(None)
    assert len(made) == 1, "redis-py's own gives the connection back by one"


async def test_a_write_that_nobody_reads_ends_in_time(store_url: str) -> None:
    client = connect(store_url)
    assert await client.ping()
    connection = await client.connection_pool.get_connection()
    writer, patience = connection._writer, connection.socket_timeout

    class Full:
        """A socket whose other side has stopped reading."""

        def writelines(self, command: list[bytes]) -> None:
            pass

        async def drain(self) -> None:
            await asyncio.sleep(60)

        def close(self) -> None:
            writer.close()

    connection._writer, connection.socket_timeout = Full(), 0.05
    with pytest.raises(RedisTimeoutError):
        await connection.send_command("PING")
    assert not connection.is_connected
    assert connection.socket_timeout == 0.05 < patience
    await client.connection_pool.release(connection)
    await client.aclose()
