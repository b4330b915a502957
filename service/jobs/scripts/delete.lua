#!lua flags=allow-oom
-- ARGV: video id, ISO stamp. Answers {missing}, {kept} or, when nothing refers to its files any more, {free, outcome}.
local id = ARGV[1]
local key = video_key(id)
if cancel_video(id, ARGV[2]) == 'missing' then
  call('ZREM', VIDEOS, id)
  return {'missing'}
end
local video = call('HMGET', key, 'asset_id', 'cache_key', 'outcome')
call('DEL', key)
call('ZREM', VIDEOS, id)
if not video[1] then return {'kept'} end
call('SREM', references_key(video[1]), id)
local is_cached = call('HGET', cache_key(video[2]), 'asset_id') == video[1]
if is_cached or call('SCARD', references_key(video[1])) > 0 then return {'kept'} end
call('ZREM', ASSETS, video[1])
return {'free', video[3]}
