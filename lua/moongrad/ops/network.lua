-- network.lua -- what networks are made of: layers as functions, and losses.
--
-- Classes are numbered 1..C. Losses are (prediction, target, {reduction = "mean"}).

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where

  -- ---- layers ---------------------------------------------------------------------------------

  define("linear(x: array, W: array, b: array?)", "x W' + b: x (..., in), W (out, in), b (out)",
    function(x, W, b)
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
      if b.ndim ~= 1 or b.size ~= W.shape[1] then
        raise("linear: b %s does not fit W %s, which is (out, in)", args.text(b.shape),
          args.text(W.shape))
      end
      local r = y + b
      y:free()                        -- its memory goes with the last who needs it
      return r
    end)

  -- Shifted by the largest, which changes nothing but keeps exp within bounds.
  define("softmax(x: array, axis: axis = -1)", "exp(x) / sum(exp(x)) along an axis",
    function(x, axis)
      local along = {axis = axis, keepdims = true}
      local e = (x - x:detach():amax(along)):exp()
      return e / e:sum(along)
    end)

  define("log_softmax(x: array, axis: axis = -1)", "x - logsumexp(x) along an axis",
    function(x, axis) return x - x:logsumexp{axis = axis, keepdims = true} end)

  -- Dropped elements are replaced by 0, so that an inf among them leaves no nan.
  define("dropout(x: float, p: number(0..1) = 0.5)",
    "in training each element is 0 with probability p, else x / (1 - p)",
    function(x, p)
      if p == 0 or not mg.Config.train then return x end
      local scale = p < 1 and 1 / (1 - p) or 0
      return where(mg.rand_like(x):ge(p), x * scale, 0)
    end)

  define("embedding(index: int64 | uint8, W: array)",
    "the rows of W (V, D) that index (any shape, 1..V) names: (..., D)",
    function(index, W)
      if W.ndim ~= 2 then raise("embedding: W must be 2-d, got shape %s", args.text(W.shape)) end
      index = args.labels("embedding", "index", index, W.shape[1])
      local shape = index.shape
      shape[#shape + 1] = W.shape[2]
      return W:index_select(1, index:reshape(index.size)):reshape(shape)
    end)

  define("layer_norm(x: array, [shape: ints,] w: array?, b: array?, {eps: number(0..) = 1e-5})",
    "(x - mean) / sqrt(variance + eps) * w + b over the last axes, those of shape",
    function(x, shape, w, b, eps)
      local have = x.shape
      shape = shape or {have[#have]}
      local text, axes = args.text(shape), {}
      for i = 1, #shape do axes[i] = #have - #shape + i end
      if #shape == 0 or args.text(table.move(have, axes[1], #have, 1, {})) ~= text then
        raise("layer_norm: x %s does not end in shape %s", args.text(have), text)
      end
      for name, p in pairs{w = w, b = b} do
        if args.text(p.shape) ~= text then
          raise("layer_norm: %s must be a Variable of shape %s, got %s", name, text,
            args.text(p.shape))
        end
      end
      local along = {axis = axes, keepdims = true}
      local centred = x - x:mean(along)
      local y = centred * (centred:square():mean(along) + eps):rsqrt()
      if w then y = y * w end
      return b and y + b or y
    end)

  -- ---- losses ---------------------------------------------------------------------------------

  local OPTIONS = '{reduction: "mean" | "sum" | "none" = "mean"}'

  local function reduced(loss, how)
    return how == "mean" and loss:mean() or how == "sum" and loss:sum() or loss
  end

  -- (N, 1) beside (N) would quietly make an (N, N) loss: shapes must agree, a 0-d one fits all.
  local function check_pair(op, y, t)
    local a, b = args.text(y.shape), args.text(t.shape)
    if a ~= b and y.ndim > 0 and t.ndim > 0 then
      raise("%s: prediction %s and target %s have different shapes", op, a, b)
    end
  end

  -- x[n][labels[n]] of x (N, C), with everything checked.
  local function picked(op, x, labels)
    local shape = x.shape
    if #shape ~= 2 then raise("%s: x must be (N, C), got shape %s", op, args.text(shape)) end
    labels = args.labels(op, "label", labels, shape[2])
    if labels.ndim ~= 1 or labels.size ~= shape[1] then
      raise("%s: labels %s do not fit x %s: one for each row", op, args.text(labels.shape),
        args.text(shape))
    end
    local n = shape[1]
    return x:gather(2, labels:reshape(n, 1)):reshape(n)
  end

  define("cross_entropy(x: array, labels: int64 | uint8, " .. OPTIONS .. ")",
    "logsumexp(x) - x[label]: logits x (N, C), labels (N) in 1..C",
    function(x, labels, how)
      local own = picked("cross_entropy", x, labels)
      return reduced(x:logsumexp(2) - own, how)
    end)
  mg.softmax_cross_entropy = mg.cross_entropy

  define("nll_loss(x: array, labels: int64 | uint8, " .. OPTIONS .. ")",
    "-x[label]: log-probabilities x (N, C), labels (N) in 1..C",
    function(x, labels, how) return reduced(-picked("nll_loss", x, labels), how) end)

  define("mean_squared_error(y: array, t: array, " .. OPTIONS .. ")",
    "(y - t)^2, the mean over all elements",
    function(y, t, how)
      check_pair("mean_squared_error", y, t)
      return reduced((y - t):square(), how)
    end)

  -- Huber, "Robust estimation of a location parameter", 1964.
  define("huber_loss(y: array, t: array, " ..
    '{reduction: "mean" | "sum" | "none" = "mean", delta: number(0<..) = 1})',
    "d^2 / 2 where |d| = |y - t| <= delta, delta (|d| - delta / 2) beyond",
    function(y, t, how, delta)
      check_pair("huber_loss", y, t)
      local d = y - t
      local a = d:abs()
      local q = a:clamp{max = delta}    -- d^2 / 2 or delta (|d| - delta / 2), far out too
      return reduced(q * (a - 0.5 * q), how)
    end)

  -- log(q), but -100 with gradient 0 where q is 0.
  local function floored(log, q, zero, harmless)
    return where(zero, -100, log(where(zero, harmless, q)))
  end

  define("binary_cross_entropy(p: array, t: array, " .. OPTIONS .. ")",
    "-t log(p) - (1 - t) log(1 - p), no logarithm below -100; p in 0..1",
    function(p, t, how)
      check_pair("binary_cross_entropy", p, t)
      if p:lt(0):logical_or(p:gt(1)):any():item() then
        raise("binary_cross_entropy: a probability is not in 0..1")
      end
      local yes = floored(mg.log, p, p:abs():le(math.exp(-100)), 1)
      local no = floored(mg.log1p, -p, p:eq(1), 0)
      return reduced(-(t * yes + (1 - t) * no), how)
    end)

  -- softplus(x) = max(x, 0) + log1p(exp(-|x|)), with the gradients of log(1 + exp(x)) at 0 as well.
  define("binary_cross_entropy_with_logits(x: array, t: array, " .. OPTIONS .. ")",
    "binary_cross_entropy of sigmoid(x), for x of any size: softplus(x) - x t",
    function(x, t, how)
      check_pair("binary_cross_entropy_with_logits", x, t)
      return reduced(mg._subz(x:softplus(), x * t), how)
    end)

  define("accuracy(y: array, labels: int64 | uint8)",
    "the share of rows of y (N, C) that are largest at their label; 0-d",
    function(y, labels)
      if y.ndim ~= 2 then raise("accuracy: y must be (N, C), got shape %s", args.text(y.shape)) end
      labels = args.labels("accuracy", "label", labels, y.shape[2])
      if labels.size ~= y.shape[1] then
        raise("accuracy: labels %s do not fit y %s: one for each row", args.text(labels.shape),
          args.text(y.shape))
      end
      return y:detach():argmax(2):eq(labels:reshape(labels.size)):mean()
    end)
end
