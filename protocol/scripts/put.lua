-- Writes a document. KEYS[1]: such as `gm:{docs}:`. ARGV: key, version that is expected (0 for none), body.
-- Answers `done` or `conflict`, and the version that it has.
local document = base .. 'doc:' .. ARGV[1]
local found = redis.call('HGET', document, 'v') or '0'
if found ~= ARGV[2] then return { 'conflict', found } end
-- One counter for all: a document that is made again doesn't get an old version.
local version = int(redis.call('INCR', base .. 'version'))
redis.call('HSET', document, 'v', version, 'b', ARGV[3])
redis.call('ZADD', base .. 'keys', 0, ARGV[1])
return { 'done', version }
