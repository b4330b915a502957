#!lua flags=allow-oom
-- ARGV: requeue or fail, job id, ISO stamp, reason, call id. Answers done, missing, ended or waiting.
local action, id, iso, reason, call_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local job = call('HMGET', job_key(id), 'status', 'execution', 'origin', 'worker_name', 'payload', 'ended_as', 'cancel',
  'operated_by')
-- Asked again because the reply was lost.
if job[8] == call_id then return 'done' end
if not job[5] then return 'missing' end
if job[6] or job[7] then return 'ended' end
local is_waiting = job[1] == 'queued' or job[1] == 'deferred'
if is_waiting and action == 'requeue' then return 'waiting' end
if is_waiting then
  stop_waiting(id)
else
  drop_execution(id, job[2], job[4], job[3])
  call('HDEL', job_key(id), 'execution')
end
if action == 'requeue' then
  requeue(id, iso)
else
  end_job(id, job[3], 'failed', failed_outcome('failed_by_operator', reason), nil, iso)
end
call('HSET', job_key(id), 'operated_by', call_id)
return 'done'
