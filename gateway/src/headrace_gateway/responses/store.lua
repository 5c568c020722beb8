-- Keeps one document for a while, within the bounds of its project and of all projects: the oldest make room.
-- ARGV: key, document, life in ms, project, bytes that a project may keep, bytes that all may keep; then the ids of the
-- items by which it may be found.
local key, document, life_ms, project = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local bounds = { ['hr:responses:of:' .. project] = tonumber(ARGV[5]), ['hr:responses:all'] = tonumber(ARGV[6]) }
local SIZES = 'hr:responses:sizes'
local ITEMS = 'hr:responses:items'
local ITEM_BYTES = 256 -- about what an item's key, its value and its place in ITEMS take

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function indexes_of(member)
  return { 'hr:responses:of:' .. string.match(member, '^hr:response:([^:]*):'), 'hr:responses:all' }
end

local function item_key(of_project, item)
  return 'hr:responses:item:' .. of_project .. ':' .. item
end

local function forget(member)
  local size = redis.call('HGET', SIZES, member)
  local of_project, response = string.match(member, '^hr:response:([^:]*):(.*)$')
  for item in string.gmatch(redis.call('HGET', ITEMS, member) or '', '[^ ]+') do
    -- One that a later response has too is found by that one.
    if redis.call('GET', item_key(of_project, item)) == response then
      redis.call('DEL', item_key(of_project, item))
    end
  end
  redis.call('DEL', member)
  redis.call('HDEL', SIZES, member)
  redis.call('HDEL', ITEMS, member)
  for _, index in ipairs(indexes_of(member)) do
    redis.call('ZREM', index, member)
    if size then redis.call('DECRBY', index .. ':bytes', size) end
  end
end

if document == '' then
  local known = redis.call('EXISTS', key)
  forget(key)
  return known
end

-- Those that have lapsed by themselves still count until somebody looks; a hundred a call keep up.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'hr:responses:all', '-inf', now_ms, 'LIMIT', 0, 100)) do
  forget(member)
end
forget(key)
local items = { unpack(ARGV, 7) }
local size = #document + #items * ITEM_BYTES
for index, bound in pairs(bounds) do
  while tonumber(redis.call('GET', index .. ':bytes') or '0') + size > bound do
    local oldest = redis.call('ZRANGE', index, 0, 0)[1]
    if not oldest then return 0 end
    forget(oldest)
  end
end
redis.call('SET', key, document, 'PX', life_ms)
redis.call('HSET', SIZES, key, size)
local response = string.match(key, '^hr:response:[^:]*:(.*)$')
for _, item in ipairs(items) do
  redis.call('SET', item_key(project, item), response, 'PX', life_ms)
end
if #items > 0 then redis.call('HSET', ITEMS, key, table.concat(items, ' ')) end
for _, index in ipairs(indexes_of(key)) do
  redis.call('ZADD', index, now_ms + life_ms, key)
  redis.call('INCRBY', index .. ':bytes', size)
end
return 1
