-- Options that would make no difference beside the others are refused, and say why.

local mg = require "moongrad"
local helper = require "spec.helper"
local raises, near = helper.raises, helper.near
local nn, optim = mg.nn, mg.optim

describe("an option of no use beside the others", function()
  helper.guard(before_each, after_each)

  local x = mg.tensor{1, 2, 4}
  local function square(v) return (v * v):sum() end

  it("is refused by ops", function()
    assert(raises("trapezoid: dx is of no use beside x", mg.trapezoid, x, {0, 1, 3}, {dx = 2}))
    assert(near(mg.trapezoid(x, {dx = 2}), 9))
    assert(near(mg.trapezoid(x), 4.5))
    assert(raises("histogram: range is of no use beside the edges of bins", mg.histogram, x,
      {0, 2, 4}, {range = {0, 1}}))
    assert(raises("poisson_nll_loss: eps is of no use where x is a logarithm", mg.poisson_nll_loss,
      x, x, {eps = 1e-3}))
    assert(near(mg.poisson_nll_loss({1.0}, {2.0}, {log_input = false, eps = 1}),
      1 - 2 * math.log(2)))
    assert(near(mg.poisson_nll_loss({1.0}, {2.0}, {log_input = false}), 1 - 2 * math.log(1 + 1e-8)))
  end)

  it("is refused by solvers", function()
    local function f(_, y) return -y end
    assert(raises("odeint: rk4 takes steps of one length, and no rtol, atol or max_steps",
      mg.odeint, f, 1.0, {0, 1}, {method = "rk4", max_steps = 10}))
    assert(raises("max_steps = 2 are taken", mg.odeint, f, 1.0, {0, 100}, {max_steps = 2}))
    assert(raises("minimize: history is of no use to Newton-CG", mg.minimize, square, x,
      {method = "Newton-CG", history = 3}))
    assert(near(mg.minimize(square, x, {history = 1}), {0, 0, 0}, 1e-6))
  end)

  it("is refused by layers and their first values", function()
    assert(raises("LSTM: dropout is between layers, and num_layers is 1", nn.LSTM, 3, 4,
      {dropout = 0.5}))
    local p = nn.Parameter(mg.ones(3, 3))
    assert(raises("kaiming_normal: a slope is of no use to relu", nn.init.kaiming_normal, p,
      {nonlinearity = "relu", a = 0.1}))
    assert(raises("kaiming_uniform: a slope is of no use to tanh", nn.init.kaiming_uniform, p,
      {nonlinearity = "tanh", a = 0}))
    assert(raises("calculate_gain: a slope is of no use to relu", nn.init.calculate_gain, "relu",
      0.1))
    assert(near(nn.init.calculate_gain "leaky_relu", math.sqrt(2 / (1 + 0.01 ^ 2))))
    assert(near(nn.init.calculate_gain("leaky_relu", 1), 1))
  end)

  it("is refused by schedules and transforms", function()
    local opt = optim.SGD({mg.Variable(1)}, {lr = 1, momentum = 0.9})
    assert(raises("cyclic: gamma is of no use to triangular, only to exp_range", optim.cyclic, opt,
      0.1, 1, {gamma = 0.9}))
    assert(raises("one_cycle: base_momentum and max_momentum are of no use", optim.one_cycle, opt,
      1, 10, {cycle_momentum = false, base_momentum = 0.5}))
    assert(raises("RandomCrop: value is of no use without padding", mg.data.RandomCrop, 3,
      {value = 2}))
  end)
end)
