-- Takes or keeps the right to write to a shard. ARGV: token, milliseconds.
-- Answers `new`, `kept`, or `held` and the token of whoever has it.
local key, token = base .. 'owner', ARGV[1]
local held = redis.call('GET', key)
if held and held ~= token then return { 'held', held } end
redis.call('SET', key, token, 'PX', ARGV[2])
return { held and 'kept' or 'new' }
