-- Random numbers: counted, so that the same ones come for any cut of the work; and their laws.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises

describe("random numbers", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(42) end)

  it("start again with the seed, go on with the state", function()
    local a, b = mg.rand(5), mg.rand(5)
    assert.is_false(mg.equal(a, b))
    mg.seed(42)
    assert(same(mg.rand(5), a))
    local state = mg.get_rng_state()
    local c = mg.randn(1000)
    mg.rand(17)
    mg.set_rng_state(state)
    assert(same(mg.randn(1000), c))
    mg.seed(43)
    assert.is_false(mg.equal(mg.rand(5), a))
    assert(raises("set_rng_state: expected what get_rng_state gave", mg.set_rng_state, 1))
  end)

  it("are the known ones: Philox 4x32-10 of counter and key", function()
    mg.seed(0)
    local w = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}  -- Random123, known answer of zeros
    local x = mg.rand(2):totable()
    for i = 1, 2 do
      local word = w[2 * i - 1] | w[2 * i] << 32
      assert.equal((word >> 11) * 2.0 ^ -53, x[i])
    end
    mg.seed(0)
    for i, v in ipairs(mg.rand{4, dtype = "float32"}:totable()) do
      assert.equal((w[i] >> 8) * 2.0 ^ -24, v)
    end
  end)

  it("are the same whole or in parts, and for any number of threads", function()
    for _, dtype in ipairs{"float64", "float32"} do
      mg.seed(7)
      local whole, parts = mg.rand{100000, dtype = dtype}, {}
      mg.seed(7)
      if dtype == "float64" then
        for i = 1, 10 do parts[i] = mg.rand(10000) end
        assert(same(mg.cat(parts), whole))
      end
      local threads = mg.num_threads()
      finally(function() mg.set_num_threads(threads) end)
      for _, n in ipairs{1, 2, 4} do
        mg.set_num_threads(n)
        mg.seed(7)
        assert(same(mg.rand{100000, dtype = dtype} * 1, whole))
      end
    end
    mg.seed(7)
    local small = mg.rand(6)
    mg.seed(7)
    assert(same(mg.rand(5000)[{{1, 6}}], small))
  end)

  it("do not change when read again", function()
    local x = mg.rand(5000)
    local y = x + 1
    assert(same(y - 1, x + 1 - 1))
    assert(same(x * 1, x))
  end)

  -- Within five deviations of what is expected: one seed, so it holds always or never.
  local function has_moments(x, mean, variance)
    local n = x.size
    assert.is_true(math.abs(x:mean():item() - mean) < 5 * math.sqrt(variance / n))
    assert(near(x:var():item() / variance, 1, 10 / math.sqrt(n)))
  end

  it("rand is uniform in [0, 1)", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local x = mg.rand{200000, dtype = dtype}:to("float64")
      has_moments(x, 1 / 2, 1 / 12)
      assert.is_true(x:min():item() >= 0 and x:max():item() < 1)
      for tenth = 0, 9 do
        local share = (x * 10):floor():eq(tenth):mean():item()
        assert.is_true(math.abs(share - 0.1) < 0.004)
      end
      has_moments(x[{{1, 199999}}] * x[{{2, 200000}}], 1 / 4, 1 / 9 - 1 / 16)
    end
  end)

  it("randn is normal", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local x = mg.randn{200000, dtype = dtype}
      assert.equal(dtype, x.dtype)
      x = x:to("float64")
      has_moments(x, 0, 1)
      has_moments(x ^ 3, 0, 15)
      assert(near(x:abs():lt(1):mean(), 0.6827, 0.01))
      assert.is_true(x:isinf():logical_or(x:isnan()):any():item() == false)
    end
  end)

  it("randint has both ends, as math.random", function()
    local x = mg.randint(-2, 3, {60000})
    assert.equal("int64", x.dtype)
    assert.equal(-2, x:min():item())
    assert.equal(3, x:max():item())
    for v = -2, 3 do assert(near(x:eq(v):mean(), 1 / 6, 0.05)) end
    assert(exact(mg.randint(5, 5, {2, 2}), {{5, 5}, {5, 5}}))
    assert.same({}, mg.randint(1, 6).shape)
    assert(raises("randint: 3..2 holds no number", mg.randint, 3, 2, {1}))
    assert(raises("randint: low must be a whole number, not 1.5", mg.randint, 1.5, 2, {1}))
  end)

  it("bernoulli refuses what is no probability", function()
    for _, p in ipairs{2, -0.1, 0 / 0} do
      assert(raises("bernoulli: p ", mg.bernoulli, p, {3}))
      assert(raises("bernoulli: a probability is not in 0..1", mg.bernoulli, mg.tensor{0.5, p}))
    end
  end)

  it("randperm is a permutation, any of them", function()
    local p = mg.randperm(1000)
    assert(same(p:sort(), mg.range(1, 1000, {dtype = "int64"})))
    assert.is_false(mg.equal(p, mg.randperm(1000)))
    local counts = {}
    for _ = 1, 3000 do
      local key = table.concat(mg.randperm(3):totable())
      counts[key] = (counts[key] or 0) + 1
    end
    local kinds = 0
    for _, n in pairs(counts) do
      kinds = kinds + 1
      assert.is_true(n > 400 and n < 600)
    end
    assert.equal(6, kinds)
    assert.same({0}, mg.randperm(0).shape)
    assert(exact(mg.randperm(1), {1}))
  end)

  it("bernoulli is 1 with probability p", function()
    assert(near(mg.bernoulli(0.3, {50000}):mean(), 0.3, 0.03))
    assert(exact(mg.bernoulli(0, {100}):sum(), 0))
    assert(exact(mg.bernoulli(1, {100}):sum(), 100))
    assert(exact(mg.bernoulli(mg.tensor{0, 1, 0, 1}), {0, 1, 0, 1}))
    assert.equal("int64", mg.bernoulli(0.5, {3}).dtype)
  end)

  it("dropout drops the same in backward, scales the rest", function()
    local x = mg.Variable(mg.ones(20000))
    for _, lean in ipairs{false, true} do
      mg.using_config("lean", lean, function()
        local y = mg.dropout(x, 0.25)
        local sum = (y * y):sum()
        sum:backward()
      end)
      local kept = x.grad:ne(0)
      assert(near(kept:mean(), 0.75, 0.03))
      assert(same(x.grad, kept:to("float64") * (2 * (1 / 0.75) * (1 / 0.75))))
      x:cleargrad()
    end
    local y = mg.dropout(x, 0.25)
    y:backward()
    assert(same(x.grad, y))
  end)

  it("dropout does nothing outside of training, nor with p = 0", function()
    local x = mg.Variable{1, 2, 3}
    assert.is_true(mg.test_mode(mg.dropout, x, 0.9) == x)
    assert.is_true(mg.dropout(x, 0) == x)
    assert(exact(mg.dropout(x, 1), {0, 0, 0}))
    assert(raises("dropout: p must be a number in 0..1, got 2", mg.dropout, x, 2))
  end)

  it("are not lost to an allocation that failed and was made again", function()
    for _, n in ipairs{40, 4000} do
      mg.seed(3)
      local want = mg.tensor(mg.rand(n):totable())
      for at = 1, 4 do
        mg.seed(3)
        mg._fail_at(at)
        local ok, x = pcall(mg.rand, n)
        mg._fail_at(0)
        assert(ok, x)
        assert(same(x, want))
      end
    end
  end)

  it("refuse other dtypes", function()
    assert(raises("rand: dtype must be float64 or float32, not int64", mg.rand,
      {2, dtype = "int64"}))
    assert(raises('randn: dtype must be "float64" or "float32", got "bool"', mg.randn,
      {2, dtype = "bool"}))
  end)
end)
