"""What a platform such as Slack needs in Redis: its messages in hand (`store_jobs`), and what stands where."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.store_client import session_key, store_errors
from visavis.dialogue.store_jobs import JobStore
from visavis.dialogue.store_upgrade import run_script

# KEYS place  ARGV before session ttl_s -> the session that the place has now: this one, or that of who was first
_BIND = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return ARGV[2]
"""


# KEYS votes  ARGV person score withdrawn ttl_s -> the sum of all votes; only the vote that stands can be withdrawn
_VOTE = """
if ARGV[3] == '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
elseif redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('EXPIRE', KEYS[1], ARGV[4])
local sum = 0
for _, score in ipairs(redis.call('HVALS', KEYS[1])) do sum = sum + score end
return sum
"""


class ChannelStore(JobStore):
    """One platform's part of the store. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, redis: Redis, name: str, *, ttl_s: int) -> None:
        super().__init__(redis, name)
        self._ttl_s = ttl_s

    async def session_at(self, place: str) -> str | None:
        """The conversation that a place of the platform (a thread, a channel and a person) has."""
        with store_errors():
            held: Any = await self._redis.getex(self._place(place), ex=self._ttl_s)
        return None if held is None else held.decode()

    async def bind(self, place: str, session: str, before: str | None = None) -> str:
        """Give a place its conversation unless it has another one than `before`; the one that it has now."""
        held = (await self._run(_BIND, [self._place(place)], before or "", session, self._ttl_s)).decode()
        if held == session:
            await self._keep_with(session, self._place(place))
            if before not in (None, session):  # or it would take the place along when it is forgotten
                with store_errors():
                    await self._redis.srem(session_key(str(before), "places"), self._place(place))
        return str(held)

    async def remember(self, post: str, session: str, turn: str) -> None:
        """Know later which turn a message on the platform is the answer to."""
        with store_errors():
            await self._redis.set(self._post(post), f"{session} {turn}", ex=self._ttl_s)
        await self._keep_with(session, self._post(post))

    async def recall(self, post: str) -> tuple[str, str] | None:
        """The session and the turn that a message on the platform belongs to."""
        with store_errors():
            held: Any = await self._redis.get(self._post(post))
        if held is None:
            return None
        session, turn = held.decode().split()
        return session, turn

    async def vote(self, session: str, turn: str, person: str, score: int, *, withdrawn: bool) -> int:
        """Count what somebody thinks of a turn, or no longer; the sum of what all think."""
        votes = f"visavis:votes:{self._name}:{turn}"
        total = await self._run(_VOTE, [votes], person, score, "yes" if withdrawn else "", self._ttl_s)
        await self._keep_with(session, votes)
        return int(total)

    async def settings(self, group: str) -> dict[str, str]:
        """What was chosen for a group of places, such as a Discord server."""
        with store_errors():
            held: Any = await self._redis.hgetall(self._settings(group))
        return {name.decode(): value.decode() for name, value in held.items()}

    async def keep_settings(self, group: str, chosen: Mapping[Any, Any]) -> None:
        """Keep what is chosen (names and texts), for good; what is not named stays as it is."""
        with store_errors():
            await self._redis.hset(self._settings(group), mapping=chosen)

    async def _keep_with(self, session: str, key: str) -> None:
        """Let `forget` find the key; a session that is forgotten already takes it along now."""
        if not await run_script(self._redis, scripts.ADD_PLACE, session, key, self._ttl_s):
            with store_errors():
                await self._redis.delete(key)

    def _place(self, place: str) -> str:
        return f"visavis:place:{self._name}:{place}"

    def _settings(self, group: str) -> str:
        return f"visavis:settings:{self._name}:{group}"

    def _post(self, post: str) -> str:
        return f"visavis:post:{self._name}:{post}"
