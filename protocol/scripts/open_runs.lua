-- The open runs of a shard, smallest journal first. Answers run, pipeline, namespace, created and head of each.
local found = {}
for _, run in ipairs(redis.call('ZRANGE', base .. 'open', 0, -1)) do
  local record = redis.call('HMGET', base .. 'r:' .. run, 'pipeline', 'namespace', 'created', 'head')
  if record[4] then found[#found + 1] = { run, record[1], record[2], record[3], record[4] } end
end
return found
