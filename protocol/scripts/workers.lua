-- The workers or schedulers that were heard of lately. KEYS[1]: `gm:{workers}:` or `gm:{schedulers}:`. ARGV: milliseconds.
-- Answers worker, when it was heard of and what it said, for each.
local heard = redis.call('ZRANGEBYSCORE', base .. 'seen', int(now_ms() - tonumber(ARGV[1])), '+inf', 'WITHSCORES')
local found = {}
for at = 1, #heard, 2 do
  local view = redis.call('HGET', base .. 'view', heard[at])
  if view then found[#found + 1] = { heard[at], int(tonumber(heard[at + 1])), view } end
end
return found
