-- Pooling: which elements a window sees, what it makes of nan, infinities and padding, and the
-- derivatives.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, raises, same = helper.near, helper.exact, helper.raises, helper.same
local inf, nan = math.huge, 0 / 0

-- A plane by plain loops. What is not there counts for nothing, but in averages `count` of it does.
local function plane(x, h, w, o, kind)
  local rows = {}
  for i = 1, o.to[1] do
    rows[i] = {}
    for j = 1, o.to[2] do
      local top, left = (i - 1) * o.stride[1] - o.padding[1], (j - 1) * o.stride[2] - o.padding[2]
      local best, sum, n, all = -inf, 0, 0, 0
      for a = 0, o.kernel[1] - 1 do
        for b = 0, o.kernel[2] - 1 do
          local r, c = top + a * o.dilation[1], left + b * o.dilation[2]
          if r < h + o.padding[1] and c < w + o.padding[2] then all = all + 1 end
          if r >= 0 and r < h and c >= 0 and c < w then
            local v = x[r * w + c + 1]
            n, sum = n + 1, sum + v
            if v > best or v ~= v then best = v end
          end
        end
      end
      local by = o.divisor or o.count and all or n
      rows[i][j] = kind == "max" and best or n == 0 and 0 or sum / by
    end
  end
  return rows
end

-- How many windows: all that fit, and one more if they round up and it begins before the padding.
local function places(n, k, s, p, d, ceil)
  local room = n + 2 * p - (k - 1) * d - 1
  local last = room // s
  if ceil and last * s < room and (last + 1) * s < n + p then last = last + 1 end
  return last + 1
end

local SPECIAL = {nan, -inf, inf, -0.0, 1e300}

local function trial(kind, dtype, special)
  local function upto(n) return math.random(n) end
  local o = {kernel = {upto(4), upto(4)}, stride = {upto(3), upto(3)}, dilation = {1, 1}}
  o.padding = {upto(o.kernel[1] // 2 + 1) - 1, upto(o.kernel[2] // 2 + 1) - 1}
  if kind == "max" then o.dilation = {upto(2), upto(2)} end
  local ceil, h, w = upto(2) == 1, 7 + upto(20), 7 + upto(40)
  o.to = {}
  for k, n in ipairs{h, w} do
    o.to[k] = places(n, o.kernel[k], o.stride[k], o.padding[k], o.dilation[k], ceil)
  end
  local options = {stride = o.stride, padding = o.padding, ceil_mode = ceil}
  if kind == "max" then
    options.dilation = o.dilation
  else
    o.divisor = upto(3) == 1 and upto(9) or nil
    o.count = o.divisor ~= nil or upto(2) == 1
    options.count_include_pad, options.divisor_override = o.count, o.divisor
  end
  local x, want = {}, {}
  for p = 1, 2 do
    x[p] = {}
    for i = 1, h * w do
      x[p][i] = special and upto(4) == 1 and SPECIAL[upto(dtype == "float64" and 5 or 4)]
        or upto(2001) / 64 - 16
    end
    want[p] = plane(x[p], h, w, o, kind)
  end
  local y = mg[kind .. "_pool2d"](mg.tensor(x, dtype):reshape(2, h, w), o.kernel, options)
  return y, want
end

describe("pooling", function()
  helper.guard(before_each, after_each)

  for _, kind in ipairs{"max", "avg"} do
    for _, dtype in ipairs{"float64", "float32"} do
      it(kind .. " is what plain loops find, in " .. dtype, function()
        math.randomseed(7)
        for _ = 1, 60 do
          local y, want = trial(kind, dtype, false)
          assert.equal(dtype, y.dtype)
          assert(near(y, want, dtype == "float64" and 1e-14 or 1e-6))
        end
      end)
    end
  end

  it("max finds nan, infinities and zeros as plain loops do", function()
    math.randomseed(8)
    for _ = 1, 60 do
      local y, want = trial("max", "float64", true)
      assert(exact(y, want))
    end
  end)

  it("max of windows of only nan, -inf or padding", function()
    local function of(...) return mg.max_pool1d(mg.tensor{{...}}, 2) end
    assert(exact(of(nan, nan, -inf, -inf, 1, nan, -inf, 3), {{nan, -inf, nan, 3}}))
    local x = mg.Variable(mg.full({1, 6}, -inf))
    local y = mg.max_pool1d(x, 3, {padding = 1, stride = 2})
    assert(exact(y, {{-inf, -inf, -inf}}))
    y:sum():backward()
    assert(exact(x.grad, {{1, 1, 0, 1, 0, 0}}))       -- the first of equals
    x = mg.Variable{{nan, 1, nan, 2}}
    mg.max_pool1d(x, 4):backward()
    assert(exact(x.grad, {{0, 0, 1, 0}}))             -- the last nan, as PyTorch's
    x = mg.Variable(mg.ones(1, 1))                    -- all taps of both windows pass x by
    y = mg.max_pool1d(x, 2, {dilation = 2, padding = 1})
    assert(exact(y, {{-inf}}))
    y:sum():backward()
    assert(exact(x.grad, {{0}}))
  end)

  it("gives PyTorch's numbers", function()
    local x = mg.Variable(mg.range(0, 34):mod(11):reshape(1, 1, 5, 7))
    assert(exact(mg.max_pool2d(x, 2, {ceil_mode = true}),
      {{{{8, 10, 5, 6}, {10, 6, 8, 9}, {7, 9, 10, 1}}}}))
    assert(near(mg.avg_pool2d(x, 3, {stride = 2, padding = 1, ceil_mode = true}),
      {{{{1.7778, 3.6667, 2.5556, 1.5556}, {3.5556, 5, 4.5556, 3.2222},
        {2.5556, 3, 3.1111, 1.1111}}}}, 1e-4))
    assert(exact(mg.avg_pool2d(x, 2, {padding = 1, ceil_mode = true, count_include_pad = false}),
      {{{{0, 1.5, 3.5, 5.5}, {5, 6.5, 5.75, 5}, {8, 4, 6, 2.5}}}}))
    assert(near(mg.adaptive_avg_pool2d(x, {2, 3}),
      {{{{4.3333, 5.1111, 4.6667}, {4.8889, 5.6667, 5.2222}}}}, 1e-4))
    local y = mg.max_pool2d(x, 3, {stride = 2, padding = 1})
    y.grad = mg.range(1, 12):reshape(1, 1, 3, 4)
    y:backward()
    assert(exact(x.grad, {{{{0, 0, 0, 0, 0, 0, 4}, {0, 1, 0, 18, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 8},
      {14, 0, 0, 0, 0, 0, 12}, {0, 0, 0, 10, 11, 0, 0}}}}))
  end)

  it("takes x without a batch, and of no rows", function()
    local x = mg.rand(2, 3, 6, 8)
    for _, op in ipairs{"max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d"} do
      local y = mg[op](x, 2)
      assert(same(mg[op](x[2], 2), y[2]))
      assert.same({0, y.shape[2], y.shape[3], y.shape[4]}, mg[op](mg.zeros(0, 3, 6, 8), 2).shape)
      assert(same(x[op](x, 2), y))
    end
    x = mg.rand(2, 3, 9)
    for _, op in ipairs{"max_pool1d", "avg_pool1d", "adaptive_max_pool1d", "adaptive_avg_pool1d"} do
      local none = mg.Variable(mg.zeros(2, 0, 9))
      local pooled = none[op](none, 2)
      assert.same({2, 0, mg[op](x, 2).shape[3]}, pooled.shape)
      pooled:sum():backward()
      assert.same({2, 0, 9}, none.grad.shape)
      local y = mg[op](x, 2)
      assert(same(mg[op](x[1], 2), y[1]))
      local wide = mg[op:gsub("1d", "2d")](x:reshape(2, 3, 1, 9), {1, 2})
      assert(same(wide:reshape(y.shape), y))
    end
  end)

  it("shares an axis out in windows that may overlap", function()
    local x = mg.range(1, 7):reshape(1, 7)
    assert(exact(mg.adaptive_avg_pool1d(x, 3), {{2, 4, 6}}))     -- 1..3, 3..5, 5..7
    assert(exact(mg.adaptive_max_pool1d(x, 3), {{3, 5, 7}}))
    assert(exact(mg.adaptive_avg_pool1d(x, 1), {{4}}))
    assert(exact(mg.adaptive_max_pool1d(x[{ {}, {1, 2} }], 5), {{1, 1, 2, 2, 2}}))
    x = mg.rand(2, 3, 5, 7)
    assert(near(mg.adaptive_avg_pool2d(x, 1), x:mean{axis = {3, 4}, keepdims = true}, 1e-15))
    assert(same(mg.adaptive_max_pool2d(x, {5, 7}), x))
  end)

  it("keeps places of large windows", function()
    local x = mg.Variable(mg.randn(2, 40, 40))
    for _, y in ipairs{mg.max_pool2d(x, 20), mg.adaptive_max_pool2d(x, 2)} do
      x:cleargrad()
      y:sum():backward()
      assert.equal(8, x.grad:sum():item())
      assert(near((x.grad * x):sum(), y:sum():item(), 1e-14))
    end
  end)

  local TRIALS = {
    {"max_pool2d", {1, 2, 5, 6}, 2},
    {"max_pool2d", {2, 7, 26}, 3, {stride = 2, padding = 1, ceil_mode = true}},
    {"max_pool2d", {1, 6, 7}, {2, 3}, {stride = 1, dilation = 2}},
    {"max_pool1d", {2, 1, 11}, 3, {stride = 2}},
    {"avg_pool2d", {1, 2, 5, 6}, 2},
    {"avg_pool2d", {2, 7, 26}, 3, {stride = 2, padding = 1, ceil_mode = true}},
    {"avg_pool2d", {1, 7, 9}, 3, {stride = 1, padding = 1, count_include_pad = false}},
    {"avg_pool2d", {1, 7, 9}, 3, {stride = 2, padding = 1, divisor_override = 2}},
    {"avg_pool1d", {2, 1, 11}, 4, {stride = 3, padding = 2}},
    {"adaptive_avg_pool2d", {1, 2, 5, 7}, {2, 3}},
    {"adaptive_avg_pool1d", {2, 1, 5}, 7},
    {"adaptive_max_pool2d", {1, 2, 5, 7}, {2, 3}},
    {"adaptive_max_pool1d", {2, 1, 9}, 4},
  }

  it("has first and second derivatives", function()
    for _, t in ipairs(TRIALS) do
      local op, shape, kernel, options = table.unpack(t, 1, 4)
      local x = mg.randperm(mg.zeros(shape).size):to("float64"):reshape(shape) / 8
      local function f(v) return mg[op](v:sin() * 3, kernel, options) end
      assert(helper.differentiable(f, {x}))
    end
  end)

  it("gives the same bits for any number of threads", function()
    local before = mg.num_threads()
    for _, t in ipairs(TRIALS) do
      local op, _, kernel, options = table.unpack(t, 1, 4)
      local results = {}
      for k, n in ipairs{1, 2, 5} do
        mg.set_num_threads(n)
        mg.seed(3)
        local last = op:find "1d" and {997} or {33, 41}
        local x = mg.Variable(mg.randn{9, 31, last[1], last[2], dtype = "float32"})
        if #last == 1 then x = mg.Variable(x:reshape(9, 31, 997)) end
        local y = mg[op](x, kernel, options)
        local g = mg.gradients((y * y):sum(), {x}, {create_graph = true})
        local gg = mg.gradients((g[1] * g[1] * x):sum(), {x})
        results[k] = {y, g[1], gg[1]}
      end
      mg.set_num_threads(before)
      for i = 1, 3 do
        assert(same(results[1][i], results[2][i]))
        assert(same(results[1][i], results[3][i]))
      end
    end
  end)

  it("keeps a byte for each window, and only where a gradient wants it", function()
    local x, window = mg.Variable(mg.rand{4, 8, 64, 64, dtype = "float32"}), 4 * 8 * 32 * 32
    mg.eval(x)
    for bytes, pool in pairs{[5] = mg.max_pool2d, [4] = function(...)
      return mg.no_grad(mg.max_pool2d, ...)
    end} do
      collectgarbage()
      local live = mg.memory().live
      local y <close> = pool(x, 2)
      mg.eval(y)
      assert.is_true(mg.memory().live - live < (bytes + 0.5) * window)
    end
  end)

  it("refuses what makes no windows", function()
    local x = mg.zeros(1, 1, 4, 4)
    assert(raises("max_pool2d: padding 2 is more than half of kernel 3", mg.max_pool2d, x, 3,
      {padding = 2}))
    assert(raises("avg_pool2d: x (1, 1, 4, 4) is smaller than a window of 5 along axis 4",
      mg.avg_pool2d, x, {4, 5}))
    assert(raises("max_pool2d: x (1, 1, 4, 4) is smaller than a window of 5 along axis 3",
      mg.max_pool2d, x, 3, {dilation = 2}))
    assert(raises("max_pool2d: x must be (N, C, H, W) or (C, H, W), got shape (2, 3)",
      mg.max_pool2d, mg.zeros(2, 3), 2))
    assert(raises("avg_pool1d: x must be (N, C, L) or (C, L), got shape (1, 1, 4, 4)",
      mg.avg_pool1d, x, 2))
    assert(raises("max_pool2d: kernel must be at least 1, got 0", mg.max_pool2d, x, 0))
    assert(raises("max_pool2d: stride[2] must be at least 1, got 0", mg.max_pool2d, x, 2,
      {stride = {1, 0}}))
    assert(raises("avg_pool2d: unknown option dilation", mg.avg_pool2d, x, 2, {dilation = 2}))
    assert(raises("adaptive_avg_pool2d: x has shape (1, 1, 0, 4)", mg.adaptive_avg_pool2d,
      mg.zeros(1, 1, 0, 4), 2))
    assert(raises("adaptive_max_pool2d: n must be at least 1", mg.adaptive_max_pool2d, x, 0))
  end)

  it("layers do what their ops do", function()
    local nn, x, line = mg.nn, mg.rand(2, 3, 9, 8), mg.rand(2, 3, 12)
    assert(same(nn.MaxPool2d(2)(x), x:max_pool2d(2)))
    assert(same(nn.MaxPool2d({3, 2}, {stride = 1, padding = {1, 0}, ceil_mode = true})(x),
      x:max_pool2d({3, 2}, {stride = 1, padding = {1, 0}, ceil_mode = true})))
    assert(same(nn.MaxPool1d(3, {dilation = 2})(line), line:max_pool1d(3, {dilation = 2})))
    assert(same(nn.AvgPool2d(3, {padding = 1, divisor_override = 5})(x),
      x:avg_pool2d(3, {padding = 1, divisor_override = 5})))
    assert(same(nn.AvgPool1d(3, {padding = 1, count_include_pad = false})(line),
      line:avg_pool1d(3, {padding = 1, count_include_pad = false})))
    assert(same(nn.AdaptiveAvgPool2d{4, 1}(x), x:adaptive_avg_pool2d{4, 1}))
    assert(same(nn.AdaptiveMaxPool2d(2)(x), x:adaptive_max_pool2d(2)))
    assert(same(nn.AdaptiveAvgPool1d(5)(line), line:adaptive_avg_pool1d(5)))
    assert(same(nn.AdaptiveMaxPool1d(5)(line), line:adaptive_max_pool1d(5)))
    assert.equal("MaxPool2d({3, 2})", tostring(nn.MaxPool2d{3, 2}))
    assert.same({}, nn.MaxPool2d(2):state())
    assert(raises("MaxPool2d: kernel_size must be at least 1, got 0", nn.MaxPool2d, 0))
    assert(raises("AvgPool1d: unknown option divisor_override", nn.AvgPool1d, 2,
      {divisor_override = 2}))
  end)
end)
