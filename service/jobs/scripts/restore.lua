#!lua flags=allow-oom
-- ARGV: video id, its tenant, created_at, expires_at, asset id, object keys as JSON, bytes, fields and values of its hash.
-- Answers 1, or 0 where the video is there.
local id, tenant, asset_id = ARGV[1], ARGV[2], ARGV[5]
if call('EXISTS', video_key(id)) == 1 then return 0 end
call('HSET', video_key(id), unpack(ARGV, 8))
call('ZADD', videos_key(tenant), ARGV[3], id)
call('ZADD', EXPIRING, ARGV[4], id)
if call('EXISTS', asset_key(asset_id)) == 0 then create_asset(asset_id, cjson.decode(ARGV[6]), ARGV[7]) end
refer(asset_id, id)
return 1
