-- Renews a gateway's leases with their newest counts and tells what became of its journals.
-- ARGV: msgpack of {gateway, ttl ms, leases as {id, counts fragment, cost, tokens, hold or -1}, journals, number}.
-- A hold here may only shrink: a raise needs `extend`, which checks the money.
-- A lease that is not there was reaped, or lost with Valkey's memory (all of it, or the last second).
-- Replies {epoch or '', ids reaped, ids lost, acknowledged sequence by journal ('0' where unknown), 1 if loaded, ids whose
-- window is used up}.
local GATEWAY_FORGOTTEN_MS = 3600000
local gateway, ttl_ms, leases, journals, number_of_call = unpack(cmsgpack.unpack(ARGV[1]))

redis.call('ZADD', GATEWAYS, whole(now_ms), gateway)
redis.call('ZREMRANGEBYSCORE', GATEWAYS, '-inf', whole(now_ms - GATEWAY_FORGOTTEN_MS))
local reaped, lost, used_up = {}, {}, {}
for _, entry in ipairs(leases) do
  local id, counts, cost, tokens, hold = unpack(entry)
  local lease = read_lease(id)
  if lease and newer(lease, number_of_call) then
    if hold >= 0 and hold < lease[HOLD] then
      change_hold(lease[LIMITS], hold - lease[HOLD])
      lease[HOLD] = hold
    end
    lease[COUNTS], lease[COST], lease[TOKENS], lease[CALL] = counts, cost, tokens, number_of_call
    if outgrown(lease) then used_up[#used_up + 1] = id end
    write_lease(id, lease)
    redis.call('ZADD', LEASES, whole(now_ms + ttl_ms), id)
  elseif lease then
    -- The gateway has said more of it since.
  elseif redis.call('EXISTS', reaped_key(id)) == 1 then
    reaped[#reaped + 1] = id
  else
    lost[#lost + 1] = id
  end
end
local acknowledged = {}
for i, journal in ipairs(journals) do
  acknowledged[i] = redis.call('HGET', ACKNOWLEDGED, journal) or '0'
end
return {redis.call('GET', EPOCH) or '', reaped, lost, acknowledged, loaded() and 1 or 0, used_up}
