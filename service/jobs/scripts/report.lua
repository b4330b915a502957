#!lua flags=allow-oom
-- ARGV: job id, execution, state, stage, step, number of steps, percent, a preview in base64 or nothing. Answers ok, cancel
-- or lost.
local id, execution = ARGV[1], ARGV[2]
local key = job_key(id)
local PREVIEW_SECONDS = 3600
local job = call('HMGET', key, 'status', 'execution', 'cancel', 'percent')
if job[1] ~= 'started' or job[2] ~= execution then return 'lost' end
if job[3] then return 'cancel' end
-- A second attempt begins anew, but what the client sees never goes back.
local percent = math.max(tonumber(ARGV[7]), number(job[4], 0))
call('HSET', key, 'phase', ARGV[3], 'stage', ARGV[4], 'step', ARGV[5], 'num_steps', ARGV[6], 'percent', percent)
if (ARGV[8] or '') ~= '' then call('SET', preview_key(id), ARGV[8], 'EX', PREVIEW_SECONDS) end
publish({job_id = id, state = ARGV[3], stage = ARGV[4], step = tonumber(ARGV[5]), num_steps = tonumber(ARGV[6]),
  percent = percent})
return 'ok'
