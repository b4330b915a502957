#!lua
-- ARGV: arguments as JSON, then the fields and values of rq:job. Answers {kind or refusal, video id or depth}.
-- Not allowed at maxmemory: better to refuse than to accept what can't be kept.
local args = cjson.decode(ARGV[1])
local idempotency = args.idempotency and 'wanserve:idempotency:' .. args.idempotency

if idempotency then
  local seen = call('HMGET', idempotency, 'body', 'video_id')
  if seen[1] and seen[1] ~= args.body then return {'mismatch', seen[2]} end
  if seen[2] and seen[2] ~= args.video_id then
    return {call('EXISTS', video_key(seen[2])) == 1 and 'replayed' or 'deleted', seen[2]}
  end
end
-- Asked again because the reply was lost.
local kind = call('HGET', video_key(args.video_id), 'kind')
if kind then return {kind, args.video_id} end

-- What was accepted is still answered; the room that is left belongs to the ends of jobs.
if args.is_memory_short then return {'short', args.video_id} end

local function create_video(kind, job_id)
  call('HSET', video_key(args.video_id), 'kind', kind, 'job_id', job_id, 'created_at', stamp(now),
    'request', args.request, 'details', args.details, 'cache_key', args.cache_key)
  call('ZADD', VIDEOS, stamp(now), args.video_id)
  if idempotency then
    call('HSET', idempotency, 'body', args.body, 'video_id', args.video_id)
    call('EXPIRE', idempotency, args.idempotency_seconds)
  end
  return {kind, args.video_id}
end

local cached = call('HMGET', cache_key(args.cache_key), 'outcome', 'job_id', 'asset_id')
if cached[1] then
  local answer = create_video('cached', cached[2])
  end_video(args.video_id, cached[2], 'completed', cached[1], cached[3], args.retention)
  return answer
end

local twin = call('GET', flight_key(args.cache_key))
if twin then
  local job = call('HMGET', job_key(twin), 'status', 'cancel')
  if (job[1] == 'queued' or job[1] == 'started') and not job[2] then
    call('SADD', followers_key(twin), args.video_id)
    return create_video('joined', twin)
  end
end

local queue = 'rq:queue:' .. args.queue
local depth = call('LLEN', queue)
if depth >= args.max_depth then return {'full', depth} end

call('HSET', job_key(args.job_id), unpack(ARGV, 2))
call('HSET', job_key(args.job_id), 'payload', args.payload, 'fingerprint', args.fingerprint,
  'cache_key', args.cache_key, 'submitted_at', stamp(now))
call('SADD', followers_key(args.job_id), args.video_id)
call('SET', flight_key(args.cache_key), args.job_id)
call('SADD', 'rq:queues', queue)
call('RPUSH', queue, args.job_id)
wake_a_worker(args.fingerprint)
return create_video('queued', args.job_id)
