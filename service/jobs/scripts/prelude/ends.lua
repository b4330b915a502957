-- How videos and jobs end, each once, and how an attempt at a job ends.
local RQ_STATUS = {completed = 'finished', failed = 'failed', cancelled = 'canceled', expired = 'canceled'}

local function retention_of(job_id)
  return number(call('HGET', job_key(job_id), 'result_ttl'), 604800)
end

local function error_outcome(state, code, message)
  return cjson.encode({schema_version = 1, state = state, error = {code = code, message = message}})
end

local function failed_outcome(code, message) return error_outcome('failed', code, message) end
local function cancelled_outcome() return error_outcome('cancelled', 'cancelled', 'The video was cancelled.') end
local function expired_outcome()
  return error_outcome('expired', 'deadline_exceeded', 'The video was not completed before its deadline.')
end

local UNRECORDED = 'wanserve:unrecorded'

-- What its provenance record will say, as it is now: the video may be deleted before that is written.
local function remember_origin(video_id, job_id)
  call('HSET', UNRECORDED, video_id, cjson.encode({
    video = call('HGETALL', video_key(video_id)),
    reviews = {call('HGETALL', review_key(job_id)), call('HGETALL', review_key(frames_review(job_id)))}
  }))
end

-- Later calls change nothing. The event lies in the outbox with the same write.
local function end_video(video_id, job_id, state, outcome, asset_id, retention)
  local key = video_key(video_id)
  if call('EXISTS', key) == 0 or call('HEXISTS', key, 'state') == 1 then return end
  local expires = stamp(now + retention)
  call('HSET', key, 'state', state, 'outcome', outcome, 'finished_at', stamp(now), 'expires_at', expires)
  call('ZADD', EXPIRING, expires, video_id)
  call('ZREM', DEADLINES, video_id)
  if asset_id then
    call('HSET', key, 'asset_id', asset_id)
    refer(asset_id, video_id)
    remember_origin(video_id, job_id)
  end
  local kind = state == 'completed' and 'video.completed' or 'video.failed'
  local oldest = string.format('%d', math.max(0, now - retention) * 1000)
  call('XADD', OUTBOX, 'MINID', '~', oldest, '*',
    'type', kind, 'video_id', video_id, 'job_id', job_id, 'state', state, 'at', stamp(now))
  publish({job_id = job_id, video_id = video_id, state = state, percent = state == 'completed' and 100 or 0})
end

-- Takes a video's record away, and with the last reference its files.
local function remove_video(video_id)
  local video = call('HMGET', video_key(video_id), 'asset_id', 'tenant')
  call('DEL', video_key(video_id))
  call('ZREM', EXPIRING, video_id)
  call('ZREM', DEADLINES, video_id)
  unlist(video_id, video[2] or DEFAULT_TENANT)
  if video[1] then drop_reference(video[1], video_id) end
end

-- Removes the lease and RQ's traces of an execution.
local function drop_execution(job_id, execution, worker, queue)
  local pair = job_id .. ':' .. execution
  call('ZREM', LEASES, pair)
  call('ZREM', 'rq:wip:' .. queue, pair)
  call('DEL', 'rq:execution:' .. pair, 'wanserve:claim:' .. execution)
  call('ZREM', 'rq:executions:' .. job_id, execution)
  if worker then call('SREM', 'rq:worker:' .. worker .. ':executions', pair) end
end

-- What RQ's own tools see of a job that has ended.
local function register_end(job_id, queue, state, iso)
  local key = job_key(job_id)
  local retention = retention_of(job_id)
  local status = RQ_STATUS[state]
  call('HSET', key, 'status', status, 'ended_as', state, 'ended_at', iso)
  call('EXPIRE', key, retention)
  local registry = 'rq:' .. status .. ':' .. queue
  -- Nobody else trims it: RQ's own workers would.
  call('ZREMRANGEBYSCORE', registry, '-inf', stamp(now))
  call('ZADD', registry, stamp(now + retention), job_id)
end

-- What RQ's own Job.return_value() and Job.latest_result() read, of an execution that ended the job.
local function remember_result(job_id, execution, worker, claimed_at, is_success, text)
  local result = 'rq:results:' .. job_id
  call('XADD', result, 'MAXLEN', '~', 10, '*', 'type', is_success and 1 or 2, 'worker_name', worker,
    'execution_id', execution, 'execution_started_at', claimed_at, 'execution_ended_at', stamp(now),
    is_success and 'return_value' or 'exc_string', text)
  call('EXPIRE', result, retention_of(job_id))
end

-- The saved state of a job, which nobody will go on from.
local function drop_checkpoint(job_id)
  local object_key = call('HGET', job_key(job_id), 'checkpoint')
  if not object_key then return end
  discard(object_key)
  call('HDEL', job_key(job_id), 'checkpoint', 'checkpoint_step')
end

local function land(digest, job_id)
  if digest and call('GET', flight_key(digest)) == job_id then call('DEL', flight_key(digest)) end
end

local function end_followers(job_id, state, outcome, asset_id)
  local retention = retention_of(job_id)
  for _, video_id in ipairs(call('SMEMBERS', followers_key(job_id))) do
    end_video(video_id, job_id, state, outcome, asset_id, retention)
  end
  call('DEL', followers_key(job_id), preview_key(job_id))
end

-- Ends a job and every video that follows it. asset_id and the GPU's seconds: only with completed.
local function end_job(job_id, queue, state, outcome, asset_id, iso, seconds)
  settle(job_id, seconds)
  register_end(job_id, queue, state, iso)
  drop_checkpoint(job_id)
  end_followers(job_id, state, outcome, asset_id)
  leave_desk(job_id, retention_of(job_id))
  land(call('HGET', job_key(job_id), 'cache_key'), job_id)
end

-- Ends a job that RQ's own tools took away, perhaps with its record.
local function end_removed(job_id, queue, iso)
  local outcome = failed_outcome('job_removed', 'The job was removed from the queue. Submit it again.')
  for _, video_id in ipairs(call('SMEMBERS', followers_key(job_id))) do
    -- The job's own record may no longer say whose it was.
    call('SREM', tenant_waiting_key(call('HGET', video_key(video_id), 'tenant') or DEFAULT_TENANT), job_id)
  end
  if call('EXISTS', job_key(job_id)) == 1 then
    end_job(job_id, queue, 'failed', outcome, nil, iso)
  else
    settle(job_id)
    end_followers(job_id, 'failed', outcome)
    leave_desk(job_id, retention_of(job_id))
  end
end

-- Puts a job that was started back at the front.
local function requeue(job_id, iso)
  local key = job_key(job_id)
  call('HDEL', key, 'execution', 'phase', 'stage')
  call('HSET', key, 'status', 'queued', 'enqueued_at', iso, 'worker_name', '')
  enqueue_first(job_id)
  publish({job_id = job_id, state = 'queued', percent = number(call('HGET', key, 'percent'), 0)})
end

-- Counts a failed attempt and says what became of the job: requeued, failed or cancelled.
local function end_attempt(job_id, queue, reason, iso)
  local key = job_key(job_id)
  local job = call('HMGET', key, 'cancel', 'retries_left', 'number_of_retries', 'story')
  local attempt = number(job[3], 0) + 1
  local story = (job[4] and job[4] .. ' ' or '') .. 'Attempt ' .. attempt .. ': ' .. reason
  call('HSET', key, 'story', story)
  if job[1] then
    end_job(job_id, queue, 'cancelled', cancelled_outcome(), nil, iso)
    return 'cancelled', story
  end
  if number(job[2], 0) <= 0 then
    local message = 'The job was given up after ' .. attempt .. (attempt == 1 and ' attempt. ' or ' attempts. ') .. story
    end_job(job_id, queue, 'failed', failed_outcome('attempts_exhausted', message), nil, iso)
    return 'failed', story
  end
  call('HINCRBY', key, 'retries_left', -1)
  call('HINCRBY', key, 'number_of_retries', 1)
  requeue(job_id, iso)
  return 'requeued', story
end

-- Ends one video, cancelled or expired. Its job stops when no other follows it: at once while it waits, else its worker
-- is told.
local function give_up_video(video_id, state, outcome, iso)
  local video = call('HMGET', video_key(video_id), 'job_id', 'state')
  local job_id = video[1]
  if not job_id then return 'missing' end
  if video[2] then return 'ended' end
  call('SREM', followers_key(job_id), video_id)
  end_video(video_id, job_id, state, outcome, nil, retention_of(job_id))
  if call('SCARD', followers_key(job_id)) > 0 then return 'given_up' end
  local job = call('HMGET', job_key(job_id), 'status', 'origin', 'cache_key')
  if job[1] == 'queued' or job[1] == 'deferred' then
    stop_waiting(job_id)
    end_job(job_id, job[2], 'cancelled', cancelled_outcome(), nil, iso)
  elseif job[1] == 'started' then
    call('HSET', job_key(job_id), 'cancel', 1)
    land(job[3], job_id)
  end
  return 'given_up'
end
