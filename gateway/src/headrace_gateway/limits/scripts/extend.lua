-- Sets the hold of a running lease, up or down, and re-checks the records that may end it.
-- ARGV: id, msgpack of {versions, hold, number}.
-- Replies {'extended'} {'cold'} {'gone'} {'reaped'} {'stale', index}
-- {'short', limit index, used, ceiling, ms until it begins anew or -1, {}, the greatest hold that the tightest money
-- limit lets this lease have}
local versions, hold, number_of_call = unpack(cmsgpack.unpack(ARGV[2]))
if not loaded() then return {'cold'} end
local lease = read_lease(ARGV[1])
if not lease then return {redis.call('EXISTS', reaped_key(ARGV[1])) == 1 and 'reaped' or 'gone'} end
if not newer(lease, number_of_call) then return {'gone'} end
local changed = stale(versions)
if changed then return {'stale', changed} end

local limits, held = lease[LIMITS], lease[HOLD]
local delta = hold - held
if delta > 0 then
  local room, index, used, ceiling = tightest(limits, true)
  if room and room < delta then return {'short', index, used, ceiling, begins_anew(limits[index]), {}, held + math.max(0, room)} end
end
change_hold(limits, delta)
lease[HOLD], lease[CALL] = hold, number_of_call
write_lease(ARGV[1], lease)
return {'extended'}
