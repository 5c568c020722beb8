-- Renews who waits at a gateway for a deployment's slots, and tells how all stands there.
-- ARGV: deployment, gateway, ms that this holds, msgpack of {rank, organisation, weight, count, age ms} entries.
-- Replies {running, mean service µs, clock µs, {gateway, ms until its entries lapse, entries, …}, {organisation, tag µs, …}}.
local slots = {'slots', slots_key(ARGV[1])}
local waiting, turns = waiting_key(slots), turns_key(slots)
local stands_ms, mine = tonumber(ARGV[3]), cmsgpack.unpack(ARGV[4])

if #mine == 0 then
  redis.call('HDEL', waiting, ARGV[2])
else
  redis.call('HSET', waiting, ARGV[2], whole(now_ms + stands_ms) .. ' ' .. ARGV[4])
  redis.call('PEXPIRE', waiting, whole(stands_ms))
end

local gateways, tags, seen = {}, {}, {}
local stored = redis.call('HGETALL', waiting)
for i = 1, #stored, 2 do
  local until_ms, entries = string.match(stored[i + 1], '^(%d+) (.*)$')
  if tonumber(until_ms) <= now_ms then
    redis.call('HDEL', waiting, stored[i])
  else
    gateways[#gateways + 1] = stored[i]
    gateways[#gateways + 1] = tonumber(until_ms) - now_ms
    gateways[#gateways + 1] = entries
    for _, entry in ipairs(cmsgpack.unpack(entries)) do
      local organisation = entry[2]
      if not seen[organisation] then
        seen[organisation] = true
        local tag = redis.call('HGET', turns, 'o:' .. organisation)
        if tag then
          tags[#tags + 1] = organisation
          tags[#tags + 1] = tonumber(tag)
        end
      end
    end
  end
end

local clock = number(redis.call('HGET', turns, 'clock'))
-- A tag that the clock has passed says what none says.
local TAGS_MAX = 1000
if redis.call('HLEN', turns) > TAGS_MAX then
  local all = redis.call('HGETALL', turns)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'o:' and number(all[i + 1]) <= clock then redis.call('HDEL', turns, all[i]) end
  end
end
return {number(redis.call('GET', slots[2])), number(redis.call('HGET', turns, 'mean')), clock, gateways, tags}
