-- interpolate: PyTorch's numbers, derivatives to second order, what is refused; Upsample.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, raises, same = helper.near, helper.exact, helper.raises, helper.same

local function sample() return mg.tensor{{{{1, 2, 4}, {3, -1, 0}}}} end

describe("interpolate", function()
  helper.guard(before_each, after_each)

  it("gives PyTorch's numbers", function()
    local x = sample()
    assert(exact(mg.interpolate(x, {size = {3, 5}}),
      {{{{1, 1, 2, 2, 4}, {1, 1, 2, 2, 4}, {3, 3, -1, -1, 0}}}}))
    assert(near(mg.interpolate(x, {size = {3, 5}, mode = "bilinear"}),
      {{{{1, 1.4, 2, 3.2, 4}, {2, 1.4, 0.5, 1.4, 2}, {3, 1.4, -1, -0.4, 0}}}}, 1e-15))
    assert(near(mg.interpolate(x,
      {scale_factor = {1.5, 2}, mode = "bilinear", align_corners = true}),
      {{{{1, 1.4, 1.8, 2.4, 3.2, 4}, {2, 1.4, 0.8, 0.8, 1.4, 2},
        {3, 1.4, -0.2, -0.8, -0.4, 0}}}}, 1e-14))
    assert(exact(mg.interpolate(x, {size = {2, 4}, mode = "bicubic"}),
      {{{{0.92822265625, 1.419921875, 2.83056640625, 4.1435546875},
        {3.287109375, 0.33154296875, -1.0791015625, 0.07177734375}}}}, 4))
    assert(near(mg.interpolate(x[1], {size = 5, mode = "linear"}),
      {{{1, 1.4, 2, 3.2, 4}, {3, 1.4, -1, -0.4, 0}}}, 1e-15))
  end)

  it("nearest repeats, or leaves out, exactly", function()
    local x = mg.range(1, 6):reshape(1, 1, 6)
    assert(exact(mg.interpolate(x, {scale_factor = 3})[{1, 1}],
      {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}))
    assert(exact(mg.interpolate(x, {scale_factor = 0.5})[{1, 1}], {1, 3, 5}))
    assert(exact(mg.interpolate(x, {size = 4})[{1, 1}], {1, 2, 4, 5}))
    for n = 1, 40 do
      local y = mg.interpolate(mg.range(1, n):reshape(1, 1, n), {size = 3 * n})
      assert(same(y:reshape(n, 3), mg.range(1, n):reshape(n, 1):expand(n, 3)))
    end
  end)

  it("a scale that leaves an axis as long moves nothing along it, as in PyTorch", function()
    local x = sample()
    for _, mode in ipairs{"nearest", "bilinear"} do
      assert(exact(mg.interpolate(x, {scale_factor = {1.4, 1.00001}, mode = mode}), x))
    end
    assert(exact(mg.interpolate(x[1], {scale_factor = 1.3, mode = "linear"}), x[1]))
    assert(exact(mg.interpolate(x, {scale_factor = {1, 2.05}}),
      {{{{1, 1, 2, 2, 4, 4}, {3, 3, -1, -1, 0, 0}}}}))
    assert(near(mg.interpolate(mg.tensor{{{1, 2, 4, 8}}}, {scale_factor = 1.3, mode = "linear"}),
      {{{1, 43 / 26, 37 / 13, 62 / 13, 102 / 13}}}, 1e-14))
  end)

  it("keeps the dtype, and empty batches", function()
    for _, mode in ipairs{"nearest", "bilinear", "bicubic"} do
      local y = mg.interpolate(mg.zeros{0, 2, 3, 4, dtype = "float32"}, {size = 5, mode = mode})
      assert.equal("float32", y.dtype)
      assert.same({0, 2, 5, 5}, y.shape)
    end
  end)

  it("has first and second derivatives", function()
    for _, options in ipairs{{size = {5, 2}}, {scale_factor = 2, mode = "bilinear"},
      {size = {5, 3}, mode = "bilinear", align_corners = true}, {size = 4, mode = "bicubic"}} do
      assert(helper.differentiable(function(x) return mg.interpolate(x:sin(), options) end,
        {mg.randn(1, 2, 3, 3)}))
    end
  end)

  it("refuses what has no meaning", function()
    local x = sample()
    assert(raises("interpolate: either size or scale_factor must be given", mg.interpolate, x))
    assert(raises("interpolate: either size or scale_factor must be given", mg.interpolate, x,
      {size = 2, scale_factor = 2}))
    assert(raises("interpolate: size has 3 numbers, x has 2 axes behind (N, C)", mg.interpolate, x,
      {size = {1, 2, 3}}))
    assert(raises("interpolate: x has shape (1, 1, 2, 3); nearest is of", mg.interpolate, x,
      {size = 2, mode = "linear"}))
    assert(raises("interpolate: align_corners has no meaning with nearest", mg.interpolate, x,
      {size = 2, align_corners = true}))
    assert(raises("interpolate: x (1, 1, 2, 3) has nothing to give along axis 3", mg.interpolate, x,
      {scale_factor = 0.4}))
    assert(raises("interpolate: scale_factor[1] = -1 is negative", mg.interpolate, x,
      {scale_factor = {-1, 1}}))
    for _, much in ipairs{{size = 1 << 53}, {scale_factor = 1e15}, {size = 1 << 60}} do
      assert(raises("elements along axis 3 are too many", mg.interpolate, x, much)) -- at once
    end
  end)

  it("Upsample does the same", function()
    local x = mg.rand(2, 3, 4, 5)
    assert(same(mg.nn.Upsample{scale_factor = 2}(x), mg.interpolate(x, {scale_factor = 2})))
    assert(same(mg.nn.Upsample({7, 6}, {mode = "bilinear", align_corners = true})(x),
      mg.interpolate(x, {size = {7, 6}, mode = "bilinear", align_corners = true})))
    assert.equal("Upsample({7, 6}, nearest)", tostring(mg.nn.Upsample{7, 6}))
    assert(raises("Upsample: either size or scale_factor must be given", mg.nn.Upsample))
  end)
end)
