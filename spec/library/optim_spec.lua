-- Optimizers against their formulas in plain numbers; hooks, schedules, state.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local nn, optim = mg.nn, mg.optim

local sqrt = math.sqrt

-- Five steps down p^4 / 4 + p from 1, by the optimizer and by step(p, g, s, t), a formula.
local function follows(make, step)
  local p, q, s = mg.Variable{1.0, 1.0}, 1.0, {}
  local opt = make{p}
  for t = 1, 5 do
    local y = p ^ 4 / 4 + p
    p:cleargrad()
    y:backward()
    opt:step()
    q = step(q, q ^ 3 + 1, s, t)
    assert(near(p, {q, q}, 1e-12))
  end
end

local function with(name, opts)
  return function(params) return optim[name](params, opts) end
end

describe("optim", function()
  helper.guard(before_each, after_each)

  it("SGD", function()
    follows(with("SGD", {lr = 0.1}), function(p, g) return p - 0.1 * g end)
    follows(with("SGD", {lr = 0.1, weight_decay = 0.5}), function(p, g)
      return p - 0.1 * (g + 0.5 * p)
    end)
    follows(with("SGD", {lr = 0.1, momentum = 0.9}), function(p, g, s)
      s.b = s.b and 0.9 * s.b + g or g
      return p - 0.1 * s.b
    end)
    follows(with("SGD", {lr = 0.1, momentum = 0.9, nesterov = true}), function(p, g, s)
      s.b = s.b and 0.9 * s.b + g or g
      return p - 0.1 * (g + 0.9 * s.b)
    end)
    follows(with("SGD", {lr = 0.1, momentum = 0.9, dampening = 0.4}), function(p, g, s)
      s.b = s.b and 0.9 * s.b + 0.6 * g or g
      return p - 0.1 * s.b
    end)
    assert(raises("SGD: nesterov needs momentum", optim.SGD, {mg.Variable(1)}, {nesterov = true}))
  end)

  it("Adam", function()
    local function adam(decay)
      return function(p, g, s, t)
        g = g + decay * p
        s.m = 0.9 * (s.m or 0) + 0.1 * g
        s.v = 0.999 * (s.v or 0) + 0.001 * g * g
        local m, v = s.m / (1 - 0.9 ^ t), s.v / (1 - 0.999 ^ t)
        return p - 0.1 * m / (sqrt(v) + 1e-8)
      end
    end
    follows(with("Adam", {lr = 0.1}), adam(0))
    follows(with("Adam", {lr = 0.1, weight_decay = 0.5}), adam(0.5))
    follows(with("AdamW", {lr = 0.1}), function(p, g, s, t)
      return adam(0)(p * (1 - 0.1 * 0.01), g, s, t)
    end)
    assert(raises("Adam: betas[2] must be a number in 0..<1, got 1", optim.Adam, {mg.Variable(1)},
      {betas = {0.9, 1}}))
    assert(raises("Adam: betas has 1 numbers", optim.Adam, {mg.Variable(1)}, {betas = {0.9}}))
  end)

  it("RMSprop", function()
    follows(with("RMSprop", {lr = 0.1}), function(p, g, s)
      s.v = 0.99 * (s.v or 0) + 0.01 * g * g
      return p - 0.1 * g / (sqrt(s.v) + 1e-8)
    end)
    follows(with("RMSprop", {lr = 0.1, momentum = 0.5, centered = true}), function(p, g, s)
      s.v = 0.99 * (s.v or 0) + 0.01 * g * g
      s.a = 0.99 * (s.a or 0) + 0.01 * g
      s.b = 0.5 * (s.b or 0) + g / (sqrt(s.v - s.a * s.a) + 1e-8)
      return p - 0.1 * s.b
    end)
  end)

  it("AdaGrad and AdaDelta", function()
    follows(with("AdaGrad", {lr = 0.1, lr_decay = 0.2}), function(p, g, s, t)
      s.v = (s.v or 0) + g * g
      return p - 0.1 / (1 + (t - 1) * 0.2) * g / (sqrt(s.v) + 1e-10)
    end)
    follows(with("AdaDelta", {lr = 0.5}), function(p, g, s)
      s.v = 0.9 * (s.v or 0) + 0.1 * g * g
      local d = sqrt((s.u or 0) + 1e-6) / sqrt(s.v + 1e-6) * g
      s.u = 0.9 * (s.u or 0) + 0.1 * d * d
      return p - 0.5 * d
    end)
  end)

  it("has PyTorch's defaults", function()
    local p = {mg.Variable(1.0)}
    local defaults = {SGD = 1e-3, Adam = 1e-3, AdamW = 1e-3, RMSprop = 1e-2, AdaGrad = 1e-2,
                      AdaDelta = 1.0}
    for name, lr in pairs(defaults) do assert.equal(lr, optim[name](p).lr) end
  end)

  it("skips parameters without a gradient, and frozen ones", function()
    local a, b, c = mg.Variable(1.0), mg.Variable(1.0), mg.Variable(1.0)
    local opt = optim.SGD({a, b, c}, {lr = 0.5})
    local y = a * c
    y:backward()
    c.requires_grad = false
    opt:step()
    assert.same({0.5, 1.0, 1.0}, {a:item(), b:item(), c:item()})
  end)

  it("updates layers that were sized after it was made", function()
    local model = nn.Sequential(nn.Linear(3), mg.tanh, nn.Linear(1))
    local opt = optim.Adam(model)
    local x = mg.rand(4, 2)
    model(x):sum():backward()
    local before = model[1].weight.data
    opt:step()
    assert.is_false(mg.equal(before, model[1].weight))
  end)

  it("records nothing and leaves gradients where they are", function()
    local p = mg.Variable{1, 2}
    local opt = optim.Adam({p})
    mg.square(p):backward()
    local g = p.grad
    opt:step()
    assert.is_nil(p.creator)
    assert.equal(g, p.grad)
    assert(near(g, {2, 4}))
    assert.is_true(p.requires_grad)
  end)

  it("has a learning rate that may be assigned", function()
    local p = mg.Variable(1.0)
    local opt = optim.SGD({p}, {lr = 0.5})
    opt.lr = 0.25
    mg.square(p):backward()
    opt:step()
    assert.equal(0.5, p:item())
  end)

  it("does not take a graph's values away", function()
    local p = mg.Variable{3.0, 4.0}
    local y = p * p
    p.grad = mg.ones(2)
    optim.SGD({p}, {lr = 1}):step()
    p:cleargrad()
    y:backward()
    assert(near(p.grad, {6, 8}))
  end)

  it("refuses what it cannot use", function()
    assert(raises("Adam: argument 1 is a number, expected a table or a module", optim.Adam, 3))
    assert(raises("Adam: the table of parameters is empty", optim.Adam, {}))
    assert(raises("Adam: parameter 1 is a number", optim.Adam, {3}))
    assert(raises("Adam: unknown option rate", optim.Adam, {mg.Variable(1)}, {rate = 1}))
    assert(raises("Adam: lr = -1 is negative", optim.Adam, {mg.Variable(1)}, {lr = -1}))
    assert(raises("SGD: lr must be at least 0, got nan", optim.SGD, {mg.Variable(1)}, {lr = 0/0}))
    assert(raises("SGD: momentum = -5 is negative", optim.SGD, {mg.Variable(1)}, {momentum = -5}))
    assert(raises("clip_grad_norm: max = -1 is negative", optim.clip_grad_norm, {}, -1))
    assert(raises("clip_grad_norm: parameter 1 is a number", optim.clip_grad_norm, {3}, 1))
  end)

  it("refuses parameters that would not change, or twice", function()
    local w = mg.Variable(1.0)
    assert(raises("Adam: parameter 1 is not tracked", optim.Adam, {mg.ones(3)}))
    assert(raises("Adam: parameter 2 is not tracked, or has a creator", optim.Adam, {w, w * 2}))
    assert(raises("SGD: parameters 1 and 3 are the same", optim.SGD, {w, mg.Variable(2.0), w}))
    local frozen = nn.Parameter(3)
    frozen.requires_grad = false
    assert(optim.SGD{w, frozen})
  end)

  it("has fields of its own alone, and checks what they are given", function()
    local opt = optim.SGD({mg.Variable(1.0)}, {lr = 0.1})
    assert(raises("SGD: there is no field learning_rate", function() opt.learning_rate = 3 end))
    assert(raises("SGD: there is no field momentu; did you mean momentum?",
      function() opt.momentu = 3 end))
    assert(raises("SGD: lr = -1 is negative", function() opt.lr = -1 end))
    assert(raises("SGD: option nesterov is a number", function() opt.nesterov = 1 end))
    assert(raises("SGD: no value for lr", function() opt.lr = nil end))
    assert(raises("step: argument 1, a number, is one too many", function() opt:step(1) end))
    opt.lr = 0.5
    assert.equal(0.5, opt.lr)
    assert.equal(
      "SGD(lr = 0.5, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0)",
      tostring(opt))
    assert.equal("Adam(lr = 0.001, betas = {0.9, 0.999}, eps = 1e-08, weight_decay = 0)",
      tostring(optim.Adam{mg.Variable(1)}))
  end)

  it("takes a momentum that is given later", function()
    local w = mg.Variable(0.0)
    local opt = optim.SGD({w}, {lr = 1})
    local function step()
      w.grad = mg.tensor(1.0)
      opt:step()
    end
    step()
    opt.momentum = 0.5
    step()
    step()
    assert(near(w, -1 - 1 - 1.5))
  end)

  it("can be a rule of one's own", function()
    local Sign = optim.Optimizer:extend("Sign", "lr: number(0..) = 0.1", "p - lr sign(g)")
    function Sign:update(p, g) return {p}, {p - self.lr * g:sign()} end
    local w = mg.Variable{1.0, 2.0}
    w.grad = mg.tensor{3, -4}
    Sign({w}, {lr = 0.5}):step()
    assert(near(w, {0.5, 2.5}))
    assert(raises("Sign: lr = -1 is negative", Sign, {w}, {lr = -1}))
  end)

  describe("hooks", function()
    local function stepped(hook, start)
      local p, q = mg.Variable(start or 3.0), mg.Variable(4.0)
      local opt = optim.SGD({p, q}, {lr = 1})
      opt:add_hook(hook)
      local y = p * 3 + q * 4
      y:backward()
      opt:step()
      return {p:item(), q:item()}
    end

    it("see the parameters that have gradients, before the update", function()
      local seen
      assert.same({0.0, 0.0}, stepped(function(params) seen = #params end))
      assert.equal(2, seen)
    end)

    it("clip, decay, freeze", function()
      assert(near(stepped(optim.clip_grad(1)), {3 - 0.6, 4 - 0.8}, 1e-6))
      assert.same({-1.5, -2.0}, stepped(optim.weight_decay(0.5)))
      local p = mg.Variable(3.0)
      local opt = optim.SGD({p}, {lr = 1})
      opt:add_hook(optim.freeze{p})
      mg.square(p):backward()
      opt:step()
      assert.equal(3, p:item())
    end)

    it("clip_grad_norm gives the norm, and scales what is above", function()
      local p, q = mg.Variable{0, 0}, mg.Variable(0.0)
      p.grad, q.grad = mg.tensor{2, 4}, mg.tensor(4.0)
      assert(near(optim.clip_grad_norm({p, q}, 100), 6))
      assert(near(p.grad, {2, 4}))
      assert(near(optim.clip_grad_norm({p, q}, 3), 6))
      assert(near(p.grad, {1, 2}, 1e-6))
      assert(near(q.grad, 2, 1e-6))
      assert.equal(0, optim.clip_grad_norm({mg.Variable(1.0)}, 1))
    end)
  end)

  describe("schedules", function()
    local function rates(make, n)
      local opt = optim.SGD({mg.Variable(1.0)}, {lr = 1})
      local schedule, list = make(opt), {}
      for i = 1, n do
        list[i] = opt.lr
        schedule:step()
      end
      return list
    end

    it("step", function()
      assert(near(rates(function(opt) return optim.step(opt, 2) end, 5), {1, 1, 0.1, 0.1, 0.01}))
    end)

    it("cosine", function()
      assert(near(rates(function(opt) return optim.cosine(opt, 4, {eta_min = 0.2}) end, 5),
        {1, 0.2 + 0.4 * (1 + sqrt(0.5)), 0.6, 0.2 + 0.4 * (1 - sqrt(0.5)), 0.2}))
    end)

    it("warmup, and what comes after", function()
      assert(near(rates(function(opt) return optim.warmup(opt, 2) end, 4), {1 / 3, 2 / 3, 1, 1}))
      assert(near(rates(function(opt)
        return optim.warmup(opt, 2, {start_factor = 0.5, after = optim.step(opt, 1)})
      end, 4), {0.5, 0.75, 1, 0.1}))
      local opt = optim.SGD{mg.Variable(1)}
      assert(raises("cosine: t_max must be positive, got 0", optim.cosine, opt, 0))
    end)
  end)

  describe("state", function()
    local function train(model, opt, steps)
      for _ = 1, steps do
        model:cleargrads()
        model(mg.ones(2, 3)):square():sum():backward()
        opt:step()
      end
    end

    it("goes on where it was", function()
      for _, name in ipairs{"SGD", "Adam", "AdamW", "RMSprop", "AdaGrad", "AdaDelta"} do
        local opts = name == "SGD" and {momentum = 0.9} or nil
        local a, b = nn.Linear(3, 2), nn.Linear(3, 2)
        local first, second = optim[name](a, opts), optim[name](b, opts)
        train(a, first, 3)
        b:load_state(a:state())
        assert.equal(second, second:load_state(first:state()))
        train(a, first, 3)
        train(b, second, 3)
        assert(helper.same(a.weight.data, b.weight.data))
      end
    end)

    it("is flat and named by parameters; what is wrong changes nothing", function()
      local model = nn.Linear(3, 2)
      local opt = optim.Adam(model, {lr = 0.5})
      train(model, opt, 2)
      local state = opt:state()
      assert.same({2, 3}, state["weight.m"].shape)
      assert.equal(2, state["weight.step"]:item())
      assert.equal(0.5, state.lr:item())
      state["weight.v"] = nil
      state.lr = mg.tensor(0.1)
      assert(raises("load_state: weight.v is missing", opt.load_state, opt, state))
      assert.equal(0.5, opt.lr)
      state["weight.v"] = mg.ones(1)
      assert(raises("load_state: weight.v is (1), expected (2, 3)", opt.load_state, opt, state))
      state = opt:state()
      assert.equal("Adam", state.rule)
      for text, wrong in pairs{
        ["this is the state of Adam, not of SGD"] = optim.SGD(model),
        ["this is the state of Adam, not of AdamW"] = optim.AdamW(model),
      } do
        assert(raises("load_state: " .. text, wrong.load_state, wrong, state))
      end
      assert(raises("load_state: this is no optimizer's state", opt.load_state, opt, {}))
      for _, steps in ipairs{-1, 0, 1.5, 0 / 0} do
        local t = opt:state()
        t["weight.step"] = mg.tensor(steps)
        assert(raises("load_state: weight.step is variable(", opt.load_state, opt, t))
      end
      for _, lr in ipairs{-1, 0 / 0} do
        local t = opt:state()
        t.lr = mg.tensor(lr)
        assert(raises("Adam: lr", opt.load_state, opt, t))
      end
      assert.equal(2, opt:state()["weight.step"]:item())
      state.other = mg.ones(1)
      assert(raises("load_state: other is unexpected", opt.load_state, opt, state))
    end)
  end)
end)
