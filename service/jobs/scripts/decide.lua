#!lua flags=allow-oom
-- ARGV: arguments as JSON. Answers done, missing, decided (by others, or nobody wants it any more) or same_person.
local args = cjson.decode(ARGV[1])
local id, key = args.review_id, review_key(args.review_id)
local review = call('HMGET', key, 'state', 'tenant', 'decisions', 'job_id', 'stage', 'weight', 'asset_id')
if not review[1] or args.tenant and review[2] ~= args.tenant then return 'missing' end
local decisions = review[3] and cjson.decode(review[3]) or {}
for _, decision in ipairs(decisions) do
  -- Asked again because the reply was lost.
  if decision.id == args.decision.id then return 'done' end
end
if review[1] ~= 'pending' then return 'decided' end
for _, decision in ipairs(decisions) do
  if decision.by == args.decision.by then return 'same_person' end
end

local job_id, stage = review[4], review[5]
local job = call('HMGET', job_key(job_id), 'origin', 'cache_key', 'held', 'held_result', 'execution', 'worker_name',
  'claimed_at')
local retention = retention_of(job_id)
if not job[1] then
  -- RQ's own tools took the job away.
  end_removed(job_id, 'standard', args.iso)
  return 'decided'
end
args.decision.at = now
decisions[#decisions + 1] = args.decision
call('HSET', key, 'decisions', cjson.encode(decisions))

local function let_wait()
  call('HSET', job_key(job_id), 'status', 'queued', 'enqueued_at', args.iso)
  enqueue(job_id, read_waiter(job_id), number(review[6], 1))
  publish({job_id = job_id, state = 'queued', percent = 0})
end

local function release_files()
  if job[2] then keep_cached(job[2], job[3], job_id, review[7], args.cache) end
  end_job(job_id, job[1], 'completed', job[3], review[7], args.iso)
  remember_result(job_id, job[5], job[6], job[7], true, job[4])
end

if not args.decision.approves then
  close_review(id, 'rejected', retention)
  end_job(job_id, job[1], 'failed', failed_outcome('rejected_by_review', args.message), nil, args.iso)
elseif #decisions >= args.needed then
  close_review(id, 'approved', retention)
  if stage == 'frames' then release_files() else let_wait() end
end
return 'done'
