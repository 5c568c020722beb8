-- Checks everything, then applies everything or nothing.
-- ARGV: msgpack of {gateway, ttl ms, id suffix, stream bound, versions, hold}, limits as msgpack, event fragment; and
-- where the request has an idempotency key, msgpack of {its place, the request's hash, ms it may stand}.
-- Replies {'admitted', id, time µs, states} or why not; states: limit index, left, ms until all is back, and so on.
-- {'running'} {'reused'} {'repeated', outcome}: of an idempotency key.
-- {'cold'} {'overloaded'} {'stale', index} {'refused', limit index, used, ceiling, retry ms or -1, states}
-- {'full'}: nothing refuses the request, but it must wait for a slot.
-- {'short', limit index, used, ceiling, ms until it begins anew or -1, states, room}: the tightest money limit has
-- less room than the hold.
local gateway, ttl_ms, suffix, entries_max, versions, hold = unpack(cmsgpack.unpack(ARGV[1]))
local limits = cmsgpack.unpack(ARGV[2])

if redis.call('EXISTS', EPOCH) == 0 then return {'cold'} end
if redis.call('XLEN', USAGE) >= entries_max then return {'overloaded'} end

local changed = stale(versions)
if changed then return {'stale', changed} end

local claim = ARGV[4] and cmsgpack.unpack(ARGV[4])
if claim then
  local found = redis.call('HMGET', claim[1], 'b', 'l', 'o')
  -- Without an outcome it stands as long as its lease does.
  if found[1] and (found[3] or redis.call('EXISTS', lease_key(found[2])) == 1) then
    if found[1] ~= claim[2] then return {'reused'} end
    if found[3] then return {'repeated', found[3]} end
    return {'running'}
  end
end

local function states()
  local found = {}
  for i, limit in ipairs(limits) do
    local kind = kinds[limit[1]]
    if kind.state then
      local left, full_in_ms = kind.state(limit)
      found[#found + 1] = i
      found[#found + 1] = left
      found[#found + 1] = full_in_ms
    end
  end
  return found
end

place(limits, now_ms)
for i, limit in ipairs(limits) do
  local kind = kinds[limit[1]]
  if kind.refusal then
    local used, wait_ms = kind.refusal(limit)
    if used then return {'refused', i, used, limit[3], wait_ms, states()} end
  end
end
local room, index, used, ceiling = tightest(limits)
if room and room < hold then return {'short', index, used, ceiling, begins_anew(limits[index]), states(), room} end
local last = limits[#limits]
if last and kinds[last[1]].full and kinds[last[1]].full(last) then return {'full'} end

-- A UUIDv7 whose time is Valkey's, so that ids sort by admission whatever the gateways' clocks say.
local high = math.floor(now_ms / 65536)
local id = string.format('%08x-%04x-', high, now_ms - high * 65536) .. suffix
local identity = '"id":"' .. id .. '","received_at_us":' .. whole(now_us) .. ',' .. ARGV[3]
begin_lease(id, {limits, hold, 0, '0 0 0', identity, '"attempts":0,"tokens":{}', 0, gateway}, ttl_ms)
if claim then
  redis.call('HSET', claim[1], 'b', claim[2], 'l', id)
  redis.call('PEXPIRE', claim[1], claim[3])
end

return {'admitted', id, whole(now_us), states()}
