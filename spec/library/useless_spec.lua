-- Options that would make no difference beside the others are refused, and say why.

local mg = require "moongrad"
local child = require "spec.child"
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

  it("is refused by pooling and sampling", function()
    local window = {divisor_override = 2, count_include_pad = false}
    assert(raises("avg_pool2d: count_include_pad = false is of no use beside divisor_override",
      mg.avg_pool2d, mg.ones(1, 4, 4), 2, window))
    assert(raises("avg_pool3d: count_include_pad = false is of no use", mg.avg_pool3d,
      mg.ones(1, 4, 4, 4), 2, window))
    for name, args in pairs{normal = {x, 1}, uniform = {0, x}, exponential = {x}, gamma = {x, 1},
                            beta = {1, x}} do
      args[#args + 1] = {dtype = "float32"}
      assert(raises(name .. ": dtype = float32, but the parameters are float64", mg[name],
        table.unpack(args)))
    end
    assert.equal("float32", mg.normal(mg.tensor({1}, "int64"), 1, {dtype = "float32"}).dtype)
    assert.equal("float64", mg.normal(x, 1, {dtype = "float64"}).dtype)
  end)

  it("is refused where it stands in a list", function()
    assert(raises("roll: unknown option foo", mg.roll, mg.ones(2, 2), {1, 1, foo = 1}, {1, 2}))
    assert(raises("movedim: unknown option foo", mg.movedim, mg.ones(2, 2), {1, 2, foo = 1},
      {2, 1}))
    assert(raises("gradcheck: the table of inputs has the key foo", mg.gradcheck, square,
      {x, foo = x}))
    assert(raises("load: name 2 is a nil, expected a string", mg.load, "no.npz", {"a", nil, "b"}))
  end)

  it("is refused where a function of one's own gives it", function()
    local Order = mg.data.Sampler:extend "Order"
    function Order:init(...) self.given = table.pack(...) end
    function Order:__len() return #self.given[1] end
    function Order:positions() return table.unpack(self.given, 1, self.given.n) end
    for text, sampler in pairs{["gave 2 results, expected one"] = Order({1, 2}, 3),
                               ["gave positions that are no whole"] = Order{1.5, 2},
                               ["gave position -1, the first is 1"] = Order{-1, 2},
                               ["gave a string, expected positions"] = Order "12"} do
      local loader = mg.data.DataLoader(mg.data.TensorDataset(x), {sampler = sampler})
      assert(raises("batches: DataLoader: the sampler " .. text, loader.batches, loader))
    end
    local layer = nn.Linear(2, 2)
    layer:add_hook("forward", function(_, _, y) return nil, y end)
    assert(raises("Linear: a forward hook gave 2 results, the first nil", layer, mg.ones(1, 2)))
    for class, given in pairs{SGD = {{mg.ones(1)}, "table"}, LBFGS = {mg.ones(1), "Variable"}} do
      local p = mg.Variable{1}
      local opt = optim[class]{p}
      opt:add_hook(function() return given[1] end)
      local function loss()
        p:cleargrad()
        local y = square(p)
        y:backward()
        return y
      end
      loss()
      assert(raises("step: hook 1 gave a " .. given[2], opt.step, opt, class == "LBFGS" and loss or
        nil))
      assert.equal(1, p:item())
      given[1] = 3
      opt:step(class == "LBFGS" and loss or nil)
      assert.is_true(p:item() < 1)
    end
    local p = mg.Variable{1}
    local opt = optim.SGD{p}
    opt:add_hook(optim.freeze)                      -- not freeze{...}
    square(p):backward()
    assert(raises("step: hook 1 gave a function, which is not used", opt.step, opt))
    assert.equal(1, p:item())
    local gives = {2, 3}
    local function two() return table.unpack(gives) end
    local times = mg.compile(function(v) return v * mg.dynamic(two) end)
    assert(raises("dynamic: the function gave 2 results, expected one", mg.dynamic, two))
    assert(raises("dynamic: the function gave 2 results, expected one", times, x))
    gives = {2}
    assert(near(times(x), {2, 4, 8}))
    gives = {3, 4}
    assert(raises("dynamic: the function gave 2 results, expected one", times, x))
  end)

  it("is refused by solvers", function()
    local function stop(gives)
      return mg.minimize(square, x, {callback = function() return table.unpack(gives) end})
    end
    assert(raises("minimize: the callback gave a string, expected false", stop, {"stop"}))
    assert(raises("minimize: the callback gave 2 results", stop, {false, 1}))
    assert.is_false((select(2, stop{false})).converged)
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

  it("is refused by layers that normalize, convolve and draw", function()
    for _, name in ipairs{"BatchNorm", "InstanceNorm"} do
      for _, momentum in ipairs{0.5, "cumulative"} do
        assert(raises(name .. ": momentum is of no use without track_running_stats", nn[name], 3,
          {track_running_stats = false, momentum = momentum}))
      end
      assert.same({2, 3, 4},
        nn[name](3, {track_running_stats = false})(mg.rand(2, 3, 4)).shape)
    end
    assert(raises("batch_norm: momentum is of no use without mean and var", mg.batch_norm,
      mg.rand(3, 2), {momentum = 0.5}))
    assert(raises("instance_norm: momentum is of no use without mean and var", mg.instance_norm,
      mg.rand(3, 2, 4), {momentum = 0.5}))
    assert(raises("Conv2d: padding_mode is of no use without padding", nn.Conv2d, 1, 1, 3,
      {padding_mode = "reflect"}))
    assert.same({1, 2, 4}, nn.Conv2d(1, 1, 3, {padding_mode = "reflect", padding = {0, 1}})(
      mg.ones(1, 4, 4)).shape)
    local gpt = mg.models.GPT(5, {block_size = 4, n_layer = 1, n_embd = 4, n_head = 2})
    assert(raises("generate: top_k is of no use at temperature 0", gpt.generate, gpt,
      mg.tensor({1}, "int64"), 1, {temperature = 0, top_k = 2}))
  end)

  it("is refused by files, bars and made-up data", function()
    local text = ("abc"):rep(9)
    assert(raises('Text: test_fraction is of no use to split = "all"', mg.data.Text,
      {text = text, length = 2, test_fraction = 0.5}))
    assert.equal(12, #mg.data.Text{text = text, length = 2, stride = 1, split = "train",
                                   test_fraction = 0.5})
    assert.equal(1, #mg.data.Text{text = text, length = 1, split = "test"})
    assert(raises("the columns' names are of no use without a header", mg.save,
      child.path ".csv", mg.ones(2, 2), {columns = {"a", "b"}, header = false}))
    assert(raises("progress: total = 5, but there are 3", mg.progress, 3, "fit", 5))
    assert.is_false(mg.equal(mg.data.Spiral{seed = 3}:batch(1, 300),
      (mg.data.Spiral{seed = 3, split = "test"}:batch(1, 300))))
    assert(raises("SinCurve: a seed is of no use to the test split", mg.data.SinCurve,
      {split = "test", seed = 1}))
  end)

  it("is refused by plots", function()
    local function refuses(text, t)
      t.path = "no/such.svg"
      assert(raises("plot: " .. text, mg.plot, t))
    end
    local picture, curve = mg.ones(3, 4), mg.ones(4)
    refuses("x is that of curves, bars and contours", {image = picture, x = {1, 2, 3, 4}})
    refuses("x is that of curves, bars and contours", {heatmap = picture, x = {1, 2, 3, 4}})
    refuses("there are 1 labels for 0 layers", {heatmap = picture, labels = {"a"}})
    refuses("there are 1 styles for 0 layers", {bars = curve, styles = {"dots"}})
    refuses("there are 2 labels for 1 layers", {image = picture, curve, labels = {"a", "b"}})
    refuses("style is of no use where styles has one for each", {curve, curve, style = "dots",
      styles = {"points", "dashed"}})
  end)

  it("is refused by schedules and transforms", function()
    local opt = optim.SGD({mg.Variable(1)}, {lr = 1, momentum = 0.9})
    assert(raises("cyclic: gamma is of no use to triangular, only to exp_range", optim.cyclic, opt,
      0.1, 1, {gamma = 0.9}))
    assert(raises("cyclic: exp_range needs gamma", optim.cyclic, opt, 0.1, 1, {mode = "exp_range"}))
    assert(raises("one_cycle: base_momentum and max_momentum are of no use", optim.one_cycle, opt,
      1, 10, {cycle_momentum = false, base_momentum = 0.5}))
    local x4 = mg.rand(1, 4, 2, 2)
    assert(raises("ColorJitter: expected 1 or 3 channels, got 4",
      mg.data.ColorJitter{hue = 0.1}, x4))
    assert.same({1, 4, 2, 2}, mg.data.ColorJitter{brightness = 0.1}(x4).shape)
    assert(raises("MixUp: classes = 4, but the probabilities are of 3",
      mg.data.MixUp{classes = 4}, mg.rand(2, 2), mg.rand(2, 3)))
    assert(raises("RandomCrop: value is of no use without padding", mg.data.RandomCrop, 3,
      {value = 2}))
  end)
end)

-- A table that finds its values elsewhere would look empty to whoever reads it past metamethods.
describe("what a table's metatable would add", function()
  helper.guard(before_each, after_each)

  local function elsewhere(t, how)
    local get = {__index = t}
    function get.__pairs() return next, t end
    function get.__len() return #t end
    return setmetatable({}, {[how] = get[how]})
  end

  it("is refused as options", function()
    for _, how in ipairs{"__index", "__pairs", "__len"} do
      local function options(t) return elsewhere(t, how) end
      local text = ": a table with " .. how .. " is not read as options"
      assert(raises("zeros" .. text, mg.zeros, 3, options{dtype = "float32"}))
      assert(raises("sum" .. text, mg.sum, mg.ones(2), options{keepdims = true}))
      assert(raises("SGD" .. text, optim.SGD, {mg.Variable(1)}, options{lr = 1}))
      assert(raises("Linear" .. text, nn.Linear, 2, 2, options{bias = false}))
      assert(raises("dropout" .. text, mg.dropout, mg.ones(2), options{p = 0.1}))
    end
    local t = setmetatable({dtype = "float32"}, {__tostring = function() return "options" end})
    assert.equal("float32", mg.zeros(3, t).dtype)
  end)

  it("is refused as a shape, axes, an index, a list", function()
    for _, how in ipairs{"__index", "__len"} do
      local two = elsewhere({1, 2}, how)
      local text = ": a table with " .. how .. " is not read as "
      assert(raises("reshape" .. text .. "a list", mg.reshape, mg.ones(2), two))
      assert(raises("zeros" .. text .. "a list", mg.zeros, two))
      assert(raises("flip" .. text .. "a list", mg.flip, mg.ones(2, 2), two))
      assert(raises("sum" .. text .. "options", mg.sum, mg.ones(2, 2), two))
      assert(raises("index" .. text .. "a list", function() return mg.ones(2, 2)[two] end))
      assert(raises("{first, last, step}" .. text .. "a list",
        function() return mg.ones(2, 2)[{two, 1}] end))
      assert(raises("stack" .. text .. "a list", mg.stack, elsewhere({mg.ones(2)}, how)))
    end
    local p = elsewhere({w = mg.tensor{1.0}}, "__index")
    assert(raises("grad: argument 1 is a table with a metatable and nothing of its own",
      mg.grad(function(t) return t.w:sum() end), p))
  end)
end)
