-- Makes held leases of one shard last longer. ARGV: worker, milliseconds of a lease, then for each attempt: attempt,
-- milliseconds left to its hard deadline (empty for none). Answers `held` or `stop` for each.
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
local now = now_ms()

local function renew(attempt, left_ms)
  local run = run_of(attempt.text)
  if not run or run.ended or is_settled(run, attempt.index) then return 'stop' end
  local record, records, place = find_record(run, attempt)
  if record and record.number > attempt.number then return 'stop' end
  if record and record.number == attempt.number then
    if record.state ~= 'o' or record.worker ~= worker then return 'stop' end
    if record.deadline == '' or tonumber(record.deadline) > now then
      record.until_ = int(lease_end(now, lease_ms, record.deadline))
      write_records(run, attempt.index, records)
      due[attempt.text] = record.until_
    end
    return 'held'
  end
  -- The store went back to before the claim: running work is put in again.
  begin(run, attempt, record, records, place, open_record(attempt, worker, now, lease_ms, left_ms))
  return 'held'
end

prefetch(ARGV, 3, 2)
local answers = {}
for at = 3, #ARGV, 2 do
  answers[#answers + 1] = renew(split_attempt(ARGV[at]), ARGV[at + 1])
end
flush()
return answers
