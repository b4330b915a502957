-- Jobs that a person looks at: before they may wait for a worker, or, their files made, before anybody gets these. A review
-- before has the id of its job, one after a suffix. Who reviews for one tenant has a list of that tenant's own.
local REVIEWS, DECIDED = 'wanserve:reviews', 'wanserve:reviews-decided'

local function review_key(id) return 'wanserve:review:' .. id end
local function frames_review(job_id) return job_id .. '-frames' end
local function held_reference(job_id) return 'review:' .. job_id end

local function open_review(id, job_id, tenant, stage, category)
  call('HSET', review_key(id), 'schema_version', 1, 'state', 'pending', 'job_id', job_id, 'tenant', tenant, 'stage', stage, 'category', category,
    'created_at', stamp(now))
  call('ZADD', REVIEWS, stamp(now), id)
  call('ZADD', REVIEWS .. ':' .. tenant, stamp(now), id)
  call('HSET', job_key(job_id), 'status', 'deferred', 'review', 'pending')
end

local function list_decided(key, id, retention)
  call('ZADD', key, stamp(now), id)
  call('ZREMRANGEBYSCORE', key, '-inf', stamp(now - retention))
  call('EXPIRE', key, retention)
end

-- Of one that is not pending nothing changes. It is remembered as long as its video would be.
local function close_review(id, state, retention)
  if call('ZREM', REVIEWS, id) == 0 then return end
  local review = call('HMGET', review_key(id), 'tenant', 'job_id')
  call('ZREM', REVIEWS .. ':' .. review[1], id)
  call('HSET', review_key(id), 'state', state, 'decided_at', stamp(now))
  call('EXPIRE', review_key(id), retention)
  list_decided(DECIDED, id, retention)
  list_decided(DECIDED .. ':' .. review[1], id, retention)
  if call('EXISTS', job_key(review[2])) == 1 then call('HSET', job_key(review[2]), 'review', state) end
end

-- A job that has ended is on nobody's desk: files that were held for it go, unless its videos refer to them by now.
local function leave_desk(job_id, retention)
  close_review(job_id, 'withdrawn', retention)
  close_review(frames_review(job_id), 'withdrawn', retention)
  local asset_id = call('HGET', review_key(frames_review(job_id)), 'asset_id')
  if not asset_id then return end
  drop_reference(asset_id, held_reference(job_id))
  call('HDEL', job_key(job_id), 'held', 'held_result')
end
