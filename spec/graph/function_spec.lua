-- Functions written in Lua, and checkpoints.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

local Swish = mg.Function{
  name = "swish",
  forward = function(_, x) return x * mg.sigmoid(x) end,
  backward = function(self, gy)
    local x = self.inputs[1]
    local s = mg.sigmoid(x)
    return gy * (s + x * s * (1 - s))
  end,
}

-- sum and product of two
local Both = mg.Function{
  name = "both",
  forward = function(_, a, b) return a + b, a * b end,
  backward = function(self, gs, gp)
    local a, b = self.inputs[1], self.inputs[2]
    return gs + gp * b, gs + gp * a
  end,
}

describe("a Function written in Lua", function()
  helper.guard(before_each, after_each)

  it("is called as an op, and recorded as one", function()
    local x = mg.Variable{-1, 0, 1}
    local y = Swish(x)
    assert(near(y, mg.silu(x)))
    assert.equal("swish", y.creator.name)
    assert.equal(x, y.creator.inputs[1])
    assert.equal(1, y.generation)
  end)

  it("has the gradient that its backward says, at every order", function()
    assert(helper.differentiable(Swish, {mg.tensor{-2, -0.5, 0, 1, 3}}))
    assert(helper.differentiable(function(a, b)
      local s, p = Both(a, b)
      return s * p
    end, {mg.tensor{1, 2}, mg.tensor{3, -4}}))
  end)

  it("gets untracked values, and gives tracked ones", function()
    local seen
    local Look = mg.Function{
      forward = function(_, x)
        seen = {x.requires_grad, x.creator, mg.Config.enable_backprop, (x * 2).creator}
        return x * 2
      end,
      backward = function(_, gy) return gy * 2 end,
    }
    local y = Look(mg.Variable(3.0) * 1)
    assert.same({false, nil, false, nil}, seen)
    assert.is_true(y.requires_grad)
    assert.is_true(mg.Config.enable_backprop)
  end)

  it("may return its input, which stays another Variable", function()
    local Same = mg.Function{
      forward = function(_, x) return x end,
      backward = function(_, gy) return gy * 10 end,
    }
    local x = mg.Variable{1, 2}
    local y = Same(x)
    assert.is_true(y ~= x)
    y:backward()
    assert(near(x.grad, {10, 10}))
  end)

  it("gets zeros for an output that nobody used", function()
    local a, b = mg.Variable(2.0), mg.Variable(5.0)
    local s = Both(a, b)
    s:backward()
    assert.same({1.0, 1.0}, {a.grad:item(), b.grad:item()})
    a:cleargrad()
    b:cleargrad()
    local _, p = Both(a, b)
    p:backward()
    assert.same({5.0, 2.0}, {a.grad:item(), b.grad:item()})
  end)

  it("gets zeros of the shape and dtype of such an output", function()
    local seen
    local Two = mg.Function{
      forward = function(_, x) return x:sum(), x:to("float32"):reshape(1, 3) end,
      backward = function(_, gs, gr)
        seen = {gs.shape, gr.shape, gr.dtype}
        return gs + gr:reshape(3):to("float64")
      end,
    }
    local x = mg.Variable{1, 2, 3}
    local s = Two(x)
    s:backward()
    assert.same({{}, {1, 3}, "float32"}, seen)
    assert(near(x.grad, {1, 1, 1}))
  end)

  it("waits for the gradients of all its outputs", function()
    local calls = 0
    local Split = mg.Function{
      forward = function(_, x) return x * 2, x * 3 end,
      backward = function(_, ga, gb)
        calls = calls + 1
        return ga * 2 + gb * 3
      end,
    }
    local x = mg.Variable(1.0)
    local a, b = Split(x)
    local y = a:exp():log() + b
    y:backward()
    assert.equal(1, calls)
    assert(near(x.grad, 5))
  end)

  it("takes numbers and tables, which need no gradient", function()
    local x = mg.Variable{1, 2}
    local s, p = Both(x, 3)
    assert(near(s, {4, 5}))
    p:backward()
    assert(near(x.grad, {3, 3}))
    local _, q = Both({10, 20}, x)
    x:cleargrad()
    q:backward()
    assert(near(x.grad, {10, 20}))
  end)

  it("hands on what is no Variable as it is, and asks no gradient of it", function()
    local seen, inputs
    local function scale(backward)
      return mg.Function{
        name = "scale",
        forward = function(self, ...)
          seen, self.how = {n = select("#", ...), ...}, select(2, ...)
          return seen[1] * seen[3] + (seen[5] or 0)
        end,
        backward = function(self, g)
          inputs = self.inputs
          assert.equal("by", self.how)
          return backward(g)
        end,
      }
    end
    local options, x, b = {eps = 1, rows = {2, 2}}, mg.Variable{1, 2}, mg.Variable{5, 6}
    for _, backward in ipairs{
      function(g) return g * 3, g end,                                -- of the Variables
      function(g) return g * 3, nil, nil, nil, g end,                 -- of all arguments
    } do
      x:cleargrad()
      b:cleargrad()
      local y = scale(backward)(x, "by", 3, options, b)
      assert.equal("by", seen[2])
      assert.equal("integer", math.type(seen[3]))
      assert.is_true(rawequal(options, seen[4]))
      assert(near(y, {8, 12}))
      assert.equal(2, #y.creator.inputs)
      y:backward()
      assert(near(x.grad, {3, 3}))
      assert(near(b.grad, {1, 1}))
      assert.is_true(x == inputs[1] and b == inputs[5])
      assert.same({"by", 3, options}, {inputs[2], inputs[3], inputs[4]})
    end
    scale(function(g) return g * 3 end)(x, "by", 3, nil, false)      -- forward gets all of them
    assert.same({5, false}, {seen.n, seen[5]})
    local few = scale(function(g) return g, g end)(x, "by", 3)
    assert(raises("scale: backward gave 2 gradients for 1 input", few.backward, few))
    local none = scale(function() return nil, nil, nil, nil, 1 end)(x, "by", 3, nil, b)
    assert(raises("scale: backward gave a nil as gradient of input 1", none.backward, none))
  end)

  it("makes the first of numbers alone, and lists of numbers, Variables", function()
    local kinds
    local Kinds = mg.Function{forward = function(_, ...)
      kinds = {}
      for i = 1, select("#", ...) do kinds[i] = math.type((select(i, ...))) or "other" end
      return (...) * 2
    end}
    assert.equal(4, Kinds(2.0):item())
    assert.same({"other"}, kinds)
    assert.equal(4, Kinds(2.0, 3):item())
    assert.same({"other", "integer"}, kinds)
    assert(near(Kinds({{1, 2}}, 3.5), {{2, 4}}))
    assert.same({"other", "float"}, kinds)
  end)

  it("may give numbers for results and gradients", function()
    local Steps = mg.Function{
      forward = function(_, x) return math.floor(x:item()) end,
      backward = function() return 1 end,
    }
    local x = mg.Variable(2.7)
    local y = Steps(x)
    assert.equal(2, y:item())
    y:backward()
    assert.equal(1, x.grad:item())
  end)

  it("keeps on self what forward put there, until its graph is released", function()
    local kept = setmetatable({}, {__mode = "v"})
    local Scale = mg.Function{
      forward = function(self, x)
        self.factor = {7}
        kept[1] = self.factor
        return x * 7
      end,
      backward = function(self, gy) return gy * self.factor[1] end,
    }
    local x = mg.Variable(1.0)
    local y = Scale(x)
    helper.settle()
    assert.is_truthy(kept[1])
    y:backward()
    assert.equal(7, x.grad:item())
    helper.settle()
    assert.is_nil(kept[1])
    Scale(x)
    helper.settle()
    assert.is_nil(kept[1])
  end)

  it("raises where what its self keeps was changed: nothing is read that is not there", function()
    local changes = {
      [": it has no input 2"] = function(all, key)
        for i = 1, 5 do all[i] = key end
        all.n = 5
      end,
      ["as gradient of input 6"] = function(all) all[1], all.n = 2, 5 end,
      ["gave 5 gradients for 1 input"] = function(all) all.n = -5 end,
    }
    for text, change in pairs(changes) do
      local Odd = mg.Function{
        forward = function(self, x)
          for key, all in pairs(self) do change(all, key) end
          return x * 2
        end,
        backward = function(_, gy) return gy, 1, 1, 1, 1 end,
      }
      local y = Odd(mg.Variable{1, 2}, "no Variable"):sum()
      assert(helper.raises(text, y.backward, y))
    end
  end)

  it("is one self a call", function()
    local Power = mg.Function{
      forward = function(self, x)
        self.n = self.n and self.n + 1 or 1
        return x ^ self.n
      end,
      backward = function(self, gy) return gy * self.n end,
    }
    local x = mg.Variable(2.0)
    local a, b = Power(x), Power(x)
    assert.same({2.0, 2.0}, {a:item(), b:item()})
  end)

  it("gets tables that are no data as they are, whatever stands in them", function()
    local ring, deep, seen = {}, {1}, nil
    ring[1] = ring
    for _ = 1, 300000 do deep = {deep} end
    local Take = mg.Function{
      forward = function(_, x, ...)
        seen = {...}
        return x * 2
      end,
      backward = function(_, gy) return gy * 2, 0 end,
    }
    local x = mg.Variable(3.0)
    Take(x, ring, deep, {{{{{{{{7}}}}}}}}):backward()
    assert.is_true(seen[1] == ring and seen[2] == deep)
    assert.equal(8, seen[3].ndim)
    assert.equal(2, x.grad:item())
  end)

  it("records nothing where nothing is tracked", function()
    assert.is_nil(Swish(mg.tensor{1, 2}).creator)
    assert.is_nil(mg.no_grad(Swish, mg.Variable{1, 2}).creator)
  end)

  it("reads the values that its inputs had", function()
    local x = mg.Variable{1, 2}
    local _, p = Both(x, x)
    x.data = {100, 200}
    p:backward{retain_graph = true}
    assert(near(x.grad, {2, 4}))
    assert(raises("both: input 1 was given a new value since", function()
      p:backward{create_graph = true}
    end))
  end)

  describe("is to blame, by name, for", function()
    local function bad(forward, backward)
      return mg.Function{name = "bad", forward = forward, backward = backward}
    end
    local function same(_, x) return x * 1 end

    it("a missing forward or backward", function()
      assert(raises("bad: its forward is a nil", function() bad()(mg.Variable(1.0)) end))
      local y = bad(same)(mg.Variable(1.0))
      assert(raises("bad: its backward is a nil", function() y:backward() end))
    end)

    it("results that are none", function()
      assert(raises("bad: forward returned nothing", bad(function() end), mg.Variable(1.0)))
      assert(raises("bad: result 1 of forward is a string", bad(function() return "x" end),
        mg.Variable(1.0)))
    end)

    it("keys that nobody reads", function()
      assert(raises("Function: unknown option bakward; did you mean backward?", mg.Function,
        {forward = same, bakward = same}))
      assert(raises("Function: unknown option scale", mg.Function, {forward = same, scale = 2}))
      assert(raises("Function: option forward is a number, expected a function", mg.Function,
        {forward = 3}))
    end)

    it("Variables in a table, whose gradients would be lost", function()
      local x = mg.Variable(1.0)
      assert(raises("bad: argument 2 is a table with a Variable in it", bad(same), x, {x}))
      assert(raises("bad: argument 2 is a table with a Variable in it", bad(same), x, {w = x}))
      assert.equal(1, bad(same)(x, {mg.tensor(2)}):item())
    end)

    it("gradients of the wrong number", function()
      local two = function(_, a, b) return a + b end
      for count, backward in pairs{
        [0] = function() end,
        [1] = function(_, g) return g end,
        [3] = function(_, g) return g, g, g end,
      } do
        local a, b = mg.Variable(1.0), mg.Variable(2.0)
        local y = bad(two, backward)(a, b)
        assert(raises(("bad: backward gave %d gradient"):format(count), y.backward, y))
        assert.is_nil(a.grad)
      end
    end)

    it("gradients of the wrong shape or kind", function()
      local x = mg.Variable{1, 2}
      local y = bad(same, function(_, g) return g:sum() end)(x)
      assert(raises("bad: backward gave a gradient of shape () for input 1 of shape (2)",
        y.backward, y))
      local z = bad(same, function() return nil end)(x)
      assert(raises("bad: backward gave a nil as gradient of input 1", z.backward, z))
    end)

    it("not for what is thrown inside: that comes out as it is", function()
      local err = {code = 7}
      local ok, got = pcall(bad(function() error(err) end), mg.Variable(1.0))
      assert.is_false(ok)
      assert.is_true(rawequal(err, got))
      assert.is_true(mg.Config.enable_backprop)
      local y = bad(same, function() error(err) end)(mg.Variable(1.0))
      ok, got = pcall(y.backward, y)
      assert.is_false(ok)
      assert.is_true(rawequal(err, got))
      assert.is_true(mg.Config.enable_backprop)
    end)
  end)

  it("keeps its inputs while a backward inside another goes through it", function()
    local depth, y, x = 0, nil, mg.Variable{1, 2}
    local F = mg.Function{
      forward = function(_, a) return a * a end,
      backward = function(self, gy)
        depth = depth + 1
        if depth == 1 then
          mg.enable_grad(function() mg.gradients(y, x, {retain_graph = true}) end)
        end
        return gy * self.inputs[1] * 2
      end,
    }
    y = F(x):sum()
    y:backward{retain_graph = true}
    assert.equal(2, depth)
    assert(helper.near(x.grad, {2, 4}))
    y:unchain()                                    -- F holds y
  end)

  it("keeps no inputs where its backward fails: they may lead back to it", function()
    local fails = false
    local F = mg.Function{forward = function(_, v) return v * v end, backward = function(self, gy)
      if fails then error "here" end
      return gy * self.inputs[1] * 2
    end}
    local x = mg.Variable(mg.rand(100))
    local y = F(x)
    ;(y * y):sum():backward{create_graph = true}
    fails = true
    local slope = x.grad:sum()
    assert.is_false(pcall(slope.backward, slope))
  end)                                             -- the guard sees that nothing stays alive

  it("must be made from a table", function()
    assert(raises("Function: argument 1 is a number, expected a table", mg.Function, 3))
  end)
end)

describe("checkpoint", function()
  helper.guard(before_each, after_each)

  local function f(x, w) return (x * w):tanh():exp():square() end

  it("gives the same results and gradients", function()
    local a, b = mg.Variable{0.1, 0.2}, mg.Variable{3, 4}
    local c, d = mg.Variable(a), mg.Variable(b)
    local y, z = f(a, b), mg.checkpoint(f, c, d)
    assert(helper.same(y.data, z.data))
    assert.equal("checkpoint", z.creator.name)
    y:backward()
    z:backward()
    assert(helper.same(a.grad, c.grad))
    assert(helper.same(b.grad, d.grad))
  end)

  it("can be differentiated twice", function()
    assert(helper.differentiable(function(x, w) return mg.checkpoint(f, x, w) end,
      {mg.tensor{0.1, -0.2}, mg.tensor{0.3, 0.4}}))
  end)

  it("can stand inside another", function()
    assert(helper.differentiable(function(x, w)
      return mg.checkpoint(function(u) return mg.checkpoint(f, u, w):sin() end, x)
    end, {mg.tensor{0.1, -0.2}, mg.tensor{0.3, 0.4}}))
  end)

  it("reaches parameters that the function captures", function()
    local w, x = mg.Variable{2, 3}, mg.tensor{1, 10}
    mg.checkpoint(function(v) return v * w end, x):backward()
    assert(near(w.grad, {1, 10}))
    local u = mg.Variable{1, 1}
    w:cleargrad()
    mg.checkpoint(function(v) return v * w * w end, u):backward()
    assert(near(w.grad, {4, 6}))
    assert(near(u.grad, {4, 9}))
  end)

  it("reaches captured Variables that others use too, however they were made", function()
    local Twice = mg.Function{forward = function(_, v) return v * 2 end,
                              backward = function(_, g) return g * 2 end}
    for name, g in pairs{
      plain = function(v, h) return v * h end,
      ["with other dtypes"] = function(v, h) return v * h:to("float32"):to("float64") end,
      ["as it is"] = function(_, h) return h end,
      ["by a Function"] = function(v, h) return Twice(h) + v end,
      ["by a checkpoint inside"] = function(v, h)
        return mg.checkpoint(function(u) return u * h end, v:exp())
      end,
      ["by one that is recorded"] = function(v, h)
        return mg.enable_grad(mg.checkpoint, function(u) return u * h end, v)
      end,
    } do
      local grads = {}
      for i, call in ipairs{function(fn, ...) return fn(...) end, mg.checkpoint} do
        local x, w = mg.Variable{0.1, 0.2}, mg.Variable{0.3, 0.4}
        local h = w:exp():sin():cos():tanh() -- of a higher generation than x
        local y = call(function(v) return g(v, h) end, x)
        local loss = (y + 3 * h):sum()
        loss:backward{retain_grad = true}
        grads[i] = {x.grad or false, w.grad, h.grad}
      end
      for i, grad in ipairs(grads[1]) do
        assert(grad and near(grad, grads[2][i]) or grad == grads[2][i], name)
      end
    end
  end)

  it("draws the same random numbers again, and disturbs no others", function()
    mg.seed(5)
    local x = mg.Variable(mg.ones(1000))
    local y = mg.checkpoint(function(v) return mg.dropout(v, 0.5) end, x)
    mg.rand(10)
    local state = mg.get_rng_state()
    y:backward()
    assert(helper.same(x.grad, y.data))
    assert.same(state, mg.get_rng_state())
  end)

  it("runs in the modes it had", function()
    local x = mg.Variable(mg.ones(100))
    local y = mg.test_mode(mg.checkpoint, function(v) return mg.dropout(v, 0.5) end, x)
    y:backward()
    assert(near(x.grad, mg.ones(100)))
  end)

  it("takes other arguments and gives several results", function()
    local x = mg.Variable{1, 2}
    local a, b = mg.checkpoint(function(n, v, t) return v * n, v * t.k end, 3, x, {k = 5})
    local y = a + 10 * b
    y:backward()
    assert(near(x.grad, {53, 53}))
  end)

  it("runs its function once more for a backward, and not at all without one", function()
    local calls = 0
    local function g(v)
      calls = calls + 1
      return v:exp()
    end
    local x = mg.Variable(1.0)
    mg.no_grad(mg.checkpoint, g, x)
    assert.equal(1, calls)
    local y = mg.checkpoint(g, x)
    assert.equal(2, calls)
    y:backward()
    assert.equal(3, calls)
  end)

  it("keeps nothing but its arguments", function()
    local bytes = 8 * 2 ^ 17
    local function kept(call)
      local x = mg.Variable(mg.rand(2 ^ 17))
      mg.eval(x)
      return (helper.alive(function()
        local y = call(function(v) return v:exp():exp():exp():exp() end, x)
        mg.eval(y)
        return y
      end)) // bytes
    end
    assert.equal(4, kept(function(g, x) return g(x) end))
    assert.equal(1, kept(mg.checkpoint))
  end)

  it("lets errors through, of the first run and of the second", function()
    local err, calls = {code = 7}, 0
    local function g(v)
      calls = calls + 1
      if calls ~= 2 then error(err) end
      return v * 1
    end
    local x = mg.Variable(1.0)
    local ok, got = pcall(mg.checkpoint, g, x)
    assert.is_false(ok)
    assert.is_true(rawequal(err, got))
    local y = mg.checkpoint(g, x)
    ok, got = pcall(y.backward, y)
    assert.is_false(ok)
    assert.is_true(rawequal(err, got))
    assert.is_nil(x.grad)
    assert.is_true(mg.Config.enable_backprop)
  end)
end)
