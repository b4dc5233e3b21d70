-- Computing late: random expressions, and what may not be noticed of their being pending.

local mg = require "moongrad"
local helper = require "spec.helper"
local counts = helper.counting(it)
local exact, same, parts = helper.exact, helper.same, helper.parts

local N, SMALL = 3000, 250

local UNARY = {"neg", "abs", "sin", "cos", "tanh", "sigmoid", "relu", "softplus", "floor", "square",
  "atan", "expm1", "round", "gelu"}
local BINARY = {"add", "sub", "mul", "maximum", "minimum", "hypot", "atan2", "add", "sub", "mul"}

-- A random expression over `leaves` values: steps that each make one more value of some before.
-- It tends to be deep and to use values several times.
local function expression(seed, leaves, count)
  math.randomseed(seed)
  local function value(i)
    return math.random() < 0.6 and math.max(1, i - math.random(4)) or math.random(i - 1)
  end
  local steps = {}
  for i = leaves + 1, leaves + count do
    local u, a, b = math.random(), value(i), value(i)
    local step
    if u < 0.4 then
      local op = UNARY[math.random(#UNARY)]
      step = function(v) return mg[op](v[a]) end
    elseif u < 0.75 then
      local op = BINARY[math.random(#BINARY)]
      step = function(v) return mg[op](v[a], v[b]) end
    elseif u < 0.85 then
      local op, k = BINARY[math.random(#BINARY)], math.random() * 4 - 2
      if u < 0.8 then step = function(v) return mg[op](v[a], k) end
      else step = function(v) return mg[op](k, v[a]) end end
    elseif u < 0.92 then
      local c = value(i)
      step = function(v) return mg.where(mg.gt(v[a], v[b]), v[b], v[c]) end
    else
      step = function(v) return (v[a] * 0.5 + v[b]):tanh() end
    end
    steps[#steps + 1] = step
  end
  return function(given, after)
    local v = table.move(given, 1, leaves, 1, {})
    for i, step in ipairs(steps) do
      v[leaves + i] = step(v)
      if after then after(v[leaves + i]) end
    end
    return v
  end
end

local function uniform(count, dtype)
  local xs = {}
  for k = 1, count do xs[k] = (mg.rand(N) * 4 - 2):to(dtype or "float64") end
  return xs
end

-- Gradients of the last value by the leaves.
local function gradients(f, xs)
  local leaves, grads = {}, {}
  for k, x in ipairs(xs) do leaves[k] = mg.Variable(x) end
  local v = f(leaves)
  v[#v]:backward()
  for k, x in ipairs(leaves) do grads[k] = x.grad or mg.zeros_like(x) end
  return grads
end

describe("a random expression", function()
  helper.guard(before_each, after_each)

  -- f(seed, expression) for some seeds; what fails says which.
  local function for_seeds(count, f)
    for seed = 1, 4 do
      mg.seed(seed)
      local ok, err = pcall(f, expression(seed * 1000 + count, 3, count))
      if not ok then error(("seed %d: %s"):format(seed, tostring(err)), 0) end
    end
  end

  for _, count in ipairs{2, 5, 20, 47, 48, 49, 120, 300} do
    it("of " .. count .. " ops has the bits of its elements", function()
      for_seeds(count, function(f)
        for _, dtype in ipairs{"float64", "float32"} do
          local xs = uniform(3, dtype)
          local late = f(xs)
          for i = 1, N, 517 do
            local one = f{xs[1][i], xs[2][i], xs[3][i]}
            assert(same(one[#one], late[#late][i]))
          end
          local small = {}
          for i = 1, N // SMALL do
            local v = f(parts(xs, (i - 1) * SMALL + 1, i * SMALL))
            small[i] = v[#v]
          end
          assert(same(mg.cat(small), late[#late]))
        end
      end)
    end)

    it("of " .. count .. " ops may be computed whenever one likes", function()
      for_seeds(count, function(f)
        local xs = uniform(3)
        local late, eager = f(xs), f(xs, mg.eval)
        local now_and_then = f(xs, function(x) if math.random() < 0.2 then mg.eval(x) end end)
        for i = #late, 1, -1 do
          assert(same(late[i], eager[i]))
          assert(same(now_and_then[i], eager[i]))
        end
        local all = f(xs)
        mg.eval(table.unpack(all))
        for i = 1, #all do assert(same(all[i], eager[i])) end
      end)
    end)

    it("of " .. count .. " ops has the gradients of its elements, lean or not", function()
      for_seeds(count, function(f)
        local xs = uniform(3)
        local late, small = gradients(f, xs), {{}, {}, {}}
        for i = 1, N // SMALL do
          local grads = gradients(f, parts(xs, (i - 1) * SMALL + 1, i * SMALL))
          for k, g in ipairs(grads) do small[k][i] = g end
        end
        local lean = mg.using_config("lean", true, gradients, f, xs)
        for k, g in ipairs(late) do
          assert(same(mg.cat(small[k]), g))
          assert(same(lean[k], g))
        end
      end)
    end)
  end

  it("takes rows, columns, scalars and strided arrays among its leaves", function()
    for_seeds(30, function(f)
      local shape = {60, 50}
      local leaves = {mg.rand(60, 1) - 0.5, mg.rand(50, 60).T * 2, mg.rand(120, 100)[
        {{1, 120, 2}, {100, 1, -2}}]}
      local wide = {}
      for k, x in ipairs(leaves) do wide[k] = x:broadcast_to(shape):clone() + 0 end
      local late, dense = f(leaves), f(wide)
      assert(same(late[#late]:broadcast_to(shape), dense[#dense]:broadcast_to(shape)))
      leaves[3], wide[3] = mg.tensor(0.7), mg.full(shape, 0.7)
      late, dense = f(leaves), f(wide)
      assert(same(late[#late]:broadcast_to(shape), dense[#dense]:broadcast_to(shape)))
    end)
  end)

  it("may have reductions, casts and views among its ops", function()
    local turns = {
      function(x) return x - x:mean() end,
      function(x) return x - x:mean{axis = 2, keepdims = true} end,
      function(x) return x:sum(1):tanh() + x end,
      function(x) return x / (x:abs():max() + 1) end,
      function(x, y) return x * y:logsumexp{axis = 1, keepdims = true}:sin() end,
      function(x) return x:flip(1) end,
      function(x) return x:reshape(50, 60).T:clone():reshape(60, 50) end,
      function(x) return x:to("float32"):sin():to("float64") end,
      function(x, y) return x:gt(y):to("float64") - y end,
      function(x, y) return mg.cat{x[{{1, 30}}], y[{{31, 60}}]} end,
      function(x, y) return x:tanh() + y * 0.5 end,
    }
    for seed = 1, 30 do
      mg.seed(seed)
      local xs = {mg.rand(60, 50), mg.rand(60, 50) - 0.5}
      local function run(after)
        math.randomseed(seed)
        local v = {xs[1], xs[2]}
        for i = 3, 32 do
          v[i] = turns[math.random(#turns)](v[math.random(i - 1)], v[i - math.random(2)])
          after(v[i])
        end
        return v
      end
      local late, eager = run(function() end), run(mg.eval)
      for i = 1, #late do assert(same(late[i], eager[i])) end
      local leaf = mg.Variable(xs[1])
      xs[1] = leaf
      local last = run(function() end)[32]
      if last.requires_grad then
        last:sum():backward()
        local grad = leaf.grad
        leaf:cleargrad()
        mg.using_config("lean", true, function() run(mg.eval)[32]:sum():backward() end)
        assert(same(leaf.grad, grad))
      end
    end
  end)

  it("has second derivatives that are the same lean or not", function()
    for_seeds(15, function(f)
      local xs = uniform(3)
      local function second()
        local leaves, grads = {}, {}
        for k, x in ipairs(xs) do leaves[k] = mg.Variable(x) end
        local v = f(leaves)
        local y = v[#v] + v[#v - 1] * v[#v - 2]
        y:backward{create_graph = true}
        local sum = leaves[1] * 0
        for _, x in ipairs(leaves) do
          if x.grad then sum = sum + x.grad:square() end
          x:cleargrad()
        end
        sum:backward()
        for k, x in ipairs(leaves) do grads[k] = x.grad or mg.zeros_like(x) end
        return grads
      end
      local usual, lean = second(), mg.using_config("lean", true, second)
      for k, g in ipairs(usual) do assert(same(lean[k], g)) end
    end)
  end)
end)

describe("a pending array", function()
  helper.guard(before_each, after_each)

  local function large() return mg.range(1, N) end

  it("keeps the values its operands had", function()
    local x = large()
    local y = x * 2
    x.data = mg.zeros(N)
    assert(same(y, mg.range(2, 2 * N, 2)))
    local z = x + 1
    x[1] = 100
    assert.equal(1, z[1]:item())
    local w = y + 1
    mg.assign({y}, {y * 10})
    assert.equal(3, w[1]:item())
    assert.equal(20, y[1]:item())
  end)

  it("may be seen through views", function()
    local y = large() * 2
    assert.equal(20, y[10]:item())
    assert(same(y:reshape(30, 100)[{2, {1, 3}}], mg.tensor{202, 204, 206}))
    assert(same((y:reshape(30, 100).T + 1)[{{1, 2}, 30}], mg.tensor{5802 + 0.0, 5804} + 1 - 0))
    assert(same((large() * 2):flip(1)[{{1, 2}}], mg.tensor{2.0 * N, 2.0 * N - 2}))
    assert.equal(N, #y)
  end)

  it("is reduced as if it had been computed", function()
    local x, y = large(), large() - 5
    assert.equal(N * 25, (x - y):square():sum():item())
    assert(same(((x - y):reshape(3, 1000)):sum(2), mg.full({3}, 5000)))
    local late = (x:sin() * y:cos()):sum()
    local a, b = x:sin(), y:cos()
    mg.eval(a, b)
    assert(same((a * b):sum(), late))
    local e = x:sin()
    local s, m, top = e:sum(), e:mean(), e:max()
    mg.eval(s, m, top, e)
    assert(same(e, x:sin()))
    assert(same(s, x:sin():sum()))
    assert(same(m, x:sin():mean()))
    assert(same(top, x:sin():max()))
  end)

  it("keeps the mode and the random numbers of the call", function()
    mg.seed(3)
    local a = mg.rand(N)
    mg.seed(3)
    local b = mg.rand(N) * 1
    mg.seed(4)
    assert(same(b, a))
    local x = mg.Variable(large())
    local y = mg.no_grad(function() return x * 2 end)
    assert.is_nil(y.creator)
    local ones = mg.ones{N, dtype = "int64"}
    local z = mg.using_config("dtype", "float32", function() return ones / 3 end)
    assert.equal("float32", z.dtype)
    assert.is_true(mg.equal(z, mg.full({N}, 1 / 3, "float32")))
  end)

  it("is given up piece by piece when many share it", function()
    local x = mg.Variable(mg.rand(N))
    local ys, sum = {}, 0
    local base = x:exp():sin()
    for i = 1, 100 do
      ys[i] = base * i + x
      sum = sum + ys[i]
    end
    sum:backward()
    local want = mg.Variable(x)
    local again = want:exp():sin() * 5050 + want * 100
    again:backward()
    assert(mg.allclose(sum, again, {rtol = 1e-12}))
    assert(mg.allclose(x.grad, want.grad, {rtol = 1e-12}))
  end)
end)

describe("assign", function()
  helper.guard(before_each, after_each)

  it("gives several leaves new values that are computed from the old ones", function()
    local p, m = mg.Variable(mg.rand(N)), mg.rand(N)
    local old_p, old_m = mg.tensor(p):clone() + 0, m + 0
    mg.eval(old_p, old_m)
    for _ = 1, 3 do
      local m2 = m * 0.9 + p.data * 0.1
      mg.assign({p, m}, {p.data - m2 * 0.01, m2})
      local want = old_m * 0.9 + old_p * 0.1
      old_p, old_m = old_p - want * 0.01, want
      mg.eval(old_p, old_m)
      assert(same(p.data, old_p))
      assert(same(m, old_m))
    end
  end)

  it("swaps", function()
    for _, n in ipairs{3, N} do
      local a, b = mg.range(1, n), mg.range(n, 1, -1)
      mg.assign({a, b}, {b, a})
      assert(same(a, mg.range(n, 1, -1)))
      assert(same(b, mg.range(1, n)))
      mg.assign({a, b}, {b * 1, a * 1})
      assert(same(a, mg.range(1, n)))
    end
  end)

  counts("is in place where nobody else sees the old value", function()
    local p = mg.rand(200000)
    mg.eval(p)
    local before = helper.settle()
    mg.reset_peak()
    for _ = 1, 5 do
      local half <close> = p * 0.5
      local value <close> = half + 1
      half:free()
      mg.assign({p}, {value})
    end
    assert.equal(before, mg.memory().live)
    assert.is_true(mg.memory().peak - before < p.size)
  end)

  it("leaves alone who saw the old value", function()
    local p = mg.rand(N)
    local view, data, pending = p[{{1, N - 1}}], p.data, p + 1
    local want = mg.tensor(p) + 0
    mg.eval(want)
    mg.assign({p}, {p * 0})
    assert(same(view, want[{{1, N - 1}}]))
    assert(same(data, want))
    assert(same(pending, want + 1))
    assert(same(p, mg.zeros(N)))
  end)

  it("converts and checks", function()
    local p = mg.Variable(mg.ones{2, dtype = "float32"})
    mg.assign({p}, {{1, 2}})
    assert(exact(p, {1, 2}))
    assert.equal("float32", p.dtype)
    assert(helper.raises("assign: ", mg.assign, {p}, {mg.ones(3)}))
    assert(helper.raises("assign: 1 targets, but 2 values", mg.assign, {p}, {p, p}))
    assert(helper.raises("has a creator", mg.assign, {p * 2}, {p}))
    assert(exact(p, {1, 2}))
  end)
end)

describe("an index of a number that is pending", function()
  -- It reduces one element: in the program of what the number comes from, only one of all those
  -- elements was computed, and kept as the whole.
  it("is found after it, and what it comes from is whole", function()
    local x = mg.Variable(mg.rand(N) + 0.5)
    for _, op in ipairs{"argmax", "argmin"} do
      for _, test in ipairs{"any", "all", "sum", "max"} do
        local y = x:exp()
        local after = y:tanh() + y    -- so whoever passes y stores it
        local i = mg[op](mg[test](y):to "int64")
        assert.equal(1, i:item(), test)
        assert(same(y, x:clone():exp()))
        assert(same(after, y:tanh() + y))
      end
    end
  end)
end)
