-- Where derivatives jump and results could be argued about: what was decided.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, raises = helper.exact, helper.raises
local huge, nan = math.huge, 0 / 0

-- The gradients of the sum of f at xs, one list each.
local function slopes(f, ...)
  local leaves, grads = {}, {}
  for k, x in ipairs{...} do leaves[k] = mg.Variable(x) end
  f(table.unpack(leaves)):sum():backward()
  for k, x in ipairs(leaves) do grads[k] = x.grad:totable() end
  return table.unpack(grads)
end

describe("at the kink", function()
  helper.guard(before_each, after_each)

  it("relu, abs, norm and hypot have gradient 0 at 0", function()
    assert.same({0, 0, 1}, slopes(mg.relu, {-1, 0, 1}))
    assert.same({-1, 0, 1}, slopes(mg.abs, {-1, 0, 1}))
    assert.same({0, 0}, slopes(mg.norm, {0, 0}))
    assert.same({0}, slopes(mg.hypot, {0}, {0}))
  end)

  it("maximum and minimum give half each at a tie", function()
    for _, f in ipairs{mg.maximum, mg.minimum} do
      local a, b = slopes(f, {2, 1, 3}, {2, 3, 1})
      assert.equal(0.5, a[1])
      assert.equal(0.5, b[1])
      assert.equal(1, a[2] + b[2])
      assert.equal(1, a[3] + b[3])
    end
    assert.same({0.5, 0, 1}, slopes(function(x) return x:maximum(0) end, {0, -1, 1}))
  end)

  it("clamp has gradient 1 inside and at its bounds", function()
    local function f(x) return x:clamp{min = -1, max = 1} end
    assert.same({0, 1, 1, 1, 0}, slopes(f, {-2, -1, 0, 1, 2}))
    assert.same({0, 1, 1}, slopes(function(x) return x:clamp{min = 0} end, {-1, 0, 1}))
    assert.same({1, 1, 0}, slopes(function(x) return x:clamp{max = 0} end, {-1, 0, 1}))
    assert.same({0, 1, 1}, slopes(function(x) return x:clamp{min = 0, max = 1} end, {-1, 0.5, 1}))
    local x = mg.Variable(0.5) -- a scalar, with integers for bounds
    x:clamp{min = 0, max = 1}:backward()
    assert.equal(1, x.grad:item())
    assert(exact(mg.clamp({5, -5}, {min = 0}), {5, 0}))
    assert(exact(mg.tensor({5, -5}, "int64"):clamp{max = 2}, {2, -5}))
    assert(raises("clamp: needs options min, max or both", mg.clamp, mg.ones(2), {}))
  end)

  it("round goes to even, % and // go down, as Lua's", function()
    assert(exact(mg.round{-2.5, -1.5, -0.5, 0.5, 1.5, 2.5}, {-2, -2, 0, 0, 2, 2}))
    for _, a in ipairs{7, -7, 6, -6, 0.5} do
      for _, b in ipairs{3, -3, 0.75} do
        assert(exact(mg.tensor(a) % b, a % b))
        assert(exact(mg.tensor(a) // b, a // b))
        assert(exact(a % mg.tensor{b}, {a % b}))
        assert(exact(a // mg.tensor{b}, {a // b}))
      end
    end
  end)

  it("nan wins in max, maximum, relu and clamp", function()
    assert(exact(mg.maximum({nan, 1, nan}, {1, nan, nan}), {nan, nan, nan}))
    assert(exact(mg.minimum({nan, 1}, {1, nan}), {nan, nan}))
    assert(exact(mg.relu{nan, -1}, {nan, 0}))
    assert(exact(mg.clamp({nan}, {min = 0, max = 1}), {nan}))
    assert(exact(mg.max{1, nan, 2}, nan))
  end)

  it("where sends no nan from the branch not taken", function()
    local function f(x) return mg.where(x:gt(0), x:log(), 0) end
    assert.same({0, 0.5}, slopes(f, {-1, 2}))
    local c = mg.tensor{true, false}
    local x = mg.Variable{4, 0}
    local y = mg.where(c, mg.sqrt(mg.where(c, x, 1)), 0)
    y:sum():backward()
    assert(exact(x.grad, {0.25, 0}))
  end)

  it("nan_to_num has no gradient where it replaced", function()
    assert(exact(mg.nan_to_num{nan, huge, -huge, 2},
      {0, 0x1.fffffffffffffp1023, -0x1.fffffffffffffp1023, 2}))
    assert.same({0, 0, 0, 1}, slopes(mg.nan_to_num, {nan, huge, -huge, 2}))
    local largest = mg.tensor({huge}, "float32"):nan_to_num()
    assert(exact(largest, {0x1.fffffep127}))
  end)

  it("comparisons with nan are false, ne true", function()
    for _, name in ipairs{"eq", "lt", "le", "gt", "ge"} do
      assert.same({false, false}, mg[name]({nan, 1}, {nan, nan}):totable())
    end
    assert.same({true, true}, mg.ne({nan, 1}, {nan, nan}):totable())
  end)
end)

describe("powers", function()
  helper.guard(before_each, after_each)

  it("by a number are those of Lua", function()
    local values = {-2, -0.5, 0, 0.5, 1, 3}
    for _, n in ipairs{0, 1, 2, 3, 4, 7, 20, 64, 65, -1, -2, -3, 0.5, 1.5, -0.5, 2.5, huge,
                       -huge, nan} do
      local want = {}
      for i, v in ipairs(values) do want[i] = (v + 0.0) ^ n end
      assert(exact(mg.tensor(values) ^ n, want, 64))
      assert(exact(mg.pow(values, mg.full({6}, n)), want, 8))
    end
    assert(exact(2 ^ mg.tensor{-1, 0, 10}, {0.5, 1, 1024}))
    assert.equal("float64", (mg.tensor({2}, "int64") ^ 2).dtype)
  end)

  it("powi takes whole numbers alone", function()
    assert(exact(mg._powi({-2, 3}, 3), {-8, 27}))
    assert(raises("powi: ", mg._powi, {2, 2}, {2, 3}))
    assert(raises("powi: ", mg._powi, {2, 2}, 2.5))
  end)

  it("by a number have their derivatives", function()
    local x = mg.tensor{0.5, 1, 3}
    for _, n in ipairs{0, 1, 2, 3, 5, -1, -2, 0.5, 2.5, -1.5} do
      assert(helper.differentiable(function(a) return a ^ n end, {x}))
    end
    assert(helper.differentiable(function(a) return 2 ^ a end, {x}))
  end)

  it("are flat at 0 where they should be", function()
    assert.same({0, 0}, slopes(function(x) return x ^ 0 end, {0, 2}))
    assert.same({1, 1}, slopes(function(x) return x ^ 1 end, {0, 2}))
    assert.same({0, 12}, slopes(function(x) return x ^ 3 end, {0, 2}))
    local a, b = slopes(mg.pow, {0, 0}, {0, 2})
    assert.same({0, 0}, a)
    assert.same({0, 0}, b)
  end)

  it("of small negative numbers keep their sign", function()
    assert(exact(mg.tensor{-2, -3} ^ 3, {-8, -27}))
    assert(exact(mg.pow({-2, -3}, {3, 2}), {-8, 9}))
    assert(exact(mg.tensor{-2} ^ 0.5, {nan}))
    assert.same({12, 27}, slopes(function(x) return x ^ 3 end, {-2, -3}))
  end)
end)
