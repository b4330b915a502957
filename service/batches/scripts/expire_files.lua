#!lua flags=allow-oom
-- ARGV: limit of each kind. Removes files and batches whose time is over; a file that a batch reads is looked at again
-- later. Answers how many there were.
local limit = tonumber(ARGV[1])
local function due(list) return call('ZRANGEBYSCORE', list, '-inf', stamp(now), 'LIMIT', 0, limit) end

local old = due(OLD_FILES)
for _, id in ipairs(old) do
  if call('SCARD', users_key(id)) > 0 then call('ZADD', OLD_FILES, stamp(now + 600), id) else remove_file(id) end
end
local ended = due(OLD_BATCHES)
for _, id in ipairs(ended) do
  take_off(batches_key(call('HGET', batch_key(id), 'tenant')), id)
  call('ZREM', OLD_BATCHES, id)
  call('DEL', batch_key(id))
end
return #old + #ended
