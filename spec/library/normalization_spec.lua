-- Normalization: PyTorch's numbers, running statistics, derivatives to second order, no digits
-- lost; the layers.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, raises, same = helper.near, helper.exact, helper.raises, helper.same
local differentiable = helper.differentiable
local nn = mg.nn

-- As PyTorch was given it: ((0..23) * 7) % 11 - 3
local function sample() return ((mg.range(0, 23) * 7) % 11 - 3):reshape(2, 3, 4) end
local function parameters() return mg.tensor{1, 2, -1}, mg.tensor{0, 1, 2} end
local function statistics() return mg.tensor{0, 1, 2}, mg.tensor{1, 2, 3} end
local OPTIONS = {momentum = 0.25, eps = 1e-3}

-- mean and variance by the number of elements, of a list
local function moments(list)
  local mean, var = 0, 0
  for _, v in ipairs(list) do mean = mean + v / #list end
  for _, v in ipairs(list) do var = var + (v - mean) ^ 2 / #list end
  return mean, var
end

describe("normalization", function()
  helper.guard(before_each, after_each)

  it("batch_norm gives PyTorch's numbers in training, and keeps its statistics", function()
    local w, b = parameters()
    local mean, var = statistics()
    local y = mg.batch_norm(sample(), mean, var, w, b, OPTIONS)
    assert(near(y, {
      {{-1.738557101, 0.3779471958, -0.8314838308, 1.285020466},
        {1.778161319, -0.9886344826, 3.853258171, 1.086462369},
        {2.936996865, 0.7506708463, 2, 3.249329154}},
      {{0.3779471958, -0.8314838308, 1.285020466, 0.07558943916},
        {-0.9886344826, 3.853258171, 1.086462369, -1.680333433},
        {0.7506708463, 2, 3.249329154, 1.063003135}}}, 1e-9))
    assert(near(mean, {0.6875, 1.21875, 1.75}, 1e-15))
    assert(near(var, {3.875, 3.888392857142857, 5.178571428571429}, 1e-15))
  end)

  it("batch_norm gives PyTorch's numbers in test mode, and changes nothing", function()
    local w, b = parameters()
    local means, vars = {0.6875, 1.21875, 1.75}, {3.875, 3.888392857142857, 5.178571428571429}
    local mean, var = mg.tensor(means), mg.tensor(vars)
    local y = mg.test_mode(mg.batch_norm, sample(), mean, var, w, b, OPTIONS)
    assert(near(y[{1, {}, 1}], {-1.873010210106187, 2.8064001759157167, 3.6477235711354505}, 1e-14))
    assert(exact(mean, means))
    assert(exact(var, vars))
  end)

  it("batch_norm gives PyTorch's gradients in both modes", function()
    local want = {
      [true] = {
        {{-0.29868956450396367, 0.014049117234380116, 0.14546953558605907, 0.06603222561751677},
          {-0.011986014993393662, -0.2622787076928416, -0.2399167456636666, 0.2600316696789196},
          {-0.1974531202900619, -0.23195554630348297, -0.026206561580024063, 0.3374085806355194}},
        {0.5132548814525102, -1.0298191515117079, 1.195884431305658}},
      [false] = {
        {{-0.5363048325887465, 0.419957110739679, 0.9901124231854871, 0.649962939891941},
          {-0.40705502404121136, -1.3592815939160015, -1.0617909349926604, 0.21190541286315645},
          {-0.5270013600212264, -0.48296287102267305, 0.00510945429673201, 0.4884841708991774}},
        {11.087005216559227, -4.0773231268201044, 1.7761475380920833}}}
    for train, expected in pairs(want) do
      mg.using_config("train", train, function()
        local w, b = parameters()
        local mean, var = statistics()
        local x, W, B = mg.Variable(sample()), mg.Variable(w), mg.Variable(b)
        local y = mg.batch_norm(x, mean, var, W, B, OPTIONS)
        y.grad = mg.range(0, 23):sin():reshape(2, 3, 4)
        y:backward()
        assert(near(x.grad[2], expected[1], 1e-13))
        assert(near(W.grad, expected[2], 1e-13))
        assert(near(B.grad, {3.416377734371639, -3.1885665151045495, 0.7519945902231743}, 1e-13))
      end)
    end
  end)

  it("instance_norm, group_norm, layer_norm and rms_norm give PyTorch's numbers", function()
    local w, b = parameters()
    local mean, var = statistics()
    local x = sample()
    local y = mg.instance_norm(x, mean, var, w, b, OPTIONS)
    assert(near(y[{2, 2}],
      {-0.4457201761344773, 4.052075927395007, 1.481906725378159, -1.0882624766386895}, 1e-14))
    assert(near(mean, {0.6875, 1.21875, 1.75}, 1e-15))
    assert(near(var, {4.208333333333333, 4.15625, 5.479166666666666}, 1e-15))
    y = mg.instance_norm(x, mean, var, w, b, {use_input_stats = false})
    assert(same(y, mg.test_mode(mg.batch_norm, x, mean, var, w, b)))
    local six = mg.range(0, 5)
    y = mg.group_norm(mg.cat({x, x * 2 - 1}, 2), 3, six, six - 2, {eps = 1e-3})
    assert(near(y[{2, 4}],
      {3.005129712632426, -2.128002351706585, 6.854978760886684, 1.7218466965476735}, 1e-14))
    assert(near(mg.layer_norm(x, {eps = 0.1})[{1, 2}],
      {0.19841894753313627, -1.388932632731954, 1.388932632731954, -0.19841894753313627}, 1e-14))
    assert(near(mg.rms_norm(x, {4}, {1, 2, 3, 4})[{1, 3}],
      {-0.6405126152203485, 3.2025630761017427, 0.9607689228305227, -3.843075691322091}, 1e-14))
  end)

  it("any rank and width comes out with mean 0 and variance 1", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local tol = dtype == "float64" and 1e-12 or 1e-5
      for _, shape in ipairs{{50, 3}, {7, 100}, {4, 2, 1}, {3, 5, 17}, {2, 3, 33, 9}, {1, 1, 700},
        {2, 2, 3, 4, 5}} do
        local x = mg.randn{dtype = dtype, table.unpack(shape)} * 3 + 5
        local y = mg.batch_norm(x, nil, nil, nil, nil, {eps = 0})
        assert.equal(dtype, y.dtype)
        local mean, var = moments(y:swapaxes(1, 2)[-1]:flatten():totable())
        assert(near({mean, var}, {0, 1}, tol))
        if x.size > shape[1] * shape[2] then
          mean, var = moments(mg.instance_norm(x, {eps = 0})[{-1, -1}]:flatten():totable())
          assert(near({mean, var}, {0, 1}, tol))
        end
        mean, var = moments(mg.group_norm(x, 1, {eps = 0})[1]:flatten():totable())
        assert(near({mean, var}, {0, 1}, tol))
      end
    end
  end)

  local TRIALS = {
    batch_norm = {function(x, w, b) return mg.batch_norm(x, nil, nil, w, b) end,
      {3, 2, 2, 2}, {2}},
    ["batch_norm of columns"] = {function(x, w) return mg.batch_norm(x, nil, nil, w) end,
      {5, 3}, {3}},
    ["batch_norm in test mode"] = {function(x, w, b)
      return mg.test_mode(mg.batch_norm, x, mg.tensor{0.1, 0.2}, mg.tensor{1, 2}, w, b)
    end, {3, 2, 2}, {2}},
    instance_norm = {function(x, w, b) return mg.instance_norm(x, nil, nil, w, b) end,
      {2, 2, 4}, {2}},
    group_norm = {function(x, w, b) return mg.group_norm(x, 2, w, b) end, {2, 4, 3}, {4}},
    layer_norm = {function(x, w, b) return mg.layer_norm(x, {2, 3}, w, b) end, {3, 2, 3}, {2, 3}},
    ["layer_norm of all"] = {function(x, w) return mg.layer_norm(x, {2, 3}, w) end, {2, 3}, {2, 3}},
    rms_norm = {function(x, w) return mg.rms_norm(x, w) end, {3, 4}, {4}},
  }
  for name, trial in pairs(TRIALS) do
    it(name .. " has first and second derivatives", function()
      mg.seed(5)
      local f, shape, size = table.unpack(trial)
      assert(differentiable(f, {mg.randn(shape), mg.rand(size) + 0.5, mg.rand(size)}))
    end)
  end

  it("loses no digits to a large mean", function()
    for dtype, mean in pairs{float32 = 2.0 ^ 20, float64 = 2.0 ^ 48} do
      local x = (mg.range(0, 2 * 4 * 60 - 1) * 37 % 101 / 8):to(dtype):reshape(2, 4, 60)
      local near_0 = {rtol = 0, atol = dtype == "float32" and 1e-6 or 1e-14}
      for _, f in ipairs{function(v) return mg.batch_norm(v) end,
        function(v) return mg.group_norm(v, 2) end, function(v) return mg.instance_norm(v) end,
        function(v) return mg.layer_norm(v) end} do
        assert.is_true(mg.allclose(f(x + mean), f(x), near_0))
      end
      x = x:reshape(120, 4)
      assert.is_true(mg.allclose(mg.batch_norm(x + mean), mg.batch_norm(x), near_0))
    end
  end)

  it("neither overflows nor vanishes where the result does not", function()
    for dtype, sizes in pairs{float32 = {1e-25, 1e20, 1e-35, 1e35},
      float64 = {1e-25, 1e20, 1e-200, 1e250}} do
      local x = mg.tensor({{1, 2, 3}, {2, 4, 6}}, dtype)
      for _, size in ipairs(sizes) do
        for _, f in ipairs{function(v) return mg.layer_norm(v, {eps = 0}) end,
          function(v) return mg.rms_norm(v, {eps = 0}) end,
          function(v) return mg.batch_norm(v, nil, nil, nil, nil, {eps = 0}) end,
          function(v) return mg.group_norm(v:reshape(1, 2, 3), 1, {eps = 0}) end} do
          assert(near(f(x * size), f(x), 1e-6))
          local a, b = mg.Variable(x), mg.Variable(x * size)
          f(a)[1]:square():mul({1, 2, 3}):sum():backward()
          f(b)[1]:square():mul({1, 2, 3}):sum():backward()
          if size > 1e-35 then assert(near(b.grad * size, a.grad, 1e-5, 1e-6)) end
        end
      end
    end
    assert(near(mg.layer_norm(mg.tensor({1e-25, 2e-25, 3e-25}, "float32")),
      {-1e-25 * 1e5 ^ 0.5, 0, 1e-25 * 1e5 ^ 0.5}, 1e-6, 1e-30))
    assert(exact(mg.layer_norm(mg.full({2, 3}, 7)), {{0, 0, 0}, {0, 0, 0}}))
    local least = 0x1p-1074                  -- which 1 divided by is no number
    assert(exact(mg.rms_norm({least * 1024, 0}, {eps = 0x1p-20}), {least * 2 ^ 20, 0}))
    assert(exact(mg.layer_norm({least * 1024, -least * 1024}, {eps = 0x1p-20}),
      {least * 2 ^ 20, -least * 2 ^ 20}))
  end)

  it("of an empty batch nothing comes, and statistics stay", function()
    local mean, var = statistics()
    local w, b = parameters()
    local x, W = mg.Variable(mg.zeros(0, 3, 4)), mg.Variable(w)
    local y = mg.batch_norm(x, mean, var, W, b)
    assert.same({0, 3, 4}, y.shape)
    y:sum():backward()
    assert(exact(W.grad, {0, 0, 0}))
    assert.same({0, 3, 4}, x.grad.shape)
    assert(exact(mean, {0, 1, 2}))
    assert.same({0, 3, 4}, mg.group_norm(x, 3, w, b).shape)
    assert.same({0, 3, 4}, mg.instance_norm(x, mean, var).shape)
    assert.same({0, 3}, mg.layer_norm(mg.zeros(0, 3)).shape)
  end)

  it("refuses what it has no variance of, and shapes that do not fit", function()
    assert(raises("batch_norm: x (1, 3) has one value for each channel", mg.batch_norm,
      mg.ones(1, 3)))
    assert(raises("batch_norm: x (1, 3, 1) has one value for each channel", mg.batch_norm,
      mg.ones(1, 3, 1)))
    assert(raises("instance_norm: x (2, 3, 1) has one value", mg.instance_norm, mg.ones(2, 3, 1)))
    assert(raises("batch_norm: x must be (N, C, ...), got shape (3)", mg.batch_norm, mg.ones(3)))
    assert(raises("batch_norm: w must have shape (3), one for each channel of x (2, 3), got (2)",
      mg.batch_norm, mg.ones(2, 3), nil, nil, mg.ones(2)))
    assert(raises("batch_norm: one of mean and var is missing", mg.batch_norm, mg.ones(2, 3),
      mg.ones(3)))
    assert(raises("instance_norm: without use_input_stats mean and var are needed",
      mg.instance_norm, mg.ones(2, 3, 4), {use_input_stats = false}))
    assert(raises("group_norm: 3 channels of x (2, 3) do not fall into 2 groups", mg.group_norm,
      mg.ones(2, 3), 2))
    assert(raises("rms_norm: w must be a Variable of shape (3), got (2)", mg.rms_norm,
      mg.ones(2, 3), mg.ones(2)))
    local y = mg.test_mode(mg.batch_norm, mg.ones(1, 3), statistics())
    assert.same({1, 3}, y.shape)
  end)

  it("has the same bits for any number of threads", function()
    local before, all = mg.num_threads(), {}
    for k, n in ipairs{1, 2, 5} do
      mg.set_num_threads(n)
      mg.seed(2)
      local results = {}
      for _, shape in ipairs{{20, 130}, {6, 40, 33, 9}} do
        local x, w = mg.Variable(mg.randn{dtype = "float32", table.unpack(shape)}),
          mg.Variable(mg.rand{shape[2], dtype = "float32"})
        for _, f in ipairs{function() return mg.batch_norm(x, nil, nil, w, w) end,
          function() return mg.group_norm(x, 10, w, w) end,
          function() return mg.layer_norm(x) end} do
          local y = f()
          local g = mg.gradients(y:sin():sum(), {x, w}, {create_graph = true, allow_unused = true})
          local gg = mg.gradients(g[1]:square():sum(), {x})
          for _, r in ipairs{y, g[1], g[2] or y, gg[1]} do results[#results + 1] = r end
        end
      end
      all[k] = results
    end
    mg.set_num_threads(before)
    for i, r in ipairs(all[1]) do
      assert(same(r, all[2][i]))
      assert(same(r, all[3][i]))
    end
  end)
end)

describe("layers that normalize", function()
  helper.guard(before_each, after_each)

  it("BatchNorm: PyTorch's names, lazily sized, counts batches", function()
    local l = nn.BatchNorm()
    assert(raises("state: BatchNorm has no parameters yet", l.state, l))
    local x = mg.randn(4, 3, 5) * 2 + 1
    local mean, var = mg.zeros(3), mg.ones(3)
    assert(same(l(x), mg.batch_norm(x, mean, var, mg.ones(3), mg.zeros(3))))
    assert(same(l.running_mean, mean))
    assert(same(l.running_var, var))
    local names = {}
    for name in pairs(l:state()) do names[#names + 1] = name end
    table.sort(names)
    assert.same({"bias", "num_batches_tracked", "running_mean", "running_var", "weight"}, names)
    assert.equal(2, #l:parameters())
    assert.equal(1, l.num_batches_tracked:item())
    assert.equal("int64", l.num_batches_tracked.dtype)
    assert(same(mg.test_mode(l, x),
      mg.test_mode(mg.batch_norm, x, mean, var, mg.ones(3), mg.zeros(3))))
    assert.equal(1, l.num_batches_tracked:item())
    local other = nn.BatchNorm():load_state(l:state())
    assert(same(mg.test_mode(other, x), mg.test_mode(l, x)))
    assert.equal("float32", l:to("float32").running_var.dtype)
    assert.equal("int64", l.num_batches_tracked.dtype)
    assert.equal("BatchNorm(3)", tostring(l))
  end)

  it("batch_norm, instance_norm: a momentum that is a Variable is a part as well", function()
    for _, name in ipairs{"batch_norm", "instance_norm"} do
      local x, mean, var = mg.randn(4, 3, 2), mg.zeros(3), mg.ones(3)
      for _, v in ipairs{2, -0.5, 0 / 0} do
        assert(raises(name .. ": momentum must be within 0..1", mg[name], x, mean, var,
          {momentum = mg.tensor(v)}))
      end
      assert(same(mean, mg.zeros(3)))
      mg[name](x, mean, var, {momentum = mg.tensor(0.5)})
      assert(near(mean, 0.5 * x:mean{1, 3}, 1e-14))
    end
  end)

  it("BatchNorm: options", function()
    local x = mg.randn(4, 3)
    local l = nn.BatchNorm(3, {affine = false, track_running_stats = false, eps = 0.5})
    assert(same(mg.test_mode(l, x), mg.batch_norm(x, nil, nil, nil, nil, {eps = 0.5})))
    assert.same({}, l:state())
    l = nn.BatchNorm(3, {momentum = "cumulative"})
    l(x)
    l(x + 1)
    assert(near(l.running_mean, x:mean(1) + 0.5, 1e-14))
    assert(near(l.running_var, x:var(1), 1e-14))
    assert(raises("BatchNorm: momentum must be a number in 0..1", nn.BatchNorm, 3, {momentum = 2}))
    assert(raises("BatchNorm: x must be (N, C, ...), got shape (3)", nn.BatchNorm(), mg.ones(3)))
  end)

  it("InstanceNorm, GroupNorm, LayerNorm, RMSNorm do what their ops do", function()
    local x = mg.randn(2, 4, 6)
    assert(same(nn.InstanceNorm()(x), mg.instance_norm(x)))
    assert.same({}, nn.InstanceNorm(4):state())
    local l = nn.InstanceNorm{affine = true, track_running_stats = true}
    local mean, var = mg.zeros(4), mg.ones(4)
    assert(same(l(x), mg.instance_norm(x, mean, var, mg.ones(4), mg.zeros(4))))
    assert(same(l.running_var, var))
    assert(same(mg.test_mode(l, x), mg.instance_norm(x, mean, var, mg.ones(4), mg.zeros(4),
      {use_input_stats = false})))
    l = nn.GroupNorm(2)
    assert(same(l(x), mg.group_norm(x, 2, mg.ones(4), mg.zeros(4))))
    assert.equal("GroupNorm(2, 4)", tostring(l))
    assert(raises("GroupNorm: 4 channels do not fall into 3 groups", nn.GroupNorm, 3, 4))
    assert(raises("group_norm: 4 channels of x (2, 4, 6) do not fall into 3 groups",
      nn.GroupNorm(3), x))
    assert(same(nn.LayerNorm({4, 6}, {bias = false})(x), mg.layer_norm(x, {4, 6}, mg.ones(4, 6))))
    assert(same(nn.RMSNorm()(x), mg.rms_norm(x, mg.ones(6))))
    assert(same(nn.RMSNorm(6, {eps = 1, elementwise_affine = false})(x),
      mg.rms_norm(x, {eps = 1})))
  end)
end)

describe("a normalization whose weights alone are tracked", function()
  helper.guard(before_each, after_each)

  it("has their gradients, with Config.debug too, and leaves no error behind", function()
    local x = mg.rand(6, 4)
    for name, layer in pairs{BatchNorm = mg.nn.BatchNorm(4), GroupNorm = mg.nn.GroupNorm(2, 4),
                             LayerNorm = mg.nn.LayerNorm(4), RMSNorm = mg.nn.RMSNorm(4)} do
      layer(x):square():sum():backward()
      assert(helper.raises("reshape: ", mg.reshape, x, {7}))
      local grad = layer.weight.grad
      layer:cleargrads()
      mg.using_config("debug", true, function() layer(x):square():sum():backward() end)
      assert(helper.same(grad, layer.weight.grad), name)
    end
  end)
end)
