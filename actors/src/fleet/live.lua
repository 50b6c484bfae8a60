-- What each replica shows of itself. KEYS[1] a hash: replica -> time view.
-- ARGV[1] the replica, [2] its view or empty to read only, [3] how old a view may be, in ms.
-- Returns the views of the others.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
  redis.call('PEXPIRE', KEYS[1], 60000)
end
local all = redis.call('HGETALL', KEYS[1])
local views = {}
for i = 1, #all, 2 do
  local at, view = all[i + 1]:match('^(%d+) (.*)$')
  if now - tonumber(at) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] and ARGV[2] == '' then
    views[#views + 1] = view
  end
end
return views
