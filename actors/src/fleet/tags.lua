-- Tags and clocks of the fleet: what one replica tells, and what the others have told since it asked last.
-- KEYS[1] what is told (hash: subject|replica -> time value), KEYS[2] its order (sorted set), KEYS[3] who tells (hash:
-- replica -> time and number of its last question).
-- ARGV[1] the replica, [2] the generation it knows, [3] the last number it has seen, [4] how many to return at most, [5]
-- the number of its question, then subject and value by turns. Of a question that comes late nothing is taken.
-- Returns generation, the last number looked at, whether there is more, then subject, replica, value by turns.
--
-- Totals are only compared with others that began with them. So whoever joins, or was away for longer than things are
-- kept, begins a new generation, in which all begin with the tags they have. Generations are milliseconds, so that they
-- rise although all is lost. What is told in another one is not taken.
local KEPT = 3600000
local OLD = 900000
local AWAY = 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- A server that was started again may know less than replicas were told.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local generation = redis.call('HGET', KEYS[1], '#generation')
local moved = redis.call('HGET', KEYS[1], '#server') ~= server
local asked = redis.call('HGET', KEYS[3], ARGV[1]) or ''
local last, number = asked:match('^(%d+) (%d+)$')
local late = number and tonumber(ARGV[5]) <= tonumber(number)
if not generation or moved or not last or now - tonumber(last) > AWAY then
  generation = string.format('%.0f', math.max(now, tonumber(generation or '0') + 1))
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], '#generation', generation, '#server', server)
  local members = redis.call('HGETALL', KEYS[3])
  for i = 1, #members, 2 do
    local at = members[i + 1]:match('^%d+')
    if not at or now - tonumber(at) > AWAY then redis.call('HDEL', KEYS[3], members[i]) end
  end
end
if not late then redis.call('HSET', KEYS[3], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[5]) end
local known = generation == ARGV[2] and not late
local since = known and tonumber(ARGV[3]) or 0

for i = 6, known and #ARGV or 0, 2 do
  local number = redis.call('HINCRBY', KEYS[1], '#number', 1)
  local field = ARGV[i] .. '|' .. ARGV[1]
  redis.call('HSET', KEYS[1], field, string.format('%.0f', now) .. ' ' .. ARGV[i + 1])
  redis.call('ZADD', KEYS[2], number, field)
end

-- A few of the oldest go with each call.
for _, field in ipairs(redis.call('ZRANGE', KEYS[2], 0, 15)) do
  local told = redis.call('HGET', KEYS[1], field)
  if not told or now - tonumber(told:match('^%d+')) > OLD then
    redis.call('ZREM', KEYS[2], field)
    redis.call('HDEL', KEYS[1], field)
  end
end

local most = tonumber(ARGV[4])
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', since), '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local answer = { generation, string.format('%.0f', since), #found / 2 >= most and '1' or '0' }
for i = 1, #found, 2 do
  answer[2] = found[i + 1]
  local subject, replica = found[i]:match('^(.*)|(.*)$')
  if replica ~= ARGV[1] then
    local told = redis.call('HGET', KEYS[1], found[i])
    if told then
      answer[#answer + 1] = subject
      answer[#answer + 1] = replica
      answer[#answer + 1] = told:match('^%d+ (.*)$')
    end
  end
end
redis.call('PEXPIRE', KEYS[1], KEPT)
redis.call('PEXPIRE', KEYS[2], KEPT)
redis.call('PEXPIRE', KEYS[3], KEPT)
return answer
