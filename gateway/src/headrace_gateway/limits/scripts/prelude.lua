-- Stands before every script. Amounts are whole numbers below 2^53, which a Lua number holds exactly.
-- A limit is {kind, key, ceiling, weight}; what each kind does to its counter is the table `kinds`.
-- `spend` and `wallet` are money: they weigh the lease's hold, whatever it is at that moment.
local EPOCH, USAGE, ACKNOWLEDGED, GATEWAYS, LEASES, REAPER = unpack(KEYS)
local MINUTE_MS = 60000

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)

-- Valkey's own number formatting may use an exponent; a counter must never. Adding 0 makes -0, the
-- negative of an empty hold, plain 0: Valkey takes "-0" for no integer.
local function whole(n) return string.format('%.0f', n + 0) end
local function number(s) return tonumber(s or '0') or 0 end
local function lease_key(id) return 'hr:lease:' .. id end
local function reaped_key(id) return 'hr:reaped:' .. id end

-- A bucket's level is kept in 1/60000 of its unit, so that a ceiling per minute refills by whole numbers
-- each millisecond. An absent bucket is a full one.
local function bucket_level(limit)
  local ceiling = limit[3]
  if ceiling <= 0 then return 0 end
  local full = ceiling * MINUTE_MS
  local stored = redis.call('HMGET', limit[2], 'level', 'at')
  if not stored[1] then return full end
  local level, passed = tonumber(stored[1]), math.max(0, now_ms - tonumber(stored[2]))
  if passed >= math.ceil((full - level) / ceiling) then return full end
  return math.min(full, level + passed * ceiling)
end

local function bucket_store(limit, level)
  local missing = limit[3] * MINUTE_MS - level
  if missing <= 0 then
    redis.call('DEL', limit[2])
  else
    redis.call('HSET', limit[2], 'level', whole(level), 'at', whole(now_ms))
    -- Full again by then, so forgetting it changes nothing; the second is for rounding.
    redis.call('PEXPIRE', limit[2], whole(math.ceil(missing / limit[3]) + 1000))
  end
end

local function bucket_refusal(limit, needed)
  local level = bucket_level(limit)
  if level >= needed then return nil end
  return limit[3] - math.floor(level / MINUTE_MS), math.ceil((needed - level) / math.max(1, limit[3]))
end

local kinds = {}

-- refusal(limit): used and milliseconds to wait, or nothing when the limit lets the request pass.
-- take, settle: what admission and the end of the lease do to the counter.
kinds.requests_per_minute = {
  refusal = function(limit) return bucket_refusal(limit, limit[4] * MINUTE_MS) end,
  take = function(limit) bucket_store(limit, bucket_level(limit) - limit[4] * MINUTE_MS) end,
  settle = function() end,
}

-- May go into debt, by what a request used beyond its weight; the debt is repaid before the next passes.
kinds.tokens_per_minute = {
  refusal = function(limit) return bucket_refusal(limit, MINUTE_MS) end,
  take = function(limit) bucket_store(limit, bucket_level(limit) - limit[4] * MINUTE_MS) end,
  settle = function(limit, tokens)
    if limit[3] > 0 then bucket_store(limit, bucket_level(limit) + (limit[4] - tokens) * MINUTE_MS) end
  end,
}

kinds.concurrency = {
  refusal = function(limit)
    local running = number(redis.call('GET', limit[2]))
    if running + limit[4] > limit[3] then return running, -1 end
  end,
  take = function(limit) redis.call('INCRBY', limit[2], whole(limit[4])) end,
  settle = function(limit)
    if redis.call('DECRBY', limit[2], whole(limit[4])) <= 0 then redis.call('DEL', limit[2]) end
  end,
}

-- Money has besides: room(limit) → what may still be held, used, ceiling; hold(limit, delta);
-- spend(limit, hold, actual, id), which ends a hold.
kinds.spend_total = {
  room = function(limit)
    local used = number(redis.call('GET', limit[2]))
    return limit[3] - used, used, limit[3]
  end,
  hold = function(limit, delta) redis.call('INCRBY', limit[2], whole(delta)) end,
  spend = function(limit, hold, actual) redis.call('INCRBY', limit[2], whole(actual - hold)) end,
}

kinds.wallet = {
  room = function(limit)
    local w = redis.call('HMGET', limit[2], 'bal', 'held', 'pend')
    local balance, used = number(w[1]), number(w[2]) + number(w[3])
    return balance - used, used, balance
  end,
  hold = function(limit, delta) redis.call('HINCRBY', limit[2], 'held', whole(delta)) end,
  spend = function(limit, hold, actual, id)
    redis.call('HINCRBY', limit[2], 'held', whole(-hold))
    if actual > 0 then
      redis.call('HINCRBY', limit[2], 'pend', whole(actual))
      redis.call('HSET', limit[2] .. ':pending', id, whole(actual))
    end
  end,
}

-- The money limit with the least room, as room, index, used, ceiling; room is nil where none is money.
local function tightest(limits)
  local room, index, used, ceiling
  for i, limit in ipairs(limits) do
    if kinds[limit[1]].room then
      local r, u, c = kinds[limit[1]].room(limit)
      if not room or r < room then room, index, used, ceiling = r, i, u, c end
    end
  end
  return room, index, used, ceiling
end

local function change_hold(limits, delta)
  if delta == 0 then return end
  for _, limit in ipairs(limits) do
    if kinds[limit[1]].hold then kinds[limit[1]].hold(limit, delta) end
  end
end

-- The index (from 1) of the first record whose version is no longer the given one.
local function stale(versions)
  for i, record in ipairs(versions) do
    if redis.call('HGET', record[1], 'v') ~= record[2] then return i end
  end
end

local function take(limits, hold)
  for _, limit in ipairs(limits) do
    if kinds[limit[1]].take then kinds[limit[1]].take(limit) end
  end
  change_hold(limits, hold)
end

local function write_lease(id, gateway, limits_packed, hold, fragment, counts, cost, tokens, ttl_ms)
  redis.call('HSET', lease_key(id), 'g', gateway, 'l', limits_packed, 'h', whole(hold),
    's', fragment, 'c', counts, 'k', whole(cost), 't', whole(tokens))
  redis.call('ZADD', LEASES, whole(now_ms + ttl_ms), id)
end

-- Ends a lease: its hold becomes `actual`, its other limits are trued up. False if there was none.
local function end_lease(id, actual, tokens)
  local lease = redis.call('HMGET', lease_key(id), 'l', 'h')
  if not lease[1] then return false end
  local hold = tonumber(lease[2])
  for _, limit in ipairs(cmsgpack.unpack(lease[1])) do
    local kind = kinds[limit[1]]
    if kind.spend then kind.spend(limit, hold, actual, id) else kind.settle(limit, tokens) end
  end
  redis.call('DEL', lease_key(id))
  redis.call('ZREM', LEASES, id)
  return true
end
