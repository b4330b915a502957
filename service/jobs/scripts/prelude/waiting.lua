-- Where jobs wait. A lane is a priority and a checkpoint; its fairest few jobs stand in RQ's list, where RQ's tools see
-- them, the others in a backlog by start-time fair tags (Goyal, Vin, Cheng, 1996): GPU seconds over the tenant's weight.
local PRIORITIES = {'interactive', 'standard', 'bulk'}
local SHARES = {interactive = 16, standard = 4, bulk = 1}
local FRONT = 4

-- A job whose record was damaged must not stop the queue: what is missing or no number has a stand-in.
local function lane_fields(job_id)
  local job = call('HMGET', job_key(job_id), 'origin', 'fingerprint', 'tenant', 'cost')
  return SHARES[job[1]] and job[1] or 'standard', job[2] or '', job[3] or DEFAULT_TENANT, number(job[4], 1)
end

-- Fills the front of a lane with the jobs that are next.
local function pump(priority, lane)
  local in_front = call('ZCARD', waiting_key(lane)) - call('ZCARD', backlog_key(lane))
  for _ = in_front + 1, FRONT do
    local fairest = call('ZPOPMIN', backlog_key(lane))
    if not fairest[1] then return end
    call('RPUSH', list_key(priority), fairest[1])
    call('HSET', fair_key(lane), 'now', fairest[2])
  end
end

-- What decides where a job waits, as its record says; whoever writes that record knows it already.
local function read_waiter(job_id)
  local priority, fingerprint, tenant, cost = lane_fields(job_id)
  local submitted_at = number(call('HGET', job_key(job_id), 'submitted_at'), now)
  return {priority = priority, fingerprint = fingerprint, tenant = tenant, cost = cost, submitted_at = submitted_at}
end

local function start_waiting(job_id, waiter)
  local lane = lane_of(waiter.priority, waiter.fingerprint)
  call('SADD', LANES, lane)
  call('SADD', 'rq:queues', list_key(waiter.priority))
  call('ZADD', waiting_key(lane), stamp(waiter.submitted_at), job_id)
  call('SADD', tenant_waiting_key(waiter.tenant), job_id)
  call('HINCRBYFLOAT', WORK, lane, waiter.cost)
  return lane
end

-- Takes a job off everything that it waits in. A lane that runs empty forgets who had how much.
-- its_lane: where the job's record may be gone.
local function stop_waiting(job_id, its_lane)
  local priority, fingerprint, tenant, cost = lane_fields(job_id)
  local lane = its_lane or lane_of(priority, fingerprint)
  call('LREM', list_key(priority), 1, job_id)
  call('SREM', tenant_waiting_key(tenant), job_id)
  call('ZREM', backlog_key(lane), job_id)
  if call('ZREM', waiting_key(lane), job_id) == 0 then return end
  if call('ZCARD', waiting_key(lane)) == 0 then
    call('DEL', fair_key(lane))
    call('HDEL', WORK, lane)
    call('SREM', LANES, lane)
  else
    call('HINCRBYFLOAT', WORK, lane, -cost)
    pump(string.match(lane, '^(.-):'), lane)
  end
end

-- A new job, behind what its tenant has waiting and beside what others have.
local function enqueue(job_id, waiter, weight)
  local lane = start_waiting(job_id, waiter)
  local fair = call('HMGET', fair_key(lane), 'now', 'tenant:' .. waiter.tenant)
  local tag = math.max(tonumber(fair[1] or '0'), tonumber(fair[2] or '0'))
  call('HSET', fair_key(lane), 'tenant:' .. waiter.tenant, stamp(tag + waiter.cost / weight))
  call('ZADD', backlog_key(lane), stamp(tag), job_id)
  pump(waiter.priority, lane)
  wake_a_worker(waiter.fingerprint)
end

-- A job that was started goes before all others of its lane.
local function enqueue_first(job_id)
  local waiter = read_waiter(job_id)
  start_waiting(job_id, waiter)
  call('LPUSH', list_key(waiter.priority), job_id)
  wake_a_worker(waiter.fingerprint)
end

-- A waiting job that somebody wants sooner changes lanes.
local function promote(job_id, priority, weight)
  local origin = call('HGET', job_key(job_id), 'origin')
  if SHARES[origin] and SHARES[origin] >= SHARES[priority] then return end
  stop_waiting(job_id)
  call('HSET', job_key(job_id), 'origin', priority)
  enqueue(job_id, read_waiter(job_id), weight)
end

-- Jobs that wait, and their GPU seconds, in all lanes.
local function all_waiting()
  local num_jobs, seconds = 0, 0
  for _, lane in ipairs(call('SMEMBERS', LANES)) do
    num_jobs = num_jobs + call('ZCARD', waiting_key(lane))
    seconds = seconds + tonumber(call('HGET', WORK, lane) or '0')
  end
  return num_jobs, seconds
end

-- Jobs before this one, and their GPU seconds: of its lane, and of the more urgent lanes of its
-- checkpoint. And how many jobs run.
local function place_of(job_id)
  local priority, fingerprint = lane_fields(job_id)
  local lane = lane_of(priority, fingerprint)
  local num_lane, num_backlog = call('ZCARD', waiting_key(lane)), call('ZCARD', backlog_key(lane))
  local rank = call('ZRANK', backlog_key(lane), job_id)
  local place = rank and rank + num_lane - num_backlog or call('LPOS', list_key(priority), job_id)
  if not place then return false end
  local seconds = place * tonumber(call('HGET', WORK, lane) or '0') / math.max(1, num_lane)
  for _, urgent in ipairs(PRIORITIES) do
    if urgent == priority then break end
    local other = lane_of(urgent, fingerprint)
    place = place + call('ZCARD', waiting_key(other))
    seconds = seconds + tonumber(call('HGET', WORK, other) or '0')
  end
  return {place, stamp(seconds), call('ZCARD', LEASES)}
end
