#!lua
-- ARGV: tenant, endpoint id, then fields and values. Answers ok or missing.
local id = ARGV[2]
if call('HGET', endpoint_key(id), 'tenant') ~= ARGV[1] then return 'missing' end
call('HSET', endpoint_key(id), 'updated_at', stamp(now), unpack(ARGV, 3))
if call('HGET', endpoint_key(id), 'status') == 'enabled' then call('HDEL', endpoint_key(id), 'disabled_reason') end
-- Whoever changes it has mended it: what waits is tried at once.
call('DEL', breaker_key(id))
look_again(id)
return 'ok'
