-- backward: its order, what it adds up, drops and releases, and what it does when it fails.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

-- x as it is; `log` gets the name when a gradient passes.
local function logged(log, name, x)
  return mg.Function{
    name = name,
    forward = function(_, v) return v + 0 end,
    backward = function(_, gy)
      log[#log + 1] = name
      return gy
    end,
  }(x)
end

describe("backward", function()
  helper.guard(before_each, after_each)

  describe("order", function()
    it("takes the highest generation first", function()
      local log, x = {}, mg.Variable(1.0)
      local c = logged(log, "c", logged(log, "b", logged(log, "a", x)))
      local d = logged(log, "d", x)                -- younger than c, but of generation 0
      local y = d + c
      y:backward()
      assert.same("cb", log[1] .. log[2])
      assert.same("da", log[3] .. log[4])          -- a tie: the youngest first
      assert.equal(2, x.grad:item())
    end)

    it("takes each Function once, when all of its gradient is there", function()
      local log, x = {}, mg.Variable(3.0)
      local a = logged(log, "a", x)
      local y = (a * a) * a + logged(log, "b", a) * a
      y:backward()
      assert.same({"b", "a"}, log)
      assert.equal(3 * 9 + 2 * 3, x.grad:item())
    end)

    it("is not exponential in a ladder of diamonds", function()
      local x = mg.Variable(1.0)
      local y = x
      for _ = 1, 60 do y = y + y end
      y:backward()
      assert.equal(2.0 ^ 60, x.grad:item())
    end)
  end)

  describe("adds up", function()
    it("gradients of a variable used several times", function()
      local x = mg.Variable(3.0)
      local y = x + x + x
      y:backward()
      assert.equal(3, x.grad:item())
    end)

    it("into what x.grad holds already", function()
      local x = mg.Variable{1, 2}
      x.grad = mg.tensor{100, 100}
      mg.square(x):backward()
      assert(near(x.grad, {102, 104}))
      mg.square(x):backward()
      assert(near(x.grad, {104, 108}))
      x:cleargrad()
      assert.is_nil(x.grad)
    end)

    it("the gradients of many branches", function()
      local x, sum = mg.Variable{1, 2}, 0
      for i = 1, 1000 do sum = sum + x * i end
      sum:backward()
      assert(near(x.grad, {500500, 500500}))
    end)

    it("nothing into constants and frozen leaves", function()
      local x, c, frozen = mg.Variable(2.0), mg.tensor(3.0), mg.Variable(4.0)
      frozen.requires_grad = false
      local y = x * c * frozen
      y:backward()
      assert.equal(12, x.grad:item())
      assert.is_nil(c.grad)
      assert.is_nil(frozen.grad)
    end)
  end)

  it("goes where it went when the op was called, whatever requires_grad is by then", function()
    local x, c = mg.Variable{1, 2}, mg.tensor{3, 4}
    local y = x * c
    c.requires_grad = true
    y:backward()
    assert(near(x.grad, {3, 4}))
    assert.is_nil(c.grad)
  end)

  it("never gives two leaves one gradient", function()
    local a, b = mg.Variable{1, 2}, mg.Variable{3, 4}
    local y = a + b
    y:backward()
    a.grad[1] = 50
    assert(near(a.grad, {50, 1}))
    assert(near(b.grad, {1, 1}))

    local g = mg.tensor{5, 5}
    a:cleargrad()
    y = a + 0
    y.grad = g
    y:backward()
    a.grad[2] = 7
    assert(near(g, {5, 5}))
  end)

  it("refuses a gradient that leads back to its own Variable", function()
    local a, b, c = mg.Variable{1}, mg.Variable{2}, mg.Variable{3}
    a.grad, b.grad = b, c
    for _, x in ipairs{a, b, c} do
      assert(raises("grad: this Variable itself, or one whose grad leads back to it", function()
        c.grad = x
      end))
    end
  end)

  it("has the same second derivatives whatever was collected of what hooks saw", function()
    local Same = mg.Function{name = "same", forward = function(_, x) return x * 1 end,
      backward = function(_, gy) return gy end}
    -- in the midst of the first backward, once f has seen its gradient
    local function second(seed, f, collects)
      mg.seed(seed)
      local a, b = mg.Variable(mg.randn(4, 4)), mg.Variable(mg.randn(4, 4))
      local x = f(a + b)
      local y = b:hook(function() if collects then collectgarbage() end end)
      y = (y * y):tanh()
      ;((y * y * 5):sum() + (x * x):sum()):backward{create_graph = true}
      local ga, gb = a.grad, b.grad
      a:cleargrad()
      b:cleargrad()
      ;((ga * ga):sum() + (gb * gb):sum()):backward()
      return a.grad:tobytes() .. b.grad:tobytes()
    end
    finally(function() collectgarbage "restart" end)
    collectgarbage "stop"
    for _, f in ipairs{Same, function(v) return v:hook(function() end) end,
      function(v) return v:hook(function(g) return g * 2 end) end} do
      for seed = 1, 20 do assert.is_true(second(seed, f) == second(seed, f, true)) end
    end
  end)

  describe("of a broadcast leaf has the same bits whatever has been collected, where it", function()
    -- f(w) reads w once; two more readers are dead, and may be there still.
    local function gradient(seed, f, is_result, collects)
      mg.seed(seed)
      local w, m, x, gw = mg.randn(5), mg.randn(5, 7), mg.randn(7, 7), mg.randn(5)
      local _, pull = mg.vjp(function(v)
        local y = mg.linear(x, m, v):tanh():sum() + (f(v) * 2):sin():sum()
        local function die() return v * 2, v:sin() end
        die()
        if collects then collectgarbage() end
        return is_result and {y, v} or {y}
      end, w)
      return pull(is_result and {mg.tensor(1.0), gw} or {mg.tensor(1.0)}):tobytes()
    end

    local function same_bits(f, is_result)
      finally(function() collectgarbage "restart" end)
      collectgarbage "stop"
      for seed = 1, 20 do
        assert.is_true(gradient(seed, f, is_result) == gradient(seed, f, is_result, true))
      end
    end

    it("is a result too", function() same_bits(function(w) return w * 3 end, true) end)

    it("is read by an index, piece by piece", function()
      local at = mg.tensor({2, 1, 2, 2, 5, 5, 5, 5, 4}, "int64")
      same_bits(function(w) return w[at] end)
      same_bits(function(w) return w:gather(1, at) end)
      same_bits(function(w) return (w:cummax(1)) end)
    end)

    it("is read by a range, even the sign of a zero", function()
      local c = mg.tensor{{1, 1, 1, 1, -0.0}}
      local function sign(collects)
        local w = mg.Variable{1, 2, 3, 4, 5}
        local y = (w:broadcast_to(1, 5) * c):sum() + w[{ {1, 2} }]:sum()
        local function die() return w * 2, w:sin() end
        die()
        if collects then collectgarbage() end
        return 1 / mg.gradients(y, {w})[1][5]:item()
      end
      finally(function() collectgarbage "restart" end)
      collectgarbage "stop"
      assert.equal(sign(), sign(true))
    end)
  end)

  it("of a leaf adds ones to its gradient", function()
    local x = mg.Variable{1, 2}
    x:backward()
    assert(near(x.grad, {1, 1}))
    x:backward()
    assert(near(x.grad, {2, 2}))
    x.grad = mg.tensor{2, 3}
    x:backward()
    assert(near(x.grad, {3, 4}))
  end)

  it("of what records nothing is an error that says why", function()
    local x = mg.Variable{1, 2}
    local unchained = x * 2
    unchained:unchain()
    for _, y in ipairs{mg.tensor{1, 2}, mg.no_grad(function() return x * 2 end), x:detach():sum(),
                       unchained, x:to "int64":to "float64", mg.tensor{1}:exp()} do
      assert(raises("backward: nothing was recorded of this Variable", y.backward, y))
    end
    assert(raises("backward: nothing is recorded of x.data", function() x.data:backward() end))
    assert(raises("backward: gradients need floats, this Variable is bool", function()
      x:gt(1):backward()
    end))
    assert(raises("backward: gradients need floats, this Variable is int64", function()
      x:to "int64":backward()
    end))
    local y = mg.tensor{1, 2}
    y.grad = mg.ones(2)
    assert(raises("backward: nothing was recorded", y.backward, y))
    assert.is_nil(x.grad)
  end)

  it("refuses options it does not know", function()
    local y = mg.Variable(1.0) + 1
    assert(raises("backward: unknown option retain_grads", function()
      y:backward{retain_grads = true}
    end))
    assert(raises("backward", function() y:backward{retain_grad = 1} end))
    assert(raises("backward", function() y:backward "yes" end))
  end)

  describe("releases", function()
    local released = "backward: this graph was released by an earlier backward; " ..
      "pass retain_graph = true to the first"

    it("what it has used: a second backward is an error", function()
      local x = mg.Variable(3.0)
      local y = mg.square(x)
      y:backward()
      assert(raises(released, function() y:backward() end))
      assert.equal(6, x.grad:item())
    end)

    it("nothing with retain_graph", function()
      local x = mg.Variable(3.0)
      local y = mg.square(x):exp()
      y:backward{retain_graph = true}
      local once = x.grad:item()
      y:backward()
      assert(near(2 * once, x.grad))
      assert(raises(released, function() y:backward() end))
    end)

    it("a part that two results share", function()
      local x = mg.Variable(2.0)
      local a = x:exp()
      local y, z = a * 2, a * 3
      y:backward()
      assert(raises(released, function() z:backward() end))
    end)

    it("not the skeleton", function()
      local x = mg.Variable(2.0)
      local a = x:exp()
      local y = a * a
      y:backward()
      assert.equal("mul", y.creator.name)
      assert.equal(x, y.creator.inputs[1].creator.inputs[1])
      y:unchain_backward()
      assert.is_nil(a.creator)
    end)
  end)

  describe("create_graph", function()
    it("gives gradients that can be differentiated: Newton's method", function()
      local x = mg.Variable(2.0)
      for _ = 1, 10 do
        local y = x ^ 4 - 2 * x ^ 2
        x:cleargrad()
        y:backward{create_graph = true}
        local gx = x.grad
        x:cleargrad()
        gx:backward()
        x.data = x.data - gx.data / x.grad.data
      end
      assert.equal(1, x:item())
    end)

    it("gives a gradient that is a tracked leaf itself, and leads back to it", function()
      local x, W = mg.Variable{1, 2}, mg.Variable{3, 4}
      local times = mg.Function{name = "times", forward = function(_, v) return v * W.data end,
        backward = function() return W end}
      times(x):backward{create_graph = true}
      assert(near(mg.gradients((x.grad ^ 2):sum(), W), {6, 8}))
      local y = x + 1
      x:cleargrad()
      y.grad = W
      y:backward{create_graph = true}
      assert(near(mg.gradients((x.grad ^ 2):sum(), W), {6, 8}))
      x:cleargrad()
      times(x):backward()
      assert.is_false(x.grad.requires_grad)
      x.grad[1] = 7
      assert(near(W, {3, 4}))
    end)

    it("again and again: the fifth derivative of tanh", function()
      local x = mg.Variable{-1.5, 0, 0.3, 2}
      local g = x:tanh()
      for _ = 1, 5 do
        x:cleargrad()
        g:backward{create_graph = true}
        g = x.grad
      end
      local t = x.data:tanh()
      assert(near(g.data, (1 - t ^ 2) * (120 * t ^ 4 - 120 * t ^ 2 + 16)))
    end)

    it("gives the gradients of the Goldstein-Price function", function()
      local x, y = mg.Variable(1.0), mg.Variable(1.0)
      local z =
        (1 + (x + y + 1)^2 * (19 - 14*x + 3*x^2 - 14*y + 6*x*y + 3*y^2)) *
        (30 + (2*x - 3*y)^2 * (18 - 32*x + 12*x^2 + 48*y - 36*x*y + 27*y^2))
      z:backward{create_graph = true}
      assert.same({-5376.0, 8064.0}, {x.grad:item(), y.grad:item()})
    end)

    it("leaves gradients without a creator when it is not asked for", function()
      local x = mg.Variable(2.0)
      mg.square(x):backward()
      assert.is_nil(x.grad.creator)
      assert.is_false(x.grad.requires_grad)
    end)

    it("retains the graph, unless told otherwise", function()
      local x = mg.Variable(2.0)
      local y = x ^ 3
      y:backward{create_graph = true}
      y:backward{create_graph = true, retain_graph = false}
      assert.equal(24, x.grad:item())
      assert.has_error(function() y:backward() end)
    end)
  end)

  describe("that fails", function()
    local function failing(err, x)
      return mg.Function{
        name = "failing",
        forward = function(_, v) return v * 1 end,
        backward = function() error(err) end,
      }(x)
    end

    it("adds nothing to anybody's gradient", function()
      local a, b, c = mg.Variable{1, 2}, mg.Variable{3, 4}, mg.Variable(1.0)
      b.grad = mg.tensor{7, 7}
      local held = b.grad
      local last = failing("no", c)                -- the oldest of generation 0
      local product = a * b
      local y = product:sum() + last
      assert.has_error(function() y:backward{retain_grad = true} end)
      assert.is_nil(a.grad)
      assert.is_nil(c.grad)
      assert.is_nil(product.grad)
      assert.is_nil(y.grad)
      assert.equal(held, b.grad)
      assert(near(b.grad, {7, 7}))
    end)

    it("raises the very error, and leaves the modes as they were", function()
      local err = {code = 7}
      local y = failing(err, mg.Variable(1.0)) * 2
      for _, create in ipairs{false, true} do
        local ok, got = pcall(y.backward, y, {create_graph = create, retain_graph = true})
        assert.is_false(ok)
        assert.is_true(rawequal(err, got))
        assert.is_true(mg.Config.enable_backprop)
      end
    end)

    it("does not spoil the next one", function()
      local x = mg.Variable{1, 2}
      local y = failing("no", x) + x * 3
      assert.has_error(function() y:backward() end)
      local z = (x * 3):sum()
      z:backward()
      assert(near(x.grad, {3, 3}))
    end)
  end)

  describe("unchain", function()
    it("makes a leaf of a variable", function()
      local x = mg.Variable(2.0)
      local a = x * 3
      local y = a * a
      a:unchain()
      assert.is_nil(a.creator)
      assert.equal(0, a.generation)
      assert.equal(6, a:item())
      y:backward()
      assert.is_nil(x.grad)
    end)

    it("backward: all before y forget their creators, y does not", function()
      local x = mg.Variable(2.0)
      local a = x * 3
      local b = a + 1
      local y = b * b
      y:unchain_backward()
      assert.is_nil(a.creator)
      assert.is_nil(b.creator)
      assert.is_truthy(y.creator)
      x:unchain_backward()                         -- of a leaf: nothing to do
    end)

    it("backward cuts a recurrence into pieces", function()
      local inputs = {0.1, -0.2, 0.3, 0.4}
      local w, h = mg.Variable(0.5), mg.Variable(1.0)
      for t, u in ipairs(inputs) do
        h = (w * h + u):tanh()
        if t % 2 == 0 then
          local loss = h * 1
          loss:backward()
          loss:unchain_backward()
          assert.is_nil(h.creator)
        end
      end
      -- the same by hand: the gradient goes through two steps at most
      local function tanh(z) return 1 - 2 / (math.exp(2 * z) + 1) end
      local grad, state = 0, 1.0
      for t = 1, 4, 2 do
        local h1 = tanh(0.5 * state + inputs[t])
        local h2 = tanh(0.5 * h1 + inputs[t + 1])
        grad = grad + (1 - h2 ^ 2) * (h1 + 0.5 * (1 - h1 ^ 2) * state)
        state = h2
      end
      assert(near(w.grad, grad))
    end)
  end)

  describe("within backward", function()
    it("nothing is unchained", function()
      local x, y = mg.Variable{1, 2}, nil
      local function cut(v)
        if y then y:unchain_backward() end
        return v * 2
      end
      local Cut = mg.Function{forward = function(_, v) return v * 2 end,
                              backward = function(_, g) return cut(g) end}
      for _, f in ipairs{Cut, function(v) return mg.checkpoint(cut, v) end} do
        y = nil
        y = f(x * 3):sum()
        assert(raises("unchain_backward: not while a backward runs", y.backward, y))
        assert.is_nil(x.grad)
      end
      y = nil -- the graph holds `cut`, which holds y
    end)

    it("is a backward of its own", function()
      local Cube = mg.Function{
        name = "cube",
        forward = function(_, x) return x ^ 3 end,
        backward = function(self, gy)
          local v = mg.Variable(self.inputs[1])
          mg.enable_grad(function() (v ^ 3):backward() end)
          return gy * v.grad
        end,
      }
      local x = mg.Variable{1, 2}
      local y = Cube(x * 2) + x
      y:backward()
      assert(near(x.grad, {2 * 3 * 4 + 1, 2 * 3 * 16 + 1}))
    end)

    it("may reach variables that the outer one is about to", function()
      local x = mg.Variable{1, 2}
      local Meddling = mg.Function{
        forward = function(_, v) return v * 1 end,
        backward = function(_, gy)
          mg.enable_grad(function() (x * 100):backward() end)
          return gy
        end,
      }
      local y = Meddling(x) + x * 5                -- x has a part of its gradient by then
      y:backward()
      assert(near(x.grad, {106, 106}))
    end)
  end)

  describe("after x.data = v", function()
    it("is still right: Functions keep the values they were given", function()
      for _, v in ipairs{3.0, {3.0, 4.0}, mg.rand(1000)} do
        local x = mg.Variable(v)
        local old = x:clone():detach()
        local y = x * x
        x.data = x.data + 10
        y:backward()
        assert(near(x.grad, 2 * old))
        assert(near(x, old + 10))
      end
    end)

    it("or x[i] = v, or assign, too, be it computed by then or not", function()
      for _, write in ipairs{
        function(x) x[1] = 100 end,
        function(x) mg.assign({x}, {x * 5}) end,
        function(x) x.data = x + x end,
      } do
        local x = mg.Variable(mg.rand(5000))
        local old = mg.tensor(x:totable())
        local view, y = x:reshape(50, 100), x:exp()
        write(x)
        y:sum():backward()
        assert.is_false(mg.equal(x, old))
        assert(near(y, old:exp()))
        assert(near(x.grad, old:exp()))
        assert(near(view:reshape(5000), old))
      end
    end)

    it("refuses create_graph, which would need a variable that is gone", function()
      for _, v in ipairs{3.0, {3.0, 4.0}} do
        local x = mg.Variable(v)
        local y = x:exp() * x
        x.data = x.data + 10
        assert(raises("backward: ", function() y:backward{create_graph = true} end))
        assert(raises("new value", function() y:backward{create_graph = true} end))
        assert.is_nil(x.grad)
      end
    end)

    it("minds only values that are read", function()
      local x = mg.Variable(3.0)
      local y = x + 1
      x.data = 10
      y:backward{create_graph = true}
      assert.equal(1, x.grad:item())
    end)
  end)

  describe("through long and wide graphs", function()
    it("needs no stack for a million Functions, nor does letting go of them", function()
      local x = mg.Variable(1.0)
      local y = x
      for _ = 1, 1000000 do y = y * 1.0 end
      assert.equal(1000000, y.generation)
      y:backward()
      assert.equal(1, x.grad:item())
    end)

    it("computes expressions that grow too long", function()
      local x = mg.Variable(mg.zeros(5000))
      local y = x
      for _ = 1, 20000 do y = y + 1 end
      y:sum():backward()
      assert(near(x.grad, mg.ones(5000)))
      assert(near(y[1], 20000))
    end)

    it("takes thousands of inputs", function()
      local xs = {}
      for i = 1, 2000 do xs[i] = mg.Variable{i} end
      local y = mg.cat(xs, 1):square():sum()
      y:backward()
      for i, x in ipairs(xs) do assert.equal(2 * i, x.grad:item()) end
    end)

    it("needs no C stack for Functions written in Lua", function()
      local Same = mg.Function{
        forward = function(_, x) return x * 1 end,
        backward = function(_, gy) return gy end,
      }
      local x = mg.Variable(1.0)
      local y = x
      for _ = 1, 10000 do y = Same(y) end
      y:backward()
      assert.equal(1, x.grad:item())
    end)
  end)
end)
