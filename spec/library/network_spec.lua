-- What networks are made of: layers as functions, and losses, against their definitions.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises
local differentiable = helper.differentiable
local exp, log, huge = math.exp, math.log, math.huge

local X = {{0.5, -1.25, 2}, {1.5, 0.25, -0.75}}

local function x() return mg.tensor(X) end

-- f(row) for each row of X
local function rows(f)
  local t = {}
  for i, row in ipairs(X) do t[i] = f(row) end
  return t
end

local function logsumexp(row)
  local sum = 0
  for _, v in ipairs(row) do sum = sum + exp(v) end
  return log(sum)
end

local function log_softmax(row)
  local t, s = {}, logsumexp(row)
  for j, v in ipairs(row) do t[j] = v - s end
  return t
end

describe("layers as functions", function()
  helper.guard(before_each, after_each)

  it("linear is x W' + b, along the last axis", function()
    local W, b = mg.tensor{{1, 2, 3}, {-1, 0.5, 0}}, mg.tensor{10, 20}
    local want = rows(function(r)
      return {r[1] + 2 * r[2] + 3 * r[3] + 10, -r[1] + 0.5 * r[2] + 20}
    end)
    assert(near(mg.linear(x(), W, b), want))
    assert(near(mg.linear(x(), W), mg.tensor(want) - b))
    assert(near(mg.linear(x()[1], W, b), want[1]))
    assert(near(mg.linear(x():reshape(2, 1, 3), W, b), mg.tensor(want):reshape(2, 1, 2)))
    assert(differentiable(mg.linear, {x(), W, b}))
    assert(differentiable(mg.linear, {x():reshape(1, 2, 1, 3), W}))
    assert(raises("linear: x (2, 3) does not fit W (2, 2)", mg.linear, x(), mg.ones(2, 2)))
    assert(raises("linear: b (3) does not fit W (2, 3)", mg.linear, x(), W, mg.ones(3)))
  end)

  it("softmax and log_softmax, along any axis", function()
    local want = rows(log_softmax)
    assert(near(mg.log_softmax(x()), want))
    assert(near(mg.softmax(x()):log(), want))
    assert(near(mg.softmax(x().T, 1):log(), mg.tensor(want).T))
    assert(near(mg.log_softmax(x().T, {axis = 1}), mg.tensor(want).T))
    assert(near(mg.softmax(x(), 1):sum(1), {1, 1, 1}))
    for _, f in ipairs{mg.softmax, mg.log_softmax} do
      for axis = 1, 2 do
        assert(differentiable(function(a) return f(a, axis) end, {x()}))
      end
      assert(raises("axis 3 is out of range for shape (2, 3)", f, x(), 3))
    end
  end)

  it("softmax neither overflows nor stumbles over -inf", function()
    assert(exact(mg.softmax{1000, 1000, -huge}, {0.5, 0.5, 0}))
    assert(near(mg.log_softmax{-1000, 0}, {-1000, 0}))
    local a = mg.Variable{1, -huge, 2}
    mg.softmax(a)[3]:backward()
    local p = 1 / (1 + exp(-1))
    assert(near(a.grad, {-p * (1 - p), 0, p * (1 - p)}))
  end)

  it("embedding picks rows, and its gradients add up", function()
    local W = mg.Variable{{1, 2}, {3, 4}, {5, 6}}
    local y = mg.embedding({{1, 3}, {3, 3}}, W)
    assert(exact(y, {{{1, 2}, {5, 6}}, {{5, 6}, {5, 6}}}))
    y:backward()
    assert(exact(W.grad, {{1, 1}, {0, 0}, {3, 3}}))
    assert(differentiable(function(w) return mg.embedding({2, 1, 2}, w):square() end,
      {W:detach()}))
    assert(raises("embedding: index 4 at position 2 is not in 1..3", mg.embedding, {1, 4}, W))
    assert(raises("embedding: index must be int64", mg.embedding, mg.tensor{1}, W))
  end)

  it("layer_norm, over the last axes", function()
    local want = rows(function(r)
      local mean = (r[1] + r[2] + r[3]) / 3
      local var = ((r[1] - mean) ^ 2 + (r[2] - mean) ^ 2 + (r[3] - mean) ^ 2) / 3
      local t = {}
      for j, v in ipairs(r) do t[j] = (v - mean) / math.sqrt(var + 1e-5) * j + 1 end
      return t
    end)
    local w, b = mg.tensor{1, 2, 3}, mg.ones(3)
    assert(near(mg.layer_norm(x(), w, b), want))
    assert(near(mg.layer_norm(x(), {3}, w, b), want))
    assert(near(mg.layer_norm(x(), 3, w), mg.tensor(want) - 1))
    assert(near(mg.layer_norm(x()):mean(2), {0, 0}, 1e-12))
    local whole = mg.tensor({{1, 2}, {7, 3}}, "int64")
    assert(same(mg.layer_norm(whole:to(mg.Config.dtype)), mg.layer_norm(whole)))
    assert(near(mg.layer_norm(x(), {2, 3}, nil, nil, {eps = 0}):square():mean(), 1))
    assert(differentiable(mg.layer_norm, {x(), w, b}))
    assert(differentiable(function(a) return mg.layer_norm(a, {2, 3}) end, {x()}))
    assert(raises("layer_norm: x (2, 3) does not end in shape (2)", mg.layer_norm, x(), {2}))
    assert(raises("layer_norm: w must be a Variable of shape (3), got (2)", mg.layer_norm, x(),
      mg.ones(2)))
  end)
end)

describe("losses", function()
  helper.guard(before_each, after_each)

  local labels = mg.tensor({3, 1}, "int64")

  -- The loss with each reduction, where `each` are its elements.
  local function reduces(f, y, t, each)
    each = mg.tensor(each)
    assert(near(f(y, t), each:mean()))
    assert(near(f(y, t, {reduction = "sum"}), each:sum()))
    assert(near(f(y, t, {reduction = "none"}), each))
    assert(raises('reduction must be "mean", "sum" or "none", got "all"', f, y, t,
      {reduction = "all"}))
    assert(raises("unknown option reductoin", f, y, t, {reductoin = "sum"}))
  end

  -- In y alone, or in both.
  local function has_derivatives(f, y, t)
    for _, how in ipairs{"mean", "sum", "none"} do
      assert(differentiable(function(a, b) return f(a, b or t, {reduction = how}) end,
        t.dtype == "float64" and {y, t} or {y}))
    end
  end

  it("cross_entropy is the negative log_softmax at the label", function()
    local want = rows(log_softmax)
    want = {-want[1][3], -want[2][1]}
    reduces(mg.cross_entropy, x(), labels, want)
    reduces(mg.nll_loss, mg.log_softmax(x()), labels, want)
    assert(near(mg.softmax_cross_entropy(x(), {3, 1}), (want[1] + want[2]) / 2))
    has_derivatives(mg.cross_entropy, x(), labels)
    has_derivatives(mg.nll_loss, x(), labels)
    assert(near(mg.cross_entropy({{1e5, 0}}, {2}), 1e5))
  end)

  it("cross_entropy refuses one class, which is always right", function()
    local text = "cross_entropy: x (3, 1) has one class, of which the loss is 0 whatever x is: of "
    assert(raises(text, mg.cross_entropy, mg.rand(3, 1), mg.rand(3, 1)))
    assert(raises(text, mg.cross_entropy, mg.rand(3, 1), {1, 1, 1}))
    assert(raises("cross_entropy: x (2, 1, 5) has one class", mg.cross_entropy, mg.rand(2, 1, 5),
      mg.rand(2, 1, 5)))
    assert.equal(1, mg.nll_loss(-mg.ones(3, 1), {1, 1, 1}):item())
  end)

  it("cross_entropy refuses labels that are none", function()
    local f = mg.cross_entropy
    assert(raises("cross_entropy: label 0 at position 2 is not in 1..3", f, x(), {1, 0}))
    assert(raises("cross_entropy: label 4 at position 1 is not in 1..3", f, x(), {4, 1}))
    assert(raises("cross_entropy: labels (3) do not fit x (2, 3)", f, x(), {1, 2, 3}))
    assert(raises("labels must be int64, got float64", f, x(), mg.tensor{1, 2}))
    assert(raises("labels must be int64, got bool", f, x(), mg.tensor{true, false}))
    assert(raises("cross_entropy: labels (1, 1) do not fit x (3)", f, x()[1], {{1}}))
    assert(raises("cross_entropy: x must be (C) or (N, C, ...), got shape ()", f, 1, 1))
    local line = debug.getinfo(1, "l").currentline + 1
    local _, err = pcall(function() f(x(), {1, 9}) end)
    assert.equal(("spec/library/network_spec.lua:%d: cross_entropy: label 9"):format(line),
      err:match("spec/.*label 9"))
  end)

  it("mean_squared_error is the mean over all elements", function()
    local t = mg.tensor{{0, -1, 2.5}, {1, 1, -1}}
    reduces(mg.mean_squared_error, x(), t, {{0.25, 0.0625, 0.25}, {0.25, 0.5625, 0.0625}})
    has_derivatives(mg.mean_squared_error, x(), t)
    assert(near(mg.mean_squared_error(x(), 0.5),
      (0 + 1.75 ^ 2 + 1.5 ^ 2 + 1 + 0.25 ^ 2 + 1.25 ^ 2) / 6))
    assert(raises("prediction (2, 3) and target (3) have different shapes",
      mg.mean_squared_error, x(), mg.ones(3)))
  end)

  it("huber_loss is square within delta and straight beyond", function()
    local t = mg.tensor{{0, -1, 0}, {1, 3, -1}}
    reduces(mg.huber_loss, x(), t, {{0.125, 0.03125, 1.5}, {0.125, 2.25, 0.03125}})
    assert(near(mg.huber_loss(x(), t, {delta = 2, reduction = "sum"}),
      0.125 + 0.03125 + 2 + 0.125 + 2 * (2.75 - 1) + 0.03125))
    has_derivatives(mg.huber_loss, x(), t)
    assert(raises("huber_loss: delta must be positive, got 0", mg.huber_loss, x(), t,
      {delta = 0}))
  end)

  it("targets that are numbers have the prediction's dtype", function()
    local names = {"mean_squared_error", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div",
      "binary_cross_entropy", "binary_cross_entropy_with_logits", "poisson_nll_loss"}
    for default, dtype in pairs{float64 = "float32", float32 = "float64"} do
      local y, t = mg.tensor({0.3, 0.6}, dtype), mg.tensor({0.1, 0.1}, dtype)
      mg.using_config("dtype", default, function()
        for _, name in ipairs(names) do
          local loss = mg[name](y, 0.1)
          assert.equal(dtype, loss.dtype, name)
          assert.equal(mg[name](y, t):item(), loss:item(), name)
        end
        assert.equal(dtype, mg.margin_ranking_loss(y, 0.1, 1).dtype)
        assert.equal(dtype, mg.margin_ranking_loss(0.1, y, 1).dtype)
        assert.equal(dtype, mg.soft_margin_loss(y, 1).dtype)
        assert.equal(dtype, mg.hinge_embedding_loss(y, -1).dtype)
      end)
    end
  end)

  it("binary_cross_entropy, of probabilities and of logits", function()
    local t = mg.tensor{{1, 0, 0.25}, {0, 1, 0.5}}
    local each = {}
    for i, row in ipairs(X) do
      each[i] = {}
      for j, v in ipairs(row) do
        local p, q = 1 / (1 + exp(-v)), t[{i, j}]:item()
        each[i][j] = -q * log(p) - (1 - q) * log(1 - p)
      end
    end
    reduces(mg.binary_cross_entropy, mg.sigmoid(x()), t, each)
    reduces(mg.binary_cross_entropy_with_logits, x(), t, each)
    has_derivatives(mg.binary_cross_entropy, mg.sigmoid(x()), t)
    has_derivatives(mg.binary_cross_entropy_with_logits, x(), t)
  end)

  it("binary_cross_entropy stays finite at 0 and 1, with logits everywhere", function()
    local p = mg.Variable{0, 1, 0, 1}
    local loss = mg.binary_cross_entropy(p, {0, 1, 1, 0}, {reduction = "none"})
    assert(exact(loss, {0, 0, 100, 100}))
    loss:backward()
    assert.is_false(p.grad:isnan():any():item())
    local y = mg.Variable{1000, -1000, 0}
    loss = mg.binary_cross_entropy_with_logits(y, {0, 0, 0.5}, {reduction = "none"})
    assert(near(loss, {1000, 0, log(2)}))
    loss:backward()
    assert(exact(y.grad, {1, 0, 0}))
  end)

  it("of probabilities refuse what is none", function()
    for _, p in ipairs{1.5, -0.1} do
      assert(raises("binary_cross_entropy: a probability is not in 0..1", mg.binary_cross_entropy,
        mg.tensor{0.5, p}, mg.tensor{1, 0}))
    end
    assert(mg.binary_cross_entropy({0 / 0}, {1}):isnan():item())
  end)

  -- The numbers below are PyTorch's.

  local function wave(f) return mg.range(1, 24)[f](mg.range(1, 24)):reshape(2, 3, 4) end
  local logits, p = wave "sin" * 2, mg.softmax(wave "cos", 2)
  local plain = mg.tensor({{1, 2, 3, 1}, {3, 3, 1, 2}}, "int64")
  local some = mg.tensor({{1, -100, 3, 1}, {3, 3, -100, 2}}, "int64")
  local w = mg.tensor{0.5, 1, 2}

  -- f(opts) by mean, and summed
  local function gives(mean, sum, f, opts)
    opts = opts or {}
    opts.reduction = "mean"
    assert(near(f(opts), mean, 1e-13))
    opts.reduction = "sum"
    assert(near(f(opts), sum, 1e-13))
    opts.reduction = "none"
    assert(near(f(opts):sum(), sum, 1e-13))
  end

  -- of(logits) is a function of options.
  local function by_class(mean, sum, of, opts)
    opts = opts or {}
    gives(mean, sum, of(logits), opts)
    for _, how in ipairs{"mean", "none"} do
      opts.reduction = how
      assert(differentiable(function(a) return of(a)(opts) end, {logits}))
    end
    assert(near(of(logits:to "float32")(opts), of(logits)(opts), 1e-5))
  end

  it("by class take places, weights, labels ignored and smoothed", function()
    local function entropy(t, key)
      return function(a)
        return function(opts) return mg.cross_entropy(key and a[key] or a, t, opts) end
      end
    end
    by_class(1.6364761741016782, 13.091809392813426, entropy(plain))
    by_class(1.8044904675608104, 14.435923740486484, entropy(some), {weight = w})
    by_class(1.7317647258685709, 10.390588355211426, entropy(some),
      {label_smoothing = 0.1})
    by_class(1.8126228354934653, 14.500982683947722, entropy(some),
      {label_smoothing = 0.1, weight = w})
    by_class(2.5458482720733606, 20.366786176586885, entropy(p), {weight = w})
    by_class(2.5545131562313026, 20.43610524985042, entropy(p),
      {weight = w, label_smoothing = 0.2})
    by_class(0.7764432179369851, 0.38822160896849256, entropy(plain[{1, 1}], {1, {}, 1}),
      {weight = w, label_smoothing = 0.1})
    by_class(1.859838585528851, 1.859838585528851, entropy(p[{1, {}, 1}], {1, {}, 1}))
    by_class(1.8044904675608104, 14.435923740486484, function(a)
      return function(o) return mg.nll_loss(a:log_softmax(2), some, o) end
    end, {weight = w})
    assert(near(mg.cross_entropy(logits, some, {weight = w, label_smoothing = 0.1,
      reduction = "none"}), {{0.38822160896849256, 0, 6.83821092776245987, 1.87561119655376540},
      {0.86195376763472620, 4.14209284674736544, 0, 0.39489233628091319}}, 1e-13))
  end)

  it("by class ignore what they should, be it infinite", function()
    local a = mg.Variable{{1, 2}, {-huge, 3}, {0 / 0, 0 / 0}}
    local loss = mg.cross_entropy(a, {2, 9, 9}, {ignore_index = 9, label_smoothing = 0.5})
    loss:backward()
    assert(near(loss, mg.cross_entropy({{1, 2}}, {2}, {label_smoothing = 0.5})))
    assert(exact(a.grad[{{2, 3}}], {{0, 0}, {0, 0}}))
    assert(near(mg.cross_entropy(x(), {3, 1}, {ignore_index = 1}),
      mg.cross_entropy(x()[{{1, 1}}], {3})))
    assert(mg.cross_entropy(x(), {-100, -100}):isnan():item())
    assert(exact(mg.cross_entropy(x(), {-100, -100}, {reduction = "sum"}), 0))
    assert(mg.cross_entropy(mg.zeros(0, 3), mg.zeros{0, dtype = "int64"}):isnan():item())
    assert(exact(mg.cross_entropy({{-huge, 0}}, {{0, 1}}), 0))
    assert(raises("label -100 at position 2 is not in 1..3", mg.cross_entropy, x(), {1, -100},
      {ignore_index = 0}))
    assert(raises("ignore_index is for labels", mg.cross_entropy, x(), mg.softmax(x()),
      {ignore_index = 0}))
    assert(raises("cross_entropy: weight (2) does not fit x (2, 3): one for each class",
      mg.cross_entropy, x(), labels, {weight = {1, 2}}))
    assert(raises("nll_loss: labels must be int64, got float64", mg.nll_loss, x(), x()))
  end)

  it("of elements: l1_loss, smooth_l1_loss, kl_div", function()
    local function of(f, t)
      return function(o) return f(logits, t, o) end
    end
    gives(1.3341914617663735, 32.020595082392965, of(mg.l1_loss, p))
    gives(1.0987002009350977, 26.368804822442346, of(mg.smooth_l1_loss, p), {beta = 0.5})
    assert(same(mg.smooth_l1_loss(logits, p, {beta = 0}), mg.l1_loss(logits, p)))
    assert(near(mg.smooth_l1_loss(logits, p), mg.huber_loss(logits, p)))
    local log_q = logits:log_softmax(2)
    gives(0.3431796844721385, 8.236312427331324, function(o) return mg.kl_div(log_q, p, o) end)
    gives(0.3431796844721385, 8.236312427331324,
      function(o) return mg.kl_div(log_q, p:log(), o) end, {log_target = true})
    assert(near(mg.kl_div(log_q, p, {reduction = "batchmean"}), 4.118156213665662, 1e-13))
    for _, how in ipairs{"mean", "batchmean", "none"} do
      assert(differentiable(function(a, b) return mg.kl_div(a, b, {reduction = how}) end,
        {log_q[1], p[1]}))
      assert(differentiable(function(a, b)
        return mg.kl_div(a, b, {reduction = how, log_target = true})
      end, {log_q[1], p[1]}))
    end
    assert(differentiable(mg.l1_loss, {logits[1], p[1]}))
    assert(differentiable(function(a, b) return mg.smooth_l1_loss(a, b, {beta = 0.5}) end,
      {logits[1], p[1]}))
    assert(exact(mg.kl_div({-huge, 0}, {0, 1}), 0))
    assert(exact(mg.kl_div({-huge, 0}, {-huge, 0}, {log_target = true}), 0))
    for name, f in pairs{l1_loss = mg.l1_loss, smooth_l1_loss = mg.smooth_l1_loss,
        kl_div = mg.kl_div} do
      assert(raises(name .. ": prediction (2, 3) and target (3) have different shapes", f, x(),
        mg.ones(3)))
      assert(exact(f(mg.zeros(0), mg.zeros(0), {reduction = "sum"}), 0))
      assert(f(mg.zeros(0), mg.zeros(0)):isnan():item())
      assert.same({}, f(1, 0.5, {reduction = "none"}).shape)
    end
  end)

  it("of two classes take weights, by class and by element", function()
    local v, pos = w:reshape(3, 1), mg.tensor{1, 2, 3, 4}
    gives(1.047427052076193, 25.138249249828633, function(o)
      return mg.binary_cross_entropy_with_logits(logits, p, o)
    end, {weight = v})
    gives(1.8052695810596164, 43.326469945430794, function(o)
      return mg.binary_cross_entropy_with_logits(logits, p, o)
    end, {weight = v, pos_weight = pos})
    gives(0.4863620217820522, 11.672688522769253, function(o)
      return mg.binary_cross_entropy(p, p * p, o)
    end, {weight = v})
    assert(differentiable(function(a, b)
      return mg.binary_cross_entropy_with_logits(a, b, {weight = v, pos_weight = pos})
    end, {logits[1], p[1]}))
    assert(raises("binary_cross_entropy: weight (2) does not broadcast to (2, 3)",
      mg.binary_cross_entropy, mg.sigmoid(x()), x(), {weight = {1, 2}}))
    local y = mg.Variable{-huge, huge, huge, 0}
    local loss = mg.binary_cross_entropy_with_logits(y, {0, 1, 0, 0}, {reduction = "none"})
    assert(exact(loss, {0, 0, huge, log(2)}, 1))
    loss[{{1, 2}}]:sum():backward()
    assert(exact(y.grad, {0, 0, 0, 0}))
    assert(exact(mg.binary_cross_entropy_with_logits({-huge, huge}, {0, 1}, {pos_weight = 3}), 0))
  end)

  it("accuracy is the share of labels hit", function()
    local y = mg.accuracy(x(), {3, 2})
    assert(same(y, mg.tensor(0.5)))
    assert.is_false(mg.accuracy(mg.Variable(X), {3, 1}).requires_grad)
    assert.equal(1, mg.accuracy(x(), labels):item())
    assert(raises("accuracy: label 4 at position 1 is not in 1..3", mg.accuracy, x(), {4, 1}))
    assert(raises("accuracy: labels (1) do not fit y (2, 3)", mg.accuracy, x(), {1}))
  end)

  it("train a small network in float32 and float64 alike", function()
    local function losses(dtype)
      mg.seed(1)
      local W = mg.Variable(mg.randn(4, 3):to(dtype))
      local input, t = mg.randn(64, 3):to(dtype), mg.randint(1, 4, {64})
      local t0, t1
      for i = 1, 60 do
        local loss = mg.cross_entropy(mg.linear(input, W):tanh() * 3, t)
        W:cleargrad()
        loss:backward()
        W.data = W.data - W.grad * 0.5
        assert.equal(dtype, W.grad.dtype)
        if i == 1 then t0 = loss:item() else t1 = loss:item() end
      end
      assert.is_true(t1 < t0)
      return t1
    end
    assert(near(losses("float32"), losses("float64"), 1e-4))
  end)
end)
