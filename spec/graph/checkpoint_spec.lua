-- Checkpoints: what a function has read is an input, with the value that it had then.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

describe("a checkpoint", function()
  helper.guard(before_each, after_each)

  describe("computes with what was, if it has changed since:", function()
    local changes = {
      ["by data"] = function(v) v.data = v.data * 0 + 100 end,
      ["by assign"] = function(v) mg.assign({v}, {v * 0 + 100}) end,
      ["by an index"] = function(v) if v.ndim > 0 then v[1] = 100 else v.data = 100 end end,
    }
    for name, change in pairs(changes) do
      it(name, function()
        for _, value in ipairs{2.0, {2.0, 3.0}} do
          local function grads(checkpoint)
            local w, x, c = mg.Variable(value), mg.Variable(value), mg.tensor(value)
            local function f(v, k) return (v * w):exp() * c + v:sin() * k end
            local y
            if checkpoint then y = mg.checkpoint(f, x, c) else y = f(x, c) end
            for _, v in ipairs{w, x, c} do change(v) end
            local changed = {w:totable(), x:totable(), c:totable()}
            y:sum():backward()
            assert.same(changed, {w:totable(), x:totable(), c:totable()})
            return x.grad, w.grad
          end
          local gx, gw = grads(true)
          local wx, ww = grads(false)
          assert(helper.same(gx, wx))
          assert(helper.same(gw, ww))
        end
      end)
    end

    it("with create_graph, or says what it lacks", function()
      local w, x = mg.Variable(2.0), mg.Variable(3.0)
      local y = mg.checkpoint(function(v) return v * w end, x)
      w.data = 100
      assert(raises("was given a new value since; create_graph needs the old one", function()
        y:backward{create_graph = true}
      end))
      assert.equal(100, w:item())
      y:backward()
      assert(near(x.grad, 2))
      assert(near(w.grad, 3))
    end)

    it("also requires_grad", function()
      local w, c, x = mg.Variable(2.0), mg.tensor(5.0), mg.Variable(3.0)
      local y = mg.checkpoint(function(v) return v * w * c end, x)
      w.requires_grad, c.requires_grad = false, true
      y:backward()
      assert(near(x.grad, 10))
      assert.is_nil(w.grad)
      assert.is_nil(c.grad)
      assert.same({false, true}, {w.requires_grad, c.requires_grad})
    end)
  end)

  it("leaves behind what its function does to others once, not twice", function()
    local count, mean, x = mg.tensor(0.0), mg.tensor{0, 0}, mg.Variable{1, 2}
    local y = mg.checkpoint(function(v)
      count.data = count + 1
      mean.data = mean * 0.9 + v * 0.1
      return v * mean
    end, x)
    assert.equal(1, count:item())
    y:sum():backward()
    assert.equal(1, count:item())
    assert(near(mean, {0.1, 0.2}))
    assert(near(x.grad, {0.1, 0.2}))
  end)

  it("puts everything back when its function fails the second time", function()
    local w, x, fails = mg.Variable(2.0), mg.Variable(3.0), false
    local y = mg.checkpoint(function(v)
      local z = v * w
      w.data = 7
      if fails then error {code = 7} end
      return z
    end, x)
    assert.equal(7, w:item())
    w.data, fails = 100, true
    local ok, err = pcall(y.backward, y)
    assert.is_false(ok)
    assert.equal(7, err.code)
    assert.equal(100, w:item())
    fails = false
    y:backward()
    assert.equal(100, w:item())
    assert(near(x.grad, 2))
    assert(near(w.grad, 3))
  end)

  it("has what it read as inputs: arguments first, each once", function()
    local w, c, x = mg.Variable{2, 3}, mg.tensor{4, 5}, mg.Variable{6, 7}
    local y = mg.checkpoint(function(a, b) return (a * b * w + c):exp() end, x, x)
    local inputs = y.creator.inputs
    assert.equal(3, #inputs)
    assert(inputs[1] == x and inputs[2] == w and inputs[3] == c)
  end)

  it("is walked by gradients only where it leads to a target", function()
    local runs, w, x, z = 0, mg.Variable(2.0), mg.Variable(3.0), mg.Variable(4.0)
    local function f(v)
      runs = runs + 1
      return v * w
    end
    local y = mg.checkpoint(f, x) * z
    assert(near(mg.gradients(y, z, {retain_graph = true}), 6))
    assert.equal(1, runs)
    assert(near(mg.gradients(y, w, {retain_graph = true}), 12))
    assert.equal(2, runs)
    local g = mg.gradients(y, {x, w, z})
    assert(near(g[1], 8))
    assert(near(g[2], 12))
    assert(raises("leads from y to xs", mg.gradients, mg.checkpoint(f, x), z))
  end)

  it("within another, within a Function, reads the same", function()
    local w, x = mg.Variable(2.0), mg.Variable(3.0)
    local y = mg.checkpoint(function(v)
      return mg.enable_grad(mg.checkpoint, function(u) return (u * w):exp() end, v * 1) * w
    end, x)
    w.data = 0
    y:backward()
    assert(near(x.grad, 4 * math.exp(6)))
    assert(near(w.grad, 7 * math.exp(6)))
  end)

  describe("of nothing tracked", function()
    it("is not recorded", function()
      local c = mg.tensor{1, 2}
      local y = mg.checkpoint(function(v) return v * c end, mg.tensor{3, 4})
      assert.is_nil(y.creator)
      assert(near(y, {3, 8}))
      local z = mg.checkpoint(function() return 3 end)
      assert.equal(3, z:item())
    end)

    it("does not keep what can reach its own result", function()
      for _ = 1, 10 do
        local o = {x = mg.rand(1000)}
        o.y = mg.checkpoint(function(x) return (x + o.x):exp() end, o.x)
        mg.eval(o.y)
      end
    end)

    it("is recorded where a captured one is tracked", function()
      local w = mg.Variable{2, 3}
      local y = mg.checkpoint(function(v) return v * w end, mg.tensor{3, 4})
      y:sum():backward()
      assert(near(w.grad, {3, 4}))
      local same = mg.checkpoint(function() return w end)
      same:sum():backward()
      assert(near(w.grad, {4, 5}))
    end)
  end)

  describe("of a function that captures another Variable by the time of backward", function()
    local function some()
      return mg.Variable{2.0, 3.0}, mg.Variable{0.5, 0.7}
    end

    it("says so, where the gradients would have been the other's", function()
      local w, x = some()
      local now
      local function f(u) return (u * now):sin() end
      local h = x
      for _, p in ipairs{w, mg.Variable{4.0, 5.0}} do
        now = p
        h = mg.checkpoint(f, h)
      end
      assert(raises("read other Variables than when it was called", h.backward, h:sum()))
      assert.is_nil(w.grad)
      now = w
      h = mg.checkpoint(f, x):sum()
      h:backward()
      assert(near(w.grad, {0.5 * math.cos(1), 0.7 * math.cos(2.1)}))
    end)

    it("says so of one made since, of one in a checkpoint within, and of gradients", function()
      local w, x = some()
      local model = {w = w}
      local function f(u)
        return mg.checkpoint(function(z) return z * model.w end, u * 2)
      end
      local y = mg.checkpoint(f, x)
      model.w = mg.Variable{1.0, 1.0}
      assert(raises("read other Variables", mg.gradients, y:sum(), {x}))
      model.w = w
      local d = mg.grad(function(p)
        model.w = p
        local z = mg.checkpoint(f, x:detach())
        model.w = w
        return z:sum()
      end)
      assert(raises("read other Variables", d, w))
    end)

    it("minds none that its results do not depend on, nor a leaf that it makes itself", function()
      local w, x = some()
      local seen, own = mg.tensor(0.0), nil
      local function f(u)
        own = own or mg.Variable{3.0, 4.0}
        seen = seen + (u * w):sum()
        return u * own
      end
      local y = mg.checkpoint(f, mg.checkpoint(f, x)):sum()
      y:backward()
      assert(near(x.grad, {9, 16}))
      assert(near(own.grad, {3, 5.6}))
    end)
  end)

  -- Not with something that takes gradients in the midst of it: such a function is not compared.
  describe("of a function that gives something else by the time of backward", function()
    local it = helper.counting(it) -- luacheck: ignore 431
    local own
    local changes = {
      ["an untracked Variable in a field"] = function() own.mask = mg.tensor{0, 1, 0} end,
      ["a tracked one that became an untracked one"] = function() own.w = mg.rand(3) end,
      ["a number"] = function() own.k = 3 end,
      ["a branch"] = function() own.negative = true end,
      ["all of it, to its negative"] = function() own.sign = -1 end,
    }
    before_each(function()
      own = {mask = mg.tensor{1, 0, 1}, w = mg.Variable{1, 2, 3}, k = 2, sign = 1,
             W = mg.rand(3, 3)}
    end)
    after_each(function() own = nil end)
    local function f(x)
      local y = (x:matmul(own.W) * own.mask * own.k * own.w):exp() * own.sign
      return y, own.negative and y:neg() or y * 2
    end

    for name, change in pairs(changes) do
      it("says so: " .. name, function()
        local x = mg.Variable(mg.rand(4, 3))
        local y, z = mg.checkpoint(f, x)
        local loss = (y * 2 + z):sum()
        change()
        assert(raises("gave another result", loss.backward, loss, {retain_graph = true}))
        assert(raises("gave another result", mg.gradients, loss, x))
        assert.is_nil(x.grad)
      end)
    end

    it("says so within another, and in one of many parts", function()
      local x = mg.Variable(mg.rand(400, 300))
      local k, at = mg.rand(300), 17
      local function g(v) return v:cumsum(1) * (k * 1):index_select(1, mg.tensor({at}, "int64")) end
      for _, outer in ipairs{g, function(v) return mg.checkpoint(g, v) * 2 end} do
        at = 17
        local y = mg.checkpoint(outer, x)
        at = 18
        assert(raises("gave another result 1 than when it was called", y.backward, y))
        at = 17
        y:backward()
      end
    end)

    it("says so of a single number", function()
      local x, k = mg.Variable(mg.rand(4, 3)), 1
      local y = mg.checkpoint(function(v) return v:matmul(own.W):sum() * k end, x)
      k = 1.001
      assert(raises("gave another result", y.backward, y))
    end)

    -- They have other bits where they are recorded, and what is left of them may be rounding alone.
    it("compares none where gradients are taken within", function()
      local w = mg.tensor{0.3, 0.5, 0.9}
      local function g(v)
        return mg.grad(function(u) return mg.layer_norm(u, {3}, w, w):square():sum() end)(v)
      end
      for i = 1, 10 do
        local x = mg.Variable{1, 2 + i / 7, 4}
        local known = g(x):detach()
        local function residual(v) return (g(v) - known) * 1e9 end
        local function outer(v) return mg.checkpoint(residual, v) end
        mg.checkpoint(i % 2 == 0 and residual or outer, x):sum():backward()
        assert(near(x.grad * 1e-9, mg.grad(function(v) return (g(v) - known):sum() end)(x)))
      end
    end)

    it("minds no rounding where that is all there is: rows of that hessian add up to 0", function()
      for _ = 1, 10 do
        local x, w = mg.Variable(mg.randn(3)), mg.randn(3)
        local y = mg.checkpoint(function(v)
          return mg.hessian(function(u)
            return mg.layer_norm(u, {3}, w, w):square():mean()
          end, v):sum(1)
        end, x)
        y:sum():backward()
      end
    end)

    it("minds no rounding of prod, which has other bits where it is recorded", function()
      local W = mg.tensor{{0.7, 0.3, 0.9}, {0.6, 1.1, 0.2}, {0.4, 0.8, 1.3}}
      for i = 1, 40 do
        local x = mg.Variable{{1 + i / 7, 0.9, 1.7}, {0.3, 2 + i / 11, 1.9}}
        local function rows(v) return v:matmul(W):prod(2) end
        local known = rows(x:detach())
        mg.checkpoint(function(v) return rows(v) - known end, x):sum():backward()
        assert(near(x.grad, mg.grad(function(v) return rows(v):sum() end)(x)))
      end
    end)

    it("minds neither what was made anew nor what its results do not depend on", function()
      local x, calls, seen = mg.Variable(mg.rand(4, 3)), 0, 0
      local y = mg.checkpoint(function(v)
        calls = calls + 1
        local u, p = f(v)
        seen = seen + u:detach():sum()
        return u, p:prod(2), calls
      end, x)
      own.mask = mg.tensor{1, 0, 1}
      y:sum():backward()
      assert.equal(2, calls)
      assert(near(x.grad, mg.grad(function(v) return (f(v)):sum() end)(x)))
    end)
  end)

  it("has the same bits whatever has been collected", function()
    local function gradient(seed, collects)
      mg.seed(seed)
      local w, b = mg.Variable(mg.rand(3, 3)), mg.Variable(mg.rand(3))
      local x, scale = mg.Variable(mg.randn(3, 3)), mg.Variable(mg.randn(3, 3))
      local function layer(v) return mg.linear(v, w, b) end
      local y = mg.checkpoint(function(v) return layer(layer(v):tanh()) end, x:matmul(scale))
      local g = mg.gradients(y:square():sum(), {x}, {create_graph = true})[1]
      local loss = g:square():sum()
      if collects then collectgarbage() end
      loss:backward()
      return b.grad:tobytes()
    end
    finally(function() collectgarbage "restart" end)
    collectgarbage "stop"
    for seed = 1, 20 do assert.is_true(gradient(seed) == gradient(seed, true)) end
  end)

  it("may give numbers beside its results", function()
    local x = mg.Variable{2.0, 3.0}
    local y, n = mg.checkpoint(function(v) return v:square(), 7 end, x)
    assert.equal(7, n:item())
    y:sum():backward()
    assert(near(x.grad, {4, 6}))
  end)

  it("has many results", function()
    local w = mg.Variable(0.5)
    for _, n in ipairs{20, 50, 200} do
      local s, hs = 0, {mg.checkpoint(function(x)
        local out = {}
        for i = 1, n do out[i] = x * w * i end
        return table.unpack(out)
      end, mg.Variable(2.0))}
      for i = 1, n do s = s + hs[i] end
      w:cleargrad()
      s:backward()
      assert.equal(n * (n + 1), w.grad:item())
      collectgarbage()
    end
  end)

  it("has many inputs", function()
    local ws, sum = {}, 0
    for i = 1, 500 do ws[i] = mg.Variable(i) end
    local y = mg.checkpoint(function(x)
      local s = x
      for _ = 1, 3 do
        for _, w in ipairs(ws) do s = s + w * x end
      end
      return s
    end, mg.Variable(2.0))
    y:backward()
    for _, w in ipairs(ws) do sum = sum + w.grad:item() end
    assert.equal(3000, sum)
  end)
end)

-- The same random program with checkpoints, nested ones too, and without; values change in between.
describe("checkpoints in random programs", function()
  helper.guard(before_each, after_each)

  local Pair = mg.Function{
    forward = function(_, a, b) return a * b, a + b end,
    backward = function(self, p, q)
      local a, b = self.inputs[1], self.inputs[2]
      return p * b + q, p * a + q
    end,
  }
  local turns = {
    function(x, w) return x * w end,
    function(x, _, c) return (x + c):tanh() end,
    function(x) return mg.dropout(x, 0.3) end,
    function(x, w) return select(math.random(2), Pair(x, w)) end,
    function(x, _, c) return x[{{3, 1, -1}}] * c end,
    function(x, w) return x * w:sum() end,
    function(x, w) return x / (w:square() + 1) end,
    function(x, w) return x * w.data:sin() end,
  }

  local function program(seed, checkpoint)
    math.randomseed(seed)
    mg.seed(seed)
    local leaves, consts = {}, {mg.rand(3), mg.tensor(0.5), mg.Variable(0.7)}
    for i = 1, 4 do leaves[i] = mg.Variable(mg.rand(3)) end
    local block
    local function checkpointed(depth, x)          -- draws the same blocks each time it is run
      local own = math.random(1 << 30)
      return checkpoint(function(u)
        local outer = math.random(1 << 30)
        math.randomseed(own)
        local y = block(depth, u)
        math.randomseed(outer)
        return y
      end, x)
    end
    function block(depth, x)
      for _ = 1, math.random(3) do
        local turn = turns[math.random(#turns + 1)]
        if turn then x = turn(x, leaves[math.random(4)], consts[math.random(3)])
        elseif depth < 2 then x = checkpointed(depth + 1, x) end
      end
      return x
    end
    local v, changed = {table.unpack(leaves)}, false
    for _ = 1, 5 do
      v[#v + 1] = checkpointed(0, v[math.random(#v)])
      if math.random() < 0.3 then
        local t = ({leaves[math.random(4)], table.unpack(consts)})[math.random(4)]
        if math.random() < 0.5 then t.data = t * 1.7 else mg.assign({t}, {t + 0.1}) end
        changed = true
      end
    end
    local y = 0
    for i = 5, #v do y = y + (v[i] * i):sum() end
    local out, create = {y:detach()}, not changed
    local function keep(g) out[#out + 1] = g and g:detach() or false end
    local xs = {leaves[1], leaves[3], consts[3], v[6]}
    local g = mg.gradients(y, xs, {allow_unused = true, create_graph = create, retain_graph = true})
    local sum = 0
    for i = 1, 4 do
      keep(g[i])
      if g[i] then sum = sum + g[i]:square():sum() end
    end
    if create and mg.is_variable(sum) and sum.requires_grad then
      local h = mg.gradients(sum, leaves, {allow_unused = true, retain_graph = true})
      for i = 1, 4 do keep(h[i]) end
    end
    y:backward()
    for i = 1, 4 do
      keep(leaves[i].grad)
      keep(leaves[i])
    end
    return out
  end

  it("change nothing", function()
    for seed = 1, 100 do
      local a = program(seed, mg.checkpoint)
      local b = program(seed, function(f, ...) return f(...) end)
      assert.equal(#b, #a)
      for i = 1, #a do                             -- it depends on what it read, if by 0
        if not b[i] then assert(not a[i] or a[i]:eq(0):all():item())
        else assert(near(a[i], b[i], 1e-11)) end
      end
    end
    for _ = 1, 8 do collectgarbage() end           -- one round for each checkpoint in another
  end)
end)
