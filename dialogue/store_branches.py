"""Lua scripts that read a session and change its branches; see `store_scripts` for what all scripts share.

Each exchange has a place that never changes, counted from 0 over the life of the session; `index` says it by turn.
The current branch is `path` in `meta`: ranges of places, such as "0-9 14-15". `versions` knows turns that stand in one
place in several branches: `v:<turn>` names the group, `g:<group>` its turns, `t:<turn>` the rest of the branch that was
left at this turn.
"""

from visavis.dialogue.store_records import SCHEMA

KEY_NAMES = (
    *("meta", "turns", "index", "images", "queue", "live", "lease", "control", "versions", "shown", "watched"),
    "places",
)

NAMES = f"local {', '.join(KEY_NAMES)} = unpack(KEYS)\n"

# No script of another version touches a conversation: not this one's before the upgrade, and none once it is beyond.
KEYS = (
    NAMES
    + f"""
local kept_as = redis.call('HGET', meta, 'schema')
if kept_as and kept_as ~= '{SCHEMA}' then return redis.error_reply('SCHEMA ' .. kept_as) end
"""
)

PATH = """
local function path()
  local ranges = {}
  for first, last in string.gmatch(redis.call('HGET', meta, 'path') or '', '(%d+)-(%d+)') do
    table.insert(ranges, {tonumber(first), tonumber(last)})
  end
  return ranges
end

local function text(ranges)
  local parts = {}
  for _, range in ipairs(ranges) do table.insert(parts, range[1] .. '-' .. range[2]) end
  return table.concat(parts, ' ')
end

local function split(ranges, place)
  local before, rest = {}, {}
  for _, range in ipairs(ranges) do
    if range[1] < place then table.insert(before, {range[1], math.min(range[2], place - 1)}) end
    if range[2] >= place then table.insert(rest, {math.max(range[1], place), range[2]}) end
  end
  return before, rest
end

local function oldest() return tonumber(redis.call('HGET', meta, 'count') or 0) - redis.call('LLEN', turns) end

local function lies_on(ranges, place)
  for _, range in ipairs(ranges) do if range[1] <= place and place <= range[2] then return true end end
  return false
end

local function versions_of(turn)
  local group = redis.call('HGET', versions, 'v:' .. turn)
  local found = {}
  if group then
    for version in string.gmatch(redis.call('HGET', versions, 'g:' .. group), '%S+') do table.insert(found, version) end
  end
  return found, group
end

-- Where the current branch has this turn or another version of it.
local function place_on(ranges, turn)
  local found = versions_of(turn)
  table.insert(found, turn)
  for _, version in ipairs(found) do
    local place = tonumber(redis.call('HGET', index, version) or -1)
    if place >= 0 and lies_on(ranges, place) then return place, version end
  end
end
"""

# ARGV before limit most_alternatives -> {schema, owner, title, more, target, entries, alternatives, queue, shown}
# `before` is a turn or empty. `alternatives` are entries, each after the id of the turn in whose place it stands; where
# there are more than wanted, those of the latest turns.
LOAD = (
    KEYS
    + PATH
    + """
local head = redis.call('HMGET', meta, 'schema', 'owner', 'title')
local ranges, first, target, limit = path(), oldest(), false, tonumber(ARGV[2])
local function entry_at(place)
  return place and place >= first and redis.call('LINDEX', turns, place - first) or false
end
if ARGV[1] ~= '' then
  local place = place_on(ranges, ARGV[1])
  ranges = place and split(ranges, place) or {}
  target = entry_at(place and tonumber(redis.call('HGET', index, ARGV[1]) or -1))
end
local found, entries, alternatives = {}, {}, {}
for i = #ranges, 1, -1 do
  local from = math.max(ranges[i][1], first, ranges[i][2] - limit + #found)
  if from <= ranges[i][2] and #found <= limit then
    local part = redis.call('LRANGE', turns, from - first, ranges[i][2] - first)
    for j = #part, 1, -1 do table.insert(found, part[j]) end
  end
end
for i = math.min(#found, limit), 1, -1 do table.insert(entries, found[i]) end
local wanted = 2 * tonumber(ARGV[3])
if wanted > 0 and redis.call('EXISTS', versions) == 1 then
  for i = #entries, 1, -1 do
    local turn = string.match(entries[i], '^%S+')
    if #alternatives >= wanted then break end
    for _, version in ipairs(versions_of(turn)) do
      local other = version ~= turn and entry_at(tonumber(redis.call('HGET', index, version) or -1))
      if other then
        table.insert(alternatives, turn)
        table.insert(alternatives, other)
      end
    end
  end
end
local pictures = {}
for _, entry in ipairs(redis.call('ZRANGE', shown, 0, -1)) do
  if lies_on(ranges, tonumber(string.match(entry, '^%d+'))) then table.insert(pictures, entry) end
end
local more = #found > limit and 1 or 0
return {head[1], head[2], head[3], more, target, entries, alternatives, redis.call('LRANGE', queue, 0, -1), pictures}
"""
)

# ARGV turn -> 1 the current branch is the one with this turn | 0 no such turn | -1 turns wait
SELECT = (
    KEYS
    + PATH
    + """
if redis.call('LLEN', queue) > 0 then return -1 end
local ranges, turn = path(), ARGV[1]
local cut, version = place_on(ranges, turn)
if not cut then return 0 end
if version == turn then return 1 end
local rest = redis.call('HGET', versions, 't:' .. turn)
local before, left = split(ranges, cut)
redis.call('HSET', versions, 't:' .. version, text(left))
redis.call('HDEL', versions, 't:' .. turn)
redis.call('HSET', meta, 'path', text(before) .. ' ' .. rest)
return 1
"""
)

# ARGV turn -> its entry | nothing
FIND = (
    KEYS
    + """
local place = redis.call('HGET', index, ARGV[1])
return place and redis.call('LINDEX', turns, place - (redis.call('HGET', meta, 'count') - redis.call('LLEN', turns)))
"""
)

# ARGV turn feedback -> 1 | 0 no such turn
FEEDBACK = (
    KEYS
    + """
local place = redis.call('HGET', index, ARGV[1])
if not place then return 0 end
place = place - (redis.call('HGET', meta, 'count') - redis.call('LLEN', turns))
local entry = redis.call('LINDEX', turns, place)
redis.call('LSET', turns, place, ARGV[1] .. ' ' .. ARGV[2] .. string.match(entry, '^%S+ %S+(.*)$'))
return 1
"""
)
