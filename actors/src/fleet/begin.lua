-- What everybody has written to the ledger of one counter, for the first time in this run.
-- KEYS[1]: the run. KEYS[2]: the counter. ARGV: run, seconds to live, then replica, amount, ... Answers 1 if the run is
-- this one and open.

-- Whole numbers without leading zeros, as text: the longer is the larger.
local function more(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end

local run = redis.call('HMGET', KEYS[1], 'id', 'open')
if run[1] ~= ARGV[1] or run[2] ~= '1' then return 0 end
if redis.call('HGET', KEYS[2], 'begun') == ARGV[1] then return 1 end
for n = 3, #ARGV, 2 do
  local name, amount = 'p:' .. ARGV[n], ARGV[n + 1]
  local known = redis.call('HGET', KEYS[2], name)
  local seq, claim, used, busy = '0', amount, amount, amount
  if known then
    seq, claim, used, busy = string.match(known, '^(%d+) (%d+) (%d+) (%d+)$')
    if more(amount, claim) then claim = amount end
    if more(amount, used) then used = amount end
    if more(amount, busy) then busy = amount end
  end
  redis.call('HSET', KEYS[2], name, seq .. ' ' .. claim .. ' ' .. used .. ' ' .. busy)
end
redis.call('HSET', KEYS[2], 'begun', ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
