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

local function account(member, pool)
  local found = member.accounts[pool]
  if not found then
    found = { got = 0, back = 0 }
    member.accounts[pool] = found
  end
  return found
end

local function held(member, pool)
  local found = member.accounts[pool]
  return found and found.got - found.back or 0
end

-- The size of a pool: the smallest that a member knows.
local function cap(pool)
  local least
  for _, member in pairs(members) do
    local known = member.caps[pool]
    if known and (not least or known < least) then least = known end
  end
  return least
end

local function free(pool)
  local size = cap(pool)
  if not size then return math.huge end
  for _, member in pairs(members) do size = size - held(member, pool) end
  return size > 0 and size or 0
end

local function advance(want, by)
  want.group_tag = want.group_tag + want.group_step * by
  want.tag = want.tag + want.step * by
  want.count = want.count - by
end

local function in_order()
  local groups, all = {}, {}
  for _, member in pairs(members) do
    for _, want in ipairs(member.wants) do
      local tag = groups[want.group]
      if not tag or want.group_tag > tag then groups[want.group] = want.group_tag end
    end
  end
  for name, member in pairs(members) do
    for place, want in ipairs(member.wants) do
      all[#all + 1] = { groups[want.group], want.group, want.tag, name, place, want }
    end
  end
  table.sort(all, function(a, b)
    for i = 1, 5 do
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
    member = { accounts = {}, membership = ask.new_generation }
    for pool, count in pairs(ask.hold) do
      if count > 0 then member.accounts[pool] = { got = count, back = 0 } end
    end
    members[ask.replica] = member
  end
  member.number = ask.number
  member.till = now + ask.lease
  member.rung = false
  member.caps = ask.caps
  member.pressed = member.pressed or false
  local wants = {}
  for _, want in ipairs(ask.wants) do
    if #want.need > 0 then wants[#wants + 1] = want end
  end
  member.wants = wants
  if joined then return end
  for pool, back in pairs(ask.back) do
    local found = account(member, pool)
    found.back = math.min(math.max(found.back, back), found.got)
  end
  -- What it was given and has not heard of will serve the first of those who wait.
  member.wants = {}
  for _, want in ipairs(wants) do
    local unseen = 0
    for _, pool in ipairs(want.need) do
      local found = member.accounts[pool]
      if found then unseen = math.max(unseen, found.got - (ask.seen[pool] or 0)) end
    end
    advance(want, math.min(unseen, want.count))
    if want.count > 0 then member.wants[#member.wants + 1] = want end
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
      if fits(entry[6]) then
        next_one = entry
        break
      end
    end
    if not next_one then return end
    local name, place, want = next_one[4], next_one[5], next_one[6]
    local member = members[name]
    for _, pool in ipairs(want.need) do
      local found = account(member, pool)
      found.got = found.got + 1
    end
    advance(want, 1)
    if want.count == 0 then table.remove(member.wants, place) end
    ring[name] = true
  end
end

-- While nobody waits each member may have its part of what is spread, to have it at hand.
local function top_up()
  if now < state.opens then return end
  local count = 0
  for _, member in pairs(members) do
    if #member.wants > 0 then return end
    count = count + 1
  end
  local member = members[ask.replica]
  for pool in pairs(ask.caps) do
    if pool:sub(1, 1) ~= 't' then
      local more = math.min(math.floor(cap(pool) / count) - held(member, pool), free(pool))
      if more > 0 then
        local found = account(member, pool)
        found.got = found.got + more
      end
    end
  end
end

-- Who holds something that others wait for, and does not know it, is told to ask.
local function press()
  for name, member in pairs(members) do
    if not member.pressed then
      for other, waiting in pairs(members) do
        if other ~= name then
          for _, want in ipairs(waiting.wants) do
            for _, pool in ipairs(want.need) do
              if held(member, pool) > 0 then ring[name] = true end
            end
          end
        end
      end
    end
  end
end

if ask.leaving then
  members[ask.replica] = nil
  hand_out()
else
  admit()
  hand_out()
  top_up()
  press()
end

local rivals = {}
for _, entry in ipairs(in_order()) do
  local want = entry[6]
  if entry[4] ~= ask.replica and #rivals < RIVALS then
    -- As text: numbers are written with fourteen digits.
    rivals[#rivals + 1] = {
      need = want.need,
      group = want.group,
      -- The newest that is known, as it is ordered by.
      group_tag = string.format('%.0f', entry[1]),
      tag = string.format('%.0f', want.tag),
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

local got, alive = {}, 0
local own = members[ask.replica]
if own then
  own.pressed = #rivals > 0
  for pool, found in pairs(own.accounts) do got[pool] = found.got end
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
if next(got) then answer.got = got end
if #rivals > 0 then answer.rivals = rivals end
if #rung > 0 then answer.ring = rung end
return cjson.encode(answer)
