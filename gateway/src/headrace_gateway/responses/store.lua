-- Keeps one document for a while, or forgets it, within the bounds of its organisation and of all. Where there are too
-- many, those make room first that another goes on from, as that one has all they have; then the oldest.
-- ARGV: key, document ('' to forget it), life in ms, organisation, bytes that an organisation may keep, bytes that all
-- may keep, the key of the response that it goes on from or ''; then the ids of the items by which it may be found.
-- Answers how many made room that no other goes on from; to be told to forget, whether there was one.
local key, document, life_ms, org = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local org_bytes_max, all_bytes_max, previous = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local KEPT = 'hr:responses:kept'
local LAPSING = 'hr:responses:lapsing'
local BYTES = 'hr:responses:bytes'
local ALL_BYTES = 'hr:responses:bytes:all'
-- About what they take in Valkey besides the document: measured, as `used_memory` of thousands.
local RESPONSE_BYTES = 704
local ITEM_BYTES = 256
local ITEMS_MAX = 256

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now_us / 1000)

local function last_of(of_org) return 'hr:responses:last:' .. of_org end
local function gone_on_from(of_org) return 'hr:responses:gone-on-from:' .. of_org end

local function read(member)
  local value = redis.call('HGET', KEPT, member)
  if not value then return nil end
  local of_org, size, heir, items = string.match(value, '^(%S+) (%S+) (%S+)(.*)$')
  local kept = { org = of_org, size = tonumber(size), heir = heir, items = {} }
  for item in string.gmatch(items, '%S+') do table.insert(kept.items, item) end
  kept.project, kept.response = string.match(member, '^hr:response:([^:]*):(.*)$')
  return kept
end

local function write(member, kept)
  local items = #kept.items > 0 and ' ' .. table.concat(kept.items, ' ') or ''
  redis.call('HSET', KEPT, member, string.format('%s %d %s%s', kept.org, kept.size, kept.heir, items))
end

local function count(of_org, bytes)
  redis.call('INCRBY', ALL_BYTES, bytes)
  if tonumber(redis.call('ZINCRBY', BYTES, bytes, of_org)) <= 0 then redis.call('ZREM', BYTES, of_org) end
end

local function item_key(kept, item)
  return 'hr:responses:item:' .. kept.project .. ':' .. item
end

-- Its items are found by the heir from now on, where there is one.
local function leave(kept, heir_key)
  local heir = heir_key and read(heir_key)
  local life_left_ms = heir and redis.call('PTTL', heir_key) or 0
  local moved = 0
  for _, item in ipairs(kept.items) do
    -- One that a later response has too is found by that one.
    if redis.call('GET', item_key(kept, item)) == kept.response then
      if life_left_ms > 0 and #heir.items < ITEMS_MAX then
        redis.call('SET', item_key(kept, item), heir.response, 'PX', life_left_ms)
        table.insert(heir.items, item)
        moved = moved + 1
      else
        redis.call('DEL', item_key(kept, item))
      end
    end
  end
  if moved > 0 then
    heir.size = heir.size + moved * ITEM_BYTES
    count(heir.org, moved * ITEM_BYTES)
    write(heir_key, heir)
  end
end

local function forget(member, heir_key)
  local kept = read(member)
  redis.call('DEL', member)
  if not kept then return end
  leave(kept, heir_key)
  redis.call('HDEL', KEPT, member)
  for _, index in ipairs({ LAPSING, last_of(kept.org), gone_on_from(kept.org) }) do
    redis.call('ZREM', index, member)
  end
  count(kept.org, -kept.size)
end

if document == '' then
  local known = redis.call('EXISTS', key)
  forget(key)
  return known
end

-- Those that have lapsed by themselves still count until somebody looks; a hundred a call keep up.
for _, member in ipairs(redis.call('ZRANGEBYSCORE', LAPSING, '-inf', now_ms, 'LIMIT', 0, 100)) do
  forget(member)
end
forget(key)

local made = { org = org, heir = '-', items = { unpack(ARGV, 8) } }
made.project, made.response = string.match(key, '^hr:response:([^:]*):(.*)$')
made.size = #document + RESPONSE_BYTES + #made.items * ITEM_BYTES
if made.size > math.min(org_bytes_max, all_bytes_max) then return 0 end
redis.call('SET', key, document, 'PX', life_ms)
for _, item in ipairs(made.items) do
  redis.call('SET', item_key(made, item), made.response, 'PX', life_ms)
end
write(key, made)
redis.call('ZADD', LAPSING, now_ms + life_ms, key)
redis.call('ZADD', last_of(org), now_us, key)
count(org, made.size)

local before = read(previous)
if before and before.org == org and previous ~= key then
  redis.call('ZREM', last_of(org), previous)
  redis.call('ZADD', gone_on_from(org), now_us, previous)
  before.heir = key
  write(previous, before)
end

local lost = 0
-- Whether there was one that could make room.
local function make_room(of_org)
  local member = redis.call('ZRANGE', gone_on_from(of_org), 0, 0)[1]
  if member then
    forget(member, read(member).heir)
    return true
  end
  local oldest = redis.call('ZRANGE', last_of(of_org), 0, 1)
  member = oldest[1] == key and oldest[2] or oldest[1]
  if not member or member == key then return false end
  forget(member)
  lost = lost + 1
  return true
end
while tonumber(redis.call('ZSCORE', BYTES, org)) > org_bytes_max do
  if not make_room(org) then break end
end
-- Of all organisations, that makes room which keeps most, so that none drives out the others.
while tonumber(redis.call('GET', ALL_BYTES)) > all_bytes_max do
  local most = redis.call('ZREVRANGE', BYTES, 0, 1)
  if not make_room(most[1]) and not (most[2] and make_room(most[2])) then break end
end
return lost
