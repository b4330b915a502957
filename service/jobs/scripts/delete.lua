#!lua flags=allow-oom
-- ARGV: video id, call id, ISO stamp. Answers missing or deleted.
local id, deletion, iso = ARGV[1], 'wanserve:deletion:' .. ARGV[2], ARGV[3]
local REPLY_SECONDS = 300

-- Asked again because the reply was lost.
if call('EXISTS', deletion) == 1 then return 'deleted' end
if give_up_video(id, 'cancelled', cancelled_outcome(), iso) == 'missing' then return 'missing' end
remove_video(id)
call('SET', deletion, id, 'EX', REPLY_SECONDS)
return 'deleted'
