-- Files in storage: an asset lives as long as a video or a cache entry refers to it. What nothing refers to is garbage,
-- a zset of object keys by the time from which they may be removed.
local function discard(object_key) call('ZADD', GARBAGE, stamp(now), object_key) end

local function create_asset(asset_id, files, num_bytes)
  call('HSET', asset_key(asset_id), 'files', cjson.encode(files), 'bytes', num_bytes)
  for _, object_key in ipairs(files) do call('ZREM', GARBAGE, object_key) end
end

local function refer(asset_id, name) call('SADD', references_key(asset_id), name) end

local function drop_reference(asset_id, name)
  if call('SREM', references_key(asset_id), name) == 0 or call('SCARD', references_key(asset_id)) > 0 then return end
  for _, object_key in ipairs(cjson.decode(call('HGET', asset_key(asset_id), 'files') or '[]')) do discard(object_key) end
  call('DEL', asset_key(asset_id))
end

local function drop_cached(digest)
  local entry = call('HMGET', cache_key(digest), 'asset_id', 'bytes')
  call('ZREM', CACHE_USED, digest)
  call('ZREM', CACHE_EXPIRING, digest)
  if call('DEL', cache_key(digest)) == 0 then return end
  call('DECRBY', CACHE_BYTES, entry[2] or 0)
  drop_reference(entry[1], 'cache:' .. digest)
end

-- limits: bytes of all entries, seconds of one. The least recently used go first.
local function keep_cached(digest, outcome, job_id, asset_id, limits)
  local num_bytes = tonumber(call('HGET', asset_key(asset_id), 'bytes'))
  drop_cached(digest)
  if num_bytes > limits.bytes then return end
  refer(asset_id, 'cache:' .. digest)
  call('HSET', cache_key(digest), 'outcome', outcome, 'job_id', job_id, 'asset_id', asset_id, 'bytes', num_bytes)
  call('ZADD', CACHE_USED, stamp(now), digest)
  call('ZADD', CACHE_EXPIRING, stamp(now + limits.seconds), digest)
  call('INCRBY', CACHE_BYTES, num_bytes)
  while tonumber(call('GET', CACHE_BYTES)) > limits.bytes do drop_cached(call('ZRANGE', CACHE_USED, 0, 0)[1]) end
end

-- What an equal request is answered with: outcome, job and asset; nothing once it is too old.
local function look_up_cached(digest)
  local expires_at = call('ZSCORE', CACHE_EXPIRING, digest)
  if not expires_at or tonumber(expires_at) <= now then return end
  call('ZADD', CACHE_USED, stamp(now), digest)
  return unpack(call('HMGET', cache_key(digest), 'outcome', 'job_id', 'asset_id'))
end
