-- Slots of the fleet: who holds which, and who gets the free ones. One key, one call of one replica.
-- obleth_core::fleet::broker is the same in Rust; a test holds the two against each other.
-- KEYS[1] the state. ARGV[1] the question (JSON), ARGV[2] what the names of channels begin with, ARGV[3] the time in
-- Unix milliseconds for tests, else empty.
local RIVALS, GRANTS, STILL, KEPT = 16, 4096, 1000, 3600000
local ask = cjson.decode(ARGV[1])
local now = tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A server that was started again may know less than replicas were told.
local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local stored = redis.call('GET', KEYS[1])
local state = stored and cmsgpack.unpack(stored)
if not state or state.server ~= server then
  state = { server = server, generation = ask.new_generation, base = ask.new_base, opens = now + ask.quarantine, last = 0, members = {} }
end
local members = state.members

-- A clock that was set back: what was promised until then comes as much earlier.
if now < state.last then
  local back = state.last - now
  state.opens = state.opens - back
  for _, member in pairs(members) do member.till = member.till - back end
end
-- A store that stood still: no time has passed for its members, who could not be heard.
local still = now - state.last
if still > STILL then
  for _, member in pairs(members) do member.till = member.till + still end
end
state.last = now
for name, member in pairs(members) do
  if member.till <= now then members[name] = nil end
end

local function held(member, pool)
  local found = member.accounts[pool]
  return found and found.got - found.back or 0
end

-- A new account begins where the highest of those that were closed ended, so that no total falls.
local function give(member, pool, count)
  local found = member.accounts[pool]
  if not found then
    found = { got = member.floor, back = member.floor }
    member.accounts[pool] = found
  end
  found.got = found.got + count
end

-- Of each pool its size, the smallest that a member knows, and what all hold. Added up once everything was said.
local sizes, taken = {}, {}
local function add_up()
  for _, member in pairs(members) do
    for pool, size in pairs(member.caps) do sizes[pool] = math.min(sizes[pool] or size, size) end
    for pool, found in pairs(member.accounts) do taken[pool] = (taken[pool] or 0) + found.got - found.back end
  end
end

local function hand(member, pool, count)
  give(member, pool, count)
  taken[pool] = (taken[pool] or 0) + count
end

local function free(pool)
  local size = sizes[pool]
  if not size then return math.huge end
  return math.max(size - (taken[pool] or 0), 0)
end

-- What of these nothing is free of: what somebody must give back.
local function exhausted(need)
  local found = {}
  for _, pool in ipairs(need) do
    if free(pool) <= 0 then found[#found + 1] = pool end
  end
  return found
end

local function advance(want, by)
  want.group_tag = want.group_tag + want.group_step * by
  want.tag = want.tag + want.step * by
  want.count = want.count - by
end

-- The next one first: the group with the smallest tag, in it the tenant with the smallest tag, of it what has waited
-- longest. Members know tags with different delays; the largest is the newest.
local function in_order()
  local groups, tenants, all = {}, {}, {}
  for _, member in pairs(members) do
    for _, want in ipairs(member.wants) do
      groups[want.group] = math.max(groups[want.group] or want.group_tag, want.group_tag)
      tenants[want.tenant] = math.max(tenants[want.tenant] or want.tag, want.tag)
    end
  end
  for name, member in pairs(members) do
    for place, want in ipairs(member.wants) do
      local tag = tenants[want.tenant]
      all[#all + 1] = { groups[want.group], want.group, tag, want.tenant, want.since, name, place, want }
    end
  end
  table.sort(all, function(a, b)
    for i = 1, 7 do
      if a[i] ~= b[i] then return a[i] < b[i] end
    end
    return false
  end)
  return all
end

local ring = {}
local joined = false

local function admit()
  local member = members[ask.replica]
  joined = ask.generation ~= state.generation or not member or member.membership ~= ask.membership
  -- One that comes late.
  if not joined and ask.number <= member.number then return end
  if joined then
    member = { accounts = {}, floor = 0, membership = ask.new_generation, pressed = false }
    members[ask.replica] = member
  end
  member.number = ask.number
  member.till = now + ask.lease
  member.rung = false
  member.caps = {}
  -- Size (or null), given back, heard of as given, what may be used, what is used.
  for pool, said in pairs(ask.pools) do
    if said[1] ~= cjson.null then member.caps[pool] = said[1] end
    -- While nothing is given out, what it may use is its own. Later the rest may be another's. What runs is counted,
    -- whoever let it.
    local own = joined and now < state.opens and said[4] or said[5]
    local found = member.accounts[pool]
    if found then found.back = math.min(math.max(found.back, said[2]), found.got) end
    local more = own - held(member, pool)
    if more > 0 then give(member, pool, more) end
  end
  member.wants = {}
  for _, want in ipairs(ask.wants) do
    if #want.need > 0 then
      -- What it was given and has not heard of will serve the first of those who wait.
      local unseen = 0
      for _, pool in ipairs(joined and {} or want.need) do
        local found, said = member.accounts[pool], ask.pools[pool]
        if found then unseen = math.max(unseen, found.got - math.max(found.back, said and said[3] or 0)) end
      end
      want.since = now - want.age
      advance(want, math.min(unseen, want.count))
      if want.count > 0 then member.wants[#member.wants + 1] = want end
    end
  end
end

local function fits(want)
  for _, pool in ipairs(want.need) do
    if free(pool) <= 0 then return false end
  end
  return true
end

local function hand_out()
  if now < state.opens then return end
  for _ = 1, GRANTS do
    local next_one
    for _, entry in ipairs(in_order()) do
      if fits(entry[8]) then
        next_one = entry
        break
      end
    end
    if not next_one then return end
    local name, place, want = next_one[6], next_one[7], next_one[8]
    local member = members[name]
    for _, pool in ipairs(want.need) do hand(member, pool, 1) end
    advance(want, 1)
    if want.count == 0 then table.remove(member.wants, place) end
    ring[name] = true
  end
end

-- What a member may keep of a pool while nobody waits for it: the same as all who name it, those with the smaller names
-- one more.
local function part(own, pool)
  if not members[own] or not members[own].caps[pool] then return 0 end
  local count, place = 0, 0
  for name, member in pairs(members) do
    if member.caps[pool] then
      count = count + 1
      if name < own then place = place + 1 end
    end
  end
  local size = sizes[pool]
  return math.floor(size / count) + (place < size % count and 1 or 0)
end

-- What it must give back, because more is held than there is: each all that is too much, so that nobody lets another
-- one in before it is gone.
local function owe(member, pool)
  local size = sizes[pool]
  if not size then return 0 end
  return math.min(held(member, pool), math.max((taken[pool] or 0) - size, 0))
end

-- While nobody waits for it each member may have its part at hand.
local function top_up()
  if now < state.opens then return end
  local wanted = {}
  for _, member in pairs(members) do
    for _, want in ipairs(member.wants) do
      for _, pool in ipairs(want.need) do wanted[pool] = true end
    end
  end
  local member = members[ask.replica]
  for pool, said in pairs(ask.pools) do
    if said[1] ~= cjson.null and not wanted[pool] then
      local more = math.min(part(ask.replica, pool) - held(member, pool), free(pool))
      if more > 0 then hand(member, pool, more) end
    end
  end
end

-- Who holds something that others wait for, and does not know it, is told to ask.
local function press()
  -- Of each pool that is wanted who wants it, and whether several do.
  local wanted = {}
  for name, member in pairs(members) do
    for _, want in ipairs(member.wants) do
      for _, pool in ipairs(exhausted(want.need)) do
        if not wanted[pool] then wanted[pool] = name elseif wanted[pool] ~= name then wanted[pool] = '' end
      end
    end
  end
  for name, member in pairs(members) do
    if not member.pressed then
      for pool, by in pairs(wanted) do
        if by ~= name and held(member, pool) > 0 then ring[name] = true end
      end
    end
  end
end

if ask.leaving then
  members[ask.replica] = nil
  add_up()
  hand_out()
else
  admit()
  add_up()
  hand_out()
  top_up()
  press()
end

local rivals = {}
for _, entry in ipairs(in_order()) do
  local want = entry[8]
  local need = entry[6] ~= ask.replica and #rivals < RIVALS and exhausted(want.need) or {}
  if #need > 0 then
    -- As text: numbers are written with fourteen digits.
    rivals[#rivals + 1] = {
      need = need,
      group = want.group,
      tenant = want.tenant,
      age = math.max(now - want.since, 0),
      group_tag = string.format('%.0f', entry[1]),
      tag = string.format('%.0f', entry[3]),
      count = want.count,
    }
  end
end

local rung = {}
for name in pairs(ring) do
  local member = members[name]
  if name ~= ask.replica and member and not member.rung then
    member.rung = true
    rung[#rung + 1] = name
    redis.call('PUBLISH', ARGV[2] .. name, '')
  end
end
table.sort(rung)

local holdings, alive = {}, 0
local own = members[ask.replica]
if own then
  own.pressed = #rivals > 0
  for pool, found in pairs(own.accounts) do
    if found.got > found.back then
      holdings[pool] = { found.got, found.back, part(ask.replica, pool), owe(own, pool) }
    else
      -- Of what it holds nothing of nothing is kept.
      own.floor = math.max(own.floor, found.got)
      own.accounts[pool] = nil
    end
  end
end
for _ in pairs(members) do alive = alive + 1 end

redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', KEPT)
local answer = {
  generation = state.generation,
  joined = joined,
  closed_for = math.max(state.opens - now, 0),
  base = state.base,
  members = alive,
  time = now,
}
if own then answer.membership = own.membership end
-- An empty table would be written as an object.
if next(holdings) then answer.pools = holdings end
if #rivals > 0 then answer.rivals = rivals end
if #rung > 0 then answer.ring = rung end
return cjson.encode(answer)
