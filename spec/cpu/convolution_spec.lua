-- Convolutions beside plain loops, their gradients to second order, edges, errors, bits and memory.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, same, raises = helper.near, helper.same, helper.raises

-- ---- plain Lua --------------------------------------------------------------------------------

local function flat(x) return x:reshape(x.size):totable() end

-- Calls f with all places of so many axes, from 0, the last fastest.
local function each_place(dims, f)
  local at, n = {}, 1
  for i, d in ipairs(dims) do at[i], n = 0, n * d end
  for _ = 1, n do
    f(at)
    for i = #dims, 1, -1 do
      at[i] = at[i] + 1
      if at[i] < dims[i] then break end
      at[i] = 0
    end
  end
end

local function index(dims, lead, at)
  local i = lead
  for k, d in ipairs(dims) do i = i * d + at[k] end
  return i + 1
end

local function spatial(x) return table.move(x.shape, 3, x.ndim, 1, {}) end

local function one_each(v, n)
  if type(v) == "table" then return v end
  local t = {}
  for i = 1, n do t[i] = v or 1 end
  return t
end

-- Calls f(place in x, place in w, place in y) for every product of a convolution; y's sizes.
local function products(x, w, o, f)
  local sizes, kernel = spatial(x), spatial(w)
  local n = #sizes
  local stride, dilation = one_each(o.stride, n), one_each(o.dilation, n)
  local padding, groups, out = one_each(o.padding or 0, n), o.groups or 1, {}
  for i = 1, n do
    out[i] = (sizes[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
  end
  local channels, outputs, each = x.shape[2], w.shape[1], w.shape[2]
  each_place({x.shape[1], outputs, each}, function(lead)
    local image, row, c = lead[1], lead[2], lead[3]
    local from = image * channels + row // (outputs // groups) * each + c
    each_place(out, function(to)
      each_place(kernel, function(tap)
        local at = {}
        for i = 1, n do
          at[i] = to[i] * stride[i] + tap[i] * dilation[i] - padding[i]
          if at[i] < 0 or at[i] >= sizes[i] then return end
        end
        f(index(sizes, from, at), index(kernel, row * each + c, tap),
          index(out, image * outputs + row, to))
      end)
    end)
  end)
  table.move(out, 1, n, 3, out)
  out[1], out[2] = x.shape[1], outputs
  return out
end

local function zeros(n)
  local t = {}
  for i = 1, n do t[i] = 0.0 end
  return t
end

-- y, the gradients of x and w where y's is g (a function of y's shape)
local function plain(x, w, o, g)
  local X, W, Y, GX, GW = flat(x), flat(w), {}, zeros(x.size), zeros(w.size)
  local dims = products(x, w, o, function(i, j, k) Y[k] = (Y[k] or 0.0) + X[i] * W[j] end)
  local size = 1
  for _, d in ipairs(dims) do size = size * d end
  for k = 1, size do Y[k] = Y[k] or 0.0 end
  g = g(dims)
  local G = flat(g)
  products(x, w, o, function(i, j, k)
    GX[i] = GX[i] + G[k] * W[j]
    GW[j] = GW[j] + G[k] * X[i]
  end)
  local function of(t, shape) return mg.tensor(t):reshape(shape) end
  return of(Y, dims), of(GX, x.shape), of(GW, w.shape), g
end

-- ---- trials -----------------------------------------------------------------------------------

local CONV = {mg.conv1d, mg.conv2d, mg.conv3d}
local TRANSPOSE = {mg.conv_transpose1d, mg.conv_transpose2d, mg.conv_transpose3d}

-- x's and w's dims, options
local CASES = {
  {{2, 3, 11}, {4, 3, 3}, {}},
  {{1, 2, 40}, {3, 2, 5}, {stride = 3, padding = 4}},
  {{2, 4, 9}, {6, 2, 2}, {groups = 2, dilation = 3}},
  {{2, 3, 7, 9}, {8, 3, 3, 3}, {padding = 1}},
  {{1, 1, 20, 33}, {5, 1, 4, 3}, {padding = {2, 0}, stride = {1, 2}}},
  {{2, 4, 8, 8}, {4, 2, 3, 3}, {groups = 2, stride = 2, padding = 1}},
  {{1, 3, 10, 12}, {3, 1, 3, 3}, {groups = 3, dilation = {2, 3}, padding = {3, 1}}},
  {{2, 13, 6, 5}, {7, 13, 1, 1}, {}},
  {{2, 13, 6, 5}, {7, 13, 1, 1}, {stride = 2}},
  {{3, 2, 5, 5}, {2, 2, 5, 5}, {}},
  {{1, 2, 9, 10}, {3, 2, 2, 2}, {stride = {3, 4}}},
  {{9, 3, 4, 4}, {5, 3, 3, 3}, {padding = 1}},                   -- lines shorter than a vector
  {{17, 2, 5, 3}, {2, 2, 2, 2}, {stride = 2, padding = {1, 0}}},
  {{16, 3, 10, 6}, {4, 3, 4, 1}, {padding = 1, stride = {1, 2}}},
  {{2, 5, 12, 12}, {3, 5, 1, 1}, {stride = 3}},                  -- a tap that skips elements
  {{1, 20, 30, 30}, {1, 20, 3, 3}, {padding = 1}},               -- channels in chunks
  {{1, 3, 300}, {2, 3, 7}, {padding = 3}},
  {{1, 2, 5, 6, 7}, {4, 2, 2, 3, 2}, {stride = {2, 1, 3}, padding = {1, 1, 0}}},
  {{2, 4, 3, 4, 9}, {2, 2, 3, 1, 3}, {groups = 2, dilation = {1, 2, 2}, padding = {0, 0, 2}}},
}

local function numbers(dims, dtype) return mg.randn(dims):to(dtype or "float64") end

local function gradients(f, xs, g) return mg.gradients((f(table.unpack(xs)) * g):sum(), xs) end

describe("a convolution", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(1) end)

  for _, dtype in ipairs{"float64", "float32"} do
    local tol = dtype == "float64" and 1e-12 or 2e-5

    it("and its gradients are what plain loops give, in " .. dtype, function()
      for _, case in ipairs(CASES) do
        local x, w, o = numbers(case[1], dtype), numbers(case[2], dtype), case[3]
        local y, gx, gw, g = plain(x, w, o, function(d) return numbers(d, dtype):to "float64" end)
        local function f(a, b) return CONV[x.ndim - 2](a, b, nil, o) end
        assert(near(f(x, w), y, tol))
        local got = gradients(f, {mg.Variable(x), mg.Variable(w)}, g:to(dtype))
        assert(near(got[1], gx, tol))
        assert(near(got[2], gw, tol))
        assert.equal(dtype, got[1].dtype)
      end
    end)

    it("transposed and its gradients are what plain loops give, in " .. dtype, function()
      for _, case in ipairs(CASES) do
        local x, w, o = numbers(case[1]), numbers(case[2], dtype), case[3]
        local _, gx, _, g = plain(x, w:to "float64", o, function(d) return numbers(d) end)
        local rank, out, back, more = x.ndim - 2, spatial(g), spatial(x), {}
        local s, p = one_each(o.stride, rank), one_each(o.padding or 0, rank)
        local d, k = one_each(o.dilation, rank), spatial(w)
        for i = 1, rank do
          more[i] = back[i] - ((out[i] - 1) * s[i] - 2 * p[i] + d[i] * (k[i] - 1) + 1)
        end
        local options = {stride = s, padding = p, dilation = d, groups = o.groups,
          output_padding = more}
        local function f(a, b) return TRANSPOSE[rank](a, b, nil, options) end
        local a, b = mg.Variable(g:to(dtype)), mg.Variable(w)
        assert(near(f(a, b), gx, tol))
        local y, _, gw = plain(x, w:to "float64", o, function() return g end)
        local got = gradients(f, {a, b}, x:to(dtype))
        assert(near(got[1], y, tol))
        assert(near(got[2], gw, tol))
      end
    end)
  end

  it("adds a bias to each output, and takes inputs without a batch", function()
    for rank = 1, 3 do
      local dims = table.move({5, 6, 7}, 1, rank, 2, {2})
      local x, w, b = numbers(dims), numbers{4, 2, table.unpack({3, 3, 3}, 1, rank)}, numbers{4}
      local y = CONV[rank](x, w, b)
      assert(same(y, CONV[rank](x:unsqueeze(1), w, b)[1]))
      local rest = mg.conv1d(x:unsqueeze(1):reshape(1, 2, -1), mg.zeros(4, 2, 1), b)[1]
      assert(near(y - CONV[rank](x, w), mg.broadcast_to(rest[{{}, {1, 1}}]:reshape(4,
        table.unpack({1, 1, 1}, 1, rank)), y.shape), 1e-12, 1e-12))
    end
    local x, w, b = numbers{2, 5}, numbers{2, 3, 4}, numbers{3}
    assert(same(mg.conv_transpose1d(x, w, b), mg.conv_transpose1d(x:unsqueeze(1), w, b)[1]))
  end)

  it("with padding same gives as many as came in, the odd one padded behind", function()
    local x = numbers{1, 2, 7, 10}
    for _, k in ipairs{1, 2, 3, 4} do
      local w = numbers{3, 2, k, k}
      local y = mg.conv2d(x, w, nil, {padding = "same", dilation = {1, 2}})
      assert.same({1, 3, 7, 10}, y.shape)
      local before = {(k - 1) // 2, k - 1}
      local padded = x:pad{before[2], 2 * (k - 1) - before[2], before[1], k - 1 - before[1]}
      assert(near(y, mg.conv2d(padded, w, nil, {dilation = {1, 2}}), 1e-12, 1e-12))
    end
    assert(raises('conv2d: padding "same" is for stride 1 alone, got 2', mg.conv2d, x,
      numbers{3, 2, 3, 3}, nil, {padding = "same", stride = 2}))
  end)

  it("gives what PyTorch gives", function()
    local x = mg.range(0, 23):reshape(1, 2, 3, 4) / 10
    local w = (mg.range(0, 15) % 5 - 2):reshape(2, 2, 2, 2)
    assert(near(mg.conv2d(x, w, {0.5, -1}, {stride = {2, 1}, padding = 1, dilation = {1, 2}}),
      {{{{0.6, -0.5, -0.5, -0.9}, {-2.5, -2.3, -2.6, 0.7}},
      {{-3.7, -1.6, -1.9, 1.4}, {-3.4, -0.6, -0.5, 2}}}}, 1e-12))
    assert(near(mg.conv_transpose2d(x, w, {0.5, -1}, {stride = 2, padding = 1,
      output_padding = {1, 0}}), {{
        {{-0.7, -2.1, -0.7, -2.3, -0.7, -2.5}, {3.3, 1.2, 3.4, 1.1, 3.5, 1},
          {-0.7, -2.9, -0.7, -3.1, -0.7, -3.3}, {3.7, 0.8, 3.8, 0.7, 3.9, 0.6},
          {-0.7, -3.7, -0.7, -3.9, -0.7, -4.1}},
        {{-3.4, 1.5, -3.6, 1.6, -3.8, 1.7}, {-0.2, 0, -0.3, 0.2, -0.4, 0.4},
          {-4.2, 1.9, -4.4, 2, -4.6, 2.1}, {-0.6, 0.8, -0.7, 1, -0.8, 1.2},
          {-5, 2.3, -5.2, 2.4, -5.4, 2.5}}}}, 1e-12))
  end)

  it("has first and second derivatives in all of its operands", function()
    for _, case in ipairs(CASES) do
      local x, w, o = numbers(case[1]), numbers(case[2]), case[3]
      if x.size * w.size < 3000 then
        local b = numbers{w.shape[1]}
        assert(helper.differentiable(function(p, q, r)
          return CONV[p.ndim - 2](p, q, r, o)
        end, {x, w, b}))
      end
    end
    local o = {stride = {2, 3}, padding = 1, output_padding = {1, 2}, dilation = {2, 1}, groups = 2}
    assert(helper.differentiable(function(x, w, b) return mg.conv_transpose2d(x, w, b, o) end,
      {numbers{1, 4, 2, 2}, numbers{4, 1, 2, 2}, numbers{2}}))
  end)

  it("of nothing is nothing, and has zeros for gradients", function()
    local x, w = mg.Variable(mg.zeros(0, 3, 5, 5)), mg.Variable(numbers{4, 3, 2, 2})
    local y = mg.conv2d(x, w, mg.zeros(4))
    assert.same({0, 4, 4, 4}, y.shape)
    y:sum():backward()
    assert(same(x.grad, mg.zeros(0, 3, 5, 5)))
    assert(same(w.grad, mg.zeros(4, 3, 2, 2)))
    local t = mg.conv_transpose2d(x, mg.Variable(numbers{3, 4, 2, 2}))
    assert.same({0, 4, 6, 6}, t.shape)
    assert.same({2, 0, 4, 4}, mg.conv2d(mg.ones(2, 3, 5, 5), mg.zeros(0, 3, 2, 2)).shape)
    assert(same(mg.conv2d(mg.zeros(2, 0, 5, 5), mg.zeros(3, 0, 2, 2)), mg.zeros(2, 3, 4, 4)))
  end)

  it("lets a nan, or an infinity, reach only what it counts in", function()
    for _, bad in ipairs{0 / 0, math.huge} do
      for _, width in ipairs{9, 16, 19} do
        local x, o = numbers{2, 3, 6, width}, {padding = 1}
        x[{1, 2, 3, 4}] = bad
        local w, g = numbers{5, 3, 3, 3}, numbers{2, 5, 6, width}
        local y = mg.conv2d(x, w, nil, o)
        assert(same(y[2], mg.conv2d(x[{{2, 2}}], w, nil, o)[1]))
        local finite = y[1]:isfinite()
        assert.equal(5 * (6 * width - 9), finite:sum():item())
        local gw = mg._convolve_weight(x, g, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1)
        assert.equal(5 * 2 * 9, gw:isfinite():sum():item())
        -- at the right edge only taps that reach it
        local edge = numbers{1, 1, 6, width}
        edge[{1, 1, 3, width}] = bad
        local taps = mg._convolve_weight(edge, g[{{1, 1}, {1, 1}}], {3, 3}, {1, 1}, {1, 1}, {1, 1},
          1):isfinite()
        local first = {true, false, false}
        assert(same(taps, mg.tensor{{{first, first, first}}}))
      end
    end
  end)

  it("adds up as many products of float32 as a kernel has", function()
    local n = 200000
    local x, W = mg.full({1, 1, n}, 0.1, "float32"), mg.full({2, 1, n}, 1, "float32")
    assert(helper.near(mg.conv1d(x, W), mg.full({1, 2, 1}, n * x[{1, 1, 1}]:item()), 3e-5))
  end)

  it("has the same bits for any number of threads", function()
    local threads = mg.num_threads()
    finally(function() mg.set_num_threads(threads) end)
    for _, case in ipairs{
      {{9, 3, 30, 30}, {20, 3, 5, 5}, {}},
      {{1, 16, 40, 40}, {24, 16, 3, 3}, {padding = 1}},
      {{7, 8, 15, 15}, {8, 1, 3, 3}, {groups = 8, stride = 2}},
    } do
      local x, w, o = numbers(case[1], "float32"), numbers(case[2], "float32"), case[3]
      local want
      for _, n in ipairs{1, 2, 3, 4} do
        mg.set_num_threads(n)
        local a, b = mg.Variable(x), mg.Variable(w)
        local y = mg.conv2d(a, b, nil, o)
        local got = mg.gradients((y * y):sum(), {a, b})
        want = want or {y, table.unpack(got)}
        for i, v in ipairs{y, table.unpack(got)} do assert(same(v, want[i])) end
      end
    end
  end)

  it("says what does not fit", function()
    local x, w = mg.zeros(2, 4, 5, 5), mg.zeros(6, 4, 3, 3)
    local function says(text, f, ...) assert(raises(text, f, ...)) end
    says("conv2d: x has shape (5, 5), expected 3 axes, or 4 with a batch", mg.conv2d, x[1][1], w)
    says("conv2d: weight has shape (4, 3, 3), expected 4 axes", mg.conv2d, x, w[1])
    says("conv2d: x (2, 4, 5, 5) has 4 channels, weight (6, 3, 3, 3) is for 3", mg.conv2d, x,
      mg.zeros(6, 3, 3, 3))
    says("conv2d: groups 3 does not divide the 4 channels of x (2, 4, 5, 5)", mg.conv2d, x, w, nil,
      {groups = 3})
    says("conv2d: groups 4 does not divide the 6 outputs of weight (6, 1, 3, 3)", mg.conv2d, x,
      mg.zeros(6, 1, 3, 3), nil, {groups = 4})
    says("conv2d: x (2, 4, 5, 5) has 2 channels in a group, weight (6, 4, 3, 3) is for 4",
      mg.conv2d, x, w, nil, {groups = 2})
    says("conv2d: bias has shape (4), expected (6)", mg.conv2d, x, w, mg.zeros(4))
    says("conv2d: a kernel that reaches over (3, 7) does not fit a padded x of (5, 5)", mg.conv2d,
      x, w, nil, {dilation = {1, 3}})
    says("conv2d: the kernel of weight (6, 4, 0, 3) is empty", mg.conv2d, x, mg.zeros(6, 4, 0, 3))
    says("conv2d: stride", mg.conv2d, x, w, nil, {stride = 0})
    says("conv2d: padding", mg.conv2d, x, w, nil, {padding = -1})
    says("conv2d: dilation has 3 numbers, expected one or one for each of 2 axes", mg.conv2d, x, w,
      nil, {dilation = {1, 1, 1}})
    says('conv2d: padding must be', mg.conv2d, x, w, nil, {padding = "full"})
    says("conv2d: unknown option strides", mg.conv2d, x, w, nil, {strides = 2})
    says("conv1d: x has shape (2, 4, 5, 5), expected 2 axes, or 3 with a batch", mg.conv1d, x, w)
    says("conv_transpose2d: x (2, 4, 5, 5) has 4 channels, weight (6, 4, 3, 3) is for 6",
      mg.conv_transpose2d, x, w)
    says("conv_transpose2d: output_padding 2 must be below stride 2 or dilation 1",
      mg.conv_transpose2d, x, mg.zeros(4, 6, 3, 3), nil, {stride = 2, output_padding = 2})
    says("conv_transpose2d: padding 4 leaves nothing", mg.conv_transpose2d, x,
      mg.zeros(4, 6, 3, 3), nil, {padding = 4})
    says("im2col: kernel 6, dilated by 1, does not fit 5 padded by 0", mg.im2col, x, 6)
    says("col2im: columns have shape (2, 4, 5, 5), expected", mg.col2im, x, 5, 2)
    says("unfold: size 6 is larger than axis 3 of shape (2, 4, 5, 5)", x.unfold, x, 3, 6, 1)
  end)

  it("that finds no memory leaves nothing behind", function()
    local x, w = mg.Variable(numbers{2, 8, 20, 20}), mg.Variable(numbers{8, 8, 3, 3})
    local function step()
      local y = mg.conv2d(x, w, nil, {padding = 1, stride = 2})
      return mg.gradients(y:sum(), {x, w})
    end
    local want = step()
    local failed = 0
    for n = 1, 100 do
      mg._fail_at(n)
      local ok, got = pcall(step)
      mg._fail_at(0)
      if not ok then failed = failed + 1 end
      for i, g in ipairs(ok and got or step()) do assert(same(g, want[i])) end
    end
    assert.is_true(failed > 5 and failed < 100)
  end)
end)

describe("im2col", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(2) end)

  it("lays out what a product makes a convolution of, and col2im is its adjoint", function()
    for _, o in ipairs{{}, {stride = {2, 3}, padding = {1, 2}}, {dilation = {2, 1}, padding = 2}} do
      for _, dtype in ipairs{"float64", "float32"} do
        local x, w = numbers({2, 3, 7, 8}, dtype), numbers({4, 3, 2, 3}, dtype)
        local cols, y = mg.im2col(x, {2, 3}, o), mg.conv2d(x, w, nil, o)
        assert(near(w:reshape(4, 18):matmul(cols):reshape(y.shape), y, 1e-5, 1e-5))
        local c = numbers(cols.shape, dtype)
        local back = mg.col2im(c, {7, 8}, {2, 3}, o)
        assert(near((back * x):sum():item(), (c * cols):sum():item(), 1e-4, 1e-4))
        assert(same(mg.im2col(x[1], {2, 3}, o), cols[1]))
        assert(same(mg.col2im(c[1], {7, 8}, {2, 3}, o), back[1]))
      end
    end
  end)

  it("and col2im have first and second derivatives", function()
    local o = {stride = 2, padding = 1, dilation = 2}
    local x = numbers{2, 2, 5, 6}
    assert(helper.differentiable(function(v) return mg.im2col(v, 2, o) end, {x}))
    local cols = mg.im2col(x, 2, o)
    assert(helper.differentiable(function(v) return mg.col2im(v, {5, 6}, 2, o) end, {cols}))
  end)
end)

describe("unfold", function()
  helper.guard(before_each, after_each)

  it("copies nothing, along any axis, of any dtype", function()
    local x = mg.rand(50, 40, 30)
    mg.eval(x)
    local live = mg.memory().live
    local y = x:unfold(2, 7, 3)
    assert.same({50, 12, 30, 7}, y.shape)
    assert.is_true(mg.memory().live - live < 4096)
    for i = 1, 12 do
      assert(same(y[{{}, i}], x[{{}, {3 * i - 2, 3 * i + 4}}]:swapaxes(2, 3)))
    end
    assert(same(mg.tensor({true, false, true}):unfold(1, 2, 1),
      mg.tensor{{true, false}, {false, true}}))
    assert.same({4, 0}, mg.zeros(3):unfold(1, 0, 1).shape)
    assert(same(mg.full({5}, 2):unfold(-1, 2, 2), mg.full({2, 2}, 2)))
  end)

  it("has first and second derivatives, overlapping or apart", function()
    mg.seed(3)
    for _, o in ipairs{{1, 3, 1}, {2, 2, 3}, {-1, 4, 2}} do
      local x = mg.randn(4, 5, 6)
      assert(helper.differentiable(function(v) return v:unfold(table.unpack(o)) end, {x}))
    end
  end)
end)
