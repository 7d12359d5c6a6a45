"""Conversations that an earlier version has kept become those of this one, each in one step.

That happens to all of them when the store is opened, and to one that is asked for before its turn has come. Any number
of processes may do it at once and die meanwhile: a conversation is read, and written by a script that changes nothing
if it is not the same any more; so each is upgraded once, whole or not at all.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from visavis.dialogue.errors import OtherSchema, StoreUnavailable
from visavis.dialogue.store_branches import KEY_NAMES, NAMES
from visavis.dialogue.store_client import VERSION, session_keys, store_errors, too_new
from visavis.dialogue.store_migrations import KINDS, Kept, migrated
from visavis.dialogue.store_records import SCHEMA

logger = logging.getLogger(__name__)

_ATTEMPTS = 20  # of a conversation that others change meanwhile
_WORDS = 1_000  # of one command

_CONTENTS = (
    NAMES
    + """
local function sorted(words, step)  -- a hash may tell its fields in another order each time
  local parts = {}
  for i = 1, #words, step do table.insert(parts, table.concat(words, '\\0', i, i + step - 1)) end
  table.sort(parts)
  return table.concat(parts, '\\1')
end
local function contents()
  local found, all = {}, {}
  for i, key in ipairs(KEYS) do
    local step = 0
    local kind = redis.call('TYPE', key).ok
    found[i] = {}
    if kind == 'hash' then found[i], step = redis.call('HGETALL', key), 2
    elseif kind == 'list' then found[i] = redis.call('LRANGE', key, 0, -1)
    elseif kind == 'set' then found[i], step = redis.call('SMEMBERS', key), 1
    elseif kind == 'zset' then found[i] = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
    table.insert(all, step > 0 and sorted(found[i], step) or table.concat(found[i], '\\1'))
  end
  return found, redis.sha1hex(table.concat(all, '\\2'))
end
"""
)

# -> {schema, digest, contents of each key}
_READ = (
    _CONTENTS
    + """
local found, digest = contents()
return {redis.call('HGET', meta, 'schema'), digest, unpack(found)}
"""
)

# ARGV digest, then commands: how many words, words (the second one is the number of a key) -> 1 | 0 it has changed
# Whoever holds the conversation is of another version and loses it; the turn runs again, and no death is counted.
_WRITE = (
    _CONTENTS
    + """
local _, digest = contents()
if digest ~= ARGV[1] then return 0 end
local last = {}
for i, key in ipairs(KEYS) do last[i] = redis.call('PTTL', key) end
local at = 2
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  redis.call(ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])], unpack(ARGV, at + 3, at + words))
  at = at + words + 1
end
redis.call('HDEL', meta, 'holder', 'handed')
redis.call('DEL', lease)
for i, key in ipairs(KEYS) do
  local left = last[i] == -2 and last[1] or last[i]
  if left > 0 then redis.call('PEXPIRE', key, left) end
end
return 1
"""
)

# KEYS version  ARGV field schema -> it never falls
_RAISE = """
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
"""


async def run_script(redis: Any, script: str, session: str, *args: str | int) -> Any:
    """Run a script on the keys of a session, as `of_this_schema` does."""
    keys = session_keys(session)
    return await of_this_schema(redis, session, lambda: redis.eval(script, len(keys), *keys, *args))


async def run_scripts(redis: Any, session: str, *calls: Sequence[str | int]) -> list[Any]:
    """Run scripts, each with its arguments, on the keys of a session: one after the other, in one round trip."""
    keys = session_keys(session)

    async def run_all() -> Any:
        pipe = redis.pipeline(transaction=False)
        for script, *args in calls:
            pipe.eval(script, len(keys), *keys, *args)
        return await pipe.execute()

    answers: list[Any] = await of_this_schema(redis, session, run_all)
    return answers


async def of_this_schema(redis: Any, session: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    """What `ask` gives, which runs scripts on a session, upgraded first if it has to be; raises `StoreTooNew`."""
    while True:
        try:
            with store_errors():
                return await ask()
        except OtherSchema:
            await upgrade_session(redis, session)


async def check_version(redis: Redis) -> None:
    """Raises `StoreTooNew` if a newer version has used the store."""
    with store_errors():
        version: Any = await redis.hget(VERSION, "version")
    if int(version or 0) > SCHEMA:
        raise too_new()


async def upgrade_store(redis: Redis, sessions: AsyncIterator[str]) -> int:
    """Upgrade every one of `sessions` unless that has been done; how many were, by this call.

    Raises:
        StoreTooNew: nothing was touched.
    """
    await check_version(redis)
    await _raise_to_here(redis, "version")  # before any conversation is: an earlier version is to keep away from now on
    with store_errors():
        left: Any = await redis.hget(VERSION, "left")
    if int(left or 0) >= SCHEMA:
        return 0
    upgraded = sum([await _upgraded(redis, session) async for session in sessions])
    await _raise_to_here(redis, "left")
    if upgraded:
        logger.warning("%d conversations of an earlier version were upgraded", upgraded)
    return upgraded


async def upgrade_session(
    redis: Any, session: str, schema: int = SCHEMA, migrations: Mapping[int, Callable[[Kept], Kept]] | None = None
) -> bool:
    """Upgrade one conversation to `schema`; whether it was this call that did it. Raises `StoreTooNew`."""
    keys = session_keys(session)
    for _ in range(_ATTEMPTS):
        with store_errors():
            found, digest, *contents = await redis.eval(_READ, len(keys), *keys)
        if found is None or int(found) == schema:
            return False
        if int(found) > schema:
            raise too_new()
        before = {name: _read(name, content) for name, content in zip(KEY_NAMES, contents, strict=True)}
        words = _commands(before, migrated(before, int(found), migrations))
        with store_errors():
            if await redis.eval(_WRITE, len(keys), *keys, digest, *words):
                return True
    raise StoreUnavailable("A conversation could not be upgraded, since others write to it; please try again.")


async def _upgraded(redis: Redis, session: str) -> bool:
    """One that cannot be read stops nobody else: it stays as it is."""
    try:
        return await upgrade_session(redis, session)
    except (LookupError, ValueError, TypeError):
        logger.exception("a conversation could not be upgraded; it stays as it is")
        return False


async def _raise_to_here(redis: Any, field: str) -> None:
    with store_errors():
        await redis.eval(_RAISE, 1, VERSION, field, SCHEMA)


def _read(name: str, content: list[bytes]) -> Any:
    words = [word.decode() for word in content]
    return dict(zip(words[::2], words[1::2], strict=True)) if KINDS.get(name) in ("hash", "zset") else words


def _commands(before: Kept, after: Kept) -> list[str | int]:
    """The words that `_WRITE` takes. `meta` is never away: a scan over all conversations would miss it."""
    words: list[str | int] = []
    for number, name in enumerate(KEY_NAMES, 1):
        if name not in KINDS or before[name] == after[name]:
            continue
        if name != "meta":
            words += _command("DEL", number)
        elif gone := before[name].keys() - after[name].keys():
            words += _command("HDEL", number, *gone)
        words += _filling(KINDS[name], number, after[name])
    return words


def _filling(kind: str, number: int, content: Any) -> list[str | int]:
    parts: list[str] = content
    command = {"hash": "HSET", "list": "RPUSH", "set": "SADD", "zset": "ZADD"}[kind]
    if kind == "hash":
        parts = [word for pair in content.items() for word in pair]
    elif kind == "zset":
        parts = [word for member, score in content.items() for word in (score, member)]
    starts = range(0, len(parts), _WORDS)
    return [word for start in starts for word in _command(command, number, *parts[start : start + _WORDS])]


def _command(name: str, number: int, *words: str) -> list[str | int]:
    return [2 + len(words), name, number, *words]
