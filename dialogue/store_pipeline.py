"""The short way of commands to one Redis: what a turn costs beside the model is mostly spent between client and socket.

redis-py makes two tasks and half a dozen timers of a pipeline, reports on it to its observers, and sends the text of
every script again. Here a pipeline that is no transaction has one timer and no task, and names its scripts. What it
keeps: the pool and its bound, the retries, the answers as redis-py reads them, and that a connection with an answer
unread is never used again.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.connection import HiredisRespSerializer
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_SERIALIZER = HiredisRespSerializer()
Words = tuple[Any, ...]
"""A command and its arguments."""


class StoreRedis(Redis):
    """redis-py's client, but for the pipelines that are no transactions."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """As redis-py's; without a transaction it takes no `watch` and no registered scripts."""
        kind = Pipeline if transaction else StorePipeline
        return kind(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class StorePipeline(Pipeline):
    """Commands that are sent together and may run again. A connection sends a script once, and names it by its hash
    from then on."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers in order; errors of the server are raised, the first one, or stand among them."""
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        pool: Any = self.connection_pool
        connection = pool.take() or await pool.get_connection()
        try:
            answers = await connection.retry.call_with_retry(
                lambda: _ask(connection, [words for words, _ in stack]), lambda error: connection.disconnect()
            )
        finally:
            await pool.give_back(connection)
        if raise_on_error:
            self.raise_first_error(stack, answers)
        return [self._read(answer, *command) for answer, command in zip(answers, stack, strict=True)]

    def _read(self, answer: Any, words: Words, options: Mapping[str, Any]) -> Any:
        callback = self.response_callbacks.get(words[0])
        if callback is None or isinstance(answer, Exception):
            return answer
        return callback(answer, **{name: value for name, value in options.items() if name != "keys"})


async def _ask(connection: Any, commands: Sequence[Words]) -> list[Any]:
    answers = await connection.exchange([connection.by_name(words) for words in commands])
    if any(isinstance(answer, NoScriptError) for answer in answers):  # somebody has made the server forget it
        answers = await connection.exchange(commands)
    return list(answers)


@cache
def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


class StorePool(BlockingConnectionPool):
    """A pool whose idle connections are taken and given back without a lock: nothing is awaited in between."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asking = 0

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        """As redis-py's: it waits where all are in use."""
        self._asking += 1
        try:
            return await super().get_connection(*args, **options)  # type: ignore[no-untyped-call]
        finally:
            self._asking -= 1

    def take(self) -> Any:
        """An idle connection that is open as far as is known; None if there is none."""
        idle: list[Any] = self._available_connections
        if not idle or not idle[-1].is_open:
            return None
        connection = idle.pop()
        self._in_use_connections.add(connection)
        return connection

    async def give_back(self, connection: Any) -> None:
        """Make it idle again, and say so where somebody may wait for it."""
        if self._asking:
            return await asyncio.shield(self.release(connection))
        self._in_use_connections.discard(connection)
        self._available_connections.append(connection)


class QuickConnection:
    """Makes redis-py's connections cheaper. Commands are packed by hiredis, as on its blocking ones: a script's has two
    dozen arguments. And a timer ends what takes too long, where redis-py makes a task of every write."""

    is_connected: bool
    socket_timeout: float | None
    _reader: asyncio.StreamReader

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sent: set[str] = set()

    async def on_connect(self) -> None:
        """Another server may be at the other end."""
        self._sent.clear()
        redis: Any = super()
        await redis.on_connect()

    @property
    def is_open(self) -> bool:
        """False once the server has closed it."""
        return self.is_connected and not self._reader.at_eof()

    def by_name(self, words: Words) -> Words:
        """The command, with the hash of its script if this connection has sent that."""
        if words[0] != "EVAL":
            return words
        name = _sha1(words[1])
        if name not in self._sent:
            self._sent.add(name)
            return words
        return ("EVALSHA", name, *words[2:])

    def pack_command(self, *args: Any) -> list[bytes]:
        """The bytes of a command."""
        packed: list[bytes] = _SERIALIZER.pack(*args)
        return packed

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Raises what redis-py raises."""
        send: Any = super()
        if not self.is_connected:
            return await send.send_packed_command(command, check_health)  # type: ignore[no-any-return]
        async with _InTime(self):
            await send.send_packed_command(command, check_health)

    async def exchange(self, commands: Sequence[Words]) -> list[Any]:
        """Send commands, connecting first if need be, and read their answers, errors of the server among them."""
        redis: Any = super()
        packed = [part for words in commands for part in self.pack_command(*words)]
        async with _InTime(self):
            await redis.send_packed_command(packed, check_health=False)
            return [await self._answer() for _ in commands]

    async def _answer(self) -> Any:
        redis: Any = super()
        try:
            return await redis.read_response()
        except ResponseError as error:
            return error


class _InTime:
    """One timer around what redis-py would watch with many. When it goes off, redis-py drops the connection, as it does
    with one whose reader is cancelled."""

    def __init__(self, connection: QuickConnection) -> None:
        self._connection, self._patience = connection, connection.socket_timeout
        self._timer = asyncio.timeout(self._patience)

    async def __aenter__(self) -> None:
        self._connection.socket_timeout = None
        await self._timer.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        self._connection.socket_timeout = self._patience
        try:
            await self._timer.__aexit__(*raised)
        except TimeoutError as error:
            raise RedisTimeoutError("The store did not answer in time.") from error
