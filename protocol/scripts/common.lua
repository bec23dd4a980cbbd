-- What the scripts share; it stands before each of them. See README.md for keys, arguments and records.
--
-- Numbers are doubles here: times and positions stay far below 2^53, and what may be larger (tokens, numbers of
-- appends, versions) is compared as text. All checks of a script come before its first write, because Redis doesn't
-- undo the writes of a script that fails.

local base = KEYS[1]

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Redis would print large numbers with an exponent.
local function int(number)
  return string.format('%.0f', number)
end

-- A run as the scripts need it; nothing where it isn't known.
local function load_run(run)
  local found = redis.call('HMGET', base .. 'r:' .. run, 'status', 'settled_at')
  if not found[1] then return nil end
  return {
    id = run,
    status = found[1],
    ended = found[1] ~= 'open' and found[1] ~= 'closing',
    settled_at = found[2] or '0',
    leases = base .. 't:' .. run,
    bits = base .. 'ok:' .. run,
  }
end

local runs = {}

local function run_of(attempt)
  local id = string.sub(attempt, 1, 36)
  local run = runs[id]
  if run == nil then
    run = load_run(id) or false
    runs[id] = run
  end
  return run
end

local function split_attempt(text)
  return { text = text, index = string.sub(text, 38, 45), tag = string.sub(text, 47, 54), number = string.sub(text, 56, 59) }
end

local function is_settled(run, index)
  return redis.call('GETBIT', run.bits, tonumber(index, 16)) == 1
end

-- The lease records of all tasks with one index: there is more than one only after the store went back.
local function read_records(run, index)
  local text = redis.call('HGET', run.leases, index)
  local records = {}
  if text then
    for tag, number, state, worker, since, until_, deadline, past in
      string.gmatch(text, '(%x+),(%x+),(%a),([^,]*),(%d*),(%d*),(%d*),([^\n]*)')
    do
      records[#records + 1] = {
        tag = tag, number = number, state = state, worker = worker, since = since, until_ = until_,
        deadline = deadline, past = past,
      }
    end
  end
  return records
end

local function write_records(run, index, records)
  if #records == 0 then
    redis.call('HDEL', run.leases, index)
    return
  end
  local lines = {}
  for place, record in ipairs(records) do
    lines[place] = table.concat({
      record.tag, record.number, record.state, record.worker, record.since, record.until_, record.deadline, record.past,
    }, ',')
  end
  redis.call('HSET', run.leases, index, table.concat(lines, '\n'))
end

-- A task's record, the list it stands in and its place there.
local function find_record(run, attempt)
  local records = read_records(run, attempt.index)
  for place, record in ipairs(records) do
    if record.tag == attempt.tag then return record, records, place end
  end
  return nil, records, #records + 1
end

local function due_member(run, index, record)
  return run.id .. ':' .. index .. ':' .. record.tag .. ':' .. record.number
end

local function forget_due(run, index, record)
  redis.call('ZREM', base .. 'due', due_member(run, index, record))
end

local function close(record, worker, now, state)
  record.state, record.worker, record.since, record.until_, record.deadline = state, worker, int(now), '', ''
end

local function lease_end(now, lease_ms, deadline)
  local last = now + lease_ms
  if deadline ~= '' and tonumber(deadline) < last then return tonumber(deadline) end
  return last
end

local function open_record(attempt, worker, now, lease_ms, timeout_ms)
  local deadline = ''
  if timeout_ms ~= '' then deadline = int(now + tonumber(timeout_ms)) end
  return {
    tag = attempt.tag, number = attempt.number, state = 'o', worker = worker, since = int(now),
    until_ = int(lease_end(now, lease_ms, deadline)), deadline = deadline, past = '',
  }
end

local function closed_record(attempt, worker, now, state)
  return {
    tag = attempt.tag, number = attempt.number, state = state, worker = worker, since = int(now), until_ = '',
    deadline = '', past = '',
  }
end

local function add_past(record, number, worker, ending)
  local entry = number .. ':' .. worker .. ':' .. ending
  record.past = record.past == '' and entry or (record.past .. ';' .. entry)
end

-- Puts a record in place of that of a lower attempt, which hands on what may still be said of it.
local function replace(run, attempt, lower, records, place, record)
  if lower then
    if lower.state == 'o' then forget_due(run, attempt.index, lower) end
    record.past = lower.past
    if lower.worker ~= '' and lower.state == 's' then add_past(record, lower.number, lower.worker, 'p') end
    if lower.worker ~= '' and lower.state == 'r' then add_past(record, lower.number, lower.worker, 'a') end
  end
  records[place] = record
  write_records(run, attempt.index, records)
end

-- Writes an open record, and when it may end.
local function begin(run, attempt, lower, records, place, record)
  replace(run, attempt, lower, records, place, record)
  redis.call('ZADD', base .. 'due', record.until_, attempt.text)
end

local function owns(token)
  return redis.call('GET', base .. 'owner') == token
end

-- Puts an event into the inbox. With `*` Redis takes the later of its clock and the last id, which it remembers when
-- all entries are gone: ids go up, whatever the clock does.
local function push(now, kind, fields)
  redis.call('XADD', base .. 'inbox', '*', 'at', int(now), 'kind', kind, unpack(fields))
end
