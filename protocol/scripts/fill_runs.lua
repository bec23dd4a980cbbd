-- Puts some of the runs that an earlier version made into the lists by namespace, pipeline and status, from the newest on.
-- Where it stands is in `runs:filled`: a run, or `all`.
-- ARGV: most runs to look at.
local most = tonumber(ARGV[1])
local place = redis.call('GET', base .. 'runs:filled')
if place == 'all' then return end
local ids = redis.call('ZREVRANGEBYLEX', base .. 'runs', place and '(' .. place or '+', '-', 'LIMIT', 0, most)
for _, id in ipairs(ids) do
  local record = redis.call('HMGET', base .. 'r:' .. id, 'namespace', 'pipeline', 'status', 'ended')
  if record[1] then
    for _, list in ipairs({ namespace_list(record[1]), pipeline_list(record[2]), status_list(record[3]) }) do
      redis.call('ZADD', list, 0, id)
    end
    if record[4] then
      redis.call('ZREM', base .. 'ended', id)
      redis.call('ZADD', base .. 'ended', record[4], ended_member(id, record[1], record[2]))
    end
  end
end
redis.call('SET', base .. 'runs:filled', #ids < most and 'all' or ids[#ids])
