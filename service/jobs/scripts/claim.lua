#!lua flags=allow-oom
-- ARGV: worker, fingerprint of its checkpoint, execution, lease seconds, ISO stamp, GPU seconds of a job of those it is busy
-- with (0: it is idle, or one more would share their forwards), then shapes that are welcome.
-- Answers {job id, payload, attempt, seconds waited, checkpoint key, its step} (both empty without one), or nothing.
-- Jobs of other checkpoints keep their places.
local worker, fingerprint, execution, lease, iso = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local claim = 'wanserve:claim:' .. execution
local PAGE, LOOK, MAX_PASSED = 64, 4, 4

-- A job that preempts others leaves them a fifth of the device: it takes a quarter longer than on a free one. So one that would
-- sooner have a worker to itself is left to that: with n jobs running, one of them ends every n-th of its length.
local PREEMPTION_COST = 4
local busy = tonumber(ARGV[6])
local longest_cost = busy > 0 and PREEMPTION_COST * busy / math.max(1, call('ZCARD', LEASES)) or math.huge

local function answer(id)
  local job = call('HMGET', job_key(id), 'payload', 'number_of_retries', 'submitted_at', 'claimed_at',
    'checkpoint', 'checkpoint_step')
  local waited = number(job[4], now) - number(job[3], now)
  return {id, job[1] or '', number(job[2], 0) + 1, stamp(waited), job[5] or '', job[6] or ''}
end

-- Asked again because the reply was lost.
local mine = call('GET', claim)
if mine and call('HGET', job_key(mine), 'execution') == execution then return answer(mine) end
if call('SISMEMBER', DRAINING, worker) == 1 then return false end

local welcome = {}
for i = 7, #ARGV do welcome[ARGV[i]] = true end

local function lease_out(id, priority)
  local key = job_key(id)
  local pair = id .. ':' .. execution
  call('HSET', key, 'status', 'started', 'execution', execution, 'worker_name', worker,
    'started_at', iso, 'last_heartbeat', iso, 'claimed_at', stamp(now))
  call('PERSIST', key)
  call('SET', claim, id, 'EX', math.ceil(lease) * 2 + 60)
  call('ZADD', LEASES, stamp(now + lease), pair)
  call('HSET', 'rq:execution:' .. pair, 'id', execution, 'job_id', id,
    'created_at', stamp(now), 'last_heartbeat', stamp(now), 'worker_name', worker)
  call('EXPIRE', 'rq:execution:' .. pair, FAR_SECONDS)
  call('ZADD', 'rq:executions:' .. id, stamp(now + FAR_SECONDS), execution)
  call('EXPIRE', 'rq:executions:' .. id, FAR_SECONDS)
  call('ZADD', 'rq:wip:' .. priority, stamp(now + FAR_SECONDS), pair)
  call('SADD', 'rq:worker:' .. worker .. ':executions', pair)
  call('EXPIRE', 'rq:worker:' .. worker .. ':executions', FAR_SECONDS)
  publish({job_id = id, state = 'started', percent = number(call('HGET', key, 'percent'), 0)})
end

-- What an entry of the list is to this worker: its job, another's, or nothing that may run.
local function kind_of(id, priority)
  local job = call('HMGET', job_key(id), 'status', 'payload', 'ended_as', 'fingerprint')
  if job[1] ~= 'queued' then return 'stale' end
  if job[3] then
    -- Put back by `rq requeue`: a job ends once.
    register_end(id, priority, job[3], iso)
    return 'stale'
  end
  if not job[2] then
    -- Put here by a stock RQ client: run nothing that SUBMIT did not check.
    end_job(id, priority, 'failed', failed_outcome('foreign_job', 'Not a job of this service.'), nil, iso)
    return 'stale'
  end
  return job[4] == fingerprint and 'mine' or 'others'
end

-- The first jobs of the list that are this worker's.
local function next_few(priority)
  local few, place = {}, 0
  repeat
    local ids = call('LRANGE', list_key(priority), place, place + PAGE - 1)
    for _, id in ipairs(ids) do
      local kind = kind_of(id, priority)
      if kind == 'stale' then call('LREM', list_key(priority), 1, id) else place = place + 1 end
      if kind == 'mine' then few[#few + 1] = id end
      if #few == LOOK then return few end
    end
  until #ids == 0
  return few
end

-- The first one of a welcome shape; the first of all where none is, or where it was passed over often enough.
local function choose(few)
  local short = {}
  for _, id in ipairs(few) do
    local _, _, _, cost = lane_fields(id)
    if cost <= longest_cost then short[#short + 1] = id end
  end
  few = short
  local first = few[1]
  if not first or not next(welcome) then return first end
  if number(call('HGET', job_key(first), 'passed'), 0) >= MAX_PASSED then return first end
  for i, id in ipairs(few) do
    if welcome[call('HGET', job_key(id), 'shape')] then
      if i > 1 then call('HINCRBY', job_key(first), 'passed', 1) end
      return id
    end
  end
  return first
end

-- Jobs that RQ's own tools took off the list still count as waiting: they would keep the others in the backlog.
local function end_all_removed(priority, lane)
  for _, id in ipairs(call('ZDIFF', 2, waiting_key(lane), backlog_key(lane))) do
    stop_waiting(id, lane)
    end_removed(id, priority, iso)
  end
end

-- And whether there are any to choose from.
local function take_from(priority, lane)
  pump(priority, lane)
  local few = next_few(priority)
  if not few[1] and call('ZCARD', waiting_key(lane)) > 0 then
    end_all_removed(priority, lane)
    few = next_few(priority)
  end
  return choose(few), few[1] ~= nil
end

-- Priorities that have work, by start-time fair shares of the GPU: whoever had less than its share is first.
local function by_turn(shares)
  local turns, virtual = {}, tonumber(shares[1] or '0')
  for i, priority in ipairs(PRIORITIES) do
    local has_work = call('LLEN', list_key(priority)) > 0 or call('EXISTS', waiting_key(lane_of(priority, fingerprint))) == 1
    if has_work and call('SISMEMBER', PAUSED, priority) == 0 then
      turns[#turns + 1] = {priority = priority, start = math.max(virtual, tonumber(shares[i + 1] or '0')), rank = i}
    end
  end
  table.sort(turns, function(a, b) return a.start < b.start or (a.start == b.start and a.rank < b.rank) end)
  return turns
end

local is_any_left = false
for _, turn in ipairs(by_turn(call('HMGET', shares_key(fingerprint), 'now', unpack(PRIORITIES)))) do
  local id, is_any = take_from(turn.priority, lane_of(turn.priority, fingerprint))
  is_any_left = is_any_left or is_any
  if id then
    local _, _, _, cost = lane_fields(id)
    call('HSET', shares_key(fingerprint), 'now', stamp(turn.start),
      turn.priority, stamp(turn.start + cost / SHARES[turn.priority]))
    stop_waiting(id)
    lease_out(id, turn.priority)
    return answer(id)
  end
end
if not is_any_left then call('DEL', wake_key(fingerprint), shares_key(fingerprint)) end
return false
