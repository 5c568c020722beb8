-- Puts a running lease back after Valkey was lost: unconditionally, for its tokens flow already.
-- ARGV: id, msgpack of {gateway, ttl ms, hold, cost, tokens, ms of its admission}, limits as msgpack, event fragment, counts fragment.
-- Replies whether it stands now: 0 while counters are not loaded.
local gateway, ttl_ms, hold, cost, tokens, at = unpack(cmsgpack.unpack(ARGV[2]))
if not loaded() then return 0 end
-- One that was reaped is over, and this call is a late one.
if redis.call('EXISTS', lease_key(ARGV[1]), reaped_key(ARGV[1])) == 0 then
  local limits = cmsgpack.unpack(ARGV[3])
  place(limits, at)
  begin_lease(ARGV[1], {limits, hold, cost, tokens, ARGV[4], ARGV[5], 0, gateway}, ttl_ms)
end
return 1
