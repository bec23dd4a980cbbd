-- Gives a shard up. ARGV: token. Answers `gone`, or `kept` when it is another's or nobody's.
if not owns(ARGV[1]) then return { 'kept' } end
redis.call('DEL', base .. 'owner')
return { 'gone' }
