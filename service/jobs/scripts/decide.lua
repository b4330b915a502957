#!lua flags=allow-oom
-- ARGV: arguments as JSON. Answers done, missing, decided (by others, or nobody wants it any more) or same_person.
local args = cjson.decode(ARGV[1])
local id, key = args.job_id, review_key(args.job_id)
local review = call('HMGET', key, 'state', 'tenant', 'decisions', 'weight')
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
args.decision.at = now
decisions[#decisions + 1] = args.decision
call('HSET', key, 'decisions', cjson.encode(decisions))

if not args.decision.approves then
  close_review(id, 'rejected', retention_of(id))
  local origin = call('HGET', job_key(id), 'origin')
  end_job(id, origin, 'failed', failed_outcome('rejected_by_review', args.message), nil, args.iso)
elseif #decisions >= args.needed then
  close_review(id, 'approved', retention_of(id))
  call('HSET', job_key(id), 'status', 'queued', 'enqueued_at', args.iso)
  enqueue(id, read_waiter(id), number(review[4], 1))
  publish({job_id = id, state = 'queued', percent = 0})
end
return 'done'
