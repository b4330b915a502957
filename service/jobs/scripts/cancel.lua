#!lua flags=allow-oom
-- ARGV: video id, ISO stamp. Answers missing, ended or cancelled.
return cancel_video(ARGV[1], ARGV[2])
