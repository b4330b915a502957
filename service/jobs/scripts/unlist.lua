#!lua flags=allow-oom
-- ARGV: ids of videos whose records have expired.
for _, id in ipairs(ARGV) do unlist(id) end
