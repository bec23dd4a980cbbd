-- Makes a run: its record, its first journal entry and the inbox event.
-- KEYS[2]: the record of the idempotency key, where there is one.
-- ARGV: run, pipeline, namespace, entry, event, most inbox entries, most active runs, milliseconds for which ended runs
-- and keys are kept, digest of the submission.
-- Answers `new`; `existing` or `taken` and the run; `inbox_full` or `runs_full` and how many there are.
local run, inbox_max, runs_max, keep_ms, submission = ARGV[1], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9]
local now = now_ms()
if KEYS[2] then
  local used = redis.call('GET', KEYS[2])
  if used then
    local by, digest = string.match(used, '^(%S+) (%S+)$')
    return { digest == submission and 'existing' or 'taken', by }
  end
end
local record = base .. 'r:' .. run
if redis.call('EXISTS', record) == 1 then return { 'existing', run } end
local waiting = redis.call('XLEN', base .. 'inbox')
if waiting >= inbox_max then return { 'inbox_full', waiting } end
local active = redis.call('ZCARD', base .. 'open')
if active >= runs_max then return { 'runs_full', active } end

redis.call('HSET', record, 'head', '1', 'append', '0', 'status', 'open', 'pipeline', ARGV[2], 'namespace', ARGV[3],
  'created', int(now))
-- A journal that outlived its record by some milliseconds would refuse position 1.
redis.call('DEL', base .. 'j:' .. run, base .. 't:' .. run, base .. 'ok:' .. run)
redis.call('XADD', base .. 'j:' .. run, '1-0', 'a', '0', 't', int(now), 'b', ARGV[4])
redis.call('ZADD', base .. 'open', 1, run)
-- Where there is no run, no list lacks one.
if redis.call('EXISTS', base .. 'runs') == 0 then redis.call('SET', base .. 'runs:filled', 'all') end
for _, list in ipairs({ base .. 'runs', namespace_list(ARGV[3]), pipeline_list(ARGV[2]), status_list('open') }) do
  redis.call('ZADD', list, 0, run)
end
if KEYS[2] then redis.call('SET', KEYS[2], run .. ' ' .. submission, 'PX', keep_ms) end
push(now, 'event', { 'body', ARGV[5] })

-- The keys of ended runs expire by themselves; their places in the lists go here, a few at a time.
local old = redis.call('ZRANGEBYSCORE', base .. 'ended', '-inf', int(now - tonumber(keep_ms)), 'LIMIT', 0, 16)
for _, member in ipairs(old) do
  local gone, length, names = string.match(member, '^(%S+) (%d+) (.*)$')
  redis.call('ZREM', base .. 'ended', member)
  -- Earlier versions left the run alone, and knew no other list than `runs`.
  redis.call('ZREM', base .. 'runs', gone or member)
  if gone then
    redis.call('ZREM', namespace_list(string.sub(names, 1, tonumber(length))), gone)
    redis.call('ZREM', pipeline_list(string.sub(names, tonumber(length) + 1)), gone)
    for _, status in ipairs({ 'succeeded', 'rejected', 'failed', 'cancelled' }) do
      redis.call('ZREM', status_list(status), gone)
    end
  end
end
return { 'new' }
