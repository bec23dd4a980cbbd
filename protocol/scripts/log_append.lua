-- Appends to a log with many writers. KEYS[1]: such as `gm:{logs}:`. ARGV: log, position, token, body.
-- Answers `done`, or `conflict` and the position of the last entry.
local log, position, token = base .. 'log:' .. ARGV[1], ARGV[2], ARGV[3]
local same = redis.call('XRANGE', log, position .. '-0', position .. '-0')
if same[1] and same[1][2][2] == token then return { 'done' } end
local head = 0
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
if last[1] then head = tonumber(string.match(last[1][1], '^(%d+)')) end
if tonumber(position) ~= head + 1 then return { 'conflict', int(head) } end
redis.call('XADD', log, position .. '-0', 'a', token, 't', int(now_ms()), 'b', ARGV[4])
redis.call('ZADD', base .. 'names', 0, ARGV[1])
return { 'done' }
