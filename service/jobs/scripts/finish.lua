#!lua flags=allow-oom
-- ARGV: arguments as JSON. Answers committed, already_mine or lost; with lost the files are garbage.
local args = cjson.decode(ARGV[1])
local id, execution, state = args.job_id, args.execution_id, args.state
local key = job_key(id)
local job = call('HMGET', key, 'status', 'execution', 'origin', 'worker_name', 'cancel', 'ended_as', 'claimed_at',
  'cache_key')

local function lose()
  for _, object_key in ipairs(args.files) do discard(object_key) end
  return 'lost'
end

if job[2] ~= execution then return lose() end
if job[6] then
  if job[6] == state then return 'already_mine' end
  return lose()
end
if job[1] ~= 'started' then return lose() end

local queue, worker = job[3], job[4]
drop_execution(id, execution, worker, queue)
-- Its last video was cancelled meanwhile: nobody wants the files.
local is_unwanted = job[5] and state ~= 'cancelled'
if is_unwanted then
  end_job(id, queue, 'cancelled', cancelled_outcome(), nil, args.iso)
  return lose()
end
if args.asset_id then create_asset(args.asset_id, args.files, args.num_bytes) end
end_job(id, queue, state, args.outcome, args.asset_id, args.iso, args.seconds)
if args.asset_id and job[8] then keep_cached(job[8], args.outcome, id, args.asset_id, args.cache) end

local result = {'type', state == 'completed' and 1 or 2, 'worker_name', worker, 'execution_id', execution,
  'execution_started_at', job[7], 'execution_ended_at', stamp(now)}
result[#result + 1] = state == 'completed' and 'return_value' or 'exc_string'
result[#result + 1] = args.rq_result
call('XADD', 'rq:results:' .. id, 'MAXLEN', '~', 10, '*', unpack(result))
call('EXPIRE', 'rq:results:' .. id, retention_of(id))
local rq_worker = 'rq:worker:' .. worker
if call('EXISTS', rq_worker) == 1 then
  call('HINCRBY', rq_worker, state == 'completed' and 'successful_job_count' or 'failed_job_count', 1)
  call('HINCRBYFLOAT', rq_worker, 'total_working_time', stamp(now - tonumber(job[7])))
end
return 'committed'
