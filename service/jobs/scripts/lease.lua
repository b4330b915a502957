#!lua flags=allow-oom
-- ARGV: key, holder, milliseconds. Takes a lease that is free, or moves the end of the holder's own. Answers 1 when held.
local holder = call('GET', ARGV[1])
if holder and holder ~= ARGV[2] then return 0 end
call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
return 1
