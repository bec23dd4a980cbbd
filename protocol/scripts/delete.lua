-- Removes a document. KEYS[1]: such as `gm:{docs}:`. ARGV: key, version that is expected.
-- Answers `done`, or `conflict` and the version that it has.
local document = base .. 'doc:' .. ARGV[1]
local found = redis.call('HGET', document, 'v') or '0'
if found ~= ARGV[2] then return { 'conflict', found } end
redis.call('DEL', document)
redis.call('ZREM', base .. 'keys', ARGV[1])
return { 'done' }
