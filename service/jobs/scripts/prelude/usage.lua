-- What tenants use, by day (UTC): whole milliseconds of GPU time, so that no sum drifts. A job's estimate is reserved when it
-- is submitted, on that day, and settled on the same day when it ends.
local USAGE_SECONDS = 400 * 86400
local RESERVED = 'wanserve:reserved'

local function today() return string.format('%d', math.floor(now / 86400)) end
local function usage_key(tenant, day) return 'wanserve:usage:' .. tenant .. ':' .. day end
local function active_key(tenant) return 'wanserve:tenant:' .. tenant .. ':active' end
local function milliseconds(seconds) return math.floor(seconds * 1000 + 0.5) end

local function count(tenant, day, field, number)
  local key = usage_key(tenant, day)
  call('HINCRBY', key, field, string.format('%d', number))
  call('EXPIRE', key, USAGE_SECONDS)
end

local function reserve(job_id, tenant, cost)
  local day, reserved = today(), milliseconds(cost)
  count(tenant, day, 'reserved_ms', reserved)
  call('HSET', RESERVED, job_id, string.format('%s:%d:%s', day, reserved, tenant))
  call('SADD', active_key(tenant), job_id)
end

-- Once a job. seconds: measured, of one that was completed; of another one as far as it came by the estimate.
local function settle(job_id, seconds)
  local reservation = call('HGET', RESERVED, job_id)
  if not reservation then return end
  local day, reserved, tenant = string.match(reservation, '^(%d+):(%d+):(.*)$')
  call('HDEL', RESERVED, job_id)
  call('SREM', active_key(tenant), job_id)
  local job = call('HMGET', job_key(job_id), 'claimed_at', 'percent')
  local spent = 0
  if seconds then
    spent = milliseconds(seconds)
  elseif job[1] then
    spent = math.floor(reserved * number(job[2], 0) / 100)
  end
  count(tenant, day, 'reserved_ms', -reserved)
  count(tenant, day, 'spent_ms', spent)
end

-- Milliseconds that a job takes beyond what is left of the day's budget; none or less where it fits.
local function over_budget(tenant, budget_seconds, cost)
  local used = call('HMGET', usage_key(tenant, today()), 'reserved_ms', 'spent_ms')
  return number(used[1], 0) + number(used[2], 0) + milliseconds(cost) - milliseconds(budget_seconds)
end
