#!lua flags=allow-oom
-- ARGV: arguments as JSON. Answers committed, held (a person must look at the files first), already_mine, lost or refused;
-- with the last two the files are garbage.
local args = cjson.decode(ARGV[1])
local id, execution, state = args.job_id, args.execution_id, args.state
local key = job_key(id)
local job = call('HMGET', key, 'status', 'execution', 'origin', 'worker_name', 'cancel', 'ended_as', 'claimed_at',
  'cache_key', 'held', 'tenant', 'frames')

local function lose()
  for _, object_key in ipairs(args.files) do discard(object_key) end
  return 'lost'
end

if job[2] ~= execution then return lose() end
if job[6] then
  if job[6] == state then return 'already_mine' end
  return lose()
end
if job[9] and state == 'completed' then return 'held' end
if job[1] ~= 'started' then return lose() end

local queue, worker, rule = job[3], job[4], job[11]
drop_execution(id, execution, worker, queue)
-- Its last video was cancelled meanwhile: nobody wants the files.
local is_unwanted = job[5] and state ~= 'cancelled'
if is_unwanted then
  end_job(id, queue, 'cancelled', cancelled_outcome(), nil, args.iso)
  return lose()
end

local function refuse()
  settle(id, args.seconds)
  end_job(id, queue, 'failed', failed_outcome('moderation_blocked', args.refusal), nil, args.iso)
  lose()
  return 'refused'
end

-- The GPU's part is done, and so is the worker's: files and outcome wait in Redis for a person's word.
local function hold()
  local review, finding = frames_review(id), args.finding
  settle(id, args.seconds)
  drop_checkpoint(id)
  create_asset(args.asset_id, args.files, args.num_bytes)
  refer(args.asset_id, held_reference(id))
  open_review(review, id, job[10] or DEFAULT_TENANT, 'frames', finding and finding.category or 'everything')
  call('HSET', review_key(review), 'asset_id', args.asset_id)
  if finding then call('HSET', review_key(review), 'score', finding.score) end
  call('HSET', key, 'held', args.outcome, 'held_result', args.rq_result, 'phase', 'finishing', 'stage', 'review',
    'percent', 99)
  call('DEL', preview_key(id))
  publish({job_id = id, state = 'finishing', stage = 'review', percent = 99})
  return 'held'
end

local function commit()
  if args.asset_id then create_asset(args.asset_id, args.files, args.num_bytes) end
  end_job(id, queue, state, args.outcome, args.asset_id, args.iso, args.seconds)
  if args.asset_id and job[8] then keep_cached(job[8], args.outcome, id, args.asset_id, args.cache) end
  remember_result(id, execution, worker, job[7], state == 'completed', args.rq_result)
  return 'committed'
end

local function end_by_rule()
  if state ~= 'completed' then return commit() end
  if args.finding and rule == 'never' then return refuse() end
  if args.finding or rule == 'everything' then return hold() end
  return commit()
end

local verdict = end_by_rule()
local rq_worker = 'rq:worker:' .. worker
if call('EXISTS', rq_worker) == 1 then
  call('HINCRBY', rq_worker, state == 'completed' and 'successful_job_count' or 'failed_job_count', 1)
  call('HINCRBYFLOAT', rq_worker, 'total_working_time', stamp(now - tonumber(job[7])))
end
return verdict
