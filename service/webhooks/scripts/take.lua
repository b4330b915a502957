#!lua flags=allow-oom
-- ARGV: token, seconds. Claims the next delivery whose time has come, for so long; then it is anybody's again.
-- Answers its fields and its endpoint's, or nothing.
local token, seconds = ARGV[1], tonumber(ARGV[2])

local function answer(id)
  local endpoint_id = call('HGET', delivery_key(id), 'endpoint_id')
  return {call('HGETALL', delivery_key(id)), call('HGETALL', endpoint_key(endpoint_id or ''))}
end

-- Asked again because the reply was lost.
local mine = call('GET', claim_key(token))
if mine then return answer(mine) end

-- The target's first delivery, unless its time has not come after all.
local function claim_of(target)
  local first = call('ZRANGE', due_key(target), 0, 0, 'WITHSCORES')
  local id = first[1]
  if not id or tonumber(first[2]) > now then return nil end
  if call('HGET', delivery_key(id), 'state') ~= 'pending' then
    call('ZREM', due_key(target), id)
    return nil
  end
  call('SET', claim_key(token), id, 'PX', math.ceil(seconds * 1000))
  call('HSET', delivery_key(id), 'claim', token)
  call('ZADD', due_key(target), stamp(now + seconds), id)
  call('ZADD', flying_key(target), stamp(now + seconds), id)
  call('EXPIRE', flying_key(target), math.ceil(seconds * 2))
  return id
end

for _ = 1, 100 do
  local target = call('ZRANGEBYSCORE', TARGETS, '-inf', stamp(now), 'LIMIT', 0, 1)[1]
  if not target then return false end
  local id = claim_of(target)
  look_again(target)
  if id then return answer(id) end
end
return false
