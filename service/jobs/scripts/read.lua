#!lua flags=no-writes
-- ARGV: video ids. Answers, for each, its hash, its job's live fields and its place in the queue, seen at one instant.
local records = {}
for i, id in ipairs(ARGV) do
  local video = call('HGETALL', video_key(id))
  local record = {video, {}, false}
  if #video > 0 then
    local job_id = call('HGET', video_key(id), 'job_id')
    local job = call('HMGET', job_key(job_id), 'status', 'origin', 'phase', 'stage', 'step', 'num_steps', 'percent',
      'claimed_at', 'number_of_retries', 'worker_name')
    record[2] = job
    if job[1] == 'queued' then record[3] = call('LPOS', 'rq:queue:' .. job[2], job_id) end
  end
  records[i] = record
end
return records
