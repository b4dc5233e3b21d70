-- Three axes: pooling and transposed convolution of blocks, with PyTorch's numbers.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises, differentiable = helper.near, helper.raises, helper.differentiable
local nn, huge, nan = mg.nn, math.huge, 0 / 0

local function sines(...) return (mg.range(1, mg.ones(...).size) * 1.3):sin():reshape(...) end

-- Shape, sum, and sum of element i times sin(i)
local PYTORCH = {
  max = {{2, 2, 3, 6, 2}, 125.052151785909, -0.950267123294049},
  max_ceil = {{2, 2, 3, 3, 4}, 129.251293874229, 1.46289352315109},
  avg = {{2, 2, 3, 6, 3}, -0.0167295057086185, -0.0876849787570551},
  avg_inside = {{2, 2, 3, 6, 3}, -0.113709655577722, 0.61235461100542},
  avg_by_5 = {{2, 2, 3, 6, 3}, 0.0664894375424747, 0.0888631719795556},
  adaptive_avg = {{2, 2, 2, 3, 4}, -0.000274495315628958, 0.0001942264247981},
  adaptive_max = {{2, 2, 2, 3, 4}, 94.6010249203229, 1.74117846526343},
  transpose = {{2, 3, 9, 6, 21}, 13607.5309288706, -0.708169851043889},
}

local function is(name, y)
  local want = PYTORCH[name]
  assert.equal(table.concat(want[1], ", "), table.concat(y.shape, ", "))
  local weights = mg.range(1, y.size):sin()
  assert(near({y:sum():item(), (y:reshape(y.size) * weights):sum():item()}, {want[2], want[3]},
    1e-11))
end

describe("blocks", function()
  helper.guard(before_each, after_each)

  local x = sines(2, 2, 5, 6, 7)
  local windows = {stride = {2, 1, 3}, padding = {1, 1, 0}}

  local function with(more)
    for k, v in pairs(windows) do more[k] = v end
    return more
  end

  it("are pooled as PyTorch does", function()
    is("max", mg.max_pool3d(x, {2, 3, 2}, with{dilation = {2, 1, 2}}))
    is("max_ceil", mg.max_pool3d(x, 2, {ceil_mode = true}))
    is("avg", mg.avg_pool3d(x, {2, 3, 2}, with{ceil_mode = true}))
    is("avg_inside", mg.avg_pool3d(x, {2, 3, 2},
      with{ceil_mode = true, count_include_pad = false}))
    is("avg_by_5", mg.avg_pool3d(x, {2, 3, 2}, with{ceil_mode = true, divisor_override = 5}))
    is("adaptive_avg", mg.adaptive_avg_pool3d(x, {2, 3, 4}))
    is("adaptive_max", mg.adaptive_max_pool3d(x, {2, 3, 4}))
    is("max_ceil", nn.MaxPool3d(2, {ceil_mode = true})(x))
    is("adaptive_avg", nn.AdaptiveAvgPool3d{2, 3, 4}(x))
    assert(near(nn.AvgPool3d(2)(x[1]), mg.avg_pool3d(x, 2)[1]))
    assert.equal("AvgPool3d({2}, stride = {1}, divisor_override = 3)",
      tostring(nn.AvgPool3d(2, {stride = 1, divisor_override = 3})))
  end)

  it("have windows in which nan wins, and derivatives", function()
    local y = mg.Variable{{{{nan, 1}, {2, -huge}}, {{5, 0}, {3, 4}}}}
    assert(near(mg.max_pool3d(y, 2), {{{{nan}}}}))
    assert(near(mg.max_pool3d(y, {1, 2, 2}), {{{{nan}}, {{5}}}}))
    local small = sines(1, 2, 3, 4, 4)
    for _, f in ipairs{
      function(v) return mg.max_pool3d(v, 2, {stride = 1}):square() end,
      function(v) return mg.avg_pool3d(v, 2, {padding = 1}):square() end,
      function(v) return mg.adaptive_avg_pool3d(v, 2):square() end,
      function(v) return mg.adaptive_max_pool3d(v, {1, 2, 3}):square() end,
    } do
      assert(differentiable(f, {small}))
    end
  end)

  it("go through a transposed convolution", function()
    local w, b = sines(2, 3, 2, 1, 3), mg.tensor{1, 2, 3}
    local options = {stride = {2, 1, 3}, padding = {1, 0, 1}, output_padding = {1, 0, 2},
      dilation = {1, 2, 1}}
    is("transpose", mg.conv_transpose3d(x, w, b, options))
    assert(near(mg.conv_transpose3d(x[1], w, b, options), mg.conv_transpose3d(x, w, b, options)[1],
      1e-12))
    assert(differentiable(function(v, k, c) return mg.conv_transpose3d(v, k, c, {stride = 2}) end,
      {sines(1, 2, 2, 2, 3), w, b}))
    local layer = nn.ConvTranspose3d(2, 4, 3, {stride = 2, padding = 1, groups = 2})
    assert.same({2, 2, 3, 3, 3}, layer.weight.shape)
    local y = layer(sines(1, 2, 3, 3, 3))
    assert(near(nn.Conv3d(2, 4, 3).weight.shape, {4, 2, 3, 3, 3}))
    assert.same({1, 4, 5, 5, 5}, y.shape)
  end)

  it("refuse what does not fit", function()
    assert(raises("max_pool3d: x must be (N, C, D, H, W) or (C, D, H, W), got shape (2, 2)",
      mg.max_pool3d, mg.ones(2, 2), 2))
    assert(raises("avg_pool3d: kernel has 2 numbers, expected one or three", mg.avg_pool3d, x,
      {2, 2}))
    assert(raises("max_pool3d: padding 2 is more than half of kernel 2", mg.max_pool3d, x, 2,
      {padding = 2}))
    assert(raises("conv_transpose3d: x (2, 2, 5, 6, 7) and weight (3, 1, 2, 2, 2) do not fit",
      mg.conv_transpose3d, x, mg.ones(3, 1, 2, 2, 2)))
    assert(raises("conv_transpose3d: output_padding 2 must be below stride 2 or dilation 1",
      mg.conv_transpose3d, x, mg.ones(2, 1, 2, 2, 2), nil, {stride = 2, output_padding = 2}))
    assert(raises("conv_transpose3d: padding 9 leaves nothing of the depth", mg.conv_transpose3d,
      x, mg.ones(2, 1, 2, 2, 2), nil, {padding = 9}))
  end)
end)
