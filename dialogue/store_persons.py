"""Persons in Redis: their conversations, and which names (one a channel) are one person's.

Each name keeps the set of all names that are its person's, itself among them; a name that was never linked keeps none.
"""

import secrets
import time
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue.errors import BadRequest
from visavis.dialogue.store_client import person_key, store_errors

LINK_TTL_S = 600
_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"  # nothing that is mistaken for something else when it is read aloud
_CODE_LENGTH = 12


class PersonStore:
    """Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, redis: Redis, *, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def list_session(self, person: str, session: str) -> None:
        """Let the person find a session again. What must have expired since leaves the list."""
        now = time.time()
        pipe = self._redis.pipeline(transaction=False)
        pipe.zadd(person_key(person), {session: now})
        pipe.zremrangebyscore(person_key(person), "-inf", now - 2 * self._ttl_s)
        pipe.expire(person_key(person), self._ttl_s)
        with store_errors():
            await pipe.execute()

    async def drop_sessions(self, names: list[str], sessions: list[str]) -> None:
        """Take sessions off the lists of a person."""
        with store_errors():
            for name in names if sessions else ():
                await self._redis.zrem(person_key(name), *sessions)

    async def is_listed(self, names: list[str], session: str) -> bool:
        """Whether the person has ever taken part in a session."""
        with store_errors():
            scores = [await self._redis.zscore(person_key(name), session) for name in names]
        return any(score is not None for score in scores)

    async def sessions(self, names: list[str], most: int = -1) -> list[tuple[str, float]]:
        """The sessions of a person with the times of their last turns, the latest first; `most` -1 means all."""
        found: dict[str, float] = {}
        with store_errors():
            for name in names:
                last = most if most < 0 else most - 1
                listed: Any = await self._redis.zrange(person_key(name), 0, last, desc=True, withscores=True)
                found |= {id.decode(): float(at) for id, at in listed}
        latest = sorted(found.items(), key=lambda one: -one[1])
        return latest if most < 0 else latest[:most]

    async def names(self, person: str) -> list[str]:
        """All names of the person who has this one, in a stable order."""
        with store_errors():
            found: Any = await self._redis.smembers(_names_key(person))
            for name in found:  # one of them that is silent stays the same person
                await self._redis.expire(_names_key(name.decode()), self._ttl_s)
        return sorted({person, *(name.decode() for name in found)})

    async def offer_link(self, person: str) -> str:
        """A code that joins whoever brings it, once and soon, with this person."""
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
        with store_errors():
            await self._redis.set(_code_key(code), person, ex=LINK_TTL_S)
            await self._redis.sadd(_codes_key(person), code)  # so that `forget` finds it
            await self._redis.expire(_codes_key(person), LINK_TTL_S)
        return "-".join(code[start : start + 4] for start in range(0, _CODE_LENGTH, 4))

    async def accept_link(self, person: str, code: str) -> list[str]:
        """Join a person with the one who was given the code; all names of both. Raises `BadRequest`: no such code.

        Each step adds names to sets, so joins that run at once or break off do no harm: the code is only gone before.
        """
        with store_errors():
            offered: Any = await self._redis.getdel(_code_key(code.replace("-", "").upper()))
        if offered is None:
            raise BadRequest("This code is not known; it works once and for ten minutes. Please ask for another one.")
        names = sorted({*await self.names(person), *await self.names(offered.decode())})
        for name in names:
            pipe = self._redis.pipeline(transaction=False)
            pipe.sadd(_names_key(name), *names)
            pipe.expire(_names_key(name), self._ttl_s)
            with store_errors():
                await pipe.execute()
        return names

    async def forget(self, names: list[str]) -> None:
        """Delete what is kept about a person beside the sessions."""
        with store_errors():
            for name in names:
                codes: Any = await self._redis.smembers(_codes_key(name))
                open_codes = (_code_key(code.decode()) for code in codes)
                for key in (*open_codes, _codes_key(name), person_key(name), _names_key(name)):
                    await self._redis.delete(key)


def _names_key(person: str) -> str:
    return f"visavis:names:{person}"


def _codes_key(person: str) -> str:
    return f"visavis:codes:{person}"


def _code_key(code: str) -> str:
    return f"visavis:link:{code}"
