-- sampling.lua -- random variates of distributions. Parameters are numbers or arrays, which
-- broadcast to each other and to the shape asked for; what is smooth in them has gradients.

return function(mg, args)
  local define, raise, drawing = mg.define, mg.raise, mg._drawing
  local OPTIONS = 'dims: shape?, {dtype: "float64" | "float32"}'

  -- The shape that parameters give together, or dims if they fit it; and the dtype they have.
  -- `named` is a list of names and parameters.
  local function common(op, dims, dtype, named)
    local shape, kind = dims or {}, nil
    for i = 1, #named, 2 do
      local p = named[i + 1]
      local from = mg.is_variable(p) and p.shape or {}
      local ahead = #shape - #from
      if not dims and ahead < 0 then
        table.move(shape, 1, #shape, 1 - ahead)
        for k = 1, -ahead do shape[k] = 1 end
        ahead = 0
      end
      local fits = ahead >= 0
      for k = 1, fits and #from or 0 do
        local n = shape[ahead + k]
        if not dims and n == 1 then shape[ahead + k] = from[k] end
        fits = fits and (from[k] == 1 or from[k] == n or not dims and n == 1)
      end
      if not fits then
        raise("%s: %s %s does not broadcast to %s", op, named[i], args.text(from),
          args.text(shape))
      end
      if mg.is_variable(p) and p.dtype:find "float" then
        kind = kind == "float64" and kind or p.dtype
      end
    end
    if kind and dtype and kind ~= dtype then
      raise("%s: dtype = %s, but the parameters are %s", op, dtype, kind)
    end
    shape.dtype = kind or dtype or mg.Config.dtype
    return shape
  end

  -- A parameter is refused where test is not true of all its elements.
  local function check(op, name, p, test, text)
    local v = mg.is_variable(p) and p:detach() or mg.tensor(p)
    if not mg._truth(test(v):all()) then raise("%s: %s must be %s", op, name, text) end
  end

  local function is_positive(v) return v:gt(0):logical_and(v:isfinite()) end
  local function is_rate(v) return v:ge(0):logical_and(v:le(1e15)) end
  local function is_length(v) return v:ge(0):logical_and(v:isfinite()) end

  define("normal(mean: number(..) | array, std: number(0..) | array, " .. OPTIONS .. ")",
    "normal: mean + std * randn; differentiable",
    drawing(function(mean, std, dims, dtype)
      local shape = common("normal", dims, dtype, {"mean", mean, "std", std})
      check("normal", "std", std, is_length, "0 or more, and finite")
      return mean + std * mg.randn(shape)
    end))

  define("uniform(low: number(..) | array, high: number(..) | array, " .. OPTIONS .. ")",
    "uniform between low and high; differentiable",
    drawing(function(low, high, dims, dtype)
      local shape = common("uniform", dims, dtype, {"low", low, "high", high})
      check("uniform", "low", high - low, is_length, "no more than high, both finite")
      return mg.lerp(low, high, mg.rand(shape))
    end))

  define("exponential(rate: number(0<..) | array, " .. OPTIONS .. ")",
    "exponential, mean 1 / rate: -log(1 - rand) / rate; differentiable",
    drawing(function(rate, dims, dtype)
      local shape = common("exponential", dims, dtype, {"rate", rate})
      check("exponential", "rate", rate, is_positive, "positive and finite")
      return -(-mg.rand(shape)):log1p() / rate
    end))

  -- p of float64 and of this shape
  local function wide(p, shape)
    if not mg.is_variable(p) then return mg.full(shape, p, "float64") end
    return p:to("float64"):broadcast_to(shape)
  end

  local function dims_of(shape) return table.move(shape, 1, #shape, 1, {}) end

  define("gamma(k: number(0<..) | array, rate: number(0<..) | array, " .. OPTIONS .. ")",
    "gamma of shape k, mean k / rate; differentiable, by k implicitly (arXiv 1805.08498)",
    drawing(function(k, rate, dims, dtype)
      local shape = common("gamma", dims, dtype, {"k", k, "rate", rate})
      check("gamma", "k", k, is_positive, "positive and finite")
      check("gamma", "rate", rate, is_positive, "positive and finite")
      return (mg._gamma_log(wide(k, dims_of(shape))):exp() / rate):to(shape.dtype)
    end))

  -- X / (X + Y) of two gamma variates, which may be too small to be numbers.
  define("beta(a: number(0<..) | array, b: number(0<..) | array, " .. OPTIONS .. ")",
    "beta, mean a / (a + b); differentiable, implicitly",
    drawing(function(a, b, dims, dtype)
      local shape = common("beta", dims, dtype, {"a", a, "b", b})
      check("beta", "a", a, is_positive, "positive and finite")
      check("beta", "b", b, is_positive, "positive and finite")
      local x, y = wide(a, dims_of(shape)), wide(b, dims_of(shape))
      return (mg._gamma_log(x) - mg._gamma_log(y)):sigmoid():to(shape.dtype)
    end))

  define("poisson(rate: number(0..) | array, dims: shape?)",
    "int64: how many events there are at a mean of rate",
    drawing(function(rate, dims)
      local shape = common("poisson", dims, nil, {"rate", rate})
      check("poisson", "rate", rate, is_rate, "within 0..1e15")
      return mg._poisson(wide(mg.is_variable(rate) and rate:detach() or rate, dims_of(shape)))
    end))

  -- By the running sum: the first place where it is above a number below the last sum. A class of
  -- probability 0 adds nothing and is never that place.
  define("categorical(logits: float | table, n: int(0..)?)",
    "int64: a class 1..C by logits (..., C) or {probs = p}; n of them along a last axis",
    drawing(function(logits, n)
      local p
      if mg.is_variable(logits) or logits.probs == nil and #logits > 0 then
        p = mg.tensor(logits):to("float64")
        if p.ndim > 0 and p.size > 0 then p = p:softmax() end
      else
        for key in pairs(logits) do
          if key ~= "probs" then raise("categorical: unknown option %s", tostring(key)) end
        end
        if not logits.probs then raise "categorical: needs logits or {probs = p}" end
        p = mg.tensor(logits.probs):to("float64")
      end
      local shape = p.shape
      local classes = table.remove(shape)
      if not classes or classes == 0 then
        raise("categorical: no classes in shape %s", args.text(p.shape))
      end
      local sum = p:cumsum(-1)
      local total = args.narrow(sum, #shape + 1, classes, classes)
      if not mg._truth(p:ge(0):all():logical_and(total:gt(0):all())
          :logical_and(total:isfinite():all())) then
        raise "categorical: a row holds no probabilities, or none above 0"
      end
      shape[#shape + 1] = n or 1
      local u = mg.rand{dtype = "float64", table.unpack(shape)} * total
      local last = sum:searchsorted(total)
      local class = mg.minimum(sum:searchsorted(u, {right = true}), last)
      return n and class or class:squeeze(-1)
    end))

  define("shuffle(x: array, axis: axis = 1)", "x in another order along an axis, any alike",
    drawing(function(x, axis)
      if x.ndim == 0 then return args.own(x) end
      return x:index_select(axis, mg.randperm(x.shape[axis]))
    end))
end
