-- Schedules against PyTorch's numbers (torch 2.15, float64); groups; state: what is stopped, saved
-- and resumed gives the bits of what went on.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local near, raises = helper.near, helper.raises
local nn, optim = mg.nn, mg.optim

local function sgd(lr) return optim.SGD({mg.Variable(1.0)}, {lr = lr or 1, momentum = 0.9}) end

local function rates(make, n, opt)
  opt = opt or sgd()
  local schedule, list = make(opt), {}
  for i = 1, n do
    list[i] = opt.lr
    schedule:step()
  end
  return list
end

describe("schedules", function()
  helper.guard(before_each, after_each)

  it("of factors", function()
    assert(near(rates(function(o) return optim.exponential(o, 0.5) end, 4), {1, 0.5, 0.25, 0.125}))
    assert(near(rates(function(o) return optim.multistep(o, {2, 3}) end, 5),
      {1, 1, 0.1, 0.01, 0.01}))
    assert(near(rates(function(o)
      return optim.linear_lr(o, 4, {start_factor = 0.2, end_factor = 0.6})
    end, 6), {0.2, 0.3, 0.4, 0.5, 0.6, 0.6}))
    local function inverse(t) return 1 / (1 + t) end
    assert(near(rates(function(o) return optim.lambda(o, inverse) end, 3), {1, 1 / 2, 1 / 3}))
    assert(near(rates(function(o) return optim.polynomial(o, 5, {power = 2}) end, 7),
      {1, 0.64, 0.36, 0.16, 0.04, 0, 0}))
    assert(raises("lambda: the function gave a nil", optim.lambda, sgd(), function() end))
    assert(raises("SGD: lr = -1 is negative", optim.lambda, sgd(), function() return -1 end))
  end)

  it("up and down again and again", function()
    local function is(mode, want)
      local gamma = mode == "exp_range" and 0.9 or nil
      assert(near(rates(function(o)
        return optim.cyclic(o, 0.1, 0.5, {up = 3, down = 2, mode = mode, gamma = gamma})
      end, #want), want))
    end
    is("triangular", {0.1, 0.7 / 3, 1.1 / 3, 0.5, 0.3, 0.1, 0.7 / 3})
    is("triangular2", {0.1, 0.7 / 3, 1.1 / 3, 0.5, 0.3, 0.1, 0.5 / 3, 0.7 / 3, 0.3, 0.2, 0.1,
                       0.4 / 3})
    is("exp_range", {0.1, 0.22, 0.316, 0.3916, 0.23122, 0.1, 0.1708588, 0.22754584, 0.272186884,
                     0.1774840978, 0.1, 0.141841412812})
  end)

  it("warm restarts", function()
    assert(near(rates(function(o)
      return optim.warm_restarts(o, 3, {t_mult = 2, eta_min = 0.1})
    end, 12), {1, 0.775, 0.325, 1, 0.9397114317029974, 0.775, 0.55, 0.325, 0.16028856829700258, 1,
               0.9846666218300807, 0.9397114317029974}))
    assert(near(rates(function(o) return optim.warm_restarts(o, 2) end, 5), {1, 0.5, 1, 0.5, 1}))
  end)

  it("keep those that they were made of", function()
    for _, name in ipairs{"chained", "sequential"} do
      local opt = optim.SGD({mg.Variable(1)}, {lr = 1})
      local list = {optim.step(opt, 1, {gamma = 0.5}), optim.step(opt, 1, {gamma = 0.5})}
      local schedule = optim[name](list, name == "sequential" and {1} or nil)
      list[1], list[2] = nil, nil
      schedule:step()
      assert.equal(name == "chained" and 0.25 or 1, opt.lr)
      schedule:step()
      assert.equal(name == "chained" and 0.0625 or 0.5, opt.lr)
    end
  end)

  it("one after the other, and chained", function()
    assert(near(rates(function(o)
      return optim.sequential({optim.linear_lr(o, 3, {start_factor = 0.25}),
                               optim.exponential(o, 0.5)}, {3})
    end, 7), {0.25, 0.5, 0.75, 1, 0.5, 0.25, 0.125}))
    assert(near(rates(function(o)
      return optim.chained{optim.linear_lr(o, 3, {start_factor = 0.25}), optim.exponential(o, 0.5)}
    end, 7), {0.25, 0.25, 0.1875, 0.125, 0.0625, 0.03125, 0.015625}))
    local a, b = sgd(), sgd()
    assert(raises("chained: expected a list of schedules", optim.chained, {}))
    assert(raises("chained: schedule 2 is of another optimizer", optim.chained,
      {optim.step(a, 1), optim.step(b, 1)}))
    assert(raises("sequential: 2 schedules need 1 milestones, got 0", optim.sequential,
      {optim.step(a, 1), optim.step(a, 1)}, {}))
    assert(raises("chained: schedule 1, plateau, is no function of the step", optim.chained,
      {optim.plateau(a)}))
    assert.equal("Schedule(exponential, t = 0, lr = 1)", tostring(optim.exponential(a, 0.5)))
  end)

  it("one cycle, of momentum too", function()
    local function cycle(opts)
      local opt = optim.SGD({mg.Variable(1.0)}, {lr = 0.1, momentum = 0.9})
      local schedule, lr, momentum = optim.one_cycle(opt, 1, 10, opts), {}, {}
      for i = 1, 10 do
        lr[i], momentum[i] = opt.lr, opt.momentum
        schedule:step()
      end
      return lr, momentum, opt
    end
    local lr, momentum, opt = cycle()
    assert(near(lr, {0.04, 0.52, 1, 0.9504846320134737, 0.8117456539497631, 0.6112620219362893,
                     0.38874197806371075, 0.18825834605023697, 0.049519367986526286, 4e-06}, 1e-12))
    assert(near(momentum, {0.95, 0.9, 0.85, 0.854951556604879, 0.8688255099070633,
      0.8888739533021842, 0.9111260466978157, 0.9311744900929366, 0.945048443395121, 0.95}))
    assert(near(opt.lr, 4e-6))
    lr, momentum = cycle{three_phase = true, anneal = "linear"}
    assert(near(lr, {0.04, 0.52, 1, 0.52, 0.04, 0.0320008, 0.0240016, 0.0160024, 0.0080032, 4e-06},
      1e-12))
    assert(near(momentum, {0.95, 0.9, 0.85, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95}))
    local adam = optim.Adam{mg.Variable(1.0)}
    optim.one_cycle(adam, 1, 10)
    assert.same({0.95, 0.999}, adam.betas)
    assert(raises("one_cycle: AdaGrad has no momentum", optim.one_cycle,
      optim.AdaGrad{mg.Variable(1.0)}, 1, 10))
    optim.one_cycle(optim.AdaGrad{mg.Variable(1.0)}, 1, 10, {cycle_momentum = false})
  end)

  it("plateau", function()
    local losses = {5, 4, 4, 4, 3.9999, 4, 4, 4, 1, 2, 2, 2, 2, 2}
    local function after(opts, sign)
      local opt, list = sgd(), {}
      local schedule = optim.plateau(opt, opts)
      for i, loss in ipairs(losses) do
        schedule:step(sign == -1 and mg.tensor(-loss) or loss)
        list[i] = opt.lr
      end
      return list
    end
    assert(near(after{patience = 1, factor = 0.5, cooldown = 1},
      {1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125, 0.0625}))
    local absolute = {1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2}
    local opts = {patience = 1, factor = 0.5, threshold = 1e-6, threshold_mode = "abs",
                  min_lr = 0.2}
    assert(near(after(opts), absolute))
    opts.mode = "max"
    assert(near(after(opts, -1), absolute))
    local opt = sgd()
    local schedule = optim.plateau(opt, {patience = 0})
    for _ = 1, 2 do schedule:step(0 / 0) end         -- a loss of nan is no progress
    assert(near(opt.lr, 0.01))
    assert(raises("step: argument 1 is a nil", schedule.step, schedule))
  end)

  it("begin where another one began that has not stepped", function()
    local opt = sgd()
    optim.linear_lr(opt, 4, {start_factor = 0.5})
    optim.exponential(opt, 0.5)
    assert.equal(1, opt.lr)
    local second = optim.exponential(opt, 0.5)
    second:step()
    optim.cosine(opt, 4)
    assert.equal(0.5, opt.lr)
  end)

  it("change each group's own lr, and none if one of them fails", function()
    local opt = optim.SGD({{params = {mg.Variable(1.0)}, lr = 2}, {params = {mg.Variable(1.0)}}},
      {lr = 1})
    local schedule = optim.exponential(opt, 0.5)
    schedule:step()
    assert.same({0.5, 1, 0.5}, {opt.lr, opt.groups[1].lr, opt.groups[2].lr})
    local bad = optim.lambda(opt, function(t) return t == 0 and 1 or 0 / 0 end)
    assert(raises("SGD: lr must be at least 0, got nan", bad.step, bad))
    assert.same({0, 0.5, 1, 0.5}, {bad.t, opt.lr, opt.groups[1].lr, opt.groups[2].lr})
  end)

  it("take their state, and nothing of a wrong one", function()
    local opt = sgd()
    local schedule = optim.step(opt, 2)
    for _ = 1, 3 do schedule:step() end
    local state = schedule:state()
    local other = sgd(0.3)
    local fresh = optim.step(other, 2)
    assert(raises("load_state: this is the state of step, not of exponential",
      optim.exponential(sgd(), 1).load_state, optim.exponential(sgd(), 1), state))
    assert(raises("load_state: this is no schedule's state", fresh.load_state, fresh, {}))
    state.t = nil
    assert(raises("load_state: t is missing", fresh.load_state, fresh, state))
    state.t, state.lr[1] = 3, -1
    assert(raises("SGD: lr = -1 is negative", fresh.load_state, fresh, state))
    state.lr[1], state.base[1] = 0.1, -1
    assert(raises("SGD: lr = -1 is negative", fresh.load_state, fresh, state))
    state.base[1], state.t = 1, math.maxinteger
    assert(raises("load_state: t is 9223372036854775807", fresh.load_state, fresh, state))
    assert.same({0, 0.3}, {fresh.t, other.lr})
    state.t = 3
    assert.equal(fresh, fresh:load_state(state))
    fresh:step()
    assert.same({4, 1 * 0.1 ^ 2}, {fresh.t, other.lr})
  end)
end)

describe("a run stopped, saved and resumed", function()
  local rules = {
    SGD = {momentum = 0.9}, Adam = {amsgrad = true}, AdamW = {}, NAdam = {}, Adamax = {}, Lion = {},
    RMSprop = {centered = true, momentum = 0.5}, AdaGrad = {lr_decay = 0.1}, AdaDelta = {},
    RAdam = {}, Rprop = {}
  }
  local schedules = {
    cosine = function(o) return optim.cosine(o, 9) end,
    warmup = function(o) return optim.warmup(o, 3, {after = optim.cosine(o, 5)}) end,
    step = function(o) return optim.step(o, 2) end,
    multistep = function(o) return optim.multistep(o, {2, 5}) end,
    exponential = function(o) return optim.exponential(o, 0.9) end,
    linear = function(o) return optim.linear_lr(o, 7) end,
    restarts = function(o) return optim.warm_restarts(o, 2, {t_mult = 1.5}) end,
    lambda = function(o) return optim.lambda(o, function(t) return 1 / (1 + t) end) end,
    chained = function(o)
      return optim.chained{optim.exponential(o, 0.9), optim.linear_lr(o, 5)}
    end,
    sequential = function(o)
      return optim.sequential({optim.linear_lr(o, 4), optim.exponential(o, 0.9)}, {4})
    end,
    one_cycle = function(o) return optim.one_cycle(o, 0.1, 8) end,
    plateau = function(o) return optim.plateau(o, {patience = 0, factor = 0.7}) end
  }

  local function start(rule, make)
    local model = nn.Sequential(nn.Linear(4, 8), mg.tanh, nn.Dropout(0.3), nn.Linear(8, 2))
    local opt = optim[rule]({{params = model[1], lr = 0.05}, {params = model[4]}}, rules[rule])
    return {model = model, opt = opt, schedule = make(opt)}
  end

  local function go(run, steps)
    for _ = 1, steps do
      local loss = run.model(mg.randn(5, 4)):square():mean()
      run.model:cleargrads()
      loss:backward()
      run.opt:step()
      if run.schedule.kind == "plateau" then run.schedule:step(loss) else run.schedule:step() end
    end
  end

  local function resumes(rule, make, path)
    mg.seed(5)
    local run = start(rule, make)
    go(run, 4)
    mg.save(path, {model = run.model:state(), opt = run.opt:state(),
                   schedule = run.schedule:state(), rng = mg.get_rng_state()})
    go(run, 4)
    mg.seed(77)
    local again, saved = start(rule, make), mg.load(path)
    again.model:load_state(saved.model)
    again.schedule:load_state(saved.schedule)
    again.opt:load_state(saved.opt)
    mg.set_rng_state(saved.rng)
    go(again, 4)
    for name, want in pairs(run.model:state()) do
      assert(helper.same(again.model:state()[name], want))
    end
    assert.equal(run.opt.lr, again.opt.lr)
    assert.equal(run.opt.groups[1].lr, again.opt.groups[1].lr)
  end

  it("gives the same bits, for every rule", function()
    local path = child.folder() .. "/run.safetensors"
    for rule in pairs(rules) do resumes(rule, schedules.cosine, path) end
  end)

  it("gives the same bits, for every schedule", function()
    local path = child.folder() .. "/run.safetensors"
    for name, make in pairs(schedules) do
      if name ~= "one_cycle" then resumes("Adam", make, path) end
    end
    resumes("SGD", schedules.one_cycle, path)
    resumes("NAdam", schedules.one_cycle, path)
  end)
end)
