"""The short way of a pipeline: the same answers, and nothing lost or mixed up when it is cut short."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from visavis.dialogue.store_client import connect
from visavis.dialogue.store_pipeline import StorePipeline, StoreRedis

SCRIPT = "return {KEYS[1], ARGV[1]} -- told apart"
NAME = hashlib.sha1(SCRIPT.encode()).hexdigest()


@pytest.fixture
async def two(store_url: str) -> AsyncIterator[Redis]:
    """A client with two connections at most, whose others wait for a tenth of a second."""
    client = connect(store_url)
    client.connection_pool.max_connections, client.connection_pool.timeout = 2, 0.1
    yield client
    await client.aclose()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written to sockets."""
    found: list[str] = []
    send = AbstractConnection.send_packed_command

    async def note(self: AbstractConnection, packed: Any, *args: Any, **kw: Any) -> Any:
        found.append(b"".join([packed] if isinstance(packed, bytes) else packed).decode())
        return await send(self, packed, *args, **kw)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", note)
    return found


async def test_answers_are_those_of_redis_py(redis: Redis) -> None:
    def ask(pipe: Any) -> Any:
        pipe.set("a", "1").hset("h", mapping={"x": 1, "y": 2}).hgetall("h").zadd("z", {"m": 1.5}).expire("a", 60)
        return pipe.zrange("z", 0, -1, withscores=True).exists("a").get("nothing").eval(SCRIPT, 1, "k", "v").execute()

    assert isinstance(redis, StoreRedis)
    short = redis.pipeline(transaction=False)
    assert isinstance(short, StorePipeline)
    said = await ask(short)
    await redis.flushall()
    assert said == await ask(redis.pipeline(transaction=True))
    assert said[2] == {b"x": b"1", b"y": b"2"} and said[-1] == [b"k", b"v"]
    assert await redis.pipeline(transaction=False).execute() == []


async def test_a_connection_sends_a_script_once(redis: Redis, sent: list[str]) -> None:
    async def run() -> list[str]:
        sent.clear()
        pipe = redis.pipeline(transaction=False).hset("h", "a", "1").eval(SCRIPT, 1, "k", "v").eval(SCRIPT, 1, "k", "w")
        assert (await pipe.execute())[1:] == [[b"k", b"v"], [b"k", b"w"]]
        return [f"{one.count(SCRIPT)} {one.count(NAME)}" for one in sent if "hset" in one.lower()]

    assert await run() == ["1 1"]
    assert await run() == ["0 2"]
    await redis.script_flush()
    assert await run() == ["0 2", "2 0"]
    assert await run() == ["0 2"]
    [connection] = redis.connection_pool._available_connections
    await connection.disconnect()
    assert await run() == ["1 1"], "perhaps another server"


async def test_errors_of_the_server_are_raised_or_stand_among_the_answers(redis: Redis) -> None:
    await redis.set("text", "a")
    broken = redis.pipeline(transaction=False).get("text").incr("text").get("text")
    with pytest.raises(ResponseError, match="not an integer"):
        await broken.execute()
    first, error, last = await broken.get("text").incr("text").get("text").execute(raise_on_error=False)
    assert (first, last) == (b"a", b"a") and isinstance(error, ResponseError)
    assert await redis.get("text") == b"a"


@pytest.mark.parametrize("end", [asyncio.Task.cancel, None], ids=["cancelled", "too late"])
async def test_no_answer_reaches_whoever_asks_next(redis: Redis, end: Callable[[Any], Any] | None) -> None:
    await redis.mset({"mine": "1", "yours": "2"})
    await redis.pipeline(transaction=False).get("mine").execute()
    pool = redis.connection_pool
    [connection] = pool._available_connections
    if end is None:
        connection.socket_timeout, connection.retry._retries = 0.05, 0
    asked = asyncio.create_task(redis.pipeline(transaction=False).get("mine").blpop(["none"], 1).execute())
    await asyncio.sleep(0.02)
    if end is not None:
        end(asked)
    with pytest.raises(asyncio.CancelledError if end else RedisTimeoutError):
        await asked
    assert not connection.is_connected and not pool._in_use_connections
    answers = await asyncio.gather(*(redis.pipeline(transaction=False).get("yours").execute() for _ in range(5)))
    assert answers == [[b"2"]] * 5


async def test_connections_stay_few_and_whoever_waits_gets_one(two: Redis) -> None:
    async def slow(number: int) -> Any:
        return (await two.pipeline(transaction=False).blpop(["none"], 0.05).echo(str(number)).execute())[1]

    pool: Any = two.connection_pool
    pool.timeout = 5
    assert await asyncio.gather(*(slow(number) for number in range(9))) == [b"%d" % number for number in range(9)]
    assert len(pool._available_connections) == 2 and not pool._in_use_connections
    pool.timeout = 1
    quick = [two.pipeline(transaction=False).echo(str(number)).execute() for number in range(200)]
    assert await asyncio.gather(*quick) == [[b"%d" % number] for number in range(200)]
    assert len(pool._available_connections) == 2 and not pool._in_use_connections
    pool.timeout = 0.02
    outcomes = await asyncio.gather(*(slow(number) for number in range(3)), return_exceptions=True)
    assert [type(one) for one in outcomes].count(RedisConnectionError) == 1
    assert isinstance(pool, BlockingConnectionPool)


async def test_a_connection_that_the_server_closed_is_opened_again(redis: Redis, store_url: str) -> None:
    assert await redis.pipeline(transaction=False).ping().execute() == [True]
    [connection] = redis.connection_pool._available_connections
    other = connect(store_url)
    await other.client_kill_filter(_id=str(await redis.client_id()))
    await other.aclose()
    await asyncio.sleep(0.01)
    assert connection.is_connected and not connection.is_open
    assert await redis.pipeline(transaction=False).ping().execute() == [True]
    assert connection.is_open and redis.connection_pool._available_connections == [connection]


async def test_a_connection_lost_in_mid_pipeline_is_tried_again(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    await redis.pipeline(transaction=False).ping().execute()
    [connection] = redis.connection_pool._available_connections
    read, lost = AbstractConnection.read_response, []

    async def once(self: Any, *args: Any, **kw: Any) -> Any:
        if not lost:
            lost.append(self)
            await self.disconnect(nowait=True)
            raise RedisConnectionError("gone")
        return await read(self, *args, **kw)

    monkeypatch.setattr(AbstractConnection, "read_response", once)
    assert await redis.pipeline(transaction=False).set("a", "1").get("a").execute() == [True, b"1"]
    assert lost == [connection]
