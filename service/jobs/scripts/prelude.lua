-- Shared by every script. Keys of ours begin with wanserve:, RQ's with rq:. All stamps are Redis' own clock.

local FAR_SECONDS = 86400 * 30
-- RQ's own clean-up of its started registry is not atomic and must never fire: the true deadline is in LEASES.

local LEASES, VIDEOS, ASSETS = 'wanserve:leases', 'wanserve:videos', 'wanserve:assets'
local OUTBOX, PROGRESS = 'wanserve:outbox', 'wanserve:progress'

local call = redis.call

local function clock()
  local time = call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local now = clock()

local function stamp(seconds) return string.format('%.6f', seconds) end
local function video_key(id) return 'wanserve:video:' .. id end
local function job_key(id) return 'rq:job:' .. id end
local function followers_key(job_id) return 'wanserve:job:' .. job_id .. ':videos' end
local function cache_key(digest) return 'wanserve:cache:' .. digest end
local function flight_key(digest) return 'wanserve:flight:' .. digest end
local function wake_key(fingerprint) return 'wanserve:wake:' .. fingerprint end
local function references_key(asset_id) return 'wanserve:asset:' .. asset_id .. ':videos' end
local function unlisted_key(video_id) return 'wanserve:unlisted:' .. video_id end

local function publish(message) call('PUBLISH', PROGRESS, cjson.encode(message)) end

-- A worker of the checkpoint that waits takes one token; idle ones go when it finds no job, or run out.
local function wake_a_worker(fingerprint)
  local key = wake_key(fingerprint)
  call('LPUSH', key, 1)
  call('LTRIM', key, 0, 63)
  call('EXPIRE', key, 60)
end

-- Takes a video off the list; for an hour a page can still be asked for after it.
local function unlist(video_id)
  local created_at = call('ZSCORE', VIDEOS, video_id)
  if not created_at then return end
  call('SET', unlisted_key(video_id), created_at, 'EX', 3600)
  call('ZREM', VIDEOS, video_id)
end

local function retention_of(job_id)
  return tonumber(call('HGET', job_key(job_id), 'result_ttl') or '') or 604800
end

local function cancelled_outcome()
  local message = 'The video was cancelled.'
  return cjson.encode({schema_version = 1, state = 'cancelled', error = {code = 'cancelled', message = message}})
end

local function failed_outcome(code, message)
  return cjson.encode({schema_version = 1, state = 'failed', error = {code = code, message = message}})
end

-- Ends a video once: later calls change nothing. The event lies in the outbox with the same write.
local function end_video(video_id, job_id, state, outcome, asset_id, retention)
  local key = video_key(video_id)
  if call('EXISTS', key) == 0 or call('HEXISTS', key, 'state') == 1 then return end
  local expires = now + retention
  call('HSET', key, 'state', state, 'outcome', outcome, 'finished_at', stamp(now), 'expires_at', stamp(expires))
  call('EXPIRE', key, retention)
  if asset_id then
    call('HSET', key, 'asset_id', asset_id)
    call('SADD', references_key(asset_id), video_id)
    call('EXPIRE', references_key(asset_id), retention)
    call('ZADD', ASSETS, 'GT', stamp(expires), asset_id)
  end
  local kind = state == 'completed' and 'video.completed' or 'video.failed'
  local oldest = string.format('%d', math.max(0, now - retention) * 1000)
  call('XADD', OUTBOX, 'MINID', '~', oldest, '*',
    'type', kind, 'video_id', video_id, 'job_id', job_id, 'state', state, 'at', stamp(now))
  publish({job_id = job_id, video_id = video_id, state = state, percent = state == 'completed' and 100 or 0})
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

local RQ_STATUS = {completed = 'finished', failed = 'failed', cancelled = 'canceled', expired = 'canceled'}

-- What RQ's own tools see of a job that has ended.
local function register_end(job_id, queue, state, iso)
  local key = job_key(job_id)
  local retention = retention_of(job_id)
  local status = RQ_STATUS[state]
  call('HSET', key, 'status', status, 'ended_as', state, 'ended_at', iso)
  call('EXPIRE', key, retention)
  call('ZADD', 'rq:' .. status .. ':' .. queue, stamp(now + retention), job_id)
end

-- Ends a job and every video that follows it. asset_id is given only with completed.
local function end_job(job_id, queue, state, outcome, asset_id, iso)
  local key = job_key(job_id)
  local retention = retention_of(job_id)
  register_end(job_id, queue, state, iso)
  for _, video_id in ipairs(call('SMEMBERS', followers_key(job_id))) do
    end_video(video_id, job_id, state, outcome, asset_id, retention)
  end
  call('DEL', followers_key(job_id))
  local digest = call('HGET', key, 'cache_key')
  if not digest then return end
  if call('GET', flight_key(digest)) == job_id then call('DEL', flight_key(digest)) end
  if asset_id then
    call('HSET', cache_key(digest), 'outcome', outcome, 'job_id', job_id, 'asset_id', asset_id)
    call('EXPIRE', cache_key(digest), retention)
    call('ZADD', ASSETS, 'GT', stamp(now + retention), asset_id)
  end
end

-- Puts a job that was started back at the front.
local function requeue(job_id, queue, iso)
  local key = job_key(job_id)
  call('HDEL', key, 'execution', 'phase', 'stage')
  call('HSET', key, 'status', 'queued', 'enqueued_at', iso, 'worker_name', '')
  call('LPUSH', 'rq:queue:' .. queue, job_id)
  wake_a_worker(call('HGET', key, 'fingerprint'))
  publish({job_id = job_id, state = 'queued', percent = tonumber(call('HGET', key, 'percent') or '0')})
end

-- Counts a failed attempt and says what became of the job: requeued, failed or cancelled.
local function end_attempt(job_id, queue, reason, iso)
  local key = job_key(job_id)
  local job = call('HMGET', key, 'cancel', 'retries_left', 'number_of_retries', 'story')
  local attempt = tonumber(job[3] or '0') + 1
  local story = (job[4] and job[4] .. ' ' or '') .. 'Attempt ' .. attempt .. ': ' .. reason
  call('HSET', key, 'story', story)
  if job[1] then
    end_job(job_id, queue, 'cancelled', cancelled_outcome(), nil, iso)
    return 'cancelled', story
  end
  if tonumber(job[2] or '0') <= 0 then
    local message = 'The job was given up after ' .. attempt .. (attempt == 1 and ' attempt. ' or ' attempts. ') .. story
    end_job(job_id, queue, 'failed', failed_outcome('attempts_exhausted', message), nil, iso)
    return 'failed', story
  end
  call('HINCRBY', key, 'retries_left', -1)
  call('HINCRBY', key, 'number_of_retries', 1)
  requeue(job_id, queue, iso)
  return 'requeued', story
end

-- Cancels one video. Its job stops when no other follows it: at once while it waits, else its worker is told.
local function cancel_video(video_id, iso)
  local video = call('HMGET', video_key(video_id), 'job_id', 'state')
  local job_id = video[1]
  if not job_id then return 'missing' end
  if video[2] then return 'ended' end
  local key = job_key(job_id)
  call('SREM', followers_key(job_id), video_id)
  end_video(video_id, job_id, 'cancelled', cancelled_outcome(), nil, retention_of(job_id))
  if call('SCARD', followers_key(job_id)) > 0 then return 'cancelled' end
  local job = call('HMGET', key, 'status', 'origin', 'cache_key')
  if job[1] == 'queued' then
    call('LREM', 'rq:queue:' .. job[2], 1, job_id)
    end_job(job_id, job[2], 'cancelled', cancelled_outcome(), nil, iso)
  elseif job[1] == 'started' then
    call('HSET', key, 'cancel', 1)
    if job[3] and call('GET', flight_key(job[3])) == job_id then call('DEL', flight_key(job[3])) end
  end
  return 'cancelled'
end
