#!lua flags=allow-oom
-- ARGV: batch id, then numbers of requests whose videos ended, each with completed or failed. Each counts once.
local id = ARGV[1]
for i = 2, #ARGV, 2 do
  if call('SREM', running_key(id), ARGV[i]) == 1 then call('HINCRBY', batch_key(id), ARGV[i + 1], 1) end
end
return 'ok'
