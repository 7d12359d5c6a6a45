"""What a platform such as Slack needs in Redis: messages taken over and not yet answered, and what stands where.

A message is taken once, whoever brings it, and stays with its process by a lease until the answer is shown; the message
of a process that died is given to the next. The keys of one platform's messages share a slot by the hash tag.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue import store_scripts as scripts
from visavis.dialogue.store_client import milliseconds, run_script, session_key, store_errors

SEEN_S = 900  # the last repeat of an event comes after five minutes
_JOBS_S = 24 * 3600
_AT_ONCE = 20

_NOW = "local time = redis.call('TIME')\nlocal now = time[1] * 1000 + math.floor(time[2] / 1000)\n"

# KEYS jobs due deaths line seen...  ARGV job record nonce lease_ms seen_s jobs_s place -> 1 taken | 0 a repeat
# A repeat of the call itself (its reply was lost) finds its own nonce.
_TAKE = (
    _NOW
    + """
for i = 5, #KEYS do
  local taker = redis.call('GET', KEYS[i])
  if taker then return taker == ARGV[3] and 1 or 0 end
end
for i = 5, #KEYS do redis.call('SET', KEYS[i], ARGV[3], 'EX', ARGV[5]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
if ARGV[7] ~= '' then redis.call('RPUSH', KEYS[4], ARGV[1]) end
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], ARGV[6]) end
return 1
"""
)

# KEYS jobs line  ARGV job -> 1 when no message of the place that came before is still to become a turn
_IS_FIRST = """
local first = redis.call('LINDEX', KEYS[2], 0)
while first and first ~= ARGV[1] and redis.call('HEXISTS', KEYS[1], first) == 0 do
  redis.call('LPOP', KEYS[2])
  first = redis.call('LINDEX', KEYS[2], 0)
end
return (not first or first == ARGV[1]) and 1 or 0
"""

# KEYS jobs due deaths  ARGV lease_ms record job... -> the leases are renewed; a record that is not empty is the job's
_RENEW = (
    _NOW
    + """
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[2], 'XX', now + ARGV[1], ARGV[i])
  local kept = redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1
  if kept and ARGV[2] ~= '' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[2]) end
end
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], 86400) end
return 1
"""
)

# KEYS jobs due deaths  ARGV lease_ms most -> {job, record, deaths, ...} of those whose process is gone
_ADOPT = (
    _NOW
    + """
local found = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local record = redis.call('HGET', KEYS[1], job)
  if record then
    redis.call('ZADD', KEYS[2], now + ARGV[1], job)
    for _, value in ipairs({job, record, redis.call('HINCRBY', KEYS[3], job, 1)}) do table.insert(found, value) end
  else
    redis.call('ZREM', KEYS[2], job)
  end
end
return found
"""
)

# KEYS jobs due deaths  ARGV job
_DONE = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('HDEL', KEYS[3], ARGV[1])
"""

# KEYS jobs due deaths  ARGV job -> the next process takes it at once, and counts no death
_RELEASE = """
if redis.call('ZADD', KEYS[2], 'XX', 'CH', 0, ARGV[1]) == 1 then redis.call('HINCRBY', KEYS[3], ARGV[1], -1) end
return 1
"""

# KEYS place  ARGV before session ttl_s -> the session that the place has now: this one, or that of who was first
_BIND = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return ARGV[2]
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A message that was taken over; `deaths` counts the processes that were lost while they had it."""

    id: str
    record: str
    deaths: int = 0


class ChannelStore:
    """One platform's part of the store. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, redis: Redis, name: str, *, ttl_s: int) -> None:
        self._redis = redis
        self._name = name
        self._ttl_s = ttl_s
        self._keys = [f"visavis:{kind}:{{{name}}}" for kind in ("jobs", "due", "deaths")]

    async def take(self, job: Job, events: Sequence[str], lease_s: float, place: str = "") -> bool:
        """Take a message over; False when one of the ids in `events` was seen before, by whomever."""
        seen = [f"visavis:seen:{{{self._name}}}:{event}" for event in events]
        args = (job.id, job.record, secrets.token_hex(8), milliseconds(lease_s), SEEN_S, _JOBS_S, place)
        return bool(await self._run(_TAKE, [*self._keys, self._line(place), *seen], *args))

    async def is_first(self, job: str, place: str) -> bool:
        """Whether all messages of a place that were taken before, by whatever process, have become turns or ended."""
        return bool(await self._run(_IS_FIRST, [self._keys[0], self._line(place)], job))

    async def passed(self, job: str, place: str) -> None:
        """The message has become a turn: the next one of its place may."""
        with store_errors():
            await self._redis.lrem(self._line(place), 0, job)

    async def renew(self, jobs: Sequence[str], lease_s: float, record: str = "") -> None:
        """Keep messages for `lease_s` more; `record`, if any, is what is known of the one by now."""
        if jobs:
            await self._run(_RENEW, self._keys, milliseconds(lease_s), record, *jobs)

    async def adopt(self, lease_s: float) -> list[Job]:
        """Messages whose process has gone silent or has released them; they are the caller's from now on."""
        found = await self._run(_ADOPT, self._keys, milliseconds(lease_s), _AT_ONCE)
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [Job(id.decode(), record.decode(), int(deaths)) for id, record, deaths in triples]

    async def release(self, job: str) -> None:
        """Leave a message to the next process, at once."""
        await self._run(_RELEASE, self._keys, job)

    async def done(self, job: str) -> None:
        """The message is answered: nothing is kept of it here."""
        await self._run(_DONE, self._keys, job)

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

    async def _run(self, script: str, keys: Sequence[str], *args: str | int) -> Any:
        with store_errors():
            return await self._redis.eval(script, len(keys), *keys, *args)

    def _line(self, place: str) -> str:
        return f"visavis:line:{{{self._name}}}:{place}"

    def _place(self, place: str) -> str:
        return f"visavis:place:{self._name}:{place}"

    def _settings(self, group: str) -> str:
        return f"visavis:settings:{self._name}:{group}"

    def _post(self, post: str) -> str:
        return f"visavis:post:{self._name}:{post}"
