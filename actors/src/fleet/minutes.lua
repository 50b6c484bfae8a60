-- Buckets of a minute, each kept as its debt: what was taken and is not filled up again.
-- KEYS: buckets (hash: debt in tokens, at in microseconds). ARGV for each: limit, due (taken whatever there is;
-- negative: given back), want. Answers for each {got, left, microseconds to wait}. A minute's worth is exact enough in
-- Lua's numbers: a lost call costs more.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local answers = {}
for n = 1, #KEYS do
  local at = (n - 1) * 3
  local limit, due, want = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local known = redis.call('HMGET', KEYS[n], 'debt', 'at')
  local debt = 0
  if known[1] then
    debt = math.max(0, tonumber(known[1]) - math.max(0, now - tonumber(known[2])) * limit / 60000000)
  end
  debt = math.max(0, debt + due)
  -- `least`: of what is wanted, what a request needs; the rest is beforehand.
  local least = math.min(tonumber(ARGV[#KEYS * 3 + n]), limit)
  want = math.min(want, limit)
  local got, wait = 0, 0
  if want > 0 then
    local room = limit - debt
    -- A hair's breadth of rounding must not refuse a whole bucket.
    if room + 0.000001 >= least then
      got = math.max(least, math.min(want, math.floor(room)))
      debt = debt + got
    else
      wait = math.ceil((least - room) * 60000000 / limit)
    end
  end
  redis.call('HSET', KEYS[n], 'debt', string.format('%.6f', debt), 'at', string.format('%.0f', now))
  redis.call('EXPIRE', KEYS[n], 60 + math.ceil(debt * 60 / limit))
  answers[n] = {got, math.max(0, math.floor(limit - debt)), wait}
end
return answers
