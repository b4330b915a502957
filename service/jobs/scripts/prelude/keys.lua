-- Before every script: names of keys, and Redis' own clock.
local FAR_SECONDS = 86400 * 30
-- RQ's own clean-up of its started registry is not atomic and must never fire: the true deadline is in LEASES.

local LEASES, OUTBOX, PROGRESS, GARBAGE = 'wanserve:leases', 'wanserve:outbox', 'wanserve:progress', 'wanserve:garbage'
local EXPIRING, DEADLINES = 'wanserve:expiring', 'wanserve:deadlines'
local CACHE_USED, CACHE_EXPIRING, CACHE_BYTES = 'wanserve:cache-used', 'wanserve:cache-expiring', 'wanserve:cache-bytes'
local LANES, WORK, PAUSED, DRAINING = 'wanserve:lanes', 'wanserve:work', 'wanserve:paused', 'wanserve:draining'
local CARDS, WORKERS = 'wanserve:cards', 'wanserve:workers'
local DEFAULT_TENANT = 'default'

local call = redis.call

local function clock()
  local time = call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local now = clock()

local function stamp(seconds) return string.format('%.6f', seconds) end
local function number(text, otherwise)
  local value = tonumber(text or '')
  -- Neither infinite nor nan, whose difference from itself is nan.
  return value and value - value == 0 and value or otherwise
end
local function video_key(id) return 'wanserve:video:' .. id end
local function videos_key(tenant) return 'wanserve:videos:' .. tenant end
local function unlisted_key(video_id, tenant) return 'wanserve:unlisted:' .. tenant .. ':' .. video_id end
local function job_key(id) return 'rq:job:' .. id end
local function preview_key(job_id) return 'wanserve:preview:' .. job_id end
local function followers_key(job_id) return 'wanserve:job:' .. job_id .. ':videos' end
local function cache_key(digest) return 'wanserve:cache:' .. digest end
local function flight_key(digest) return 'wanserve:flight:' .. digest end
local function wake_key(fingerprint) return 'wanserve:wake:' .. fingerprint end
local function asset_key(id) return 'wanserve:asset:' .. id end
local function references_key(asset_id) return 'wanserve:asset:' .. asset_id .. ':references' end
local function list_key(priority) return 'rq:queue:' .. priority end
local function lane_of(priority, fingerprint) return priority .. ':' .. fingerprint end
local function waiting_key(lane) return 'wanserve:waiting:' .. lane end
local function backlog_key(lane) return 'wanserve:backlog:' .. lane end
local function fair_key(lane) return 'wanserve:fair:' .. lane end
local function shares_key(fingerprint) return 'wanserve:shares:' .. fingerprint end
local function worker_key(name) return 'wanserve:worker:' .. name end
local function tenant_waiting_key(tenant) return 'wanserve:tenant:' .. tenant .. ':waiting' end

local function publish(message) call('PUBLISH', PROGRESS, cjson.encode(message)) end

-- A worker of the checkpoint that waits takes one token; idle ones go when it finds no job, or run out.
local function wake_a_worker(fingerprint)
  local key = wake_key(fingerprint)
  call('LPUSH', key, 1)
  call('LTRIM', key, 0, 63)
  call('EXPIRE', key, 60)
end

-- Takes a video off its tenant's list; for an hour a page can still be asked for after it.
local function unlist(video_id, tenant)
  local created_at = call('ZSCORE', videos_key(tenant), video_id)
  if not created_at then return end
  call('SET', unlisted_key(video_id, tenant), created_at, 'EX', 3600)
  call('ZREM', videos_key(tenant), video_id)
end
