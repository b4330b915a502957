#!lua flags=allow-oom
-- ARGV: job id, execution, ISO stamp, reason. With a reason the attempt counts. Answers committed, already_mine or lost.
local id, execution, iso, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = job_key(id)
local job = call('HMGET', key, 'status', 'execution', 'origin', 'worker_name', 'cancel', 'released_by')
if job[6] == execution then return 'already_mine' end
if job[1] ~= 'started' or job[2] ~= execution then return 'lost' end
drop_execution(id, execution, job[4], job[3])
call('HSET', key, 'released_by', execution)
if reason ~= '' then
  end_attempt(id, job[3], reason, iso)
elseif job[5] then
  end_job(id, job[3], 'cancelled', cancelled_outcome(), nil, iso)
else
  requeue(id, iso)
end
return 'committed'
