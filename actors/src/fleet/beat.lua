-- A replica lives, or ends. KEYS[1]: the run (hash: id, began, open, server). KEYS[2]: members (hash: replica to
-- "milliseconds asserted-run"). KEYS[3]: replicas that were there when the last run was lost (set).
-- ARGV: replica, name for a new run, the run that it has told everything, "live" or "leave", then whom it knew.
-- Answers {run, open (0/1), how many live, all who have not ended...}.

if ARGV[4] == 'leave' then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('SREM', KEYS[3], ARGV[1])
  return {'', 0, 0}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- A server that was started again, or another that took over, may know less than replicas were told.
-- Where scripts may not ask that, only an empty store is noticed.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local run = redis.call('HMGET', KEYS[1], 'id', 'began', 'open', 'server')
if not run[1] or run[4] ~= server then
  redis.call('DEL', KEYS[1], KEYS[3])
  redis.call('HSET', KEYS[1], 'id', ARGV[2], 'began', string.format('%.0f', now), 'open', '0', 'server', server)
  -- Those who had not ended may hold more than is known here.
  local before = redis.call('HKEYS', KEYS[2])
  if #before > 0 then redis.call('SADD', KEYS[3], unpack(before)) end
  run = {ARGV[2], now, '0', server}
end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[3])
local told, names, live, all = {}, {}, 0, true
local members = redis.call('HGETALL', KEYS[2])
for i = 1, #members, 2 do
  local seen, asserted = string.match(members[i + 1], '^(%d+) (.*)$')
  if now - tonumber(seen) >= 86400000 then
    redis.call('HDEL', KEYS[2], members[i])
  else
    told[members[i]] = asserted == run[1]
    names[#names + 1] = members[i]
    if now - tonumber(seen) < 3000 then
      live = live + 1
      all = all and told[members[i]]
    end
  end
end
if run[3] ~= '1' then
  if #ARGV > 4 then redis.call('SADD', KEYS[3], unpack(ARGV, 5)) end
  local age = now - tonumber(run[2])
  local back = true
  for _, name in ipairs(redis.call('SMEMBERS', KEYS[3])) do back = back and told[name] end
  if age >= 3000 and all and (back or age >= 300000) then
    redis.call('HSET', KEYS[1], 'open', '1')
    run[3] = '1'
  end
end
return {run[1], tonumber(run[3]), live, unpack(names)}
