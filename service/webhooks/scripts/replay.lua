#!lua
-- ARGV: tenant, owner, delivery id, call id. Begins a delivery that ended anew. Answers ok, missing, pending or disabled.
local tenant, owner, id = ARGV[1], ARGV[2], ARGV[3]
local key = delivery_key(id)
local delivery = call('HMGET', key, 'tenant', 'owner', 'state', 'target', 'endpoint_id', 'created_at', 'replayed_by')
if delivery[1] ~= tenant or delivery[2] ~= owner then return 'missing' end
-- Asked again because the reply was lost.
if delivery[7] == ARGV[4] then return 'ok' end
if delivery[3] == 'pending' then return 'pending' end
if delivery[5] ~= '' and call('HGET', endpoint_key(delivery[5]), 'status') ~= 'enabled' then return 'disabled' end
become(id, owner, 'pending', delivery[6])
call('HDEL', key, 'reason')
call('HSET', key, 'replayed_by', ARGV[4], 'replayed_at', stamp(now), 'next_attempt_at', stamp(now), 'num_attempts', 0)
call('ZADD', due_key(delivery[4]), stamp(now), id)
look_again(delivery[4])
return 'ok'
