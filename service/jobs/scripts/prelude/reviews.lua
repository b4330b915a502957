-- Jobs that a person looks at before they may wait for a worker. A review has the id of its job.
local REVIEWS, DECIDED = 'wanserve:reviews', 'wanserve:reviews-decided'

local function review_key(job_id) return 'wanserve:review:' .. job_id end

local function open_review(job_id, tenant, weight, category)
  call('HSET', review_key(job_id), 'state', 'pending', 'tenant', tenant, 'weight', stamp(weight), 'category', category,
    'created_at', stamp(now))
  call('ZADD', REVIEWS, stamp(now), job_id)
  call('HSET', job_key(job_id), 'status', 'deferred', 'review', 'pending')
end

-- Of one that is not pending nothing changes. It is remembered as long as its video would be.
local function close_review(job_id, state, retention)
  if call('ZREM', REVIEWS, job_id) == 0 then return end
  call('HSET', review_key(job_id), 'state', state, 'decided_at', stamp(now))
  call('HSET', job_key(job_id), 'review', state)
  call('EXPIRE', review_key(job_id), retention)
  call('ZADD', DECIDED, stamp(now), job_id)
  call('ZREMRANGEBYSCORE', DECIDED, '-inf', stamp(now - retention))
  call('EXPIRE', DECIDED, retention)
end
