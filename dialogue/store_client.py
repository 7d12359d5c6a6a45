"""The connection to Redis, its errors as ours, and the names of keys.

The keys of a session share one slot by the hash tag: `visavis:{<session>}:<name>`, the names in `store_scripts`. Beside
them stand `visavis:image:<sha256>`, `visavis:person:<person>` and `visavis:active` (session -> time of its last turn).
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError, ResponseError

from visavis.dialogue.errors import OtherSchema, StoreTooNew, StoreUnavailable, UnknownSession
from visavis.dialogue.store_branches import KEY_NAMES
from visavis.dialogue.store_pipeline import QuickConnection, StorePool, StoreRedis
from visavis.dialogue.store_records import SCHEMA

MONTH_S = 30 * 24 * 3600
NEW_SESSION_TTL_S = 24 * 3600  # a page that was opened and left behind shall not stay for a month
ACTIVE = "visavis:active"
VERSION = "visavis:schema"  # of the store: the newest `version` that has used it; the oldest that is `left` in it
ERRORS: Counter[str] = Counter()  # of this process, by the kind of error; they only grow


def connect(url: str) -> Redis:
    """A client for `url` (redis://, rediss://, unix://); lazy, with short time-outs and few retries.

    `?cluster=true` at its end stands for a cluster, of which it names any node. Every write of the store may run twice,
    so retrying is safe. No pipeline of the store is a transaction: redis-py would open that of a cluster from another
    event loop. Close it with `await client.aclose()`.
    """
    patience: Any = {
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
    }
    if url.endswith("?cluster=true"):
        # What the store uses of it is the same as of a client of one server.
        return cast(Redis, RedisCluster.from_url(url.partition("?")[0], max_connections=32, **patience))
    pool = StorePool.from_url(url, max_connections=32, timeout=5, redis_connect_func=_let_in, **patience)
    pool.connection_class = type("StoreConnection", (QuickConnection, pool.connection_class), {})
    return StoreRedis.from_pool(pool)


class _NewerStore(RedisError):
    """What every connection to a store of a newer version fails with."""


async def _let_in(connection: Any) -> None:
    """Greet the server and look whose the store is, before anything else is said on a new connection."""
    try:
        await connection.on_connect()
        await connection.send_command("HGET", VERSION, "version")
        version = await connection.read_response()
    except BaseException:  # one that is cancelled here would stay open
        await connection.disconnect(nowait=True)
        raise
    if int(version or 0) > SCHEMA:
        raise _NewerStore


def too_new() -> StoreTooNew:
    return StoreTooNew(
        f"A newer visavis has kept conversations in this store; this one, which reads those of schema {SCHEMA} and "
        "before, leaves it as it is. Start the newer one, or restore a backup that is older."
    )


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever redis-py raises into `StoreUnavailable`."""
    cancelled = _cancel_requests()
    try:
        yield
    except Exception as error:
        if _cancel_requests() > cancelled:  # redis-py, cancelled while it connects, may fail in its own ways instead
            raise asyncio.CancelledError from error
        if not isinstance(error, RedisError | OSError):
            raise
        if isinstance(error, _NewerStore):
            raise too_new() from error
        if is_other_schema(error):
            raise OtherSchema("This conversation is kept by another version of visavis; please try again.") from error
        ERRORS[type(error).__name__] += 1
        raise StoreUnavailable("The conversation store does not answer; please try again in a moment.") from error
    if _cancel_requests() > cancelled:  # redis-py waits by `wait_for`, which in Python 3.11 may swallow a cancellation
        raise asyncio.CancelledError


def is_other_schema(answer: object) -> bool:
    """Whether a script did nothing, since the conversation is not of this schema."""
    said = str(answer).rpartition("caused error: ")[2]  # what comes before tells which command of a pipeline
    return isinstance(answer, ResponseError) and said.lstrip("('").startswith("SCHEMA ")


def _cancel_requests() -> int:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # synchronous, without an event loop
        return 0
    return 0 if task is None else task.cancelling()


def session_key(session: str, name: str) -> str:
    return f"visavis:{{{session}}}:{name}"


def session_keys(session: str) -> list[str]:
    """All keys that a session can have."""
    return [session_key(session, name) for name in KEY_NAMES]


def image_key(sha256: str) -> str:
    return f"visavis:image:{sha256}"


def person_key(person: str) -> str:
    return f"visavis:person:{person}"


def unknown_session() -> UnknownSession:
    return UnknownSession("This conversation is not known here.")


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
