-- losses.lua -- losses beside network.lua's, and the distances some are made of: by margins, of
-- distributions that are told by their parameters, of sequences that are not aligned.
--
-- Named and reduced as PyTorch's. A margin that is met just so counts as not met: its gradient is
-- that of the side above 0, so that scores that begin as equals part.

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where
  local REDUCTION, reduced, check_pair = args.REDUCTION, args.reduce_loss, args.check_pair

  local function excess(x) return x:clamp{min = 0} end

  -- ---- distances ------------------------------------------------------------------------------

  -- The axis meant: where none is said the second, or the only one there is, as PyTorch's dim = 1
  local function axis_of(op, axis, rank)
    if axis == nil then return math.min(2, math.max(rank, 1)) end
    local at = axis < 0 and axis + rank + 1 or axis
    if at < 1 or at > math.max(rank, 1) then
      raise("%s: axis %d is out of range for %d axes", op, axis, rank)
    end
    return at
  end

  local function unit(x, p, axis, eps)
    return x / x:norm{p = p, axis = axis, keepdims = true}:clamp{min = eps}
  end

  define("normalize(x: float, {p: number = 2, axis: int?, eps: number(0..) = 1e-12})",
    "x / max(norm(x), eps) along an axis: the second, or of a 1-d x the only one",
    function(x, p, axis, eps) return unit(x, p, axis_of("normalize", axis, x.ndim), eps) end)

  -- With as many axes as `rank`, ones in front, and along `axis` as many elements as `other` has
  -- there: what broadcasts along it counts as often in the norm as in the sum.
  local function level(x, rank, axis, other)
    local shape, more = x.shape, other.shape[axis - rank + other.ndim]
    for _ = #shape + 1, rank do table.insert(shape, 1, 1) end
    x = x:reshape(shape)
    if shape[axis] ~= 1 or not more or more == 1 then return x end
    shape[axis] = more
    return x:expand(shape)
  end

  define("cosine_similarity(x: float, y: float, {axis: int?, eps: number(0..) = 1e-8})",
    "x y / (max(norm(x), eps) max(norm(y), eps)), summed along an axis: the second, or the only " ..
    "one; x and y broadcast",
    function(x, y, axis, eps)
      if not args.fit(x.shape, y.shape) then
        raise("cosine_similarity: x %s and y %s do not broadcast", args.text(x.shape),
          args.text(y.shape))
      end
      local rank = math.max(x.ndim, y.ndim)
      axis = axis_of("cosine_similarity", axis, rank)
      x, y = level(x, rank, axis, y), level(y, rank, axis, x)
      return (unit(x, 2, axis, eps) * unit(y, 2, axis, eps)):sum(axis)
    end)

  local function distance(op, x, y, p, eps, keepdims)
    if not args.fit(x.shape, y.shape) or x.ndim == 0 then
      raise("%s: %s and %s do not broadcast to (..., D)", op, args.text(x.shape),
        args.text(y.shape))
    end
    return (x - y + eps):norm{p = p, axis = -1, keepdims = keepdims}
  end

  define("pairwise_distance(x: float, y: float, {p: number = 2, eps: number(..) = 1e-6, " ..
    "keepdims: bool = false})",
    "norm(x - y + eps) along the last axis; x and y broadcast",
    function(x, y, ...) return distance("pairwise_distance", x, y, ...) end)

  -- ---- by margins -----------------------------------------------------------------------------

  -- y is 1 or -1 everywhere.
  local function check_signs(op, y)
    if not mg._truth(y:eq(1):logical_or(y:eq(-1)):all()) then
      raise("%s: y must be 1 or -1 everywhere", op)
    end
  end

  define("margin_ranking_loss(a: array, b: array, y: array, {margin: number(..) = 0, " ..
    REDUCTION .. "})",
    "max(0, margin - y (a - b)): a shall be above b where y is 1, below where y is -1",
    function(a, b, y, margin, how)
      check_pair("margin_ranking_loss", "a", a, "b", b)
      check_pair("margin_ranking_loss", "a", a, "y", y)
      check_signs("margin_ranking_loss", y)
      return reduced(excess(margin - y * (a - b)), how)
    end)

  define("hinge_embedding_loss(x: array, y: array, {margin: number(..) = 1, " .. REDUCTION .. "})",
    "x where y is 1, max(0, margin - x) where y is -1",
    function(x, y, margin, how)
      check_pair("hinge_embedding_loss", "x", x, "y", y)
      check_signs("hinge_embedding_loss", y)
      x, y = args.beside(x, y)
      return reduced(where(y:eq(1), x, excess(margin - x)), how)
    end)

  define("soft_margin_loss(x: array, y: array, {" .. REDUCTION .. "})",
    "log(1 + exp(-y x)) for y of 1 and -1",
    function(x, y, how)
      check_pair("soft_margin_loss", "x", x, "y", y)
      check_signs("soft_margin_loss", y)
      return reduced((-y * x):softplus(), how)
    end)

  define("cosine_embedding_loss(a: float, b: float, y: array, {margin: number(-1..1) = 0, " ..
    REDUCTION .. "})",
    "of rows a and b (N, D), or (D), with cosine c: 1 - c where y is 1, max(0, c - margin) " ..
    "where y is -1",
    function(a, b, y, margin, how)
      args.same_shape("cosine_embedding_loss", "a", a, "b", b)
      local c = mg.cosine_similarity(a, b, {axis = -1, eps = 1e-12})
      args.same_shape("cosine_embedding_loss", "the cosine of a and b", c, "y", y)
      check_signs("cosine_embedding_loss", y)
      return reduced(where(y:eq(1), 1 - c, excess(c - margin)), how)
    end)

  -- Schroff, Kalenichenko and Philbin, arXiv 1503.03832; swap: Balntas et al. 2016.
  define("triplet_margin_loss(a: float, same: float, other: float, {margin: number(0..) = 1, " ..
    "p: number = 2, eps: number(..) = 1e-6, swap: bool = false, " .. REDUCTION .. "})",
    "max(0, d(a, same) - d(a, other) + margin) by pairwise_distance d; swap: the other may be " ..
    "nearer to `same`, and counts from there",
    function(a, same, other, margin, p, eps, swap, how)
      local op <const> = "triplet_margin_loss"
      local far = distance(op, a, other, p, eps)
      if swap then far = mg.minimum(far, distance(op, same, other, p, eps)) end
      return reduced(excess(distance(op, a, same, p, eps) - far + margin), how)
    end)

  local function check_labels(op, x, labels)
    local shape = x.shape
    if #shape ~= 1 and #shape ~= 2 then
      raise("%s: x must be (N, C) or (C), got shape %s", op, args.text(shape))
    end
    labels = args.labels(op, "label", labels, shape[#shape])
    if labels.ndim ~= #shape - 1 or #shape == 2 and labels.size ~= shape[1] then
      raise("%s: labels %s do not fit x %s: one for each row", op, args.text(labels.shape),
        args.text(shape))
    end
    return labels
  end

  define("multi_margin_loss(x: float, labels: int64 | uint8, {p: int(1..2) = 1, " ..
    "margin: number(..) = 1, weight: array?, " .. REDUCTION .. "})",
    "the sum of weight[label] max(0, margin - x[label] + x[i])^p over all other classes i, " ..
    "divided by C; labels 1..C",
    function(x, labels, p, margin, weight, how)
      labels = check_labels("multi_margin_loss", x, labels)
      local C = x.shape[x.ndim]
      if weight and (weight.ndim ~= 1 or weight.size ~= C) then
        raise("multi_margin_loss: weight %s does not fit x %s: one for each class",
          args.text(weight.shape), args.text(x.shape))
      end
      local own = x:gather(x.ndim, labels:unsqueeze(-1))
      local each = excess(margin - own + x)
      if p == 2 then each = each:square() end
      if weight then each = each * weight:index_select(1, labels:reshape(labels.size))
        :reshape(labels.shape):unsqueeze(-1) end
      local others = args.count(C):ne(labels:unsqueeze(-1))
      return reduced(where(others, each, 0):sum(-1) / C, how)
    end)

  define("multilabel_soft_margin_loss(x: float, t: array, {weight: array?, " .. REDUCTION .. "})",
    "binary_cross_entropy_with_logits of x and t (N, C), the mean over classes",
    function(x, t, weight, how)
      args.same_shape("multilabel_soft_margin_loss", "x", x, "t", t)
      return reduced(mg.binary_cross_entropy_with_logits(x, t,
        {weight = weight, reduction = "none"}):mean(-1), how)
    end)

  -- ---- by distributions -----------------------------------------------------------------------

  -- log(t!) by Stirling, 0 up to 1
  local function log_factorial(t)
    local above = where(t:gt(1), t, 1)
    return where(t:gt(1), above * above:log() - above + 0.5 * (2 * math.pi * above):log(), 0)
  end

  define("poisson_nll_loss(x: array, t: array, {log_input: bool = true, full: bool = false, " ..
    "eps: number(0..)?, " .. REDUCTION .. "})",
    "of counts t whose mean is exp(x): exp(x) - t x, or, not log_input, x: x - t log(x + eps), " ..
    "eps 1e-8; full: with log(t!), by Stirling's formula where t > 1",
    function(x, t, log_input, full, eps, how)
      check_pair("poisson_nll_loss", "prediction", x, "target", t)
      x, t = args.beside(x, t)
      if eps and log_input then
        raise "poisson_nll_loss: eps is of no use where x is a logarithm: say log_input = false"
      end
      local loss = log_input and x:exp() - mg._mulz(t, x) or x - mg.xlogy(t, x + (eps or 1e-8))
      if full then loss = loss + log_factorial(t) end
      return reduced(loss, how)
    end)

  -- Nix and Weigend 1994. A variance below eps counts as eps, but keeps its gradient.
  define("gaussian_nll_loss(x: array, t: array, var: array, {full: bool = false, " ..
    "eps: number(0<..) = 1e-6, " .. REDUCTION .. "})",
    "(log(v) + (x - t)^2 / v) / 2 with v = max(var, eps); full: with log(2 pi) / 2; var of x's " ..
    "shape, or one for each row: (N), (N, 1)",
    function(x, t, var, full, eps, how)
      args.same_shape("gaussian_nll_loss", "prediction", x, "target", t)
      local shape, v = x.shape, var.shape
      if #v == #shape - 1 and #shape > 1 then var = var:unsqueeze(-1) end
      if not args.fit(var.shape, shape) or var.ndim > #shape then
        raise("gaussian_nll_loss: var %s does not fit x %s", args.text(v), args.text(shape))
      end
      if not mg._truth(var:ge(0):all()) then raise "gaussian_nll_loss: var is negative" end
      local off
      off, var = args.beside(x - t, var)
      v = where(var:lt(eps), var - var:detach() + eps, var)
      local loss = 0.5 * (v:log() + (off / v:sqrt()):square())
      if full then loss = loss + 0.5 * math.log(2 * math.pi) end
      return reduced(loss, how)
    end)

  -- ---- of sequences ---------------------------------------------------------------------------

  -- (N) of whole numbers in 0..most, as a list
  local function lengths_of(name, given, n, most)
    local list = given:reshape(given.size):totable()
    if #list ~= n then
      raise("ctc_loss: %s has %d numbers, expected %d: one for each sequence", name, #list, n)
    end
    for i, v in ipairs(list) do
      if v < 0 or v > most or v ~= math.floor(v) then
        raise("ctc_loss: %s: %g at position %d is not in 0..%d", name, v, i, most)
      end
      list[i] = math.tointeger(v)
    end
    return list
  end

  -- Each sequence's labels with blanks around every one: rows of one length, L
  local function extended(labels, lengths, blank, C)
    local values, rows, most, at = labels:totable(), {}, 0, 0
    for _, n in ipairs(lengths) do most = math.max(most, n) end
    for i, n in ipairs(lengths) do
      local row = {blank}
      for k = 1, most do
        local label = blank
        if k <= n then
          if labels.ndim == 2 then label = values[i][k] else label = values[at + k] end
          if label == blank or label < 1 or label > C then
            raise("ctc_loss: label %d of sequence %d is the blank or not in 1..%d", label, i, C)
          end
        end
        row[2 * k], row[2 * k + 1] = label, blank
      end
      rows[i], at = row, at + n
    end
    return rows, 2 * most + 1
  end

  -- Graves et al., "Connectionist temporal classification", 2006: of all ways through the extended
  -- labels that end where each does, the sum, step by step, in logarithms.
  define("ctc_loss(x: float, labels: int64 | uint8, input_lengths: float | int64 | uint8, " ..
    "target_lengths: float | int64 | uint8, {blank: int(1..) = 1, zero_infinity: bool = false, " ..
    REDUCTION .. "})",
    "-log of the probability of labels (N, S), or of all in a row, under log-probabilities x " ..
    "(T, N, C) at each step; the mean is of each divided by its length; zero_infinity: 0 for " ..
    "labels that do not fit into T",
    function(x, labels, input_lengths, target_lengths, blank, zero_infinity, how)
      local single = x.ndim == 2
      if single then
        x, labels = x:unsqueeze(2), labels:reshape(1, labels.size)
      elseif x.ndim ~= 3 then
        raise("ctc_loss: x must be (T, N, C) or (T, C), got shape %s", args.text(x.shape))
      end
      local T, N, C = table.unpack(x.shape)
      if blank > C then raise("ctc_loss: blank %d is not in 1..%d", blank, C) end
      if labels.ndim == 2 and labels.shape[1] ~= N or labels.ndim > 2 or labels.ndim == 0 then
        raise("ctc_loss: labels %s do not fit x %s: (N, S), or all in a row",
          args.text(labels.shape), args.text(x.shape))
      end
      local steps = lengths_of("input_lengths", input_lengths, N, T)
      local counts = lengths_of("target_lengths", target_lengths, N,
        labels.ndim == 2 and labels.shape[2] or labels.size)
      local sum = 0
      for _, n in ipairs(counts) do sum = sum + n end
      if labels.ndim == 1 and sum ~= labels.size then
        raise("ctc_loss: target_lengths add up to %d, labels are %d", sum, labels.size)
      end
      local rows, L = extended(labels, counts, blank, C)
      local e = x:gather(3, mg.tensor(rows, "int64"):unsqueeze(1):expand(T, N, L))
      local skips, first, last = {}, {}, {}
      for i, row in ipairs(rows) do
        skips[i], first[i] = {}, {}
        for k = 1, L do
          skips[i][k] = k > 2 and row[k] ~= blank and row[k] ~= row[k - 2]
          first[i][k] = k == 1 and 0 or -math.huge
        end
        last[i] = {2 * counts[i] + 1, math.max(2 * counts[i], 1)}
      end
      local a, may_skip = mg.tensor(first, x.dtype), mg.tensor(skips)
      for t = 1, T do
        local ways = {a}
        if L > 1 then
          ways[2] = a:pad({1, -1}, {value = -math.huge})
          ways[3] = where(may_skip, a:pad({2, -2}, {value = -math.huge}), -math.huge)
        end
        local running = {}
        for i, n in ipairs(steps) do running[i] = {t <= n} end
        a = where(mg.tensor(running), mg.stack(ways):logsumexp(1) + e[t], a)
      end
      local ends = a:gather(2, mg.tensor(last, "int64"))
      local some = {}
      for i, n in ipairs(counts) do some[i] = {true, n > 0} end
      local loss = -where(mg.tensor(some), ends, -math.huge):logsumexp(2)
      if zero_infinity then loss = where(loss:isinf(), 0, loss) end
      if how == "mean" then
        for i, n in ipairs(counts) do counts[i] = math.max(n, 1) end
        return (loss / mg.tensor(counts, x.dtype)):mean()
      end
      return single and how == "none" and loss:reshape{} or reduced(loss, how)
    end)
end
