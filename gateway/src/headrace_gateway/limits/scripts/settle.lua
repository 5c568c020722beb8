-- Ends a lease with its final event. Counters move only while the lease stands, so that a second settlement
-- of the same id moves nothing; after the reaper's they move once more, by what the final event says beyond its
-- estimate. The event is appended in any case (billing knows an event by its id and grade). Cold is no obstacle:
-- the journal is the record.
-- ARGV: id, actual cost in micro-units, tokens by class, event ('' where billing has it already); and of a request with an
-- idempotency key its place, the request's hash, its outcome ('' frees the key), the outcome in brief, ms to keep it, the
-- counter of its organisation's kept bytes, their bound, the counter of all's, their bound.
-- Replies 1 if the lease stood, else 0.
local actual, tokens = tonumber(ARGV[2]), tokens_of(ARGV[3])
local lease = read_lease(ARGV[1])
if lease then end_lease(ARGV[1], lease, actual, tokens) else correct(ARGV[1], actual, tokens) end
if ARGV[4] ~= '' then redis.call('XADD', USAGE, '*', 'e', ARGV[4]) end

local function keep_outcome(place, request, whole, brief, kept_ms, counter, bytes_max, of_all, all_bytes_max)
  local found = redis.call('HMGET', place, 'l', 'o')
  -- Reaped meanwhile and taken by another, or kept already: this settlement is a late or a second one.
  if found[2] or (found[1] and found[1] ~= ARGV[1]) then return end
  if whole == '' then
    redis.call('DEL', place)
    return
  end
  local kept = whole
  if #whole > #brief then
    local counted = redis.call('MGET', counter, of_all)
    if number(counted[1]) + #whole > tonumber(bytes_max) or number(counted[2]) + #whole > tonumber(all_bytes_max) then
      kept = brief
    else
      if redis.call('INCRBY', counter, #whole) == #whole then redis.call('PEXPIRE', counter, kept_ms) end
      if redis.call('INCRBY', of_all, #whole) == #whole then redis.call('PEXPIRE', of_all, kept_ms) end
    end
  end
  redis.call('HSET', place, 'b', request, 'l', ARGV[1], 'o', kept)
  redis.call('PEXPIRE', place, kept_ms)
end

if ARGV[5] then keep_outcome(unpack(ARGV, 5)) end
return lease and 1 or 0
