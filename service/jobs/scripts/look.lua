#!lua flags=no-writes
-- ARGV: video id, digest of the fleet that is known. Answers the video's record and, where it has not ended and the fleet
-- is another one by now, the fleet.
local record = record_of(ARGV[1])
if call('HEXISTS', video_key(ARGV[1]), 'state') == 1 then return {record, false} end
local fleet = read_fleet()
return {record, fleet[4] ~= ARGV[2] and fleet}
