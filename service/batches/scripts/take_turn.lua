#!lua flags=allow-oom
-- ARGV: batch id. It goes behind all others that are at work. Answers its fields, with the time;
-- nothing of one that has ended.
if not call('ZSCORE', ACTIVE, ARGV[1]) then return {} end
call('ZADD', ACTIVE, stamp(now), ARGV[1])
local fields = call('HGETALL', batch_key(ARGV[1]))
fields[#fields + 1] = 'seen_at'
fields[#fields + 1] = stamp(now)
return fields
