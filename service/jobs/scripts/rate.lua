#!lua flags=allow-oom
-- A bucket that fills evenly and holds a minute's requests. ARGV: name, requests a minute. Answers the seconds until there is
-- one again; 0 where this one was let through.
local key, per_minute = 'wanserve:rate:' .. ARGV[1], tonumber(ARGV[2])
local bucket = call('HMGET', key, 'tokens', 'at')
local before = number(bucket[1], per_minute)
local tokens = math.min(per_minute, before + math.max(0, now - number(bucket[2], now)) * per_minute / 60)
local wait = tokens >= 1 and 0 or (1 - tokens) * 60 / per_minute
if wait == 0 then tokens = tokens - 1 end
call('HSET', key, 'tokens', stamp(tokens), 'at', stamp(now))
call('EXPIRE', key, 120)
return stamp(wait)
