-- Which of these records no longer stand in the given version; one that is missing tells nothing.
-- ARGV: msgpack of {key, version} pairs. Replies their indexes from 1.
local changed = {}
for i, record in ipairs(cmsgpack.unpack(ARGV[1])) do
  local version = redis.call('HGET', record[1], 'v')
  if version and version ~= record[2] then changed[#changed + 1] = i end
end
return changed
