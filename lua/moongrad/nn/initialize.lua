-- nn.init: values for parameters to start from. Each sets all of p and gives it back.
--
-- Weights are (out, in, ...): inputs of one output are in times what follows, the receptive field.

local mg = require "moongrad"
local checked, raise = mg.checked, mg.raise

local init = {}

local function text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- This ends the attempt that drew the value: an interruption on the way back undoes nothing.
local function set(p, value, attempt)
  mg._commit({p}, {value}, {}, attempt)
  return p
end

-- fn(attempt, ...): if it fails, a second try draws the same
local function drawing(fn)
  return function(...) return mg._attempt({}, fn, ...) end
end

local function options(p) return {dtype = p.dtype, table.unpack(p.shape)} end
local uniform = drawing(function(attempt, p, low, high)
  return set(p, mg.rand(options(p)) * (high - low) + low, attempt)
end)
local normal = drawing(function(attempt, p, mean, std)
  return set(p, mg.randn(options(p)) * std + mean, attempt)
end)

-- Inputs of one output, outputs that one input reaches
local function fans(name, p)
  local shape = p.shape
  if #shape < 2 then
    raise("%s: p %s: expected two axes or more, (out, in, ...)", name, text(shape))
  end
  local field = 1
  for i = 3, #shape do field = field * shape[i] end
  return shape[2] * field, shape[1] * field
end

local GAINS = {linear = 1, sigmoid = 1, tanh = 5 / 3, relu = math.sqrt(2), selu = 3 / 4}
local KINDS = '"linear" | "sigmoid" | "tanh" | "relu" | "leaky_relu" | "selu"'

-- usual: of the leaky one, where no slope was given
local function gain(name, kind, slope, usual)
  if kind ~= "leaky_relu" then
    if slope then raise("%s: a slope is of no use to %s", name, kind) end
    return GAINS[kind]
  end
  slope = slope or usual
  return math.sqrt(2 / (1 + slope * slope))
end

init.calculate_gain = checked(
  "calculate_gain(nonlinearity: " .. KINDS .. ", slope: number(..)?)",
  "what keeps the variance of values through an activation; slope: of leaky_relu, 0.01",
  function(kind, slope) return gain("calculate_gain", kind, slope, 0.01) end)

init.uniform = checked("uniform(p: variable, low: number(..) = 0, high: number(..) = 1)",
  "uniform in low..high", function(p, low, high)
    if not (low <= high and high - low < math.huge) then
      raise("uniform: low must be no more than high, both finite")
    end
    return uniform(p, low + 0.0, high + 0.0)
  end)

init.normal = checked("normal(p: variable, mean: number(..) = 0, std: number(0..) = 1)",
  "from a normal distribution", normal)

init.constant = checked("constant(p: variable, value: number)", "value everywhere",
  function(p, value) return set(p, mg.full(p.shape, value, p.dtype)) end)
init.zeros = checked("zeros(p: variable)", "0 everywhere",
  function(p) return init.constant(p, 0) end)
init.ones = checked("ones(p: variable)", "1 everywhere",
  function(p) return init.constant(p, 1) end)

init.eye = checked("eye(p: variable)", "1 where row and column are equal, 0 elsewhere: p 2-d",
  function(p)
    if p.ndim ~= 2 then raise("eye: p %s: expected two axes", text(p.shape)) end
    local n, m = table.unpack(p.shape)
    return set(p, mg.range(1, n):reshape(n, 1):eq(mg.range(1, m)):to(p.dtype))
  end)

-- By the inverse of the distribution, between what it is at the ends.
init.trunc_normal = checked(
  "trunc_normal(p: variable, {mean: number(..) = 0, std: number(0<..) = 1, " ..
  "a: number(-inf..inf) = -2, b: number(-inf..inf) = 2})",
  "from a normal distribution, but for what lies outside a..b",
  drawing(function(attempt, p, mean, std, a, b)
    if a >= b then
      raise("trunc_normal: a must be below b, got %g and %g", a, b)
    end
    mean = mean + 0.0
    local ends = mg.tensor({(a - mean) / std, (b - mean) / std}, "float64")
    local low, high = table.unpack((ends * math.sqrt(0.5)):erf():totable())
    if low * high > 0 and math.min(math.abs(low), math.abs(high)) > 1 - 1e-12 then
      raise("trunc_normal: next to nothing of the distribution lies within %g..%g", a, b)
    end
    local u = mg.rand{dtype = "float64", table.unpack(p.shape)} * (high - low) + low
    return set(p, (u:erfinv() * (std * math.sqrt(2)) + mean):clamp{min = a, max = b}, attempt)
  end))

init.xavier_uniform = checked("xavier_uniform(p: variable, {gain: number(0..) = 1})",
  "uniform, variance 2 gain^2 / (inputs + outputs): Glorot and Bengio 2010",
  function(p, by)
    local inputs, outputs = fans("xavier_uniform", p)
    local bound = by * math.sqrt(6 / (inputs + outputs))
    return uniform(p, -bound, bound)
  end)

init.xavier_normal = checked("xavier_normal(p: variable, {gain: number(0..) = 1})",
  "normal, variance 2 gain^2 / (inputs + outputs): Glorot and Bengio 2010",
  function(p, by)
    local inputs, outputs = fans("xavier_normal", p)
    return normal(p, 0, by * math.sqrt(2 / (inputs + outputs)))
  end)

local HE = '{a: number(..)?, mode: "fan_in" | "fan_out" = "fan_in", nonlinearity: ' .. KINDS ..
  ' = "leaky_relu"})'

local function spread(name, p, a, mode, kind)
  local inputs, outputs = fans(name, p)
  return gain(name, kind, a, 0) / math.sqrt(mode == "fan_in" and inputs or outputs)
end

init.kaiming_uniform = checked("kaiming_uniform(p: variable, " .. HE,
  "uniform, variance gain^2 / inputs; a: slope of leaky_relu, 0: He et al. 2015",
  function(p, a, mode, kind)
    local bound = math.sqrt(3) * spread("kaiming_uniform", p, a, mode, kind)
    return uniform(p, -bound, bound)
  end)

init.kaiming_normal = checked("kaiming_normal(p: variable, " .. HE,
  "normal, variance gain^2 / inputs; a: slope of leaky_relu, 0: He et al. 2015",
  function(p, a, mode, kind) return normal(p, 0, spread("kaiming_normal", p, a, mode, kind)) end)

-- Q of a normal matrix, with the signs of R's diagonal, is uniform among the orthogonal ones.
init.orthogonal = checked("orthogonal(p: variable, {gain: number(..) = 1})",
  "orthogonal rows, or columns where there are fewer of them, of length gain: Saxe et al. 2014",
  drawing(function(attempt, p, by)
    fans("orthogonal", p)
    local shape = p.shape
    local rows, columns = shape[1], p.size // math.max(shape[1], 1)
    local tall = rows >= columns
    local q, r = mg.randn{math.max(rows, columns), math.min(rows, columns), dtype = "float64"}:qr()
    q = q * r:diag():sign()
    if not tall then q = q.T end
    return set(p, (q * by):reshape(shape), attempt)
  end))

mg._docs[init] = "init: constant(p, value), uniform(p, low, high), normal(p, mean, std)\n" ..
  "values to start from: also zeros ones eye trunc_normal xavier_uniform xavier_normal " ..
  "kaiming_uniform kaiming_normal orthogonal calculate_gain"

-- PyTorch's end in _.
return {init = setmetatable(init, {__index = function(_, name)
  local ours = type(name) == "string" and name:match "^(.*)_$"
  if ours and rawget(init, ours) then
    raise("nn.init has no %s; here it is %s", name, ours)
  end
end})}
