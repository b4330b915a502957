#!lua flags=allow-oom
-- ARGV: ISO stamp, limit of each kind. Ends videos that are past their deadline, removes those whose time is over, and
-- cache entries. Answers how many of each.
local iso, limit = ARGV[1], tonumber(ARGV[2])

local function due(key) return call('ZRANGEBYSCORE', key, '-inf', stamp(now), 'LIMIT', 0, limit) end

local late = due(DEADLINES)
for _, id in ipairs(late) do
  give_up_video(id, 'expired', expired_outcome(), iso)
  call('ZREM', DEADLINES, id)
end
local old = due(EXPIRING)
for _, id in ipairs(old) do remove_video(id) end
local stale = due(CACHE_EXPIRING)
for _, digest in ipairs(stale) do drop_cached(digest) end
return {#late, #old, #stale}
