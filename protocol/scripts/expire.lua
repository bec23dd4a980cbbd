-- Ends leases whose time has come. ARGV: token, how many at the most. Answers `ended` and how many, or `deposed`.
local limit = tonumber(ARGV[2])
local now = now_ms()
if not owns(ARGV[1]) then return { 'deposed' } end

local function expire(attempt)
  local run = run_of(attempt.text)
  if not run then return nil end
  local record, records, place = find_record(run, attempt)
  if not record or record.number ~= attempt.number or record.state ~= 'o' then return nil end
  local worker = record.worker
  local timed_out = record.deadline ~= '' and tonumber(record.deadline) <= now
  close(record, worker, now, 'x')
  if is_settled(run, attempt.index) then table.remove(records, place) end
  write_records(run, attempt.index, records)
  return worker .. (timed_out and ' timed_out' or ' lost')
end

local ended, count = {}, 0
while count < limit do
  local over = redis.call('ZRANGEBYSCORE', base .. 'due', '-inf', int(now), 'LIMIT', 0, limit - count)
  if #over == 0 then break end
  in_parts('ZREM', base .. 'due', over)
  prefetch(over, 1, 1)
  for _, text in ipairs(over) do
    local how = expire(split_attempt(text))
    if how then
      ended[#ended + 1], ended[#ended + 2] = text, how
      count = count + 1
    end
  end
end
flush()
if count > 0 then push(now, 'expired', ended) end
return { 'ended', count }
