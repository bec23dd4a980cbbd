-- The fenced append: writes what a turn decided and removes what it came from, or nothing at all.
-- ARGV: token, number of the append, milliseconds for which ended runs are kept, most tasks of a run, how many inbox
-- entries were consumed, their ids, then for each entry: run, position, body, status (empty for no change), indexes of
-- settled tasks with spaces between them.
-- Answers `done`; `deposed`; `index`, `absent` or `moved` and the place of the entry that doesn't fit, with the index or
-- the head that was found.
local token, append, keep_ms, tasks_max, consumed = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local now = now_ms()
if not owns(token) then return { 'deposed' } end

local first = 6 + consumed
local last = {}
for at = first, #ARGV, 5 do
  local position = tonumber(ARGV[at + 1])
  last[ARGV[at]] = math.max(last[ARGV[at]] or 0, position)
end

-- All checks come before any write.
local found, write = {}, {}
for at = first, #ARGV, 5 do
  local id, position, place = ARGV[at], tonumber(ARGV[at + 1]), (at - first) / 5
  local settled = {}
  for index in string.gmatch(ARGV[at + 4], '%d+') do
    if tonumber(index) >= tasks_max then return { 'index', place, index } end
    settled[#settled + 1] = tonumber(index)
  end
  local run = found[id]
  if not run then
    local record = redis.call('HMGET', base .. 'r:' .. id, 'head', 'append', 'status')
    if not record[1] then return { 'absent', place } end
    local head = tonumber(record[1])
    run = {
      id = id, head = head, before = record[3], status = record[3], leases = base .. 't:' .. id, bits = base .. 'ok:' .. id,
      cache = {}, changed = {},
      done = last[id] == head and record[2] == append,
    }
    found[id] = run
  end
  -- Entries of a run whose head is theirs already were written by an earlier call of the same append.
  if not run.done then
    if position ~= run.head + 1 then return { 'moved', place, int(run.head) } end
    run.head = position
    write[#write + 1] = { run = run, at = at, settled = settled }
  end
end

local function is_active(status)
  return status == 'open' or status == 'closing'
end

local function end_run(run)
  redis.call('DEL', run.bits)
  local all = redis.call('HKEYS', run.leases)
  for _, index in ipairs(all) do
    local records, changed = read_records(run, index), false
    for _, record in ipairs(records) do
      if record.state == 'o' then
        forget_due(run, index, record)
        close(record, record.worker, now, 'x')
        changed = true
      end
    end
    if changed then write_records(run, index, records) end
  end
end

-- Records of attempts that have ended say nothing more beside the bit; one that is worked on stays, to be closed.
local function settle(run, number)
  redis.call('SETBIT', run.bits, number, 1)
  run.has_settled = true
  local index = string.format('%08x', number)
  local records = read_records(run, index)
  local left = {}
  for _, record in ipairs(records) do
    if record.state == 'o' then left[#left + 1] = record end
  end
  if #left < #records then write_records(run, index, left) end
end

local function place_in_ended(run)
  local names = redis.call('HMGET', base .. 'r:' .. run.id, 'namespace', 'pipeline')
  return ended_member(run.id, names[1], names[2])
end

for _, entry in ipairs(write) do
  local run, at = entry.run, entry.at
  redis.call('XADD', base .. 'j:' .. run.id, int(tonumber(ARGV[at + 1])) .. '-0', 'a', append, 't', int(now), 'b', ARGV[at + 2])
  local status = ARGV[at + 3]
  if status == 'reopened' then
    run.status = 'open'
  elseif status ~= '' then
    run.status = status
    if not is_active(status) then end_run(run) end
  end
  if is_active(run.status) then
    for _, index in ipairs(entry.settled) do settle(run, index) end
  end
  run.written = true
end

flush()
for _, run in pairs(found) do
  if run.written then
    local record = base .. 'r:' .. run.id
    redis.call('HSET', record, 'head', int(run.head), 'append', append, 'status', run.status)
    if run.has_settled then redis.call('HSET', record, 'settled_at', int(now)) end
    if run.status ~= run.before then
      redis.call('ZREM', status_list(run.before), run.id)
      redis.call('ZADD', status_list(run.status), 0, run.id)
    end
    if is_active(run.status) then
      redis.call('ZADD', base .. 'open', int(run.head), run.id)
      if not is_active(run.before) then
        redis.call('HDEL', record, 'ended')
        redis.call('ZREM', base .. 'ended', run.id, place_in_ended(run))
        for _, key in ipairs({ record, base .. 'j:' .. run.id, run.leases, run.bits }) do redis.call('PERSIST', key) end
      end
    elseif run.status ~= run.before then
      redis.call('HSET', record, 'ended', int(now))
      redis.call('ZADD', base .. 'ended', int(now), place_in_ended(run))
      redis.call('ZREM', base .. 'open', run.id)
      for _, key in ipairs({ record, base .. 'j:' .. run.id, run.leases }) do redis.call('PEXPIRE', key, keep_ms) end
    end
  end
end
for at = 6, first - 1 do
  redis.call('XDEL', base .. 'inbox', ARGV[at])
end
return { 'done' }
