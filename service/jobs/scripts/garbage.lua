#!lua flags=allow-oom
-- ARGV: limit. Answers keys of objects that may be removed from storage.
local RETRY_SECONDS = 60
local running

-- An outage may outlast what was announced: files of an execution that still holds its lease may yet be named.
local function may_be_named(object_key)
  local execution = string.match(object_key, '^assets/[^/]+/([^/]+)/')
  if not execution then return false end
  if not running then
    running = {}
    for _, pair in ipairs(call('ZRANGE', LEASES, 0, -1)) do running[string.match(pair, ':([^:]*)$')] = true end
  end
  return running[execution]
end

local due = {}
for _, object_key in ipairs(call('ZRANGEBYSCORE', GARBAGE, '-inf', stamp(now), 'LIMIT', 0, tonumber(ARGV[1]))) do
  if may_be_named(object_key) then
    call('ZADD', GARBAGE, stamp(now + RETRY_SECONDS), object_key)
  else
    due[#due + 1] = object_key
  end
end
return due
