#!lua flags=allow-oom
-- ARGV: video id, call id, ISO stamp.
-- Answers {missing}, {kept} or, when nothing refers to its files any more, {free, outcome}.
local id, iso = ARGV[1], ARGV[3]
local reply = 'wanserve:deletion:' .. ARGV[2]
local REPLY_SECONDS = 300

-- Asked again because the reply was lost.
local replied = call('LRANGE', reply, 0, -1)
if #replied > 0 then return replied end

-- The record's end is told only here: who asks again must hear which files are free.
local function answer(...)
  call('RPUSH', reply, ...)
  call('EXPIRE', reply, REPLY_SECONDS)
  return {...}
end

local key = video_key(id)
if cancel_video(id, iso) == 'missing' then
  unlist(id)
  return {'missing'}
end
local video = call('HMGET', key, 'asset_id', 'cache_key', 'outcome')
call('DEL', key)
unlist(id)
if not video[1] then return answer('kept') end
call('SREM', references_key(video[1]), id)
local is_cached = call('HGET', cache_key(video[2]), 'asset_id') == video[1]
if is_cached or call('SCARD', references_key(video[1])) > 0 then return answer('kept') end
call('ZREM', ASSETS, video[1])
return answer('free', video[3])
