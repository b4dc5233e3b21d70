-- Random programs: what may not be noticed, and gradients beside finite differences.
--
-- A program is drawn by running it: a step that is refused is left out, so the list of steps can be
-- run again on the same leaves in any mode. Values and gradients have the same bits lazily and at
-- once, by machine code and by kernels, on one thread and on two, lean and fast, whatever is read
-- between and however Lua collects.

local mg = require "moongrad"

local FLOATS = {"float64", "float32"}
local DTYPES = {"float64", "float32", "int64", "uint8", "bool"}
local SHAPES = {{}, {1}, {7}, {600}, {3000}, {40, 70}, {1, 70}, {40, 1}, {600, 9}, {9, 600},
  {5, 8, 70}, {3, 1, 1000}, {2, 2500}, {70, 40}, {4, 4}}

local unary, binary = {}, {}
for _, op in ipairs(mg._ops()) do
  if op.kind == "elementwise" and op.name:sub(1, 1) ~= "_" then
    if op.arity == 1 then unary[#unary + 1] = op.name end
    if op.arity == 2 and op.name ~= "leaky_relu" and op.name ~= "elu" then
      binary[#binary + 1] = op.name
    end
  end
end

local function pick(random, list) return list[random(#list)] end

-- ---- steps: each is made of random numbers alone, and is a function of the values so far --------

local function axis_of(random, x) return x.ndim > 0 and random(x.ndim) or 1 end

local kinds = {
  {5, function(random, a)
    local op = pick(random, unary)
    return function(v) return mg[op](v[a]) end
  end},
  {5, function(random, a, b)
    local op = pick(random, binary)
    return function(v) return mg[op](v[a], v[b]) end
  end},
  {3, function(random, a)
    local op, k = pick(random, binary), random(-3, 3) + random(2) / 4
    if random(2) == 1 then return function(v) return mg[op](v[a], k) end end
    return function(v) return mg[op](k, v[a]) end
  end},
  {2, function(_, a) return function(v) return v[a]:clamp{min = -3, max = 3} end end},
  {1, function(random, a)
    local n = random(-4, 6)
    return function(v) return v[a] ^ n end
  end},
  {2, function(random, a, b, c)
    local test = pick(random, {"lt", "ge", "eq", "ne"})
    return function(v) return mg.where(mg[test](v[a], v[b]), v[c], v[a]) end
  end},
  {1, function(random, a)
    local t = pick(random, DTYPES)
    return function(v) return v[a]:to(t) end
  end},
  {3, function(random, a, _, _, v0)
    local op = pick(random, {"sum", "mean", "max", "min", "prod", "all", "any", "argmax", "var",
      "norm", "logsumexp", "amax"})
    local axis = random(4) > 1 and axis_of(random, v0[a]) or nil
    local keepdims = axis and random(2) == 1 or nil
    return function(v) return (mg[op](v[a], {axis = axis, keepdims = keepdims})) end
  end},
  {2, function(random, a, _, _, v0)
    local axis = axis_of(random, v0[a])
    return function(v) return v[a] - v[a]:mean{axis = axis, keepdims = true} end
  end},
  {1, function(random, a, _, _, v0)
    local op = pick(random, {"softmax", "log_softmax", "cumsum", "cumprod"})
    local axis = axis_of(random, v0[a])
    return function(v) return mg[op](v[a], axis) end
  end},
  {1, function(_, a) return function(v) return v[a].T end end},
  {1, function(_, a) return function(v) return v[a]:reshape(-1) end end},
  {1, function(random, a, _, _, v0)
    local axis = axis_of(random, v0[a])
    return function(v) return v[a]:unsqueeze(axis) end
  end},
  {1, function(random, a, _, _, v0)
    local index = {}
    for i, n in ipairs(v0[a].shape) do
      local first = random(n)
      index[i] = random(3) == 1 and {} or random(4) == 1 and random(n) or {first, random(first, n)}
      if random(5) == 1 then index[i] = {n, 1, -1} end
    end
    return function(v) return v[a][index] end
  end},
  {1, function(random, a, _, _, v0)
    local n, at = (v0[a].shape[1] or 1), {}
    for i = 1, random(12) do at[i] = random(n) end
    return function(v) return v[a][mg.tensor(at, "int64")] end
  end},
  {1, function(random, a, b)
    local axis = random(2)
    return function(v) return mg.cat({v[a], v[b], v[a]}, axis) end
  end},
  {1, function(_, a, b) return function(v) return v[a]:matmul(v[b].T) end end},
  {1, function(random, a, _, _, v0)
    local k = random(3)
    local shape = v0[a].shape
    table.insert(shape, 1, k)
    return function(v) return v[a]:broadcast_to(shape) end
  end},
  {1, function(random, a)
    local dtype = pick(random, FLOATS)
    return function(v) return v[a] + mg.rand_like(v[a], {dtype = dtype}) end
  end},
  {1, function(random, a)
    local op = pick(random, unary)
    return function(v) return mg.no_grad(function() return mg[op](v[a]) end) end
  end},
  {1, function(random, a, b)
    local one, two = pick(random, unary), pick(random, binary)
    return function(v)
      return mg.checkpoint(function(x, y) return mg[two](mg[one](x), y) end, v[a], v[b])
    end
  end},
  {1, function(_, a, b)
    return function(v) return mg.tidy(function() return v[a] * 2 + v[b] end) end
  end},
  {1, function(random, a)
    local k = random(9) / 4
    return function(v)
      local p = mg.Variable(v[a]:detach())
      local before = p * k
      mg.assign({p}, {p * 0.5 + before})
      return p + before
    end
  end},
  {1, function(random, a, _, _, v0)
    local n = v0[a].shape[1] or 1
    local first = random(n)
    local last, k = random(first, n), random(9)
    return function(v)
      local w = v[a]:detach():clone():detach()
      w[{ {first, last} }] = k
      return w
    end
  end},
}

local total = 0
for _, kind in ipairs(kinds) do total = total + kind[1] end
local function draw(random)
  local at = random(total)
  for _, kind in ipairs(kinds) do
    at = at - kind[1]
    if at <= 0 then return kind[2] end
  end
end

-- ---- programs ----------------------------------------------------------------------------------

local function leaf(random)
  local shape, dtype = {}, random(4) > 1 and pick(random, FLOATS) or pick(random, DTYPES)
  for i, n in ipairs(pick(random, SHAPES)) do shape[i] = n end
  shape.dtype = "float64"
  local x = (mg.rand(shape) * 8 - 4):to(dtype)
  mg.eval(x)
  return x
end

local function draw_program(random)
  local p = {leaves = {}, steps = {}, seed = random(1 << 30)}
  for i = 1, random(4) do p.leaves[i] = leaf(random) end
  local v = table.move(p.leaves, 1, #p.leaves, 1, {})
  mg.seed(p.seed)
  for _ = 1, random(3, 80) do
    local function value() return math.max(1, #v - random(0, math.min(#v, 12))) end
    local ok, step = pcall(draw(random), random, value(), value(), value(), v)
    local got, r = pcall(function() return mg.no_grad(step, v) end)
    if ok and got and r.size > 0 and r.size <= 20000 and r.ndim <= 4 then
      mg.eval(r)
      p.steps[#p.steps + 1] = step
      v[#v + 1] = r:detach()
    end
  end
  for _, x in ipairs(v) do p.single = p.single or x.dtype == "float32" end
  return p
end

local function text(x)
  if not x then return "none" end
  x = x:detach()
  if x.dtype:find "float" then x = mg.where(x:isnan(), 0, x) end
  return table.concat(x.shape, ",") .. x.dtype .. x:tobytes()
end

-- The last values of program p, and gradients of all of them together
local function run_on(p, mode, ...)
  local v, leaves, out = {}, {}, {}
  for i, x in ipairs{...} do
    leaves[i] = x.dtype:find "float" and mg.Variable(x) or x
    v[i] = leaves[i]
  end
  for k, step in ipairs(p.steps) do
    local ok, r = pcall(step, v)        -- recorded, it may be refused where it was not before
    if not ok and r:find("needs a value", 1, true) then error(r, 0) end
    v[#v + 1] = ok and r or v[#v]
    if mode.eager or mode.read and (k * mode.read) % 5 == 0 then mg.eval(v[#v]) end
    if mode.collect and k % 4 == 0 then collectgarbage(mode.collect) end
  end
  local loss = 0
  for i = math.max(1, #v - 6), #v do
    if v[i].dtype:find "float" then loss = loss + (v[i] * 0.25):to("float64"):mean() end
  end
  if mg.is_variable(loss) and loss.requires_grad then
    loss:backward{create_graph = mode.create_graph}
    for _, x in ipairs(leaves) do
      if x.requires_grad then out[#out + 1] = x.grad or false end
    end
  end
  for i = math.max(1, #v - 6), #v do out[#out + 1] = v[i] end
  return out
end

-- Recorded, and replayed from the same numbers on; nil: it needs a value
local function run_compiled(p, mode)
  local f = mg.compile(function(...) return run_on(p, mode, ...) end)
  local ok, first, again
  mg.seed(p.seed)
  ok, first = pcall(f, table.unpack(p.leaves))
  if not ok and first:find("needs a value", 1, true) then return nil end
  if not ok then error(first, 0) end
  mg.seed(p.seed)
  again = f(table.unpack(p.leaves))
  for i = 1, #first do
    if text(first[i]) ~= text(again[i]) then
      error(("replayed: result %d is another"):format(i), 0)
    end
  end
  return again
end

local function run(p, mode)
  if mode.compiled then return run_compiled(p, mode) end
  mg.seed(p.seed)
  return run_on(p, mode, table.unpack(p.leaves))
end

local MODES = {
  {name = "compiled", compiled = true},
  {name = "compiled, kernels, one thread", compiled = true, code = "off", threads = 1},
  {name = "at once", eager = true},
  {name = "kernels", code = "off"},
  {name = "one thread", threads = 1},
  {name = "lean", lean = true},
  {name = "read between", read = 3},
  {name = "collected between", collect = "step"},
  {name = "generational", read = 2, gc = "generational"},
  {name = "create_graph", create_graph = true, near = true},   -- adds up in another order
  {name = "kernels, at once, one thread, lean", code = "off", eager = true, threads = 1,
    lean = true},
}

local function run_in(p, mode)
  local threads = mg.num_threads()
  mg.set_num_threads(mode.threads or 2)
  mg._code{off = mode.code == "off"}
  if mode.gc then collectgarbage(mode.gc) end
  local ok, r = pcall(mg.using_config, "lean", mode.lean or false, run, p, mode)
  collectgarbage "incremental"
  mg._code{off = false}
  mg.set_num_threads(threads)
  if not ok then error(("%s: %s"):format(mode.name, r), 0) end
  return r
end

-- Where a value of the program is float32, gradients of float64 leaves are no better than it.
local function alike(p, mode, a, b)
  if not mode.near or not (a and b and a.dtype:find "float") then return text(a) == text(b) end
  local rtol = a.dtype == "float32" and 1e-3 or p.single and 1e-5 or 1e-9
  return mg.allclose(a, b, {rtol = rtol, atol = rtol, equal_nan = true})
end

local function same_bits(random)
  local p = draw_program(random)
  local wanted = run_in(p, {name = "lazy"})
  for _ = 1, 3 do
    local mode = MODES[random(#MODES)]
    local got = run_in(p, mode) or wanted
    for i = 1, math.max(#wanted, #got) do
      if not alike(p, mode, wanted[i], got[i]) then
        error(("%s: result %d of %d is another, after %d steps"):format(mode.name, i, #wanted,
          #p.steps), 0)
      end
    end
  end
end

-- ---- finite differences -------------------------------------------------------------------------

local SMOOTH = {"sin", "cos", "tanh", "sigmoid", "softplus", "square", "atan", "gelu", "erf", "exp"}

local function smooth_step(random, a, b)
  local op = pick(random, SMOOTH)
  local kind = random(9)
  if kind <= 3 then return function(v) return mg[op](v[a] * 0.5) end end
  if kind == 4 then return function(v) return v[a] * v[b]:tanh() end end
  if kind == 5 then return function(v) return v[a] / (v[b] * v[b] + 1.5) end end
  if kind == 6 then return function(v) return v[a]:softmax() + v[b] * 0.25 end end
  if kind == 7 then return function(v) return v[a] - v[b]:mean{axis = -1, keepdims = true} end end
  if kind == 8 then return function(v) return v[a]:matmul(v[b].T):matmul(v[a]) * 0.1 end end
  return function(v)
    return mg.checkpoint(function(x, y) return mg[op](x * 0.3) + y end, v[a], v[b])
  end
end

local function near_differences(random)
  local steps, n = {}, random(2, 10)
  for i = 1, n do
    local function value() return math.max(1, i + 1 - random(0, 3)) end
    steps[i] = smooth_step(random, value(), value())
  end
  local function f(x, y)
    local v = {x, y}
    for _, step in ipairs(steps) do v[#v + 1] = step(v) end
    return (v[#v] * v[#v - 1]):mean() + v[#v]:sin():sum() + (x * y):sum()
  end
  local x, y = mg.rand(3, 4) - 0.5, mg.rand(3, 4) - 0.5
  assert(mg.gradcheck(f, {x, y}))
  if random(3) > 1 then return end
  local w = mg.rand(3, 4) - 0.5
  assert(mg.gradcheck(function(a, b)
    local g = mg.gradients(f(a, b), {a}, {create_graph = true})[1]
    return (g * w):sum()
  end, {mg.Variable(x), mg.Variable(y)}))
end

return {
  {name = "bits", start = function() return same_bits end},
  {name = "differences", start = function() return near_differences end},
}
