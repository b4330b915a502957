#!lua
-- ARGV: tenant, endpoint id, most endpoints a tenant may have, then fields and values. Answers ok or full.
local tenant, id = ARGV[1], ARGV[2]
-- Asked again because the reply was lost.
if call('EXISTS', endpoint_key(id)) == 1 then return 'ok' end
if call('ZCARD', endpoints_key(tenant)) >= tonumber(ARGV[3]) then return 'full' end
call('HSET', endpoint_key(id), 'schema_version', 1, 'id', id, 'tenant', tenant, 'status', 'enabled', 'created_at',
  stamp(now),
  'updated_at', stamp(now), unpack(ARGV, 4))
call('ZADD', endpoints_key(tenant), stamp(now), id)
return 'ok'
