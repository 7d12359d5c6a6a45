"""The Lua scripts of the store. Each touches the keys of one session only (one hash slot) and may safely run twice.

Entries of `:queue` are "<position> <turn> <json>" and entries of `:turns` are "<turn> <json>", so that Lua never parses
JSON. Each claim of a session sets `holder` in `:meta` and raises `fence`: an earlier holder can write nothing any more,
not even after a store that lost its last second has counted a fence twice.
"""

# KEYS meta queue turns index images  ARGV turn json max_waiting ttl_s image...
# -> {"waiting", position} | {"finished"} | {"busy", waiting} | {"unknown_session"} | {"unknown_image", sha256}
SUBMIT = """
if redis.call('HEXISTS', KEYS[1], 'schema') == 0 then return {'unknown_session'} end
if redis.call('HEXISTS', KEYS[4], ARGV[1]) == 1 then return {'finished'} end
local waiting = redis.call('LRANGE', KEYS[2], 0, -1)
for _, entry in ipairs(waiting) do
  local position, turn = string.match(entry, '^(%d+) (%S+) ')
  if turn == ARGV[1] then return {'waiting', tonumber(position)} end
end
if #waiting >= tonumber(ARGV[3]) then return {'busy', #waiting} end
for i = 5, #ARGV do
  if redis.call('HEXISTS', KEYS[5], ARGV[i]) == 0 then return {'unknown_image', ARGV[i]} end
end
redis.call('RPUSH', KEYS[2], #waiting .. ' ' .. ARGV[1] .. ' ' .. ARGV[2])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[4]) end
return {'waiting', #waiting}
"""

# KEYS meta queue lease  ARGV nonce lease_ms  -> {fence, attempt, entry} | nothing (no turn waits, or somebody has it)
CLAIM = """
local entry = redis.call('LINDEX', KEYS[2], 0)
if not entry or redis.call('EXISTS', KEYS[1]) == 0 then return false end
local holder = redis.call('GET', KEYS[3])
if holder == ARGV[1] then
  local held = redis.call('HMGET', KEYS[1], 'fence', 'attempt')
  return {tonumber(held[1]), tonumber(held[2]), entry}
elseif holder then
  return false
end
local _, turn = string.match(entry, '^(%d+) (%S+) ')
local attempt = 1
if redis.call('HGET', KEYS[1], 'running') == turn then attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
else redis.call('HSET', KEYS[1], 'running', turn, 'attempt', 1) end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'holder', ARGV[1])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return {fence, attempt, entry}
"""

# The id of a replay entry is "<fence>-<last seq>": a repeated or an outrun write is refused by the stream itself, and
# one that repeats a write whose reply was lost, and adds to it, is kept (readers drop the events they know).
_REPLAY = """
local function replay(key, fence, seq, turn, events, grace, most)
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', most, fence .. '-' .. seq, 'turn', turn, 'events', events)
  if type(added) == 'table' and added.err and not string.find(added.err, 'smaller') then error(added.err) end
  redis.call('EXPIRE', key, grace)
end
"""

# KEYS meta lease live control  ARGV fence nonce lease_ms turn seq events grace_s most  -> -1 lost | 1 cancel | 0 go on
RENEW = (
    _REPLAY
    + """
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[2] then return -1 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
if ARGV[6] ~= '' then replay(KEYS[3], ARGV[1], ARGV[5], ARGV[4], ARGV[6], ARGV[7], ARGV[8]) end
return redis.call('SISMEMBER', KEYS[4], ARGV[4])
"""
)

# KEYS meta lease live control queue turns index images
# ARGV nonce turn user answer seq events newest grace_s most keep ttl_s fence   -> 1 recorded | 0 not ours to end
# An empty nonce ends a turn that waits: refused when it is running under somebody's lease.
FINISH = (
    _REPLAY
    + """
local nonce, turn = ARGV[1], ARGV[2]
if nonce ~= '' and redis.call('HGET', KEYS[1], 'holder') ~= nonce then return 0 end
if redis.call('HEXISTS', KEYS[7], turn) == 1 then return nonce ~= '' and 1 or 0 end
local found = false
for place, entry in ipairs(redis.call('LRANGE', KEYS[5], 0, -1)) do
  local _, waiting = string.match(entry, '^(%d+) (%S+) ')
  if waiting == turn then
    if nonce == '' and place == 1 and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
    redis.call('LREM', KEYS[5], 1, entry)
    found = true
  end
end
if not found then return 0 end
redis.call('RPUSH', KEYS[6], turn .. ' ' .. ARGV[3], turn .. ' ' .. ARGV[4])
redis.call('HSET', KEYS[7], turn, redis.call('HINCRBY', KEYS[1], 'count', 2) - 2)
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'newest', ARGV[7]) end
while redis.call('LLEN', KEYS[6]) > tonumber(ARGV[10]) do
  redis.call('HDEL', KEYS[7], string.match(redis.call('LPOP', KEYS[6]), '^%S+'))
  redis.call('LPOP', KEYS[6])
end
redis.call('SREM', KEYS[4], turn)
if nonce ~= '' then
  replay(KEYS[3], ARGV[12], ARGV[5], turn, ARGV[6], ARGV[8], ARGV[9])
  redis.call('DEL', KEYS[2])
end
for _, place in ipairs({1, 5, 6, 7, 8}) do redis.call('EXPIRE', KEYS[place], ARGV[11]) end
return 1
"""
)

# KEYS meta lease  ARGV nonce  -> the lease is dropped, the turn stays for the next process
HAND_OVER = """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then return redis.call('DEL', KEYS[2]) end
return 0
"""

# KEYS meta images  ARGV sha256 ref ttl_s  -> 1 | 0 (unknown session). The time to live of a session is never cut.
ADD_IMAGE = """
if redis.call('HEXISTS', KEYS[1], 'schema') == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
"""

# KEYS image  ARGV session  -> 1 when the picture went with its last session
RELEASE_IMAGE = """
redis.call('HDEL', KEYS[1], 'session:' .. ARGV[1])
if redis.call('HLEN', KEYS[1]) <= 2 then return redis.call('DEL', KEYS[1]) end
return 0
"""
