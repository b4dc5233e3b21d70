-- activation.lua -- elementwise functions of few lines, and the core's that have options beside.

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where
  local softplus, elu, huge = args.core.softplus, mg.elu, math.huge

  define("softplus(x: array, {beta: number(0<..) = 1})", "log(1 + exp(beta x)) / beta",
    function(x, beta)
      if beta == 1 then return softplus(x) end
      return softplus(x * beta) / beta
    end)

  define("logsigmoid(x: array)", "log(sigmoid(x)), exact where sigmoid(x) is near 0 or 1",
    function(x) return -softplus(-x) end)

  -- Klambauer et al., arXiv 1706.02515
  define("selu(x: array)", "elu whose scale and alpha keep mean 0 and variance 1",
    function(x) return elu(x, 1.6732632423543772848) * 1.0507009873554804934 end)

  -- The gate is 0 far below, whatever x is.
  define("hardswish(x: array)", "x * relu6(x + 3) / 6",
    function(x) return mg._mulz(mg.relu6(x + 3) / 6, x) end)

  define("glu(x: array, axis: axis = -1)",
    "the first half of an axis times the sigmoid of the second",
    function(x, axis)
      local n = x.shape[axis] or 1
      if n % 2 ~= 0 then raise("glu: axis %d has %d elements, which are no halves", axis, n) end
      local a, b = x:split(n // 2, axis)
      return a * b:sigmoid()
    end)

  local replaced = args.core.nan_to_num
  define("nan_to_num(x: array, {nan: number = 0, posinf: number?, neginf: number?})",
    "nan becomes 0, infinities the largest finite values, or what is given; no gradient there",
    function(x, nan, above, below)
      if x.dtype ~= "float64" and x.dtype ~= "float32" then return x:to "int64" end
      local y = nan == 0 and x or where(x:isnan(), nan, x)
      if above then y = where(x:eq(huge), above, y) end
      if below then y = where(x:eq(-huge), below, y) end
      return nan ~= 0 and above and below and y or replaced(y)
    end)
end
