-- reduce.lua -- reductions beyond the core's, and comparisons of whole arrays.

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where
  local ALONG = "axis: axes?, {keepdims: bool = false"

  -- Halves multiplied with each other until one slice is left. Unlike the product divided by each
  -- element, the gradients of these products are exact where elements are zero.
  local function product(x, axis)
    local n = x.shape[axis]
    if n == 0 then return x:sum{axis = axis, keepdims = true} + 1 end
    local odd
    while n > 1 do
      local half = n // 2
      if n % 2 == 1 then
        local last = args.narrow(x, axis, n, n)
        odd = odd and odd * last or last
      end
      x = args.narrow(x, axis, 1, half) * args.narrow(x, axis, half + 1, 2 * half)
      n = half
    end
    return odd and x * odd or x
  end

  define("prod(x: array, " .. ALONG .. "})", "product; exact gradients at zeros",
    function(x, axes, keepdims)
      local shape = x.shape
      if not args.is_tracked(x) then
        return mg._prod_fused(x, {axis = axes, keepdims = keepdims})
      end
      if axes and #shape > 0 then
        for _, a in ipairs(axes) do x = product(x, a) end
      else
        x = product(x:reshape(x.size), 1)
      end
      return x:reshape(args.reduced(shape, args.axes(axes, shape), keepdims))
    end)

  -- f(s) where s is not 0, and 0 with gradient 0 where it is, be f's own slope there infinite.
  local function off_zero(s, f)
    local zero = s:eq(0)
    return where(zero, 0, f(where(zero, 1, s)))
  end

  -- What numbers are divided by before they are squared, say, so that these neither overflow nor
  -- vanish. To see first whether the plain sum does would compute it here and now, in the middle of
  -- what is lazy and recorded.
  local function scale_of(extreme) -- the largest |x|, or the least
    return where(extreme:eq(0):logical_or(extreme:isinf()), 1, extreme)
  end

  -- Along axes that were kept, without them: each has one element.
  local function let_go(r, opts) return opts.keepdims and r or r:sum{axis = opts.axis} end

  -- What is left of n numbers, about 0 on average, as the rounded mean was taken off, counts in no
  -- variance: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983. It is
  -- a constant to gradients, which that mean makes right.
  local function less_rest(squares, centred, n, along)
    local rest = centred:detach():sum(along)
    local part = mg.minimum(rest * (rest / n), squares:detach())
    return squares - mg.minimum(part, 0x1.fffffffffffffp1023) -- inf stays inf
  end

  -- The 2-norm; n: that of so many numbers less their mean, which was taken off. Squares of float32
  -- neither overflow nor vanish in float64, where they are taken; float64 is scaled by powers of 2.
  local function length(x, opts, n)
    local along, scale = opts, nil
    local wide = x:to "float64"
    if x.dtype == "float64" and x.size > 0 then
      along = {axis = opts.axis, keepdims = true}
      local top = x:detach():abs():amax(along)
      local large, small = top:gt(0x1p400), top:lt(0x1p-400)
      local up = mg.tensor(0x1p600, "float64") -- where numbers alone meet they are of Config.dtype
      scale = where(large, 0x1p-600, where(small, up, 1))
      wide = x * scale
    end
    local squares = wide:square():sum(along)
    if n then squares = less_rest(squares, wide, n, along) end
    local r = mg._length(squares)
    if x.dtype == "float32" then return r:to "float32" end
    return scale and let_go(r / scale, opts) or r
  end

  -- x less its mean, and of how many elements that is
  local function centre(x, axes)
    local shape, n = x.shape, 1
    for _, a in ipairs(args.axes(axes, shape)) do n = n * (shape[a] or 1) end
    return x - x:mean{axis = axes, keepdims = true}, n
  end

  define("var(x: array, " .. ALONG .. ", correction: number(..) = 1})",
    "variance: squared distances from the mean, summed and divided by n - correction; of float32 "
      .. "with a mean beyond 10^4 deviations std is more exact",
    function(x, axes, keepdims, correction)
      local centred, n = centre(x, axes)
      local along = {axis = axes, keepdims = keepdims}
      local squares = centred:square():sum(along)
      if x.dtype == "float64" then squares = less_rest(squares, centred, n, along) end
      return squares / math.max(n - correction, 0)
    end)

  define("std(x: array, " .. ALONG .. ", correction: number(..) = 1})",
    "standard deviation; gradient 0 where it is 0",
    function(x, axes, keepdims, correction)
      local centred, n = centre(x, axes)
      return length(centred, {axis = axes, keepdims = keepdims}, n) /
        math.max(n - correction, 0) ^ 0.5
    end)

  define("logsumexp(x: array, " .. ALONG .. "})", "log of the sum of exp(x), without overflow",
    function(x, axes, keepdims)
      local shape = x.shape
      local along = {axis = axes, keepdims = true}
      local r
      if x.size == 0 then r = x:exp():sum(along):log()
      else
        local rest, top = args.log_sum(x, along)
        r = where(top:eq(-math.huge), -math.huge, rest + top)
      end
      return keepdims and r or r:reshape(args.reduced(shape, args.axes(axes, shape), false))
    end)

  define("norm(x: array, " .. ALONG .. ", p: number = 2})",
    "sum(|x|^p)^(1/p), of all elements or along axes; gradient 0 at 0",
    function(x, axes, keepdims, p)
      if p ~= p then raise("norm: p is nan") end
      local opts = {axis = axes, keepdims = keepdims}
      if p == 2 then return length(x, opts) end
      if p == 1 then return x:abs():sum(opts) end
      if p == 0 then return x:ne(0):to(x.dtype):sum(opts) end
      if p == math.huge then return (x:abs():max(opts)) end
      if p == -math.huge then return (x:abs():min(opts)) end
      if x.size == 0 then return x:abs():sum(opts) ^ (1 / p) end
      local a, along = x:abs(), {axis = axes, keepdims = true}
      local scale = scale_of(p > 0 and a:detach():amax(along) or a:detach():amin(along))
      local function root(sums) return sums ^ (1 / p) end
      a = a / scale
      if p < 0 then return let_go(root((a ^ p):sum(along)) * scale, opts) end
      local powers = off_zero(a, function(v) return v ^ p end)
      return let_go(off_zero(powers:sum(along), root) * scale, opts)
    end)

  define("nansum(x: array, " .. ALONG .. "})", "sum of what is not nan",
    function(x, axes, keepdims)
      return where(x:isnan(), 0, x):sum{axis = axes, keepdims = keepdims}
    end)

  define("nanmean(x: array, " .. ALONG .. "})", "mean of what is not nan; nan where nothing is",
    function(x, axes, keepdims)
      local opts, is = {axis = axes, keepdims = keepdims}, x:isnan()
      return where(is, 0, args.float(x)):sum(opts) / is:logical_not():sum(opts)
    end)

  define("diff(x: array, {n: int(0..) = 1, axis: axis = -1})",
    "each element less the one before, n times",
    function(x, n, axis)
      if x.ndim == 0 then raise "diff: a 0-d Variable has no axis" end
      if n == 0 then return args.own(x) end
      for _ = 1, n do
        local m = x.shape[axis]
        if m < 2 then return args.narrow(x, axis, 1, 0) end
        x = args.narrow(x, axis, 2, m) - args.narrow(x, axis, 1, m - 1)
      end
      return x
    end)

  define("trapezoid(y: array, x: array?, {dx: number(..)?, axis: axis = -1})",
    "the integral by trapezoids, of y at places x, which are 1-d or of y's shape, or dx (1) apart",
    function(y, x, dx, axis)
      if y.ndim == 0 then raise "trapezoid: a 0-d Variable has no axis" end
      y = args.float(y)
      local m = y.shape[axis]
      local width = dx or 1
      if x then
        if dx then raise "trapezoid: dx is of no use beside x" end
        if x.ndim == 1 and x.size == m then
          local dims = {m}
          for i = 2, y.ndim - axis + 1 do dims[i] = 1 end
          x = x:reshape(dims)
        elseif args.text(x.shape) ~= args.text(y.shape) then
          raise("trapezoid: x %s does not fit y %s", args.text(x.shape), args.text(y.shape))
        end
        width = x:diff{axis = axis - y.ndim - 1}
      end
      if m < 2 then return args.narrow(y, axis, 1, 0):sum(axis) end
      local sum = args.narrow(y, axis, 2, m) + args.narrow(y, axis, 1, m - 1)
      return (sum * width):sum(axis) / 2
    end)

  define("count_nonzero(x: array, " .. ALONG .. "})", "int64: how many elements are not 0",
    function(x, axes, keepdims)
      return x:detach():to("bool"):sum{axis = axes, keepdims = keepdims}
    end)

  define("isclose(a: array, b: array, " ..
    "{rtol: number(0..) = 1e-5, atol: number(0..inf) = 1e-8, equal_nan: bool = false})",
    "bool: |a - b| <= atol + rtol |b|, or both are one infinity",
    function(a, b, rtol, atol, equal_nan)
      a, b = a:detach(), b:detach()
      local near = a:eq(b)
      if rtol > 0 or atol > 0 then
        a, b = a:to("float64"), b:to("float64")
        near = (a - b):abs():le(b:abs() * rtol + atol):logical_and(a:isinf():logical_not())
          :logical_and(b:isinf():logical_not()):logical_or(near)
      end
      if equal_nan then near = near:logical_or(a:isnan():logical_and(b:isnan())) end
      return near
    end)

  define("isin(x: array, values: array)", "bool: is an element of x one of the values?",
    function(x, values)
      local list = values:detach():reshape(values.size)
      return x:detach():unsqueeze(-1):eq(list):any(-1)
    end)

  -- ---- of two arrays, one Lua boolean ---------------------------------------------------------

  define("equal(a: array, b: array) -> bool", "true if a and b have the same shape and elements",
    function(a, b)
      a, b = a:detach(), b:detach()
      return args.text(a.shape) == args.text(b.shape) and a:eq(b):all():item()
    end)

  define("allclose(a: array, b: array, " ..
    "{rtol: number(0..) = 1e-5, atol: number(0..inf) = 1e-8, equal_nan: bool = false}) -> bool",
    "true if |a - b| <= atol + rtol |b| everywhere",
    function(a, b, rtol, atol, equal_nan)
      if not args.fit(a.shape, b.shape) then
        raise("allclose: shapes %s and %s do not broadcast", args.text(a.shape), args.text(b.shape))
      end
      return mg.isclose(a, b, {rtol = rtol, atol = atol, equal_nan = equal_nan}):all():item()
    end)
end
