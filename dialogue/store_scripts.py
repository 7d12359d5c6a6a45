"""The Lua scripts of the store. Each touches the keys of one session only (one hash slot) and may safely run twice.

All take the same KEYS, in the order of `KEY_NAMES`. Lua never parses JSON: an entry of `queue` is "<position> <turn>
<json>" and one of `turns`, an exchange, "<turn> <feedback> <json>". Each claim of a session sets `holder` in `meta` and
raises `fence`: an earlier holder can write nothing any more, not even after a store that lost its last second has
counted a fence twice.
"""

from visavis.dialogue.store_branches import KEYS, PATH

# ARGV schema created owner ttl_s
CREATE = (
    KEYS
    + """
redis.call('HSET', meta, 'schema', ARGV[1], 'created', ARGV[2], 'owner', ARGV[3])
return redis.call('EXPIRE', meta, ARGV[4])
"""
)

# -> {schema, owner, exchanges, pictures, places}; every key is gone
FORGET = (
    KEYS
    + """
local head = redis.call('HMGET', meta, 'schema', 'owner')
local gone = {head[1], head[2], redis.call('LLEN', turns), redis.call('HKEYS', images), redis.call('SMEMBERS', places)}
redis.call('DEL', unpack(KEYS))
return gone
"""
)

# -> {fence, attempt, deaths, entry} | nothing (no turn waits, or somebody has it)
# The replay of the latest 120 claims stays: as many as a person may have in the two minutes for which it is kept.
_CLAIM = """
local function claim(nonce, lease_ms, watch_ms)
  local entry = redis.call('LINDEX', queue, 0)
  if not entry or redis.call('EXISTS', meta) == 0 then return false end
  local holder = redis.call('GET', lease)
  local _, turn = string.match(entry, '^(%d+) (%S+) ')
  local held = redis.call('HMGET', meta, 'holder', 'running', 'fence', 'attempt', 'deaths', 'handed')
  if holder and holder ~= nonce then return false end
  if held[1] == nonce and held[2] == turn then  -- asked again, because the reply was lost or late
    redis.call('SET', lease, nonce, 'PX', lease_ms)
    return {tonumber(held[3]), tonumber(held[4]), tonumber(held[5]), entry}
  end
  local attempt, deaths = 1, 0
  if held[2] == turn then
    attempt, deaths = held[4] + 1, held[5] + (held[6] == held[1] and 0 or 1)
  end
  local fence = redis.call('HINCRBY', meta, 'fence', 1)
  redis.call('HSET', meta, 'holder', nonce, 'running', turn, 'attempt', attempt, 'deaths', deaths)
  redis.call('SET', lease, nonce, 'PX', lease_ms)
  redis.call('SET', watched, 1, 'PX', watch_ms)
  redis.call('XTRIM', live, 'MINID', '~', math.max(0, fence - 120) .. '-0')
  return {fence, attempt, deaths, entry}
end
"""

# ARGV nonce lease_ms watch_ms -> as `claim` above
CLAIM = KEYS + _CLAIM + "return claim(ARGV[1], ARGV[2], ARGV[3])"

# ARGV turn json replaces max_waiting max_versions ttl_s nonce lease_ms watch_ms image...
# -> {"waiting", position, the claim if there is a nonce and the session's next turn can be had} | {"finished"}
# | {"busy", waiting} | {"too_many"} | {"unknown_session", "_image" or "_turn"}
SUBMIT = (
    KEYS
    + PATH
    + _CLAIM
    + """
local function waits(position)
  return {'waiting', position, ARGV[7] ~= '' and claim(ARGV[7], ARGV[8], ARGV[9])}
end
if redis.call('HEXISTS', meta, 'schema') == 0 then return {'unknown_session'} end
if redis.call('HEXISTS', index, ARGV[1]) == 1 then return {'finished'} end
local waiting = redis.call('LRANGE', queue, 0, -1)
for _, entry in ipairs(waiting) do
  local position, turn = string.match(entry, '^(%d+) (%S+) ')
  if turn == ARGV[1] then return waits(tonumber(position)) end
end
if ARGV[3] ~= '' and not place_on(path(), ARGV[3]) then return {'unknown_turn'} end
if ARGV[3] ~= '' and #versions_of(ARGV[3]) >= tonumber(ARGV[5]) then return {'too_many'} end
if #waiting >= tonumber(ARGV[4]) then return {'busy', #waiting} end
for i = 10, #ARGV do
  if redis.call('HEXISTS', images, ARGV[i]) == 0 then return {'unknown_image'} end
end
redis.call('RPUSH', queue, #waiting .. ' ' .. ARGV[1] .. ' ' .. ARGV[2])
local kept = {meta, turns, index, images, queue, versions, shown, places}
for _, key in ipairs(kept) do redis.call('EXPIRE', key, ARGV[6]) end
return waits(#waiting)
"""
)

# The id of a replay entry is "<fence>-<last seq>": a repeated or an outrun write is refused by the stream itself, and
# one that repeats a write whose reply was lost, and adds to it, is kept (readers drop the events they know).
_REPLAY = """
local function replay(fence, seq, turn, events, grace, most)
  local added = redis.pcall('XADD', live, 'MAXLEN', '~', most, fence .. '-' .. seq, 'turn', turn, 'events', events)
  if type(added) == 'table' and added.err and not string.find(added.err, 'smaller') then error(added.err) end
  redis.call('EXPIRE', live, grace)
end
"""

# ARGV fence nonce lease_ms turn seq events grace_s most watch_ms -> -1 lost | 1 somebody asked to stop | 2 nobody has
# watched for a while | 3 go on, somebody reads the replay | 0 go on. `watch_ms` is empty where nobody watches in the
# process that asks; `watched` is 2 when somebody in another one has looked since.
RENEW = (
    KEYS
    + _REPLAY
    + """
if redis.call('HGET', meta, 'holder') ~= ARGV[2] then return -1 end
redis.call('SET', lease, ARGV[2], 'PX', ARGV[3])
if ARGV[6] ~= '' then replay(ARGV[1], ARGV[5], ARGV[4], ARGV[6], ARGV[7], ARGV[8]) end
if redis.call('SISMEMBER', control, ARGV[4]) == 1 then return 1 end
local seen = redis.call('GET', watched)
if ARGV[9] ~= '' then redis.call('SET', watched, 1, 'PX', ARGV[9])
elseif not seen then return 2 end
return seen == '2' and 3 or 0
"""
)

# ARGV nonce turn entry replaces images title seq events grace_s most keep ttl_s fence -> 0 not ours to end
# | 1 recorded, no turn waits now | 2 recorded, others wait
# An empty nonce ends a turn that waits: refused when it is running under somebody's lease. A turn that replaces another
# begins a branch in its place, unless it never ran.
FINISH = (
    KEYS
    + PATH
    + _REPLAY
    + """
local nonce, turn, replaces = ARGV[1], ARGV[2], ARGV[4]
if nonce ~= '' and redis.call('HGET', meta, 'holder') ~= nonce then return 0 end
if redis.call('HEXISTS', index, turn) == 1 then return nonce ~= '' and 2 or 0 end
local found = false
for order, entry in ipairs(redis.call('LRANGE', queue, 0, -1)) do
  local _, waiting = string.match(entry, '^(%d+) (%S+) ')
  if waiting == turn then
    if nonce == '' and order == 1 and redis.call('EXISTS', lease) == 1 then return 0 end
    redis.call('LREM', queue, 1, entry)
    found = true
  end
end
if not found then return 0 end

local ranges, place = path(), redis.call('HINCRBY', meta, 'count', 1) - 1
redis.call('RPUSH', turns, turn .. ' - ' .. ARGV[3])
redis.call('HSET', index, turn, place)
local function append()
  local last = ranges[#ranges]
  if last and last[2] == place - 1 then last[2] = place else table.insert(ranges, {place, place}) end
end
if replaces == '' then append()
elseif nonce ~= '' then
  local cut, version = place_on(ranges, replaces)
  if cut then
    local rest
    ranges, rest = split(ranges, cut)
    local others, group = versions_of(version)
    if not group then others, group = {version}, version end
    table.insert(others, turn)
    local members = table.concat(others, ' ')
    redis.call('HSET', versions, 'v:' .. version, group, 'v:' .. turn, group, 'g:' .. group, members)
    redis.call('HSET', versions, 't:' .. version, text(rest))
  end
  append()
end
if ARGV[5] ~= '' then
  redis.call('ZADD', shown, place, place .. ' ' .. ARGV[5])
  redis.call('ZREMRANGEBYRANK', shown, 0, -65)
end
if ARGV[6] ~= '' then redis.call('HSETNX', meta, 'title', ARGV[6]) end

while redis.call('LLEN', turns) > tonumber(ARGV[11]) do
  local gone = string.match(redis.call('LPOP', turns), '^%S+')
  redis.call('HDEL', index, gone)
  local others, group = versions_of(gone)
  if group then
    local left = {}
    for _, version in ipairs(others) do if version ~= gone then table.insert(left, version) end end
    redis.call('HDEL', versions, 'v:' .. gone, 't:' .. gone)
    if #left == 0 then redis.call('HDEL', versions, 'g:' .. group)
    else redis.call('HSET', versions, 'g:' .. group, table.concat(left, ' ')) end
  end
end
local first = oldest()
while #ranges > 1 and ranges[2][2] < first do  -- what has left by age is one range, or the path would grow for ever
  ranges[2][1] = ranges[1][1]
  table.remove(ranges, 1)
end
redis.call('HSET', meta, 'path', text(ranges))

redis.call('SREM', control, turn)
if nonce ~= '' then
  replay(ARGV[13], ARGV[7], turn, ARGV[8], ARGV[9], ARGV[10])
  redis.call('DEL', lease, watched)
end
local kept = {meta, turns, index, images, queue, versions, shown, places}
for _, key in ipairs(kept) do redis.call('EXPIRE', key, ARGV[12]) end
return redis.call('LLEN', queue) > 0 and 2 or 1
"""
)

# ARGV turn since watch_ms -> {live, leased, finished, queue, running, attempt}; whoever looks watches
# The replay of earlier turns is passed over: that of the turn claimed last begins at its fence, one that only waits has
# none.
GLANCE = (
    KEYS
    + """
redis.call('SET', watched, 2, 'XX', 'PX', ARGV[3])
local held, since, replayed = redis.call('HMGET', meta, 'running', 'attempt', 'fence'), ARGV[2], {}
local finished = redis.call('HEXISTS', index, ARGV[1])
if held[1] == ARGV[1] and since == '-' then since = held[3] .. '-0' end
if held[1] == ARGV[1] or finished == 1 then replayed = redis.call('XRANGE', live, since, '+') end
return {
  replayed, redis.call('EXISTS', lease), finished, redis.call('LRANGE', queue, 0, -1), held[1], held[2],
}
"""
)

# ARGV nonce -> the lease is dropped, the turn stays for the next process, which does not count a death
HAND_OVER = (
    KEYS
    + """
if redis.call('HGET', meta, 'holder') ~= ARGV[1] then return 0 end
redis.call('HSET', meta, 'handed', ARGV[1])
return redis.call('DEL', lease)
"""
)

# ARGV sha256 ref ttl_s keep -> the pictures that leave by age, a tenth at a time | nothing (unknown session)
# An entry of `images` is "<number> <ref>". The time to live of a session is never cut.
ADD_IMAGE = (
    KEYS
    + """
if redis.call('HEXISTS', meta, 'schema') == 0 then return false end
redis.call('HSET', images, ARGV[1], redis.call('HINCRBY', meta, 'pictures', 1) .. ' ' .. ARGV[2])
redis.call('EXPIRE', meta, ARGV[3])
redis.call('EXPIRE', images, ARGV[3])
local keep, gone = tonumber(ARGV[4]), {}
if redis.call('HLEN', images) > keep then
  local all, kept = redis.call('HGETALL', images), {}
  for i = 1, #all, 2 do table.insert(kept, {tonumber(string.match(all[i + 1], '^%d+')), all[i]}) end
  table.sort(kept, function(a, b) return a[1] < b[1] end)
  for i = 1, #kept - keep + math.floor(keep / 10) do table.insert(gone, kept[i][2]) end
  redis.call('HDEL', images, unpack(gone))
end
return gone
"""
)

# ARGV sha256 -> {schema, entry}
FIND_IMAGE = KEYS + "return {kept_as, redis.call('HGET', images, ARGV[1])}"

# ARGV field value [only when it is] -> 1 | 0 (unknown session, or the field is something else): nothing is made anew
SET_META = (
    KEYS
    + """
if redis.call('HEXISTS', meta, 'schema') == 0 then return 0 end
if ARGV[3] and (redis.call('HGET', meta, ARGV[1]) or '') ~= ARGV[3] then return 0 end
redis.call('HSET', meta, ARGV[1], ARGV[2])
return 1
"""
)

# ARGV key ttl_s -> 1 | 0 (unknown session): the key of another slot goes when the session is forgotten
ADD_PLACE = (
    KEYS
    + """
if redis.call('HEXISTS', meta, 'schema') == 0 then return 0 end
redis.call('SADD', places, ARGV[1])
redis.call('EXPIRE', places, ARGV[2])
return 1
"""
)

# ARGV turn ttl_s -> the holder will see the wish to stop
REQUEST_STOP = (
    KEYS
    + """
if redis.call('HEXISTS', meta, 'schema') == 0 then return 0 end
redis.call('SADD', control, ARGV[1])
return redis.call('EXPIRE', control, ARGV[2])
"""
)

# KEYS image  ARGV data ref session ttl_s
SAVE_IMAGE = """
redis.call('HSET', KEYS[1], 'data', ARGV[1], 'ref', ARGV[2], 'session:' .. ARGV[3], 1)
return redis.call('EXPIRE', KEYS[1], ARGV[4])
"""

# KEYS image  ARGV caption -> kept while the picture is
SET_CAPTION = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'caption', ARGV[1]) end
return 1
"""

# KEYS image  ARGV session  -> 1 when the picture went with its last session
RELEASE_IMAGE = """
redis.call('HDEL', KEYS[1], 'session:' .. ARGV[1])
local own = 2 + redis.call('HEXISTS', KEYS[1], 'caption')
if redis.call('HLEN', KEYS[1]) <= own then return redis.call('DEL', KEYS[1]) end
return 0
"""
