-- Sets the hold of a running lease, up or down, and re-checks the records that may end it.
-- ARGV: id, msgpack of {versions, hold}.
-- Replies {'extended'} {'cold'} {'gone'} {'stale', index}
-- {'short', limit index, used, ceiling, ms until it begins anew or -1, {}, the greatest hold that the tightest money
-- limit lets this lease have}
local versions, hold = unpack(cmsgpack.unpack(ARGV[2]))
if redis.call('EXISTS', EPOCH) == 0 then return {'cold'} end
local lease = redis.call('HMGET', lease_key(ARGV[1]), 'l', 'h')
if not lease[1] then return {'gone'} end
local changed = stale(versions)
if changed then return {'stale', changed} end

local limits, held = cmsgpack.unpack(lease[1]), tonumber(lease[2])
local delta = hold - held
if delta > 0 then
  local room, index, used, ceiling = tightest(limits)
  if room and room < delta then return {'short', index, used, ceiling, begins_anew(limits[index]), {}, held + math.max(0, room)} end
end
change_hold(limits, delta)
redis.call('HSET', lease_key(ARGV[1]), 'h', whole(hold))
return {'extended'}
