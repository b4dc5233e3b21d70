-- # Precision and bits
--
-- How exact results are, which bits are the same, and what happens at the edges.

local mg = require "moongrad"

-- ## Exactness
--
-- A value of an elementwise op is within 2 units in the last place of the exact one and a first
-- derivative within 4, in the tails and for subnormal numbers too. Nothing overflows or cancels
-- inside that the result does not. `spec/cpu/ulp_spec.lua` compares thirty points of each op and
-- dtype with values of many digits, and a million of float32 with float64, and prints the worst.

print(mg.hypot(3e200, 4e200), mg.logaddexp(1000, 1000), mg.expm1(1e-12))
print(mg.erfc(20), mg.logsigmoid(-1000), mg.softmax{1000, 1001})
print(mg.std{1e9, 1e9 + 1, 1e9 + 2}, mg.norm{3e-200, 4e-200})

-- What is composed of them keeps its digits as well: losses of large logits, densities of large
-- parameters, divergences of what is nearly alike.

local D = mg.distributions
print(mg.log_softmax{1e8, 1e8}, mg.norm({1e200, 1e200}, {p = 3}))
print(mg.binary_cross_entropy_with_logits(mg.tensor{40}, mg.tensor{1}))
print(D.Poisson(1e15):log_prob(1e15), D.kl(D.Normal(0, 1), D.Normal(0, 1 + 1e-9)))

-- Further off are
--
-- - the slope of `tanh`, by 2 units of 1, and of `sigmoid` and `softmax`, by one: 1 - tanh^2 is
--   made of the rounded result, which costs nothing
-- - slopes of `gelu`, `silu` and `mish` near their root, and `logaddexp` near 0: 1 unit of 1,
--   since the root is no number of the dtype; that of `hardswish`, which is a sum, too
-- - `mish`, by 4, and `silu`, by 3: roundings of equal weight, as in their slopes, by 6
-- - `lgamma` near its roots, which stand between negative whole numbers, by 1 unit of 1
-- - the slope of `erfinv`, by 2 y^2 of the result y: exp(y^2) magnifies its rounding
-- - slopes of `/`, `pow`, `hypot` and `atan2` where x / y or the result is subnormal: as many
--   digits as these have; and slopes of `exp2` and the like where the result overflows
-- - `x ^ n` for whole n up to 64, by n: products; below 0 it is 0 where x ^ -n overflows
-- - `logsumexp`, `log_softmax` and `cross_entropy` of what is nearly certain, and their slopes
--   there, by 1 unit of 1: the logarithm is that of a rounded sum
-- - `var` of float32, by the square of the mean's rounding: beyond 10^4 deviations from 0 `std` or
--   float64 has more digits
-- - `mean`, `sum` and `prod` where sums and products on the way leave the range of the dtype
-- - attention, by the rounding of a score: as much as products of large q and k are off
--
-- Second derivatives keep their digits as a rule. Those of `tanh` and `sigmoid` lose them as the
-- slopes do, those of `hypot` and of a norm by an element beside which the others are small, and
-- those of attention over keys that have a large part in common, are differences. In float64
-- those of `layer_norm`, `rms_norm` and `batch_norm` reach to elements of 1e154. That of `slogdet`
-- of a singular matrix is nan, behind a mask too. What would mend these would be paid by all.
--
-- ## Which bits are the same
--
-- The same program gives the same bits on every run and for any number of threads: work is cut
-- by shapes alone, random numbers are counted, not drawn from a state that threads share.

local x = mg.rand(500, 500)
local threads = mg.num_threads()
mg.set_num_threads(1)
local one = x:matmul(x):tanh():sum():item()
mg.set_num_threads(4)
print(one == x:matmul(x):tanh():sum():item())
mg.set_num_threads(threads)

mg.seed(7)
local first = mg.randn(3)
mg.seed(7)
print(first, mg.equal(first, mg.randn(3)))

-- Fused or alone, in machine code or by a kernel, each op is rounded as by itself. Where it is
-- recorded, `prod` multiplies in another order. Matrix products and convolutions have the bits of
-- the machine: another processor may round them otherwise.
--
-- ## float32 and float64
--
-- float64 is the default; `mg.Config.dtype` changes it, for layers too. float32 takes half the
-- memory and half the time. Sums of float32 are added pairwise, so long ones keep their digits:

local many = mg.full({1000000}, 0.1, "float32")
print(many:sum(), many:mean())
print(mg.using_config("dtype", "float32", function() return mg.nn.Linear(2, 2).weight.dtype end))

-- ## Edges
--
-- Infinities come out as limits, nan is passed on, and wins in max, maximum, relu and clamp. A
-- zero gradient stays zero through any slope:

print(mg.log{0, -1}, mg.maximum(0 / 0, 1), mg.tanh(math.huge), mg.xlogy(0, 0))
print(mg.grad(function(v) return mg.where(v:gt(0), v:log(), 0):sum() end)(mg.tensor{0, 2}))

-- Whole numbers are exact: int64 wraps as Lua's integers do, `/` gives floats, `//` and `%`
-- floor. What is made one is cut toward 0, and stays at the ends of int64, with 0 for nan; uint8
-- is that modulo 256.

print(mg.tensor({7, -7}, "int64") // 2, mg.tensor({7, -7}, "int64") % 2)
print(mg.tensor({1.9, -1.9}):to "int64", mg.tensor({300, -1}, "uint8"))

-- ## Where a nan came from
--
-- `mg.detect_anomaly(fn, ...)` calls fn and tells which op made the first nan or infinity that a
-- result or a gradient has, and at which line. It looks at each result as soon as it is made, which
-- is slow; what a mask hides alarms nobody.

print(pcall(mg.detect_anomaly, function(v)
  local root = (v - 1):sqrt()
  return (root * 2 + 1):sum()
end, mg.tensor{0.5, 4}))
print(pcall(mg.detect_anomaly, function(v) v:sqrt():sum():backward() end, mg.Variable{0, 4}))
print(mg.detect_anomaly(function(v) return mg.where(v:gt(0), v:log(), 0) end, mg.tensor{-1, 1}))

-- Over a whole program `mg.Config.debug = true` does the same to every backward. It also records
-- the line that made each Function, and errors in backward say it.

mg.using_config("debug", true, function()
  local Bad = mg.Function{name = "bad", forward = function(_, v) return v end,
    backward = function() error "no gradient here" end}
  local y = Bad(mg.Variable({1, 2}, "w")):sum()
  print(select(2, pcall(function() y:backward() end)))
end)
