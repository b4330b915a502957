-- What is known of videos, of the models and of the workers that live.

-- As JSON, which is read faster than RESP: a video's hash, its job's live fields and, of a waiting one, the jobs before it
-- their GPU seconds and how many jobs run. Nothing of one that is gone.
local function record_of(video_id)
  local video = call('HGETALL', video_key(video_id))
  if #video == 0 then return false end
  local job_id = call('HGET', video_key(video_id), 'job_id')
  local job = call('HMGET', job_key(job_id), 'status', 'origin', 'phase', 'stage', 'step', 'num_steps', 'percent',
    'claimed_at', 'number_of_retries', 'worker_name', 'review')
  return cjson.encode({video, job, job[1] == 'queued' and place_of(job_id)})
end

-- The texts of all cards, those of live workers, names of workers whose time is over, and a digest of all texts.
local function read_fleet()
  local names, cards, workers, gone = call('SMEMBERS', WORKERS), call('HVALS', CARDS), {}, {}
  table.sort(names)
  table.sort(cards)
  for _, name in ipairs(names) do
    local text = call('GET', worker_key(name))
    if text then workers[#workers + 1] = text else gone[#gone + 1] = name end
  end
  return {cards, workers, gone, redis.sha1hex(table.concat(cards, '\n') .. '\n\n' .. table.concat(workers, '\n'))}
end
