#!lua flags=allow-oom
-- ARGV: batch id, the status it must have, the one it reaches, then fields and values. Answers 1 when it moved.
local id, before, after = ARGV[1], ARGV[2], ARGV[3]
if call('HGET', batch_key(id), 'status') ~= before then return 0 end
if #ARGV > 3 then call('HSET', batch_key(id), unpack(ARGV, 4)) end
if after == 'failed' then close(id, after) else reach(id, after) end
return 1
