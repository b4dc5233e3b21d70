-- What is composed of ops keeps its digits far out: no overflow, underflow or cancellation inside
-- that the result does not have. Values are mpmath's.

local mg = require "moongrad"
local helper = require "spec.helper"

local FLOATS = {float64 = 2.0 ^ -52, float32 = 2.0 ^ -23}

-- x is the table `want` within so many units in the last place of its dtype.
local function exact(want, x, ulps)
  local eps = FLOATS[x.dtype]
  return helper.near(x, want, ulps * eps, eps == FLOATS.float32 and 2.0 ^ -149 or 2.0 ^ -1074)
end

-- f(x), and its gradient, for x of both dtypes
local function both(f, x, value, slope, ulps)
  for dtype in pairs(FLOATS) do
    local v = mg.Variable(mg.tensor(x, dtype))
    local y = f(v)
    assert(exact(value, y, ulps or 4))
    if slope then assert(exact(slope, mg.gradients(y:sum(), v), ulps or 4)) end
  end
end

describe("digits far out", function()
  helper.guard(before_each, after_each)

  it("log_softmax and cross_entropy of large logits", function()
    local half = -0.6931471805599453
    for _, top in ipairs{700, 1e4, -3e6, 1 << 23} do
      both(mg.log_softmax, {top, top}, {half, half})
      both(function(x) return mg.cross_entropy(x, 2) end, {top, top - 0.5, top - 2},
        1.0549569196419907)
      both(function(x) return mg.cross_entropy(x, mg.tensor({0, 1}, x.dtype)) end, {top, top},
        -half, {0.5, -0.5})
    end
    both(mg.logsumexp, {-1e30, -1e30}, -1e30, {0.5, 0.5})
    assert(helper.same(mg.log_softmax(mg.tensor{-math.huge, 0, -math.huge}),
      mg.tensor{-math.huge, 0, -math.huge}))
    assert.equal(math.huge, mg.cross_entropy(mg.tensor{-math.huge, 0}, 1):item())
  end)

  it("binary_cross_entropy_with_logits where the target is met", function()
    local loss = mg.binary_cross_entropy_with_logits
    for x, want in pairs{[20] = {2.061153620314381e-9, -2.0611536181902037e-9},
                         [40] = {4.248354255291589e-18, -4.248354255291589e-18},
                         [700] = {9.85967654375977e-305, -9.85967654375977e-305}} do
      both(function(v) return loss(v, mg.ones_like(v)) end, {x}, want[1], {want[2]})
      both(function(v) return loss(v, mg.zeros_like(v)) end, {-x}, want[1], {-want[2]})
    end
    both(function(v) return loss(v, mg.ones_like(v) / 4) end, {0}, 0.6931471805599453, {0.25})
    both(function(v) return loss(v, mg.ones_like(v)) end, {math.huge}, 0, {0})
    both(function(v) return loss(v, mg.ones_like(v)) end, {-math.huge}, math.huge, {-1})
    local ok, message = helper.differentiable(loss, {mg.tensor{-3, -0.0, 0, 0.5, 40},
                                                     mg.tensor{0.1, 0.4, 0.6, 0, 1}})
    assert(ok, message)
  end)

  it("norms of any p", function()
    for _, k in ipairs{1, 1e-30, 1e30, 0x1p-400, 0x1p900} do
      local x = mg.Variable{k, 2 * k, -k}
      for p, want in pairs{[3] = 2.154434690031884, [10] = 2.000390282101329,
                           [-2] = 0.6666666666666667, [1.5] = 2.85673827785028} do
        local y = x:norm{p = p}
        assert(exact(want * k, y, 8))
        if p == 3 then
          assert(exact({0.2154434690031884, 0.8617738760127535, -0.2154434690031884},
            mg.gradients(y, x), 16))
        end
      end
    end
    both(function(x) return x:norm{p = 4} end, {0, 3e15, 0}, 3e15, {0, 1, 0}, 8)
    both(function(x) return x:norm{p = 3} end, {0, 0}, 0, {0, 0})
    both(function(x) return x:norm{p = -1} end, {0, 2}, 0)
    both(function(x) return x:norm{p = 3} end, {1, math.huge}, math.huge)
    local x = mg.rand(3, 4) - 0.5
    for _, p in ipairs{1.5, 3, -2} do
      local ok, message = helper.differentiable(function(v) return v:norm{p = p, axis = 2} end, {x},
        1e-6)
      assert(ok, message)
      assert.same({3, 1}, {table.unpack(x:norm{p = p, axis = 2, keepdims = true}.shape)})
    end
  end)

  it("variances of what lies far from 0", function()
    local top = 0x1p54
    for _, f in ipairs{mg.var, function(x, o) return x:std(o) ^ 2 end} do
      local x = mg.tensor{{top, top + 4, top, top + 4}, {0.1, 0.1, 0.1, 0.1},
                          {top, top + 4, top + 4, top + 4}}
      assert(exact({16 / 3, 0, 4}, f(x, {axis = 2}), 4))
      assert(exact({16 / 3, 0, 4}, f(x.T, {axis = 1}), 4))
      assert(exact({8}, f(mg.tensor{top, top + 4}, {keepdims = true}), 4))
      assert(exact(math.huge, f(mg.tensor{1e200, -1e200, 3e200}), 4))
    end
    local x = mg.Variable(mg.tensor({1 << 24, (1 << 24) + 2}, "float32"))
    local y = x:std()
    assert(exact(1.4142135623730951, y, 2))
    assert(exact({-0.7071067811865476, 0.7071067811865476}, mg.gradients(y, x), 4))
    local ok, message = helper.differentiable(function(v) return mg.var(v, 1), mg.std(v, 1) end,
      {mg.rand(3, 2)})
    assert(ok, message)
  end)

  it("linspace from end to end of what there is", function()
    local far = 0x1.8p1023
    assert(helper.same(mg.linspace(-far, far, 5), mg.tensor{-far, -far / 2, 0, far / 2, far}))
  end)
end)
