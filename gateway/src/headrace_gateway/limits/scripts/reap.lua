-- Ends leases whose gateway stopped renewing them, each with an estimated event of its last heartbeat; what that left
-- of their holds stays held for a while.
-- ARGV: at most so many, quiet ms, grace ms. Replies the ids taken.
--
-- When nobody reaped for `quiet` ms, nobody could renew either (Valkey was away, or every gateway was):
-- then the gateways get `grace` ms to renew before the first lease is taken.
if redis.call('EXISTS', EPOCH) == 0 then return {} end
local reaper = redis.call('HMGET', REAPER, 'at', 'from')
local from = number(reaper[2])
if now_ms - number(reaper[1]) > tonumber(ARGV[2]) then from = now_ms + tonumber(ARGV[3]) end
redis.call('HSET', REAPER, 'at', whole(now_ms), 'from', whole(from))
if now_ms < from then return {} end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', REAPED, '-inf', whole(now_ms), 'LIMIT', 0, ARGV[1])) do let_go(id) end

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', whole(now_ms), 'LIMIT', 0, ARGV[1])) do
  local lease = read_lease(id)
  if lease then
    redis.call('XADD', USAGE, '*', 'e', '{"grade":0,"producer":"reaper","boot":"","sequence":0,' .. lease[IDENTITY] .. ','
      .. lease[COUNTS] .. ',"finished_at_us":' .. whole(now_us) .. ',"ending":"gateway_lost"}')
    end_lease(id, lease, lease[COST], tokens_of(lease[TOKENS]))
    remember(id, lease)
    taken[#taken + 1] = id
  else
    redis.call('ZREM', LEASES, id)
  end
end
return taken
