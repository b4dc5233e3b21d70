-- mg.distributions: numbers of torch.distributions, closed forms against draws, gradients.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local D = mg.distributions
local inf = math.huge

-- Made when they are asked for; kl is that of the first to the second.
local CASES = {
  Normal = {function() return D.Normal({0.5, -1}, 2), D.Normal(1, 0.7) end, at = 1.5,
    log_prob = {-1.737085713764618, -2.393335713764618},
    entropy = {2.112085713764618, 2.112085713764618}, mean = {0.5, -1}, variance = {4, 4},
    kl = {2.786912569378873, 6.613443181623771}},
  Uniform = {function() return D.Uniform(0, {1, 2}), D.Uniform(-1, 1.5) end, at = 0.5,
    log_prob = {0, -0.6931471805599453}, entropy = {0, 0.6931471805599453}, mean = {0.5, 1},
    variance = {1 / 12, 1 / 3}, kl = {0.9162907318741551, inf}},
  Bernoulli = {function() return D.Bernoulli{0.2, 0.7}, D.Bernoulli(0.4) end, at = 1,
    log_prob = {-1.6094379124341003, -0.35667494393873245},
    entropy = {0.5004024235381879, 0.6108643020548935}, mean = {0.2, 0.7},
    variance = {0.16, 0.21}, kl = {0.09151622184943572, 0.18378689738681217}},
  Categorical = {function() return D.Categorical{1, 2, 7}, D.Categorical{0.3, 0.3, 0.4} end,
    at = 2, log_prob = -1.6094379124341003, entropy = 0.8018185525433373,
    kl = 0.20077680106635198},
  Exponential = {function() return D.Exponential{1, 2}, D.Exponential(3) end, at = 0.5,
    log_prob = {-0.5, -0.3068528194400547}, entropy = {1, 0.3068528194400547},
    mean = {1, 0.5}, variance = {1, 0.25}, kl = {0.9013877113318902, 0.09453489189183562}},
  Gamma = {function() return D.Gamma({0.5, 3}, 2), D.Gamma(1.5, 0.8) end, at = 0.7,
    log_prob = {-1.447453880675361, -0.7270555267575743},
    entropy = {-0.6025372506459566, 1.154431329803066}, mean = {0.25, 1.5},
    variance = {0.125, 0.75}, kl = {2.3447989432727105, 0.14468318226374288}},
  Beta = {function() return D.Beta({0.5, 3}, 2), D.Beta(1.5, 0.8) end, at = 0.3,
    log_prob = {-0.04237061422754529, -0.2797139028026042},
    entropy = {-0.7652789553347761, -0.23490664978800035}, mean = {0.2, 0.6},
    variance = {0.045714285714285714, 0.04}, kl = {1.9196258133637154, 0.1869946355929626}},
  Poisson = {function() return D.Poisson{0.5, 7}, D.Poisson(2) end, at = 3,
    log_prob = {-4.371201010907891, -2.9540290220621155},
    entropy = {0.9276374674957976, 2.3788759150252914}, mean = {0.5, 7}, variance = {0.5, 7},
    kl = {0.8068528194400547, 3.7693407794675764}},
  Laplace = {function() return D.Laplace({0, 1}, 2), D.Laplace(1, 0.7) end, at = 0.3,
    log_prob = {-1.5362943611198905, -1.7362943611198904},
    entropy = {2.386294361119891, 2.386294361119891}, mean = {0, 1}, variance = {8, 8},
    kl = {1.1116940461088465, 0.8073207326441796}},
  Dirichlet = {function()
      return D.Dirichlet{{1, 2, 3}, {0.5, 0.5, 0.5}}, D.Dirichlet{1.5, 1, 0.5}
    end, at = {0.2, 0.3, 0.5},
    log_prob = {1.5040773967762737, -0.08459811774935466},
    entropy = {-1.2443445622221008, -1.162122933590653},
    mean = {{1 / 6, 1 / 3, 1 / 2}, {1 / 3, 1 / 3, 1 / 3}},
    variance = {{0.01984126984126984, 0.031746031746031744, 0.03571428571428571},
                {0.08888888888888889, 0.08888888888888889, 0.08888888888888889}},
    kl = {1.7527800869516104, 0.9205584583201629}},
  MultivariateNormal = {function()
      return D.MultivariateNormal({1, 2}, {{2, 0.5}, {0.5, 1}}),
        D.MultivariateNormal({0, 1}, {{1, -0.3}, {-0.3, 2}})
    end, at = {{0, 0}, {1, -1}},
    log_prob = {-4.117684960377058, -7.2605421032342}, entropy = 3.1176849603770567,
    mean = {1, 2}, variance = {2, 1}, kl = 1.3735866589987307},
}

for name, case in pairs(CASES) do
  describe("distributions." .. name, function()
    local p, q
    before_each(function()
      mg.seed(1)
      p, q = case[1]()
    end)

    it("has the field's formulas", function()
      for _, field in ipairs{"log_prob", "entropy", "mean", "variance"} do
        local value = field == "log_prob" and p:log_prob(mg.tensor(case.at)) or
          field == "entropy" and p:entropy() or case[field] and p[field]
        assert(near(value or 0, case[field] or 0, 1e-12), field)
      end
      if case.variance then assert(near(p.stddev ^ 2, case.variance, 1e-12)) end
      assert(near(D.kl(p, q), case.kl, 1e-12))
      assert(near(D.kl(p, p), mg.zeros(p.batch_shape), 0, 1e-12))
    end)

    it("draws what it says", function()
      local n = 40000
      local s = p:sample(n)
      assert.is_false(s.requires_grad)
      local shape = {n, table.unpack(p.batch_shape)}
      table.move(p.event_shape, 1, #p.event_shape, #shape + 1, shape)
      assert.same(shape, {table.unpack(s.shape)})
      assert.equal(#shape - 1, p:sample().ndim)
      assert.same({2, 3}, {table.unpack(p:sample{2, 3}.shape, 1, 2)})
      if case.mean then
        local off = (s:mean(1) - p.mean) / (p.variance / n):sqrt()
        assert.is_true(off:abs():max():item() < 4)
        assert(near(s:var(1), p.variance, 0.05))
      end
      local logs = p:log_prob(s)
      assert(near(-logs:mean(1), p:entropy(), 0.03, 0.02))
      local kl = D.kl(p, q)
      local estimate = (logs - q:log_prob(s)):mean(1)
      assert(near(estimate, kl, 0.05, 0.02))
      assert(helper.same(s, (function() mg.seed(1); return p:sample(n) end)()))
    end)
  end)
end

describe("distributions", function()
  it("may be none", function()
    local one = mg.ones(0)
    for _, d in ipairs{D.Normal(one, one), D.Laplace(one, one), D.Uniform(one - 1, one),
        D.Exponential(one), D.Gamma(one, one), D.Beta(one, one), D.Poisson(one), D.Bernoulli(one),
        D.Categorical(mg.ones(0, 3)), D.Dirichlet(mg.ones(0, 3)),
        D.MultivariateNormal(mg.ones(0, 2), mg.eye(2))} do
      assert.same({0}, d:entropy().shape)
      assert.same({0}, d:log_prob(d:sample()).shape)
      assert.same({0}, D.kl(d, d).shape)
    end
  end)

  it("tell draws that cannot be", function()
    local low = -inf
    assert(near(D.Exponential(1):log_prob(mg.tensor{-1, 1}), {low, -1}))
    assert(near(D.Gamma(2, 1):log_prob(mg.tensor{-1}), {low}))
    assert(near(D.Beta(2, 2):log_prob(mg.tensor{-1, 2}), {low, low}))
    assert(near(D.Uniform(0, 1):log_prob(mg.tensor{-0.1, 0, 1}), {low, 0, low}))
    assert(near(D.Bernoulli(0.5):log_prob(mg.tensor{0.5, 2}), {low, low}))
    assert(near(D.Poisson(1):log_prob(mg.tensor{-1, 0.5}), {low, low}))
    assert(near(D.Poisson(0):log_prob(mg.tensor{0, 1}), {0, low}))
    assert(near(D.Bernoulli(0):log_prob(mg.tensor{0, 1}), {0, low}))
    assert(near(D.Poisson(1):log_prob(mg.tensor{inf}), {low}))
    assert(near(D.Dirichlet{1, 2}:log_prob(mg.tensor{{-1, 0.5}, {inf, 0.5}}), {low, low}))
    assert.equal("variable(0)", tostring(D.Uniform(0, 1):log_prob(0.5)))
    for _, label in ipairs{-1, 0, 4} do
      assert(raises("log_prob: labels must be in 1..3", D.Categorical{1, 1, 1}.log_prob,
        D.Categorical{1, 1, 1}, mg.tensor({1, label}, "int64")))
    end
    local x = mg.Variable{-1, 2}
    D.Exponential(3):log_prob(x):sum():backward()
    assert(near(x.grad, {0, -3}))
  end)

  it("do not know how likely a nan is", function()
    for name, d in pairs{
      Normal = D.Normal(0, 1), Laplace = D.Laplace(0, 1), Uniform = D.Uniform(0, 1),
      Exponential = D.Exponential(1), Gamma = D.Gamma(2, 1), Beta = D.Beta(2, 2),
      Poisson = D.Poisson(2), Bernoulli = D.Bernoulli(0.5),
    } do
      local x = mg.Variable{0 / 0, 1}
      local y = d:log_prob(x)
      assert(y[1]:isnan():item() and not y[2]:isnan():item(), name)
    end
    assert(D.Dirichlet{1, 2}:log_prob{0 / 0, 0.5}:isnan():item())
    assert(raises("labels must be whole numbers", D.Categorical{1, 1}.log_prob,
      D.Categorical{1, 1}, 0 / 0))
  end)

  it("have draws whose gradients lead to the parameters", function()
    local function check(make, xs)
      assert(mg.gradcheck(function(...)
        mg.seed(3)
        return make(...):rsample(2)
      end, xs))
    end
    local a, b = mg.tensor{0.5, 1.5}, mg.tensor{2.0, 3.0}
    for _, name in ipairs{"Normal", "Laplace", "Uniform"} do check(D[name], {a, b}) end
    check(D.Exponential, {b})
    check(function(x) return D.MultivariateNormal(x, nil, {scale_tril = mg.tensor{{1, 0}, {2, 3}}})
    end, {a})
    for _, name in ipairs{"Gamma", "Beta"} do
      local k, r = mg.Variable{2.0, 3.0}, mg.Variable{1.5, 2.5}
      D[name](k, r):rsample(20000):mean(1):sum():backward()
      local wanted = {mg.gradients(D[name](k, r).mean:sum(), {k, r})}
      assert(near(k.grad, wanted[1][1], 0.1))
      assert(near(r.grad, wanted[1][2], 0.1))
    end
    local k = mg.Variable{2.0, 3.0, 1.0}
    D.Dirichlet(k):rsample(20000)[{ {}, 1 }]:mean():backward()
    assert(near(k.grad, mg.gradients(D.Dirichlet(k).mean[1], k), 0.1))
    for _, dtype in ipairs{"float32", "float64"} do -- gamma variates that are no numbers
      local shares = D.Dirichlet(mg.tensor({1e-3, 3e-3}, dtype)):rsample(20000)
      assert.equal(dtype, shares.dtype)
      assert(near(shares:sum(-1), mg.ones(20000), 1e-6))
      assert(near(shares:mean(1), {0.25, 0.75}, 0.02))
    end
    for _, d in ipairs{D.Bernoulli(0.5), D.Categorical{1, 1}, D.Poisson(1)} do
      assert(raises("cannot be differentiated; use sample", d.rsample, d, 2))
    end
  end)

  it("have log_prob, entropy and kl that are differentiable twice", function()
    local a, b = mg.tensor{0.6, 1.5}, mg.tensor{2.0, 3.0}
    local shares = mg.tensor{0.3, 0.7}
    local function all(make, x, other)
      return function(...)
        local d = make(...)
        return {d:log_prob(x), d:entropy(), D.kl(d, other or make(a, b)), d.mean, d.variance}
      end
    end
    for _, name in ipairs{"Normal", "Laplace", "Gamma", "Beta"} do
      assert(mg.gradcheck(all(D[name], shares), {a, b}, {order = 2, rtol = 1e-4}))
    end
    assert(mg.gradcheck(all(D.Poisson, mg.tensor{1, 3}, D.Poisson(a)), {b}, {order = 2}))
    assert(mg.gradcheck(all(D.Exponential, shares, D.Exponential(a)), {b}, {order = 2}))
    assert(mg.gradcheck(all(D.Dirichlet, shares, D.Dirichlet(a)), {b}, {order = 2}))
    assert(mg.gradcheck(function(l)
      local d = D.Bernoulli(nil, {logits = l})
      return {d:log_prob(mg.tensor{0, 1}), d:entropy(), D.kl(d, D.Bernoulli(0.3)), d.variance}
    end, {a}, {order = 2}))
    assert(mg.gradcheck(function(l)
      local d = D.Categorical(nil, {logits = l})
      return {d:log_prob(mg.tensor({2}, "int64")), d:entropy(), D.kl(d, D.Categorical{1, 1})}
    end, {a}, {order = 2}))
    assert(mg.gradcheck(function(m, L)
      local d = D.MultivariateNormal(m, nil, {scale_tril = L, validate_args = false})
      local e = D.MultivariateNormal(a, {{2, 0.5}, {0.5, 1}})
      return {d:log_prob(b), d:entropy(), D.kl(d, e), D.kl(e, d)}
    end, {a, mg.tensor{{1.0, 0}, {0.5, 2}}}, {order = 1}))
  end)

  it("have gradients of kl where a label cannot be", function()
    local given = {logits = {{-inf, 0, -0.7}, {0.2, 0.3, 0.5}}, probs = {{0, 1, 0.5}, {2, 3, 5}}}
    for name, both in pairs(given) do
      for _, x in ipairs{both[2], both[1], {both[1][1], 0.4, 0.3}} do
        local p, q = mg.Variable(both[1]), mg.Variable(x)
        local function kl(a, b)
          return D.kl(D.Categorical{[name] = a}, D.Categorical{[name] = b})
        end
        local own = mg.gradients(kl(p, q), {p, q})
        local some = {{2, 3}}                      -- as of the labels that can be
        local few = {mg.Variable(p.data[some]), mg.Variable(q.data[some])}
        local want = mg.gradients(kl(few[1], few[2]), few)
        assert(near(own[1][some], want[1], 1e-12, 1e-15))
        assert.is_true(own[1]:isfinite():all():item())
        assert.is_true(own[2]:isfinite():all():item())
        assert.is_true(mg.hessian(function(v) return kl(v, x) end, p):isfinite():all():item())
      end
    end
    for _, at in ipairs{0, 1} do
      local p, q = mg.Variable(at), mg.Variable(at)
      local slopes = mg.gradients(D.kl(D.Bernoulli(p), D.Bernoulli(q)), {p, q})
      assert.same({0, 1 - 2 * at}, {slopes[1]:item(), slopes[2]:item()})
    end
    local p, q = mg.Variable(0), mg.Variable(0)
    local slopes = mg.gradients(D.kl(D.Poisson(p), D.Poisson(q)), {p, q})
    assert.same({0, 1}, {slopes[1]:item(), slopes[2]:item()})
  end)

  -- First and second derivatives by the other two of three elements are 0.
  local function moves_by_third_alone(name, total, x)
    local few = mg.gradients(total(x[3]), x):totable()
    assert.same({name, {0, 0, few[3]}}, {name, mg.gradients(total(x), x):totable()})
    local bent = mg.hessian(total, x):totable()
    assert.is_true(math.abs(bent[3][3]) > 0.01)
    assert.same({{0, 0, 0}, {0, 0, 0}, {0, 0, bent[3][3]}}, bent)
  end

  it("do not move with a logit that is infinite", function()
    local x = mg.Variable{-inf, inf, 0.5}
    local q = D.Bernoulli(nil, {logits = 0.3})
    for name, f in pairs {
      entropy = function(d) return d:entropy() end,
      kl = function(d) return D.kl(d, q) end,
      kl_of_probs = function(d) return D.kl(d, D.Bernoulli(0.4)) end,
    } do
      local function total(v) return f(D.Bernoulli(nil, {logits = v})):sum() end
      moves_by_third_alone(name, total, x)
    end
  end)

  it("do not move with probs that were rounded to 0 or 1", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local x = mg.Variable(mg.tensor({-1000, 40, 0.5}, dtype))
      for name, f in pairs {
        entropy = function(d) return d:entropy() end,
        kl = function(d) return D.kl(d, D.Bernoulli(0.4)) end,
        kl_of_logits = function(d) return D.kl(d, D.Bernoulli(nil, {logits = 0.3})) end,
        kl_of_rates = function(d) return D.kl(D.Poisson(d.probs), D.Poisson(0.7)) -
          D.kl(D.Poisson(1 - d.probs), D.Poisson(0.7)) end,
      } do
        local function total(v) return f(D.Bernoulli(v:sigmoid())):sum() end
        moves_by_third_alone(name, total, x)
      end
    end
    local function sure(v) return D.Bernoulli(v):entropy():sum() end
    assert(helper.exact(mg.grad(sure)(mg.tensor{0, 0.5, 1}), {0, 0, 0}))
    assert(helper.exact(mg.hvp(sure, mg.tensor{0, 0.5, 1}, mg.ones(3)), {0, -4, 0}))
    local p, some = mg.tensor{0, 0.5, 0, 1}, {2, 4}
    local function entropy(v) return D.Categorical(v):entropy() end
    local bent, want = mg.hessian(entropy, p), mg.hessian(entropy, mg.tensor{0.5, 1})
    for i, k in ipairs(some) do
      for j, l in ipairs(some) do assert(near(bent[k][l], want[i][j], 1e-14)) end
    end
  end)

  it("have second derivatives in float32 where a label hardly can be", function()
    for _, gap in ipairs{20, 43, 50, 80} do
      local x = mg.tensor({0, gap, -gap / 2, 1}, "float32")
      local v, old = mg.tensor({1, 2, -1, 0.5}, "float32"), x * 0.9
      for name, f in pairs {
        entropy = function(l) return D.Categorical(nil, {logits = l}):entropy() end,
        entropy_of_probs = function(l) return D.Categorical(l:softmax()):entropy() end,
        kl = function(l)
          return D.kl(D.Categorical(l:softmax()), D.Categorical(old:to(l.dtype):softmax()))
        end,
        kl_of_logits = function(l)
          return D.kl(D.Bernoulli(nil, {logits = l}),
            D.Bernoulli(nil, {logits = old:to(l.dtype)})):sum()
        end,
      } do
        local want = mg.hvp(f, x:to "float64", v:to "float64")
        assert(near(mg.hvp(f, x, v), want:totable(), 1e-4, 2e-7), name)
      end
    end
  end)

  it("have entropies in float32 as exact as it is, and slopes that it can hold", function()
    for name, p in pairs {
      Gamma = {{5, 8, 12, 15}, {8, 10, 10, 12}},
      Beta = {{5, 8, 12, 15}, {5, 9, 11, 15}},
      Dirichlet = {{{5, 8, 12}, {15, 6, 7}}},
      Poisson = {{1e-40, 1e-30, 0.5, 3, 1e5}},
    } do
      local function entropy(dtype)
        local params = {}
        for i, v in ipairs(p) do params[i] = mg.Variable(mg.tensor(v, "float32"):to(dtype)) end
        local h = D[name](table.unpack(params)):entropy()
        return h, mg.gradients(h:sum(), params[1])
      end
      local h, slope = entropy "float32"
      local want, want_slope = entropy "float64"
      assert.equal("float32", h.dtype)
      assert(near(h, want:totable(), 1e-7), name)
      assert(near(slope, want_slope:totable(), 1e-7), name)
    end
  end)

  it("have divergences in float32 of what is nearly alike as exact as it is", function()
    for name, p in pairs {
      Gamma = {{2, 700, 3e4}, {3, 0.5, 40}},
      Beta = {{0.5, 300, 1000}, {0.5, 300, 0.2}},
      Dirichlet = {{{100, 200, 50}, {3e4, 0.2, 1}}},
      Bernoulli = {{0.03, 0.5, 0.97, 1e-6}},
      MultivariateNormal = {{0.5, -2}, {{2, 0}, {0.3, 0.7}}},
    } do
      local make = D[name]
      if name == "MultivariateNormal" then
        function make(loc, L) return D.MultivariateNormal(loc, nil, {scale_tril = L}) end
      end
      for _, off in ipairs {1e-4, 1e-2} do
        local function divergence(dtype)
          local params, few = {}, {{}, {}}
          for i, v in ipairs(p) do
            local x = mg.tensor(v, "float32")
            for k, value in ipairs{x, x * (1 + off)} do
              few[k][i] = mg.Variable(value:to(dtype))
              params[#params + 1] = few[k][i]
            end
          end
          local y = D.kl(make(table.unpack(few[1])), make(table.unpack(few[2])))
          return y, mg.gradients(y:sum(), params)
        end
        local y, slopes = divergence "float32"
        local want, want_slopes = divergence "float64"
        assert.equal("float32", y.dtype)
        assert(near(y, want:totable(), 2e-6, 0), name)
        for i, g in ipairs(slopes) do
          assert(near(g, want_slopes[i]:totable(), 2e-6, 1e-9), name)
        end
      end
    end
  end)

  it("differ by the rarer of two outcomes, where one is told by logits alone", function()
    local logits, probs = mg.tensor({12, -12}, "float32"), mg.tensor({0.99999, 1e-5}, "float32")
    local function divergence(dtype)
      return D.kl(D.Bernoulli(nil, {logits = logits:to(dtype)}), D.Bernoulli(probs:to(dtype)))
    end
    assert(near(divergence "float32", divergence("float64"):totable(), 2e-6, 0))
  end)

  it("have the slopes of a flat Beta at either end", function()
    local a, b = mg.Variable{1, 1, 1}, mg.Variable{1, 1, 1}
    local slopes = mg.gradients(D.Beta(a, b):log_prob(mg.tensor{0, 1, 0.5}):sum(), {a, b})
    assert(near(slopes[1], {1, 1, 1 - math.log(2)}))
    assert(near(slopes[2], {1, 1, 1 - math.log(2)}))
  end)

  it("draw what may be, if it lies between few numbers of float32", function()
    local d = D.Uniform(mg.tensor(1, "float32"), 1 + 2 ^ -21)
    mg.seed(1)
    local x = d:sample(4000)
    assert.is_true(d:log_prob(x):isfinite():all():item())
    local counts = mg.bincount(((x - 1) * 2 ^ 23):to "int64" + 1)
    assert(near(counts:to "float64", {1000, 1000, 1000, 1000}, 0.1))
  end)

  it("take logits as they take probs", function()
    local l = mg.tensor{-40, 0.5, 800}
    local d = D.Bernoulli(nil, {logits = l})
    assert(near(d:log_prob(1), {-40, -math.log(1 + math.exp(-0.5)), 0}, 1e-12,
      1e-12))
    assert(near(d:log_prob(0), {0, -math.log(1 + math.exp(0.5)), -800}, 1e-12, 1e-12))
    assert(near(D.Bernoulli{0.25}.logits, {math.log(1 / 3)}))
    l = mg.tensor{1, 2, 3}
    assert(near(D.Categorical(nil, {logits = l}).probs, l:softmax()))
    assert(near(D.Categorical{1, 3}.probs, {0.25, 0.75}))
  end)

  it("have batches", function()
    local d = D.Categorical(mg.rand(4, 3) + 0.1)
    assert.equal("(4)", tostring(d.batch_shape))
    assert.equal("(2, 4)", tostring(d:sample(2).shape))
    assert.equal("(2, 4)", tostring(d:log_prob(d:sample(2)).shape))
    assert.equal("int64", d:sample().dtype)
    local L = mg.tensor{{{1, 0}, {1, 2}}, {{3, 0}, {0, 1}}}
    local m = D.MultivariateNormal(mg.zeros(2), nil, {scale_tril = L})
    assert.equal("(2)", tostring(m.batch_shape))
    assert.equal("(5, 2, 2)", tostring(m:rsample(5).shape))
    for i = 1, 2 do
      local one = D.MultivariateNormal(mg.zeros(2), nil, {scale_tril = L[i]})
      assert(near(m:log_prob(mg.tensor{1, 2})[i], one:log_prob(mg.tensor{1, 2})))
      assert(near(m:entropy()[i], one:entropy()))
      assert(near(D.kl(m, one)[i], 0, 0, 1e-12))
    end
    assert(near(m.covariance_matrix[1], {{1, 1}, {1, 5}}))
  end)

  it("give what their parameters are, whatever the default dtype", function()
    for default, dtype in pairs{float64 = "float32", float32 = "float64"} do
      local a, eye = mg.tensor({0.3, 0.6, 0.4}, dtype), mg.eye(3, {dtype = dtype})
      local all = {D.Normal(a, 1), D.Laplace(a, a), D.Uniform(0, a), D.Exponential(a),
        D.Gamma(a, 2), D.Beta(a, a), D.Dirichlet(a), D.Poisson(a), D.Bernoulli(a),
        D.MultivariateNormal(a, eye), D.Normal(mg.tensor({0, 1, 2}, "int64"), a)}
      mg.using_config("dtype", default, function()
        for _, d in ipairs(all) do
          local x = d:sample(5)
          if x.dtype ~= "int64" then assert.equal(dtype, x.dtype) end
          assert.same({dtype, dtype, dtype}, {d:log_prob(x).dtype,
            d:log_prob(d.event_shape[1] and x or 0.5).dtype, d.mean.dtype}, tostring(d))
        end
      end)
    end
  end)

  it("take no events of other sizes", function()
    local d, normal = D.Dirichlet(mg.ones(2, 3)), D.MultivariateNormal({1, 2}, mg.eye(2))
    assert(raises("log_prob: x has shape (1), expected (..., 3): its last axis is an event of " ..
      "Dirichlet", d.log_prob, d, {1}))
    assert(raises("log_prob: x has shape (), expected (..., 2)", normal.log_prob, normal, 0.5))
    assert(raises("log_prob: x has shape (3), expected (..., 1)", D.Dirichlet{2}.log_prob,
      D.Dirichlet{2}, {0.2, 0.3, 0.5}))
    assert(raises("kl: 3 elements and 1", D.kl, d, D.Dirichlet{1}))
    assert(raises("kl: 2 elements and 1", D.kl, normal, D.MultivariateNormal({1}, mg.eye(1))))
    assert(raises("kl: 3 labels and 1", D.kl, D.Categorical(mg.ones(3)), D.Categorical{1}))
  end)

  it("differ as those that they extend, where they have their density", function()
    local Mine, Log, Flat = D.Normal:extend "Mine", D.Normal:extend "Log", D.Normal:extend "Flat"
    local Further = Mine:extend "Further"
    Further.mean = mg.tensor(7)
    function Log:log_prob(x) return D.Normal.log_prob(self, x:log()) - x:log() end
    function Flat:log_density(x) return x * 0 - self.scale:log() end
    local p, q = D.Normal(0, 1), D.Normal(1, 2)
    for _, pair in ipairs{{Mine(0, 1), q}, {p, Further(1, 2)}, {Mine(0, 1), Further(1, 2)}} do
      assert(helper.same(D.kl(p, q), D.kl(table.unpack(pair))))
    end
    assert(raises("kl: no closed form is known for Normal and Gamma", D.kl, Mine(0, 1),
      D.Gamma(1, 1)))
    for _, class in ipairs{Log, Flat} do
      assert(raises("kl: argument 2, a class of one's own, has another density than Normal", D.kl,
        p, class(0, 1)))
    end
    for _, bad in ipairs{{}, mg.nn.ReLU(), mg.ones(2), setmetatable({}, {__index = {}})} do
      assert(raises("kl: argument 1 is no distribution of mg.distributions", D.kl, bad, p))
    end
  end)

  it("say what is wrong with parameters, and print what they are", function()
    assert(raises("Normal: scale must be positive", D.Normal, 0, -1))
    assert(raises("Bernoulli: probs must be within 0..1", D.Bernoulli, 1.5))
    assert(raises("Bernoulli: needs probs or {logits =}, one of them", D.Bernoulli))
    assert(raises("Uniform: high - low must be positive", D.Uniform, 1, 1))
    for name, names in pairs{Normal = "loc scale", Laplace = "loc scale", Uniform = "low high",
                             Gamma = "concentration rate", Exponential = "rate", Poisson = "rate",
                             Beta = "concentration1 concentration0"} do
      local k, n = 0, select(2, names:gsub("%a+", ""))
      for parameter in names:gmatch "%S+" do
        local args = {0.5, n == 2 and 1 or nil}
        k = k + 1
        args[k] = parameter == "low" and -inf or inf
        local what = name == "Poisson" and "0 or more and " or
          ("loc low high"):find(parameter, 1, true) and "" or "positive and "
        assert(raises(("%s: %s must be %sfinite"):format(name, parameter, what), D[name],
          table.unpack(args)))
      end
    end
    assert(raises("Dirichlet: concentration must be positive and finite", D.Dirichlet, {inf, 1}))
    assert(raises("Uniform: high - low must be positive and finite", D.Uniform, -1e308, 1e308))
    local logits = "Categorical: logits must be below inf, and some above -inf"
    assert(raises(logits, D.Categorical, {logits = {inf, 1}}))
    assert(raises(logits, D.Categorical, {logits = {{0, 1}, {-inf, -inf}}}))
    assert.equal(0, D.Categorical{logits = {-inf, 1}}:log_prob(2):item())
    assert(raises("Normal: argument 3", D.Normal, 0, 1, 2))
    assert(raises("MultivariateNormal: needs", D.MultivariateNormal, {1, 2}))
    assert(raises("shape (3, 3) for a mean of 2 elements", D.MultivariateNormal, {1, 2}, mg.eye(3)))
    assert(raises("kl: no closed form is known for Normal and Gamma", D.kl, D.Normal(0, 1),
      D.Gamma(1, 1)))
    assert(raises("kl: argument 2 is no distribution", D.kl, D.Normal(0, 1), 3))
    assert(raises("Categorical: labels have no mean", function() return D.Categorical{1}.mean end))
    assert(near(D.Normal(0, -1, {validate_args = false}).scale, -1))
    assert.equal("Normal(loc = 0, scale = 2)", tostring(D.Normal(0, 2)))
    assert.equal("Gamma(concentration = (2), rate = (2))", tostring(D.Gamma({1, 2}, 3)))
  end)
end)
