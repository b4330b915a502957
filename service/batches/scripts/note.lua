#!lua
-- ARGV: batch id, number of the request, offset behind its line, digest of its custom_id or '', its refusal or ''. Says
-- that a request was submitted or refused. Answers how many wait or run now; nothing for one that is not the batch's
-- next, or not any more.
local id, number, offset, name, refusal = unpack(ARGV)
local batch = call('HMGET', batch_key(id), 'status', 'number')
if batch[1] ~= 'in_progress' or batch[2] ~= number then return false end
call('HSET', batch_key(id), 'number', tonumber(number) + 1, 'offset', offset)
if name ~= '' then call('HSETNX', names_key(id), name, number) end
if refusal == '' then
  call('SADD', running_key(id), number)
else
  call('HSET', refused_key(id), number, refusal)
  call('HINCRBY', batch_key(id), 'failed', 1)
end
return call('SCARD', running_key(id))
