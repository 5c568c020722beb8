-- What all scripts share, run once as Valkey loads them: before it stand the names of keys, and each script calls `begin`.
-- Amounts are whole numbers below 2^53, which a Lua number holds exactly.
-- A limit is {kind, key, ceiling, weight}, a fifth member is limits/plan.py's {uncached, cached, output, request,
-- window ms, anchor ms}; what each kind does to its counter is the table `kinds`.
-- Budgets and `wallet` are money: they weigh the lease's hold, whatever it is at that moment.
-- Tokens are {uncached, cached, output}.
local MINUTE_MS = 60000

-- Counters and balances are there, if not yet for everybody.
local function loaded() return redis.call('EXISTS', EPOCH, OPENING) > 0 end

-- Of the call under way.
local now_us, now_ms

-- What it has read or written, by key: buckets as {level, ceiling}, sliding windows as {used, {slice, amount}s in their order}.
local levels, windows

local function begin()
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
  now_ms = math.floor(now_us / 1000)
  levels, windows = {}, {}
end

-- Valkey's own number formatting may use an exponent; a counter must never. A fraction is cut off.
local function whole(n) return string.format('%d', n) end
local function number(s) return tonumber(s or '0') or 0 end
local function lease_key(id) return 'hr:lease:' .. id end
local function reaped_key(id) return 'hr:reaped:' .. id end

-- A lease is msgpack of these in one string, which is much cheaper to set than a hash with a value as long.
-- The eighth is its gateway, for whoever looks.
local LIMITS, HOLD, COST, TOKENS, IDENTITY, COUNTS, CALL = 1, 2, 3, 4, 5, 6, 7

local function read_lease(id)
  local stored = redis.call('GET', lease_key(id))
  return stored and cmsgpack.unpack(stored)
end

local function write_lease(id, lease) redis.call('SET', lease_key(id), cmsgpack.pack(lease)) end

-- A gateway numbers its calls about leases. One that was under way when its connection was given up may arrive after those
-- that followed on the next, and would set a hold back.
local function newer(lease, call) return lease[CALL] < call end

local function add(key, delta) return redis.call('INCRBY', key, whole(delta)) end

-- A bucket is 'level at': its level in 1/60000 of its unit, so that a ceiling per minute refills by whole numbers
-- each millisecond. An absent bucket is a full one.
local function read_level(limit)
  local ceiling = limit[3]
  if ceiling <= 0 then return 0 end
  local full = ceiling * MINUTE_MS
  local stored = redis.call('GET', limit[2])
  if not stored then return full end
  local was, at = string.match(stored, '^(-?%d+) (%d+)$')
  local level, passed = tonumber(was), math.max(0, now_ms - tonumber(at))
  if passed >= math.ceil((full - level) / ceiling) then return full end
  return math.min(full, level + passed * ceiling)
end

local function bucket_level(limit)
  local known = levels[limit[2]]
  if known and known[2] == limit[3] then return known[1] end
  local level = read_level(limit)
  levels[limit[2]] = {level, limit[3]}
  return level
end

local function bucket_add(limit, delta)
  if delta == 0 then return end
  local full, level = limit[3] * MINUTE_MS, bucket_level(limit) + delta
  if level >= full then
    redis.call('DEL', limit[2])
    level = full
  else
    local stored = string.format('%d %d', level, now_ms)
    if delta > 0 then
      -- It is full before the time that was set when this was taken.
      redis.call('SET', limit[2], stored, 'KEEPTTL')
    else
      -- Full again by then, so forgetting it changes nothing; the second is for rounding.
      redis.call('SET', limit[2], stored, 'PX', whole(math.ceil((full - level) / limit[3]) + 1000))
    end
  end
  levels[limit[2]] = {level, limit[3]}
end

local function bucket_refusal(limit, needed)
  local level = bucket_level(limit)
  if level >= needed then return nil end
  return limit[3] - math.floor(level / MINUTE_MS), math.ceil((needed - level) / math.max(1, limit[3]))
end

local function tokens_of(text)
  local uncached, cached, output = string.match(text or '', '^(%d+) (%d+) (%d+)$')
  return {tonumber(uncached or 0), tonumber(cached or 0), tonumber(output or 0)}
end

local function measured(limit, tokens)
  local w = limit[5]
  if not w then return tokens[1] + tokens[2] + tokens[3] end
  return w[4] + math.ceil((tokens[1] * w[1] + tokens[2] * w[2] + tokens[3] * w[3]) / 1000)
end

local DAY_MS = 86400000

-- First day of the month of a day, both counted from the Unix epoch: Howard Hinnant's civil calendar.
local function month_began(day)
  local z = day + 719468
  local in_era = z % 146097
  local year = math.floor((in_era - math.floor(in_era / 1460) + math.floor(in_era / 36524)
    - math.floor(in_era / 146096)) / 365)
  local in_year = in_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * in_year + 2) / 153)
  return day - (in_year - math.floor((153 * month + 2) / 5))
end

-- A span's counter outlives its span by so much, for the requests that began in it and still run.
local KEPT_MS = DAY_MS

local function add_to_span(limit, delta)
  if delta == 0 then return end
  -- Whoever counted in it before has said when it ends.
  if add(limit[2], delta) == delta then
    redis.call('PEXPIREAT', limit[2], whole(limit[6] + KEPT_MS))
  end
end

local kinds = {}

-- place(limit, at): for what counts by time, settles once where a request admitted at `at` (ms) counts, in the lease:
-- the counter's key gets the span's beginning, limit[6] is the span's end in ms, or the slice of a sliding window.
-- state(limit), for what answers tell: left, and milliseconds until all of it is back.
-- refusal(limit): used and milliseconds to wait, or nothing when the limit lets the request pass.
-- full(limit), of the last limit alone: whether the request must wait, which is asked when nothing else refuses it.
-- take, settle: what admission and the end of the lease do to the counter. trues_up: settling weighs the tokens.
-- used_up(limit): of a window, whether what runs in it must stop.
local function bucket_state(limit)
  local level = bucket_level(limit)
  local full = limit[3] * MINUTE_MS
  return math.max(0, math.floor(level / MINUTE_MS)), math.ceil((full - level) / math.max(1, limit[3]))
end

kinds.requests_per_minute = {
  state = bucket_state,
  refusal = function(limit) return bucket_refusal(limit, limit[4] * MINUTE_MS) end,
  take = function(limit) bucket_add(limit, -limit[4] * MINUTE_MS) end,
  settle = function() end,
}

-- May go into debt, by what a request used beyond its weight; the debt is repaid before the next passes.
kinds.tokens_per_minute = {
  trues_up = true,
  state = bucket_state,
  refusal = function(limit) return bucket_refusal(limit, MINUTE_MS) end,
  take = function(limit) bucket_add(limit, -limit[4] * MINUTE_MS) end,
  settle = function(limit, tokens)
    if limit[3] > 0 then bucket_add(limit, (limit[4] - measured(limit, tokens)) * MINUTE_MS) end
  end,
}
kinds.input_tokens_per_minute = kinds.tokens_per_minute
kinds.cached_tokens_per_minute = kinds.tokens_per_minute
kinds.output_tokens_per_minute = kinds.tokens_per_minute

kinds.fixed_window = {
  trues_up = true,
  place = function(limit, at)
    local size, anchor = limit[5][5], limit[5][6]
    local began = anchor + math.floor((at - anchor) / size) * size
    limit[2], limit[6] = limit[2] .. ':' .. whole(began), began + size
  end,
  state = function(limit)
    return math.max(0, limit[3] - number(redis.call('GET', limit[2]))), math.max(0, limit[6] - now_ms)
  end,
  refusal = function(limit)
    local used = number(redis.call('GET', limit[2]))
    -- What is heavier than the whole window never passes, and waiting doesn't help.
    if used + limit[4] > limit[3] then return used, limit[4] > limit[3] and -1 or limit[6] - now_ms end
  end,
  take = function(limit) add_to_span(limit, limit[4]) end,
  settle = function(limit, tokens) add_to_span(limit, measured(limit, tokens) - limit[4]) end,
  used_up = function(limit) return now_ms < limit[6] and number(redis.call('GET', limit[2])) >= limit[3] end,
}

-- Its hash has at most one field more than there are slices: older ones go with the next that is taken.
local SLICES = 60

local function slices_of(limit)
  local known = windows[limit[2]]
  if known then return known[1], known[2] end
  local present, used, found = math.floor(now_ms / limit[5][5]), 0, {}
  local stored = redis.call('HGETALL', limit[2])
  for i = 1, #stored, 2 do
    local slice = tonumber(stored[i])
    if slice > present - SLICES then
      local amount = tonumber(stored[i + 1])
      used = used + amount
      found[#found + 1] = {slice, amount}
    else
      redis.call('HDEL', limit[2], stored[i])
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  windows[limit[2]] = {used, found}
  return used, found
end

-- Milliseconds until so much of what was used is back.
local function slides_by(limit, slices, needed)
  for _, slice in ipairs(slices) do
    needed = needed - slice[2]
    if needed <= 0 then return math.max(0, (slice[1] + SLICES) * limit[5][5] - now_ms) end
  end
  return -1
end

local function add_to_slice(limit, delta)
  if delta == 0 or limit[6] <= math.floor(now_ms / limit[5][5]) - SLICES then return end
  -- Whoever counted in the slice before has set that, and until then the slice has passed.
  if redis.call('HINCRBY', limit[2], whole(limit[6]), whole(delta)) == delta then
    redis.call('PEXPIRE', limit[2], whole(limit[5][5] * (SLICES + 1)))
  end
  windows[limit[2]] = nil
end

kinds.sliding_window = {
  trues_up = true,
  place = function(limit, at) limit[6] = math.floor(at / limit[5][5]) end,
  state = function(limit)
    local used, slices = slices_of(limit)
    return math.max(0, limit[3] - used), math.max(0, slides_by(limit, slices, used))
  end,
  refusal = function(limit)
    local used, slices = slices_of(limit)
    if used + limit[4] > limit[3] then return used, slides_by(limit, slices, used + limit[4] - limit[3]) end
  end,
  take = function(limit) add_to_slice(limit, limit[4]) end,
  settle = function(limit, tokens) add_to_slice(limit, measured(limit, tokens) - limit[4]) end,
  used_up = function(limit) return slices_of(limit) >= limit[3] end,
}

kinds.concurrency = {
  refusal = function(limit)
    local running = number(redis.call('GET', limit[2]))
    if running + limit[4] > limit[3] then return running, -1 end
  end,
  take = function(limit) add(limit[2], limit[4]) end,
  settle = function(limit)
    if add(limit[2], -limit[4]) <= 0 then redis.call('DEL', limit[2]) end
  end,
}

-- A deployment's slots: {'slots', key, how many, 1, {weight, whether its turn has come, organisation}}. `place` adds when
-- it was taken, in ms, and the time in µs that it was charged with beforehand: none where nobody waited.
-- Beside the count stands a virtual clock of slot time: who waits is served in the order of its organisation's tag, which
-- moves by the time that its requests held slots, over its weight (start-time fair queueing). limits/turns.py decides.
local SLOTS = 'hr:slots:'
local function slots_key(deployment) return SLOTS .. deployment end
local function turns_key(limit) return 'hr:turns:' .. string.sub(limit[2], #SLOTS + 1) end
local function waiting_key(limit) return 'hr:waiting:' .. string.sub(limit[2], #SLOTS + 1) end

local TURNS_KEPT_MS = 600000
-- Whoever held slots for much longer than was expected is behind the others for at most so much of their time.
local DEBT_US_MAX = 60000000
-- How many of the latest requests the mean is of, about.
local MEAN_OVER = 32

kinds.slots = {
  full = function(limit)
    local running = number(redis.call('GET', limit[2]))
    -- Whoever comes later does not take a slot for which others wait.
    local queued = limit[5][2] == 0 and redis.call('EXISTS', waiting_key(limit)) == 1
    return running + limit[4] > limit[3] or queued
  end,
  place = function(limit, at)
    limit[6], limit[7] = at, 0
    if limit[5][2] == 1 then limit[7] = math.max(1, number(redis.call('HGET', turns_key(limit), 'mean'))) end
  end,
  take = function(limit)
    add(limit[2], limit[4])
    if limit[7] == 0 then return end
    local turns, tag = turns_key(limit), 'o:' .. limit[5][3]
    local stored = redis.call('HMGET', turns, 'clock', tag)
    local start = math.max(number(stored[1]), number(stored[2]))
    redis.call('HSET', turns, 'clock', whole(start), tag, whole(start + limit[7] / limit[5][1]))
    redis.call('PEXPIRE', turns, TURNS_KEPT_MS)
  end,
  settle = function(limit)
    if add(limit[2], -limit[4]) <= 0 then redis.call('DEL', limit[2]) end
    local turns, tag = turns_key(limit), 'o:' .. limit[5][3]
    local held_us = math.max(0, now_ms - limit[6]) * 1000
    local stored = redis.call('HMGET', turns, 'mean', 'ended', 'clock', tag)
    local mean, ended = number(stored[1]), math.min(number(stored[2]) + 1, MEAN_OVER)
    redis.call('HSET', turns, 'mean', whole(mean + (held_us - mean) / ended), 'ended', whole(ended))
    if limit[7] > 0 and stored[4] then
      local weight = limit[5][1]
      local settled = tonumber(stored[4]) + (held_us - limit[7]) / weight
      redis.call('HSET', turns, tag, whole(math.min(settled, number(stored[3]) + DEBT_US_MAX / weight)))
    end
    redis.call('PEXPIRE', turns, TURNS_KEPT_MS)
  end,
}

-- Money has besides: room(limit) → what may still be held, used, ceiling; hold(limit, delta);
-- spend(limit, hold, actual, id), which ends a hold. pushed: billing tells what is left of it, again and again.
kinds.spend_total = {
  room = function(limit)
    local used = number(redis.call('GET', limit[2]))
    return limit[3] - used, used, limit[3]
  end,
  hold = function(limit, delta) add(limit[2], delta) end,
  spend = function(limit, hold, actual) add(limit[2], actual - hold) end,
}

local function budget_by(span)
  return {
    place = function(limit, at)
      local began, ended = span(math.floor(at / DAY_MS))
      limit[2], limit[6] = limit[2] .. ':' .. whole(began * DAY_MS / 1000), ended * DAY_MS
    end,
    room = kinds.spend_total.room,
    hold = add_to_span,
    spend = function(limit, hold, actual) add_to_span(limit, actual - hold) end,
  }
end
kinds.spend_day = budget_by(function(day) return day, day + 1 end)
kinds.spend_month = budget_by(function(day)
  local began = month_began(day)
  return began, month_began(began + 31)
end)

kinds.wallet = {
  pushed = true,
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
      redis.call('HINCRBY', limit[2] .. ':pending', id, whole(actual))
    end
  end,
}

-- What a contract has committed is a wallet of its own; only its refusal has another name.
kinds.commitment = kinds.wallet

-- Nobody is cut short by a commitment after which usage goes on: what is left admits a request whatever it holds, and what
-- runs goes on. What that uses beyond the commitment billing finds overdrawn.
local AMPLE = 2^52
kinds.commitment_then_overage = {
  room = function(limit)
    local left, used, balance = kinds.wallet.room(limit)
    return left > 0 and AMPLE or left, used, balance
  end,
  runs_on = true,
  pushed = true,
  hold = kinds.wallet.hold,
  spend = kinds.wallet.spend,
}

-- The money limit with the least room, as room, index, used, ceiling; room is nil where none is money.
local function tightest(limits, running)
  local room, index, used, ceiling
  for i, limit in ipairs(limits) do
    if kinds[limit[1]].room and not (running and kinds[limit[1]].runs_on) then
      local r, u, c = kinds[limit[1]].room(limit)
      if not room or r < room then room, index, used, ceiling = r, i, u, c end
    end
  end
  return room, index, used, ceiling
end

-- Milliseconds until a money limit begins anew, -1 where it never does.
local function begins_anew(limit) return limit[6] and math.max(0, limit[6] - now_ms) or -1 end

-- Settles once where a request that was admitted at `at` counts, for what counts by time.
local function place(limits, at)
  for _, limit in ipairs(limits) do
    local settle_place = kinds[limit[1]].place
    if settle_place then
      -- msgpack has no gaps: a plain limit's fifth member is nil, and its sixth needs one before it.
      limit[5] = limit[5] or false
      settle_place(limit, at)
    end
  end
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

local function begin_lease(id, lease, ttl_ms)
  take(lease[LIMITS], lease[HOLD])
  write_lease(id, lease)
  redis.call('ZADD', LEASES, whole(now_ms + ttl_ms), id)
end

-- Ends a lease: its hold becomes `actual`, its other limits are trued up.
local function end_lease(id, lease, actual, tokens)
  for _, limit in ipairs(lease[LIMITS]) do
    local kind = kinds[limit[1]]
    if kind.spend then kind.spend(limit, lease[HOLD], actual, id) else kind.settle(limit, tokens) end
  end
  redis.call('DEL', lease_key(id))
  redis.call('ZREM', LEASES, id)
end

-- Has a lease weigh what it used so far in the windows that stop what runs, and tells whether one of them is used up.
local function outgrown(lease)
  local found = false
  for _, limit in ipairs(lease[LIMITS]) do
    if limit[5] and limit[5][7] == 1 then
      local kind, tokens = kinds[limit[1]], tokens_of(lease[TOKENS])
      -- Until the engine has counted anything it weighs what it was admitted with.
      if tokens[1] + tokens[2] + tokens[3] > 0 then
        kind.settle(limit, tokens)
        limit[4] = measured(limit, tokens)
      end
      found = found or kind.used_up(limit)
    end
  end
  return found
end

-- Told to a gateway that comes back late; one silent for longer than this is not waited for.
local REMEMBERED_MS = 600000

-- A reaped request's final event may say more than its estimate, as much as its hold at most. What the estimate left of
-- the hold stays held until the final one comes, or so long: a gateway that was killed is back by then, or never.
local RETURNS_WITHIN_MS = 30000

local function remember(id, lease)
  local rest = math.max(0, lease[HOLD] - lease[COST])
  change_hold(lease[LIMITS], rest)
  redis.call('HSET', reaped_key(id), 'l', cmsgpack.pack(lease[LIMITS]), 'r', whole(rest), 'k', whole(lease[COST]),
    't', lease[TOKENS])
  redis.call('ZADD', REAPED, whole(now_ms + RETURNS_WITHIN_MS), id)
end

-- Lets go of what is still held for a reaped request. Its final event may come later still, and what it says beyond the
-- estimate counts for as long as it is remembered.
local function let_go(id)
  local kept = redis.call('HMGET', reaped_key(id), 'l', 'r', 'g')
  redis.call('ZREM', REAPED, id)
  if not kept[1] or kept[3] then return end
  change_hold(cmsgpack.unpack(kept[1]), -tonumber(kept[2]))
  redis.call('HSET', reaped_key(id), 'r', '0', 'g', '1')
  redis.call('PEXPIRE', reaped_key(id), REMEMBERED_MS)
end

-- Ends a reaped request anew, by its final event: counters move by the difference to the estimate. Where nothing is held
-- for it any more, a wallet stays as it is: billing has the event and tells the balance. Budgets and windows have none who
-- tells them.
local function correct(id, actual, tokens)
  local kept = redis.call('HMGET', reaped_key(id), 'l', 'g', 'k', 't')
  if not kept[1] then return end
  let_go(id)
  redis.call('HDEL', reaped_key(id), 'l', 'k', 't')
  local cost, estimated = tonumber(kept[3]), tokens_of(kept[4])
  for _, limit in ipairs(cmsgpack.unpack(kept[1])) do
    local kind = kinds[limit[1]]
    if kind.spend then
      if not (kept[2] and kind.pushed) then kind.spend(limit, 0, actual - cost, id) end
    elseif kind.trues_up then
      limit[4] = measured(limit, estimated)
      kind.settle(limit, tokens)
    end
  end
end
