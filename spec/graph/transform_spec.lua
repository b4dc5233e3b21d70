-- Functions made of functions: derivatives of f, checkpoints, and the checks of derivatives.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises

local function f(x) return (x:sin() * x):sum() end
local function slope(v) return math.cos(v) * v + math.sin(v) end
local function bend(v) return 2 * math.cos(v) - math.sin(v) * v end

local AT = {0.5, 1, 2}

local function each(fn)
  local t = {}
  for i, v in ipairs(AT) do t[i] = fn(v) end
  return t
end

describe("grad", function()
  helper.guard(before_each, after_each)

  it("is a function: the gradient of f", function()
    local x = mg.Variable(AT)
    assert(near(mg.grad(f)(x), each(slope)))
    assert(near(mg.grad(f)(mg.tensor(AT)), each(slope)))
    assert(near(mg.grad(function(a) return a ^ 3 end)(2), 12))
    assert.is_nil(x.grad)
  end)

  it("of grad is the second derivative, and so on", function()
    local d = function(a) return a ^ 4 end
    for _, want in ipairs{32, 48, 48, 24, 0} do
      d = mg.grad(d)
      assert(near(d(2), want))
    end
  end)

  it("takes the argument one names, or several", function()
    local g = function(a, b) return (a * b:square()):sum() end
    local a, b = mg.tensor{1, 2}, mg.tensor{3, 5}
    assert(near(mg.grad(g)(a, b), {9, 25}))
    assert(near(mg.grad(g, 2)(a, b), {6, 20}))
    local ga, gb = mg.grad(g, {1, 2})(a, b)
    assert(near(ga, {9, 25}))
    assert(near(gb, {6, 20}))
    assert(near(mg.grad(function(p, q) return (p * q):sum() end, {1, 2})(a, a), {1, 2}))
  end)

  it("is zero for what f does not use", function()
    assert(near(mg.grad(function(a, b) return b:sum() + a:sum() * 0 end)(mg.ones(2), mg.ones(2)),
      {0, 0}))
    assert(near(mg.grad(function() return mg.tensor(1) end)(mg.ones(2)), {0, 0}))
  end)

  it("value_and_grad gives both", function()
    local v, g = mg.value_and_grad(f)(mg.Variable(AT))
    assert(near(v, 0.5 * math.sin(0.5) + math.sin(1) + 2 * math.sin(2)))
    assert(near(g, each(slope)))
  end)

  it("follows the modes: constants stay untracked, tracked arguments do not", function()
    local df = mg.grad(f)
    assert.is_false(df(mg.tensor(AT)).requires_grad)
    assert.is_true(df(mg.Variable(AT)).requires_grad)
    assert.is_false(mg.no_grad(df, mg.Variable(AT)).requires_grad)
    local x = mg.Variable(AT)
    df(x):sum():backward()
    assert(near(x.grad, each(bend)))
  end)

  it("reaches what f captures", function()
    local w = mg.Variable(3.0)
    local g = mg.grad(function(a) return (a:square() * w):sum() end)(mg.tensor{1, 2})
    g:sum():backward()
    assert(near(w.grad, 6))
  end)

  it("grows no graph over constants where f has derivatives by others in it", function()
    local at, ones = mg.tensor(AT), mg.ones(#AT)
    local inner = {
      grad = function(w, x) return mg.grad(function(v) return (w * v):sin():sum() end)(x) end,
      jvp = function(w, x) return mg.mul(mg.jvp(function(v) return (w * v):sin() end, x, ones)) end,
      hvp = function(w, x) return mg.hvp(function(v) return (w * v):sin():sum() end, x, ones) end,
      jacobian = function(w, x) return mg.jacobian(function(v) return (w * v):sin() end, x) end,
    }
    for name, fn in pairs(inner) do
      local df = mg.grad(function(w) return (fn(w, at) ^ 2):sum() end)
      assert.is_false(df(2.0).requires_grad, name)
      assert.is_true(df(mg.Variable(2.0)).requires_grad, name)
    end
    -- a captured point of a derivative further out is no constant
    local w = mg.tensor(2.0)
    local function between(a)
      return mg.grad(function(b)
        return mg.grad(function(c) return (a * b * c):exp() end)(1.0)
      end)(w)
    end
    assert(near(mg.grad(between)(1.0), 11 * math.exp(2), 1e-12))
  end)

  it("refuses what has no gradient", function()
    assert(raises("grad: f must return one number, got shape (3)", function()
      mg.grad(function(a) return a * 2 end)(mg.tensor(AT))
    end))
    assert(raises("grad: f must return a Variable, got number", function()
      mg.grad(function() return 1 end)(mg.tensor(AT))
    end))
    assert(raises("grad: argument 1 is int64", function()
      mg.grad(f)(mg.tensor({1}, "int64"))
    end))
    assert(raises("grad: argnum must be an integer from 1", mg.grad, f, 0))
  end)
end)

describe("gradients", function()
  helper.guard(before_each, after_each)

  it("gives those asked for and leaves .grad alone", function()
    local x, y = mg.Variable{1, 2}, mg.Variable{3, 4}
    local z = (x * y):sum() + x:square():sum()
    local gs = mg.gradients(z, {x, y})
    assert(near(gs[1], {5, 8}))
    assert(near(gs[2], {1, 2}))
    assert.is_nil(x.grad)
    assert.is_false(gs[1].requires_grad)
  end)

  it("may be of what lies between", function()
    local x = mg.Variable{1, 2}
    local h = x:square()
    local gs = mg.gradients((h * h):sum(), {h, x})
    assert(near(gs[1], {2, 8}))
    assert(near(gs[2], {4, 32}))
  end)

  it("can be differentiated with create_graph", function()
    local x = mg.Variable{1, 2}
    local g = mg.gradients((x ^ 3):sum(), {x}, {create_graph = true})[1]
    assert(near(mg.gradients(g:sum(), {x})[1], {6, 12}))
    assert(raises("gradients: ", mg.gradients, g, {x}, {crate_graph = true}))
  end)
end)

describe("products with the jacobian", function()
  helper.guard(before_each, after_each)

  local A = mg.tensor{{1, 2, 0.5}, {-1, 3, 2}}
  local function g(x) return A:matmul(x:square()) end
  local J = {{1, 4, 2}, {-1, 6, 8}}

  it("vjp: y, and a function of its gradient that may be called again", function()
    local y, pull = mg.vjp(g, mg.tensor(AT))
    assert(near(y, {4.25, 10.75}))
    assert(near(pull{1, 0}, J[1]))
    assert(near(pull(mg.tensor{0, 1}), J[2]))
    assert(raises("vjp: gy has shape (3), expected (2)", pull, {1, 2, 3}))
    local gy = mg.Variable{1, 2, 3}                -- passed on as it is, it leads back to gy
    local _, passed = mg.vjp(function(x) return x + 1 end, mg.tensor(AT))
    assert(near(mg.gradients((passed(gy) ^ 2):sum(), gy), {2, 4, 6}))
  end)

  it("take numbers and tables as what they stand for, whatever Config.dtype is", function()
    local x = mg.tensor({1, 2}, "float64")
    local function squared(v) return v * v end
    mg.using_config("dtype", "float32", function()
      assert.same({0.2, 0.8}, select(2, mg.jvp(squared, x, {0.1, 0.2})):totable())
      assert.same({0.2, 0.8}, select(2, mg.vjp(squared, x)){0.1, 0.2}:totable())
      local Hv = mg.hvp(function(v) return squared(v):sum() end, x, {0.1, 0.2})
      assert.same({0.2, 0.4}, Hv:totable())
    end)
  end)

  it("vjp adds up the gradients of a result that stands in several places", function()
    local function twice(x)
      local z = x * 2
      return {z, {z, z}}
    end
    local one, ten = mg.tensor{1, 1}, mg.tensor{10, 20}
    local y, pull = mg.vjp(twice, mg.tensor{1, 2})
    assert(near(y[2][1], {2, 4}))
    assert(near(pull{one, {one, one}}, {6, 6}))
    assert(near(pull{one, {ten, ten}}, {42, 82}))
    local _, shared = mg.vjp(function(x)
      local pair = {x * 2, x * 3}
      return {pair, pair}
    end, mg.tensor{1, 2})
    local both = {one, ten}
    assert(near(shared{both, both}, {64, 124}))
    assert(raises("vjp: gy: [2][1] has shape (), expected (2)", pull, {one, {1, one}}))
  end)

  it("jvp: y, and its tangent", function()
    local y, t = mg.jvp(g, mg.tensor(AT), {1, 0, 2})
    assert(near(y, {4.25, 10.75}))
    assert(near(t, {5, 15}))
    assert(near(select(2, mg.jvp(function(x) return x * 0 + 1 end, 3, 1)), 0))
    for _, fn in ipairs{function(x) return x end, function(x) return x + 1 end} do
      assert(near(select(2, mg.jvp(fn, mg.tensor(AT), {1, 0, 2})), {1, 0, 2}))
    end
    local v = {a = mg.tensor{3, 4}, b = mg.tensor{100, 200}}
    assert(near(select(2, mg.jvp(function(p) return p.a - p.b end, v, v)), {-97, -196}))
    assert(raises("jvp: v has shape (2), expected (3)", mg.jvp, g, mg.tensor(AT), {1, 2}))
  end)

  it("jacobian has y's shape, then x's", function()
    assert(near(mg.jacobian(g, mg.tensor(AT)), J))
    local x = mg.range(1, 6):reshape(2, 3)
    local j = mg.jacobian(function(a) return a:sum(1):exp() end, x / 6)
    assert.same({3, 2, 3}, j.shape)
    assert(near(j:sum{axis = 2}, mg.eye(3) * 2 * mg.exp(x:sum(1) / 6)))
    assert.same({2, 3}, mg.jacobian(f, x).shape)
    assert.same({2, 0, 2, 0}, mg.jacobian(mg.exp, mg.ones(2, 0)).shape)
    assert.same({0, 0}, mg.hessian(function(a) return a:sum() end, mg.ones(0)).shape)
  end)

  it("hessian and hvp agree with each other and with calculus", function()
    local x = mg.Variable(AT)
    assert(near(mg.hessian(f, x), mg.eye(3) * mg.tensor(each(bend))))
    assert(near(mg.hvp(f, x, mg.ones_like(x)), each(bend)))
    local function h(a) return (a[1] ^ 3 * a[2] + a[2] * a[3]:exp()):sin() end
    local v = mg.tensor{0.3, -1, 2}
    local at = mg.tensor{0.5, 0.2, 0.7}
    assert(near(mg.hvp(h, at, v), mg.hessian(h, at):matmul(v)))
    assert(near(mg.hessian(h, at), mg.hessian(h, at).T))
    assert(near(mg.hessian(function(a) return a:sum() end, at), mg.zeros(3, 3)))
  end)

  it("can be differentiated again: by the point, the direction, and what f captures", function()
    local function each_of(x, v, w)
      local function h(a) return (a[1] ^ 3 * a[2] * w + a[2] * a[3]:exp()):sin() end
      local function several(a) return (a * w):tanh() * a end
      return {
        grad = function() return mg.grad(h)(x) end,
        value_and_grad = function() return mg.mul(mg.value_and_grad(h)(x)) end,
        hvp = function() return mg.hvp(h, x, v) end,
        hessian = function() return mg.hessian(h, x) end,
        jacobian = function() return mg.jacobian(several, x) end,
        jvp = function() return mg.mul(mg.jvp(several, x, v)) end,
        vjp = function()
          local y, pull = mg.vjp(several, x)
          return y * pull(v) * pull(v * v)
        end,
        hvp_of_hvp = function()
          return mg.hvp(function(a) return (mg.hvp(h, a, v) * v):sum() end, x, v)
        end,
      }
    end
    local at = {mg.tensor{0.5, 0.2, 0.7}, mg.tensor{0.3, -1, 2}, mg.tensor(1.5)}
    for name in pairs(each_of(table.unpack(at))) do
      assert.is_true(mg.gradcheck(function(...) return each_of(...)[name]() end, at,
        {order = 2}), name)
    end
  end)
end)

describe("checkpoint", function()
  helper.guard(before_each, after_each)

  local function deep(x)
    for _ = 1, 5 do x = (x * 1.1):tanh() + x:sin() end
    return x
  end

  it("has the value and the gradients of what it calls", function()
    local a, b = mg.Variable(AT), mg.Variable(AT)
    local y, want = mg.checkpoint(deep, a), deep(b)
    assert(same(y, want))
    y:sum():backward()
    want:sum():backward()
    assert(same(a.grad, b.grad))
  end)

  it("is twice differentiable", function()
    assert(helper.differentiable(function(x) return mg.checkpoint(deep, x) end, {mg.tensor(AT)}))
  end)

  it("takes several arguments, reaches captured parameters, gives several results", function()
    local w, x = mg.Variable{2, 3}, mg.Variable{5, 7}
    local p, q = mg.checkpoint(function(a, k) return a * w, a * k end, x, 10)
    local sum = (p + q):sum()
    sum:backward()
    assert(exact(x.grad, {12, 13}))
    assert(exact(w.grad, {5, 7}))
  end)

  it("sees the same random numbers again", function()
    mg.seed(1)
    local x = mg.Variable(mg.ones(1000))
    local y = mg.checkpoint(function(a) return mg.dropout(a, 0.5) * a end, x)
    mg.rand(10)
    y:sum():backward()
    assert(exact(x.grad, (y * 2):totable()))
  end)

  it("forgets what is inside until backward", function()
    local x = mg.Variable(mg.rand(50000))
    mg.eval(x)
    local function held(g)
      return (helper.alive(function()
        local y = g(x)
        mg.eval(y)
        return y
      end))
    end
    local kept = held(deep)
    local forgotten = held(function(a) return mg.checkpoint(deep, a) end)
    assert.is_true(forgotten <= 50000 * 8 + 4096)
    assert.is_true(kept > 2 * forgotten)
  end)
end)

describe("checks of derivatives", function()
  helper.guard(before_each, after_each)

  -- Its gradient is wrong: 3 instead of 2
  local wrong = mg.Function{
    name = "wrong",
    forward = function(_, x) return x * 2 end,
    backward = function(_, gy) return gy * 3 end,
  }

  it("numerical_grad is the gradient of the sum", function()
    assert(near(mg.numerical_grad(f, mg.tensor(AT)), each(slope), 1e-7))
    assert(near(mg.numerical_grad(mg.square, mg.tensor(AT)), {1, 2, 4}, 1e-7))
    assert(near(mg.numerical_grad(mg.square, 3), 6, 1e-7))
  end)

  it("refuse steps that are none beside x, or lead beyond the numbers", function()
    for _, eps in ipairs{1e-300, 1e-17} do
      assert(raises(("numerical_grad: eps = %g is too small beside 1"):format(eps),
        mg.numerical_grad, mg.square, 1, {eps = eps}))
      assert(raises(("gradcheck: eps = %g is too small beside 1"):format(eps), mg.gradcheck,
        mg.square, {1}, {eps = eps}))
    end
    assert(raises("numerical_grad: eps = 1e+308 is too large beside 3", mg.numerical_grad,
      mg.square, 3, {eps = 1e308}))
  end)

  it("gradcheck says whether, and where not", function()
    assert.is_true(mg.gradcheck(f, {mg.Variable(AT)}))
    assert.is_true(mg.gradcheck(f, {mg.Variable(AT)}, {order = 2}))
    assert.is_true(mg.gradcheck(mg.mul, {mg.tensor{1, 2}, mg.tensor{3, 4}}, {order = 2}))
    local ok, message = mg.gradcheck(wrong, {mg.tensor(AT)})
    assert.is_false(ok)
    assert.is_truthy(message:find("gradcheck: gradient of input 1 at (1): analytic", 1, true))
  end)

  it("gradcheck takes a function that gives numbers, which depend on nothing", function()
    local x = mg.Variable{1, 2}
    for order = 1, 2 do
      assert.is_true(mg.gradcheck(function() return 1 end, x, {order = order}))
      assert.is_true(mg.gradcheck(function(v) return {1, v * 2} end, x, {order = order}))
      local ok, message = mg.gradcheck(function(v) return v:sum():item() end, x, {order = order})
      assert.is_false(ok)
      assert.is_truthy(message:find("analytic 0, numeric", 1, true))
    end
    assert(near(mg.numerical_grad(function(v) return v:sum():item() end, x), {1, 1}, 1e-7))
  end)

  it("gradcheck sees a wrong second derivative", function()
    local half = mg.Function{
      name = "half",
      forward = function(_, x) return x:square() end,
      backward = function(self, gy) return gy * self.inputs[1]:detach() * 2 end,
    }
    assert.is_true(mg.gradcheck(half, {mg.tensor(AT)}))
    local ok, message = mg.gradcheck(half, {mg.tensor(AT)}, {order = 2})
    assert.is_false(ok)
    assert.is_truthy(message:find("second derivative", 1, true))
  end)

  it("gradcheck needs float64", function()
    assert(raises("gradcheck: input 1 is float32", mg.gradcheck, f,
      {mg.ones{2, dtype = "float32"}}))
    assert(raises("gradcheck: no input is float64", mg.gradcheck, f,
      {mg.ones{2, dtype = "int64"}}))
  end)

  it("the specs' own checks see what is wrong", function()
    assert.is_false((helper.differentiable(wrong, {mg.tensor(AT)})))
    assert.is_true((helper.differentiable(mg.square, {mg.tensor(AT)})))
  end)
end)

describe("mg.hook", function()
  it("shows the gradient on its way back, and passes on what the hook gives", function()
    local x, seen = mg.Variable{1, 2}, nil
    local y = (x ^ 2):hook(function(g) seen = g end) * mg.tensor{3, 4}
    y:sum():backward()
    assert(near(seen, {3, 4}))
    assert(near(x.grad, {6, 16}))
    x:cleargrad()
    x:hook(function(g) return g:clamp{max = 1} end):square():sum():backward()
    assert(near(x.grad, {1, 1}))
  end)

  it("is differentiable again, and adds up all uses before it is called", function()
    local calls = 0
    local g = mg.grad(function(v)
      local y = v:hook(function(gy)
        calls = calls + 1
        return gy * 2
      end)
      return (y ^ 3 + y):sum()
    end)
    assert(near(g(mg.tensor{1, 2}), {8, 26}))
    assert.equal(1, calls)
    assert(near(mg.grad(function(v) return g(v):sum() end)(mg.tensor{1, 2}), {24, 48}))
  end)

  it("is nothing without gradients, and an error where none can come", function()
    local x = mg.Variable{1}
    assert.equal(x, mg.no_grad(mg.hook, x, print))
    assert(raises("hook: nothing is recorded of x", mg.hook, mg.tensor{1}, print))
    assert(raises("hook: backward gave a gradient of shape (3)",
      function() x:hook(function() return mg.ones(3) end):sum():backward() end))
    assert(raises("a Variable has no register_hook; here it is hook: y = y:hook(fn)",
      function() return x.register_hook end))
  end)
end)
