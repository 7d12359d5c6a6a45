"""The messages of a chat platform that are taken over and not yet answered.

A message is taken once, whoever brings it, and stays with its process by a lease until the answer is shown; the message
of a process that died is given to the next. Who has it is written beside it, so that a process that was frozen for
longer than its lease can do nothing to it any more. The keys of one platform's messages share a slot by the hash tag.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue.store_client import milliseconds, store_errors

SEEN_S = 900  # the last repeat of an event comes after five minutes
_JOBS_S = 24 * 3600
_AT_ONCE = 20
MOST_WAITING = 20  # messages of a place that have not become turns

_NOW = "local time = redis.call('TIME')\nlocal now = time[1] * 1000 + math.floor(time[2] / 1000)\n"

# Of the messages in line only those count that are not answered yet.
_FIRST = """
local function first_of(jobs, line)
  local first = redis.call('LINDEX', line, 0)
  while first and redis.call('HEXISTS', jobs, first) == 0 do
    redis.call('LPOP', line)
    first = redis.call('LINDEX', line, 0)
  end
  return first
end
"""

# KEYS jobs due deaths owners line seen...  ARGV job record nonce lease_ms seen_s jobs_s place owner most
# -> 1 taken | 0 a repeat | -1 too many wait in its place
# A repeat of the call itself (its reply was lost) finds its own nonce.
_TAKE = (
    _NOW
    + _FIRST
    + """
for i = 6, #KEYS do
  local taker = redis.call('GET', KEYS[i])
  if taker then return taker == ARGV[3] and 1 or 0 end
end
if ARGV[7] ~= '' then
  first_of(KEYS[1], KEYS[5])
  if redis.call('LLEN', KEYS[5]) >= tonumber(ARGV[9]) then return -1 end
  redis.call('RPUSH', KEYS[5], ARGV[1])
end
for i = 6, #KEYS do redis.call('SET', KEYS[i], ARGV[3], 'EX', ARGV[5]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
redis.call('HSET', KEYS[4], ARGV[1], ARGV[8])
for i = 1, 5 do redis.call('EXPIRE', KEYS[i], ARGV[6]) end
return 1
"""
)

# KEYS jobs line  ARGV job -> 1 when no message of the place that came before is still to become a turn
_IS_FIRST = (
    _FIRST
    + """
local first = first_of(KEYS[1], KEYS[2])
return (not first or first == ARGV[1]) and 1 or 0
"""
)

# KEYS jobs due deaths owners  ARGV lease_ms owner record job... -> those that are not the owner's (any more)
# The leases of all others are renewed; a record that is not empty is the job's.
_RENEW = (
    _NOW
    + """
local lost = {}
for i = 4, #ARGV do
  if redis.call('HGET', KEYS[4], ARGV[i]) == ARGV[2] then
    redis.call('ZADD', KEYS[2], 'XX', now + ARGV[1], ARGV[i])
    if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[3]) end
  else
    table.insert(lost, ARGV[i])
  end
end
for i = 1, 4 do redis.call('EXPIRE', KEYS[i], 86400) end
return lost
"""
)

# KEYS jobs due deaths owners  ARGV lease_ms most owner -> {job, record, deaths, ...} of those whose process is gone
_ADOPT = (
    _NOW
    + """
local found = {}
for _, job in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local record = redis.call('HGET', KEYS[1], job)
  if record then
    redis.call('ZADD', KEYS[2], now + ARGV[1], job)
    redis.call('HSET', KEYS[4], job, ARGV[3])
    for _, value in ipairs({job, record, redis.call('HINCRBY', KEYS[3], job, 1)}) do table.insert(found, value) end
  else
    redis.call('ZREM', KEYS[2], job)
  end
end
return found
"""
)

# KEYS jobs due deaths owners line  ARGV job owner
_DONE = """
if redis.call('HGET', KEYS[4], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('LREM', KEYS[5], 0, ARGV[1])
for _, kept in ipairs({KEYS[1], KEYS[3], KEYS[4]}) do redis.call('HDEL', kept, ARGV[1]) end
return 1
"""

# KEYS jobs due deaths owners  ARGV job owner -> the next process takes it at once, and counts no death
_RELEASE = """
if redis.call('HGET', KEYS[4], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[2], 'XX', 0, ARGV[1])
redis.call('HINCRBY', KEYS[3], ARGV[1], -1)
return 1
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A message that was taken over; `deaths` counts the processes that were lost while they had it."""

    id: str
    record: str
    deaths: int = 0


class JobStore:
    """Those of one platform, as one process has them: what it takes is its own until another one adopts it. Every
    method raises `StoreUnavailable` when the store does not answer."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._owner = secrets.token_hex(8)
        self._keys = [f"visavis:{kind}:{{{name}}}" for kind in ("jobs", "due", "deaths", "owners")]

    async def take(self, job: Job, events: Sequence[str], lease_s: float, place: str = "") -> bool | None:
        """Take a message over; False when one of the ids in `events` was seen before, by whomever, None when
        `MOST_WAITING` messages of its place wait already."""
        seen = [f"visavis:seen:{{{self._name}}}:{event}" for event in events]
        nonce, lease_ms = secrets.token_hex(8), milliseconds(lease_s)
        args = (job.id, job.record, nonce, lease_ms, SEEN_S, _JOBS_S, place, self._owner, MOST_WAITING)
        taken = await self._run(_TAKE, [*self._keys, self._line(place), *seen], *args)
        return None if taken < 0 else bool(taken)

    async def is_first(self, job: str, place: str) -> bool:
        """Whether all messages of a place that were taken before, by whatever process, have become turns or ended."""
        return bool(await self._run(_IS_FIRST, [self._keys[0], self._line(place)], job))

    async def passed(self, job: str, place: str) -> None:
        """The message has become a turn: the next one of its place may."""
        with store_errors():
            await self._redis.lrem(self._line(place), 0, job)

    async def renew(self, jobs: Sequence[str], lease_s: float, record: str = "") -> list[str]:
        """Keep messages for `lease_s` more; `record`, if any, is what is known of the one by now. Those are given back
        that are not this process's any more, and that it must leave alone."""
        if not jobs:
            return []
        lost = await self._run(_RENEW, self._keys, milliseconds(lease_s), self._owner, record, *jobs)
        return [job.decode() for job in lost]

    async def adopt(self, lease_s: float) -> list[Job]:
        """Messages whose process has gone silent or has released them; they are the caller's from now on."""
        found = await self._run(_ADOPT, self._keys, milliseconds(lease_s), _AT_ONCE, self._owner)
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [Job(id.decode(), record.decode(), int(deaths)) for id, record, deaths in triples]

    async def release(self, job: str) -> None:
        """Leave a message to the next process, at once."""
        await self._run(_RELEASE, self._keys, job, self._owner)

    async def done(self, job: str, place: str = "") -> None:
        """The message is answered: nothing is kept of it here."""
        await self._run(_DONE, [*self._keys, self._line(place)], job, self._owner)

    async def _run(self, script: str, keys: Sequence[str], *args: str | int) -> Any:
        with store_errors():
            return await self._redis.eval(script, len(keys), *keys, *args)

    def _line(self, place: str) -> str:
        return f"visavis:line:{{{self._name}}}:{place}"
