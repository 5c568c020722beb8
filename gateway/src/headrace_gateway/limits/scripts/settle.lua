-- Ends a lease with its final event. Counters move only while the lease stands, so that a second settlement
-- of the same id, or one after the reaper's, moves nothing; the event is appended in any case (billing knows
-- an event by its id and grade). Cold is no obstacle: the journal is the record.
-- ARGV: id, actual cost in micro-units, tokens by class, event. Replies 1 if the lease stood, else 0.
local stood = end_lease(ARGV[1], tonumber(ARGV[2]), tokens_of(ARGV[3]))
redis.call('XADD', USAGE, '*', 'e', ARGV[4])
return stood and 1 or 0
