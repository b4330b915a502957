#!lua flags=allow-oom
-- ARGV: lease seconds, ISO stamp, then job id and execution of each lease. Answers ok, cancel or lost for each.
local lease, iso = tonumber(ARGV[1]), ARGV[2]
local signals = {}
for i = 3, #ARGV, 2 do
  local id, execution = ARGV[i], ARGV[i + 1]
  local pair = id .. ':' .. execution
  local job = call('HMGET', job_key(id), 'status', 'execution', 'cancel')
  local signal = 'lost'
  if job[1] == 'started' and job[2] == execution and call('ZSCORE', LEASES, pair) then
    call('ZADD', LEASES, stamp(now + lease), pair)
    call('HSET', 'rq:execution:' .. pair, 'last_heartbeat', stamp(now))
    call('HSET', job_key(id), 'last_heartbeat', iso)
    signal = job[3] and 'cancel' or 'ok'
  end
  signals[#signals + 1] = signal
end
return signals
