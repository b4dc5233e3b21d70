-- Far from 0 and at any size, results and first and second derivatives, recorded or not, are those
-- of numbers about 1: where an offset makes no difference it makes none to them, and what is
-- homogeneous scales as it should. So none loses digits, nor leaves the range, on its way.

local mg = require "moongrad"
local helper = require "spec.helper"
local near = helper.near
local D = mg.distributions

-- Of as many bits as an offset leaves room for: it is added without rounding, means are rounded.
local function grid(x, step) return ((x / step):round() * step):reshape(3, 4) end
local function x_of(step) return grid(mg.sin(mg.range(1, 12) ^ 2), step) end
local V = grid(mg.cos(mg.range(3, 14) ^ 2), 2.0 ^ -10)

-- f's results at x, gradients of their weighed sum, plain and recorded, and its second derivative
-- along v, each as a flat float64 array.
local function derived(f, x, v)
  x = mg.Variable(x)
  local function sum(y)
    return (y:reshape(y.size) * mg.sin(mg.range(1, y.size)):to(y.dtype)):sum()
  end
  local y = f(x)
  local plain = mg.gradients(sum(y), x)
  local recorded = mg.gradients(sum(f(x)), x, {create_graph = true})
  local bend = mg.gradients((recorded * v):sum(), x)
  local all = {y, plain, recorded, bend}
  for i, a in ipairs(all) do all[i] = a:detach():reshape(a.size):to "float64" end
  return all
end

local NAMES = {"result", "gradient", "recorded gradient", "second derivative"}

-- factor: what each of these is to be multiplied with
local function same(name, got, want, tol, factor)
  for i, what in ipairs(NAMES) do
    local k = factor and factor[i] or 1
    local most = want[i]:abs():max():item()
    assert(near(got[i] / k, want[i], tol, tol * most), name .. ": " .. what)
  end
end

local function rows(x) return x[1], x[2] end

-- Of a result that is as large as the offset, and rounded so
local function slopes(y) return y - y:detach() end

local MASK = mg.tensor{{0.5, -1, 2, 0.25}, {1, 1.5, -0.5, 2}, {-1, 0, 1, 0.5}}

-- What sees no offset of x
local SHIFTED = {
  batch_norm = function(x) return mg.batch_norm(x) end,
  cdist = function(x) return mg.cdist(x[{{1, 2}}], x[{{2, 3}}]) end,
  cdist_3 = function(x) return mg.cdist(x[{{1, 2}}], x[{{3, 3}}], {p = 3}) end,
  corrcoef = mg.corrcoef,
  cov = mg.cov,
  cross_entropy = function(x) return mg.cross_entropy(x, {1, 3, 4}, {label_smoothing = 0.1}) end,
  diff = function(x) return x:diff():square() end,
  gaussian_nll_loss = function(x)
    local a, b = rows(x)
    return mg.gaussian_nll_loss(a, b, (a - b):square() + 1)
  end,
  group_norm = function(x) return mg.group_norm(x, 1) end,
  instance_norm = function(x) return mg.instance_norm(x:unsqueeze(1)) end,
  huber_loss = function(x) return mg.huber_loss(rows(x)) end,
  kl_div = function(x) return mg.kl_div(x:log_softmax(), MASK:softmax():to(x.dtype)) end,
  kl_of_categorical = function(x)
    local a, b = rows(x)
    return D.kl(D.Categorical(nil, {logits = a}), D.Categorical(nil, {logits = b}))
  end,
  kl_of_laplace = function(x)
    local a, b = rows(x)
    return D.kl(D.Laplace(a, 1), D.Laplace(b, 2))
  end,
  kl_of_normal = function(x)
    local a, b = rows(x)
    return D.kl(D.Normal(a, 1), D.Normal(b, (a - b):square() + 1))
  end,
  layer_norm = function(x) return mg.layer_norm(x) end,
  log_prob = function(x)
    local a, b = rows(x)
    return D.Normal(a, 2):log_prob(b)
  end,
  log_softmax = mg.log_softmax,
  logcumsumexp = function(x) return slopes(x:logcumsumexp(2)) end,
  logsumexp = function(x) return slopes(x:logsumexp(2)) end,
  logaddexp = function(x) return slopes(mg.logaddexp(rows(x))) end,
  pairwise_distance = function(x) return mg.pairwise_distance(rows(x)) end,
  smooth_l1_loss = function(x) return mg.smooth_l1_loss(rows(x)) end,
  softmax = function(x) return x:softmax() end,
  softmin = function(x) return x:softmin() end,
  scaled_dot_product_attention = function(x)
    local q = MASK:to(x.dtype)
    return mg.scaled_dot_product_attention(q, q, q, {attn_mask = x[{{}, {1, 3}}]})
  end,
  std = function(x) return x:std(2) end,
  trapezoid = function(x) return mg.trapezoid(MASK:to(x.dtype), x):square() end,
  triplet_margin_loss = function(x)
    local a, b = rows(x)
    return mg.triplet_margin_loss(a, b, x[3], {margin = 4})
  end,
  var = function(x) return x:var(2) end,
}

local function largest(x) return x:detach():abs():amax() end
local function square_of(x) return x[{{}, {1, 3}}] + mg.eye(3):to(x.dtype) * largest(x) * 2 end
local function definite(x)
  local a = square_of(x)
  return a + a.T
end
local function positive(x) return x + largest(x) * 1.25 end

-- What x's k-fold makes k^degree-fold: {degree, f}
local SCALED = {
  atan2 = {0, function(x) return mg.atan2(rows(x)) end},
  batch_norm = {0, function(x) return mg.batch_norm(x, nil, nil, nil, nil, {eps = 0}) end},
  cdist = {1, function(x) return mg.cdist(x[{{1, 2}}], x[{{3, 3}}]) end},
  cdist_3 = {1, function(x) return mg.cdist(x[{{1, 2}}], x[{{3, 3}}], {p = 3}) end},
  cholesky = {0.5, function(x) return mg.cholesky(definite(x)) end},
  corrcoef = {0, mg.corrcoef},
  cosine_similarity = {0, function(x)
    local a, b = rows(x)
    return mg.cosine_similarity(a, b, {eps = 0})
  end},
  cov = {2, mg.cov},
  det = {3, function(x) return mg.det(square_of(x)) end},
  div = {0, function(x)
    local a, b = rows(x)
    return a / b
  end},
  eigh = {1, function(x) return (mg.eigh(definite(x))) end},
  entropy_of_categorical = {0, function(x) return D.Categorical(positive(x)):entropy() end},
  hypot = {1, function(x) return mg.hypot(rows(x)) end},
  inv = {-1, function(x) return mg.inv(square_of(x)) end},
  kl_of_categorical = {0, function(x)
    local a, b = rows(positive(x))
    return D.kl(D.Categorical(a), D.Categorical(b))
  end},
  kl_of_exponential = {0, function(x)
    local a, b = rows(positive(x))
    return D.kl(D.Exponential(a), D.Exponential(b))
  end},
  kl_of_gamma = {0, function(x)
    local a, b = rows(positive(x))
    return D.kl(D.Gamma(2, a), D.Gamma(3, b))
  end},
  kl_of_laplace = {0, function(x)
    local a, b = rows(positive(x))
    return D.kl(D.Laplace(a, b), D.Laplace(b, a))
  end},
  kl_of_normal = {0, function(x)
    local a, b = rows(positive(x))
    return D.kl(D.Normal(a, b), D.Normal(b, a))
  end},
  kl_of_poisson = {1, function(x)
    local a, b = rows(positive(x))
    return D.kl(D.Poisson(a), D.Poisson(b))
  end},
  layer_norm = {0, function(x) return mg.layer_norm(x, {eps = 0}) end},
  lstsq = {0, function(x) return (mg.lstsq(x[{{}, {1, 2}}], x[{{}, 4}])) end},
  mean_squared_error = {2, function(x) return mg.mean_squared_error(rows(x)) end},
  norm = {1, function(x) return x:norm{axis = 2} end},
  norm_3 = {1, function(x) return x:norm{axis = 2, p = 3} end},
  norm_half = {1, function(x) return x:norm{axis = 2, p = 0.5} end},
  normalize = {0, function(x) return mg.normalize(x, {eps = 0}) end},
  pairwise_distance = {1, function(x)
    local a, b = rows(x)
    return mg.pairwise_distance(a, b, {eps = 0})
  end},
  pinv = {-1, function(x) return mg.pinv(x[{{}, {1, 2}}]) end},
  qr = {1, function(x)
    local _, R = mg.qr(square_of(x))
    return R
  end},
  reciprocal = {-1, mg.reciprocal},
  rms_norm = {0, function(x) return mg.rms_norm(x, {eps = 0}) end},
  rsqrt = {-0.5, function(x) return mg.rsqrt(positive(x)) end},
  solve = {0, function(x) return mg.solve(square_of(x), x[{{}, 4}]) end},
  sqrt = {0.5, function(x) return mg.sqrt(positive(x)) end},
  std = {1, function(x) return x:std(2) end},
  svd = {1, function(x)
    local _, S = mg.svd(x)
    return S
  end},
  var = {2, function(x) return x:var(2) end},
}

local OFFSETS = {float64 = {2.0 ^ 30, 2.0 ^ -22, 1e-13}, float32 = {2.0 ^ 10, 2.0 ^ -13, 1e-5}}

describe("derivatives", function()
  helper.guard(before_each, after_each)

  for name, f in pairs(SHIFTED) do
    it("see no offset: " .. name, function()
      for dtype, row in pairs(OFFSETS) do
        local offset, step, tol = table.unpack(row)
        local x = x_of(step)
        same(name .. " of " .. dtype, derived(f, (x + offset):to(dtype), V:to(dtype)),
          derived(f, x, V), tol)
      end
    end)
  end

  for name, row in pairs(SCALED) do
    it("scale as they should: " .. name, function()
      local degree, f = table.unpack(row)
      local x = x_of(2.0 ^ -10)
      local want = derived(f, x, V)
      for dtype, most in pairs{float64 = 450, float32 = 100} do
        local far = most // math.max(1, math.abs(degree), math.abs(degree - 1))
        for _, k in ipairs{2.0 ^ far, 2.0 ^ -far} do
          local by, slope = k ^ degree, k ^ (degree - 1)
          same(name .. " at " .. k, derived(f, (x * k):to(dtype), (V * k):to(dtype)), want,
            dtype == "float64" and 1e-13 or 2e-5, {by, slope, slope, slope})
        end
      end
    end)
  end
end)
