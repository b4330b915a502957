-- Shared by the scripts of files and batches. A file is a hash and an object in storage. A batch is a hash; which of its
-- requests wait or run, which were refused and which names were taken lie beside it until it has ended.
local ACTIVE, OLD_BATCHES, OLD_FILES = 'wanserve:batches:active', 'wanserve:batches:expiring', 'wanserve:files:expiring'
local AFTER_SECONDS = 3600 -- For so long a page can be asked for after what was deleted.
local REPLY_SECONDS = 300

local function file_key(id) return 'wanserve:file:' .. id end
local function users_key(file_id) return 'wanserve:file:' .. file_id .. ':batches' end
local function files_key(tenant) return 'wanserve:tenant:' .. tenant .. ':files' end
local function batch_key(id) return 'wanserve:batch:' .. id end
local function batches_key(tenant) return 'wanserve:tenant:' .. tenant .. ':batches' end
local function busy_key(tenant) return 'wanserve:tenant:' .. tenant .. ':batches:active' end
local function running_key(id) return 'wanserve:batch:' .. id .. ':running' end
local function refused_key(id) return 'wanserve:batch:' .. id .. ':refused' end
local function names_key(id) return 'wanserve:batch:' .. id .. ':names' end

-- file: id, tenant, filename, purpose, bytes, object_key, seconds. at: its place in the list, which no two share.
local function create_file(file, at)
  if call('EXISTS', file_key(file.id)) == 1 then return end
  call('HSET', file_key(file.id), 'schema_version', 1, 'id', file.id, 'tenant', file.tenant, 'filename', file.filename, 'purpose', file.purpose,
    'bytes', file.bytes, 'object_key', file.object_key, 'created_at', stamp(at), 'expires_at', stamp(at + file.seconds))
  call('ZADD', files_key(file.tenant), stamp(at), file.id)
  call('ZADD', OLD_FILES, stamp(at + file.seconds), file.id)
  call('ZREM', GARBAGE, file.object_key)
end

local function take_off(list, id)
  local at = call('ZSCORE', list, id)
  if at then call('SET', list .. ':gone:' .. id, at, 'EX', AFTER_SECONDS) end
  call('ZREM', list, id)
end

local function remove_file(id)
  local file = call('HMGET', file_key(id), 'tenant', 'object_key')
  call('ZREM', OLD_FILES, id)
  if not file[1] then return end
  call('ZADD', GARBAGE, stamp(now), file[2])
  take_off(files_key(file[1]), id)
  call('DEL', file_key(id), users_key(id))
end

-- A batch reaches a status; of one that is its last everything goes but what its owner sees.
local function reach(id, status)
  call('HSET', batch_key(id), 'status', status, status .. '_at', stamp(now))
end

local function close(id, status)
  local batch = call('HMGET', batch_key(id), 'tenant', 'input_file_id', 'keep_seconds')
  reach(id, status)
  call('ZREM', ACTIVE, id)
  call('SREM', busy_key(batch[1]), id)
  call('SREM', users_key(batch[2]), id)
  call('DEL', running_key(id), refused_key(id), names_key(id))
  call('ZADD', OLD_BATCHES, stamp(now + tonumber(batch[3])), id)
end
