#!lua flags=allow-oom
-- ARGV: seconds, object keys on their way into storage, which no record names yet: garbage by then.
for i = 2, #ARGV do call('ZADD', GARBAGE, 'LT', stamp(now + tonumber(ARGV[1])), ARGV[i]) end
return 'ok'
