-- network.lua -- what networks are made of: layers as functions, and losses.
--
-- Classes are numbered 1..C. Losses are (prediction, target [, {reduction = "mean"}]).

local options = require "moongrad.options"

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where

  -- ---- layers ---------------------------------------------------------------------------------

  define("linear", function(x, W, b)
    x, W = args.variable("linear", x), args.variable("linear", W, "W")
    local shape = x.shape
    local n = shape[#shape]
    if W.ndim ~= 2 or n ~= W.shape[2] then
      raise("linear: x %s does not fit W %s, which is (out, in)", args.text(shape),
        args.text(W.shape))
    end
    if #shape > 2 then x = x:reshape(args.product(shape, 1, #shape - 1), n) end
    local turned <close> = W.T      -- not to be seen with W when an optimizer works in place
    local y = x:matmul(turned)
    if #shape > 2 then
      shape[#shape] = W.shape[1]
      y = y:reshape(shape)
    end
    if b == nil then return y end
    b = args.variable("linear", b, "b")
    if b.ndim ~= 1 or b.size ~= W.shape[1] then
      raise("linear: b %s does not fit W %s, which is (out, in)", args.text(b.shape),
        args.text(W.shape))
    end
    local r = y + b
    y:free()                        -- its memory goes with the last who needs it
    return r
  end, "linear(x, W [, b])\nx W' + b: x (..., in), W (out, in), b (out)")

  -- Shifted by the largest, which changes nothing but keeps exp within bounds.
  define("softmax", function(x, v)
    x = args.variable("softmax", x)
    local axis = args.axis("softmax", args.by_axis("softmax", v, {axis = -1}).axis, x.shape)
    local along = {axis = axis, keepdims = true}
    local e = (x - x:detach():amax(along)):exp()
    return e / e:sum(along)
  end, "softmax(x [, axis = -1])\nexp(x) / sum(exp(x)) along an axis")

  define("log_softmax", function(x, v)
    x = args.variable("log_softmax", x)
    local axis = args.by_axis("log_softmax", v, {axis = -1}).axis
    return x - x:logsumexp{axis = args.axis("log_softmax", axis, x.shape), keepdims = true}
  end, "log_softmax(x [, axis = -1])\nx - logsumexp(x) along an axis")

  -- Dropped elements are replaced by 0, so that an inf among them leaves no nan.
  define("dropout", function(x, p)
    x, p = args.variable("dropout", x), p or 0.5
    if type(p) ~= "number" or not (p >= 0 and p <= 1) then
      raise("dropout: p must be a number in 0..1, got %s", tostring(p))
    end
    if p == 0 or not mg.Config.train then return x end
    local scale = p < 1 and 1 / (1 - p) or 0
    return where(mg.rand_like(x):ge(p), x * scale, 0)
  end, "dropout(x [, p = 0.5])\nin training each element is 0 with probability p, else x / (1 - p)")

  define("embedding", function(index, W)
    W = args.variable("embedding", W, "W")
    if W.ndim ~= 2 then raise("embedding: W must be 2-d, got shape %s", args.text(W.shape)) end
    index = args.labels("embedding", "index", index, W.shape[1])
    local shape = index.shape
    shape[#shape + 1] = W.shape[2]
    return W:index_select(1, index:reshape(index.size)):reshape(shape)
  end, "embedding(index, W)\nthe rows of W (V, D) that index (any shape, 1..V) names: (..., D)")

  -- The shape may be left out: layer_norm(x, w, b, opts).
  define("layer_norm", function(x, shape, w, b, opts)
    x = args.variable("layer_norm", x)
    local have = x.shape
    if type(shape) ~= "table" and type(shape) ~= "number" then
      shape, w, b, opts = {have[#have]}, shape, w, b
    end
    shape = args.sizes("layer_norm", {}, 0, shape)
    local text, axes = args.text(shape), {}
    for i = 1, #shape do axes[i] = #have - #shape + i end
    if #shape == 0 or args.text(table.move(have, axes[1], #have, 1, {})) ~= text then
      raise("layer_norm: x %s does not end in shape %s", args.text(have), text)
    end
    for name, p in pairs{w = w, b = b} do
      if not mg.is_variable(p) or args.text(p.shape) ~= text then
        raise("layer_norm: %s must be a Variable of shape %s, got %s", name, text,
          mg.is_variable(p) and args.text(p.shape) or type(p))
      end
    end
    local eps = options("layer_norm", opts, {eps = 1e-5}).eps
    local along = {axis = axes, keepdims = true}
    local centred = x - x:mean(along)
    local y = centred * (centred:square():mean(along) + eps):rsqrt()
    if w then y = y * w end
    return b and y + b or y
  end, "layer_norm(x [, {shape}], w, b [, {eps = 1e-5}])\n" ..
       "(x - mean) / sqrt(variance + eps) * w + b over the last axes, those of shape")

  -- ---- losses ---------------------------------------------------------------------------------

  local REDUCTION = {reduction = "mean"}

  local function reduced(op, loss, opts)
    local how = opts.reduction
    if how == "mean" then return loss:mean() end
    if how == "sum" then return loss:sum() end
    if how == "none" then return loss end
    raise('%s: reduction must be "mean", "sum" or "none", got "%s"', op, how)
  end

  -- (N, 1) beside (N) would quietly make an (N, N) loss: shapes must agree, a 0-d one fits all.
  local function pair(op, y, t)
    y, t = args.variable(op, y, "prediction"), args.variable(op, t, "target")
    local a, b = args.text(y.shape), args.text(t.shape)
    if a ~= b and y.ndim > 0 and t.ndim > 0 then
      raise("%s: prediction %s and target %s have different shapes", op, a, b)
    end
    return y, t
  end

  -- x[n][labels[n]] of x (N, C), and x, with everything checked.
  local function picked(op, x, labels)
    x = args.variable(op, x)
    local shape = x.shape
    if #shape ~= 2 then raise("%s: x must be (N, C), got shape %s", op, args.text(shape)) end
    labels = args.labels(op, "label", labels, shape[2])
    if labels.ndim ~= 1 or labels.size ~= shape[1] then
      raise("%s: labels %s do not fit x %s: one for each row", op, args.text(labels.shape),
        args.text(shape))
    end
    local n = shape[1]
    return x:gather(2, labels:reshape(n, 1)):reshape(n), x
  end

  define("cross_entropy", function(x, labels, opts)
    opts = options("cross_entropy", opts, REDUCTION)
    local own
    own, x = picked("cross_entropy", x, labels)
    return reduced("cross_entropy", x:logsumexp(2) - own, opts)
  end, "cross_entropy(x, labels [, {reduction = \"mean\"}])\n" ..
       "logsumexp(x) - x[label]: logits x (N, C), labels (N) int64 in 1..C")
  mg.softmax_cross_entropy = mg.cross_entropy

  define("nll_loss", function(x, labels, opts)
    opts = options("nll_loss", opts, REDUCTION)
    return reduced("nll_loss", -picked("nll_loss", x, labels), opts)
  end, "nll_loss(x, labels [, {reduction = \"mean\"}])\n" ..
       "-x[label]: log-probabilities x (N, C), labels (N) int64 in 1..C")

  define("mean_squared_error", function(y, t, opts)
    opts = options("mean_squared_error", opts, REDUCTION)
    y, t = pair("mean_squared_error", y, t)
    return reduced("mean_squared_error", (y - t):square(), opts)
  end, "mean_squared_error(y, t [, {reduction = \"mean\"}])\n(y - t)^2, the mean over all elements")

  -- Huber, "Robust estimation of a location parameter", 1964.
  define("huber_loss", function(y, t, opts)
    opts = options("huber_loss", opts, {reduction = "mean", delta = 1})
    y, t = pair("huber_loss", y, t)
    local delta = opts.delta
    if delta ~= delta or delta <= 0 then
      raise("huber_loss: delta must be positive, got %s", tostring(delta))
    end
    local d = y - t
    local a = d:abs()
    local loss = where(a:le(delta), d:square() * 0.5, (a - 0.5 * delta) * delta)
    return reduced("huber_loss", loss, opts)
  end, "huber_loss(y, t [, {delta = 1, reduction = \"mean\"}])\n" ..
       "d^2 / 2 where |d| = |y - t| <= delta, delta (|d| - delta / 2) beyond")

  -- log(q), but -100 with gradient 0 where q is 0.
  local function floored(log, q, zero, harmless)
    return where(zero, -100, log(where(zero, harmless, q)))
  end

  define("binary_cross_entropy", function(p, t, opts)
    opts = options("binary_cross_entropy", opts, REDUCTION)
    p, t = pair("binary_cross_entropy", p, t)
    local yes = floored(mg.log, p, p:abs():le(math.exp(-100)), 1)
    local no = floored(mg.log1p, -p, p:eq(1), 0)
    return reduced("binary_cross_entropy", -(t * yes + (1 - t) * no), opts)
  end, "binary_cross_entropy(p, t [, {reduction = \"mean\"}])\n" ..
       "-t log(p) - (1 - t) log(1 - p), no logarithm below -100")

  -- softplus(x) = max(x, 0) + log1p(exp(-|x|)), with the gradients of log(1 + exp(x)) at 0 as well.
  define("binary_cross_entropy_with_logits", function(x, t, opts)
    opts = options("binary_cross_entropy_with_logits", opts, REDUCTION)
    x, t = pair("binary_cross_entropy_with_logits", x, t)
    return reduced("binary_cross_entropy_with_logits", x:softplus() - x * t, opts)
  end, "binary_cross_entropy_with_logits(x, t [, {reduction = \"mean\"}])\n" ..
       "binary_cross_entropy of sigmoid(x), for x of any size: softplus(x) - x t")

  define("accuracy", function(y, labels)
    y = args.variable("accuracy", y)
    if y.ndim ~= 2 then raise("accuracy: y must be (N, C), got shape %s", args.text(y.shape)) end
    labels = args.labels("accuracy", "label", labels, y.shape[2])
    if labels.size ~= y.shape[1] then
      raise("accuracy: labels %s do not fit y %s: one for each row", args.text(labels.shape),
        args.text(y.shape))
    end
    return y:detach():argmax(2):eq(labels:reshape(labels.size)):mean()
  end, "accuracy(y, labels)\nthe share of rows of y (N, C) that are largest at their label; 0-d")
end
