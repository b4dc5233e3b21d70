-- create.lua -- new arrays, beyond the core's zeros, ones, full, rand and range. All untracked.

local options = require "moongrad.options"

return function(mg, args)
  local define, raise = mg.define, mg.raise
  local DTYPE = {dtype = false}

  -- A shape given as a number, a table, or nil (0-d).
  local function dims(op, shape, dtype)
    if shape == nil then shape = {} end
    local sizes = args.sizes(op, {}, 0, shape)
    sizes.dtype = dtype
    return sizes
  end

  -- Box and Muller, "A note on the generation of random normal deviates", 1958. 1 - u is never 0.
  define("randn", function(...)
    local sizes = args.sizes("randn", {dtype = true}, 0, ...)
    sizes.dtype = args.float_dtype("randn", sizes.dtype)
    local radius = ((1 - mg.rand(sizes)):log() * -2):sqrt()
    return radius * (mg.rand(sizes) * (2 * math.pi)):cos()
  end, "randn(...)\nnormal, mean 0 and variance 1; dims as numbers or {dims, dtype =}", false)

  for _, kind in ipairs{"zeros", "ones", "rand", "randn"} do
    local op = kind .. "_like"
    define(op, function(x, opts)
      x = args.variable(op, x)
      return mg[kind](dims(op, x.shape, options(op, opts, DTYPE).dtype or x.dtype))
    end, op .. "(x [, {dtype =}])\n" .. kind .. " of x's shape and dtype")
  end

  -- The widest span: beyond 2^53 values a float64 in [0, 1) does not reach every one of them.
  define("randint", function(low, high, shape)
    low, high = args.integer("randint", low, "low"), args.integer("randint", high, "high")
    local span = high - low + 1
    if high < low or span < 1 or span > 1 << 53 then
      raise("randint: %d..%d holds no number, or more than 2^53", low, high)
    end
    local u = mg.rand(dims("randint", shape, "float64"))
    return (u * span):floor():to("int64") + low
  end, "randint(low, high [, shape])\nint64, low..high, both ends included", false)

  define("bernoulli", function(p, shape)
    if shape == nil and mg.is_variable(p) then shape = p.shape end
    return mg.rand(dims("bernoulli", shape, "float64")):lt(p):to("int64")
  end, "bernoulli(p [, shape])\nint64, 1 with probability p (a number or a Variable), else 0")

  define("eye", function(n, m, opts)
    if type(m) == "table" then m, opts = nil, m end
    n = args.integer("eye", n, "n", 0)
    m = args.integer("eye", m or n, "m", 0)
    local dtype = options("eye", opts, DTYPE).dtype or mg.Config.dtype
    return args.count(n):reshape(n, 1):eq(args.count(m)):to(dtype)
  end, "eye(n [, m] [, {dtype =}])\n(n, m) with ones on the diagonal", false)

  -- From both ends, so that both are exact.
  define("linspace", function(a, b, n, opts)
    n = args.integer("linspace", n, "n", 1)
    local dtype = args.float_dtype("linspace", options("linspace", opts, DTYPE).dtype)
    local i = (args.count(n) - 1):to(dtype)
    local step = n > 1 and (b - a) / (n - 1) or 0
    return mg.where(i:lt(n / 2), i * step + a, (i - (n - 1)) * step + b)
  end, "linspace(a, b, n [, {dtype =}])\nn numbers evenly from a to b, both included", false)

  define("as_variable", function(x)
    return mg.is_variable(x) and x or mg.Variable(x)
  end, "as_variable(x)\nx if it is a Variable, else a new one", false)
end
