-- Trees: tables of Variables wherever a transform takes a Variable, and what functions give beside.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises

local function loss(p, x) return (p.W * x + p.b):sum() end

describe("a tree that is a module", function()
  it("stays one for gradients; derivatives of other shapes are tables", function()
    local l = mg.nn.Linear(3, 1)
    local function squares(m) return m(mg.ones(2, 3)):square():sum() end
    local g = mg.grad(squares)(l)
    assert.equal("Linear(3, 1)", tostring(g))
    local J = mg.jacobian(function(m) return m(mg.ones(2, 3)) end, l)
    assert.is_nil(getmetatable(J))
    assert.same({2, 1, 1, 3}, J.weight.shape)
    local H = mg.hessian(squares, mg.nn.Sequential(l))
    assert.is_nil(getmetatable(H))
    assert.same({1, 3, 1, 3}, H[1].weight[1].weight.shape)
    assert.equal(3, mg.tree_map(function(p) return p.size end, l).weight)
  end)
end)

describe("trees", function()
  helper.guard(before_each, after_each)

  it("of parameters have gradients of their form", function()
    local p = {W = mg.tensor{2, 3}, b = mg.tensor{1.0}}
    local v, g = mg.value_and_grad(loss)(p, mg.tensor{3, 4})
    assert(near(v, 20))
    assert(near(g.W, {3, 4}))
    assert(near(g.b, {2}))
    local function deep(t) return (t[1].a * t[2] * t.layers[1].w):sum() end
    local t = {{a = mg.Variable{1, 2}}, 3, layers = {{w = mg.tensor{5, 7}}}}
    g = mg.grad(deep)(t)
    assert(near(g[1].a, {15, 21}))
    assert(near(g[2], 19))
    assert(near(g.layers[1].w, {3, 6}))
    assert.equal(3, t[2])
    local gp, gx = mg.grad(loss, {1, 2})(p, mg.tensor{3, 4})
    assert(near(gp.W, {3, 4}))
    assert(near(gx, {2, 3}))
  end)

  it("that are modules have gradients in one like it", function()
    local net = mg.nn.Sequential(mg.nn.Linear(2, 3), mg.tanh, mg.nn.Linear(3, 1))
    local x = mg.rand(5, 2)
    local function f(m) return m(x):square():sum() end
    local g = mg.no_grad(mg.grad(f), net)
    assert.is_nil(net[1].weight.grad)
    f(net):backward()
    assert(helper.same(g[1].weight, net[1].weight.grad))
    assert(helper.same(g[3].bias, net[3].bias.grad))
    assert.equal(4, #mg.tree_leaves(net))
    local before = f(net):item()
    local stepped = mg.tree_map(function(p, dp) return p.data - 1e-3 * dp end, net, g)
    assert.equal(before, f(net):item())
    assert(f(stepped):item() < before)
    local function decayed(m)
      local sum = 0
      for p in m:parameters() do sum = sum + p:square():sum() end
      return sum
    end
    assert(near(mg.grad(decayed)(net)[3].weight, (2 * net[3].weight):totable()))
    assert(raises("grad: argument 1: [1] is a table without parameters yet", mg.grad(f),
      mg.nn.Sequential(mg.nn.Linear(3))))
  end)

  it("may have one Variable in several places: it stays one", function()
    local w = mg.Variable{1, 2}
    local p = {a = w, b = {w}}
    local g = mg.grad(function(t) return (t.a * t.b[1] * 3):sum() end)(p)
    assert(near(g.a, {6, 12}))
    assert.equal(g.a, g.b[1])
    assert.equal(1, #mg.tree_leaves(p))
    local layer = mg.nn.Linear(2, 2)
    local tied = mg.nn.Sequential(layer, layer)
    local copy = mg.tree_map(function(x) return x * 1 end, tied)
    assert.equal(copy[1], copy[2])
  end)

  it("refuse what is none, naming the place", function()
    local function of(t) return mg.grad(function() return mg.tensor(1) end)(t) end
    assert(raises("grad: argument 1: .layers[2].name is a string, expected a Variable", of,
      {layers = {1, {name = "x"}}}))
    assert(raises("grad: argument 1 is a boolean, expected a Variable", of, true))
    assert(raises('grad: argument 1: ["a b"] is a function', of, {["a b"] = print}))
    assert(raises("grad: argument 1: .i is int64; only floats have gradients", of,
      {i = mg.ones{2, dtype = "int64"}}))
    assert(raises("grad: argument 1: .a is a table with a boolean as key", of, {a = {[true] = 1}}))
    local ring = {}
    ring.a = {ring}
    assert(raises("grad: argument 1: .a[1] is a table that stands in itself", of, ring))
    local deep = {1}
    for _ = 1, 200000 do deep = {deep} end
    assert(raises("grad: argument 1 nests more than 10000 deep", of, deep))
    assert(raises("tree_leaves: argument 1 nests more than 10000 deep", mg.tree_leaves, deep))
    assert(raises("jvp: v: .a is missing", mg.jvp, function(p) return p.a * 1 end, {a = 1.0}, {}))
    assert(raises("jvp: v: .c is one too many", mg.jvp, function(p) return p.a * 1 end, {a = 1.0},
      {a = 1, c = 2}))
    assert(raises("jvp: v: .a has shape (2), expected ()", mg.jvp, function(p) return p.a * 1 end,
      {a = 1.0}, {a = {1, 2}}))
    assert(raises("tree_map: argument 3: .a is a number, expected a table", mg.tree_map, print,
      {a = {1}}, {a = 1}))
    assert(raises("tree_map: argument 3: .b differs", mg.tree_map, print,
      (function() local w = mg.ones(1) return {a = w, b = w} end)(), {a = 1, b = 2}))
  end)

  it("that share tables a million times over are walked once", function()
    local t = {1.0}
    for _ = 1, 40 do t = {t, t} end
    assert.equal(1, #mg.tree_leaves(t))
    assert(raises("tree_leaves: argument 1: .z is a string", mg.tree_leaves, {a = t, z = "x"}))
  end)

  it("tree_map and tree_leaves go by place and name", function()
    local t = {2, {b = 4, a = 3}, x = 5, [-1] = 1}
    assert.same({1, 2, 3, 4, 5}, mg.tree_leaves(t))
    local sum = mg.tree_map(function(a, b, c) return a + b + (c or 0) end, t, t,
      {0, {a = 1, b = 2}, x = 3, [-1] = 4})
    assert.same({4, {b = 10, a = 7}, x = 13, [-1] = 6}, sum)
    assert.equal(6, mg.tree_map(function(a) return a * 2 end, 3))
    assert.same({}, mg.tree_map(print, {}))
    local first = mg.tree_map(function(_, whole) return whole[1] end, {a = 1}, {a = {7, 8}})
    assert.same({a = 7}, first)
  end)

  it("pass through all other transforms", function()
    local function f(p) return {y = p.a * p.b, z = p.a:sum()} end
    local p = {a = mg.tensor{1, 2}, b = mg.tensor{3, 5}}
    local y, pull = mg.vjp(f, p)
    assert(near(y.y, {3, 10}))
    local g = pull{y = {1, 1}, z = 10}
    assert(near(g.a, {13, 15}))
    assert(near(g.b, {1, 2}))
    local _, t = mg.jvp(f, p, {a = {1, 0}, b = {0, 1}})
    assert(near(t.y, {3, 2}))
    assert(near(t.z, 1))
    local J = mg.jacobian(f, p)
    assert(near(J.y.a, {{3, 0}, {0, 5}}))
    assert(near(J.z.a, {1, 1}))
    assert(near(J.z.b, {0, 0}))
    local function h(q) return (q.a ^ 2 * q.b):sum() end
    local H = mg.hessian(h, p)
    assert(near(H.a.a, {{6, 0}, {0, 10}}))
    assert(near(H.a.b, {{2, 0}, {0, 4}}))
    assert(near(H.b.b, mg.zeros(2, 2)))
    local hv = mg.hvp(h, p, {a = {1, 1}, b = {1, 0}})
    assert(near(hv.a, {8, 10}))
    assert(near(hv.b, {2, 4}))
    local n = mg.numerical_grad(h, p)
    assert(near(n.a, {6, 20}, 1e-7))
    assert(near(n.b, {1, 4}, 1e-7))
    assert.is_true(mg.gradcheck(h, {p}, {order = 2}))
    assert.is_true(mg.gradcheck(loss, {{W = p.a, b = p.b}, mg.tensor{1, 2}}))
  end)
end)

describe("transforms of several arguments", function()
  helper.guard(before_each, after_each)
  local function f(a, b) return a * b end

  it("vjp and jacobian give one result for each", function()
    local y, pull = mg.vjp(f, mg.ones(1), mg.ones(1) * 5)
    assert(near(y, {5}))
    local ga, gb = pull(mg.ones(1))
    assert(near(ga, {5}))
    assert(near(gb, {1}))
    local ja, jb = mg.jacobian(f, mg.tensor{1, 2}, mg.tensor{3, 4})
    assert(near(ja, {{3, 0}, {0, 4}}))
    assert(near(jb, {{1, 0}, {0, 2}}))
    assert(raises("vjp: there is no argument", mg.vjp, f))
  end)

  it("are zero where the result does not depend on one", function()
    local function first(a) return a * 2 end
    local _, pull = mg.vjp(first, mg.ones(1), mg.ones(2))
    local _, gb = pull{1}
    assert(near(gb, {0, 0}))
    local _, jb = mg.jacobian(first, mg.ones(1), mg.ones(2))
    assert(near(jb, {{0, 0}}))
    assert(near(mg.hessian(function() return mg.tensor(1.0) end, mg.ones(2)), mg.zeros(2, 2)))
    assert(near(mg.hvp(function() return mg.tensor(1.0) end, mg.ones(2), {1, 1}), {0, 0}))
    local _, t = mg.jvp(function() return mg.tensor{7, 7} end, 3, 1)
    assert(near(t, {0, 0}))
  end)
end)

describe("what f gives beside its result", function()
  helper.guard(before_each, after_each)
  local function f(x) return (x * x):sum(), "aux", {y = x * 2}, nil end

  it("comes last", function()
    local v, g, aux, t, none = mg.value_and_grad(f, {has_aux = true})(mg.tensor{2.0})
    assert(near(v, 4))
    assert(near(g, {4}))
    assert.same({"aux", nil}, {aux, none})
    assert(near(t.y, {4}))
    assert.is_nil(t.y.creator)
    g, aux = mg.grad(f, {argnum = 1, has_aux = true})(mg.tensor{2.0})
    assert(near(g, {4}))
    assert.equal("aux", aux)
    local n = select("#", mg.grad(f, {has_aux = true})(mg.tensor{2.0}))
    assert.equal(4, n)
  end)

  it("stays recorded where gradients do", function()
    local x = mg.Variable{2.0}
    local _, _, t = mg.grad(f, {has_aux = true})(x)
    t.y:sum():backward()
    assert(near(x.grad, {2}))
  end)

  it("is tracked no more where it is the argument itself", function()
    local _, x, t = mg.grad(function(v) return v:sum(), v, {v} end, {has_aux = true})(mg.tensor{2})
    assert.is_false(x.requires_grad)
    assert.is_false(t[1].requires_grad)
  end)

  it("is refused where nobody said so", function()
    assert(raises("grad: f returned 4 results; {has_aux = true} passes on those after the first",
      mg.grad(f), mg.tensor{2.0}))
    assert(raises("vjp: f returned 2 results, expected one", mg.vjp, function(x)
      return x * 1, x * 2
    end, 1))
    assert(raises("grad: unknown option has_auks; did you mean has_aux?", mg.grad, f,
      {has_auks = true}))
    assert(raises("grad: argnum 1 is given twice", mg.grad, f, {1, 1}))
    assert(raises("grad: argnum is an empty table", mg.grad, f, {argnum = {}}))
  end)
end)

describe("checks", function()
  helper.guard(before_each, after_each)

  it("go through functions with a gradient inside", function()
    local function f(a)
      local g = mg.gradients((a ^ 3):sum(), {a}, {create_graph = true})[1]
      return (g * g):sum()
    end
    assert.is_true(mg.gradcheck(f, {mg.Variable{1, 2}}))
    assert.is_true(mg.no_grad(mg.gradcheck, f, {mg.tensor{1, 2}}))
    assert(near(mg.numerical_grad(f, mg.tensor{1, 2}), {36, 288}, 1e-6))
  end)

  it("look at all results", function()
    local second = mg.Function{
      forward = function(_, x) return x * 2, x * 3 end,
      backward = function(_, p) return p * 2 end,
    }
    assert.is_false((mg.gradcheck(second, {mg.tensor{1, 2}})))
    assert.is_true(mg.gradcheck(mg.sort, {mg.tensor{2, 1}}))
    assert(near(mg.numerical_grad(function(x) return x, x end, mg.tensor{1, 2}), {2, 2}, 1e-7))
    assert(raises("gradcheck: result 2 of f is a string", mg.gradcheck, function(x)
      return x, "x"
    end, {mg.tensor{1, 2}}))
  end)

  it("say in which leaf", function()
    local wrong = mg.Function{forward = function(_, x) return x * 2 end,
                              backward = function(_, gy) return gy * 3 end}
    local ok, message = mg.gradcheck(function(_, p) return wrong(p.w[1]) end,
      {mg.tensor{1.0}, {w = {mg.tensor{1, 2}}}})
    assert.is_false(ok)
    assert.is_truthy(message:find("gradient of input 2: .w[1] at (1): analytic", 1, true))
  end)
end)
