#!lua flags=allow-oom
-- ARGV: tenant, endpoint id, call id. Removes the endpoint and its deliveries. Answers ok or missing.
local tenant, id = ARGV[1], ARGV[2]
local reply = 'wanserve:deletion:' .. ARGV[3]
-- Asked again because the reply was lost.
if call('EXISTS', reply) == 1 then return 'ok' end
if call('HGET', endpoint_key(id), 'tenant') ~= tenant then return 'missing' end
call('SET', reply, 1, 'EX', 300)
for _, delivery_id in ipairs(call('ZRANGE', list_key_of(id, 'all'), 0, -1)) do call('DEL', delivery_key(delivery_id)) end
for _, state in ipairs({'all', 'pending', unpack(ENDS)}) do call('DEL', list_key_of(id, state)) end
call('DEL', endpoint_key(id), due_key(id), flying_key(id), breaker_key(id))
call('ZREM', endpoints_key(tenant), id)
call('ZREM', TARGETS, id)
return 'ok'
