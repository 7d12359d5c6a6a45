"""A conversation's messages for LangChain programs that keep their own, on plain Redis: lists, no modules.

    RunnableWithMessageHistory(chain, lambda session: VisavisChatMessageHistory(session, "redis://127.0.0.1:6379"))

Messages stand under `visavis:{<session>}:messages`, apart from what the dialogue manager keeps. Knows no models.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from visavis.dialogue.errors import BadRequest
from visavis.dialogue.store_client import MONTH_S, session_key, store_errors

MOST_MESSAGES = 4_000
_NAME = re.compile(r"[^\s{}]{1,256}")
_TIMES: dict[str, Any] = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}


class VisavisChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, in order; the latest `MOST_MESSAGES` for `ttl_s` seconds after the last one.

    All methods raise `StoreUnavailable` when Redis does not answer. Appending is not repeated by itself: nobody would
    know whether a lost answer meant a lost message. Close it with `close` or `await aclose()`.

    Raises:
        BadRequest: a name of a session with white space or braces, or longer than 256 characters.
    """

    def __init__(self, session_id: str, url: str = "redis://127.0.0.1:6379", *, ttl_s: int = MONTH_S) -> None:
        if not _NAME.fullmatch(session_id):
            raise BadRequest("The name of a session has 1 to 256 characters, without white space and braces.")
        self._key = session_key(session_id, "messages")
        self._ttl_s = ttl_s
        self._redis = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_TIMES)
        self._async_redis = redis.asyncio.Redis.from_url(url, retry=AsyncRetry(NoBackoff(), 0), **_TIMES)

    @property
    def messages(self) -> list[BaseMessage]:
        """All messages kept, the oldest first."""
        with store_errors():
            return _read(self._redis.lrange(self._key, 0, -1))

    @messages.setter
    def messages(self, messages: list[BaseMessage]) -> None:
        self.clear()
        self.add_messages(messages)

    async def aget_messages(self) -> list[BaseMessage]:
        """All messages kept, the oldest first."""
        with store_errors():
            return _read(await self._async_redis.lrange(self._key, 0, -1))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append, all or none."""
        if messages:
            with store_errors():
                self._append(self._redis.pipeline(transaction=True), messages).execute()

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append, all or none."""
        if messages:
            with store_errors():
                await self._append(self._async_redis.pipeline(transaction=True), messages).execute()

    def clear(self) -> None:
        """Forget everything."""
        with store_errors():
            self._redis.delete(self._key)

    async def aclear(self) -> None:
        """Forget everything."""
        with store_errors():
            await self._async_redis.delete(self._key)

    def close(self) -> None:
        """Close the connection of the synchronous methods."""
        self._redis.close()

    async def aclose(self) -> None:
        """Close all connections."""
        self._redis.close()
        await self._async_redis.aclose()

    def _append(self, pipe: Any, messages: Sequence[BaseMessage]) -> Any:
        pipe.rpush(self._key, *(json.dumps(message_to_dict(message)) for message in messages))
        pipe.ltrim(self._key, -MOST_MESSAGES, -1)
        pipe.expire(self._key, self._ttl_s)
        return pipe


def _read(records: Sequence[bytes | str]) -> list[BaseMessage]:
    return messages_from_dict([json.loads(record) for record in records])
