#!lua flags=allow-oom
-- ARGV: arguments as JSON. Writes what became of a claimed delivery. Answers committed, already_mine or lost.
local args = cjson.decode(ARGV[1])
local id = args.id
local key = delivery_key(id)
local delivery = call('HMGET', key, 'claim', 'settled', 'owner', 'target', 'endpoint_id', 'created_at')
if delivery[2] == args.token then return 'already_mine' end
if delivery[1] ~= args.token then return 'lost' end
local owner, target = delivery[3], delivery[4]

call('HDEL', key, 'claim', 'reason', 'next_attempt_at')
call('HSET', key, 'settled', args.token, 'attempts', args.attempts, 'num_attempts', args.num_attempts)
if args.reason then call('HSET', key, 'reason', args.reason) end
become(id, owner, args.state, delivery[6])
call('ZREM', flying_key(target), id)
if args.state == 'pending' then
  local due_at = stamp(now + args.delay_seconds)
  call('HSET', key, 'next_attempt_at', due_at)
  call('ZADD', due_key(target), due_at, id)
else
  call('ZREM', due_key(target), id)
end
if args.tells_of_target then note_reply(target, args.state == 'delivered') end
if args.disables and call('EXISTS', endpoint_key(delivery[5])) == 1 then
  call('HSET', endpoint_key(delivery[5]), 'status', 'disabled', 'disabled_reason', args.reason, 'updated_at', stamp(now))
end
look_again(target)
return 'committed'
