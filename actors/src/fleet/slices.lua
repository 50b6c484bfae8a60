-- Claims of replicas on counters of period budgets. The rules are those of token_budget/slices/store.rs, which this is
-- compared with.
--
-- Amounts are whole numbers of up to 24 digits, and Lua's numbers are exact to 2^53 only: here they are pairs
-- {high, low} of base 10^9.
--
-- KEYS[1]: the run (hash: id, began, open). KEYS[2..]: counters (hash: "begun" the run that told the ledger's part,
-- "wanted" milliseconds, "p:<replica>" "seq claim used busy").
-- ARGV: run, replica, members, channel for counters that are wanted; then for each counter
-- seq, exact (0/1), have, least, limit ("" = none), used, busy, seconds to live, name on the channel.
-- Answers for each counter {status, number or claim, claimed, used, busy of the others}.

local BASE = 1000000000
local ZERO = {0, 0}

local function parse(text)
  local digits = #text
  if digits <= 9 then return {0, tonumber(text)} end
  return {tonumber(string.sub(text, 1, digits - 9)), tonumber(string.sub(text, digits - 8))}
end

local function show(n)
  if n[1] == 0 then return string.format('%.0f', n[2]) end
  return string.format('%.0f%09.0f', n[1], n[2])
end

local function plus(a, b)
  local low = a[2] + b[2]
  if low >= BASE then return {a[1] + b[1] + 1, low - BASE} end
  return {a[1] + b[1], low}
end

local function less(a, b)
  if a[1] ~= b[1] then return a[1] < b[1] end
  return a[2] < b[2]
end

local function minus(a, b)
  if less(a, b) then return ZERO end
  local low = a[2] - b[2]
  if low < 0 then return {a[1] - b[1] - 1, low + BASE} end
  return {a[1] - b[1], low}
end

local function over(a, divisor)
  local high = math.floor(a[1] / divisor)
  return {high, math.floor(((a[1] - high * divisor) * BASE + a[2]) / divisor)}
end

local function part(text)
  local seq, claim, used, busy = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  return {seq = tonumber(seq), claim = parse(claim), used = parse(used), busy = parse(busy)}
end

local run, open = ARGV[1], redis.call('HGET', KEYS[1], 'open') == '1'
if redis.call('HGET', KEYS[1], 'id') ~= run then return {} end
local own, members, channel = 'p:' .. ARGV[2], math.max(tonumber(ARGV[3]), 1), ARGV[4]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local answers = {}
for n = 2, #KEYS do
  local key, at = KEYS[n], 5 + (n - 2) * 9
  local seq, exact = tonumber(ARGV[at]), ARGV[at + 1] == '1'
  local have, least, limit = parse(ARGV[at + 2]), parse(ARGV[at + 3]), ARGV[at + 4]
  local known = {seq = 0, claim = ZERO}
  local claimed, used, busy = ZERO, ZERO, ZERO
  local begun, wanted = false, nil
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'begun' then
      begun = value == run
    elseif name == 'wanted' then
      wanted = tonumber(value)
    elseif name == own then
      known = part(value)
    else
      local other = part(value)
      claimed, used, busy = plus(claimed, other.claim), plus(used, other.used), plus(busy, other.busy)
    end
  end
  if seq <= known.seq then
    answers[#answers + 1] = {'stale', string.format('%.0f', known.seq)}
  else
    local claim = have
    if not exact and less(have, known.claim) then claim = known.claim end
    local wants = less(claim, least)
    if wants and open and begun and limit ~= '' then
      local room = minus(parse(limit), claimed)
      if not less(room, least) then
        claim = least
        if not (wanted and now - wanted < 1000) then
          claim = plus(least, over(minus(room, least), 8 * members))
        end
      elseif less(busy, claimed) then
        redis.call('HSET', key, 'wanted', string.format('%.0f', now))
        redis.call('PUBLISH', channel, ARGV[at + 8])
      end
    end
    redis.call('HSET', key, own,
      ARGV[at] .. ' ' .. show(claim) .. ' ' .. ARGV[at + 5] .. ' ' .. ARGV[at + 6])
    redis.call('EXPIRE', key, ARGV[at + 7])
    if wants and not open then
      answers[#answers + 1] = {'closed'}
    elseif open and not begun then
      answers[#answers + 1] = {'blank'}
    else
      answers[#answers + 1] = {'kept', show(claim), show(claimed), show(used), show(busy)}
    end
  end
end
return answers
