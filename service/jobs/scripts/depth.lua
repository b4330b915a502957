#!lua flags=no-writes
-- Answers the jobs that wait and their GPU seconds.
local num_jobs, seconds = all_waiting()
return {num_jobs, stamp(seconds)}
