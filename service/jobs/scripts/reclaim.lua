#!lua flags=allow-oom
-- ARGV: ISO stamp, limit. Answers {job id, worker, requeued | failed | cancelled, story} for each.
local iso, limit = ARGV[1], tonumber(ARGV[2])
local reclaimed = {}
for _, pair in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', stamp(now), 'LIMIT', 0, limit)) do
  local id, execution = string.match(pair, '^(.*):(.*)$')
  local job = call('HMGET', job_key(id), 'status', 'execution', 'origin', 'worker_name', 'step', 'num_steps',
    'ended_as')
  if job[1] == 'started' and job[2] == execution then
    local worker = job[4] or '?'
    local place = job[5] and ' at step ' .. job[5] .. ' of ' .. job[6] or ''
    drop_execution(id, execution, worker, job[3])
    local action, story = end_attempt(id, job[3], 'worker ' .. worker .. ' went silent' .. place .. '.', iso)
    reclaimed[#reclaimed + 1] = {id, worker, action, story}
  else
    call('ZREM', LEASES, pair)
    local is_removed = job[1] ~= 'started' and job[1] ~= 'queued' and not job[7]
    if is_removed then
      drop_execution(id, execution, job[4], job[3] or 'standard')
      end_removed(id, job[3] or 'standard', iso)
    end
  end
end
return reclaimed
