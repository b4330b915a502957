#!lua flags=allow-oom
-- ARGV: job id, execution, object key, step. Answers ok, cancel or lost; the object is garbage with the last two.
local id, execution, object_key, step = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local key = job_key(id)
local job = call('HMGET', key, 'status', 'execution', 'cancel', 'checkpoint', 'checkpoint_step')
if job[4] == object_key then
  -- Saved twice, and announced twice.
  call('ZREM', GARBAGE, object_key)
  return 'ok'
end
local is_mine = job[1] == 'started' and job[2] == execution
if job[3] or not is_mine then
  discard(object_key)
  return is_mine and 'cancel' or 'lost'
end
-- A worker that stops saves on its main thread, which may overtake the one that saved before.
local is_overtaken = job[4] and string.find(job[4], execution, 1, true) and step < number(job[5], 0)
if is_overtaken then
  discard(object_key)
  return 'ok'
end
if job[4] then discard(job[4]) end
call('HSET', key, 'checkpoint', object_key, 'checkpoint_step', step)
call('ZREM', GARBAGE, object_key)
return 'ok'
