-- Programs of single numbers: machine code gives the bits of the kernels.

local mg = require "moongrad"
local helper = require "spec.helper"
local counts = helper.counting(it)
local samples = require "spec.samples"
local same, settle = helper.same, helper.settle
local huge, nan = math.huge, 0 / 0

local SPECIAL = {0.0, -0.0, huge, -huge, nan, 1e-40, 1e30, -1e30, 0.5, -1.5, 2.5, 1.0, 300.0,
  1e-310}

local function pick(list) return list[math.random(#list)] end

local function number() return math.random() < 0.1 and pick(SPECIAL) or math.random() * 4 - 2 end

-- _polygamma is of orders.
local OPS, apart = {}, {_polygamma = true}
for _, op in ipairs(mg._ops()) do
  if op.kind == "elementwise" and samples[op.name] and not apart[op.name] then
    OPS[#OPS + 1] = op.name
  end
end

-- `count` steps after the leaves, each a function of all values so far
local function steps(leaves, count, far)
  local v, list = table.move(leaves, 1, #leaves, 1, {}), {}
  while #list < count do
    local name, args = pick(OPS), {}
    local sample = samples[name]
    for j = 1, #sample.inputs do args[j] = math.max(1, #v + 1 - math.random(far)) end
    local dtype = math.random() < 0.06 and pick{"float64", "float32", "int64", "bool", "uint8"}
    local n = math.random() < 0.1 and math.random(-9, 9)
    local function step(u)
      if dtype then return u[args[1]]:to(dtype) end
      if n then return u[args[1]] ^ n end
      local x = {}
      for j, k in ipairs(args) do x[j] = u[k] end
      return sample.call(mg[name], table.unpack(x))
    end
    local ok, r = pcall(step, v)
    if ok then v[#v + 1], list[#list + 1] = r, step end
  end
  return list
end

-- f of xs, at once, recorded, and replayed with machine code and without
local function agrees(f, xs)
  local want, g = {f(table.unpack(xs))}, mg.compile(f)
  local function check()
    local got = {g(table.unpack(xs))}
    for i, y in ipairs(want) do assert(same(got[i], y)) end
  end
  check()
  local runs = mg._code().runs
  check()
  assert.equal(mg._code().on, mg._code().runs > runs)
  if not mg._code().on then return end
  mg._code{off = true}
  local ok, err = pcall(check)
  mg._code{off = false}
  if not ok then error(err, 0) end
end

local function agrees_on(xs, count, far, from)
  local list = steps(xs, count, far)
  agrees(function(...)
    local v = {...}
    for _, step in ipairs(list) do v[#v + 1] = step(v) end
    return table.unpack(v, from)
  end, xs)
end

describe("single numbers", function()
  helper.guard(before_each, after_each)

  it("give each op its bits", function()
    for _, dtype in ipairs{"float64", "float32"} do
      for _, name in ipairs(OPS) do
        local sample = samples[name]
        for _ = 1, 6 do
          local xs = {}
          for j = 1, #sample.inputs do xs[j] = mg.tensor(number(), dtype) end
          local function f(...) return sample.call(mg[name], ...) end
          if pcall(f, table.unpack(xs)) then
            agrees(function(...)   -- nine of them, of nine arguments
              local y, x = {}, {...}
              for k = 0, 8 do
                local a = {}
                for j = 1, #x do a[j] = x[j] * (1 + k * 0.25) end
                y[k + 1] = f(table.unpack(a))
              end
              return table.unpack(y)
            end, xs)
          end
        end
      end
    end
  end)

  for _, dtype in ipairs{"float32", "float64"} do
    it("agree in programs of any ops, " .. dtype, function()
      for seed = 1, 40 do
        math.randomseed(seed)
        local xs = {}
        for k = 1, math.random(4) do xs[k] = mg.tensor(number(), dtype) end
        agrees_on(xs, math.random(80), seed % 2 == 0 and 6 or 60, math.random(8))
      end
    end)
  end

  it("are kept when there are more than registers", function()
    agrees(function(x, y)
      local made, sum = {}, y
      for i = 1, 900 do made[i] = i % 50 == 0 and (x * i):sin() or x * i - y end
      for i = 900, 1, -1 do sum = sum * 0.5 + made[i] * made[901 - i] end
      return sum, made[3], sum + x
    end, {mg.tensor(0.3), mg.tensor(-1.7)})
  end)

  it("are a chain of thousands", function()
    local function chain(x)
      for i = 1, 700 do x = i % 2 == 0 and x * 1.01 or x:sin() end
      return x
    end
    agrees(mg.value_and_grad(chain), {mg.tensor(0.7)})
  end)

  it("are drawn anew by each replay", function()
    local function f(x) return mg.rand(1):sum() * x, mg.rand{1, dtype = "float32"}:sum() end
    local g, x = mg.compile(f), mg.tensor(2.0)
    mg.seed(3)
    local want = {}
    for i = 1, 4 do want[i] = {f(x)} end
    mg.seed(3)
    for i = 1, 4 do
      local a, b = g(x)
      assert(same(a, want[i][1]) and same(b, want[i][2]))
    end
  end)

  it("are written anew when there is no more room", function()
    local most, fewest, x = 0, huge, mg.tensor(0.5)
    local gs, ws = {}, {}
    for i = 1, 80 do
      local f = function(y)
        math.randomseed(i)
        for _ = 1, 1200 do
          local u = math.random(4)
          y = u == 1 and y + x or u == 2 and y:cos() or u == 3 and y - 0.1 or y:sin()
        end
        return y
      end
      gs[i], ws[i] = mg.compile(f), f(x)
      for _ = 1, 2 do assert(same(gs[i](x), ws[i])) end
      local bytes = mg._code().bytes
      if bytes < most then fewest = math.min(fewest, bytes) end
      most = math.max(most, bytes)
    end
    for i = 1, 80 do assert(same(gs[i](x), ws[i])) end
    assert(not mg._code().on or fewest < most / 2)
  end)

  counts("fail clean when memory does", function()
    local function f(x, y) return (x * y):sin() + (x - y):exp() * 3, x:gt(y):to("int64") end
    local x, y = mg.tensor(0.25), mg.tensor(2.0)
    local a, b = f(x, y)
    local before, failures = settle(), 0
    for n = 1, 300 do
      mg._code{off = true}
      mg._code{off = false}
      mg._fail_at(n)
      local ok, c, d = pcall(mg.compile(f), x, y)
      mg._fail_at(0)
      if ok then assert(same(a, c) and same(b, d))
      else
        failures = failures + 1
        assert(tostring(c):find "out of memory")
      end
      c, d = nil, nil -- luacheck: ignore
      assert.equal(before, settle())
    end
    assert(failures > 10)
  end)
end)
