-- Runs of a shard that have ended, in the order in which they did: by time, then by id.
-- ARGV: time and run after which, most runs, milliseconds for which ended runs are kept.
-- Answers the time, then runs and their ends in turn.
local now = now_ms()
local list, after, run, most = base .. 'ended', tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
-- The keys of runs that ended earlier have expired.
local oldest = now - tonumber(ARGV[4])
if after < oldest then after, run = oldest, '' end
-- The first place after it. Within one millisecond members stand by their texts, which begin with the run.
local low = redis.call('ZCOUNT', list, '-inf', '(' .. int(after))
local high = low + redis.call('ZCOUNT', list, int(after), int(after))
while low < high do
  local middle = math.floor((low + high) / 2)
  local member = redis.call('ZRANGE', list, middle, middle)[1]
  if string.sub(member, 1, 36) > run then high = middle else low = middle + 1 end
end
local answer = { int(now) }
local found = redis.call('ZRANGE', list, low, low + most - 1, 'WITHSCORES')
for at = 1, #found, 2 do
  answer[#answer + 1], answer[#answer + 2] = string.sub(found[at], 1, 36), found[at + 1]
end
return answer
