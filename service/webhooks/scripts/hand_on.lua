#!lua flags=allow-oom
-- ARGV: limit. Makes deliveries of the outbox's next events, each once, whoever calls.
-- Answers how many events it read, whether a delivery may be claimed now (1 or 0), then the ids of videos whose event
-- nobody can be told any more.
local entries = call('XRANGE', OUTBOX, '(' .. (call('GET', CURSOR) or '0-0'), '+', 'COUNT', tonumber(ARGV[1]))

local function fields_of(flat)
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- The event with what the video's record says. An error for a record that is gone or can't be read.
local function read_event(flat)
  local event = fields_of(flat)
  local video = call('HMGET', video_key(event.video_id), 'details', 'tenant')
  local webhook = cjson.decode(video[1]).webhook
  event.id = 'evt_' .. string.gsub(event.video_id, '^video_', '')
  event.tenant = video[2] or DEFAULT_TENANT
  event.at = stamp(tonumber(event.at))
  if type(webhook) == 'table' then
    event.host = string.lower(string.match(webhook.url, '^%a+://([^/?]+)'))
    event.is_wanted = string.find(table.concat(webhook.events, ' '), event.type, 1, true)
  end
  return event
end

local function hand_to_endpoint(event, id)
  local endpoint = call('HMGET', endpoint_key(id), 'status', 'event_types', 'created_at')
  if endpoint[1] ~= 'enabled' or tonumber(endpoint[3]) > tonumber(event.at) then return end
  if string.find(endpoint[2], event.type, 1, true) then create_delivery(event, id, id, id) end
end

local unknown = {}
for _, entry in ipairs(entries) do
  local is_readable, event = pcall(read_event, entry[2])
  if is_readable then
    if event.is_wanted then create_delivery(event, event.video_id, 'host:' .. event.host, nil) end
    for _, id in ipairs(call('ZRANGE', endpoints_key(event.tenant), 0, -1)) do hand_to_endpoint(event, id) end
  else
    unknown[#unknown + 1] = fields_of(entry[2]).video_id or entry[1]
  end
  call('SET', CURSOR, entry[1])
end
local is_due = call('ZCOUNT', TARGETS, '-inf', stamp(now)) > 0
return {#entries, is_due and 1 or 0, unpack(unknown)}
