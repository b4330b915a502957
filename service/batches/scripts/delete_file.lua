#!lua flags=allow-oom
-- ARGV: tenant, file id, call id. Answers ok, missing or in_use.
local tenant, id, reply = ARGV[1], ARGV[2], 'wanserve:deletion:' .. ARGV[3]
-- Asked again because the reply was lost.
if call('EXISTS', reply) == 1 then return 'ok' end
if call('HGET', file_key(id), 'tenant') ~= tenant then return 'missing' end
if call('SCARD', users_key(id)) > 0 then return 'in_use' end
remove_file(id)
call('SET', reply, 1, 'EX', REPLY_SECONDS)
return 'ok'
