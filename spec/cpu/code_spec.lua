-- Machine code against the kernels: what large arrays give in one loop, small ones give op by op.

local mg = require "moongrad"
local helper = require "spec.helper"
local same, parts = helper.same, helper.parts
local huge, nan = math.huge, 0 / 0

local PART = 250                  -- elements: so few are computed at once, by kernels

local UNARY = {"neg", "abs", "square", "sqrt", "rsqrt", "reciprocal", "relu", "relu6", "floor",
  "ceil", "round", "trunc", "frac", "exp"}
local BINARY = {"add", "sub", "mul", "div", "maximum", "minimum", "_mulz", "_divz", "_subz"}
local COMPARE = {"eq", "ne", "lt", "le", "gt", "ge"}
local LOGIC = {"logical_and", "logical_or", "logical_xor"}
local SPECIAL = {0.0, -0.0, huge, -huge, nan, 1e-40, 1e30, -1e30, 0.5, -1.5, 2.5, 1.0}

local function pick(list) return list[math.random(#list)] end

-- `count` steps; each is a function of all values so far. `far`: how far back they look.
local function steps(leaves, count, far)
  local list = {}
  for i = leaves + 1, leaves + count do
    local function value() return math.max(1, i - math.random(far)) end
    local a, b, c, u = value(), value(), value(), math.random()
    local one, two, test, other = pick(UNARY), pick(BINARY), pick(COMPARE), pick(COMPARE)
    local logic, k, n = pick(LOGIC), math.random() * 4 - 2, math.random(-9, 9)
    list[#list + 1] =
      u < 0.30 and function(v) return mg[one](v[a]) end or
      u < 0.55 and function(v) return mg[two](v[a], v[b]) end or
      u < 0.65 and function(v) return mg[two](v[a], k) end or
      u < 0.70 and function(v) return mg[two](k, v[a]) end or
      u < 0.76 and function(v) return v[a] ^ n end or
      u < 0.80 and function(v) return v[a]:leaky_relu(k) end or
      u < 0.84 and function(v) return v[a]:clamp{min = -1, max = k + 2} end or
      u < 0.92 and function(v) return mg.where(mg[test](v[a], v[b]), v[c], v[a]) end or
      function(v)
        local mask = mg[logic](mg[test](v[a], v[b]), mg[other](v[c], k):logical_not())
        return mg.where(mask, v[b], k)
      end
  end
  return list
end

local function run(list, leaves)
  local v = table.move(leaves, 1, #leaves, 1, {})
  for _, step in ipairs(list) do v[#v + 1] = step(v) end
  return v
end

local function numbers(n, dtype)
  local t = {}
  for i = 1, n do t[i] = math.random() < 0.05 and pick(SPECIAL) or math.random() * 4 - 2 end
  return mg.tensor(t, dtype)
end

-- The values from `from` on, computed in one go and part by part.
local function agrees(list, leaves, from)
  local n, late = #leaves[1], run(list, leaves)
  local wanted = table.move(late, from, #late, 1, {})
  mg.eval(table.unpack(wanted))
  local small = {}
  for i = 1, #wanted do small[i] = {} end
  for first = 1, n, PART do
    local v = run(list, parts(leaves, first, math.min(n, first + PART - 1)))
    for i = 1, #wanted do small[i][#small[i] + 1] = v[from + i - 1] end
  end
  for i, x in ipairs(wanted) do assert(same(mg.cat(small[i]), x)) end
end

describe("machine code", function()
  helper.guard(before_each, after_each)

  for _, dtype in ipairs{"float32", "float64"} do
    it("has the bits of the kernels, " .. dtype, function()
      for seed = 1, 60 do
        math.randomseed(seed)
        local leaves = {}
        for k = 1, math.random(4) do
          leaves[k] = numbers((seed % 2 * 3 + 1) * 520 + 8 * (seed % 3) + seed, dtype)
        end
        local count = math.random(40)
        agrees(steps(#leaves, count, 4), leaves, #leaves + math.max(1, count - 2))
      end
    end)

    it("keeps more values and more arrays than there are registers, " .. dtype, function()
      for seed = 1, 12 do
        math.randomseed(seed)
        local leaves = {}
        for k = 1, 20 do leaves[k] = numbers(2101 + seed, dtype) end
        local list = steps(#leaves, 60, 50)
        list[#list + 1] = function(v)
          local sum = v[21]
          for i = 80, 22, -1 do sum = sum + v[i] end
          return sum
        end
        agrees(list, leaves, #leaves + #list)
        agrees(list, leaves, #leaves + #list - 9)
      end
    end)
  end

  it("reads what it put away before it puts away more", function()
    local function all(v)          -- operands are visited depth first, so these are alive together
      local made, sums = {}, {}
      for i = 1, 40 do made[i] = v[1] * i end
      local sum = made[1]
      for i = 2, 40 do sum = sum - made[i] end
      for i = 1, 40 do
        sums[i] = made[1] + made[i]
        sum = sum * 0.5 - sums[i]
      end
      local again = sums[1]
      for i = 2, 40 do again = again * 0.25 - sums[i] end
      return sum + again
    end
    agrees({all}, {numbers(2500, "float64")}, 2)
  end)

  it("goes on in a second loop where one would be too long", function()
    local x = numbers(3000, "float64")
    local list = {}
    for i = 1, 400 do list[i] = function(v) return v[i] * 0.5 + v[1] end end
    agrees(list, {x}, 401)
  end)

  it("computes equal values once, which may each be stored", function()
    local x, y = numbers(3000, "float64"), numbers(3000, "float64")
    local list = {
      function(v) return v[1]:sin() * v[2] end,
      function(v) return v[1]:sin() * v[2] end,
      function(v) return (v[1] * 2):exp() - (v[1] * 3):exp() end,
      function(v) return (v[4] - v[3]) * (v[4] - v[3]) + (v[3] - v[4]) end,
      function(v) return mg.where(v[1]:gt(v[2]), v[4], v[1]:sin() * v[2]) end,
    }
    for from = 3, 7 do agrees(list, {x, y}, from) end
    local function sums() return (x * y):sum(), (x * y):sum(), (x * y):square():mean() end
    local a, b, c = sums()
    mg.eval(a, b, c)
    local xy = x * y
    mg.eval(xy)
    assert(same(a, xy:sum()) and same(b, a) and same(c, xy:square():mean()))
  end)

  it("computes a power as its products", function()
    local x = numbers(2500, "float64")
    for n = -66, 66 do
      agrees({function(v) return v[1] ^ n end, function(v) return v[2] + v[1] end}, {x}, 2)
    end
  end)

  it("sums the rows it makes in the lanes of a fold", function()
    for _, dtype in ipairs{"float32", "float64"} do
      for _, row in ipairs{63, 64, 65, 100, 511, 512, 513, 1000, 1024, 1025, 4095, 4096, 4097} do
        math.randomseed(row)
        local rows = 7000 // row + 2
        local x, y = numbers(rows * row, dtype):reshape(rows, row), mg.rand(rows, row):to(dtype)
        local k, column = mg.rand(row):to(dtype), mg.rand(rows, 1):to(dtype)
        mg.eval(x, y, k, column)
        local function results(keep)
          local a = keep(x * k)
          local b = keep(keep(a + column) * y)
          local s, m = b:sum(2), keep(a:square()):mean(2)
          local c = keep(b - keep(s:reshape(rows, 1)):expand(rows, row))
          return s, m, c, keep(c * keep(m:reshape(rows, 1))):sum(2), b:sum(), c:mean()
        end
        local late = {results(function(v) return v end)}
        mg.eval(table.unpack(late))
        local eager = {results(function(v) mg.eval(v) return v end)}
        for i = 1, #late do assert(same(late[i], eager[i])) end
        for i = 1, rows do  -- a row of 512 or less is folded by the kernels alone
          if row <= 512 then
            local b = (x[i]:clone() * k + column[i]:clone()) * y[i]:clone()
            assert(same(b:sum(), late[1][i]))
          end
        end
      end
    end
  end)

  it("is made anew when there is no more room for it", function()
    local x = mg.rand(600)
    mg.eval(x)
    local want = mg.tensor(x) * 0 + 1
    local most, fewest = 0, math.huge
    for i = 1, 600 do
      local y = x
      math.randomseed(i)
      for k = 1, 203 + i % 40 do
        local u = math.random(5)
        y = u == 1 and y + k or u < 5 and y * 0.5 or y - x
      end
      local z = y - y
      mg.eval(y, z)
      assert(same(z + 1, want))
      local bytes = mg._code().bytes
      if bytes < most then fewest = math.min(fewest, bytes) end
      most = math.max(most, bytes)
    end
    assert(not mg._code().on or fewest < most / 2)
  end)
end)
