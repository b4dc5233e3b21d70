-- network.lua -- what networks are made of: layers as functions, and losses.
--
-- Classes are numbered 1..C. Losses are (prediction, target, {reduction = "mean"}).

return function(mg, args)
  local define, raise, where, drawing = mg.define, mg.raise, mg.where, mg._drawing

  -- ---- layers ---------------------------------------------------------------------------------

  define("linear(x: array, W: array, b: array?)", "x W' + b: x (..., in), W (out, in), b (out)",
    function(x, W, b)
      local shape = x.shape
      local n = shape[#shape]
      if W.ndim ~= 2 or n ~= W.shape[2] then
        raise("linear: x %s does not fit W %s, which is (out, in)", args.text(shape),
          args.text(W.shape))
      end
      local turned <close> = W.T      -- not to be seen with W when an optimizer works in place
      local y
      if #shape <= 2 then
        y = x:matmul(turned)
      else
        local rows = x:reshape(args.product(shape, 1, #shape - 1), n)
        y = rows:matmul(turned)
        rows:free()                   -- its memory goes with the last who needs it
        shape[#shape] = W.shape[1]
        y = y:reshape(shape)
      end
      if b == nil then return y end
      if b.ndim ~= 1 or b.size ~= W.shape[1] then
        raise("linear: b %s does not fit W %s, which is (out, in)", args.text(b.shape),
          args.text(W.shape))
      end
      local r = y + b
      y:free()
      return r
    end)

  -- Shifted by the largest, which changes nothing but keeps exp within bounds.
  define("softmax(x: array, axis: axis = -1)", "exp(x) / sum(exp(x)) along an axis",
    function(x, axis)
      if x.size == 0 then return x:exp() end
      local along = {axis = axis, keepdims = true}
      local e = (x - x:detach():amax(along)):exp()
      return e / e:sum(along)
    end)

  define("softmin(x: array, axis: axis = -1)", "softmax of -x",
    function(x, axis) return mg.softmax(-x, axis) end)

  define("log_softmax(x: array, axis: axis = -1)", "x - logsumexp(x) along an axis",
    function(x, axis)
      if x.size == 0 then return x - x:logsumexp{axis = axis, keepdims = true} end
      local rest, top = args.log_sum(x, {axis = axis, keepdims = true})
      return x - top - rest
    end)

  -- Where nothing is drawn, x is given back at once.
  local function dropping(fn)
    local draw = drawing(fn)
    return function(x, p)
      if p == 0 or not mg.Config.train then return x end
      return draw(x, p)
    end
  end

  -- Dropped elements are replaced by 0, so that an inf among them leaves no nan.
  define("dropout(x: float, p: number(0..1) = 0.5)",
    "in training each element is 0 with probability p, else x / (1 - p)",
    dropping(function(x, p)
      local scale = p < 1 and 1 / (1 - p) or 0
      return where(mg.rand_like(x):ge(p), x * scale, 0)
    end))

  -- Whole channels. `axes`: how many there are behind them.
  for axes = 1, 3 do
    local name = ("dropout%dd"):format(axes)
    local form = ("N, C, D, H, W"):sub(1, 4) .. ({", L", ", H, W", ", D, H, W"})[axes]
    define(name .. "(x: float, p: number(0..1) = 0.5)",
      ("in training each channel of x (%s), or without N, is 0 with probability p, else " ..
       "x / (1 - p): Tompson et al. 2015"):format(form),
      drawing(function(x, p)
        local shape = x.shape
        if #shape ~= axes + 1 and #shape ~= axes + 2 then
          raise("%s: x must be (%s), or without N, got shape %s", name, form, args.text(shape))
        end
        if p == 0 or not mg.Config.train then return x end
        for i = #shape - axes + 1, #shape do shape[i] = 1 end
        shape.dtype = x.dtype
        local scale = p < 1 and 1 / (1 - p) or 0
        return where(mg.rand(shape):ge(p), x * scale, 0)
      end))
  end

  -- Klambauer et al., arXiv 1706.02515: what is dropped becomes selu's value far below 0.
  define("alpha_dropout(x: float, p: number(0..<1) = 0.5)",
    "dropout that keeps mean 0 and variance 1 of what selu gave",
    dropping(function(x, p)
      local low <const> = -1.7580993408473766
      local scale = ((1 - p) * (1 + p * low * low)) ^ -0.5
      return where(mg.rand_like(x):ge(p), x, low) * scale - scale * low * p
    end))

  -- Jang, Gu and Poole, arXiv 1611.01144. y - y is 0: it brings the gradient alone. A draw that
  -- was rounded to 0, whose noise would be infinite, is half the least other one.
  local HALF_STEP = {float32 = 2.0 ^ -25, float64 = 2.0 ^ -54}
  define("gumbel_softmax(x: float, {tau: number(0<..) = 1, hard: bool = false, axis: axis = -1})",
    "softmax((x + gumbel noise) / tau): nearly a draw of a class by logits x, differentiable; " ..
    "hard: a draw, one 1 and else 0, with that gradient",
    drawing(function(x, tau, hard, axis)
      local draws = mg.exponential(1, x.shape, {dtype = x.dtype})
      local noise = -draws:clamp{min = HALF_STEP[x.dtype]}:log()
      local z = x + noise
      if x.ndim > 0 and x.size > 0 then     -- none is above 0, then: finite, however low tau is
        z = z - z:detach():amax(axis, {keepdims = true})
      end
      local y = mg.softmax(z / args.positive(tau, x), axis)
      if not hard or x.ndim == 0 or x.size == 0 then return y end
      local at = y:detach():argmax{axis = axis, keepdims = true}
      return mg.zeros_like(y):scatter(axis, at, 1) + (y - y:detach())
    end))

  define("bilinear(x: float, y: float, W: float, b: float?)",
    "x W[k] y' + b[k] for each k: x (..., n), y (..., m), W (out, n, m), b (out)",
    function(x, y, W, b)
      local s, t, w = x.shape, y.shape, W.shape
      local n, m = s[#s], t[#t]
      if #w ~= 3 or n ~= w[2] or m ~= w[3] or b and (b.ndim ~= 1 or b.size ~= w[1]) then
        raise("bilinear: x %s, y %s, W %s, b %s: expected (..., n), (..., m), (out, n, m), (out)",
          args.text(s), args.text(t), args.text(w), b and args.text(b.shape) or "nil")
      end
      s[#s], t[#t] = nil, nil
      if args.text(s) ~= args.text(t) then
        raise("bilinear: x and y differ in their leading axes, %s and %s", args.text(s),
          args.text(t))
      end
      s[#s + 1] = w[1]
      local r = mg.einsum("bi,oij,bj->bo", x:reshape(-1, n), W, y:reshape(-1, m)):reshape(s)
      return b and r + b or r
    end)

  -- A row that pads stays as it is: where it was taken, nothing goes back.
  define("embedding(index: int64 | uint8, W: array, {padding_idx: int?})",
    "the rows of W (V, D) that index (any shape, 1..V) names: (..., D); the row padding_idx " ..
    "(-1: the last) gets no gradient",
    function(index, W, padding)
      if W.ndim ~= 2 then raise("embedding: W must be 2-d, got shape %s", args.text(W.shape)) end
      local V = W.shape[1]
      if padding then padding = args.padding("embedding", padding, V) end
      index = args.labels("embedding", "index", index, V)
      local shape = index.shape
      shape[#shape + 1] = W.shape[2]
      local rows = W:index_select(1, index:reshape(index.size)):reshape(shape)
      if not padding or not args.is_tracked(W) then return rows end
      return where(index:eq(padding):unsqueeze(-1), rows:detach(), rows)
    end)

  -- ---- losses ---------------------------------------------------------------------------------

  local REDUCTION, reduced = args.REDUCTION, args.reduce_loss

  local function check_pair(op, y, t) args.check_pair(op, "prediction", y, "target", t) end

  -- A loss of each element, name(prediction, target, {reduction, more}): fn gives the elements.
  local function elementwise(name, names, more, doc, fn)
    local signature = "%s(%s: array, t: array, {" .. REDUCTION .. "%s})"
    define(signature:format(name, names, more), doc, function(y, t, how, ...)
      check_pair(name, y, t)
      return reduced(fn(y, t, ...), how)
    end)
  end

  elementwise("mean_squared_error", "y", "", "(y - t)^2, the mean over all elements",
    function(y, t) return (y - t):square() end)

  elementwise("l1_loss", "y", "", "|y - t|, the mean over all elements",
    function(y, t) return (y - t):abs() end)

  -- d^2 / 2 where |d| <= delta, delta (|d| - delta / 2) beyond, far out too; by a divisor, if any
  local function huber(d, delta, by)
    local a = d:abs()
    local q = a:clamp{max = delta}
    return (by and q / by or q) * (a - 0.5 * q)
  end

  -- Huber, "Robust estimation of a location parameter", 1964.
  elementwise("huber_loss", "y", ", delta: number(0<..inf) = 1",
    "d^2 / 2 where |d| = |y - t| <= delta, delta (|d| - delta / 2) beyond",
    function(y, t, delta) return huber(y - t, delta) end)

  elementwise("smooth_l1_loss", "y", ", beta: number(0..) = 1",
    "huber_loss / beta: d^2 / (2 beta) where |d| = |y - t| <= beta, |d| - beta / 2 beyond",
    function(y, t, beta)
      local d = y - t
      if beta == 0 then return d:abs() end
      beta = args.positive(beta, d)
      return huber(d, beta, beta)
    end)

  define("kl_div(y: array, t: array, {" ..
    'reduction: "mean" | "batchmean" | "sum" | "none" = "mean", log_target: bool = false})',
    "t (log(t) - y) for log-probabilities y and probabilities t, or their logarithms; " ..
    "batchmean: the sum / #y",
    function(y, t, how, log_target)
      check_pair("kl_div", y, t)
      y, t = args.beside(y, t)
      local loss
      if log_target then
        loss = mg._mulz(t:exp(), mg._subz(t, y))
      else
        loss = mg._subz(t:xlogy(t), mg._mulz(t, y))
      end
      if how == "batchmean" then return loss:sum() / (loss.shape[1] or 1) end
      return reduced(loss, how)
    end)

  -- `each`, times weights that broadcast to it
  local function weighed(op, each, weight)
    local from, to = weight.shape, each.shape
    local fits = #from <= #to
    for i = 0, fits and #from - 1 or -1 do
      local n = from[#from - i]
      fits = fits and (n == 1 or n == to[#to - i])
    end
    if not fits then
      raise("%s: weight %s does not broadcast to %s", op, args.text(from), args.text(to))
    end
    return mg._mulz(weight, each)
  end

  -- log(q), but -100 with gradient 0 where q is 0.
  local function floored(log, q, zero, harmless)
    return where(zero, -100, log(where(zero, harmless, q)))
  end

  elementwise("binary_cross_entropy", "p", ", weight: array",
    "-t log(p) - (1 - t) log(1 - p), no logarithm below -100; p in 0..1",
    function(p, t, weight)
      if not mg._truth(p:lt(0):logical_or(p:gt(1)):any():logical_not()) then
        raise("binary_cross_entropy: a probability is not in 0..1")
      end
      p, t = args.beside(p, t)
      local yes = floored(mg.log, p, p:abs():le(math.exp(-100)), 1)
      local no = floored(mg.log1p, -p, p:eq(1), 0)
      local each = -(t * yes + (1 - t) * no)
      return weight and weighed("binary_cross_entropy", each, weight) or each
    end)

  -- The target's side of 0 is not taken from a softplus that is as large: softplus(-|x|), whose
  -- slope at 0 is that of one side, so that both together have the gradient of log(1 + exp(x)).
  elementwise("binary_cross_entropy_with_logits", "x", ", weight: array, pos_weight: array",
    "binary_cross_entropy of sigmoid(x), for x of any size: softplus(x) - x t; " ..
    "pos_weight: of the part of t",
    function(x, t, weight, pos_weight)
      local op <const> = "binary_cross_entropy_with_logits"
      local each
      x, t = args.beside(x, t)
      if pos_weight then
        each = mg._mulz(1 - t, x:softplus()) + weighed(op, mg._mulz(t, (-x):softplus()), pos_weight)
      else
        local up = x:ge(0)
        each = where(up, -x, x):softplus() + mg._mulz(where(up, 1 - t, -t), x)
      end
      return weight and weighed(op, each, weight) or each
    end)

  -- ---- losses by class ------------------------------------------------------------------------

  local CLASSES = ", weight: array, ignore_index: int = -100"
  local LABELS = "labels: variable | table | int"

  -- The axis of classes of x, the second or the only one, and x's shape.
  local function classes(op, x, weight)
    local shape = x.shape
    if #shape == 0 then raise("%s: x must be (C) or (N, C, ...), got shape ()", op) end
    local axis = #shape == 1 and 1 or 2
    if weight and (weight.ndim ~= 1 or weight.size ~= shape[axis]) then
      raise("%s: weight %s does not fit x %s: one for each class", op, args.text(weight.shape),
        args.text(shape))
    end
    return axis, shape
  end

  -- A target as it is meant: probabilities, which have x's axes, or labels, which have one less;
  -- and whether it is labels.
  local whole = {}
  for _, op in ipairs{"cross_entropy", "nll_loss"} do
    whole[op] = mg.signature(op .. "(labels: int64)")
  end
  local function target(op, x, t)
    if type(t) ~= "userdata" then
      local numbers = mg.tensor(t)
      if numbers.ndim == x.ndim then return numbers, false end
      return whole[op](t), true
    end
    local dtype = t.dtype
    if dtype == "bool" then raise("%s: labels must be int64, got bool", op) end
    return t, dtype == "int64" or dtype == "uint8"
  end

  -- Of x (N, C, ...) what stands at the labels (N, ...), and how much each counts: its weight, and
  -- nothing where it is ignored; nil where all count alike. With that, what is not ignored, or nil.
  local function picked(op, x, axis, shape, labels, weight, ignored)
    local counts, kept
    labels, kept = args.labels(op, "label", labels, shape[axis], ignored)
    local rows = labels.shape
    local fits = #rows == #shape - 1
    for i = 1, fits and #rows or 0 do
      fits = fits and rows[i] == shape[i < axis and i or i + 1]
    end
    if not fits then
      raise("%s: labels %s do not fit x %s: one for each row", op, args.text(rows),
        args.text(shape))
    end
    shape[axis] = 1
    local own = x:gather(axis, labels:reshape(table.unpack(shape))):reshape(table.unpack(rows))
    if weight then counts = weight:index_select(1, labels:reshape(labels.size)):reshape(rows) end
    if kept then counts = where(kept, counts or 1, 0):to((weight or own).dtype) end
    return own, counts, kept
  end

  local function mean_of(each, counts, how)
    if how == "mean" and counts then return each:sum() / counts:sum() end
    return reduced(each, how)
  end

  -- weight for each class of x
  local function along(weight, x, axis)
    local shape = x.shape
    for i = 1, #shape do shape[i] = i == axis and weight.size or 1 end
    return weight:reshape(shape)
  end

  define("cross_entropy(x: array, " .. LABELS .. ", {" .. REDUCTION .. CLASSES ..
    ", label_smoothing: number(0..1) = 0})",
    "logsumexp(x) - x[label]: logits x (N, C, ...) or (C), labels (N, ...) in 1..C or " ..
    "probabilities as x; the mean is by weight[label]",
    function(x, labels, how, weight, ignored, smoothing)
      local axis, shape = classes("cross_entropy", x, weight)
      local n, given, by_label = shape[axis], target("cross_entropy", x, labels)
      if n == 1 then
        raise("cross_entropy: x %s has one class, of which the loss is 0 whatever x is: of one " ..
          "logit it is binary_cross_entropy_with_logits", args.text(shape))
      end
      if not by_label then
        if args.text(given.shape) ~= args.text(shape) then
          raise('cross_entropy: labels must be int64, got %s %s: say :to "int64"; as ' ..
            "probabilities they do not fit x %s", given.dtype, args.text(given.shape),
            args.text(shape))
        elseif ignored ~= -100 then
          raise "cross_entropy: ignore_index is for labels, not for probabilities"
        end
        if smoothing > 0 then given = given * (1 - smoothing) + smoothing / n end
        if weight then given = given * along(weight, x, axis) end
        return reduced(-mg._mulz(given, x:log_softmax(axis)):sum(axis), how)
      end
      local own, counts, kept = picked("cross_entropy", x, axis, shape, given, weight, ignored)
      local rest, top = args.log_sum(x, {axis = axis, keepdims = true})
      local each = rest:reshape(own.shape) - (own - top:reshape(own.shape))
      if counts then each = mg._mulz(counts, each) end
      if smoothing > 0 then
        local all = -x:log_softmax(axis)
        if weight then all = mg._mulz(along(weight, x, axis), all) end
        all = all:sum(axis)
        if kept then all = where(kept, all, 0) end
        each = each * (1 - smoothing) + all * (smoothing / n)
      end
      return mean_of(each, counts, how)
    end)
  mg.softmax_cross_entropy = mg.cross_entropy

  define("nll_loss(x: array, " .. LABELS .. ", {" .. REDUCTION .. CLASSES .. "})",
    "-x[label]: log-probabilities x (N, C, ...) or (C), labels (N, ...) in 1..C; " ..
    "the mean is by weight[label]",
    function(x, labels, how, weight, ignored)
      local axis, shape = classes("nll_loss", x, weight)
      local given, by_label = target("nll_loss", x, labels)
      if not by_label then raise("nll_loss: labels must be int64, got %s", given.dtype) end
      local own, counts = picked("nll_loss", x, axis, shape, given, weight, ignored)
      return mean_of(counts and -mg._mulz(counts, own) or -own, counts, how)
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
