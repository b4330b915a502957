#!lua
-- ARGV: tenant, batch id, input file id, most batches at work a tenant may have, seconds of its window and for which it is
-- kept, then fields and values. Answers ok, no_file, other_purpose or full.
local tenant, id, file_id = ARGV[1], ARGV[2], ARGV[3]
-- Asked again because the reply was lost.
if call('EXISTS', batch_key(id)) == 1 then return 'ok' end
local file = call('HMGET', file_key(file_id), 'tenant', 'purpose', 'object_key', 'bytes')
if file[1] ~= tenant then return 'no_file' end
if file[2] ~= 'batch' then return 'other_purpose' end
if call('SCARD', busy_key(tenant)) >= tonumber(ARGV[4]) then return 'full' end
call('HSET', batch_key(id), 'schema_version', 1, 'id', id, 'tenant', tenant, 'input_file_id', file_id,
  'input_key', file[3],
  'input_bytes', file[4], 'status', 'validating', 'created_at', stamp(now), 'expires_at', stamp(now + tonumber(ARGV[5])),
  'number', 1, 'offset', 0, 'total', 0, 'completed', 0, 'failed', 0,
  'keep_seconds', ARGV[6], unpack(ARGV, 7))
call('ZADD', batches_key(tenant), stamp(now), id)
call('ZADD', ACTIVE, stamp(now), id)
call('SADD', busy_key(tenant), id)
call('SADD', users_key(file_id), id)
return 'ok'
