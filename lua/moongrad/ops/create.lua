-- create.lua -- new arrays, beyond the core's zeros, ones, full, rand and range. All untracked.

return function(mg, args)
  local define, raise, drawing = mg.define, mg.raise, mg._drawing
  local FLOAT = '{dtype: "float64" | "float32"}'

  local function sized(dims, dtype)
    dims.dtype = dtype
    return dims
  end

  -- Box and Muller, "A note on the generation of random normal deviates", 1958. 1 - u is never 0.
  define("randn(dims: shape..., " .. FLOAT .. ")",
    "normal, mean 0 and variance 1; dims as numbers or {dims, dtype =}",
    drawing(function(dims, dtype)
      dims.dtype = dtype
      local radius = ((1 - mg.rand(dims)):log() * -2):sqrt()
      return radius * (mg.rand(dims) * (2 * math.pi)):cos()
    end))

  for _, kind in ipairs{"zeros", "ones", "rand", "randn"} do
    local options = kind:find "rand" and FLOAT or "{dtype: dtype}"
    define(("%s_like(x: array, %s)"):format(kind, options), kind .. " of x's shape and dtype",
      function(x, dtype)
        dtype = dtype or x.dtype
        if kind:find "rand" and not dtype:find "float" then
          raise("%s_like: dtype must be float64 or float32, not %s", kind, dtype)
        end
        return mg[kind](sized(x.shape, dtype))
      end)
  end

  -- The widest span: beyond 2^53 values a float64 in [0, 1) does not reach every one of them.
  define("randint(low: int, high: int, dims: shape?)", "int64, low..high, both ends included",
    drawing(function(low, high, dims)
      local span = high - low + 1
      if high < low or span < 1 or span > 1 << 53 then
        raise("randint: %d..%d holds no number, or more than 2^53", low, high)
      end
      local u = mg.rand(sized(dims or {}, "float64"))
      return (u * span):floor():to("int64") + low
    end))

  define("bernoulli(p: number(0..1) | array, dims: shape?)",
    "int64, 1 with probability p (a number or a Variable), else 0",
    drawing(function(p, dims)
      if type(p) ~= "number" then
        dims = dims or p.shape
        if not mg._truth(p:ge(0):logical_and(p:le(1)):all()) then
          raise("bernoulli: a probability is not in 0..1")
        end
      end
      return mg.rand(sized(dims or {}, "float64")):lt(p):to("int64")
    end))

  define("eye(n: int(0..), m: int(0..) = n, {dtype: dtype})", "(n, m) with ones on the diagonal",
    function(n, m, dtype)
      return args.count(n):reshape(n, 1):eq(args.count(m)):to(dtype or mg.Config.dtype)
    end)

  -- From both ends, so that both are exact.
  define("linspace(a: number(..), b: number(..), n: int(0..), " .. FLOAT .. ")",
    "n numbers evenly from a to b, both included",
    function(a, b, n, dtype)
      local i = (args.count(n) - 1):to(dtype or mg.Config.dtype)
      a, b = a + 0.0, b + 0.0
      local span = math.max(n - 1, 1)
      local step = (b - a) / span
      if math.abs(step) == math.huge then step = b / span - a / span end
      return mg.where(i:lt(n / 2), i * step + a, (i - (n - 1)) * step + b)
    end)

  define("logspace(a: number(..), b: number(..), n: int(0..), {base: number(0<..) = 10, " ..
    'dtype: "float64" | "float32"})',
    "base to the power of n numbers evenly from a to b, both included",
    function(a, b, n, base, dtype)
      local powers = mg.pow(base, mg.linspace(a, b, n, {dtype = "float64"}))
      return powers:to(dtype or mg.Config.dtype)
    end)

  define("as_variable(x: any)", "x if it is a Variable, else a new one", function(x)
    return mg.is_variable(x) and x or mg.Variable(x)
  end)
end
