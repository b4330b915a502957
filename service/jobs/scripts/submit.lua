#!lua
-- ARGV: arguments as JSON; of the video the request and the details; of rq:job the fields and values. Answers {kind, video id, its record} or, refused,
-- {reason, jobs, GPU seconds that one of them takes}, of a budget {over_budget, seconds that are left of it, of the day}.
-- Not allowed at maxmemory: better to refuse than to accept what can't be kept.
local args = cjson.decode(ARGV[1])
local idempotency = args.idempotency and 'wanserve:idempotency:' .. args.tenant .. ':' .. args.idempotency

if idempotency then
  local seen = call('HMGET', idempotency, 'body', 'video_id')
  if seen[1] and seen[1] ~= args.body then return {'mismatch', seen[2], false} end
  if seen[2] and seen[2] ~= args.video_id then
    return {call('EXISTS', video_key(seen[2])) == 1 and 'replayed' or 'deleted', seen[2], record_of(seen[2])}
  end
end
-- Asked again because the reply was lost.
local kind = call('HGET', video_key(args.video_id), 'kind')
if kind then return {kind, args.video_id, record_of(args.video_id)} end

-- The request was made for a model as it was before.
if args.fleet and read_fleet()[4] ~= args.fleet then return {'fleet_changed', args.video_id, false} end

-- What was accepted is still answered; the room that is left belongs to the ends of jobs.
if args.is_memory_short then return {'short', args.video_id, false} end

local function create_video(job_id, kind)
  call('HSET', video_key(args.video_id), 'kind', kind, 'job_id', job_id, 'created_at', stamp(now), 'tenant', args.tenant,
    'request', ARGV[2], 'details', ARGV[3])
  call('ZADD', videos_key(args.tenant), stamp(now), args.video_id)
  count(args.tenant, today(), kind, 1)
  if args.deadline_seconds then call('ZADD', DEADLINES, stamp(now + args.deadline_seconds), args.video_id) end
  if idempotency then
    call('HSET', idempotency, 'body', args.body, 'video_id', args.video_id)
    call('EXPIRE', idempotency, args.idempotency_seconds)
  end
end

-- Without a key for the cache the request goes round it: it neither takes nor gives.
if args.cache_key then
  local outcome, job_id, asset_id = look_up_cached(args.cache_key)
  if outcome then
    create_video(job_id, 'cached')
    end_video(args.video_id, job_id, 'completed', outcome, asset_id, args.retention)
    return {'cached', args.video_id, record_of(args.video_id)}
  end
  local twin = call('GET', flight_key(args.cache_key))
  if twin then
    local job = call('HMGET', job_key(twin), 'status', 'cancel')
    if (job[1] == 'queued' or job[1] == 'deferred' or job[1] == 'started') and not job[2] then
      call('SADD', followers_key(twin), args.video_id)
      if job[1] == 'queued' then promote(twin, args.priority, args.weight) end
      create_video(twin, 'joined')
      return {'joined', args.video_id, record_of(args.video_id)}
    end
  end
end

local num_waiting, seconds = all_waiting()
local function refuse(reason, num_jobs)
  return {reason, num_jobs, stamp(num_waiting > 0 and seconds / num_waiting or 0)}
end
if num_waiting >= args.max_depth then return refuse('full', num_waiting) end
local num_own = call('SCARD', tenant_waiting_key(args.tenant))
if args.max_depth_of_tenant and num_own >= args.max_depth_of_tenant then return refuse('tenant_full', num_own) end
local num_active = call('SCARD', active_key(args.tenant))
if args.max_active_of_tenant and num_active >= args.max_active_of_tenant then return refuse('tenant_busy', num_active) end
if args.budget_seconds then
  local over = over_budget(args.tenant, args.budget_seconds, args.cost)
  if over > 0 then
    local left = math.max(0, milliseconds(args.cost) - over) / 1000
    return {'over_budget', stamp(left), stamp(86400 - now % 86400)}
  end
end

call('HSET', job_key(args.job_id), 'submitted_at', stamp(now), unpack(ARGV, 4))
if args.cache_key then call('SET', flight_key(args.cache_key), args.job_id) end
call('SADD', followers_key(args.job_id), args.video_id)
reserve(args.job_id, args.tenant, args.cost)
if args.review then
  open_review(args.job_id, args.job_id, args.tenant, 'prompt', args.review)
  call('HSET', review_key(args.job_id), 'weight', stamp(args.weight))
else
  enqueue(args.job_id, {priority = args.priority, fingerprint = args.fingerprint, tenant = args.tenant, cost = args.cost,
    submitted_at = now}, args.weight)
end
create_video(args.job_id, 'queued')
return {'queued', args.video_id, record_of(args.video_id)}
