-- Forgets a worker or a scheduler. KEYS[1]: `gm:{workers}:` or `gm:{schedulers}:`. ARGV: its id.
redis.call('ZREM', base .. 'seen', ARGV[1])
redis.call('HDEL', base .. 'view', ARGV[1])
return { 'done' }
