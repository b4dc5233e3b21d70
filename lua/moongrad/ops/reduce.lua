-- reduce.lua -- reductions beyond the core's, and comparisons of whole arrays.

local options = require "moongrad.options"

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where
  local REDUCTION = {axis = false, keepdims = false}

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

  define("prod", function(x, v)
    x = args.variable("prod", x)
    local opts = args.by_axis("prod", v, REDUCTION)
    local axis, shape = opts.axis or nil, x.shape
    local axes = args.axes("prod", axis, shape)
    if not args.is_tracked(x) then
      return mg._prod_fused(x, {axis = axis, keepdims = opts.keepdims})
    end
    if axis then
      for _, a in ipairs(axes) do x = product(x, a) end
    else
      x = product(x:reshape(x.size), 1)
    end
    return x:reshape(args.reduced(shape, axes, opts.keepdims))
  end, "prod(x [, axis | {axis =, keepdims =}])\nproduct; exact gradients at zeros")

  -- f(s) where s is not 0, and 0 with gradient 0 where it is, be f's own slope there infinite.
  local function off_zero(s, f)
    local zero = s:eq(0)
    return where(zero, 0, f(where(zero, 1, s)))
  end

  local VARIANCE = {axis = false, keepdims = false, correction = 1}

  local function variance(op, x, v)
    x = args.variable(op, x)
    local opts, shape, n = args.by_axis(op, v, VARIANCE), x.shape, 1
    local axis = opts.axis or nil
    for _, a in ipairs(args.axes(op, axis, shape)) do n = n * shape[a] end
    local centred = x - x:mean{axis = axis, keepdims = true}
    local sum = centred:square():sum{axis = axis, keepdims = opts.keepdims}
    return sum / math.max(n - opts.correction, 0)
  end

  define("var", function(x, v)
    return variance("var", x, v)
  end, "var(x [, axis | {axis =, keepdims =, correction = 1}])\n" ..
       "variance: squared distances from the mean, summed and divided by n - correction")

  define("std", function(x, v)
    return off_zero(variance("std", x, v), mg.sqrt)
  end, "std(x [, axis | {axis =, keepdims =, correction = 1}])\n" ..
       "standard deviation; gradient 0 where it is 0")

  -- Shifted by the largest, which changes nothing but keeps exp within bounds.
  define("logsumexp", function(x, v)
    x = args.variable("logsumexp", x)
    local opts, shape = args.by_axis("logsumexp", v, REDUCTION), x.shape
    local axis = opts.axis or nil
    local axes = args.axes("logsumexp", axis, shape)
    local along = {axis = axis, keepdims = true}
    local sum, top = x, 0
    if x.size > 0 then
      top = x:detach():amax(along)
      top = where(top:isinf(), 0, top)
      sum = x - top
    end
    local r = sum:exp():sum(along):log() + top
    return opts.keepdims and r or r:reshape(args.reduced(shape, axes, false))
  end, "logsumexp(x [, axis | {axis =, keepdims =}])\nlog of the sum of exp(x), without overflow")

  local NORM = {axis = false, keepdims = false, p = 2}

  define("norm", function(x, v)
    x = args.variable("norm", x)
    local opts = args.by_axis("norm", v, NORM)
    local p = opts.p
    if p ~= p then raise("norm: p is nan") end
    args.axes("norm", opts.axis, x.shape)
    opts = {axis = opts.axis or nil, keepdims = opts.keepdims}
    if p == 2 then return off_zero(x:square():sum(opts), mg.sqrt) end
    if p == 1 then return x:abs():sum(opts) end
    if p == 0 then return x:ne(0):to(x.dtype):sum(opts) end
    if p == math.huge then return (x:abs():max(opts)) end
    if p == -math.huge then return (x:abs():min(opts)) end
    local powers = off_zero(x:abs(), function(a) return a ^ p end)
    return off_zero(powers:sum(opts), function(s) return s ^ (1 / p) end)
  end, "norm(x [, axis | {p = 2, axis =, keepdims =}])\n" ..
       "sum(|x|^p)^(1/p), of all elements or along axes; gradient 0 at 0")

  -- ---- of two arrays, one Lua boolean ---------------------------------------------------------

  define("equal", function(a, b)
    a, b = args.variable("equal", a, "a"):detach(), args.variable("equal", b, "b"):detach()
    return args.text(a.shape) == args.text(b.shape) and a:eq(b):all():item()
  end, "equal(a, b)\ntrue if a and b have the same shape and elements")

  local CLOSE = {rtol = 1e-5, atol = 1e-8, equal_nan = false}

  define("allclose", function(a, b, opts)
    opts = options("allclose", opts, CLOSE)
    a = args.variable("allclose", a, "a"):detach():to("float64")
    b = args.variable("allclose", b, "b"):detach():to("float64")
    local near = (a - b):abs():le(b:abs() * opts.rtol + opts.atol)
    near = near:logical_and(b:isinf():logical_not()):logical_or(a:eq(b))
    if opts.equal_nan then near = near:logical_or(a:isnan():logical_and(b:isnan())) end
    return near:all():item()
  end, "allclose(a, b [, {rtol = 1e-5, atol = 1e-8, equal_nan = false}])\n" ..
       "true if |a - b| <= atol + rtol |b| everywhere")
end
