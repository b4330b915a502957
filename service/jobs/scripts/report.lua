#!lua flags=allow-oom
-- ARGV: job id, execution, state, stage, step, number of steps, percent. Answers ok, cancel or lost.
local id, execution = ARGV[1], ARGV[2]
local key = job_key(id)
local job = call('HMGET', key, 'status', 'execution', 'cancel', 'percent')
if job[1] ~= 'started' or job[2] ~= execution then return 'lost' end
if job[3] then return 'cancel' end
-- A second attempt begins anew, but what the client sees never goes back.
local percent = math.max(tonumber(ARGV[7]), tonumber(job[4] or '0'))
call('HSET', key, 'phase', ARGV[3], 'stage', ARGV[4], 'step', ARGV[5], 'num_steps', ARGV[6], 'percent', percent)
publish({job_id = id, state = ARGV[3], stage = ARGV[4], step = tonumber(ARGV[5]), num_steps = tonumber(ARGV[6]),
  percent = percent})
return 'ok'
