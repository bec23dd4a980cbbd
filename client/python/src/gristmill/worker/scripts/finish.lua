-- Ends leases with reports; what is accepted is one inbox entry. ARGV: worker, then for each report: attempt, what it is
-- (`success`, `stopped` or `other`), body. Answers `recorded`, `stale`, `settled` or `over` for each.
local worker = ARGV[1]
local now = now_ms()

-- A report that isn't the open lease's own: a success is taken once, and a stop that is waited for once.
local function late(run, attempt, record, records, kind)
  if kind == 'other' then return 'stale' end
  local key = attempt.number .. ':' .. worker .. ':'
  for number, by, ending in string.gmatch(record.past, '(%x+):([^:;]+):(%a)') do
    if number == attempt.number and by == worker then
      if ending == 'p' then return 'known' end
      local from, to = string.find(record.past, key .. 'a', 1, true)
      record.past = string.sub(record.past, 1, from - 1) .. key .. 'p' .. string.sub(record.past, to + 1)
      write_records(run, attempt.index, records)
      return 'take'
    end
  end
  if kind ~= 'success' then return 'stale' end
  add_past(record, attempt.number, worker, 'p')
  write_records(run, attempt.index, records)
  return 'take'
end

local function finish(attempt, kind)
  local run = run_of(attempt.text)
  if not run or run.ended then return 'over' end
  local record, records, place = find_record(run, attempt)
  if is_settled(run, attempt.index) then
    if record and record.number == attempt.number and record.state == 'o' and record.worker == worker then
      forget_due(run, attempt.index, record)
      table.remove(records, place)
      write_records(run, attempt.index, records)
    end
    return 'settled'
  end
  local state = kind == 'success' and 's' or 'f'
  if not record or record.number < attempt.number then
    -- The store went back to before the claim: the work was done all the same.
    replace(run, attempt, record, records, place, closed_record(attempt, worker, now, state))
    return 'take'
  end
  if record.number > attempt.number then return late(run, attempt, record, records, kind) end
  if record.state == 'o' and record.worker == worker then
    forget_due(run, attempt.index, record)
    close(record, worker, now, state)
    write_records(run, attempt.index, records)
    return 'take'
  end
  if (record.state == 's' or record.state == 'f') and record.worker == worker then return 'known' end
  local revoked = record.state == 'r' or record.state == 'q'
  if revoked and kind == 'stopped' and (record.worker == '' or record.worker == worker) then
    if record.state == 'q' then return 'known' end
    record.state = 'q'
    write_records(run, attempt.index, records)
    return 'take'
  end
  return late(run, attempt, record, records, kind)
end

prefetch(ARGV, 2, 3)
local answers, accepted = {}, { 'worker', worker }
for at = 2, #ARGV, 3 do
  local verdict = finish(split_attempt(ARGV[at]), ARGV[at + 1])
  if verdict == 'take' then
    accepted[#accepted + 1] = 'report'
    accepted[#accepted + 1] = ARGV[at + 2]
  end
  answers[#answers + 1] = (verdict == 'take' or verdict == 'known') and 'recorded' or verdict
end
flush()
if #accepted > 2 then push(now, 'finished', accepted) end
return answers
