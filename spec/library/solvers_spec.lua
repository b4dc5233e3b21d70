-- mg.odeint, mg.minimize, mg.root: against closed forms, and their gradients.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

describe("mg.odeint", function()
  helper.guard(before_each, after_each)

  local A = {{-0.1, 2}, {-2, -0.1}}
  local function spiral(t)
    local e = 2 * math.exp(-0.1 * t)
    return {e * math.cos(2 * t), -e * math.sin(2 * t)}
  end

  it("follows a spiral, forwards and backwards, to the tolerances asked for", function()
    local M = mg.tensor(A)
    local function f(_, y) return M:matmul(y) end
    for _, last in ipairs{5, -5} do
      local times, wanted = mg.linspace(0, last, 41), {}
      for i, t in ipairs(times:totable()) do wanted[i] = spiral(t) end
      for _, tol in ipairs{1e-4, 1e-7, 1e-10} do
        local y, info = mg.odeint(f, mg.tensor{2, 0}, times, {rtol = tol, atol = tol})
        assert.equal("(41, 2)", tostring(y.shape))
        assert(near(y, wanted, 20 * tol, 20 * tol))
        assert.is_true(info.steps > 5 and info.evaluations >= 6 * info.steps)
      end
    end
    local y, info = mg.odeint(f, mg.tensor{2, 0}, {0, 3})
    assert(near(y[2], spiral(3), 1e-6))
    assert.is_true(info.steps < 100)
  end)

  it("has methods of orders 5, 4, 2, 1", function()
    local function wrong(method, step)
      local y = mg.odeint(function(t, y) return math.cos(t) * y end, 1.0, {0, 2},
        {method = method, step = step})
      return math.abs(y[2]:item() - math.exp(math.sin(2)))
    end
    for method, order in pairs{rk4 = 4, midpoint = 2, euler = 1} do
      local ratio = wrong(method, 0.1) / wrong(method, 0.05)
      assert.is_true(math.abs(math.log(ratio, 2) - order) < 0.5)
    end
    assert.is_true(wrong("rk4", 0.01) < 1e-9)
    local one = mg.odeint(function(_, y) return y end, 1.0, {0, 0.5}, {method = "euler"})
    assert.equal(1.5, one[2]:item())
  end)

  it("has the gradients of the solution, with checkpoints or without", function()
    local function check(opts, tol)
      local k, y0 = mg.Variable(0.5), mg.Variable(1.5)
      local y = mg.odeint(function(t, y) return -k * y + t end, y0, {0, 1, 2}, opts)
      assert.is_true(y.requires_grad)
      y[-1]:backward()
      -- y = t / k - 1 / k^2 + (y0 + 1 / k^2) e^(-k t)
      local e = math.exp(-1)
      assert(near(y[-1], 0 + 5.5 * e, tol))
      assert(near(y0.grad, e, tol))
      assert(near(k.grad, -2 / 0.25 + 2 / 0.125 - 2 / 0.125 * e - 2 * 5.5 * e, tol))
    end
    for _, checkpoint in ipairs{false, true} do
      check({checkpoint = checkpoint, rtol = 1e-9, atol = 1e-10}, 1e-7)
      check({checkpoint = checkpoint, method = "rk4", step = 0.05}, 1e-6)
    end
    assert(mg.gradcheck(function(k, y0)
      return (mg.odeint(function(_, y) return -k * y * y end, y0, {0, 0.3, 1},
        {method = "rk4", step = 0.25, checkpoint = true}))
    end, {mg.tensor(0.5), mg.tensor{1.0, 2.0}}, {order = 2}))
  end)

  it("begins at its first time, checkpointed", function()
    local k = mg.Variable(0.5)
    local grads = {}
    for i, checkpoint in ipairs{false, true} do
      local y = mg.odeint(function(t, y) return -k * t * y end, 1.0, {1, 2},
        {checkpoint = checkpoint, rtol = 1e-3, step = 0.5})
      grads[i] = mg.gradients(y[2], k)
    end
    assert(near(grads[2], grads[1]:totable(), 1e-15))
  end)

  it("takes slopes and times of any size", function()
    for _, dtype in ipairs{"float32", "float64"} do
      local y = mg.odeint(function(_, v) return -1e15 * v end, mg.ones{1, dtype = dtype},
        {0, 1e-15})
      assert(near(y[2], {math.exp(-1)}, 1e-4))
    end
    local y = mg.odeint(function(_, v) return -1e200 * v end, mg.ones(1), {0, 1e-200},
      {method = "rk4", step = 1e-202})
    assert(near(y[2], {math.exp(-1)}, 1e-9))
    assert(raises("odeint: the times must rise, or fall, but time 3 is 0 after 1e-200", mg.odeint,
      function(_, v) return v end, mg.ones(1), {0, 1e-200, 0}))
  end)

  it("keeps only the ends of steps, checkpointed", function()
    local function bytes(checkpoint)
      local W = mg.Variable(mg.eye(50))
      return (helper.alive(function()
        return mg.odeint(function(_, y) return W:matmul(y):tanh() end, mg.ones(50, 50), {0, 1},
          {method = "rk4", step = 0.05, checkpoint = checkpoint}), W
      end))
    end
    assert.is_true(bytes(true) < bytes(false) / 4)
  end)

  it("takes trees, and untracked states give untracked solutions", function()
    local y = mg.odeint(function(_, s) return {x = s.v, v = -s.x} end,
      {x = mg.tensor{1, 0}, v = mg.zeros(2)}, {0, math.pi / 2, math.pi})
    assert(near(y.x[2], {0, 0}, 0, 1e-6))
    assert(near(y.v[2], {-1, 0}, 0, 1e-6))
    assert(near(y.x[3], {-1, 0}, 0, 1e-6))
    assert.is_false(y.x.requires_grad)
    local z = mg.odeint(function(_, v) return -v end, mg.ones{2, dtype = "float32"}, {0, 1})
    assert.equal("float32", z.dtype)
    assert(near(z[2], {math.exp(-1), math.exp(-1)}, 1e-5))
  end)

  it("takes slopes that are numbers as the state has them, whatever Config.dtype is", function()
    mg.using_config("dtype", "float32", function()
      local y = mg.odeint(function() return 0.1 end, mg.zeros{1, dtype = "float64"}, {0, 1},
        {method = "euler"})
      assert.equal(0.1, y[2]:item())
    end)
  end)

  it("lets parts of a state that begin as one Variable go their ways", function()
    local z = mg.Variable{1, 2}
    local function turn(_, s) return {x = s.v, v = -s.x} end
    for _, checkpoint in ipairs{false, true} do
      local y = mg.odeint(turn, {x = z, v = z}, {0, math.pi / 2}, {checkpoint = checkpoint})
      assert(near(y.x[2], {1, 2}, 0, 1e-6))
      assert(near(y.v[2], {-1, -2}, 0, 1e-6))
      assert(near(mg.gradients(y.x[2]:sum(), z), {1, 1}, 0, 1e-6))
    end
    local pair = {0, 1}
    local y = mg.odeint(function(_, s) return {s[2], {1, 0}} end, {pair, pair}, {0, 1})
    assert.is_near(0.5, y[1][1][2]:item(), 1e-6)
    assert.is_near(1, y[2][1][2]:item(), 1e-6)
  end)

  it("says what it cannot do", function()
    local function f(_, y) return y end
    assert(raises("odeint: time 1 is ", mg.odeint, f, 1.0, {0 / 0, 1}))
    assert(raises("odeint: time 2 is inf", mg.odeint, f, 1.0, {0, 1 / 0}))
    assert(raises("the times must rise, or fall, but time 3 is 1 after 2", mg.odeint, f, 1.0,
      {0, 2, 1}))
    assert(raises("there are no times", mg.odeint, f, 1.0, {}))
    assert(raises("the times are tracked", mg.odeint, f, 1.0, mg.Variable{0, 1}))
    assert(raises("max_steps = 3 are taken", mg.odeint, f, 1.0, {0, 50}, {max_steps = 3}))
    assert(raises("the steps become too small at t =", mg.odeint,
      function(_, y) return y * y end, 1.0, {0, 2}))
    assert(raises("f gave shape (2) for a state of shape (3)", mg.odeint,
      function() return mg.ones(2) end, mg.ones(3), {0, 1}))
    assert(raises("f's result: .b is missing", mg.odeint, function() return {a = 1} end,
      {a = 1.0, b = 1.0}, {0, 1}))
    assert(raises("the state is int64", mg.odeint, f, mg.ones{1, dtype = "int64"}, {0, 1}))
    assert(raises("unknown option rtoll", mg.odeint, f, 1.0, {0, 1}, {rtoll = 1}))
  end)
end)

describe("mg.minimize", function()
  helper.guard(before_each, after_each)

  local function rosenbrock(x)
    local a, b = x[{ {1, #x - 1} }], x[{ {2, #x} }]
    return (100 * (b - a ^ 2) ^ 2 + (1 - a) ^ 2):sum()
  end

  it("finds the bottom of a curved valley", function()
    for _, method in ipairs{"L-BFGS", "Newton-CG"} do
      for _, n in ipairs{2, 10} do
        local x, info = mg.minimize(rosenbrock, mg.full({n}, -1.2), {method = method})
        assert.is_true(info.converged)
        assert.is_true(info.value < 1e-14 or n == 10 and info.value < 4)
        assert.is_true(info.gradient <= 1e-8 and info.iterations < 200)
        if info.value < 1 then assert(near(x, mg.ones(n), 1e-6)) end
        assert.is_false(x.requires_grad)
      end
    end
  end)

  it("knows slopes whose squares are no float32", function()
    for _, method in ipairs{"L-BFGS", "Newton-CG"} do
      for _, scale in ipairs{1, 1e18} do
        local x, info = mg.minimize(function(x)
          return ((x - mg.tensor({1, 2}, "float32")) ^ 2 * mg.tensor({scale, 3 * scale}, "float32"))
            :sum()
        end, mg.zeros{2, dtype = "float32"}, {method = method})
        assert(near(x, {1, 2}, 1e-6))
        assert.is_true(info.converged)
      end
    end
  end)

  it("takes trees and numbers, and gives them back", function()
    local x = mg.minimize(function(p) return ((p.a - 1) ^ 2):sum() + (p.list[1] + 3) ^ 2 end,
      {a = mg.zeros(2, 2), list = {5}})
    assert(near(x.a, mg.ones(2, 2), 1e-7))
    assert(near(x.list[1], -3, 1e-7))
    assert(near(mg.minimize(function(v) return v:cosh() end, 3.0, {method = "Newton-CG"}), 0, 0,
      1e-7))
    local f32 = mg.minimize(function(v) return ((v - 2) ^ 2):sum() end,
      mg.zeros{3, dtype = "float32"})
    assert.equal("float32", f32.dtype)
    assert(near(f32, {2, 2, 2}, 1e-6))
  end)

  it("fits what captures nothing but data, as least squares do", function()
    mg.seed(4)
    local X, t = mg.rand(30, 4), mg.rand(30)
    local wanted = mg.lstsq(X, t:reshape(30, 1))
    for _, method in ipairs{"L-BFGS", "Newton-CG"} do
      local w = mg.minimize(function(w) return ((X:matmul(w) - t) ^ 2):sum() end, mg.zeros(4),
        {method = method})
      assert(near(w, wanted:reshape(4), 1e-7))
    end
  end)

  it("says how it ended", function()
    local _, info = mg.minimize(rosenbrock, mg.zeros(5), {max_iter = 3})
    assert.same({false, 3, "max_iter is reached"},
      {info.converged, info.iterations, info.message})
    local seen = 0
    _, info = mg.minimize(rosenbrock, mg.zeros(5), {callback = function(x, value, i)
      seen = seen + 1
      assert.equal(5, #x)
      assert.is_true(value > 0 and i == seen)
      return i < 4
    end})
    assert.same({4, "the callback said so"}, {seen, info.message})
    _, info = mg.minimize(function(x) return ((x - 1e8) ^ 4):sum() + 1e20 end, mg.zeros(2),
      {tol = 0})
    assert.is_truthy(info.message:find "as far as numbers can tell" or info.converged)
    for _, method in ipairs{"L-BFGS", "Newton-CG"} do   -- there is no least value
      for _, f in ipairs{mg.sum, function(x) return (x ^ 3):sum() end,
        function(x) return -x:exp():sum() end} do
        _, info = mg.minimize(f, mg.tensor{-1.2, 1}, {method = method})
        assert.is_false(info.converged)
      end
    end
    assert(raises("minimize: what f gave does not depend on its argument", mg.minimize,
      function() return mg.tensor(1) end, mg.zeros(2)))
    assert(raises("minimize: f gave shape (2), expected", mg.minimize, mg.square, mg.ones(2)))
    assert(raises("minimize: f is nan where it starts", mg.minimize, mg.log, -1.0))
    assert(raises("minimize: f is inf where it starts", mg.minimize, function(x)
      return x:cosh():log()
    end, 1e3))
    for _, none in ipairs{{}, mg.zeros(0)} do
      assert(raises("minimize: argument 2 has no elements", mg.minimize, mg.sum, none))
      assert(raises("root: argument 2 has no elements", mg.root, mg.sin, none))
    end
    assert(raises("minimize: argument 2: .a is int64", mg.minimize, mg.square,
      {a = mg.ones{2, dtype = "int64"}}))
  end)
end)

describe("mg.root", function()
  helper.guard(before_each, after_each)

  it("finds where functions are zero", function()
    local x, info = mg.root(function(x) return x ^ 2 - 2 end, 1.0)
    assert(near(x, math.sqrt(2), 1e-15))
    assert.is_true(info.residual < 1e-15 and info.iterations < 10)
    local p = mg.root(function(p) return {p.a + p.b - 3, p.a * p.b - 2} end, {a = 0.5, b = 4})
    assert(near(p.a, 1, 1e-12))
    assert(near(p.b, 2, 1e-12))
    assert(near(mg.root(mg.atan, 3.0), 0, 0, 1e-12))        -- plain Newton runs away from there
    mg.seed(2)
    local B, c = mg.eye(5) * 4 + mg.rand(5, 5), mg.rand(5)
    local y = mg.root(function(v) return B:matmul(v) + v:sin() - c end, mg.zeros(5))
    assert(near(B:matmul(y) + y:sin(), c, 1e-12))
    assert.equal(3, mg.root(function(v) return v - 3 end, 3.0):item())
    -- a first step that leaves less in all, but more in one place
    local W, b = mg.tensor{{-0.7, 0.05}, {0, 0.42}}, mg.tensor{0.72, -0.31}
    local z = mg.root(function(v) return v + W:matmul(v):tanh() - b end, mg.zeros(2))
    assert(near(z + W:matmul(z):tanh(), b, 1e-14))
  end)

  it("depends on what f captures as the implicit function theorem says", function()
    local g = mg.grad(function(a) return (mg.root(function(x) return x ^ 2 - a end, 1.0)) end)
    local g2 = mg.grad(g)
    assert(near(g(2.0), 0.5 / math.sqrt(2), 1e-13))
    assert(near(g2(2.0), -0.25 * 2 ^ -1.5, 1e-13))
    assert(near(mg.grad(g2)(2.0), 3 / 8 * 2 ^ -2.5, 1e-12))
    assert(mg.gradcheck(function(B, c)
      return (mg.root(function(v) return B:matmul(v) + v:sin() - c end, mg.zeros(2)))
    end, {mg.tensor{{4.0, 1}, {0.5, 3}}, mg.tensor{1.0, 2}}, {order = 2}))
    assert.is_false(mg.root(function(x) return x - 1 end, 0.0).requires_grad)
  end)

  it("says where it fails", function()
    assert(raises("root: no step makes |f| less than", mg.root,
      function(x) return x ^ 2 + 1 end, 0.7))
    assert(raises("root: |f| is still", mg.root, function(x) return x ^ 3 end, 1.0, {max_iter = 3}))
    assert(raises("root: f gave 2 elements for an x of 1", mg.root,
      function(x) return mg.stack{x, x} end, 1.0))
    assert(raises("root: f is nan where it starts", mg.root, mg.log, -1.0))
    assert(raises("singular", mg.root, function(x) return x ^ 2 + 1 end, 0.0))
    for _, f in ipairs{function() return mg.tensor(2.0) end, function(x) return x:item() - 1 end,
                       function(x) return {x:detach() + 1} end} do
      assert(raises("root: what f gave does not depend on its argument", mg.root, f, 2.0))
    end
  end)
end)
