#!lua flags=allow-oom
-- ARGV: video id, ISO stamp. Answers missing, ended or given_up.
return give_up_video(ARGV[1], 'cancelled', cancelled_outcome(), ARGV[2])
