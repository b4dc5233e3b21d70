-- Optimizers against their formulas in plain numbers; hooks, schedules, state.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
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
    assert(raises("SGD: dampening needs momentum", optim.SGD, {mg.Variable(1)}, {dampening = 0.5}))
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

  it("RMSprop's centred form loses nothing where gradients hardly change", function()
    local p = mg.Variable(mg.tensor({0}, "float32"))
    local opt = optim.RMSprop({p}, {lr = 1, centered = true, alpha = 0.5})
    local v, a = 0, 0
    for t = 1, 40 do
      local g = 1000 + t % 2
      p.grad = mg.tensor({g}, "float32")
      p.data = mg.zeros_like(p)
      opt:step()
      v, a = 0.5 * v + 0.25 * (g - a) ^ 2, 0.5 * a + 0.5 * g
    end
    assert(near(p:to "float64" / (-1000 / sqrt(v)), {1}, 1e-3))
  end)

  it("NAdam, of betas that a schedule moves, to PyTorch's numbers", function()
    local p = mg.Variable{1.0, -0.5}
    local opt = optim.NAdam({p}, {lr = 0.1})
    local schedule = optim.one_cycle(opt, 0.1, 8)
    for _ = 1, 6 do
      p.grad = p.data ^ 3 + 1
      opt:step()
      schedule:step()
    end
    assert(near(p, {0.7491937653883136, -0.751817911041181}, 1e-12))
  end)

  -- What p = 1 and -0.5 become in six steps down p^4 / 4 + p in torch 2.15, float64
  it("the rest, to PyTorch's numbers", function()
    local function six(name, opts, want)
      local p = mg.Variable{1.0, -0.5}
      local opt = optim[name]({p}, opts)
      for _ = 1, 6 do
        local y = (p ^ 4 / 4 + p):sum()
        p:cleargrad()
        y:backward()
        opt:step()
      end
      assert(near(p, want, 1e-12))
    end
    six("NAdam", {lr = 0.1}, {0.5632998492537865, -0.9121984144859047})
    six("NAdam", {lr = 0.1, weight_decay = 0.5, momentum_decay = 0.1},
      {0.5635333313285704, -0.836859431234098})
    local function twelve(name, n, opts, want)
      local p = mg.Variable{1, -2, 0.5}
      local opt = optim[name]({p}, opts)
      for _ = 1, n do
        opt:cleargrads()
        local y = (p * p * mg.tensor{1, 3, 0.2} + p:sin()):sum()
        y:backward()
        opt:step()
      end
      assert(near(p, want, 1e-12))
    end
    twelve("RAdam", 12, {lr = 0.1, weight_decay = 0.01},
      {-0.118925147433686, 0.723247010479951, -0.0681457365644926})
    twelve("RAdam", 30, {lr = 0.1, betas = {0.9, 0.9}},
      {-0.480502204627427, -0.410949154010977, -1.44240126604454})
    twelve("Rprop", 12, {lr = 0.05}, {-0.60752092672, -0.0209748879360002, -1.479025112064})
    assert(raises("Rprop: etas must be two numbers, below 1 and above", optim.Rprop,
      {mg.Variable(1.0)}, {etas = {1.5, 2}}))
    six("Adamax", {lr = 0.1}, {0.48762186883662306, -0.992650823751015})
    six("Adamax", {lr = 0.1, weight_decay = 0.5}, {0.4854865945652209, -0.9064967368643252})
    six("Adam", {lr = 0.1, betas = {0.9, 0.5}, amsgrad = true},
      {0.4122642996848731, -1.0439691793536294})
    six("AdamW", {lr = 0.1, betas = {0.9, 0.5}, amsgrad = true},
      {0.4080910487941478, -1.0405512698209372})
    six("RMSprop", {lr = 0.1, centered = true}, {-1.0008597376445916, -0.9999555990377884})
    six("RMSprop", {lr = 0.1, centered = true, momentum = 0.5},
      {-0.810118429368989, -1.0946402268882816})
  end)

  it("Lion", function()
    follows(with("Lion", {lr = 0.1, weight_decay = 0.5}), function(p, g, s)
      local c = 0.9 * (s.m or 0) + 0.1 * g
      s.m = 0.99 * (s.m or 0) + 0.01 * g
      return p * (1 - 0.1 * 0.5) - 0.1 * (c > 0 and 1 or c < 0 and -1 or 0)
    end)
    assert.equal(1e-4, optim.Lion{mg.Variable(1)}.lr)
    assert(raises("Lion: there is no field eps", function() optim.Lion{mg.Variable(1)}.eps = 1 end))
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

  it("goes with the digits of the parameters, whatever Config.dtype is", function()
    for _, name in ipairs{"SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Lion", "RMSprop",
                          "AdaGrad", "AdaDelta", "Rprop"} do
      local function steps()
        local p = mg.Variable(mg.tensor({1, -0.3, 0.02}, "float64"))
        local opt = optim[name]({p}, {lr = 0.1})
        for _ = 1, 6 do
          p:cleargrad();
          (p ^ 2):sum():backward()
          opt:step()
        end
        return p:totable()
      end
      assert.same(steps(), mg.using_config("dtype", "float32", steps))
    end
  end)

  it("has PyTorch's defaults", function()
    local p = {mg.Variable(1.0)}
    local defaults = {SGD = 1e-3, Adam = 1e-3, AdamW = 1e-3, RMSprop = 1e-2, AdaGrad = 1e-2,
                      AdaDelta = 1.0, NAdam = 2e-3, Adamax = 2e-3, Lion = 1e-4, LBFGS = 1,
                      RAdam = 1e-3, Rprop = 1e-2}
    for name, lr in pairs(defaults) do assert.equal(lr, optim[name](p).lr) end
  end)

  it("clears the grads of all groups", function()
    local a, b, other = mg.Variable(1.0), mg.Variable(2.0), mg.Variable(3.0)
    local opt = optim.Adam{{params = {a}}, {params = {b}, lr = 1}}
    local y = a * b * other
    y:backward()
    opt:cleargrads()
    assert.is_nil(a.grad)
    assert.is_nil(b.grad)
    assert.is_truthy(other.grad)
    local model = nn.Linear(2)
    optim.SGD(model):cleargrads()                -- which has no parameters yet
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
    for _, name in ipairs{"step", "values", "groups", "params", "buffers"} do
      assert(raises("extend: no option of Mine can be called " .. name, optim.Optimizer.extend,
        optim.Optimizer, "Mine", ("lr: number = 1, %s: number = 1"):format(name)))
    end
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
    local quasi = optim.LBFGS{mg.Variable(1.0)}
    quasi.line_search, quasi.max_eval = "strong_wolfe", 3       -- which have no default
    assert.same({"strong_wolfe", 3}, {quasi.line_search, quasi.max_eval})
    assert(raises("SGD: no value for lr", function() opt.lr = nil end))
    assert.is_nil(select(2, pcall(function() opt.lr = nil end)):find "did you mean")
    assert(raises("step: argument 1, a number, is one too many", function() opt:step(1) end))
    opt.lr = 0.5
    assert.equal(0.5, opt.lr)
    assert.equal(
      "SGD(lr = 0.5, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0)",
      tostring(opt))
    assert.equal("Adam(lr = 0.001, betas = {0.9, 0.999}, eps = 1e-08, weight_decay = 0, " ..
      "amsgrad = false)",
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

  it("refuses a rule of one's own that gives no values for its targets", function()
    local given
    local Plain = optim.Optimizer:extend "Plain" -- without options
    assert.equal("Plain()", tostring(Plain{mg.Variable(1)}))
    assert(raises("Plain: unknown option lr", Plain, {mg.Variable(1)}, {lr = 1}))
    assert.equal(1, #Plain{{params = {mg.Variable(1)}}}.groups)
    assert(raises("Plain: unknown option lr", Plain, {{params = {mg.Variable(1)}, lr = 1}}))
    local adam = optim.Adam{mg.Variable(1)}
    assert(raises("load_state: this is no optimizer's state, not of Adam", adam.load_state, adam,
      {rule = {}}))
    local Rule = optim.Optimizer:extend("Rule", "lr: number = 1", "what it is told")
    function Rule:update(p) return table.unpack(given(p, self)) end
    local p = mg.Variable{1, 2}
    local opt = Rule({p})
    given = function(v) return {{v}, {v}, {}} end
    p.grad = mg.ones(2)
    assert(raises("Rule: update gave 3 results, expected two lists", opt.step, opt))
    local lists = "Rule: update gave no two lists of one length, of targets and of their values"
    for _, f in ipairs{
      function(v) return {{v}, {}} end,
      function(v) return {{}, {v}} end,
      function(v) return {{v}} end,
      function(v) return {v, v} end,
      function() return {} end,
      function(v) return {{p = v}, {p = v * 2}} end,
      function(v) return {{v, x = 1}, {v * 2}} end,
      function(v) return {{v, nil, v}, {v * 2, nil, v * 2}} end,
    } do
      given = f
      p.grad = mg.ones(2)
      assert(raises(lists, opt.step, opt))
      assert(mg.equal(p, mg.tensor{1, 2}))
    end
    given = function(v) return {{v, v - v.grad}, {v * 2, v}} end
    assert(raises("Rule: target 2 that update gave is neither the parameter nor one of its buffers",
      opt.step, opt))
    given = function(v, self) return {{v}, {v - self.lr * v.grad}} end
    opt:step()
    assert(mg.equal(p, mg.tensor{0, 1}))
    for why, buffers in pairs{["buffers is a string"] = "v", ["buffers has the key v"] = {v = 0},
                              ["no buffer can be called 1"] = {1},
                              ["no buffer can be called step"] = {"v", "step"}} do
      Rule.buffers = buffers
      assert(raises("Rule: " .. why, Rule, {p}))
    end
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

  -- A step of the rule on {1, 2}, by the gradient of its squares
  local function stepping(Rule)
    local w = mg.Variable{1, 2}
    local opt = Rule {w}
    return w, opt, function()
      w:cleargrad()
      w:square():sum():backward()
      opt:step()
    end
  end

  it("is told of what its rule sets in s, which would be neither saved nor recorded", function()
    for name, set in pairs{
      v = function(s, g) s.v = (s.v or 0) + g end, kept = function(s, g) s.kept = s.kept + g end,
      list = function(s, g) s.list = {g} end, n = function(s) s.n = (s.n or 0) + 1 end,
      step = function(s) s.step = 7 end
    } do
      local Rule = optim.Optimizer:extend("Rule", "lr: number(0..) = 0.1", "sets something")
      Rule.buffers = {"kept"}
      function Rule:update(p, g, s)
        set(s, g)
        return {p, s.kept}, {p - self.lr * g, s.kept}
      end
      for _, compiled in ipairs{false, true} do
        local w, opt, step = stepping(Rule)
        if compiled then step = mg.compile(step) end
        assert(raises(("Rule: update sets s.%s, which would not be kept"):format(name), step))
        assert(mg.equal(w, mg.tensor{1, 2}))
        assert.is_nil(opt:state()["1.step"])
      end
    end
  end)

  it("is told of options that its rule sets while it is recorded", function()
    local Rule = optim.Optimizer:extend("Rule", "lr: number(0..) = 0.5", "halves its rate")
    function Rule:update(p, g)
      self.lr = self.lr / 2
      return {p}, {p - self.lr * g}
    end
    local w, opt, step = stepping(Rule)
    step()
    assert.equal(0.25, opt.lr)
    assert(raises("Rule: update sets self.lr, which would be lost", mg.compile(step)))
    assert.equal(0.25, opt.lr)
    assert(mg.equal(w, mg.tensor{0.5, 1}))
  end)

  it("says that there is nothing to update, and never will be", function()
    local layer, text = nn.Linear(2, 2), "step: there are no parameters"
    local hidden = nn.Sequential(function(x) return layer(x) end)
    local opt = optim.SGD(hidden)
    hidden(mg.ones(1, 2)):sum():backward()
    assert(raises(text, opt.step, opt))
    hidden[2] = nn.Linear(2, 2)
    opt:step()
    opt.groups = {}
    assert(raises(text, opt.step, opt))
    opt = optim.SGD(nn.Linear(3))
    assert(raises(text, opt.step, opt))
  end)

  it("goes on with what it kept where its module was converted", function()
    for _, compiled in ipairs{false, true} do
      local model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
      local more = {params = {mg.Variable(1)}}
      local opt = optim.Adam{{params = model[1]}, {params = model[2]}, more}
      local function step(x)
        opt:cleargrads()
        model(x):sum():backward()
        opt:step()
      end
      if compiled then step = mg.compile(step) end
      local x = mg.ones(3, 2)
      for _ = 1, 2 do step(x) end
      local before = opt:state()
      model:to "float32":to "float64":to "float32"
      for name, v in pairs(opt:state()) do
        if name:find "[mv]$" then
          assert.equal("float32", v.dtype)
          assert(helper.same(v, before[name]:to "float32"))
        elseif name:find "step$" then
          assert.equal(2, v:item())
        end
        before[name] = nil
      end
      assert.is_nil(next(before))
      model:to "float64"
      model:to "float32"
      step(x:to "float32")
      assert.equal(3, opt:state()["1.weight.step"]:item())
      local n = 0
      for _ in pairs(opt.slots) do n = n + 1 end
      assert.equal(4, n)
    end
    local p = mg.Variable{1, 2}                    -- also another module's, which stays
    local a, b = nn.Sequential(), nn.Sequential()
    a.p, b.p = p, p
    local opt = optim.Adam(a)
    opt:add_group{params = {mg.Variable(1)}}
    p.grad = mg.ones(2)
    opt:step()
    a:to "float32"
    opt:add_group{params = b}
    assert.same({1, 1}, {opt:state()["p.step"]:item(), opt:state()["3.p.step"]:item()})
  end)

  it("says that a module has other parameters than those of a list", function()
    local layer = nn.Linear(2, 2)
    local old, whole = layer:parameters(), optim.SGD(layer)
    local opt = optim.SGD(old)
    opt:step()
    layer:to "float32"
    layer(mg.ones{1, 2, dtype = "float32"}):sum():backward()
    assert(raises("step: parameter 1 is its module's no more, since :to", opt.step, opt))
    whole:step()
    for i, p in ipairs(layer:parameters()) do old[i].grad = p.grad:to "float64" end
    opt:step()
    assert(near(old[1]:to "float32", layer.bias, 1e-6))
  end)

  it("says so where old grads are left, or only some parameters are others now", function()
    local told = "step: parameter 1 is its module's no more, since :to"
    for _, make in ipairs{optim.SGD, optim.LBFGS} do
      local a, b, x = nn.Linear(2, 2), nn.Linear(2, 1), mg.ones(1, 2)
      local function closure()
        local loss = b(a(x:to(a.weight.dtype)):to "float64"):square():sum()
        a:cleargrads()
        b:cleargrads()
        loss:backward()
        return loss
      end
      local all = {a.bias, a.weight, b.bias, b.weight}
      local ofa, whole, frozen = make(a:parameters()), make(all), optim.SGD(a)
      frozen:add_hook(optim.freeze{all[1]})
      closure()
      ofa:step(make == optim.LBFGS and closure or nil)
      local before, kept = a:state(), all[1].data
      a:to "float32"
      assert.is_nil(all[1].grad)
      closure()
      for _, opt in ipairs{ofa, whole} do
        assert(raises(told, opt.step, opt, make == optim.LBFGS and closure or nil))
      end
      assert(raises("clip_grad_norm: parameter 2 is", optim.clip_grad_norm, {b.bias, all[2]}, 1))
      assert(raises("clip_grad_value: parameter 1 is", optim.clip_grad_value, {all[1]}, 1))
      assert(raises("freeze: parameter 1 is its module's no more", frozen.step, frozen))
      assert(helper.same(kept, all[1]))
      assert(helper.same(before.bias:to "float32", a.bias))
      a.bias.grad, a.weight.grad = nil, nil        -- of no use in this step: nothing is lost
      if make == optim.SGD then whole:step() end
    end
    local wrong = nn.Module:extend "Wrong" ()
    wrong.a, wrong.b = nn.Linear(1, 1), nn.Linear(1, 1)
    wrong:parameters()
    local list, bias = wrong:parameters(), wrong.b.bias
    local opt = optim.SGD(list)
    wrong.b.bias = mg.ones(1)                      -- so that :to fails in the midst
    assert(raises("bias was a parameter", wrong.to, wrong, "float32"))
    wrong.b.bias = bias
    opt:step()                                     -- they are its parameters still
  end)

  it("take no model whose class has other parameters than its fields, nor two", function()
    local Net = nn.Module:extend "Net"
    function Net:init() self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 2) end
    function Net:parameters() return self.head:parameters() end
    for _, make in ipairs{optim.SGD, optim.LBFGS} do
      assert(raises("Net has a method parameters of its own: give what it gives", make, Net()))
    end
    assert(raises("SGD: Net has a method parameters", optim.SGD, {{params = Net()}}))
    assert.equal("SGD", getmetatable(optim.SGD(Net():parameters())).__name)
    assert(raises("SGD: parameter 1 is a table, expected a Variable; of several models or lists",
      optim.SGD, {nn.Linear(1, 1), nn.Linear(1, 1)}))
  end)

  describe("groups", function()
    it("have options of their own, and the optimizer's", function()
      local a, b, c = mg.Variable(1.0), mg.Variable(1.0), nn.Linear(1, 1, {bias = false})
      c.weight.data = mg.ones(1, 1)
      local opt = optim.SGD({{params = {a}, lr = 0.5}, {params = b, weight_decay = 1},
                             {params = c}}, {lr = 0.25})
      local function step()
        for _, p in ipairs{a, b, c.weight} do p.grad = mg.ones_like(p) end
        opt:step()
        return {a:item(), b:item(), c.weight:item()}
      end
      assert.same({0.5, 0.5, 0.75}, step())
      opt.lr, opt.groups[3].lr = 0.125, 0
      assert.same({0, 0.5 - 0.125 * 1.5, 0.75}, step())
      assert.equal("SGD(lr = 0.125, momentum = 0, dampening = 0, nesterov = false, " ..
        "weight_decay = 0)\n  group 1: lr = 0.5\n  group 2: weight_decay = 1\n  group 3: lr = 0",
        tostring(opt))
      assert.equal("SGD(lr = 0.5, momentum = 0, dampening = 0, nesterov = false, " ..
        "weight_decay = 0)", tostring(opt.groups[1]))
      assert.equal(opt.groups[2].lr, 0.125)
      assert(raises("SGD: lr = -1 is negative", function() opt.groups[2].lr = -1 end))
      local plain = optim.SGD{a}
      assert.same({plain}, plain.groups)
    end)

    it("may be added, and are saved", function()
      local a, b = mg.Variable(1.0), mg.Variable(1.0)
      local function make()
        local opt = optim.Adam({a}, {lr = 0.5})
        opt:add_group{params = {b}, lr = 0.25, betas = {0.5, 0.5}}
        return opt
      end
      local opt = make()
      a.grad, b.grad = mg.tensor(1.0), mg.tensor(1.0)
      opt:step()
      opt.groups[2].lr = 0.1
      local state = opt:state()
      assert(near(state["2.1.m"], 0.5))
      assert(near(state["1.m"], 0.1))
      assert(near(state.lr, {0.5, 0.1}))
      local fresh = make():load_state(state)
      assert.same({0.5, 0.1}, {fresh.lr, fresh.groups[2].lr})
      local alone = optim.Adam{a}
      state["2.1.m"], state["2.1.v"], state["2.1.step"] = nil, nil, nil
      assert(raises("load_state: lr has 2 numbers, expected 1", alone.load_state, alone, state))
    end)

    it("are refused where they are wrong", function()
      local a, b = mg.Variable(1.0), mg.Variable(1.0)
      assert(raises("SGD: unknown option rate", optim.SGD, {{params = {a}, rate = 1}}))
      assert(raises("SGD: lr = -1 is negative", optim.SGD, {{params = {a}, lr = -1}}))
      assert(raises("SGD: group 2 has no params", optim.SGD, {{params = {a}}, {b}}))
      assert(raises("SGD: group 2: parameter 1 is a number", optim.SGD, {{params = {a}},
        {params = {3}}}))
      assert(raises("SGD: parameter 2 of group 2 is in group 1 already", optim.SGD,
        {{params = {a}}, {params = {b, a}}}))
      assert(raises("SGD: nesterov needs momentum", optim.SGD, {{params = {a}, nesterov = true}}))
      local opt = optim.SGD{a}
      assert(raises("SGD: parameter 1 of group 2 is in group 1 already", opt.add_group, opt,
        {params = a}))
      assert(raises("LBFGS: takes no groups", optim.LBFGS, {{params = {a}}}))
      local Bare = optim.Optimizer:extend("Bare", "limit: number?, lr: number(0..) = 1")
      assert.equal(0.5, Bare{{params = {mg.Variable(1)}, lr = 0.5}}.groups[1].lr)
    end)
  end)

  describe("LBFGS", function()
    -- The losses of torch 2.15 on Rosenbrock's function from (-1.2, 1)
    local function rosenbrock(opts, steps)
      local p, calls, losses = mg.Variable{-1.2, 1.0}, 0, {}
      local opt = optim.LBFGS({p}, opts)
      local function closure()
        calls = calls + 1
        local loss = 100 * (p[2] - p[1] ^ 2) ^ 2 + (1 - p[1]) ^ 2
        p:cleargrad()
        loss:backward()
        return loss
      end
      for i = 1, steps do losses[i] = opt:step(closure) end
      return losses, p, calls, opt, closure
    end

    it("follows PyTorch's path", function()
      local losses, p, calls = rosenbrock({line_search = "strong_wolfe", max_iter = 4}, 4)
      assert(near(losses, {24.2, 4.121126775765638, 3.9091442795206377, 2.456257721580502}, 1e-9))
      assert(near(p, {-0.2560895768966468, 0.03726198161622369}, 1e-9))
      assert.equal(20, calls)
      losses, p, calls = rosenbrock({line_search = "strong_wolfe", max_iter = 4,
                                     history_size = 2}, 4)
      assert(near(losses, {24.2, 4.121126775765638, 3.7930742512723468, 2.4806405496741535}, 1e-9))
      assert(near(p, {-0.2542342228052837, 0.04962596941838337}, 1e-9))
      assert.equal(20, calls)
      losses, p, calls = rosenbrock({lr = 0.1, max_iter = 10}, 2)
      assert(near(losses, {24.2, 5.2304978915741485}, 1e-9))
      assert(near(p, {-1.044719587805136, 1.0623773907218077}, 1e-9))
      assert.equal(20, calls)
    end)

    it("finds the minimum to the last digits", function()
      local losses, p = rosenbrock({line_search = "strong_wolfe", max_iter = 100,
                                    tolerance_change = 0}, 2)
      assert.is_true(losses[2] < 1e-15)
      assert(near(p, {1, 1}, 1e-7))
    end)

    it("resumes with the same bits", function()
      local path = child.folder() .. "/opt.safetensors"
      local opts = {line_search = "strong_wolfe", max_iter = 4}
      local _, p, _, opt, closure = rosenbrock(opts, 3)
      local state, at = opt:state(), p.data
      mg.save(path, state)
      local want, last = opt:step(closure), p.data
      local _, q, _, again, anew = rosenbrock(opts, 1)
      q.data = at
      again:load_state(mg.load(path))
      assert.equal(want, again:step(anew))
      assert(helper.same(q.data, last))
      state.s = mg.ones(3, 3)
      assert(raises("load_state: s is (3, 3), expected (", again.load_state, again, state))
    end)

    it("takes no state that its next step cannot go on from, and any float dtype", function()
      local p = mg.Variable{3.0, 1.0}
      local function closure_of(q)
        return function()
          local loss = (q ^ 4):sum()
          q:cleargrad()
          loss:backward()
          return loss
        end
      end
      local opt = optim.LBFGS({p}, {max_iter = 3})
      opt:step(closure_of(p))
      local function changed(name, value)
        local state = opt:state()
        state[name] = value
        return state
      end
      local function refused(message, state)
        assert(raises(message, opt.load_state, opt, state))
      end
      refused("load_state: step is variable(-1), expected", changed("step", mg.tensor(-1)))
      refused("load_state: step is variable(1.5), expected", changed("step", mg.tensor(1.5)))
      local state = changed("d", nil)
      state.g = nil
      refused("load_state: d is missing", state)
      local q = mg.Variable(p:to "float32")
      local narrow = optim.LBFGS({q}, {max_iter = 3})
      narrow:load_state(opt:state())
      for _, name in ipairs{"d", "g", "s", "y"} do
        assert.equal("float32", narrow:state()[name].dtype)
      end
      narrow:step(closure_of(q))
    end)

    it("moves layers that were sized after it was made", function()
      local model = nn.Sequential(nn.Linear(5), mg.tanh, nn.Linear(1))
      local opt, x = optim.LBFGS(model, {line_search = "strong_wolfe"}), mg.randn(20, 3)
      local function closure()
        local loss = mg.mean_squared_error(model(x), x:sum(2):unsqueeze(2))
        model:cleargrads()
        loss:backward()
        return loss
      end
      local first = opt:step(closure)
      assert.is_true(opt:step(closure) < first / 2)
    end)

    it("refuses a closure that gives nothing, and changes nothing then", function()
      local p = mg.Variable(3.0)
      local opt, count = optim.LBFGS{p}, 0
      assert(raises("step: the closure gave a nil, expected the loss", opt.step, opt, print))
      local function closure()
        count = count + 1
        if count == 3 then error "stop" end
        local loss = p ^ 4
        p:cleargrad()
        loss:backward()
        return loss
      end
      p.grad = mg.tensor(7.0)
      assert.is_false(pcall(opt.step, opt, closure))
      assert.same({3, 7}, {p:item(), p.grad:item()})
      assert.is_nil(opt:state().step)
    end)

    -- Three parameters, and the closure of a function of them
    local function quartic(start)
      local a, b, c = mg.Variable(start[1]), mg.Variable(start[2]), mg.Variable(start[3])
      local params = {a, b, c}
      return params, function()
        for _, p in ipairs(params) do p:cleargrad() end
        local y = a ^ 4 + 2 * (b - a) ^ 2 + (3 * c - b) ^ 4
        y:backward()
        return y
      end
    end

    it("begins anew where others are frozen than before", function()
      local function run(steps, frozen, start)
        local params, closure = quartic(start)
        local a, b, c = table.unpack(params)
        local opt = optim.LBFGS(params, {max_iter = 3})
        for k = 1, steps do
          for i, p in ipairs(params) do p.requires_grad = frozen[k] ~= i end
          opt:step(closure)
        end
        local values = {a:item(), b:item(), c:item()}
        return values, opt
      end
      local first = run(1, {1}, {1.0, 2.0, 3.0})
      assert.equal(1, first[1])
      for second = 0, 3 do
        local want = run(1, {second}, first)
        local got, opt = run(2, {1, second}, {1.0, 2.0, 3.0})
        if second ~= 1 then assert.same(want, got) else assert.not_same(want, got) end
        local again = run(2, {1, 1}, {1.0, 2.0, 3.0})
        if second == 1 then assert.same(again, got) end
        opt:load_state(opt:state())
      end
    end)

    it("goes on from a state saved after others were frozen, and keeps nothing of its owner's",
      function()
        local function run(stop)
          local params, closure = quartic{1.0, 2.0, 3.0}
          local a, b, c = table.unpack(params)
          local opt = optim.LBFGS(params, {max_iter = 3})
          a.requires_grad = false
          opt:step(closure)
          a.requires_grad = true
          if stop then
            local state = opt:state()
            state.d = mg.tensor(state.d)
            opt = optim.LBFGS(params, {max_iter = 3})
            if stop == "c" then c.requires_grad = false end -- as many as before, but others
            opt:load_state(state)
            state.d[1] = 1e9
            c.requires_grad = true
          end
          a.requires_grad = false
          opt:step(closure)
          return {a:item(), b:item(), c:item()}
        end
        local want = run()
        assert.same(want, run "none")
        assert.same(want, run "c")
        local opt = optim.LBFGS{mg.Variable(1.0)}
        for _, of in ipairs{{2}, {0}, {1, 1}} do
          local state = {rule = "LBFGS", lr = mg.tensor(1.0), of = mg.tensor(of, "int64")}
          assert(raises("load_state: of is variable(", opt.load_state, opt, state))
        end
      end)
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

    it("may sort and cut the list they are given", function()
      local a, b, seen = mg.Variable{1}, mg.Variable{1}, {}
      local opt = optim.SGD({{params = {a}, lr = 1}, {params = {b}, lr = 0.25}})
      opt:add_hook(function(params) params[1], params[2] = params[2], params[1] end)
      opt:add_hook(function(params)
        params[1], params[2] = nil, nil
        params[1] = mg.Variable{3}
      end)
      opt:add_hook(function(params) seen = params end)
      ;(a + b):sum():backward()
      opt:step()
      assert.same({0}, a:totable())
      assert.same({0.75}, b:totable())
      assert(#seen == 2 and seen[1] == a and seen[2] == b)
    end)

    it("are not called where nothing is updated", function()
      local opt, called = optim.SGD({mg.Variable(1.0)}, {lr = 1}), false
      opt:add_hook(function(params)
        called = true
        optim.clip_grad_norm(params, 1)
      end)
      opt:step()
      assert.is_false(called)
    end)

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

    it("clip by value", function()
      assert(near(stepped(optim.clip_value(2)), {1, 2}))
      local p = mg.Variable{0, 0, 0}
      p.grad = mg.tensor{-5, 0.5, 3}
      optim.clip_grad_value({p, mg.Variable(1.0)}, 1)
      assert(near(p.grad, {-1, 0.5, 1}))
      assert(raises("clip_grad_value: max = -1 is negative", optim.clip_grad_value, {p}, -1))
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
      for _, name in ipairs{"SGD", "Adam", "AdamW", "RMSprop", "AdaGrad", "AdaDelta", "NAdam",
                            "Adamax", "Lion", "RAdam", "Rprop"} do
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
      for _, steps in ipairs{-1, 0, 1.5, 0 / 0, 2^62} do
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
