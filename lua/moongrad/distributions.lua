-- mg.distributions: probability distributions over ops, so that all of it can be differentiated.
--
--   local d = mg.distributions.Normal(mu, sigma)
--   d:log_prob(x)                    of each x; -inf where x cannot be
--   d:sample(5), d:rsample{5, 2}     so many draws; rsample is differentiable by the parameters
--   d:entropy(), d.mean, d.variance, d.stddev
--   mg.distributions.kl(p, q)
--
-- Parameters are numbers or Variables that broadcast to d.batch_shape. One draw has the shape
-- d.event_shape (of Dirichlet and MultivariateNormal the last axis), so sample(dims) gives dims,
-- then batch_shape, then event_shape. Names, parameters and formulas are torch.distributions'; what
-- a Categorical gives counts from 1.

local mg = require "moongrad"
local Object = require "moongrad.class"
local checked, raise = mg.checked, mg.raise

local LOG_2PI = math.log(2 * math.pi)
local INF = math.huge

local Distribution = Object:extend "Distribution"

-- ---- parameters -------------------------------------------------------------------------------

local function text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- Values that must satisfy `holds`, all of them
local function check(class, name, x, what, holds)
  local ok = mg.no_grad(function() return mg._truth(holds(x):all()) end)
  if not ok then raise("%s: %s must be %s", class, name, what) end
end

local POSITIVE, RATE = "positive and finite", "0 or more and finite"
local TESTS = {
  finite = function(x) return x:isfinite() end,
  [POSITIVE] = function(x) return x:gt(0):logical_and(x:lt(INF)) end,
  [RATE] = function(x) return x:ge(0):logical_and(x:lt(INF)) end,
  ["within 0..1"] = function(x) return x:ge(0):logical_and(x:le(1)) end,
  ["a number"] = function(x) return x:isnan():logical_not() end
}

-- Sets the fields to Variables of one shape. rows: name, value, what must hold of it, and what it
-- is called where that is another name.
local function set(self, validate, rows)
  local class, shape, dtype = getmetatable(self).__name, nil, nil
  for _, row in ipairs(rows) do                    -- a number and whole ones never widen
    local own = mg.is_variable(row[2]) and row[2].dtype
    if own == "float64" or own == "float32" and not dtype then dtype = own end
  end
  dtype = dtype or mg.Config.dtype
  for i, row in ipairs(rows) do
    local x = row[2]
    if not mg.is_variable(x) then x = mg.tensor(x, dtype) end
    if x.dtype:sub(1, 5) ~= "float" then x = x:to(dtype) end
    rows[i][2] = x
    if validate and row[3] then check(class, row[4] or row[1], x, row[3], TESTS[row[3]]) end
    local sum = shape and mg.no_grad(function()
      return mg.empty(table.unpack(shape)) + mg.empty(table.unpack(x.shape))
    end)
    shape = sum and sum.shape or x.shape
  end
  for _, row in ipairs(rows) do
    self[row[1]] = row[2].shape == shape and row[2] or row[2]:expand(shape)
  end
  self.batch_shape, self.event_shape = shape, mg.tensor(0).shape
end

-- Fields that are computed when they are read: mean, variance, probs of logits ... A class of one's
-- own may have them otherwise.
local function read(self, name)
  local class = getmetatable(self)
  local value = class[name]
  if value ~= nil then return value end
  local make = class._[name]
  if make then return make(self) end
  if rawget(class, "_missing") then class._missing(self, name) end
end

Distribution.extend = checked("extend(self, name: string)", "a class of one's own",
  function(self, name)
    local class = Object.extend(self, name)
    class.__index = read
    return class
  end)

Distribution._ = {
  stddev = function(self) return self.variance:sqrt() end
}

local function extend(name, fields)
  local class = Distribution:extend(name):_seal()
  class._, class._family = setmetatable(fields, {__index = Distribution._}), class
  return class
end

local function full_shape(self, dims)
  local shape = {table.unpack(dims)}
  for _, part in ipairs{self.batch_shape, self.event_shape} do
    table.move(part, 1, #part, #shape + 1, shape)
  end
  return shape
end

-- The last axis of what was set becomes that of an event.
local function last_is_event(self, name)
  local shape = self.batch_shape
  if #shape == 0 then raise("%s: needs at least one axis", name) end
  local outer = mg.empty(table.unpack(shape, 1, #shape - 1))
  self.batch_shape, self.event_shape = outer.shape, mg.empty(shape[#shape]).shape
end

-- The value that log_prob is asked of, of the parameters' dtype
local function value_of(x, like)
  if not mg.is_variable(x) then x = mg.tensor(x, like.dtype) end
  return x.dtype:sub(1, 5) == "float" and x or x:to(like.dtype)
end

-- log_prob where x cannot be: of a nan nobody knows
local function outside(x) return mg.where(x:eq(x), -INF, x:detach()) end

-- log_prob where `inside`, and no gradient elsewhere
local function within(inside, x, safe, log_prob)
  return mg.where(inside, log_prob(mg.where(inside, x, safe)), outside(x))
end

-- ---- differences that would cancel ------------------------------------------------------------

-- sum of c[i] x^(i - 1)
local function polynomial(x, c)
  local y = c[#c]
  for i = #c - 1, 1, -1 do y = y * x + c[i] end
  return y
end

local ATANH, EXP = {}, {}
for i = 1, 14 do ATANH[i], EXP[i] = 2 / (2 * i + 1), (-1) ^ (i + 1) end
for i = 1, 14 do
  for k = 2, i + 1 do EXP[i] = EXP[i] / k end
end

-- u - log(1 + u) of small u: with s = u / (2 + u) the logarithm is 2 atanh(s), and u - 2 s = s u.
local function less_log(u)
  local s = u / (u + 2)
  local square = s * s
  return s * (u - square * polynomial(square, ATANH))
end

-- near(u) where |u| < 0.3, else `far`
local function by_size(u, near, far)
  local small = u:abs():lt(0.3)
  return mg.where(small, near(mg.where(small, u, 0)), far)
end

-- log(1 + u), or l, which is the same, where u has lost what it is made of
local function log_of(u, l)
  local plain = u:gt(-0.9):logical_and(u:lt(1e15))
  return mg.where(plain, mg.where(plain, u, 0):log1p(), l)
end

-- q - p - p log(q / p), 0 or more; d = q - p, l = log(q) - log(p). Of p = 0 it is q, to slopes: as
-- entropy flat where p cannot be, as behind a sigmoid or softmax that is 0.
local function gap(p, d, l)
  local u = d / p
  local y = by_size(u, function(v) return p * less_log(v) end, d - mg._mulz(p, log_of(u, l)))
  return mg.where(p:eq(0), d + p, y)
end

-- r - 1 - log(r), r = q / p
local function ratio_gap(p, q)
  local u = (q - p) / p
  return by_size(u, less_log, u - log_of(u, q:log() - p:log()))
end

-- u + exp(-u) - 1 of small u
local function decay_gap(u) return u * u * polynomial(u, EXP) end

-- Stirling: lgamma(k) = (k - 1/2) log(k) - k + log(2 pi) / 2 + rest(k); digamma(k) = log(k) -
-- 1 / (2 k) - the other one. Of k from LARGE on.
local LARGE = 16
local REST = {1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156}
local SLOPE = {1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12}
local function stirling_rest(k) return polynomial((1 / k) ^ 2, REST) / k end
local function stirling_slope(k) return polynomial((1 / k) ^ 2, SLOPE) * (1 / k) ^ 2 end

-- lgamma(c) - lgamma(a) - (c - a) digamma(a), 0 or more. From a to a + 1 it loses less_log of
-- (c - a) / a; from a + LARGE on Stirling's formula is as exact, whose terms r^m give
-- r^m h, h = (1 + v)^-m - 1 + m v.
local function lgamma_gap(c, a)
  local u = (c - a) / a
  return by_size(u, function(w)
    local d, k, steps = w * a, a + LARGE, mg.range(0, LARGE - 1, {dtype = a.dtype})
    local below = less_log(d:unsqueeze(-1) / (a:unsqueeze(-1) + steps)):sum(-1)
    local v, r, rest = d / k, 1 / k, 0
    local square, part, h, power = v * v, less_log(v), 0, 1
    for m = 1, 2 * #REST - 1 do
      h, power = (h + m * square) / (1 + v), power * r
      if m % 2 == 1 then rest = rest + REST[(m + 1) // 2] * power * h end
    end
    return below + k * (square - (1 + v) * part) + 0.5 * part + rest
  end, c:lgamma() - a:lgamma() - (c - a) * a:digamma())
end

-- far(k) where k is large, else near(k): each sees harmless numbers elsewhere
local function by_stirling(k, near, far)
  local large = k:ge(LARGE)
  return mg.where(large, far(mg.where(large, k, LARGE)), near(mg.where(large, 1, k)))
end

-- f of parameters in float64, of their dtype: for what is made of terms that cancel, or of slopes
-- beyond float32, and is itself within.
local function widely(f, ...)
  local wide, dtype = {...}, "float32"
  for i, x in ipairs(wide) do
    if x.dtype == "float64" then dtype = "float64" end
    wide[i] = x:to "float64"
  end
  return f(table.unpack(wide)):to(dtype)
end

-- ---- what all have ----------------------------------------------------------------------------

Distribution.rsample = checked("rsample(self, dims: shape...)",
  "so many draws, whose gradients lead to the parameters",
  mg._drawing(function(self, dims)
    if not getmetatable(self).draw then
      raise("rsample: what %s gives cannot be differentiated; use sample",
        getmetatable(self).__name)
    end
    return self:draw(full_shape(self, dims))
  end))

Distribution.sample = checked("sample(self, dims: shape...)", "so many draws, untracked",
  mg._drawing(function(self, dims)
    return mg.no_grad(getmetatable(self).draw or self.pick, self, full_shape(self, dims))
  end))

Distribution.log_prob = checked("log_prob(self, x: number | array)",
  "the logarithm of the density, or of the probability, of each x",
  function(self, x)
    x = value_of(x, self.like)
    local n = self.event_shape[1]
    if n and x.shape[x.ndim] ~= n then
      raise("log_prob: x has shape %s, expected (..., %d): its last axis is an event of %s",
        text(x.shape), n, getmetatable(self).__name)
    end
    return self:log_density(x)
  end)

Distribution.entropy = checked("entropy(self)", "minus the mean of log_prob",
  function(self) return self:uncertainty() end)

function Distribution:__tostring()
  local parts = {}
  for i, name in ipairs(self.names) do
    local x = self[name]
    local value = x.size == 1 and mg._format("%g", x:item()) or text(x.shape)
    parts[i] = name .. " = " .. value
  end
  return ("%s(%s)"):format(getmetatable(self).__name, table.concat(parts, ", "))
end

local VALIDATE = "{validate_args: bool = true}"

-- A class with these parameters, {name, what must hold} each. prepare(object, validate) looks at
-- them together.
local function family(name, parameters, doc, fields, prepare)
  local class = extend(name, fields)
  local args = {}
  class.names = {}
  for i, p in ipairs(parameters) do args[i], class.names[i] = p[1] .. ": number | array", p[1] end
  fields.like = function(self) return self[parameters[1][1]] end
  class.init = checked(("%s(self, %s, %s)"):format(name, table.concat(args, ", "), VALIDATE), doc,
    function(self, ...)
      local n, rows = #parameters, {}
      for i, p in ipairs(parameters) do rows[i] = {p[1], (select(i, ...)), p[2]} end
      set(self, select(n + 1, ...), rows)
      if prepare then prepare(self, select(n + 1, ...)) end
    end)
  return class
end

-- Of those that take probs, of which `holds` must hold, or logits, of which `logits_hold`
local function by_probs(name, holds, logits_hold, doc, fields, prepare)
  local class = extend(name, fields)
  class.names = {"probs"}
  fields.like = function(self) return self.given end
  class.init = checked(
    name .. "(self, probs: number | array?, {logits: number | array?, validate_args: bool = true})",
    doc,
    function(self, probs, logits, validate)
      if (probs == nil) == (logits == nil) then
        raise("%s: needs probs or {logits =}, one of them", name)
      end
      self.by_logits = probs == nil
      if probs then set(self, validate, {{"given", probs, holds, "probs"}})
      else set(self, validate, {{"given", logits, logits_hold, "logits"}}) end
      prepare(self, validate)
    end)
  return class
end

-- ---- normal and its like ----------------------------------------------------------------------

local D = {}

D.Normal = family("Normal", {{"loc", "finite"}, {"scale", POSITIVE}},
  "the normal distribution of mean loc and standard deviation scale", {
    mean = function(self) return self.loc end,
    variance = function(self) return self.scale ^ 2 end,
    stddev = function(self) return self.scale end
  })

function D.Normal:draw(shape) return mg.normal(self.loc, self.scale, shape) end

function D.Normal:log_density(x)
  return -0.5 * ((x - self.loc) / self.scale) ^ 2 - self.scale:log() - 0.5 * LOG_2PI
end

function D.Normal:uncertainty() return self.scale:log() + (0.5 + 0.5 * LOG_2PI) end

D.Laplace = family("Laplace", {{"loc", "finite"}, {"scale", POSITIVE}},
  "exp(-|x - loc| / scale) / (2 scale)", {
    mean = function(self) return self.loc end,
    variance = function(self) return 2 * self.scale ^ 2 end,
    stddev = function(self) return math.sqrt(2) * self.scale end
  })

-- The difference of two exponential variables
function D.Laplace:draw(shape)
  local one = mg.ones_like(self.scale:detach())
  return self.loc + self.scale * (mg.exponential(one, shape) - mg.exponential(one, shape))
end

function D.Laplace:log_density(x)
  return -((x - self.loc):abs() / self.scale) - (2 * self.scale):log()
end

function D.Laplace:uncertainty() return 1 + (2 * self.scale):log() end

D.Uniform = family("Uniform", {{"low", "finite"}, {"high", "finite"}},
  "anywhere from low up to high, alike", {
  mean = function(self) return (self.low + self.high) / 2 end,
  variance = function(self) return self.stddev ^ 2 end,
  stddev = function(self) return (self.high - self.low) / math.sqrt(12) end
}, function(self, validate)
  if not validate then return end
  check("Uniform", "high - low", self.high - self.low, POSITIVE, TESTS[POSITIVE])
end)

-- What was rounded to high, which does not occur, is low: its share was rounded away from there.
function D.Uniform:draw(shape)
  local x = mg.uniform(self.low, self.high, shape)
  return mg.where(x:lt(self.high), x, self.low)
end

function D.Uniform:log_density(x)
  local inside = x:ge(self.low):logical_and(x:lt(self.high))
  return mg.where(inside, 0 - (self.high - self.low):log(), outside(x))
end

function D.Uniform:uncertainty() return (self.high - self.low):log() end

-- ---- of positive values -----------------------------------------------------------------------

D.Exponential = family("Exponential", {{"rate", POSITIVE}}, "rate exp(-rate x), x from 0", {
  mean = function(self) return 1 / self.rate end,
  variance = function(self) return (1 / self.rate) ^ 2 end,
  stddev = function(self) return 1 / self.rate end
})

function D.Exponential:draw(shape) return mg.exponential(self.rate, shape) end

function D.Exponential:log_density(x)
  return within(x:ge(0), x, 0, function(v) return self.rate:log() - self.rate * v end)
end

function D.Exponential:uncertainty() return 1 - self.rate:log() end

D.Gamma = family("Gamma", {{"concentration", POSITIVE}, {"rate", POSITIVE}},
  "x^(concentration - 1) exp(-rate x), x from 0, up to a factor", {
    mean = function(self) return self.concentration / self.rate end,
    variance = function(self) return self.concentration / self.rate / self.rate end,
    stddev = function(self) return self.concentration:sqrt() / self.rate end
  })

function D.Gamma:draw(shape) return mg.gamma(self.concentration, self.rate, shape) end

-- Of large k by the distance of its mean (Loader, "Fast and accurate computation of binomial
-- probabilities", 2000).
function D.Gamma:log_density(x)
  local k, rate = self.concentration, self.rate
  local inside = x:ge(0):logical_and(x:lt(INF)):logical_and(x:gt(0):logical_or(k:lt(LARGE)))
  return within(inside, x, 1, function(v)
    return by_stirling(k, function(a)
      return mg.xlogy(a, rate) + mg.xlogy(a - 1, v) - rate * v - a:lgamma()
    end, function(a)
      local l = v:log()
      return 0.5 * (a:log() - LOG_2PI) - stirling_rest(a) - l -
        gap(a, rate * v - a, rate:log() + l - a:log())
    end)
  end)
end

-- That of rate 1
local function gamma_entropy(concentration)
  return by_stirling(concentration, function(k)
    return k + k:lgamma() + (1 - k) * k:digamma()
  end, function(k)
    return 0.5 * (k:log() + LOG_2PI + 1) + stirling_rest(k) - 0.5 / k +
      (k - 1) * stirling_slope(k)
  end)
end

function D.Gamma:uncertainty()
  return widely(function(k, rate) return gamma_entropy(k) - rate:log() end, self.concentration,
    self.rate)
end

-- ---- on 0..1 ----------------------------------------------------------------------------------

D.Beta = family("Beta", {{"concentration1", POSITIVE}, {"concentration0", POSITIVE}},
  "x^(concentration1 - 1) (1 - x)^(concentration0 - 1) on 0..1, up to a factor", {
    mean = function(self)
      return self.concentration1 / (self.concentration1 + self.concentration0)
    end,
    variance = function(self)
      local a, b = self.concentration1, self.concentration0
      return a / (a + b) * (b / (a + b)) / (a + b + 1)
    end,
    stddev = function(self)
      local a, b = self.concentration1, self.concentration0
      return (a / (a + b)):sqrt() * (b / (a + b)):sqrt() / (a + b + 1):sqrt()
    end
  })

-- lgamma(a) + lgamma(b) - lgamma(a + b)
local function log_beta(a, b)
  local swap = a:lt(b)                             -- not maximum, which at a tie is half of each
  local most, least = mg.where(swap, b, a), mg.where(swap, a, b)
  local large = most:ge(LARGE)
  local safe = mg.where(large, most, LARGE)
  local u, sum = least / safe, safe + least
  local far = by_size(u, function(v) return safe * less_log(v) end, least - safe * u:log1p()) +
    0.5 * u:log1p() - least * sum:log() + stirling_rest(safe) - stirling_rest(sum)
  local near = mg.where(large, 1, most)
  return least:lgamma() + mg.where(large, far, near:lgamma() - (near + least):lgamma())
end

function D.Beta:draw(shape) return mg.beta(self.concentration1, self.concentration0, shape) end

function D.Beta:log_density(x)
  local a, b = self.concentration1, self.concentration0
  local large = a:ge(LARGE):logical_and(b:ge(LARGE))
  local ends = x:eq(0):logical_or(x:eq(1)):logical_and(large)
  local inside = x:ge(0):logical_and(x:le(1)):logical_and(ends:logical_not())
  return within(inside, x, 0.5, function(v)
    local other = (-v):log1p()
    local flat = v:eq(1):logical_and(b:eq(1))       -- to slopes too, as of xlogy
    local plain = mg.xlogy(a - 1, v) + (b - 1) * mg.where(flat, 0, other) - log_beta(a, b)
    local k, l = mg.where(large, a, LARGE), mg.where(large, b, LARGE)
    local n, log_v = k + l, v:log()
    local near = gap(k, n * v - k, n:log() + log_v - k:log()) +
      gap(l, k - n * v, n:log() + other - l:log())
    local rest = stirling_rest(n) - stirling_rest(k) - stirling_rest(l)
    return mg.where(large, 0.5 * ((k / n * l):log() - LOG_2PI) + rest - log_v - other - near, plain)
  end)
end

-- Shares of gamma variates: by the entropies of these and of their sum, which grow as logarithms
-- where the lgammas of the formula that is in books would cancel.
function D.Beta:uncertainty()
  return widely(function(a, b)
    return gamma_entropy(a) + gamma_entropy(b) - gamma_entropy(a + b) - (a + b):digamma()
  end, self.concentration1, self.concentration0)
end

D.Dirichlet = family("Dirichlet", {{"concentration", POSITIVE}},
  "shares x that add up to 1 along the last axis, as the product of x^(concentration - 1)", {
    mean = function(self)
      return self.concentration / self.concentration:sum{axis = -1, keepdims = true}
    end,
    variance = function(self)
      local a = self.concentration
      local total = a:sum{axis = -1, keepdims = true}
      return a / total * ((total - a) / total) / (total + 1)
    end,
    stddev = function(self)
      local a = self.concentration
      local total = a:sum{axis = -1, keepdims = true}
      return (a / total):sqrt() * ((total - a) / total):sqrt() / (total + 1):sqrt()
    end
  }, function(self) last_is_event(self, "Dirichlet") end)

-- By logarithms: the gamma variates may all be too small to be numbers.
function D.Dirichlet:draw(shape)
  local a = self.concentration
  return mg._gamma_log(a:to("float64"):broadcast_to(shape)):softmax():to(a.dtype)
end

function D.Dirichlet:log_density(x)
  local a = self.concentration
  local share = (x:sum{axis = -1, keepdims = true} - 1):abs():le(1e-4)
  local terms = within(x:ge(0):logical_and(x:le(1)):logical_and(share), x, 1, function(v)
    return mg.xlogy(a - 1, v)
  end)
  return terms:sum(-1) + a:sum(-1):lgamma() - a:lgamma():sum(-1)
end

function D.Dirichlet:uncertainty()
  return widely(function(a)
    local total, k = a:sum(-1), self.event_shape[1]
    return gamma_entropy(a):sum(-1) - gamma_entropy(total) - (k - 1) * total:digamma()
  end, self.concentration)
end

-- ---- of whole numbers -------------------------------------------------------------------------

D.Bernoulli = by_probs("Bernoulli", "within 0..1", "a number",
  "1 with probability probs, else 0; or by logits", {
  probs = function(self) return self.by_logits and self.given:sigmoid() or self.given end,
  logits = function(self)
    return self.by_logits and self.given or self.given:log() - (-self.given):log1p()
  end,
  mean = function(self) return self.probs end,
  variance = function(self) return self.probs * (1 - self.probs) end
}, function() end)

function D.Bernoulli:pick(shape)
  return mg.rand_like(self.given:expand(shape)):lt(self.probs):to(self.given.dtype)
end

function D.Bernoulli:log_density(x)
  local inside = x:eq(0):logical_or(x:eq(1))
  return within(inside, x, 0, function(v)
    local given = self.given
    if not self.by_logits then return mg.xlogy(v, given) + mg._mulz(1 - v, (-given):log1p()) end
    local up = given:ge(0)
    return -(mg.where(up, -given, given):softplus() + mg._mulz(mg.where(up, 1 - v, -v), given))
  end)
end

-- Logits, of which those that are infinite move nothing
local function settled(x) return mg.where(x:isinf(), x:detach(), x) end

-- What is sure moves nothing, as behind a sigmoid that is 0 or 1.
function D.Bernoulli:uncertainty()
  local x = self.given
  if not self.by_logits then
    x = mg.where(x:eq(0):logical_or(x:eq(1)), x:detach(), x)
    return -(mg.xlogy(x, x) + mg._mulz(1 - x, (-x):log1p()))
  end
  x = settled(x)
  return mg._mulz(x:sigmoid(), (-x):softplus()) + mg._mulz((-x):sigmoid(), x:softplus())
end

D.Categorical = by_probs("Categorical", RATE, nil,
  "i with probability probs[i], from 1, along the last axis; probs are divided by their sum; or " ..
    "by logits", {
  log_probs = function(self)
    if self.by_logits then return self.given:log_softmax() end
    local p, share = self.given, self.probs        -- a share may be too small to be a number
    local faint, total = share:lt(1e-30), p:sum{axis = -1, keepdims = true}
    return mg.where(faint, p:log() - total:log(), mg.where(faint, 1, share):log())
  end,
  probs = function(self)
    if self.by_logits then return self.given:softmax() end
    return self.given / self.given:sum{axis = -1, keepdims = true}
  end,
  logits = function(self) return self.log_probs end,
  mean = function() raise "Categorical: labels have no mean" end,
  variance = function() raise "Categorical: labels have no variance" end
}, function(self, validate)
  last_is_event(self, "Categorical")
  if self.event_shape[1] == 0 then raise "Categorical: there are no labels" end
  if validate and self.by_logits then
    check("Categorical", "logits", self.given, "below inf, and some above -inf", function(x)
      local most = x:amax(-1)
      return most:gt(-INF):logical_and(most:lt(INF))
    end)
  elseif validate then
    check("Categorical", "probs", self.given, "finite, and some above 0", function(x)
      local sum = x:sum(-1)
      return sum:gt(0):logical_and(sum:lt(INF))
    end)
  end
  self.n, self.event_shape = self.event_shape[1], mg.empty().shape
end)

function D.Categorical:pick(shape)
  local n = 1
  for i = 1, #shape - #self.batch_shape do n = n * shape[i] end
  local logits = self.log_probs
  local drawn = mg.categorical(logits, n):movedim(-1, 1)
  return drawn:reshape(shape)
end

D.Categorical.log_prob = checked("log_prob(self, x: array)",
  "the logarithm of the probability of each label x, from 1",
  function(self, x)
    local logs = self.log_probs
    if x.dtype:sub(1, 5) == "float" then
      local labels = x:to "int64"
      if not mg.no_grad(function() return mg._truth(labels:eq(x):all()) end) then
        raise "log_prob: labels must be whole numbers"
      end
      x = labels
    end
    local n = self.n
    if not mg.no_grad(function() return mg._truth(x:ge(1):logical_and(x:le(n)):all()) end) then
      raise("log_prob: labels must be in 1..%d", n)
    end
    local wide = mg.no_grad(function() return mg.zeros(x.shape) + mg.empty(self.batch_shape) end)
    local shape = {table.unpack(wide.shape)}
    local index = x:expand(shape):unsqueeze(-1)
    shape[#shape + 1] = self.n
    return logs:expand(shape):take_along(index, #shape):squeeze(#shape)
  end)

function D.Categorical:uncertainty()
  local p = self.probs
  p = mg.where(p:eq(0), 1, p)                      -- flat there, and smooth
  return -(p * p:log()):sum(-1)
end

D.Poisson = family("Poisson", {{"rate", RATE}}, "counts, rate^x exp(-rate) / x!", {
  mean = function(self) return self.rate end,
  variance = function(self) return self.rate end
})

function D.Poisson:pick(shape) return mg.poisson(self.rate, shape) end

function D.Poisson:log_density(x)
  local inside = x:ge(0):logical_and(x:lt(INF)):logical_and(x:eq(x:floor()))
  return within(inside, x, 0, function(v)
    local rate = self.rate
    return by_stirling(v, function(k)
      return mg.xlogy(k, rate) - rate - (k + 1):lgamma()
    end, function(k)
      return -0.5 * (k:log() + LOG_2PI) - stirling_rest(k) - gap(k, rate - k, rate:log() - k:log())
    end)
  end)
end

-- There is no closed form: the sum over all counts that matter, or of large rates, where these are
-- many, half of log(2 pi e rate) and a series in 1 / rate.
local MANY = 1e4
local function poisson_entropy(rates)
  local large = rates:ge(MANY)
  local few = D.Poisson(mg.where(large, 1, rates), {validate_args = false})
  local most = mg.no_grad(function() return few.rate:max():item() end)
  local shape = {math.ceil(most + 20 * math.sqrt(most) + 60)}
  for i in ipairs(rates.shape) do shape[i + 1] = 1 end
  local k = mg.range(0, shape[1] - 1, {dtype = "float64"}):reshape(shape)
  local log_p = few:log_density(k)
  local near = -(mg.where(log_p:eq(-INF), 0, log_p:exp() * log_p)):sum(1)
  local rate = mg.where(large, rates, MANY)
  local far = 0.5 * (rate:log() + (LOG_2PI + 1)) -
    polynomial(1 / rate, {0, 1 / 12, 1 / 24, 19 / 360})
  return mg.where(large, far, near)
end

function D.Poisson:uncertainty()
  return self.rate.size == 0 and self.rate * 1 or widely(poisson_entropy, self.rate)
end

-- ---- MultivariateNormal -----------------------------------------------------------------------

D.MultivariateNormal = extend("MultivariateNormal", {
  like = function(self) return self.loc end,
  mean = function(self) return self.loc end,
  covariance_matrix = function(self) return self.scale_tril:matmul(self.scale_tril.T) end,
  variance = function(self)
    return (self.scale_tril ^ 2):sum(-1):expand(full_shape(self, {}))
  end
})
D.MultivariateNormal.names = {"loc", "scale_tril"}

D.MultivariateNormal.init = checked("MultivariateNormal(self, loc: array, " ..
  "covariance_matrix: array?, {scale_tril: array?, validate_args: bool = true})",
  "normal along the last axis, of mean loc (..., n) and a covariance (..., n, n), or its lower " ..
    "Cholesky factor scale_tril",
  function(self, loc, covariance, scale, validate)
    if (covariance == nil) == (scale == nil) then
      raise "MultivariateNormal: needs a covariance matrix or {scale_tril =}, one of them"
    end
    local name = "MultivariateNormal"
    if validate and covariance then check(name, "the covariance", covariance, "finite", mg.isfinite)
    elseif validate then check(name, "scale_tril", scale, "finite", mg.isfinite) end
    if validate and covariance and covariance.ndim >= 2 and
      covariance.shape[covariance.ndim] == covariance.shape[covariance.ndim - 1] then
      check(name, "the covariance", covariance, "symmetric", function(x)
        local near = 1e-6 + 1e-5 * x.T:abs()
        return (x - x.T):abs():le(near)
      end)
    end
    local L = scale or covariance:cholesky()
    set(self, validate, {{"loc", loc, "finite"}})
    last_is_event(self, "MultivariateNormal")
    local n, s = self.event_shape[1], L.shape
    if #s < 2 or s[#s] ~= n or s[#s - 1] ~= n then
      raise("MultivariateNormal: the covariance has shape %s for a mean of %d elements", text(s), n)
    end
    local outer = mg.no_grad(function()
      return mg.empty(table.unpack(self.batch_shape)) + mg.empty(table.unpack(s, 1, #s - 2))
    end)
    if validate and scale then
      check(name, "scale_tril", L, "lower triangular", function(x) return x:eq(x:tril()) end)
      check(name, "the diagonal of scale_tril", L, "positive", function(x)
        return x:diagonal{axis1 = -2, axis2 = -1}:gt(0)
      end)
    end
    self.batch_shape, self.scale_tril = outer.shape, L
    self.loc = self.loc:expand(full_shape(self, {}))
  end)

function D.MultivariateNormal:draw(shape)
  local z = mg.normal(mg.zeros_like(self.loc:detach()), 1, shape)
  return self.loc + self.scale_tril:matmul(z:unsqueeze(-1)):squeeze(-1)
end

-- L^-1 x along the last axis of x
local function whiten(L, x)
  local shape = {table.unpack(x.shape)}
  local n = shape[#shape]
  if L.ndim == 2 then                              -- all as columns of one system
    return mg.triangular_solve(x:reshape(x.size // n, n).T, L).T:reshape(shape)
  end
  local wide = {table.unpack(shape)}
  wide[#wide + 1] = n
  return mg.triangular_solve(x:unsqueeze(-1), L:expand(wide)):squeeze(-1)
end

local function half_log_det(L) return L:diagonal{axis1 = -2, axis2 = -1}:log():sum(-1) end

function D.MultivariateNormal:log_density(x)
  local z = whiten(self.scale_tril, x - self.loc)
  return -0.5 * (z ^ 2):sum(-1) - half_log_det(self.scale_tril) -
    0.5 * LOG_2PI * self.event_shape[1]
end

function D.MultivariateNormal:uncertainty()
  local n = self.event_shape[1]
  return (half_log_det(self.scale_tril) + 0.5 * n * (1 + LOG_2PI)):expand(self.batch_shape)
end

-- ---- how one differs from another -------------------------------------------------------------

local KL = {}

-- 0.5 (r^2 - 1 - log(r^2)), r = p.scale / q.scale, and the distance
function KL.Normal(p, q)
  local d = (p.scale - q.scale) / q.scale
  local u = d * (d + 2)
  local spread = by_size(u, less_log, u - log_of(u, 2 * (p.scale:log() - q.scale:log())))
  return 0.5 * (spread + ((p.loc - q.loc) / q.scale) ^ 2)
end

function KL.Laplace(p, q)
  local off = p.loc - q.loc
  off = mg.where(off:lt(0), -off, off)             -- smooth at 0, as all of it: not abs, for that
  local ratio = p.scale / q.scale
  return ratio_gap(q.scale, p.scale) + by_size(off / p.scale, function(u)
    return ratio * decay_gap(u)
  end, mg._subz(off / q.scale, -ratio * (-off / p.scale):expm1()))
end

function KL.Uniform(p, q)
  local beyond = p.low:lt(q.low):logical_or(p.high:gt(q.high))
  local width, more = p.high - p.low, (q.high - p.high) + (p.low - q.low)
  local u = mg.where(beyond, 0, more / width)
  return mg.where(beyond, INF, log_of(u, (q.high - q.low):log() - width:log()))
end

function KL.Exponential(p, q) return ratio_gap(p.rate, q.rate) end

function KL.Gamma(p, q)
  return widely(function(a, b, c, d)
    return a * ratio_gap(b, d) + (a - c) * log_of((d - b) / b, d:log() - b:log()) +
      lgamma_gap(c, a)
  end, p.concentration, p.rate, q.concentration, q.rate)
end

function KL.Beta(p, q)
  return widely(function(a, b, c, d)
    return lgamma_gap(c, a) + lgamma_gap(d, b) - lgamma_gap(c + d, a + b)
  end, p.concentration1, p.concentration0, q.concentration1, q.concentration0)
end

function KL.Dirichlet(p, q)
  return widely(function(a, c)
    return lgamma_gap(c, a):sum(-1) - lgamma_gap(c:sum(-1), a:sum(-1))
  end, p.concentration, q.concentration)
end

-- Probabilities add up to 1: gap(p, q - p) is p log(p / q) and what adds up to 0.

function KL.Bernoulli(p, q)
  local function parts(it, x)
    if it.by_logits then
      return x:sigmoid(), (-x):sigmoid(), -(-x):softplus(), -x:softplus()
    end
    return x, 1 - x, x:log(), (-x):log1p()
  end
  local yes, no, log_yes, log_no = parts(p, p.by_logits and settled(p.given) or p.given)
  local q_yes, q_no, q_log_yes, q_log_no = parts(q, q.given)
  local more = mg.where(yes:lt(0.5), q_yes - yes, no - q_no) -- of the smaller: the other is rounded
  local far = gap(yes, more, q_log_yes - log_yes) + gap(no, -more, q_log_no - log_no)
  if not (p.by_logits and q.by_logits) then return far end
  return by_size(mg._subz(q.given, p.given), function(step) -- q - p = p (1 - q) (exp(step) - 1)
    return yes * less_log(q_no * step:expm1()) + no * less_log(q_yes * (-step):expm1())
  end, far)
end

function KL.Categorical(p, q)
  if p.n ~= q.n then raise("kl: %d labels and %d", p.n, q.n) end
  local probs, along = p.probs, {axis = -1, keepdims = true}
  local far = gap(probs, q.probs - probs, q.log_probs - p.log_probs):sum(-1)
  if not (p.by_logits and q.by_logits) then return far end
  local step = mg._subz(q.given, p.given)
  step = step - mg._mulz(probs, step):sum(along):detach() -- which changes no probability
  local small = step:abs():amax(along):lt(0.3)
  local more = mg.where(small, step, 0):expm1()
  local mean = (probs * more):sum(along)
  local near = (probs * less_log((more - mean) / (1 + mean))):sum(-1)
  return mg.where(small:squeeze(-1), near, far)
end

function KL.Poisson(p, q) return gap(p.rate, q.rate - p.rate, q.rate:log() - p.rate:log()) end

-- By M^-1 L less 1, L and M the factors of p and q.
function KL.MultivariateNormal(p, q)
  local L, M, off = p.scale_tril, q.scale_tril, whiten(q.scale_tril, q.loc - p.loc)
  local wide = mg.no_grad(function() return (mg.empty(L.shape) + mg.empty(M.shape)).shape end)
  local more = mg.triangular_solve(L - M, M:expand(wide))
  local function diagonal(x) return x:diagonal{axis1 = -2, axis2 = -1} end
  local d = diagonal(more)
  local u = d * (d + 2)
  local spread = by_size(u, less_log, u - 2 * log_of(d, diagonal(L):log() - diagonal(M):log()))
  return 0.5 * (spread:sum(-1) + (more:tril(-1) ^ 2):sum{axis = {-2, -1}} + (off ^ 2):sum(-1))
end

local function family_of(op, v, i)
  local own = type(v) == "table" and getmetatable(v)
  local class = type(own) == "table" and own._family
  if not class then raise("%s: argument %d is no distribution of mg.distributions", op, i) end
  if own.log_prob ~= class.log_prob or own.log_density ~= class.log_density then
    raise("%s: argument %d, a class of one's own, has another density than %s", op, i, class.__name)
  end
  return class.__name
end

D.kl = checked("kl(p: any, q: any)",
  "the divergence of Kullback and Leibler of two of one family: the mean of log p - log q under p",
  function(p, q)
    local a, b = family_of("kl", p, 1), family_of("kl", q, 2)
    if a ~= b then raise("kl: no closed form is known for %s and %s", a, b) end
    local m, n = p.event_shape[1], q.event_shape[1]
    if m ~= n then raise("kl: %d elements and %d", m, n) end
    return KL[a](p, q)
  end)

return D
