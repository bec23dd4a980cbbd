-- What is known of attempts. ARGV: the attempts. Answers for each `unclaimed`, `held <worker> <until>` or `closed <since>`.
local function view(attempt)
  local run = run_of(attempt.text)
  if not run or run.ended then return 'closed 0' end
  local record = find_record(run, attempt)
  if record and record.number >= attempt.number then
    if record.state == 'o' and record.number == attempt.number then
      return 'held ' .. record.worker .. ' ' .. record.until_
    end
    return 'closed ' .. record.since
  end
  if is_settled(run, attempt.index) then return 'closed ' .. run.settled_at end
  return 'unclaimed'
end

prefetch(ARGV, 1, 1)
local views = {}
for at = 1, #ARGV do views[at] = view(split_attempt(ARGV[at])) end
return views
