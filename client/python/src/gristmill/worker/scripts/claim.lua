-- Begins leases. ARGV: worker, milliseconds of a lease, most inbox entries, then for each attempt: attempt, milliseconds
-- to its hard deadline (empty for none).
-- Answers `granted`, `taken`, `stale`, `over` or `settled` for each; `busy` alone when the inbox is full.
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
if redis.call('XLEN', base .. 'inbox') >= tonumber(ARGV[3]) then return { 'busy' } end
local now = now_ms()

local function claim(attempt, timeout_ms)
  local run = run_of(attempt.text)
  if not run then return 'over' end
  if is_settled(run, attempt.index) then return 'settled' end
  if run.status ~= 'open' then return 'over' end
  local record, records, place = find_record(run, attempt)
  if record then
    if record.number > attempt.number then return 'stale' end
    if record.number == attempt.number then
      if record.state ~= 'o' then return 'stale' end
      return record.worker == worker and 'granted' or 'taken'
    end
  end
  begin(run, attempt, record, records, place, open_record(attempt, worker, now, lease_ms, timeout_ms))
  return 'granted'
end

prefetch(ARGV, 4, 2)
local answers = {}
for at = 4, #ARGV, 2 do
  answers[#answers + 1] = claim(split_attempt(ARGV[at]), ARGV[at + 1])
end
flush()
return answers
