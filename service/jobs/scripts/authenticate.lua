#!lua flags=no-writes
-- ARGV: an API key's id. Answers the key and its tenant; for an unknown id, after the same work, neither.
local key = call('HGET', 'wanserve:keys', ARGV[1])
local tenant = cjson.decode(key or '{"tenant":""}').tenant
return {key, call('HGET', 'wanserve:tenants', tenant)}
