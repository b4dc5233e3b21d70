-- What is shown of elementwise ops, reductions, sampling and statistics: sessions by name.

return {
  neg = [[
mg.neg{1, -2}
-mg.tensor{1, -2}]],
  abs = [[
mg.abs{-2, 0, 3}
mg.grad(function(x) return x:abs():sum() end)(mg.tensor{-2, 0, 3})]],
  sign = "mg.sign{-2, 0, 3}",
  square = "mg.square{1, -2, 3}",
  sqrt = "mg.sqrt{4, 9, 2}",
  rsqrt = "mg.rsqrt{4, 16}",
  exp = [[
mg.exp{0, 1}
mg.grad(mg.exp)(1)]],
  expm1 = [[
mg.expm1(1e-10)
mg.exp(1e-10) - 1]],
  exp2 = "mg.exp2{0, 3, -1}",
  log = "mg.log{1, math.exp(1), 0, -1}",
  log1p = "mg.log1p(1e-10)",
  log2 = "mg.log2{8, 0.5}",
  log10 = "mg.log10{1000, 0.01}",
  sin = [[
mg.sin{0, math.pi / 2}
mg.grad(mg.sin)(0)]],
  cos = "mg.cos{0, math.pi}",
  tan = "mg.tan(math.pi / 4)",
  asin = "mg.asin{0, 1}",
  acos = "mg.acos{1, 0}",
  atan = "mg.atan{0, 1}",
  sinh = "mg.sinh{0, 1}",
  cosh = "mg.cosh{0, 1}",
  tanh = "mg.tanh{-1, 0, 100}",
  asinh = "mg.asinh{0, 1}",
  acosh = "mg.acosh{1, 2}",
  atanh = "mg.atanh{0, 0.5}",
  erf = "mg.erf{0, 0.5, 1}",
  erfc = "mg.erfc{0, 10}",
  erfinv = [[
mg.erfinv{0, 0.5}
mg.erf(mg.erfinv(0.5))]],
  lgamma = [[
mg.lgamma{1, 5}
mg.lgamma(5):exp()]],
  digamma = "mg.digamma{1, 2}",
  sigmoid = "mg.sigmoid{-1, 0, 1}",
  relu = "mg.relu{-1, 0, 2}",
  relu6 = "mg.relu6{-1, 3, 9}",
  gelu = [[
mg.gelu{-1, 0, 1}
mg.gelu({-1, 0, 1}, {approximate = "tanh"})]],
  silu = "mg.silu{-1, 0, 1}",
  softplus = [[
mg.softplus{-1, 0, 100}
mg.softplus({-1, 0, 1}, {beta = 2})]],
  mish = "mg.mish{-1, 0, 1}",
  floor = "mg.floor{1.5, -1.5}",
  ceil = "mg.ceil{1.5, -1.5}",
  round = "mg.round{0.5, 1.5, 2.5, -0.7}",
  trunc = "mg.trunc{1.5, -1.5}",
  frac = "mg.frac{1.25, -1.25}",
  reciprocal = "mg.reciprocal{2, 4}",
  nan_to_num = [[
mg.nan_to_num{0 / 0, 1, math.huge}
mg.nan_to_num({0 / 0, 1, math.huge}, {nan = -1, posinf = 9})]],
  isnan = "mg.isnan{0 / 0, 1}",
  isinf = "mg.isinf{math.huge, 1}",
  isfinite = "mg.isfinite{math.huge, 0 / 0, 1}",
  logical_not = "mg.logical_not{true, false}",
  add = [[
mg.tensor{1, 2} + mg.tensor{10, 20}
mg.tensor{{1}, {2}} + mg.tensor{10, 20}
!mg.add({1, 2}, {1, 2, 3})]],
  sub = "mg.tensor{1, 2} - 5",
  mul = [[
mg.tensor{1, 2} * mg.tensor{3, 4}
2 * mg.tensor{1, 2}]],
  div = [[
mg.tensor{1, 2} / 4
mg.tensor({1, 2}, "int64") / 4]],
  pow = [[
mg.tensor{1, 2, 3} ^ 2
2 ^ mg.tensor{1, 2, 3}]],
  mod = "mg.tensor{5, -5} % 3",
  floor_div = "mg.tensor{7, -7} // 2",
  atan2 = "mg.atan2({1, -1}, {0, -1})",
  maximum = [[
mg.maximum({1, 5}, {3, 2})
mg.maximum({-1, 5}, 0)]],
  minimum = "mg.minimum({1, 5}, {3, 2})",
  hypot = "mg.hypot(3e200, 4e200)",
  copysign = "mg.copysign({1, 2}, {-1, 1})",
  logaddexp = "mg.logaddexp(1000, 1000)",
  xlogy = "mg.xlogy({0, 2}, {0, 3})",
  leaky_relu = [[
mg.leaky_relu{-1, 2}
mg.leaky_relu({-1, 2}, 0.2)]],
  elu = "mg.elu{-1, 2}",
  eq = [[
mg.eq({1, 2, 3}, {1, 0, 3})
mg.tensor{1} == mg.tensor{1}     -- one Variable, or two?]],
  ne = "mg.ne({1, 2, 3}, {1, 0, 3})",
  lt = "mg.lt({1, 2, 3}, 2)",
  le = "mg.le({1, 2, 3}, 2)",
  gt = "mg.gt({1, 2, 3}, 2)",
  ge = "mg.ge({1, 2, 3}, 2)",
  logical_and = "mg.logical_and({true, true}, {true, false})",
  logical_or = "mg.logical_or({false, true}, {false, false})",
  logical_xor = "mg.logical_xor({true, true}, {true, false})",
  where = [[
x = mg.tensor{-4, 9}
mg.where(x:gt(0), x:sqrt(), 0)]],
  clamp = "mg.clamp({-2, 0.5, 7}, {min = 0, max = 1})",
  lerp = "mg.lerp({0, 10}, {10, 20}, 0.25)",
  logsigmoid = "mg.logsigmoid{-100, 0}",
  selu = "mg.selu{-1, 1}",
  hardswish = "mg.hardswish{-4, 0, 1, 4}",
  glu = "mg.glu{1, 2, 0, 100}",
  celu = "mg.celu({-1, 2}, 0.5)",
  hardsigmoid = "mg.hardsigmoid{-4, 0, 1, 4}",
  hardtanh = "mg.hardtanh{-3, 0.5, 3}",
  hardshrink = "mg.hardshrink{-1, 0.3, 2}",
  softshrink = "mg.softshrink{-1, 0.3, 2}",
  prelu = "mg.prelu({{-1, -1, 2}}, {0.1, 0.2, 0.3})",
  nansum = "mg.nansum{1, 0 / 0, 3}",
  nanmean = "mg.nanmean{1, 0 / 0, 3}",
  diff = "mg.diff{1, 4, 9, 16}\nmg.diff({1, 4, 9, 16}, {n = 2})",
  trapezoid = [[
x = mg.linspace(0, math.pi, 101)
mg.trapezoid(x:sin(), x)]],
  isclose = "mg.isclose({1, 2}, {1 + 1e-9, 2.1})",
  isin = "mg.isin({1, 2, 3}, {3, 1})",

  sum = [[
x = mg.tensor{{1, 2, 3}, {4, 5, 6}}
x:sum()
x:sum(1)
x:sum{axis = -1, keepdims = true}
!x:sum(3)]],
  mean = [[
x = mg.tensor{{1, 2, 3}, {4, 5, 6}}
x:mean()
x:mean(2)]],
  max = [[
x = mg.tensor{{1, 9, 3}, {4, 5, 6}}
x:max()
x:max(2)]],
  min = [[
x = mg.tensor{{1, 9, 3}, {4, 5, 6}}
x:min()
x:min(1)]],
  amax = "mg.tensor{{1, 9, 3}, {4, 5, 6}}:amax(2)",
  amin = "mg.tensor{{1, 9, 3}, {4, 5, 6}}:amin(2)",
  argmax = "mg.tensor{{1, 9, 3}, {4, 5, 6}}:argmax(2)",
  argmin = "mg.tensor{{1, 9, 3}, {4, 5, 6}}:argmin(2)",
  all = "mg.tensor{1, 2, 0}:gt(0):all()",
  any = "mg.tensor{1, 2, 0}:gt(1):any()",
  prod = [[
mg.prod{2, 3, 4}
mg.grad(mg.prod)(mg.tensor{2, 0, 4})]],
  var = [[
mg.var{1, 2, 3, 4}
mg.var({1, 2, 3, 4}, {correction = 0})]],
  std = "mg.tensor{{1, 2}, {10, 20}}:std(2)",
  logsumexp = "mg.logsumexp{1000, 1000}",
  norm = [[
mg.norm{3, 4}
mg.norm({{3, 4}, {5, 12}}, 2)
mg.norm({3, -4}, {p = 1})]],
  count_nonzero = "mg.count_nonzero{0, 1, 2}",
  equal = [[
mg.equal({1, 2}, {1, 2})
mg.equal({1, 2}, {1, 2, 3})]],
  allclose = "mg.allclose(mg.tensor{0.1} + 0.2, {0.3})",

  normal = [[
mg.normal(10, 0.1, {3})
mg.normal(mg.tensor{0, 100}, 1)]],
  uniform = "mg.uniform(-1, 1, {3})",
  exponential = "mg.exponential(2, {3})",
  gamma = "mg.gamma(3, 2, {3})",
  beta = "mg.beta(2, 5, {3})",
  poisson = "mg.poisson(4, {6})",
  categorical = "mg.categorical({probs = {0.1, 0.2, 0.7}}, 10)",
  shuffle = "mg.shuffle(mg.range(1, 6))",

  median = [[
mg.median{1, 9, 3, 4}
mg.median({{1, 9, 3}, {4, 5, 6}}, 2)]],
  quantile = [[
mg.quantile({1, 2, 3, 4, 5}, 0.25)
mg.quantile({1, 2, 3, 4, 5}, {0, 0.5, 1})]],
  unique = [[
mg.unique{3, 1, 3, 2}
mg.unique({3, 1, 3, 2}, {return_counts = true})]],
  bincount = "mg.bincount{1, 2, 2, 4}",
  histogram = "mg.histogram({0, 0.2, 0.9, 1}, 2)",
}
