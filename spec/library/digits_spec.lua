-- What is composed of ops keeps its digits far out: no overflow, underflow or cancellation inside
-- that the result does not have. Values are mpmath's.

local mg = require "moongrad"
local helper = require "spec.helper"
local D = mg.distributions

local FLOATS = {float64 = 2.0 ^ -52, float32 = 2.0 ^ -23}

-- x is the table `want` within so many units in the last place of its dtype.
local function exact(want, x, ulps)
  local eps = FLOATS[x.dtype]
  return helper.near(x, want, ulps * eps, eps == FLOATS.float32 and 2.0 ^ -149 or 2.0 ^ -1074)
end

-- f(x), and its gradient, for x of both dtypes
local function both(f, x, value, slope, ulps)
  for dtype in pairs(FLOATS) do
    local v = mg.Variable(mg.tensor(x, dtype))
    local y = f(v)
    assert(exact(value, y, ulps or 4))
    if slope then assert(exact(slope, mg.gradients(y:sum(), v), ulps or 4)) end
  end
end

describe("digits far out", function()
  helper.guard(before_each, after_each)

  it("log_softmax and cross_entropy of large logits", function()
    local half = -0.6931471805599453
    for _, top in ipairs{700, 1e4, -3e6, 1 << 23} do
      both(mg.log_softmax, {top, top}, {half, half})
      both(function(x) return mg.cross_entropy(x, 2) end, {top, top - 0.5, top - 2},
        1.0549569196419907)
      both(function(x) return mg.cross_entropy(x, mg.tensor({0, 1}, x.dtype)) end, {top, top},
        -half, {0.5, -0.5})
    end
    both(mg.logsumexp, {-1e30, -1e30}, -1e30, {0.5, 0.5})
    assert(helper.same(mg.log_softmax(mg.tensor{-math.huge, 0, -math.huge}),
      mg.tensor{-math.huge, 0, -math.huge}))
    assert.equal(math.huge, mg.cross_entropy(mg.tensor{-math.huge, 0}, 1):item())
  end)

  it("binary_cross_entropy_with_logits where the target is met", function()
    local loss = mg.binary_cross_entropy_with_logits
    for x, want in pairs{[20] = {2.061153620314381e-9, -2.0611536181902037e-9},
                         [40] = {4.248354255291589e-18, -4.248354255291589e-18},
                         [700] = {9.85967654375977e-305, -9.85967654375977e-305}} do
      both(function(v) return loss(v, mg.ones_like(v)) end, {x}, want[1], {want[2]})
      both(function(v) return loss(v, mg.zeros_like(v)) end, {-x}, want[1], {-want[2]})
    end
    both(function(v) return loss(v, mg.ones_like(v) / 4) end, {0}, 0.6931471805599453, {0.25})
    both(function(v) return loss(v, mg.ones_like(v)) end, {math.huge}, 0, {0})
    both(function(v) return loss(v, mg.ones_like(v)) end, {-math.huge}, math.huge, {-1})
    local ok, message = helper.differentiable(loss, {mg.tensor{-3, -0.0, 0, 0.5, 40},
                                                     mg.tensor{0.1, 0.4, 0.6, 0, 1}})
    assert(ok, message)
  end)

  it("norms of any p", function()
    for _, k in ipairs{1, 1e-30, 1e30, 0x1p-400, 0x1p900} do
      local x = mg.Variable{k, 2 * k, -k}
      for p, want in pairs{[3] = 2.154434690031884, [10] = 2.000390282101329,
                           [-2] = 0.6666666666666667, [1.5] = 2.85673827785028} do
        local y = x:norm{p = p}
        assert(exact(want * k, y, 8))
        if p == 3 then
          assert(exact({0.2154434690031884, 0.8617738760127535, -0.2154434690031884},
            mg.gradients(y, x), 16))
        end
      end
    end
    both(function(x) return x:norm{p = 4} end, {0, 3e15, 0}, 3e15, {0, 1, 0}, 8)
    both(function(x) return x:norm{p = 3} end, {0, 0}, 0, {0, 0})
    both(function(x) return x:norm{p = -1} end, {0, 2}, 0)
    both(function(x) return x:norm{p = 3} end, {1, math.huge}, math.huge)
    local x = mg.rand(3, 4) - 0.5
    for _, p in ipairs{1.5, 3, -2} do
      local ok, message = helper.differentiable(function(v) return v:norm{p = p, axis = 2} end, {x},
        1e-6)
      assert(ok, message)
      assert.same({3, 1}, {table.unpack(x:norm{p = p, axis = 2, keepdims = true}.shape)})
    end
  end)

  it("variances of what lies far from 0", function()
    local top = 0x1p54
    for _, f in ipairs{mg.var, function(x, o) return x:std(o) ^ 2 end} do
      local x = mg.tensor{{top, top + 4, top, top + 4}, {0.1, 0.1, 0.1, 0.1},
                          {top, top + 4, top + 4, top + 4}}
      assert(exact({16 / 3, 0, 4}, f(x, {axis = 2}), 4))
      assert(exact({16 / 3, 0, 4}, f(x.T, {axis = 1}), 4))
      assert(exact({8}, f(mg.tensor{top, top + 4}, {keepdims = true}), 4))
      assert(exact(math.huge, f(mg.tensor{1e200, -1e200, 3e200}), 4))
    end
    local rows = mg.tensor{{top, top + 4, top, top + 4}, {top, top + 4, top + 4, top + 4}}
    assert(exact({{16 / 3, 8 / 3}, {8 / 3, 4}}, mg.cov(rows), 4))
    assert(exact({{1, 0.5773502691896258}, {0.5773502691896258, 1}}, mg.corrcoef(rows), 4))
    local x = mg.Variable(mg.tensor({1 << 24, (1 << 24) + 2}, "float32"))
    local y = x:std()
    assert(exact(1.4142135623730951, y, 2))
    assert(exact({-0.7071067811865476, 0.7071067811865476}, mg.gradients(y, x), 4))
    local ok, message = helper.differentiable(function(v) return mg.var(v, 1), mg.std(v, 1) end,
      {mg.rand(3, 2)})
    assert(ok, message)
  end)

  it("second derivatives of correlations of 1, which are rounded beyond", function()
    local v = mg.tensor{{1, -2, 0, 3, 1}, {0, 0, 0, 0, 0}}
    local turn = v[1] - v[1]:mean()
    for i = 1, 20 do
      local a = mg.sin(mg.range(i, i + 4) * i)
      local function f(x) return mg.corrcoef(x)[1][2] end
      local bend = (mg.hvp(f, mg.stack{a, 3 * a}, v) * v):sum()
      local off = a - a:mean()
      local length = off:dot(off)
      assert(helper.near(bend, turn:dot(off) ^ 2 / length ^ 2 - turn:dot(turn) / length, 1e-12), i)
    end
  end)

  it("softplus by beta, and gaussian_nll_loss, of what is large", function()
    both(function(x) return x:softplus{beta = 1e10} end, {1e30, 0, -1e30},
      {1e30, 6.931471805599453e-11, 0}, {1, 0.5, 0})
    assert(exact({1e300}, mg.softplus(mg.tensor{1e300}, {beta = 1e10}), 0))
    both(function(x)
      local one = mg.ones_like(x)
      return mg.gaussian_nll_loss(x, 0 * one, 1e20 * one) - 23.025850929940457
    end, {1e20}, 5e19, {1})
    both(function(v)
      return mg.gaussian_nll_loss(1e18 * mg.ones_like(v), mg.zeros_like(v), v)
    end, {1e35}, 45.2952391273958, {-4.5e-35}, 8)
  end)

  it("second derivatives of softplus and mish where they are nearly straight", function()
    for op, points in pairs{
      softplus = {[30] = 9.357622968838425e-14, [100] = 3.720075976020836e-44,
                  [-20] = 2.061153613941849e-9},
      logsigmoid = {[-30] = -9.357622968838425e-14, [-100] = -3.720075976020836e-44},
      mish = {[20] = -6.457498407097901e-16, [40] = -5.631136330077695e-33,
              [-1] = 0.349705673670645},
    } do
      for x, want in pairs(points) do
        local v = mg.Variable{x}
        local slope = mg.gradients(mg[op](v):sum(), v, {create_graph = true})
        assert(helper.near(mg.gradients(slope:sum(), v), {want}, 1e-14, 0))
      end
    end
  end)

  it("powers beyond all numbers have their signs", function()
    assert(helper.same(mg.tensor({-2, -3, 2}, "float32") ^ 1e8, mg.full({3}, math.huge, "float32")))
    assert(helper.same(mg.tensor{-2, -2} ^ mg.tensor{1e17, 1025},
      mg.tensor{math.huge, -math.huge}))
  end)

  it("cross_entropy of a class that neither can be nor counts", function()
    local x = mg.Variable{{-math.huge, 1, 2}}
    local opts = {weight = {0, 1, 1}, label_smoothing = 0.3}
    local y = mg.cross_entropy(x, {2}, opts)
    assert(exact(0.8 * 1.3132616875182228 + 0.1 * 0.31326168751822283, y, 8))
  end)

  it("zeros beside what is infinite", function()
    local x = mg.Variable{0, 2, math.huge, 3}
    assert(exact({2, 0, 0, 0}, mg.gradients(x:cumprod(1)[2], x), 0))
    x = mg.Variable{1, -math.huge, 2}
    assert(exact({1, 0, 0}, mg.gradients(x:logcumsumexp(1)[1], x), 0))
    for rate, opts in pairs{[0] = {log_input = false, eps = 0}, [-math.huge] = {}} do
      assert.equal(0, mg.poisson_nll_loss(mg.tensor{rate}, mg.tensor{0}, opts):item())
    end
    local y = mg.odeint(function(_, v) return v end, mg.tensor{1, 0}, {0, 1},
      {rtol = 1e-10, atol = 0})
    assert(helper.near(y[2], {math.exp(1), 0}, 1e-8))
  end)

  it("interpolate beside infinities", function()
    local x = mg.Variable{{{0, math.huge, 2}}}
    local y = mg.interpolate(x, {size = {3}, mode = "linear"})
    assert(helper.same(y, mg.tensor{{{0, math.huge, 2}}}))
    assert(helper.same(mg.gradients(y:sum(), x), mg.ones(1, 1, 3)))
  end)

  it("linspace from end to end of what there is", function()
    local far = 0x1.8p1023
    assert(helper.same(mg.linspace(-far, far, 5), mg.tensor{-far, -far / 2, 0, far / 2, far}))
  end)

  it("densities of large parameters", function()
    for _, c in ipairs{
      {D.Gamma(100, 1), 100, -3.2223569567543533}, {D.Gamma(1e6, 1), 1001000, -8.32736031232006},
      {D.Gamma(1e10, 1), 1e10, -12.431863998183234}, {D.Gamma(20, 1e200), 1e200, -math.huge},
      {D.Gamma(2, 1), math.huge, -math.huge}, {D.Gamma(20, 1), 0, -math.huge},
      {D.Beta(2, 1e10), 1e-12, 18.41068074405336}, {D.Beta(1e8, 1e8), 0.5, 9.331122608361428},
      {D.Beta(15, 17), 0.5, 1.434726847697597}, {D.Beta(20, 20), 1, -math.huge},
      {D.Poisson(1e6), 1e6, -7.826693895520143}, {D.Poisson(20), 15, -2.9632872805310267},
      {D.Poisson(1e15), 1e15, -18.188326730660015}, {D.Poisson(0), 20, -math.huge},
      {D.Bernoulli(1e-20), 0, -1e-20}, {D.Bernoulli(1), 0, -math.huge}, {D.Bernoulli(1), 1, 0},
      {D.Bernoulli(nil, {logits = 40}), 1, -4.248354255291589e-18},
      {D.Bernoulli(nil, {logits = -40}), 1, -40},
    } do
      assert(exact(c[3], c[1]:log_prob(mg.tensor(c[2], "float64")), 24))
    end
    assert(exact(2.7503679194875697, D.Gamma(15, 1):entropy(), 24))
    assert(exact(12.931863998141568, D.Gamma(1e10, 1):entropy(), 8))
    for _, c in ipairs{
      {D.Beta(1e10, 1e10), -11.133707702630474}, {D.Beta(1e-8, 1e5), -99999992.669455357},
      {D.Beta(20, 3), -1.3381252152429662}, {D.Dirichlet{1e10, 1e10, 2}, -33.275490148454343},
      {D.Poisson(1000), 4.8727327976428506}, {D.Poisson{9999, 1e5, 1e300},
        {6.0240503821090446, 7.1754004323522871, 346.80670248231149}},
    } do
      assert(exact(c[2], c[1]:entropy(), 32))
    end
    for _, c in ipairs{
      {D.Laplace(0, 1e-200), 1.4142135623730951e-200}, {D.Exponential(1e200), 1e-200},
      {D.Uniform(0, 1e200), 2.886751345948129e199}, {D.Gamma(4, 1e200), 2e-200},
      {D.Beta(1e150, 1e150), 3.5355339059327376e-76},
      {D.Dirichlet{1e150, 1e150}, {3.5355339059327376e-76, 3.5355339059327376e-76}},
    } do
      assert(exact(c[2], c[1].stddev, 8))
    end
    assert(exact(1.25e-151, D.Beta(1e150, 1e150).variance, 8))
    assert(exact({-921.0340371976183, 0}, D.Categorical{1e-200, 1e200}.log_probs, 8))
    assert(exact(4.705170185988091e-19, D.Bernoulli(1e-20):entropy(), 8))
    assert(exact(1.7418252446695515e-16, D.Bernoulli(nil, {logits = 40}):entropy(), 8))
    for _, f in ipairs{
      function(k, r, x) return D.Gamma(k, r):log_prob(x) end,
      function(a, b, x) return D.Beta(a, b + 14):log_prob(x / 40) end,
      function(a) return D.Gamma(a, 2):entropy() end,
      function(a, b) return D.Beta(a, b):entropy() end,
      function(a, b) return D.Categorical(mg.stack{a, b}):log_prob(1) end,
    } do
      local ok, message = helper.differentiable(f, {mg.tensor{2.5, 15.9, 16.1, 30},
        mg.tensor{0.5, 1.9, 2.1, 20}, mg.tensor{3, 9, 7.5, 2}}, 1e-6)
      assert(ok, message)
    end
  end)

  it("divergences of what is alike", function()
    local near = 1 + 2.0 ^ -20
    for _, c in ipairs{
      {D.Normal(0, 1), D.Normal(0, near), 9.0949325617189274e-13},
      {D.Normal(0, 1), D.Normal(2.0 ^ -30, 1), 2.0 ^ -61},
      {D.Normal(0, 1e-200), D.Normal(0, 1), 460.01701859880914},
      {D.Laplace(0, 1), D.Laplace(0, near), 4.5474677264592584e-13},
      {D.Laplace(0, 1), D.Laplace(2.0 ^ -30, 1), 2.0 ^ -61 * (1 - 2.0 ^ -30 / 3)},
      {D.Exponential(1), D.Exponential(near), 4.5474706176609158e-13},
      {D.Poisson(1), D.Poisson(near), 4.5474706176609158e-13},
      {D.Poisson(0), D.Poisson(3), 3}, {D.Poisson(3), D.Poisson(0), math.huge},
      {D.Gamma(1, 1), D.Gamma(1, near), 4.5474706176609158e-13},
      {D.Bernoulli(0.25), D.Bernoulli(0.25 + 2.0 ^ -20), 2.4253150928044054e-12},
      {D.Gamma(5, 1), D.Gamma(5 * near, 1), 2.5161498136636171e-12},
      {D.Gamma(500, 1), D.Gamma(500 * near, 1), 2.2760112827618921e-10},
      {D.Gamma(0.125, 1), D.Gamma(near / 8, 1), 4.6461034262706547e-13},
      {D.Beta(2, 3), D.Beta(2 * near, 3), 7.7054371140964952e-13, 2e-10},
      {D.Dirichlet{2, 7}, D.Dirichlet{2 * near, 7}, 9.5937467266641995e-13, 2e-10},
      {D.Categorical{0.25, 0.75}, D.Categorical{0.25 + 2.0 ^ -20, 0.75 - 2.0 ^ -20},
        2.4253150928044054e-12, 2e-10},
      {D.Categorical{0, 1}, D.Categorical{0.5, 0.5}, 0.6931471805599453},
      {D.Categorical{0, 1}, D.Categorical{0, 1}, 0},
      {D.Categorical{0.5, 0.5}, D.Categorical{0, 1}, math.huge},
      {D.Bernoulli(nil, {logits = 1}), D.Bernoulli(nil, {logits = near}), 8.9408742659806667e-14},
      {D.Categorical(nil, {logits = {1, 2, 3}}), D.Categorical(nil, {logits = {1, 2, 3 * near}}),
        9.114311101823938e-13},
      {D.Categorical(nil, {logits = {0, 1, 2}}), D.Categorical(nil, {logits = {100, 101, 102}}), 0},
      {D.Uniform(0, 1), D.Uniform(0, near), 9.5367386165918823e-7},
      {D.Laplace(0, 1e-12), D.Laplace(1, 1), 27.631021115928548},
      {D.MultivariateNormal(mg.zeros(2), {scale_tril = mg.eye(2)}), D.MultivariateNormal(
        mg.zeros(2), {scale_tril = {{near, 0}, {0, 1}}}), 9.0949325617189275e-13, 2e-9},
      {D.Bernoulli(0), D.Bernoulli(0.5), 0.6931471805599453},
      {D.Bernoulli(1), D.Bernoulli(0.5), 0.6931471805599453},
      {D.Bernoulli(0.5), D.Bernoulli(1), math.huge},
    } do
      assert(helper.near(D.kl(c[1], c[2]), c[3], c[4] or 24 * 2.0 ^ -52, 0))
      assert.equal(0, D.kl(c[1], c[1]):item())
    end
    for _, f in ipairs{
      function(a, b, x, y) return D.kl(D.Normal(a, x), D.Normal(b, y)) end,
      function(a, b, x, y) return D.kl(D.Laplace(a, x), D.Laplace(b, y)) end,
      function(a, b) return D.kl(D.Poisson(a), D.Poisson(b)) end,
      function(a, b, x, y) return D.kl(D.Gamma(x, a), D.Gamma(y, b)) end,
      function(a, b) return D.kl(D.Bernoulli(a / 4), D.Bernoulli(b / 4)) end,
      function(a, b)
        return D.kl(D.Bernoulli(nil, {logits = a}), D.Bernoulli(nil, {logits = b}))
      end,
      function(a, b)
        return D.kl(D.Categorical(nil, {logits = mg.stack({a, b}, 2)}),
          D.Categorical(nil, {logits = mg.stack({b, a}, 2)}))
      end,
      function(a, b, x) return D.kl(D.Uniform(0, a), D.Uniform(-x, a + b)) end,
      function(a, b, x, y) return D.kl(D.Gamma(a, x), D.Gamma(b, y)) end,
      function(a, b, x, y) return D.kl(D.Beta(a, x), D.Beta(b, y)) end,
      function(a, b) return D.kl(D.Dirichlet(a), D.Dirichlet(b)) end,
      function(a, b) return D.kl(D.Categorical(a), D.Categorical(b)) end,
    } do
      local ok, message = helper.differentiable(f, {mg.tensor{1, 1, 1, 2, 0.5, 3},
        mg.tensor{1.01, 1.29, 1.31, 1.45, 0.51, 0.1}, mg.tensor{2, 2, 2, 1, 4, 0.3},
        mg.tensor{2.5, 2, 2.01, 1.45, 0.51, 0.4}}, 1e-6)
      assert(ok, message)
    end
  end)
end)
