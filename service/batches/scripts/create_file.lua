#!lua
-- ARGV: the file as JSON, most files a tenant may have. Answers ok or full; then its object is garbage.
local file = cjson.decode(ARGV[1])
-- Asked again because the reply was lost.
if call('EXISTS', file_key(file.id)) == 1 then return 'ok' end
if call('ZCARD', files_key(file.tenant)) >= tonumber(ARGV[2]) then
  call('ZADD', GARBAGE, stamp(now), file.object_key)
  return 'full'
end
create_file(file, now)
return 'ok'
