-- Forgets a worker. KEYS[1]: such as `gm:{workers}:`. ARGV: worker.
redis.call('ZREM', base .. 'seen', ARGV[1])
redis.call('HDEL', base .. 'view', ARGV[1])
return { 'done' }
