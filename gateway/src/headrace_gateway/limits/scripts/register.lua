-- Puts a running lease back after Valkey was lost: unconditionally, for its tokens flow already.
-- ARGV: id, msgpack of {gateway, ttl ms, hold, cost, tokens}, limits as msgpack, event fragment, counts fragment.
-- Replies whether it stands now: 0 while cold.
local gateway, ttl_ms, hold, cost, tokens = unpack(cmsgpack.unpack(ARGV[2]))
if redis.call('EXISTS', EPOCH) == 0 then return 0 end
if redis.call('EXISTS', lease_key(ARGV[1])) == 0 then
  take(cmsgpack.unpack(ARGV[3]), hold)
  write_lease(ARGV[1], gateway, ARGV[3], hold, ARGV[4], ARGV[5], cost, tokens, ttl_ms)
end
return 1
