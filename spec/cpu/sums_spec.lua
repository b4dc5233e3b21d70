-- Float32 sums are exact to 1e-6, however many addends there are and wherever they meet.

local mg = require "moongrad"
local helper = require "spec.helper"

-- Not representable, so that each addition is rounded, and always the same way
local ADDENDS = {0.1, 1 / 3, 1.0001, 1.9999}

local function f32(v) return mg.tensor({v}, "float32")[1]:item() end

-- Every element of sums is n times addend.
local function sums_up(sums, addend, n)
  local want = f32(addend) * n
  local off = ((sums:to "float64" - want):abs():max() / want):item()
  return off <= 1e-6, ("%d times %s is off by %g"):format(n, addend, off)
end

describe("float32 sums", function()
  helper.guard(before_each, after_each)

  it("of columns, rows and all", function()
    for _, shape in ipairs{{1000000, 2}, {300000, 7}, {256, 2}, {85, 6}, {50000, 50},
      {20, 900, 40}, {20000, 600}, {30000, 90}, {6000, 1500}, {120, 5000}, {3000, 5000},
      {100, 40000}, {3, 100000}} do
      local axis = #shape - 1
      local n = shape[axis]
      for _, addend in ipairs(ADDENDS) do
        local x = mg.full(shape, addend, "float32")
        assert(sums_up(x:sum(axis), addend, n))
        assert(sums_up((x * 1):sum(axis), addend, n))
        assert(sums_up(x:mean(axis), addend, 1))
        assert(sums_up(x:sum(axis + 1), addend, shape[axis + 1]))
        assert(sums_up(x:sum(), addend, x.size))
      end
    end
  end)

  it("of gradients of what was broadcast", function()
    local b = mg.Variable(mg.zeros{3, dtype = "float32"})
    for _, addend in ipairs(ADDENDS) do
      b:cleargrad()
      local y = (b + mg.zeros{300000, 3, dtype = "float32"}) * addend
      y:sum():backward()
      assert(sums_up(b.grad, addend, 300000))
    end
  end)
end)
