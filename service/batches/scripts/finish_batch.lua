#!lua flags=allow-oom
-- ARGV: batch id, the status it must have, the one it ends with, requests completed, failed, its files as JSON: field of
-- the batch and file. Answers 1; 0 when another was first, whose files are the batch's. These are garbage already.
local id, before, after, completed, failed = unpack(ARGV)
if call('HGET', batch_key(id), 'status') ~= before then return 0 end
call('HSET', batch_key(id), 'completed', completed, 'failed', failed)
for i, each in ipairs(cjson.decode(ARGV[6])) do
  create_file(each.file, now + (i - 1) * 1e-6)
  call('HSET', batch_key(id), each.field, each.file.id)
end
close(id, after)
return 1
