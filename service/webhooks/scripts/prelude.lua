-- Shared by the webhooks' scripts. A delivery goes to a target: an endpoint, or the host of a video's own webhook.
-- Deliveries wait in their target's list, by the time of their next attempt; targets wait in TARGETS, by the time at
-- which one of theirs may be claimed. So a slow or dead target delays nobody else's.
local CURSOR, TARGETS = 'wanserve:webhooks:cursor', 'wanserve:webhooks:targets'
local MAX_IN_FLIGHT = 4 -- Attempts at once at one target.
local TRIPS_AT = 5      -- Failures in a row that open a target's breaker; then one attempt at a time tries it again.
local FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 30, 300
local KEEP_SECONDS = 86400 * 8
local MAX_KEPT = 1000 -- Deliveries that ended, for each owner and each end.
local ENDS = {'delivered', 'dead', 'dropped'}

local function endpoint_key(id) return 'wanserve:endpoint:' .. id end
local function endpoints_key(tenant) return 'wanserve:tenant:' .. tenant .. ':endpoints' end
local function delivery_key(id) return 'wanserve:delivery:' .. id end
local function claim_key(token) return 'wanserve:webhooks:claim:' .. token end
local function due_key(target) return 'wanserve:webhooks:due:' .. target end
local function flying_key(target) return 'wanserve:webhooks:flying:' .. target end
local function breaker_key(target) return 'wanserve:webhooks:breaker:' .. target end

-- An owner is an endpoint or, for a video's own webhook, the video. state: a delivery's, or all.
local function list_key_of(owner, state) return 'wanserve:deliveries:' .. owner .. ':' .. state end

-- When one of the target's deliveries may be claimed. To be called after whatever changes that.
local function look_again(target)
  local first = call('ZRANGE', due_key(target), 0, 0, 'WITHSCORES')
  if #first == 0 then return call('ZREM', TARGETS, target) end
  -- Not before now: whose turn has just been waits behind the others that are due.
  local at = math.max(tonumber(first[2]), now)
  local breaker = call('HMGET', breaker_key(target), 'failures', 'rests_until')
  if breaker[2] then at = math.max(at, tonumber(breaker[2])) end
  call('ZREMRANGEBYSCORE', flying_key(target), '-inf', stamp(now))
  local room = tonumber(breaker[1] or '0') >= TRIPS_AT and 1 or MAX_IN_FLIGHT
  local flying = call('ZRANGE', flying_key(target), 0, 0, 'WITHSCORES')
  if call('ZCARD', flying_key(target)) >= room then at = math.max(at, tonumber(flying[2])) end
  call('ZADD', TARGETS, stamp(at), target)
end

local function note_reply(target, is_success)
  if is_success then return call('DEL', breaker_key(target)) end
  local failures = call('HINCRBY', breaker_key(target), 'failures', 1)
  if failures >= TRIPS_AT then
    local rest = math.min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2 ^ (failures - TRIPS_AT))
    call('HSET', breaker_key(target), 'rests_until', stamp(now + rest))
  end
  call('EXPIRE', breaker_key(target), 86400 * 2)
end

local function list_as(id, owner, state, created_at)
  local key = list_key_of(owner, state)
  call('ZREMRANGEBYSCORE', key, '-inf', stamp(now - KEEP_SECONDS * 2))
  call('ZADD', key, created_at, id)
  call('EXPIRE', key, KEEP_SECONDS * 2)
end

-- Moves a delivery between the lists of its owner. Only the newest of those that ended are kept.
local function become(id, owner, state, created_at)
  local before = call('HGET', delivery_key(id), 'state')
  call('ZREM', list_key_of(owner, before), id)
  call('HSET', delivery_key(id), 'state', state)
  list_as(id, owner, state, created_at)
  if state == 'pending' then return call('PERSIST', delivery_key(id)) end
  call('EXPIRE', delivery_key(id), KEEP_SECONDS)
  for _, old in ipairs(call('ZRANGE', list_key_of(owner, state), 0, -MAX_KEPT - 1)) do
    call('ZREM', list_key_of(owner, state), old)
    call('ZREM', list_key_of(owner, 'all'), old)
    call('DEL', delivery_key(old))
  end
end

-- The same event to the same owner is the same delivery.
local function create_delivery(event, owner, target, endpoint_id)
  local id = 'delivery_' .. redis.sha1hex(event.id .. ' ' .. owner)
  if call('EXISTS', delivery_key(id)) == 1 then return end
  call('HSET', delivery_key(id), 'schema_version', 1, 'id', id, 'tenant', event.tenant, 'owner', owner, 'target', target,
    'endpoint_id', endpoint_id or '', 'event_id', event.id, 'type', event.type, 'video_id', event.video_id,
    'at', event.at, 'state', 'pending', 'created_at', stamp(now), 'next_attempt_at', stamp(now), 'num_attempts', 0)
  list_as(id, owner, 'all', stamp(now))
  list_as(id, owner, 'pending', stamp(now))
  call('ZADD', due_key(target), stamp(now), id)
  look_again(target)
end
