-- activation.lua -- elementwise functions of few lines, and the core's that have options beside.

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where
  local softplus, elu, huge = args.core.softplus, mg.elu, math.huge

  define("softplus(x: array, {beta: number(0<..) = 1})", "log(1 + exp(beta x)) / beta",
    function(x, beta)
      if beta == 1 then return softplus(x) end
      beta = args.positive(beta, x)
      local scaled = x * beta
      return where(scaled:eq(huge), x, softplus(scaled) / beta)
    end)

  define("logsigmoid(x: array)", "log(sigmoid(x)), exact where sigmoid(x) is near 0 or 1",
    function(x) return -softplus(-x) end)

  -- Klambauer et al., arXiv 1706.02515
  define("selu(x: array)", "elu whose scale and alpha keep mean 0 and variance 1",
    function(x) return elu(x, 1.6732632423543772848) * 1.0507009873554804934 end)

  -- The gate is 0 far below, whatever x is.
  define("hardswish(x: array)", "x * relu6(x + 3) / 6",
    function(x) return mg._mulz(mg.relu6(x + 3) / 6, x) end)

  -- Barron, arXiv 1704.07483
  define("celu(x: array, alpha: number(0<..) = 1)",
    "x where positive, alpha (exp(x / alpha) - 1) elsewhere: elu whose slope does not jump",
    function(x, alpha)
      alpha = args.positive(alpha, x)
      return where(x:gt(0), x, (x / alpha):expm1() * alpha)
    end)

  define("hardsigmoid(x: array)", "relu6(x + 3) / 6", function(x) return mg.relu6(x + 3) / 6 end)

  define("hardtanh(x: array, {min: number(-inf..inf) = -1, max: number(-inf..inf) = 1})",
    "x kept within min..max; gradient 0 at the bounds and beyond",
    function(x, min, max)
      if min >= max then raise("hardtanh: min must be below max, got %g and %g", min, max) end
      return where(x:le(min), min, where(x:ge(max), max, x))
    end)

  define("hardshrink(x: array, lambda: number(0..inf) = 0.5)",
    "x where |x| > lambda, 0 elsewhere",
    function(x, lambda) return where(x:abs():le(lambda), 0, x) end)

  define("softshrink(x: array, lambda: number(0..inf) = 0.5)",
    "x nearer to 0 by lambda where |x| > lambda, 0 elsewhere",
    function(x, lambda) return x - x:clamp{min = -lambda, max = lambda} end)

  -- He et al., arXiv 1502.01852
  define("prelu(x: float, W: float)",
    "x where positive, W x elsewhere: W of one element, or of one for each channel, axis 2 of x",
    function(x, W)
      if W.ndim > 1 or W.size ~= 1 and W.size ~= (x.shape[math.min(2, x.ndim)] or 1) then
        raise("prelu: W %s does not fit x %s: one for all, or for each channel", args.text(W.shape),
          args.text(x.shape))
      end
      if W.size > 1 and x.ndim > 2 then
        local dims = {W.size}
        for i = 2, x.ndim - 1 do dims[i] = 1 end
        W = W:reshape(dims)
      end
      return where(x:gt(0), x, x * W)
    end)

  define("glu(x: array, axis: axis = -1)",
    "the first half of an axis times the sigmoid of the second",
    function(x, axis)
      local n = x.shape[axis] or 1
      if n % 2 ~= 0 then raise("glu: axis %d has %d elements, which are no halves", axis, n) end
      if n == 0 then return x:sigmoid() end
      local a, b = x:split(n // 2, axis)
      return a * b:sigmoid()
    end)

  local replaced = args.core.nan_to_num
  define("nan_to_num(x: array, {nan: number = 0, posinf: number?, neginf: number?})",
    "nan becomes 0, infinities the largest finite values, or what is given; no gradient there",
    function(x, nan, above, below)
      if x.dtype ~= "float64" and x.dtype ~= "float32" then return args.own(x:to "int64") end
      local y = replaced(x)
      if nan ~= 0 then y = where(x:isnan(), nan, y) end
      if above then y = where(x:eq(huge), above, y) end
      if below then y = where(x:eq(-huge), below, y) end
      return y
    end)
end
