#!lua flags=allow-oom
-- ARGV: tenant, then ids of videos whose records are gone.
for i = 2, #ARGV do unlist(ARGV[i], ARGV[1]) end
