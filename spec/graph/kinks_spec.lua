-- Where derivatives jump and results could be argued about: what was decided.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, near, raises = helper.exact, helper.near, helper.raises
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

  it("% has the slopes of the quotient that made it", function()
    local a, b = slopes(mg.mod, {1, 0.25, -1e-20, 7}, {0.1, 0.001, 3, -2})
    assert.same({1, 1, 1, 1}, a)
    assert.same({-9, -249, 1, 4}, b)
  end)

  it("atan2 and hypot have slopes near 0, at 0 and far off", function()
    for _, case in ipairs{{"float32", 1e-25}, {"float32", 1e20}, {"float64", 1e-200},
                          {"float64", 1e300}} do
      local y = mg.Variable(mg.tensor({3 * case[2]}, case[1]))
      local x = mg.Variable(mg.tensor({4 * case[2]}, case[1]))
      mg.atan2(y, x):sum():backward()
      assert(near(y.grad * case[2], {0.16}, 1e-6))
      assert(near(x.grad * case[2], {-0.12}, 1e-6))
    end
    local a, b = slopes(mg.atan2, {0, huge, 1, huge}, {0, 1, huge, huge})
    assert.same({0, 0, 0, 0}, a)
    assert.same({0, 0, 0, 0}, b)
    a, b = slopes(mg.hypot, {0, huge, 1}, {0, 1, -huge})
    assert.same({0, 1, 0}, a)
    assert.same({0, 0, -1}, b)
    assert(near(slopes(mg.atan, {1e200})[1], 0, 0, 0))
    assert(exact(slopes(mg.atan, {1e155})[1], 1e-310, 64))
  end)

  it("nan wins in max, maximum, relu and clamp", function()
    local low, high = mg.Variable{0, nan, 5, 0}, mg.tensor{9, 9, nan, 2}
    local z = mg.Variable{1, 2, 3, 4}
    local y = z:clamp{min = low, max = high}
    assert(exact(y, {1, nan, nan, 2}))
    y:backward()
    assert(exact(z.grad, {1, 0, 0, 0}))
    assert(exact(low.grad, {0, 1, 0, 0}))
    assert(exact(mg.ones(2):clamp{max = {nan, 0}}, {nan, 0}))
    assert(raises("clamp: min is nan", mg.clamp, mg.ones(2), {min = nan}))
    assert(exact(mg.maximum({nan, 1, nan}, {1, nan, nan}), {nan, nan, nan}))
    assert(exact(mg.minimum({nan, 1}, {1, nan}), {nan, nan}))
    assert(exact(mg.relu{nan, -1}, {nan, 0}))
    assert(exact(mg.clamp({nan}, {min = 0, max = 1}), {nan}))
    assert(exact(mg.max{1, nan, 2}, nan))
  end)

  it("relu and clamp hand the gradient on where they hand on a nan", function()
    for _, f in ipairs{mg.relu, mg.relu6, mg.leaky_relu} do
      assert.same({1, 1}, slopes(f, {nan, 2}))
    end
    for _, bounds in ipairs{{min = 0, max = 1}, {min = 0}, {max = 1}} do
      assert.same({1, 1}, slopes(function(x) return x:clamp(bounds) end, {nan, 0.5}))
    end
  end)

  it("maximum, minimum and max hand the gradient to what is nan", function()
    for _, f in ipairs{mg.maximum, mg.minimum} do
      local a, b = slopes(f, {nan, 1, nan}, {1, nan, nan})
      assert.same({1, 0, 1}, a)
      assert.same({0, 1, 0}, b)
    end
    assert.same({0, 0.5, 0, 0.5}, slopes(mg.amax, {1, nan, 2, nan}))
    assert.same({0, 1}, slopes(mg.amin, {-huge, nan}))
  end)

  it("elu has the slopes of one side at 0, twice", function()
    local x = mg.Variable{-0.0, 0.0}
    local g = mg.gradients(mg.elu(x, 3):sum(), {x}, {create_graph = true})[1]
    assert(exact(g, {3, 3}))
    assert(exact(mg.gradients(g:sum(), {x})[1], {3, 3}))
  end)

  -- Functions, and where their slope is infinite or nan
  local poles = {
    sqrt = {mg.sqrt, 0, -1}, rsqrt = {mg.rsqrt, 0, -1}, log = {mg.log, 0, -1},
    log1p = {mg.log1p, -1, -2}, log2 = {mg.log2, 0, -1}, reciprocal = {mg.reciprocal, 0},
    exp = {mg.exp, 1e4}, expm1 = {mg.expm1, 1e4}, sinh = {mg.sinh, 1e4}, cosh = {mg.cosh, -1e4},
    asin = {mg.asin, 1, -1, 2}, acos = {mg.acos, 1, -1, 2}, sin = {mg.sin, huge},
    cos = {mg.cos, -huge}, tan = {mg.tan, huge},
    ["1 / x"] = {function(x) return 1 / x end, 0},
    ["x / x"] = {function(x) return x / x end, 0, huge},
    ["x ^ 0.5"] = {function(x) return x ^ 0.5 end, 0, -1},
    ["x ^ -3"] = {function(x) return x ^ -3 end, 0},
    ["x ^ x"] = {function(x) return mg.pow(x, x) end, 0, -0.5},
    ["x ^ (1 / 3)"] = {function(x) return x ^ (1 / 3) end, 0},
    ["2 ^ x"] = {function(x) return 2 ^ x end, 1e4},
    ["x log x"] = {function(x) return x * x:log() end, 0},
    ["x mod 1 / x"] = {function(x) return 5 % x end, 0},
    ["x sqrt x"] = {function(x) return (x * 2):sqrt() * x:rsqrt() end, 0},
    ["a row's norm"] = {function(x) return (x * x):sum():sqrt() + x * 0 end, 0},
  }

  for name, pole in pairs(poles) do
    it("where sends no nan from the branch not taken: " .. name, function()
      for i = 2, #pole do
        local at = pole[i]
        for _, dtype in ipairs{"float64", "float32"} do
          for _, n in ipairs{1, 3000} do           -- by kernels and by machine code
            local x = mg.Variable(mg.full({n}, at, dtype))
            local y = mg.where(x:eq(at), x * 0 + 1, pole[1](x))
            if at == huge or at == -huge then y = mg.where(x:eq(at), 1, pole[1](x)) end
            local g = mg.gradients(y:sum(), {x}, {create_graph = true})[1]
            assert(exact(g:detach(), mg.zeros_like(x)))
            local h = g.creator and mg.gradients(g:sum(), {x})[1] or mg.zeros_like(x)
            assert(exact(h, mg.zeros_like(x)))
          end
        end
      end
    end)
  end

  -- What is nan or infinite and masked, as missing data are, sends nothing back through any op.
  it("where sends no nan through what is nan itself", function()
    local function row(f)                    -- of 3 alike, which the op joins
      return function(x) return f(x:unsqueeze(2):expand(x.size, 3)) end
    end
    local ops = {
      hypot = function(x) return mg.hypot(x, 1) end,
      copysign = function(x) return mg.copysign(x, x) end,
      logaddexp = function(x) return mg.logaddexp(1, x) end,
      cumprod = row(function(x) return x:cumprod(2):sum(2) end),
      logcumsumexp = row(function(x) return x:logcumsumexp(2):sum(2) end),
      norm = row(function(x) return x:norm{axis = 2} end),
      var = row(function(x) return x:var(2) end),
      std = row(function(x) return x:std(2) end),
      layer_norm = row(function(x) return mg.layer_norm(x):sum(2) end),
      rms_norm = row(function(x) return mg.rms_norm(x):sum(2) end),
      softmax = row(function(x) return x:softmax(2):sum(2) end),
      mean_squared_error = function(x)
        return mg.mean_squared_error(x, mg.ones_like(x), {reduction = "none"})
      end,
      ["x ^ 2"] = function(x) return x ^ 2 end,
    }
    for name in ([[abs square tanh asinh erf erfc erfinv sigmoid gelu silu softplus mish elu selu
        logsigmoid sqrt log exp sin atan asin acos atanh lgamma]]):gmatch "%S+" do
      ops[name] = mg[name]
    end
    local second = {layer_norm = false, rms_norm = false}
    for name, f in pairs(ops) do
      for _, dtype in ipairs{"float64", "float32"} do
        for _, n in ipairs{1, 900} do         -- by kernels and by machine code
          local x = mg.Variable(mg.tensor({nan, huge, -huge}, dtype):tile(n))
          local none = mg.zeros{x.size, dtype = "bool"}
          local y = f(x)
          local g = mg.gradients(mg.where(none, y * y, 0):sum(), {x}, {create_graph = true})[1]
          assert(exact(g:detach(), mg.zeros_like(x)), name)
          if g.requires_grad then
            local h = mg.gradients(g:sum(), {x}, {retain_graph = true})[1]
            assert(exact(h, mg.zeros_like(x)), name)
          end
          g = mg.gradients(y:sum(), {x}, {create_graph = true})[1]
          if g.requires_grad and second[name] == nil then
            local h = mg.gradients(mg.where(none, g, 0):sum(), {x})[1]
            assert(exact(h, mg.zeros_like(x)), name)
          end
        end
      end
    end
    local y, t = mg.Variable{1, 2, 3}, mg.tensor{1.5, nan, 2}
    mg.where(t:isnan(), 0, (y - t):square()):sum():backward()
    assert.same({-1, 0, 2}, y.grad:totable())
  end)

  it("slopes of asin, acos and atanh keep their digits in their own slopes", function()
    for name, want in pairs{asin = {1e-200, 1e-9, 0.5773502691896258 / 0.75},
      acos = {-1e-200, -1e-9, -0.5773502691896258 / 0.75}, atanh = {2e-200, 2e-9, 1 / 0.5625}} do
      local x = mg.Variable{1e-200, 1e-9, 0.5}
      local g = mg.gradients(mg[name](x):sum(), {x}, {create_graph = true})[1]
      assert(helper.near(mg.gradients(g:sum(), {x})[1], want, 2e-15, 0), name)
    end
    assert.same({huge, huge}, slopes(mg.asin, {1, -1}))
    assert.same({huge, huge}, slopes(mg.atanh, {1, -1}))
  end)

  it("an infinite slope that counts stays infinite", function()
    assert.same({huge, 0.5}, slopes(mg.sqrt, {0, 1}))
    assert.same({huge, 1}, slopes(mg.log, {0, 1}))
    assert.same({-huge}, slopes(function(x) return 1 / x end, {0}))
    assert.same({huge}, slopes(mg.exp, {1e4}))
  end)

  it("where has the gradient of the branch that is taken alone", function()
    local function f(x) return mg.where(x:gt(0), x:log(), 0) end
    assert.same({0, 0.5, 0}, slopes(f, {-1, 2, 0}))
    local c = mg.tensor{true, false}
    local x = mg.Variable{4, 0}
    local y = mg.where(c, mg.sqrt(x), 0)
    y:sum():backward()
    assert(exact(x.grad, {0.25, 0}))
  end)

  -- Zeros that absorb a slope are no constants: what they depend on is seen by the next derivative.
  it("mixed derivatives of products and quotients are right where a factor is 0", function()
    local function derived(f, m, n)           -- d^(m + n) f / dx^m dy^n
      for _ = 1, m do f = mg.grad(f, 1) end
      for _ = 1, n do f = mg.grad(f, 2) end
      return f
    end
    local function product(x, y) return (x * y) ^ 2 end
    local function absorbing(x, y) return mg._mulz(x, y) ^ 2 end
    local function both(x, y) return mg._mulb(x, y) ^ 2 end
    local function prod(x, y) return mg.stack{x, y, y, x}:prod() end
    for _, f in ipairs{product, absorbing, both, prod} do
      for _, p in ipairs{{0, 0}, {0, 3}, {3, 0}} do
        local x, y = table.unpack(p)
        local want = {[{1, 0}] = 2 * x * y * y, [{1, 1}] = 4 * x * y, [{2, 0}] = 2 * y * y,
          [{2, 1}] = 4 * y, [{1, 2}] = 4 * x, [{2, 2}] = 4}
        for order, value in pairs(want) do
          local got = derived(f, table.unpack(order))(mg.tensor(x + 0.0), mg.tensor(y + 0.0))
          assert(near(got, value, 1e-12), table.concat(order, ", "))
        end
      end
    end
    local function quotient(x, y) return x ^ 2 / y end
    local function divz(x, y) return mg._divz(x ^ 2, y) end
    local function square_of(x, y) return mg._divz(x, y ^ 0.5) ^ 2 end
    for _, f in ipairs{quotient, divz, square_of} do
      local want = {[{1, 0}] = 0, [{1, 1}] = 0, [{2, 0}] = 1, [{2, 1}] = -0.5, [{2, 2}] = 0.5}
      for order, value in pairs(want) do
        local got = derived(f, table.unpack(order))(mg.tensor(0.0), mg.tensor(2.0))
        assert(near(got, value, 1e-12), table.concat(order, ", "))
      end
    end
  end)

  it("derivatives of quotients, powers and angles are in range where they are", function()
    for dtype, k in pairs{float64 = 700, float32 = 100} do
      local function none(v) return mg.div(mg.zeros_like(v), v):sum() end
      local least = mg.tensor({k == 100 and 2.0 ^ -149 or 2.0 ^ -1074}, dtype)
      assert.equal(0, mg.grad(none)(least):item())
      for _, y in ipairs{2.0 ^ -k, 2.0 ^ k} do
        local x = mg.tensor({y}, dtype)
        for _, f in ipairs{mg.div, mg._divz} do
          assert(exact(mg.hvp(function(v) return f(y, v):sum() end, x, x), {2 / y}))
        end
        for name, slope in pairs{reciprocal = -1, rsqrt = -0.5} do
          local function one(v) return (mg[name](v) / mg[name](x)):sum() end
          assert(exact(mg.grad(one)(x), {slope / y}), name)
        end
        local root = x:sqrt()
        local function power(v) return (v ^ -2 / root ^ -2):sum() end
        assert(exact(mg.grad(power)(root), {-2 / y ^ 0.5}))
        assert(exact(mg.hvp(power, root, root), {6 / y ^ 0.5}))
        assert(exact(mg.hvp(function(v) return mg.atan2(v, y):sum() end, x, x), {-0.5 / y}))
        assert(exact(mg.hvp(function(v) return mg.atan2(y, v):sum() end, x, x), {0.5 / y}))
      end
    end
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
    a, b = slopes(mg.pow, {nan, huge, 0}, {0, 0, -1})
    assert.same({0, 0, -huge}, a)
    assert.same({huge, -huge}, {b[2], b[3]})
    assert.same({0}, slopes(function(x) return x ^ 0 end, {nan}))
    local x, y = mg.Variable{0, 0}, mg.Variable{1.5, 3}
    for _, by in ipairs{x, y} do
      local g = mg.gradients(mg.pow(x, y):sum(), {y}, {create_graph = true})[1]
      assert(exact(mg.gradients(g:sum(), {by})[1], {0, 0}))
    end
  end)

  it("by y at 0, of the slope by x", function()
    local x, y = mg.Variable{0.5, 4}, mg.Variable{0, 0}
    local g = mg.gradients(mg.pow(x, y):sum(), {x}, {create_graph = true})[1]
    assert(exact(mg.gradients(g:sum(), {y})[1], {2, 0.25}))
  end)

  it("keep the dtype that numbers beside them do not widen", function()
    local x = mg.ones{3, dtype = "float32"}
    for name, f in pairs{
      pow = function(v) return 1.7 ^ v end, ["0 pow"] = function(v) return 0 ^ v end,
      powr = function(v) return v ^ 1.7 end, atan2 = function(v) return mg.atan2(v, 2.5) end,
      atan2r = function(v) return mg.atan2(2.5, v) end,
      hypot = function(v) return mg.hypot(3, v) end,
      mod = function(v) return 7 % v end, div = function(v) return 7 / v end,
      maximum = function(v) return mg.maximum(7, v) end, mul = function(v) return 7 * v end,
    } do
      local v = mg.Variable(x)
      local g = mg.gradients(f(v):sum(), {v}, {create_graph = true})[1]
      assert.equal("float32", g.dtype, name)
      if g.creator then assert.equal("float32", mg.gradients(g:sum(), {v})[1].dtype, name) end
    end
  end)

  it("of small negative numbers keep their sign", function()
    assert(exact(mg.tensor{-2, -3} ^ 3, {-8, -27}))
    assert(exact(mg.pow({-2, -3}, {3, 2}), {-8, 9}))
    assert(exact(mg.tensor{-2} ^ 0.5, {nan}))
    assert.same({12, 27}, slopes(function(x) return x ^ 3 end, {-2, -3}))
  end)
end)

describe("far out", function()
  helper.guard(before_each, after_each)

  it("norm, std and clipping neither overflow nor vanish", function()
    for _, k in ipairs{1e20, 1e-25} do
      local x = mg.Variable(mg.tensor({3 * k, 4 * k}, "float32"))
      local y = mg.norm(x)
      assert(near(y:to "float64" / k, 5, 1e-6))
      y:backward()
      assert(near(x.grad, {0.6, 0.8}, 1e-6))
      assert(near(mg.norm(mg.tensor({{3 * k}, {4 * k}}, "float32"), 1):to "float64" / k, {5}, 1e-6))
      assert(near(mg.std(mg.tensor({k, 2 * k, 3 * k}, "float32")):to "float64" / k, 1, 1e-6))
    end
    assert(exact(mg.norm({0, 1, 2}, {p = -1}), 0))
    assert(exact(mg.norm{huge, 1}, huge))
    local w = mg.Variable(mg.ones{2, dtype = "float32"})
    w.grad = mg.tensor({3e20, 4e20}, "float32")
    mg.optim.clip_grad_norm({w}, 1)
    assert(near(w.grad, {0.6, 0.8}, 1e-5))
  end)

  it("norm and std are those of float64, whatever Config.dtype is", function()
    mg.using_config("dtype", "float32", function()
      for _, k in ipairs{0, 1e-200, 1, 1e200} do
        local x = mg.Variable(mg.tensor({3 * k, 4 * k}, "float64"))
        local y = mg.norm(x)
        assert(near(y, 5 * k, 1e-15))
        assert(near(mg.gradients(y, x), k == 0 and {0, 0} or {0.6, 0.8}, 1e-15))
        assert(near(mg.std(x), k * 0.5 ^ 0.5, 1e-15))
      end
    end)
  end)

  it("logsumexp and losses keep to their limits at infinities", function()
    assert.same({1, 0}, slopes(mg.logsumexp, {huge, 1}))
    assert.same({0, 0}, slopes(mg.logsumexp, {-huge, -huge}))
    assert.same({0, 1}, slopes(mg.logsumexp, {-huge, 1}))
    assert(exact(mg.logsumexp{huge, 1}, huge))
    assert(exact(mg.logsumexp{-huge, -huge}, -huge))
    assert(exact(mg.binary_cross_entropy_with_logits({huge, 800}, {1.0, 1.0}), 0))
    local function huber(x) return mg.huber_loss(x, mg.zeros_like(x), {reduction = "sum"}) end
    assert.same({1, -1, 0.5}, slopes(huber, {huge, -huge, 0.5}))
  end)

  it("RMSprop's running variance is never below 0", function()
    local w = mg.Variable(mg.zeros{4, dtype = "float32"})
    local opt = mg.optim.RMSprop({w}, {centered = true, lr = 1e-3})
    for _ = 1, 400 do
      w.grad = mg.tensor({0.1, 1000.3, 0.001, 7.7}, "float32")
      opt:step()
    end
    assert.is_false(w:isnan():any():item())
  end)
end)

describe("the sign of zero", function()
  it("is kept by what is odd", function()
    local function sign(v) return 1 / v > 0 and "+" or "-" end
    for name in ("sin tan asin atan sinh tanh asinh atanh erf erfinv expm1 log1p sqrt floor " ..
                 "ceil round trunc elu selu"):gmatch "%w+" do
      for _, dtype in ipairs{"float64", "float32"} do
        local row = mg[name](mg.tensor({0.0, -0.0}, dtype)):totable()
        local signs = sign(row[1]) .. sign(row[2])
        for _, v in ipairs{0.0, -0.0} do
          signs = signs .. sign(mg[name](mg.tensor(v, dtype)):item())
        end
        assert.equal("+-+-", signs, name .. " " .. dtype)
      end
    end
  end)

  it("is copied, but not that of a nan, which depends on what made it", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local nans = mg.tensor({0 / 0, -(0 / 0), -0.0}, dtype)
      assert.same({2, 2, -2}, mg.copysign(mg.tensor({2, -2, 2}, dtype), nans):totable())
      assert.equal(2, mg.copysign(mg.tensor(-2.0, dtype), -(0 / 0)):item())
    end
  end)
end)
