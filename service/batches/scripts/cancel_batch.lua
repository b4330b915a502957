#!lua flags=allow-oom
-- ARGV: tenant, batch id. One that has not begun is cancelled at once, a running one by its feeder. Answers ok, missing
-- or its status where that is too late.
local tenant, id = ARGV[1], ARGV[2]
local batch = call('HMGET', batch_key(id), 'tenant', 'status')
if batch[1] ~= tenant then return 'missing' end
if batch[2] == 'validating' then
  reach(id, 'cancelling')
  close(id, 'cancelled')
elseif batch[2] == 'in_progress' then
  reach(id, 'cancelling')
elseif batch[2] ~= 'cancelling' and batch[2] ~= 'cancelled' then
  return batch[2]
end
return 'ok'
