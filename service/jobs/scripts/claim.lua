#!lua flags=allow-oom
-- ARGV: queue, worker, fingerprint of its checkpoint, execution, lease seconds, ISO stamp.
-- Answers {job id, payload, attempt, seconds waited}, or nothing. Jobs of other checkpoints keep their places.
local queue, worker, fingerprint, execution, lease, iso = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local claim = 'wanserve:claim:' .. execution
local list = 'rq:queue:' .. queue
local PAGE = 64

local function answer(id)
  local job = call('HMGET', job_key(id), 'payload', 'number_of_retries', 'submitted_at', 'claimed_at')
  return {id, job[1], tonumber(job[2] or '0') + 1, stamp(tonumber(job[4]) - tonumber(job[3]))}
end

-- Asked again because the reply was lost.
local mine = call('GET', claim)
if mine and call('HGET', job_key(mine), 'execution') == execution then return answer(mine) end

local function lease_out(id)
  local key = job_key(id)
  local pair = id .. ':' .. execution
  call('HSET', key, 'status', 'started', 'execution', execution, 'worker_name', worker,
    'started_at', iso, 'last_heartbeat', iso, 'claimed_at', stamp(now))
  call('PERSIST', key)
  call('SET', claim, id, 'EX', math.ceil(lease) * 2 + 60)
  call('ZADD', LEASES, stamp(now + lease), pair)
  call('HSET', 'rq:execution:' .. pair, 'id', execution, 'job_id', id,
    'created_at', stamp(now), 'last_heartbeat', stamp(now), 'worker_name', worker)
  call('EXPIRE', 'rq:execution:' .. pair, FAR_SECONDS)
  call('ZADD', 'rq:executions:' .. id, stamp(now + FAR_SECONDS), execution)
  call('EXPIRE', 'rq:executions:' .. id, FAR_SECONDS)
  call('ZADD', 'rq:wip:' .. queue, stamp(now + FAR_SECONDS), pair)
  call('SADD', 'rq:worker:' .. worker .. ':executions', pair)
  call('EXPIRE', 'rq:worker:' .. worker .. ':executions', FAR_SECONDS)
  publish({job_id = id, state = 'started', percent = tonumber(call('HGET', key, 'percent') or '0')})
end

-- What an entry of the list is to this worker: its job, another's, or nothing that may run.
local function kind_of(id)
  local job = call('HMGET', job_key(id), 'status', 'payload', 'ended_as', 'fingerprint')
  if job[1] ~= 'queued' then return 'stale' end
  if job[3] then
    -- Put back by `rq requeue`: a job ends once.
    register_end(id, queue, job[3], iso)
    return 'stale'
  end
  if not job[2] then
    -- Put here by a stock RQ client: run nothing that SUBMIT did not check.
    end_job(id, queue, 'failed', failed_outcome('foreign_job', 'Not a job of this service.'), nil, iso)
    return 'stale'
  end
  return job[4] == fingerprint and 'mine' or 'others'
end

local place = 0
repeat
  local ids = call('LRANGE', list, place, place + PAGE - 1)
  for _, id in ipairs(ids) do
    local kind = kind_of(id)
    if kind == 'others' then
      place = place + 1
    else
      call('LREM', list, 1, id)
      if kind == 'mine' then
        lease_out(id)
        return answer(id)
      end
    end
  end
until #ids == 0
call('DEL', wake_key(fingerprint))
return false
