-- Ends the given attempts, claimed or not. ARGV: token, then the attempts. Answers `done` or `deposed`.
local now = now_ms()
if not owns(ARGV[1]) then return { 'deposed' } end

-- Closes an attempt for good. Returns who had it and until when, if somebody did until this call.
local function revoke(attempt)
  local run = run_of(attempt.text)
  if not run or run.ended then return '' end
  local record, records, place = find_record(run, attempt)
  local holder = ''
  if record and record.number <= attempt.number and record.state == 'o' then
    holder = record.worker .. ' ' .. record.until_
    forget_due(run, attempt.index, record)
    close(record, record.worker, now, 'r')
    write_records(run, attempt.index, records)
  end
  if not record or record.number < attempt.number then
    replace(run, attempt, record, records, place, closed_record(attempt, '', now, 'r'))
  end
  if records[place].state ~= 'o' and is_settled(run, attempt.index) then
    table.remove(records, place)
    write_records(run, attempt.index, records)
  end
  return holder
end

prefetch(ARGV, 2, 1)
local ended = {}
for at = 2, #ARGV do
  ended[#ended + 1], ended[#ended + 2] = ARGV[at], revoke(split_attempt(ARGV[at]))
end
flush()
if #ended > 0 then push(now, 'revoked', ended) end
return { 'done' }
