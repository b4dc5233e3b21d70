-- normalization.lua -- x with mean 0 and variance 1: over a batch, channels, the last axes.
--
-- Mean and variance are found in double precision (mg._moments); what they make of x is lazy.

return function(mg, args)
  local define, raise = mg.define, mg.raise
  local EPS = "eps: number(0..) = 1e-5"
  local MACHINE = {float64 = 2.0 ^ -52, float32 = 2.0 ^ -23}

  -- Axes first..last tell groups apart, of which `per` neighbours make one. Then the moments.
  local function standard(x, first, last, per, centred, eps, w, b)
    local mean, rest, var, rstd = mg._moments(x:detach(), first, last, per, centred, eps)
    local y = mg._standardize(x, mean, rest, rstd, w, b, first, last, per, centred, eps)
    return y, mean, rest, var
  end

  -- p (C) as it broadcasts against axis 2 of x.
  local function by_channel(p, x)
    local dims = {p.size}
    for i = 2, x.ndim - 1 do dims[i] = 1 end
    return p:reshape(dims)
  end

  local function affine(y, w, b)
    if w then y = y * by_channel(w, y) end
    return b and y + by_channel(b, y) or y
  end

  local function check_channels(op, x, parts)
    local C = x.ndim > 1 and x.shape[2] or raise("%s: x must be (N, C, ...), got shape %s", op,
      args.text(x.shape))
    for name, p in pairs(parts) do
      if p.ndim ~= 1 or p.size ~= C then
        raise("%s: %s must have shape (%d), one for each channel of x %s, got %s", op, name, C,
          args.text(x.shape), args.text(p.shape))
      end
    end
    return C
  end

  -- With a mean and a variance that are given.
  local function with_given(x, mean, var, w, b, eps)
    local scale = (var + eps):rsqrt()
    if w then scale = scale * w end
    local y = (x - by_channel(mean, x)) * by_channel(scale, x)
    return b and y + by_channel(b, x) or y
  end

  -- They take a part `momentum` of these moments over, of groups of n elements.
  local function take_over(mean, var, momentum, n, new_mean, new_var)
    local C = mean.size
    mg.assign({mean, var}, {
      mean.data * (1 - momentum) + new_mean:reshape(C) * momentum,
      var.data * (1 - momentum) + new_var:reshape(C) * (momentum * n / (n - 1))
    })
  end

  local function check_given(op, mean, var, momentum)
    if (mean == nil) ~= (var == nil) then raise("%s: one of mean and var is missing", op) end
    if mean == nil and momentum ~= 0.1 then
      raise("%s: momentum is of no use without mean and var", op)
    end
    if mg.is_variable(momentum) and
      not mg._truth(momentum:ge(0):logical_and(momentum:le(1)):all()) then
      raise("%s: momentum must be within 0..1", op)
    end
    for name, p in pairs{mean = mean, var = var} do
      if not MACHINE[p.dtype] then raise("%s: %s is %s, expected floats", op, name, p.dtype) end
    end
  end

  local function check_count(op, x, n)
    if n == 1 then
      raise("%s: x %s has one value for each channel, of which there is no variance", op,
        args.text(x.shape))
    end
  end

  define("batch_norm(x: float, mean: variable?, var: variable?, w: float?, b: float?, " ..
    "{momentum: number(0..1) | variable = 0.1, " .. EPS .. "})",
    "x (N, C, ...) normalized in each channel, times w plus b: in training by its own mean and " ..
    "variance, of which mean and var (C) take momentum over in place, else by mean and var",
    function(x, mean, var, w, b, momentum, eps)
      local C = check_channels("batch_norm", x, {mean = mean, var = var, w = w, b = b})
      check_given("batch_norm", mean, var, momentum)
      if not mg.Config.train and mean then return with_given(x, mean, var, w, b, eps) end
      local n = C > 0 and x.size // C or 0
      check_count("batch_norm", x, n)
      local y, m, rest, v = standard(x, 2, 2, 1, true, eps, w, b)
      if mean and n > 0 then take_over(mean, var, momentum, n, m + rest, v) end
      return y
    end)

  define("instance_norm(x: float, mean: variable?, var: variable?, w: float?, b: float?, " ..
    "{use_input_stats: bool = true, momentum: number(0..1) | variable = 0.1, " .. EPS .. "})",
    "x (N, C, ...) normalized in each channel of each of N, times w plus b; mean and var (C) " ..
    "take momentum over, or are used instead without use_input_stats",
    function(x, mean, var, w, b, own, momentum, eps)
      local C = check_channels("instance_norm", x, {mean = mean, var = var, w = w, b = b})
      check_given("instance_norm", mean, var, momentum)
      if not own then
        if not mean then raise("instance_norm: without use_input_stats mean and var are needed") end
        return with_given(x, mean, var, w, b, eps)
      end
      local N = x.shape[1]
      local n = args.product(x.shape, 3)
      check_count("instance_norm", x, n)
      local y, m, rest, v = standard(x, 1, 2, 1, true, eps)
      if mean and x.size > 0 then
        take_over(mean, var, momentum, n, (m + rest):reshape(N, C):mean(1), v:reshape(N, C):mean(1))
      end
      return affine(y, w, b)
    end)

  define("group_norm(x: float, groups: int(1..), w: float?, b: float?, {" .. EPS .. "})",
    "x (N, C, ...) normalized in each group of C / groups channels of each of N, times w plus b",
    function(x, groups, w, b, eps)
      local C = check_channels("group_norm", x, {w = w, b = b})
      if C % groups ~= 0 then
        raise("group_norm: %d channels of x %s do not fall into %d groups", C, args.text(x.shape),
          groups)
      end
      if C == 0 then return affine(x * 1, w, b) end
      return affine((standard(x, 1, 2, C // groups, true, eps)), w, b)
    end)

  -- The number of axes of x before those of shape, which x ends in.
  local function before(op, x, shape, parts)
    local have = x.shape
    shape = shape or {have[#have]}
    local text, lead = args.text(shape), #have - #shape
    if #shape == 0 or args.text(table.move(have, lead + 1, #have, 1, {})) ~= text then
      raise("%s: x %s does not end in shape %s", op, args.text(have), text)
    end
    for name, p in pairs(parts) do
      if args.text(p.shape) ~= text then
        raise("%s: %s must be a Variable of shape %s, got %s", op, name, text, args.text(p.shape))
      end
    end
    return lead
  end

  define("layer_norm(x: array, [shape: ints,] w: float?, b: float?, {" .. EPS .. "})",
    "(x - mean) / sqrt(variance + eps) * w + b over the last axes, those of shape",
    function(x, shape, w, b, eps)
      x = args.float(x)
      local lead = before("layer_norm", x, shape, {w = w, b = b})
      local y = standard(x, 1, lead, 1, true, eps)
      if w then y = y * w end
      return b and y + b or y
    end)

  define("rms_norm(x: float, [shape: ints,] w: float?, {eps: number(0..)})",
    "x / sqrt(mean of x^2 + eps) * w over the last axes, those of shape; eps: the dtype's",
    function(x, shape, w, eps)
      local lead = before("rms_norm", x, shape, {w = w})
      local y = standard(x, 1, lead, 1, false, eps or MACHINE[x.dtype])
      return w and y * w or y
    end)
end
