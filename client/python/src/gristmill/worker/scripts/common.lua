-- What the scripts share; it stands before each of them. See README.md for keys, arguments and records.
--
-- Numbers are doubles here: times and positions stay far below 2^53, and what may be larger (tokens, numbers of
-- appends, versions) is compared as text. All checks of a script come before its first write, because Redis doesn't
-- undo the writes of a script that fails. Lease records are read in one command and written in one at the end (`prefetch`,
-- `flush`): a command costs more here than all else that is done for an attempt.

local base = KEYS[1]

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local last_number, last_text

-- Redis would print large numbers with an exponent. The same number, which is the time, is asked for again and again.
local function int(number)
  if number ~= last_number then
    last_number, last_text = number, string.format('%.0f', number)
  end
  return last_text
end

-- A command with any number of values: Lua can hand over some 8,000 at a time. An even number keeps pairs together.
local function in_parts(command, key, values)
  for from = 1, #values, 1000 do
    redis.call(command, key, unpack(values, from, math.min(from + 999, #values)))
  end
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
    cache = {},
    settled = {},
    changed = {},
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
  local bit = run.settled[index]
  if bit == nil then
    bit = redis.call('GETBIT', run.bits, tonumber(index, 16)) == 1
    run.settled[index] = bit
  end
  return bit
end

-- The lease records of all tasks with one index: there is more than one only after the store went back.
local function parse_records(text)
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

local function print_records(records)
  local text
  for _, record in ipairs(records) do
    local line = record.tag .. ',' .. record.number .. ',' .. record.state .. ',' .. record.worker .. ',' .. record.since
      .. ',' .. record.until_ .. ',' .. record.deadline .. ',' .. record.past
    text = text and (text .. '\n' .. line) or line
  end
  return text
end

local function read_records(run, index)
  local records = run.cache[index]
  if not records then
    records = parse_records(redis.call('HGET', run.leases, index))
    run.cache[index] = records
  end
  return records
end

-- Reads what is known of attempts, which stand in a list from `first` on, one in `step` places.
local function prefetch(list, first, step)
  local wanted = {}
  for at = first, #list, step do
    local run = run_of(list[at])
    if run then
      local indexes = wanted[run]
      if not indexes then
        indexes = {}
        wanted[run] = indexes
      end
      indexes[#indexes + 1] = string.sub(list[at], 38, 45)
    end
  end
  for run, indexes in pairs(wanted) do
    for from = 1, #indexes, 1000 do
      local to = math.min(from + 999, #indexes)
      local texts = redis.call('HMGET', run.leases, unpack(indexes, from, to))
      local gets = {}
      for at = from, to do
        run.cache[indexes[at]] = run.cache[indexes[at]] or parse_records(texts[at - from + 1])
        gets[#gets + 1], gets[#gets + 2], gets[#gets + 3] = 'GET', 'u1', tonumber(indexes[at], 16)
      end
      local bits = redis.call('BITFIELD_RO', run.bits, unpack(gets))
      for at = from, to do run.settled[indexes[at]] = bits[at - from + 1] == 1 end
    end
  end
end

-- What is to be written in the end: runs with changed records, and when attempts may end (`false` for never).
local touched, due = {}, {}

local function write_records(run, index, records)
  run.cache[index] = records
  run.changed[index] = true
  touched[run] = true
end

local function flush()
  for run in pairs(touched) do
    local set, gone = {}, {}
    for index in pairs(run.changed) do
      local text = print_records(run.cache[index])
      if text then
        set[#set + 1], set[#set + 2] = index, text
      else
        gone[#gone + 1] = index
      end
    end
    in_parts('HSET', run.leases, set)
    in_parts('HDEL', run.leases, gone)
  end
  local add, remove = {}, {}
  for member, until_ in pairs(due) do
    if until_ then
      add[#add + 1], add[#add + 2] = until_, member
    else
      remove[#remove + 1] = member
    end
  end
  in_parts('ZADD', base .. 'due', add)
  in_parts('ZREM', base .. 'due', remove)
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
  due[due_member(run, index, record)] = false
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
  due[attempt.text] = record.until_
end

local function owns(token)
  return redis.call('GET', base .. 'owner') == token
end

-- Puts an event into the inbox. With `*` Redis takes the later of its clock and the last id, which it remembers when
-- all entries are gone: ids go up, whatever the clock does.
local function push(now, kind, fields)
  redis.call('XADD', base .. 'inbox', '*', 'at', int(now), 'kind', kind, unpack(fields))
end

-- The lists beside `runs` in which a run stands: by namespace and by pipeline for as long as it is kept, and by status,
-- where a run that is being cancelled is open. In all of them the scores are 0, so that runs stand by their ids.
local function namespace_list(namespace)
  return base .. 'runs:namespace:' .. namespace
end

local function pipeline_list(pipeline)
  return base .. 'runs:pipeline:' .. pipeline
end

local function status_list(status)
  return base .. 'runs:status:' .. (status == 'closing' and 'open' or status)
end

-- What stands in `ended` for a run. It has the names that say in which lists the run is: its record may be gone first.
local function ended_member(run, namespace, pipeline)
  return run .. ' ' .. #namespace .. ' ' .. namespace .. pipeline
end
