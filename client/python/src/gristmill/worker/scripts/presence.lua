-- Says that a worker or a scheduler lives. KEYS[1]: `gm:{workers}:` or `gm:{schedulers}:`. ARGV: its id, what it says, milliseconds after which a
-- silent one is forgotten. Answers the time.
local now = now_ms()
redis.call('ZADD', base .. 'seen', int(now), ARGV[1])
redis.call('HSET', base .. 'view', ARGV[1], ARGV[2])
local silent = redis.call('ZRANGEBYSCORE', base .. 'seen', '-inf', '(' .. int(now - tonumber(ARGV[3])), 'LIMIT', 0, 64)
for _, worker in ipairs(silent) do
  redis.call('ZREM', base .. 'seen', worker)
  redis.call('HDEL', base .. 'view', worker)
end
return int(now)
