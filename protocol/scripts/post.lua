-- Puts an event into the inbox. ARGV: event, most inbox entries. Answers `done`, or `inbox_full` and how many there are.
local waiting = redis.call('XLEN', base .. 'inbox')
if waiting >= tonumber(ARGV[2]) then return { 'inbox_full', waiting } end
push(now_ms(), 'event', { 'body', ARGV[1] })
return { 'done' }
