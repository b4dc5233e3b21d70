-- samples.lua -- one sample for each op of the table: what it is tried with and what comes out.
--
-- Written in plain Lua, with nothing of moongrad: an op is compared with these, not with itself.
-- A sample is the result, then what stands for each operand; for the
--
--   elementwise   a function of one element of each; six numbers each, away from kinks
--   reductions    a function of a list; six numbers
--   others        nested tables
--
-- and float, number or any say which dtypes it keeps. By name it may have: args, which follow the
-- operands; call, where operands do not simply come first; gives, the dtype of all results; flat,
-- the derivative is zero; refuses, there is none; random; bad, args that are refused (false: none
-- are), and says, the name that the error begins with.

local FLOATS = {"float64", "float32"}
local NUMBERS = {"float64", "float32", "int64"}
local ALL = {"float64", "float32", "int64", "uint8", "bool"}

local samples = {}

local function kind(dtypes)
  return function(sample)
    sample.expected = sample[1]
    sample.inputs = table.move(sample, 2, #sample, 1, {})
    sample.dtypes = sample.dtypes or dtypes
    sample.args = sample.args or {}
    sample.call = sample.call or function(op, ...)
      local given = table.pack(...)
      table.move(sample.args, 1, #sample.args, given.n + 1, given)
      return op(table.unpack(given, 1, given.n + #sample.args))
    end
    return sample
  end
end

local float, number, any = kind(FLOATS), kind(NUMBERS), kind(ALL)
local exp, log, abs, sqrt, floor, huge = math.exp, math.log, math.abs, math.sqrt, math.floor,
  math.huge

-- ---- functions that Lua does not have ---------------------------------------------------------

-- Kahan's: the error that u = exp(x) has, log(u) has too.
local function expm1(x)
  local u = exp(x)
  if u == 1 then return x end
  if u == huge or u - 1 == -1 then return u - 1 end
  return (u - 1) * x / log(u)
end

local function log1p(x)
  local u = 1 + x
  if u == 1 or u == huge then return x end
  return log(u) * x / (u - 1)
end

local function odd(f) -- f(x) for x >= 0 continued to all x
  return function(x)
    if x < 0 then return -f(-x) end
    return f(x)
  end
end

local sinh = odd(function(x)
  local e = expm1(x)
  return e == huge and e or (e + e / (e + 1)) / 2
end)

local tanh = odd(function(x)
  local e = expm1(2 * x)
  return e == huge and 1 or e / (e + 2)
end)

-- A series of positive terms, so that nothing cancels.
local erf = odd(function(x)
  if x > 6 then return 1 end
  local sum, term, n = x, x, 0
  while term > sum * 1e-17 do
    n = n + 1
    term = term * 2 * x * x / (2 * n + 1)
    sum = sum + term
  end
  return 2 / sqrt(math.pi) * exp(-x * x) * sum
end)

local asinh = odd(function(x)
  return x == huge and x or log1p(x + x * x / (1 + sqrt(1 + x * x)))
end)

local atanh = odd(function(x) return x > 1 and 0 / 0 or 0.5 * log1p(2 * x / (1 - x)) end)

local function acosh(x)
  if x < 1 then return 0 / 0 end
  return x == huge and x or log1p(x - 1 + sqrt((x - 1) * (x + 1)))
end

local function erfinv(x)
  if abs(x) >= 1 then return abs(x) == 1 and x * huge or 0 / 0 end
  local z = 0
  for _ = 1, 40 do z = z - (erf(z) - x) * sqrt(math.pi) / 2 * exp(z * z) end
  return z
end

local function is_pole(x) return x <= 0 and x == floor(x) end

-- Lanczos' approximation, "A precision approximation of the gamma function", 1964.
local LANCZOS = {676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7}
local function lgamma(x)
  if x ~= x then return x end
  if is_pole(x) or abs(x) == huge then return huge end
  if x < 0.5 then return log(math.pi / abs(math.sin(math.pi * x))) - lgamma(1 - x) end
  local sum, t = 0.99999999999980993, x + 6.5
  for i, c in ipairs(LANCZOS) do sum = sum + c / (x + i - 1) end
  return log(2 * math.pi) / 2 + (x - 0.5) * log(t) - t + log(sum)
end

local function digamma(x)
  if x ~= x or x == huge then return x end
  if x == 0 then return -1 / x end
  if is_pole(x) then return 0 / 0 end
  local sum = 0
  while x < 20 do
    sum = sum - 1 / x
    x = x + 1
  end
  local w = 1 / (x * x)
  return sum + log(x) - 0.5 / x - w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w / 240)))
end

local function trigamma(x)
  if x ~= x or x == -huge then return 0 / 0 end
  if x == huge then return 0 end
  if is_pole(x) then return huge end
  local sum = 0
  while x < 20 do
    sum = sum + 1 / (x * x)
    x = x + 1
  end
  local w = 1 / (x * x)
  return sum + (1 + 0.5 / x + w * (1 / 6 - w * (1 / 30 - w * (1 / 42 - w / 30)))) / x
end

local function sign(x)
  if x > 0 then return 1 elseif x < 0 then return -1 else return x end
end

local function round(x)
  local down = floor(x)
  local rest = x - down
  if rest < 0.5 or rest == 0.5 and down % 2 == 0 then return down end
  return rest == rest and down + 1 or x
end

local function trunc(x) return x < 0 and -floor(-x) or floor(x) end

-- the sign bit, of -0 and nan too
local function negative(x) return string.pack("<d", x):byte(8) >= 128 end

local function larger(a, b) return (a > b or a ~= a) and a or b end
local function smaller(a, b) return (a < b or a ~= a) and a or b end

-- ---- one operand ------------------------------------------------------------------------------

local SOME = {-2.5, -1.25, -0.3, 0.4, 1.5, 2.75}
local POSITIVE = {0.4, 0.6, 1.25, 2, 3.5, 8}
local WITHIN_1 = {-0.9, -0.5, -0.1, 0.2, 0.6, 0.8}

samples.neg = number{function(x) return -x end, SOME}
samples.abs = number{abs, SOME}
samples.sign = number{sign, SOME, flat = true}
samples.square = number{function(x) return x * x end, SOME}
samples.sqrt = float{sqrt, POSITIVE}
samples.rsqrt = float{function(x) return 1 / sqrt(x) end, POSITIVE}
samples.exp = float{exp, SOME}
samples.expm1 = float{expm1, {-2, -0.5, -1e-3, 1e-3, 0.5, 2}}
samples.log = float{log, POSITIVE}
samples.log1p = float{log1p, {-0.9, -0.5, -1e-3, 1e-3, 0.5, 4}}
samples.log2 = float{function(x) return log(x, 2) end, POSITIVE}
samples.log10 = float{function(x) return log(x, 10) end, POSITIVE}
samples.exp2 = float{function(x) return 2 ^ x end, SOME}
samples.sin = float{math.sin, SOME}
samples.cos = float{math.cos, SOME}
samples.tan = float{math.tan, WITHIN_1}
samples.asin = float{math.asin, WITHIN_1}
samples.acos = float{math.acos, WITHIN_1}
samples.atan = float{math.atan, SOME}
samples.sinh = float{sinh, SOME}
samples.cosh = float{function(x) return (exp(x) + exp(-x)) / 2 end, SOME}
samples.tanh = float{tanh, SOME}
samples.asinh = float{asinh, SOME}
samples.acosh = float{acosh, {1.25, 1.5, 2, 3.5, 8, 20}}
samples.atanh = float{atanh, WITHIN_1}
samples.erfc = float{function(x) return 1 - erf(x) end, {-2, -1.2, -0.25, 0.1, 0.3, 0.5}}
samples.erfinv = float{erfinv, WITHIN_1}
samples.lgamma = float{lgamma, {0.1, 0.25, 4.5, 6.25, 8, 20}}
samples.digamma = float{digamma, {0.1, 0.3, 0.6, 4.25, 8, 20}}
samples._polygamma = float{trigamma, {0.3, 0.6, 0.9, 1.25, 1.75, 2.5}, args = {1}}
samples.erf = float{erf, {-2, -1, -0.25, 0.5, 1.1, 1.75}}
samples.sigmoid = float{function(x) return 1 / (1 + exp(-x)) end, SOME}
samples.relu = number{function(x) return x <= 0 and 0 or x end, SOME}
local function normal(x) return x < -30 and 0 or (1 + erf(x * sqrt(0.5))) / 2 end
local function density(x) return exp(-x * x / 2) / sqrt(2 * math.pi) end
local function gate(x) return 1 / (1 + exp(-sqrt(8 / math.pi) * (x + 0.044715 * x ^ 3))) end
-- 0 of an infinite factor is 0: what these are far out
local function times(a, b) return a == 0 and 0 or a * b end

samples.gelu = float{function(x) return times(normal(x), x) end, WITHIN_1}
samples._gelu_slope = float{function(x) return normal(x) + times(density(x), x) end, WITHIN_1}
samples._gelu_tanh = float{function(x) return times(gate(x), x) end, WITHIN_1}
samples._gelu_tanh_slope = float{function(x)
  local s = gate(x)
  return s + times(s * (1 - s), sqrt(8 / math.pi) * (x + 3 * 0.044715 * x ^ 3))
end, WITHIN_1}
samples._gauss = float{function(x) return exp(-x * x / 2) end, SOME, args = {0.5}}
samples._circle = float{function(x) return 1 / sqrt((1 - x) * (1 + x)) end, WITHIN_1, args = {0.5}}
samples._length = float{sqrt, POSITIVE}
samples._powhalf = float{function(x) return x ^ 0.5 end, POSITIVE}
local function sigmoid(x) return 1 / (1 + exp(-x)) end
samples.silu = float{function(x) return times(sigmoid(x), x) end, SOME}
samples._silu_slope = float{function(x)
  local s = sigmoid(x)
  return s + times(s * (1 - s), x)
end, SOME}
samples.softplus = float{function(x) return larger(x, 0) + log1p(exp(-abs(x))) end, SOME}
local function squashed(x) return tanh(larger(x, 0) + log1p(exp(-abs(x)))) end
samples._softplus_slope = float{sigmoid, SOME}
samples.mish = float{function(x) return times(squashed(x), x) end, SOME}
samples._mish_slope = float{function(x)
  local t = squashed(x)
  return t + times((1 - t * t) * sigmoid(x), x)
end, {-2.5, -1.75, -0.3, 0.4, 1.5, 2.75}}
samples.floor = number{floor, SOME, flat = true}
samples.ceil = number{math.ceil, SOME, flat = true}
samples.round = number{round, {-2.6, -1.25, -0.3, 0.4, 1.6, 2.75}, flat = true}
samples.trunc = number{trunc, SOME, flat = true}
samples.frac = float{function(x) return x - trunc(x) end, SOME}
samples.relu6 = number{function(x)
  return x <= 0 and 0 or x >= 6 and 6 or x
end, {-2.5, -0.3, 1.5, 5.75, 6.5, 9}}
samples.reciprocal = float{function(x) return 1 / x end, SOME}
samples.nan_to_num = number{function(x)
  local largest = 0x1.fffffffffffffp1023
  return x ~= x and 0 or smaller(larger(x, -largest), largest)
end, SOME}
samples.isnan = float{function(x) return x ~= x end, {0 / 0, -huge, -1, 0, 1, huge}}
samples.isinf = float{function(x) return abs(x) == huge end, {0 / 0, -huge, -1, 0, 1, huge}}
samples.isfinite = float{function(x)
  return x == x and abs(x) < huge
end, {0 / 0, -huge, -1, 0, 1, huge}}
samples.logical_not = any{function(x) return x == 0 end, {0, 1, 0, 2, 0, 3}}

-- ---- two and three operands -------------------------------------------------------------------

local A, B = {-2.5, -1.25, 3.5, 0.4, 1.6, 2.75}, {1.5, -2, 1.2, -0.6, 2.25, -4}
local ORDER, OTHER = {1, 2, 3, 4, 5, 6}, {1, 3, 2, 4, 6, 5}

samples.add = number{function(a, b) return a + b end, A, B}
samples.sub = number{function(a, b) return a - b end, A, B}
samples.mul = number{function(a, b) return a * b end, A, B}
samples.div = float{function(a, b) return a / b end, A, B}
samples.pow = float{function(a, b) return a ^ b end, POSITIVE, B}
samples._pow_slope = float{function(a, b)
  if b == 0 then return 0 end
  return b * a ^ (b - 1)
end, POSITIVE, B}
samples._powi = float{function(a) return a ^ 3 end, A, args = {3}}
samples.mod = number{function(a, b) return a % b end, A, B}
samples.floor_div = number{function(a, b) return a // b end, A, B, flat = true}
samples.atan2 = float{math.atan, A, B}
samples.maximum = number{larger, A, B}
samples.minimum = number{smaller, A, B}
samples.hypot = float{function(a, b)
  if abs(a) == huge or abs(b) == huge then return huge end
  return sqrt(a * a + b * b)
end, A, B}
samples._ratio = float{function(a, b)
  local r = a / (a * a + b * b)
  return (r == r or a ~= a or b ~= b) and r or 0
end, A, B}
samples._mulz = float{function(a, b) return a ~= 0 and a * b or 0 end, A, B}
samples._mulb = float{function(a, b) return (a ~= 0 and b ~= 0) and a * b or 0 end, A, B}
samples._divz = float{function(a, b) return a ~= 0 and a / b or 0 end, A, B}
samples._subz = float{function(a, b) return a == b and 0 or a - b end, A, B}
samples.copysign = float{function(a, b)
  return b == b and negative(b) and -abs(a) or abs(a)
end, A, B}
samples.logaddexp = float{function(a, b)
  if a == b then return a + log(2) end
  return larger(a, b) + log1p(exp(-abs(a - b)))
end, A, B}
samples._share = float{function(a, b)
  if a == b then return 0.5 end
  return 1 / (1 + exp(b - a))
end, A, B}
samples.xlogy = float{function(a, b) return a == 0 and b == b and 0 or a * log(b) end, A, POSITIVE}
samples.leaky_relu = float{function(x) return x > 0 and x or x * 0.25 end, SOME, args = {0.25}}
samples.elu = float{function(x) return x > 0 and x or 1.5 * expm1(x) end, SOME, args = {1.5}}

samples.eq = number{function(a, b) return a == b end, ORDER, OTHER}
samples.ne = number{function(a, b) return a ~= b end, ORDER, OTHER}
samples.lt = number{function(a, b) return a < b end, ORDER, OTHER}
samples.le = number{function(a, b) return a <= b end, ORDER, OTHER}
samples.gt = number{function(a, b) return a > b end, ORDER, OTHER}
samples.ge = number{function(a, b) return a >= b end, ORDER, OTHER}

local P, Q = {0, 0, 1, 2, 0, 1}, {0, 3, 0, 1, 0, 1}
samples.logical_and = any{function(a, b) return a ~= 0 and b ~= 0 end, P, Q}
samples.logical_or = any{function(a, b) return a ~= 0 or b ~= 0 end, P, Q}
samples.logical_xor = any{function(a, b) return (a ~= 0) ~= (b ~= 0) end, P, Q}

samples.where = number{function(c, a, b)
  if c then return a else return b end
end, {true, false, false, true, true, false}, A, B, dtypes = ALL}
samples.lerp = float{function(a, b, w)
  if w < 0.5 then return a + w * (b - a) end
  return b - (b - a) * (1 - w)
end, A, B, {-0.25, 0.1, 0.4, 0.6, 0.9, 1.5}}
samples.clamp = number{function(x) return smaller(larger(x, -1), 2) end, SOME,
  args = {{min = -1, max = 2}}}

-- ---- reductions -------------------------------------------------------------------------------

local function folded(step, first)
  return function(list)
    local r = first
    for _, v in ipairs(list) do r = step(r, v) end
    return r
  end
end

local function add(a, b) return a + b end
local sum = folded(add, 0)
local max, min = folded(larger, -huge), folded(smaller, huge)

-- The first of equals; the first nan before all others.
local function place(beats)
  return function(list)
    local at = 1
    for i, v in ipairs(list) do
      if list[at] == list[at] and (v ~= v or beats(v, list[at])) then at = i end
    end
    return at
  end
end

samples.sum = number{sum, SOME}
samples.mean = float{function(list) return sum(list) / #list end, SOME}
samples.max = number{max, SOME}
samples.min = number{min, SOME}
samples._prod_fused = number{folded(function(a, b) return a * b end, 1), SOME, refuses = true}
samples.argmax = number{place(function(a, b) return a > b end), SOME, gives = "int64"}
samples.argmin = number{place(function(a, b) return a < b end), SOME, gives = "int64"}
samples.all = any{function(list)
  for _, v in ipairs(list) do if v == 0 then return false end end
  return true
end, P}
samples.any = any{function(list)
  for _, v in ipairs(list) do if v ~= 0 then return true end end
  return false
end, P}

-- ---- shape, indexing, products ----------------------------------------------------------------

local X = {{1, 2, 3}, {4, 5, 6}}

samples.to = any{X, X, args = {"float64"}, dtypes = {"float64"}, bad = {"float16"}}
samples.rand = float{nil, args = {2, 3}, random = true, bad = {-1}}
samples._identity = any{X, X, bad = false}
samples.reshape = any{{{1, 2}, {3, 4}, {5, 6}}, X, args = {3, -1}, bad = {4, 2}}
samples.permute = any{{{1, 4}, {2, 5}, {3, 6}}, X, args = {2, 1}, bad = {1, 1}}
samples.transpose = any{{{1, 4}, {2, 5}, {3, 6}}, X, bad = {1, 1}}
samples.broadcast_to = any{{X, X}, X, args = {{2, 2, 3}}, bad = {{2, 2}}}
samples.sum_to = number{{{6}, {15}}, X, args = {{2, 1}}, bad = {{3, 1}}}
samples._slice = any{{{6, 4}}, X, args = {{1, 2}, {2, 3}, {1, -2}}, bad = {{1, 3}, {2, 3}, {1, -2}}}
samples._slice_grad = number{{{0, 0, 0, 0, 0}, {0, 3, 0, 2, 0}, {0, 6, 0, 5, 0}}, {{2, 3}, {5, 6}},
  args = {{3, 5}, {2, 4}, {1, -2}}, bad = {{3, 5}, {2, 2}, {1, -2}}}
samples.cat = any{{{1, 2, 3, 7}, {4, 5, 6, 8}}, X, {{7}, {8}},
  call = function(op, a, b) return op({a, b}, 2) end,
  bad = function(op, a, b) return op({a, b}, 1) end}
samples.index_select = any{{{3, 1, 1}, {6, 4, 4}}, X, args = {2, {3, 1, 1}}, bad = {2, {4}}}
samples.index_add = number{{{1, 10, 3}, {4, 14, 6}}, X, {{7, 1}, {8, 1}},
  call = function(op, x, src) return op(x, 2, {2, 2}, src) end,
  bad = function(op, x, src) return op(x, 2, {2, 4}, src) end}
samples.gather = any{{{4, 2, 6}}, X, args = {1, {{2, 1, 2}}}, bad = {1, {{3, 1, 2}}}}
samples.scatter_add = number{{{1, 2, 10}, {13, 5, 6}}, X, {{7}, {9}},
  call = function(op, x, src) return op(x, 2, {{3}, {1}}, src) end,
  bad = function(op, x, src) return op(x, 2, {{3}, {4}}, src) end}
samples.scatter = any{{{1, 2, 7}, {9, 5, 6}}, X, {{7}, {9}},
  call = function(op, x, src) return op(x, 2, {{3}, {1}}, src) end,
  bad = function(op, x, src) return op(x, 2, {{3}, {4}}, src) end}
samples.nonzero = any{{{1, 1}, {2, 2}, {2, 3}}, {{3, 0, 0}, {0, 1, 2}}, gives = "int64",
  bad = false}
samples.searchsorted = number{{{1, 4}, {2, 3}}, {1, 3, 5}, {{0, 7}, {2, 5}}, gives = "int64",
  bad = function(op, _, v) return op(v, v:reshape(4)) end}
samples.cumsum = number{{{1, 3, 6}, {4, 9, 15}}, X, args = {2}, bad = {3}}
samples.cumprod = number{{{0, 0, 0}, {2, -2, -6}}, {{0, 2, 0}, {2, -1, 3}}, args = {2}, bad = {3}}
samples.cummax = any{{{1, 1, 2}, {0, 3, 3}}, {{1, 0, 2}, {0, 3, 1}}, args = {2}, bad = {3}}
samples.cummin = any{{{1, 0, 0}, {0, 0, 0}}, {{1, 0, 2}, {0, 3, 1}}, args = {2}, bad = {3}}
samples.logcumsumexp = float{
  {{1, log(exp(1) + 1), log(exp(1) + 1 + exp(-2))}, {0, log(2), log(2 + exp(3))}},
  {{1, 0, -2}, {0, 0, 3}}, args = {2}, bad = {3}}
samples._linear_scan = float{{{3, 7, 13}, {2, 7.5, 24}}, {{3, 1, -1}, {2, 6.5, 1.5}},
  {{7, 2, 2}, {9, 0.5, 3}}, args = {2}, bad = {3}}
samples._ranks = any{{{1, 2}, {2, 3}}, {{1, 2, 0}, {0, 1, 1}}, args = {2, 2, 2}, gives = "int64",
  bad = {3, 1, 1}}
samples.argsort = any{{{3, 1, 2}, {1, 2, 3}}, {{1, 2, 0}, {0, 1, 1}}, args = {2}, gives = "int64",
  bad = {3}}
samples.matmul = number{{{4, 5}, {10, 11}}, X, {{1, 0}, {0, 1}, {1, 1}},
  bad = function(op, x) return op(x, x) end}
samples._distance = float{{{5, 4}, {4, 5}}, {{0, 0}, {3, 0}}, {{3, 0}, {4, -4}},
  dtypes = {"float64"}, bad = function(op, x) return op(x, x:reshape(4, 1)) end}
samples._pull = float{{{-1, 4}, {0, 12}}, {{1, 2}, {3, 0}}, {{1, 2}, {0, 4}}, {{0, 0}, {2, 1}},
  dtypes = {"float64"}, bad = function(op, w, x) return op(w, x, x:reshape(4, 1)) end}

-- ---- convolution ------------------------------------------------------------------------------

local LINES, LINE_KERNEL = {{{1, 2, 3, 4}, {0, 1, -1, 2}}}, {{{1, 0, -1}, {0, 2, 1}}}
local IMAGE, KERNEL = {{{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}}}, {{{{1, 2}, {0, -1}}}}
local SLICED = {{{{0.5, 2.5}, {6.5, 8.5}}}}
local ONE = {{1, 1}, {1, 1}, {0, 0}, 1}          -- stride, dilation, padding, groups of two axes

samples.conv1d = float{{{{0, 0, -1, 8}}}, LINES, LINE_KERNEL, {1}, args = {{padding = "same"}},
  bad = {{groups = 2}}}
samples.conv2d = float{SLICED, IMAGE, KERNEL, {0.5}, bad = {{padding = {1, 1, 1}}}}
samples.conv3d = float{{{{{{26}}}}}, {{{{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}}}},
  {{{{{0, 1}, {0, 0}}, {{0, 0}, {0, 3}}}}}, bad = {nil, {dilation = 2}}}
samples.conv_transpose1d = float{{{{1, 2, 2, 4, 3, 6}}}, {{{1, 2, 3}}}, {{{1, 2}}},
  args = {nil, {stride = 2}}, bad = {nil, {stride = 2, output_padding = 2}}}
samples.conv_transpose2d = float{
  {{{{1.5, 4.5, 4.5}, {3.5, 9.5, 6.5}, {0.5, -2.5, -3.5}}}}, {{{{1, 2}, {3, 4}}}}, KERNEL, {0.5},
  bad = {{padding = 2}}}
samples._convolve = float{{{{{0, 2}, {6, 8}}}}, IMAGE, KERNEL,
  args = {{2, 2}, table.unpack(ONE)}, bad = {{2, 2}, {1, 1}, {1, 1}, {0, 0}, 2}}
samples._convolve_data = float{
  {{{{1, 4, 4}, {3, 9, 6}, {0, -3, -4}}}}, {{{{1, 2}, {3, 4}}}}, KERNEL,
  args = {{3, 3}, table.unpack(ONE)}, bad = {{3}, table.unpack(ONE)}}
samples._convolve_weight = float{{{{{4, 6}, {10, 12}}}}, IMAGE, {{{{1, 0}, {2, -1}}}},
  args = {{2, 2}, table.unpack(ONE)}, bad = {{2, 2}, {1, 1}, {1, 1}, {0, 0}, 2}}
samples.im2col = float{{{{0, 2, 0, 5}, {1, 3, 4, 6}, {0, 5, 0, 8}, {4, 6, 7, 9}}}, IMAGE,
  args = {2, {stride = {1, 2}, padding = {0, 1}}}, bad = {{4, 1}}}
samples.col2im = float{{{{{1, 5, 4}, {5, 13, 8}}}}, {{{1, 2}, {3, 4}, {5, 6}, {7, 8}}},
  args = {{2, 3}, 2}, bad = {{2, 2}, 2}}
samples.unfold = any{
  {{{1, 2}, {2, 3}, {3, 4}}, {{5, 6}, {6, 7}, {7, 8}}}, {{1, 2, 3, 4}, {5, 6, 7, 8}},
  args = {2, 2, 1}, bad = {2, 5, 1}}
samples._fold = float{{{1, 5, 9, 6}}, {{{1, 2}, {3, 4}, {5, 6}}}, args = {2, 4, 1},
  bad = {2, 3, 1}}

-- ---- pooling, interpolation, normalization ----------------------------------------------------

local BIG, EACH, NONE = {2, 2}, {1, 1}, {0, 0}
samples._max_pool = float{{{4, 7}}, {{1, 2, 7}, {4, -3, 6}}, args = {{1, 2}, BIG, EACH, NONE, EACH},
  bad = {{1, 3}, BIG, {0, 1}, NONE, EACH}}
samples._max_unpool = float{{{0, 5, 0}, {0, 0, 7}}, {{5, 7}},
  args = {{{1, 3}}, {2, 3}, BIG, EACH, NONE, EACH}, bad = {{{1}}, {2, 3}, BIG, EACH, NONE, EACH}}
samples._max_pick = float{{{2, 6}}, X, args = {{{1, 3}}, {1, 2}, BIG, EACH, NONE, EACH},
  bad = {{{1, 3}}, {1, 1, 2}, BIG, EACH, NONE, EACH}}
samples._avg_pool = float{{{3, 4}}, X, args = {{1, 2}, BIG, EACH, NONE, true, 0},
  bad = {{1, 2}, BIG, EACH, {-1, 0}, true, 0}}
samples._avg_unpool = float{{{1, 3, 2}, {1, 3, 2}}, {{4, 8}},
  args = {{2, 3}, BIG, EACH, NONE, true, 0}, bad = {{2, 3, 1}, BIG, EACH, NONE, true, 0}}
samples._moments = float{{{2}, {5}}, X, args = {1, 1, 1, true, 0}, refuses = true,
  bad = {1, 3, 1, true, 0}}
samples._standardize = float{{{-sqrt(1.5), 0, sqrt(1.5)}, {-sqrt(1.5), 0, sqrt(1.5)}},
  {{-1, 0, 1}, {2, 4, 6}},
  call = function(op, x)                        -- its gradient counts on these being moments of x
    if type(x) == "string" then return op(x) end
    local along = {axis = 2, keepdims = true}
    local mean = x:detach():mean(along)
    local rstd = (x:detach() - mean):square():mean(along):rsqrt()
    return op(x, mean, mean * 0, rstd, nil, nil, 1, 1, 1, true, 0)
  end,
  bad = {{{0}}, {{0}}, {{1}}, nil, nil, 1, 1, 1, true, 0}}

-- ---- linear algebra ---------------------------------------------------------------------------

local PAIR, HIGH = {{2, 1}, {1, 3}}, {{1, 0}, {0, 2}, {0, 0}}

-- What reads one triangle, on x made symmetric
local function of_symmetric(op, x)
  return op(type(x) == "userdata" and (x + x.T) / 2 or x)
end

local function not_square(op, x) return op(x:reshape(1, 4)) end

samples.solve = float{{{0.8, 0.2}, {1.4, 0.6}}, PAIR, {{3, 1}, {5, 2}},
  bad = function(op, x, b) return op(x * 0, b) end}
-- Factors of the transpose, by columns; without an exchange of rows
samples._lu_solve = float{{{0.8, 0.2}, {1.4, 0.6}}, {{3, 1}, {5, 2}}, PAIR,
  call = function(op, b, x)
    if type(b) ~= "userdata" then return op(b, x, x, {1, 2}) end
    local t = x:totable()
    local a, c, d = t[1][1], t[1][2] * t[2][1], t[2][2]
    return op(b, x, (x:detach() * {{1, 1 / a}, {1, (d - c / a) / d}}):to(x.dtype), {1, 2})
  end, bad = function(op, b, x) return op(b, x, x, {1, 3}) end}
samples.inv = float{{{0.6, -0.2}, {-0.2, 0.4}}, PAIR, bad = not_square}
samples.det = float{5, PAIR, bad = not_square}
samples.slogdet = float{log(5), PAIR, call = function(op, x) return (select(2, op(x))) end,
  bad = not_square}
samples._cofactor = float{{{3, -1}, {-1, 2}}, PAIR, bad = not_square}
samples.cholesky = float{{{2, 0}, {1, 2}}, {{4, 2}, {2, 5}}, call = of_symmetric,
  bad = function(op, x) return op(-x) end}
samples.triangular_solve = float{{{1, 2}, {1, 1}}, {{2, 4}, {5, 6}}, {{2, 9}, {1, 4}},
  bad = function(op, b, x) return op(b, x:reshape(4, 1)) end}
samples.qr = float{{{0.6, 0.8}, {0.8, 0.6}}, {{3, 5}, {4, 10}},
  call = function(op, x) return (op(x):abs()) end,
  bad = function(op, x) return op(x:reshape(4)) end}
samples.eigh = float{{1, 3}, {{2, 1}, {1, 2}}, call = of_symmetric, bad = not_square}
samples.svd = float{{sqrt(45), sqrt(5)}, {{3, 0}, {4, 5}},
  call = function(op, x) return (select(2, op(x))) end,
  bad = function(op, x) return op(x:reshape(4)) end}
samples.pinv = float{{{1, 0, 0}, {0, 0.5, 0}}, HIGH, bad = function(op, x) return op(x[1]) end}

-- ---- attention and recurrent cells ------------------------------------------------------------

-- Scores 2 and 0 for the first query, 0 and 1 for the second.
samples._attention = float{{{(3 * exp(2) + 5) / (exp(2) + 1)}, {(3 + 5 * exp(1)) / (1 + exp(1))}},
  {{2, 0}, {0, 1}}, {{1, 0}, {0, 1}}, {{3}, {5}},
  bad = function(op, q, k, v) return op(q, k, v, {{true}}) end}
-- h = tanh(wi x + wh h)
samples._recurrent = float{{{{tanh(0.5)}}, {{tanh(2 * tanh(0.5) - 1)}}}, {{{1}}, {{-2}}}, {{0}},
  {{0.5}}, {{2}}, call = function(op, x, h, wi, wh) return op(x, h, nil, wi, wh) end,
  bad = function(op, x, h, wi) return op(x, h, nil, wi, wi:tile(2, 2)) end}

-- ---- sampling ---------------------------------------------------------------------------------

local LOGS, SHAPES = {{-0.5, -2.25, 1.5}, {0.25, 2.5, -1.25}}, {{0.75, 0.5, 1.25}, {3, 9, 1.75}}
samples._gamma_log = float{nil, SHAPES, random = true, bad = {1}}
samples._poisson = float{nil, SHAPES, random = true, bad = {1}}
-- by mpmath
samples._gamma_slope = float{{{1.8148598185151504919, 5.0085263285626922681, 0.4496697813072552308},
  {0.52162380491031011499, 0.096915392436622714884, 1.340166061463406427}}, LOGS, SHAPES,
  dtypes = {"float64"}, bad = function(op, x, k) return op(x, k[1]) end}

return samples
