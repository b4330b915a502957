#!lua flags=no-writes
-- Answers {priority, fingerprint, jobs, their GPU seconds, seconds that the oldest waits, whether it is paused} for every
-- lane, and for paused priorities without one.
local lanes, seen = {}, {}
for _, lane in ipairs(call('SMEMBERS', LANES)) do
  local priority, fingerprint = string.match(lane, '^(.-):(.*)$')
  local oldest = call('ZRANGE', waiting_key(lane), 0, 0, 'WITHSCORES')
  seen[priority] = true
  lanes[#lanes + 1] = {priority, fingerprint, call('ZCARD', waiting_key(lane)), call('HGET', WORK, lane) or '0',
    oldest[2] and stamp(now - tonumber(oldest[2])), call('SISMEMBER', PAUSED, priority)}
end
for _, priority in ipairs(PRIORITIES) do
  if not seen[priority] then lanes[#lanes + 1] = {priority, '', 0, '0', false, call('SISMEMBER', PAUSED, priority)} end
end
return lanes
