-- Random variates of distributions: their laws, by tests of goodness of fit with one seed, so that
-- they hold always or never; their derivatives; what they refuse.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises
local exp, log, abs, sqrt = math.exp, math.log, math.abs, math.sqrt

-- ---- distribution functions, in plain Lua -----------------------------------------------------

-- Lanczos' approximation
local LANCZOS = {676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7}
local function lgamma(x)
  local sum, t = 0.99999999999980993, x + 6.5
  for i, c in ipairs(LANCZOS) do sum = sum + c / (x + i - 1) end
  return log(2 * math.pi) / 2 + (x - 0.5) * log(t) - t + log(sum)
end

-- The incomplete gamma function, below x and above: a series, a continued fraction.
local function below(k, x)
  if x <= 0 then return 0, 1 end
  local scale = exp(k * log(x) - x - lgamma(k))
  if x < k + 1 then
    local sum, term, n = 1 / k, 1 / k, k
    repeat
      n = n + 1
      term = term * x / n
      sum = sum + term
    until term < sum * 1e-15
    return scale * sum, 1 - scale * sum
  end
  local b = x + 1 - k
  local c, d, i = 1e300, 1 / b, 0
  local h = d
  repeat
    i = i + 1
    b = b + 2
    d = 1 / (i * (k - i) * d + b)
    c = b + i * (k - i) / c
    h = h * c * d
  until abs(c * d - 1) < 1e-15
  return 1 - scale * h, scale * h
end

-- The incomplete beta function: a continued fraction.
local function beta_below(a, b, x)
  if x <= 0 or x >= 1 then return x <= 0 and 0 or 1 end
  if x > (a + 1) / (a + b + 2) then return 1 - beta_below(b, a, 1 - x) end
  local c, d = 1, 1 / (1 - (a + b) * x / (a + 1))
  local h = d
  for m = 1, 500 do
    local function by(u)
      d = 1 / (1 + u * d)
      c = 1 + u / c
      h = h * c * d
    end
    by(m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)))
    by(-(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)))
    if abs(c * d - 1) < 1e-15 then break end
  end
  return exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) * h / a
end

local function normal_below(z)
  local p, q = below(0.5, z * z / 2)
  return z < 0 and q / 2 or (1 + p) / 2
end

local laws = {
  {"normal", {3, 2}, function(x) return normal_below((x - 3) / 2) end},
  {"normal", {-1e6, 1e-3}, function(x) return normal_below((x + 1e6) * 1e3) end},
  {"uniform", {-2, 5}, function(x) return (x + 2) / 7 end},
  {"exponential", {0.25}, function(x) return 1 - exp(-x / 4) end},
  {"exponential", {1e9}, function(x) return 1 - exp(-x * 1e9) end},
  {"gamma", {2.5, 3}, function(x) return (below(2.5, 3 * x)) end},
  {"gamma", {1, 1}, function(x) return 1 - exp(-x) end},
  {"gamma", {0.3, 0.5}, function(x) return (below(0.3, x / 2)) end},
  {"gamma", {1e-3, 1}, function(x) return (below(1e-3, x)) end},
  {"gamma", {50, 1}, function(x) return (below(50, x)) end},
  {"gamma", {1e5, 1e5}, function(x) return (below(1e5, x * 1e5)) end},
  {"beta", {2, 3.5}, function(x) return beta_below(2, 3.5, x) end},
  {"beta", {0.5, 0.5}, function(x) return 2 / math.pi * math.asin(sqrt(x)) end},
  {"beta", {0.05, 0.2}, function(x) return beta_below(0.05, 0.2, x) end},
  {"beta", {300, 40}, function(x) return beta_below(300, 40, x) end},
  {"poisson", {1e-3}, function(x) return select(2, below(x + 1, 1e-3)) end},
  {"poisson", {2.5}, function(x) return select(2, below(x + 1, 2.5)) end},
  {"poisson", {11.5}, function(x) return select(2, below(x + 1, 11.5)) end},
  {"poisson", {12.5}, function(x) return select(2, below(x + 1, 12.5)) end},
  {"poisson", {400}, function(x) return select(2, below(x + 1, 400)) end},
  {"poisson", {1e6}, function(x) return select(2, below(x + 1, 1e6)) end},
}

-- The largest distance of the samples' distribution function from what it should be, at some of
-- them, times the root of how many there are (Kolmogorov, Smirnov). Nothing is asked of what is 0
-- for having no number of its own.
local function distance(x, law, discrete)
  local list, n, most = x:reshape(x.size):sort():totable(), x.size, 0
  for i = 1, n, n // 199 do
    local v, first, last = list[i], i, i
    while list[first - 1] == v do first = first - 1 end
    while list[last + 1] == v do last = last + 1 end
    if v ~= 0 or discrete then
      local p = law(v)
      most = math.max(most, abs(last / n - p), discrete and 0 or abs((first - 1) / n - p))
    end
  end
  return most * sqrt(n)
end

local function mean_and_error(x)
  return x:mean():item(), (x:var():item() / x.size) ^ 0.5
end

-- The mean of x, but for five deviations.
local function has_mean(x, want)
  local mean, off = mean_and_error(x)
  assert.is_true(abs(mean - want) < 5 * off, ("%g, expected %g +- %g"):format(mean, want, off))
end

describe("samples", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(5) end)

  for _, law in ipairs(laws) do
    local name, parameters, f = table.unpack(law)
    it(("of %s(%s) are distributed so"):format(name, table.concat(parameters, ", ")), function()
      local arguments = table.move(parameters, 1, #parameters, 1, {})
      arguments[#arguments + 1] = {200, 100}
      local x = mg[name](table.unpack(arguments))
      assert.same({200, 100}, x.shape)
      local d = distance(x, f, name == "poisson")
      assert.is_true(d < 1.95, d)                   -- one in a thousand is further off
      assert.is_true(name == "poisson" or d > 0.3, d)
    end)
  end

  it("of categorical are as likely as they should be", function()
    local p = {0.1, 0, 0.4, 0.3, 0.2, 0}
    for _, x in ipairs{mg.categorical({probs = p}, 20000),
                       mg.categorical(mg.tensor(p):log() + 700, 20000),
                       mg.categorical{probs = mg.tensor(p):broadcast_to{20000, 6} * 3},
                       mg.categorical({probs = mg.tensor(p):to "float32"}, 20000)} do
      assert.equal("int64", x.dtype)
      assert.same({20000}, x.shape)
      local counts, chi = mg.bincount(x, {minlength = 6}):totable(), 0
      for i, share in ipairs(p) do
        if share == 0 then assert.equal(0, counts[i])
        else chi = chi + (counts[i] - 20000 * share) ^ 2 / (20000 * share) end
      end
      assert.is_true(chi > 0.02 and chi < 16.3, chi)  -- three degrees of freedom: one in a thousand
    end
    local rows = mg.categorical(mg.tensor{{0, -math.huge}, {-math.huge, 3}}, 4)
    assert(exact(rows, {{1, 1, 1, 1}, {2, 2, 2, 2}}))
    assert.same({2, 3}, mg.categorical(mg.zeros(2, 3, 4)).shape)
    assert.same({3, 0}, mg.categorical(mg.zeros(3, 4), 0).shape)
    assert.same({0, 2}, mg.categorical(mg.zeros(0, 4), 2).shape)
    assert.equal(1, mg.categorical{5}:item())
  end)

  it("of shuffle are the same elements in any order", function()
    local x = mg.Variable(mg.range(1, 24):reshape(2, 3, 4))
    local y = mg.shuffle(x, 3)
    assert(same(y:sort(3), x.data))
    assert.is_false(mg.equal(x, y))
    assert(exact(y[{1, 1}] - y[{2, 3}], {-20, -20, -20, -20}))
    y:square():sum():backward()
    assert(same(x.grad, 2 * x.data))
    local seen = {}
    for _ = 1, 600 do
      local key = table.concat(mg.shuffle(mg.range(1, 3)):to "int64":totable())
      seen[key] = (seen[key] or 0) + 1
    end
    for _, key in ipairs{"123", "132", "213", "231", "312", "321"} do
      assert.is_true(seen[key] > 60 and seen[key] < 140)
    end
    assert.equal(3, mg.shuffle(3):item())
    assert.same({0, 2}, mg.shuffle(mg.ones(0, 2)).shape)
    assert(raises("shuffle: axis 2 is out of range", mg.shuffle, {1, 2}, 2))
  end)

  it("have the shape of the parameters together, or the one asked for", function()
    local a, b = mg.ones(3, 1), mg.ones{2, dtype = "float32"}
    for _, name in ipairs{"normal", "uniform", "gamma", "beta"} do
      local f = mg[name]
      assert.same({3, 2}, f(a, b + 1).shape)
      assert.equal("float64", f(a, b + 1).dtype)
      assert.equal("float32", f(1, b + 1).dtype)
      assert.equal("float32", f(1, 2, {dtype = "float32"}).dtype)
      assert.same({}, f(1, 2).shape)
      assert.same({4, 3, 2}, f(a, b + 1, {4, 3, 2}).shape)
      assert.same({0, 3}, f(1, 2, {0, 3}).shape)
      assert.same({0}, f(1, mg.ones(0)).shape)
      assert.same({5}, f(1, 2, 5).shape)
      assert(raises(" (3, 1) does not broadcast to (2)", f, a, 1, {2}))
      assert(raises(" (2) does not broadcast to (4, 3)", f, b, 1, {4, 3}))
      assert(raises(" (2) does not broadcast to (3)", f, mg.ones(3), b))
      assert(raises("unknown option size", f, 1, 2, {size = 3}))
    end
    assert.same({3, 1}, mg.exponential(a).shape)
    assert.same({3, 1}, mg.poisson(a).shape)
    assert.equal("int64", mg.poisson(a).dtype)
    assert(exact(mg.poisson(0, {3}), {0, 0, 0}))
    assert.same({2}, mg.using_config("dtype", "float32", mg.gamma, 1, 1, {2}).shape)
    assert.equal("float32", mg.using_config("dtype", "float32", mg.gamma, 1, 1, {2}).dtype)
  end)

  it("are the same for any number of threads, and after the state was set", function()
    local threads = mg.num_threads()
    finally(function() mg.set_num_threads(threads) end)
    local function draw()
      return {mg.gamma(0.7, 2, {5000}), mg.beta(0.5, 2, {5000}), mg.poisson(3, {5000}),
              mg.poisson(40, {5000}), mg.normal(1, 2, {5000}), mg.exponential(3, {5000}),
              mg.uniform(1, 2, {5000}), mg.categorical(mg.zeros(5), 5000),
              mg.shuffle(mg.range(1, 5000))}
    end
    local state = mg.get_rng_state()
    local want = draw()
    for _, n in ipairs{1, 2, 4} do
      mg.set_num_threads(n)
      mg.set_rng_state(state)
      for i, x in ipairs(draw()) do assert(same(x, want[i])) end
    end
    mg.set_rng_state(state)
    for _, x in ipairs(want) do x:sum() end
    assert.is_false(mg.equal(mg.gamma(1, 1, {9}), mg.gamma(1, 1, {9})))
    mg.seed(6)
    assert.is_false(mg.equal(mg.poisson(100, {50}), want[4][{{1, 50}}]))
  end)

  it("that are smooth in their parameters have derivatives", function()
    local function seeded(f)
      return function(...)
        mg.seed(1)
        return f(...)
      end
    end
    local a, b = mg.tensor{{0.5, 2, 3}}, mg.tensor{{1.5}, {4}}
    assert(helper.differentiable(seeded(mg.normal), {a, b}))
    assert(helper.differentiable(seeded(mg.uniform), {a - 3, b}))
    assert(helper.differentiable(seeded(mg.exponential), {a}))
    assert(helper.differentiable(seeded(function(rate) return mg.gamma(2, rate) end), {b}))
    assert.is_false(mg.poisson(mg.Variable{1, 2}).requires_grad)
  end)

  it("of beta and its kin are numbers for the smallest shapes", function()
    for _, k in ipairs{2e-308, 1e-310, 4.9e-324} do
      local x = mg.beta(k, k, {100})
      assert.is_true((x:eq(0):logical_or(x:eq(1))):all():item())
      local share = x:mean():item()
      assert.is_true(share > 0.2 and share < 0.8)
      local parts = mg.distributions.Dirichlet(mg.full({3}, k)):sample()
      assert.equal(1, parts:sum():item())
    end
  end)

  it("of gamma and beta move with their shape as quantiles do", function()
    local n = 20000
    for _, k in ipairs{0.2, 1, 3.5, 60} do
      local shape = mg.Variable(mg.full({n}, k))
      local x = mg.gamma(shape, 2)
      x:sum():backward{create_graph = true}
      local slope = shape.grad
      shape:cleargrad()
      assert(near(slope, x * mg._gamma_slope((2 * x):log(), shape), 1e-6, 1e-9))
      has_mean(slope.data, 1 / 2)                     -- the mean is k / 2,
      has_mean((2 * x * slope).data, (2 * k + 1) / 4)   -- that of squares k (k + 1) / 4
      slope:sum():backward()
      has_mean(shape.grad.data, 0)
      has_mean(2 * (slope:square() + x * shape.grad):detach(), 2 / 4)
      shape = mg.Variable(mg.full({n}, k))
      local y = mg.beta(shape, 1.5)
      y:sum():backward()
      has_mean(shape.grad, 1.5 / (k + 1.5) ^ 2)       -- the mean is k / (k + 1.5)
    end
    -- values by mpmath, at shapes where a series takes over
    assert(exact(mg._gamma_slope({9.25, 7.5}, {10000, 1800}),
      {9.8031759405769095046e-5, 5.5436945531439072038e-4}, 8))
    assert(near(mg._gamma_slope({9.25, 7.5}, {10000, 1800}, 1),
      {-4.86935257416582197e-9, -1.53905608044734201e-7}, 1e-12))
    local tiny = mg.Variable(mg.full({1000}, 1e-3))
    local x = mg.gamma(tiny, 1)
    x:sum():backward()
    assert.is_true(tiny.grad:isfinite():all():item())
    -- and where the variate itself is 0
    for order, want in pairs{[0] = {23998847.213003505, 99999942280.078424},
                             {-47997691138.541367, -9999994227843350.6},
                             {191990764549363.73, 1.9999988455686697e+21}} do
      assert(exact(mg._gamma_slope({-12000, -1e6}, {5e-4, 1e-5}, order), want, 2))
    end
    tiny = mg.Variable(mg.full({2000, 2}, 1e-4))
    x = mg.beta(tiny, tiny)
    x:sum():backward()
    assert.is_true(tiny.grad:isfinite():all():item())
  end)

  it("refuse parameters that are none", function()
    local nan, huge = 0 / 0, math.huge
    for text, call in pairs{
      ["normal: std = -1 is negative"] = function() mg.normal(0, -1) end,
      ["normal: std must be 0 or more, and finite"] = function() mg.normal(0, {1, -1}) end,
      ["uniform: low must be no more than high"] = function() mg.uniform(2, {3, 1}) end,
      ["exponential: rate must be positive, got 0"] = function() mg.exponential(0) end,
      ["exponential: rate must be positive and finite"] =
        function() mg.exponential(mg.tensor{1, nan}) end,
      ["gamma: k must be positive, got nan"] = function() mg.gamma(nan, 1) end,
      ["gamma: k must be finite, got inf"] = function() mg.gamma(huge, 1) end,
      ["gamma: k must be positive and finite"] = function() mg.gamma(mg.tensor(huge), 1) end,
      ["gamma: rate must be positive and finite"] = function() mg.gamma(1, {1, 0}) end,
      ["beta: a must be positive and finite"] = function() mg.beta({1, -1}, 1) end,
      ["beta: b must be positive, got 0"] = function() mg.beta(1, 0) end,
      ["poisson: rate = -1 is negative"] = function() mg.poisson(-1) end,
      ["poisson: rate must be within 0..1e15"] = function() mg.poisson(mg.tensor{1, huge}) end,
      ["categorical: a row holds no probabilities"] =
        function() mg.categorical{probs = {0.5, -0.1}} end,
      ["categorical: a row holds no probabilities, or none above 0"] =
        function() mg.categorical{probs = {{1, 0}, {0, 0}}} end,
      ["or none above 0"] = function() mg.categorical(mg.tensor{0, nan}) end,
      ["categorical: unknown option prob"] = function() mg.categorical{prob = {1}} end,
      ["categorical: no classes in shape (2, 0)"] = function() mg.categorical(mg.ones(2, 0)) end,
      ["categorical: no classes in shape ()"] = function() mg.categorical(mg.tensor(1)) end,
      ["categorical: n = -1 is negative"] = function() mg.categorical({1, 2}, -1) end,
    } do
      assert(raises(text, call))
    end
  end)
end)
