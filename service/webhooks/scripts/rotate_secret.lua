#!lua
-- ARGV: tenant, endpoint id, new secret, seconds for which the old one still signs too. Answers ok or missing.
local id, secret, seconds = ARGV[2], ARGV[3], tonumber(ARGV[4])
local endpoint = call('HMGET', endpoint_key(id), 'tenant', 'secret')
if endpoint[1] ~= ARGV[1] then return 'missing' end
-- Asked again because the reply was lost.
if endpoint[2] == secret then return 'ok' end
call('HSET', endpoint_key(id), 'secret', secret, 'previous_secret', endpoint[2],
  'previous_until', stamp(now + seconds), 'updated_at', stamp(now))
if seconds <= 0 then call('HDEL', endpoint_key(id), 'previous_secret', 'previous_until') end
return 'ok'
