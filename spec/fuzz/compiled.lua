-- Functions that change what they are given and what they capture: compiled, what they leave is the
-- same as plain, to the bit, call after call.
--
-- A world has Variables that are captured and handles on some of their grads; a function is a list
-- of acts on these, on its arguments and on what was computed before. The same may stand at several
-- places: an argument, a captured Variable, a grad of one or two. Between calls the world changes.

local mg = require "moongrad"

local CALLS, CAPTURED, MAX_ARGUMENTS, MAX_ACTS = 6, 4, 3, 10

-- ---- acts: m knows what there is; a, b and c are whole numbers ---------------------------------

local function fresh(v) return (v * 1):detach() end

local function change_grad(m, a, change)
  local g = m:leaf(a).grad
  if g then change(g) end
end

local acts = {
  {4, function(m, a, b) m:add(m:any(a) * m:any(b)) end},
  {2, function(m, a, b, c) m:add(m:any(a) + m:any(b) * (c % 5)) end},
  {1, function(m, a) m:add(mg.sin(m:any(a))) end},
  {1, function(m, a, _, c) m:add((m:any(a) - c % 3):detach()) end},
  {1, function(m, a, b) m:add(m:any(a):sum() * 0.5 + m:any(b)) end},
  {1, function(m, a, b) m:add(mg.rand(3) * m:any(a) + m:any(b)) end},
  {1, function(m, a, b) m:add(m:any(a)[{{1, 2}}]:sum() * m:any(b)) end},
  {1, function(m, a) m:add(m:any(a).data) end},
  {1, function(m, a, b) mg.no_grad(function() m:add(m:any(a) * m:any(b)) end) end},
  {3, function(m, a)
    local y = m:any(a):sum()
    if y.requires_grad then y:backward() end
  end},
  {1, function(m, a, b, c) mg.assign({m:leaf(a)}, {fresh(m:any(b) + c % 3)}) end},
  {1, function(m, a, b)
    local x, y = m:leaf(a), m:leaf(b)
    if x.id ~= y.id then mg.assign({x, y}, {fresh(y), fresh(x)}) end
  end},
  {1, function(m, a, b) m:leaf(a).data = fresh(m:any(b) * 0.5) end},
  {1, function(m, a, b, c) m:leaf(a)[c % 3 + 1] = b % 7 end},
  {1, function(m, a, _, c)
    local x = m:leaf(a)
    if c % 4 == 0 then x.requires_grad = not x.requires_grad end
  end},
  {1, function(m, a) m:leaf(a):cleargrad() end},
  {1, function(m, a, _, c) m:leaf(a).grad = mg.ones(3) * (c % 4) end},
  {1, function(m, a, b) change_grad(m, a, function(g) m:leaf(b).grad = fresh(g + 1) end) end},
  {2, function(m, a) change_grad(m, a, function(g) m:add(g) end) end},
  {1, function(m, a) change_grad(m, a, function(g) m:add(g * 1) end) end},
  {1, function(m, a, _, c)
    change_grad(m, a, function(g) mg.assign({g}, {fresh(g * 2 + c % 3)}) end)
  end},
  {1, function(m, a) change_grad(m, a, function(g) g.data = g * 3 end) end},
}

local drawn = {}
for _, act in ipairs(acts) do
  for _ = 1, act[1] do drawn[#drawn + 1] = act[2] end
end

local Machine = {}
Machine.__index = Machine

-- The kth of lists, round the end
local function at(k, ...)
  local n = 0
  for _, list in ipairs{...} do n = n + #list end
  k = k % n + 1
  for _, list in ipairs{...} do
    if k <= #list then return list[k] end
    k = k - #list
  end
end

function Machine:add(v) self.made[#self.made + 1] = v end
function Machine:any(k) return at(k, self.made, self.arguments, self.captured, self.grads) end
function Machine:leaf(k) return at(k, self.arguments, self.captured, self.grads) end

local function perform(list, world, ...)
  local m = setmetatable({made = {}, arguments = {...}, captured = world.captured,
                          grads = world.grads}, Machine)
  for _, act in ipairs(list) do act[1](m, table.unpack(act, 2)) end
  return table.unpack(m.made, math.max(1, #m.made - 2))
end

-- ---- worlds ------------------------------------------------------------------------------------

local function numbers(random) return {random(9), random(9), random(9)} end

local function new_world(random)
  local captured, grads = {}, {}
  for i = 1, CAPTURED do
    local x = random(2) == 1 and mg.Variable(numbers(random)) or mg.tensor(numbers(random))
    if random(3) == 1 then x.grad = mg.tensor(numbers(random)) end
    if random(2) == 1 then grads[#grads + 1] = x.grad end
    captured[i] = x
  end
  if random(3) == 1 then captured[random(CAPTURED)].grad = grads[1] end
  return {captured = captured, grads = grads}
end

local changes = {
  function(x) x:cleargrad() end,
  function(x, _, random) x.grad = mg.tensor(numbers(random)) end,
  function(x, y) x.grad = y.grad end,
  function(x) x.requires_grad = not x.requires_grad end,
  function(x, _, random) x.data = mg.tensor(numbers(random)) end,
  function(x, _, random) if x.grad then mg.assign({x.grad}, {mg.tensor(numbers(random))}) end end,
}

local function change(world, random)
  for _ = 1, random(0, 2) do
    local x, y = world.captured[random(CAPTURED)], world.captured[random(CAPTURED)]
    changes[random(#changes)](x, y, random)
  end
end

local function arguments(world, n, random)
  local list = {}
  for i = 1, n do
    local kind, k = random(6), random(4)
    list[i] = kind == 1 and world.captured[k] or kind == 2 and world.grads[k] or
      kind == 3 and list[1] or kind == 4 and mg.Variable(numbers(random)) or
      mg.tensor(numbers(random))
  end
  return list
end

local function text(v)
  if not mg.is_variable(v) then return tostring(v) end
  local numerals = {}
  for i, x in ipairs(v.data:reshape(-1):totable()) do numerals[i] = ("%a"):format(x) end
  return ("%s: %s"):format(table.concat(v.shape, ","), table.concat(numerals, " "))
end

-- What there is after each call; an error ends it.
local function tell(list, n, seed, compiled)
  local random = math.random
  math.randomseed(seed)
  mg.seed(seed)
  local world, lines, kept = new_world(random), {}, {}
  local f = function(...) return perform(list, world, ...) end
  if compiled then f = mg.compile(f) end
  local function note(v)                            -- what a call gives has no graph: not of that
    lines[#lines + 1] = ("%s, tracked: %s, grad: %s"):format(text(v), v.requires_grad, text(v.grad))
  end
  for _ = 1, CALLS do
    local given = arguments(world, n, random)
    local results = table.pack(pcall(f, table.unpack(given)))
    if not results[1] then
      lines[#lines + 1] = tostring(results[2]):gsub("^.-:%d+: ", "")
      return lines
    end
    for i = 2, results.n do lines[#lines + 1] = text(results[i]) end
    for _, group in ipairs{world.captured, world.grads, given} do
      for _, v in ipairs(group) do note(v) end
    end
    note(mg.rand(1))
    for _, v in ipairs(kept) do lines[#lines + 1] = text(v) end -- later calls leave it as it was
    for _, v in ipairs(world.captured) do kept[#kept + 1] = v * 1 end
    change(world, random)
  end
  return lines
end

local function same_changes(random)
  local list, n = {}, random(0, MAX_ARGUMENTS)
  for i = 1, random(2, MAX_ACTS) do
    list[i] = {drawn[random(#drawn)], random(1000), random(1000), random(1000)}
  end
  local seed = random(1 << 30)
  local plain, compiled = tell(list, n, seed, false), tell(list, n, seed, true)
  for i = 1, math.max(#plain, #compiled) do
    if plain[i] ~= compiled[i] then
      error(("line %d is %s, compiled %s"):format(i, plain[i], compiled[i]), 0)
    end
  end
end

return {{name = "changes", start = function() return same_changes end}}
