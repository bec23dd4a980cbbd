-- Finds runs of a shard that fit, newest first. It looks at the shortest of the lists that hold them all, and only at so
-- many runs of it.
-- ARGV: the run before which (empty: from the newest), most runs to find, most to look at, status (empty for any),
-- pipeline after a `=` (empty for any), number of namespaces (empty for any), the namespaces, each once.
-- Answers `found`, or `unfilled` where the lists lack runs that an earlier version made (see fill_runs.lua) and it has
-- looked at the list of all runs instead; then how far it has looked (empty: to the end), and the runs.
local before, want, look, status, pipeline = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local choices, namespaces = {}, nil
if status ~= '' then choices[#choices + 1] = { status_list(status) } end
if pipeline ~= '' then
  pipeline = string.sub(pipeline, 2)
  choices[#choices + 1] = { pipeline_list(pipeline) }
else
  pipeline = nil
end
if ARGV[6] ~= '' then
  local lists = {}
  namespaces = {}
  for at = 7, #ARGV do
    namespaces[ARGV[at]] = true
    lists[#lists + 1] = namespace_list(ARGV[at])
  end
  choices[#choices + 1] = lists
end
local lists, shortest, word = { base .. 'runs' }, nil, 'found'
-- Where all that is in the one list fits, none has to be looked at.
local fits = #choices <= 1
if #choices > 0 and redis.call('GET', base .. 'runs:filled') ~= 'all' then
  fits, word = false, 'unfilled'
else
  for _, choice in ipairs(choices) do
    local length = 0
    for _, list in ipairs(choice) do length = length + redis.call('ZCARD', list) end
    if not shortest or length < shortest then lists, shortest = choice, length end
  end
end
if fits then look = want end

local function is_newer(a, b)
  return a > b
end

local ids = {}
for _, list in ipairs(lists) do
  -- With enough of them, only what is newer than the oldest counts.
  local floor = #ids == look and '(' .. ids[look] or '-'
  local start = before == '' and '+' or '(' .. before
  for _, id in ipairs(redis.call('ZREVRANGEBYLEX', list, start, floor, 'LIMIT', 0, look)) do ids[#ids + 1] = id end
  if #lists > 1 then
    table.sort(ids, is_newer)
    for at = #ids, look + 1, -1 do ids[at] = nil end
  end
end
local place = #ids == look and ids[look] or ''
if fits then return { word, place, ids } end

local found = {}
for _, id in ipairs(ids) do
  local record = redis.call('HMGET', base .. 'r:' .. id, 'status', 'pipeline', 'namespace')
  if record[1] and (status == '' or status_list(record[1]) == status_list(status))
    and (not pipeline or record[2] == pipeline) and (not namespaces or namespaces[record[3]])
  then
    found[#found + 1] = id
    if #found == want then return { word, id, found } end
  end
end
return { word, place, found }
