-- Pictures: channels made pixels, neighbouring channels, and grids, with PyTorch's numbers.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises, differentiable = helper.near, helper.raises, helper.differentiable

-- What was given to PyTorch: sines
local function sines(...) return (mg.range(1, mg.ones(...).size) * 1.3):sin():reshape(...) end

local PYTORCH = {
  lrn = {{1.75720774024715, 0.919455974272506, -1.29536371037592, -1.55202870619638},
    {0.37544175672729, 1.75764134144892, 0.557187274945172, -1.45305826747328},
    {-1.33622979837281, 0.734155078562718, 1.7365549357664, 0.188000862460757},
    {-1.63347645149706, -1.05860831521952, 1.05985393585916, 1.63288944480786},
    {-0.189541680608835, -1.73681207938257, -0.732742126828073, 1.33724841068501},
    {1.54274950060266, -0.578855823035445, -1.79316659920724, -0.401784021268736}},
  lrn2 = {2.89019917728045, 0.645190632601146, -2.28501820631205, -2.78666576737258,
    -0.325792132665053, 2.48133071072032},
  affine = {{{-0.583333333333333, -0.383333333333333}, {-0.05, -0.65}, {0.483333333333333,
    -0.916666666666667}}, {{-0.283333333333333, 0.516666666666667}, {0.25, 0.25},
    {0.783333333333333, -0.0166666666666667}}},
  affine_c = {{-1.0, -0.7}, {-0.2, -1.1}, {0.6, -1.5}},
  grid_bilinear_zeros_False = {{-0.546873845588046, -0.0850546871167326, 0.0}, {0.111427882998364,
    -0.483847412575014, 0.0}},
  grid_bilinear_zeros_True = {{-0.625939138258536, -0.13909555142251, 0.436740485437676},
    {-0.237433303658756, -0.548729700301578, 0.475534687452835}},
  grid_bilinear_border_False = {{-0.863485019349547, -0.193306107083483, 0.92879523407724},
    {0.146615635524163, -0.483847412575014, 0.769207921823508}},
  grid_bilinear_border_True = {{-0.625939138258536, -0.144891199398448, 0.818888410195643},
    {-0.237433303658756, -0.548729700301578, 0.76699143137554}},
  grid_bilinear_reflection_False = {{-0.863485019349547, -0.193306107083483, 0.895547877357713},
    {0.146615635524163, -0.483847412575014, 0.761557436447075}},
  grid_bilinear_reflection_True = {{-0.625939138258536, -0.169945343188215, 0.605069889501775},
    {-0.237433303658756, -0.548729700301578, 0.326563200641041}},
  grid_nearest_zeros_False = {{-0.92912401273437, 0.0, 0.0}, {-0.319939961884198,
    -0.998495030663815, 0.0}},
  grid_nearest_zeros_True = {{-0.92912401273437, -0.604832822406284, 0.92879523407724},
    {-0.319939961884198, -0.419360916073231, 0.762558450479603}},
  grid_nearest_border_False = {{-0.92912401273437, -0.604832822406284, 0.92879523407724},
    {-0.319939961884198, -0.998495030663815, 0.762558450479603}},
  grid_nearest_border_True = {{-0.92912401273437, -0.604832822406284, 0.92879523407724},
    {-0.319939961884198, -0.419360916073231, 0.762558450479603}},
  grid_nearest_reflection_False = {{-0.92912401273437, -0.604832822406284, 0.92879523407724},
    {-0.319939961884198, -0.998495030663815, 0.762558450479603}},
  grid_nearest_reflection_True = {{-0.92912401273437, -0.604832822406284, 0.92879523407724},
    {-0.319939961884198, -0.419360916073231, 0.762558450479603}},
}

describe("pixel_shuffle and its kin", function()
  helper.guard(before_each, after_each)

  it("move elements to their places and back", function()
    local x = mg.range(1, 48):reshape(2, 4, 2, 3)
    local y = x:pixel_shuffle(2)
    assert.same({2, 1, 4, 6}, y.shape)
    for i = 0, 1 do                           -- element (h r + i, w r + j) is of channel (i, j)
      for j = 0, 1 do
        assert(near(y[{ {}, 1, {1 + i, 4, 2}, {1 + j, 6, 2} }], x[{ {}, 2 * i + j + 1 }]))
      end
    end
    assert(near(y:pixel_unshuffle(2), x))
    assert(near(x[1]:pixel_shuffle(2), y[1]))
    local shuffled = mg.range(1, 6):reshape(1, 6, 1):channel_shuffle(2)
    assert(near(shuffled:flatten(), {1, 4, 2, 5, 3, 6}))
    assert(differentiable(function(v) return v:pixel_shuffle(2):square() end, {x * 0.1}))
    assert(near(mg.nn.PixelUnshuffle(2)(mg.nn.PixelShuffle(2)(x)), x))
    for _, r in ipairs{1 << 32, 1 << 62} do
      assert(raises("pixel_shuffle: x must be (..., C r^2, H, W) with r = ", mg.pixel_shuffle,
        mg.ones(4, 2, 2), r))
      assert(raises("pixel_unshuffle: x must be (..., C, H r, W r) with r = ", mg.pixel_unshuffle,
        mg.ones(4, 0, 0), r))
    end
    assert(raises("pixel_shuffle: x must be (..., C r^2, H, W) with r = 3, got shape (2, 4, 2, 3)",
      x.pixel_shuffle, x, 3))
    assert(raises("channel_shuffle: x must be (N, C, ...), C a multiple of 3", x.channel_shuffle, x,
      3))
  end)
end)

describe("local_response_norm", function()
  helper.guard(before_each, after_each)

  it("is PyTorch's, for windows of either parity", function()
    local x = sines(1, 6, 4) * 3
    local y = mg.local_response_norm(x, 3, {alpha = 0.1, beta = 0.6, k = 2})
    assert(near(y[1], PYTORCH.lrn, 1e-13))
    assert(near(mg.local_response_norm(x, 4)[{1, {}, 1}], PYTORCH.lrn2, 1e-13))
    assert(near(mg.nn.LocalResponseNorm(4)(x)[{1, {}, 1}], PYTORCH.lrn2, 1e-13))
    assert(differentiable(function(v) return mg.local_response_norm(v, 2, {alpha = 1}) end,
      {sines(2, 3, 2, 2)}))
    assert(raises("local_response_norm: x must be (N, C, ...)", mg.local_response_norm, {1}, 2))
  end)
end)

describe("grids", function()
  helper.guard(before_each, after_each)

  local theta = mg.tensor{{{0.8, 0.3, 0.1}, {-0.4, 0.9, -0.2}}}
  local x = sines(1, 2, 3, 4)

  it("are where a matrix takes them", function()
    assert(near(mg.affine_grid(theta, {1, 2, 2, 3})[1], PYTORCH.affine, 1e-14))
    assert(near(mg.affine_grid(theta, {1, 2, 2, 3}, {align_corners = true})[{1, 1}],
      PYTORCH.affine_c, 1e-14))
    assert(near(mg.affine_grid(theta, {1, 1, 1, 1}), {{{{0.1, -0.2}}}}))
  end)

  it("give what PyTorch sees through them", function()
    local grid = mg.affine_grid(theta, {1, 2, 2, 3}) * 1.6
    for _, mode in ipairs{"bilinear", "nearest"} do
      for _, padding in ipairs{"zeros", "border", "reflection"} do
        for name, corners in pairs{False = false, True = true} do
          local y = mg.grid_sample(x, grid,
            {mode = mode, padding_mode = padding, align_corners = corners})
          assert.same({1, 2, 2, 3}, y.shape)
          assert(near(y[{1, 2}], PYTORCH[("grid_%s_%s_%s"):format(mode, padding, name)], 1e-12))
        end
      end
    end
  end)

  it("round halves and end at the border as PyTorch", function()
    local v = mg.range(1, 12):reshape(1, 1, 3, 4)
    local places = {{{{-1, -1}, {1, 1}, {0, 0}, {0.5, 1}, {-0.25, -1 / 3}}}}
    assert(near(mg.grid_sample(v, places, {mode = "nearest", padding_mode = "border"}),
      {{{{1, 12, 7, 11, 2}}}}, 0))
    assert(near(mg.grid_sample(v, places, {mode = "nearest", align_corners = true}),
      {{{{1, 12, 7, 11, 6}}}}, 0))
    for padding, last in pairs{border = 0, reflection = -1.5} do
      local grid = mg.Variable{{{{-1, -1}, {1, 0.25}, {0.1, 0}, {-0.5, 1}, {2, 0.3}}}}
      mg.grid_sample(v, grid, {padding_mode = padding, align_corners = true}):sum():backward()
      assert(near(grid.grad, {{{{0, 0}, {0, 4}, {1.5, 4}, {1.5, 0}, {last, 4}}}}, 1e-12))
    end
  end)

  it("find every element of a picture that has more of them than float32 has whole numbers",
    function()
      local n = 4100
      local large = mg.zeros{1, 1, n, n, dtype = "float32"}
      large[{1, 1, n, n - 1}] = 7
      local grid = mg.tensor({{{{(2 * n - 3) / n - 1, (2 * n - 1) / n - 1}}}}, "float32")
      assert.equal(7, mg.grid_sample(large, grid, {mode = "nearest"}):item())
      assert(near(mg.grid_sample(large, grid), {{{{7}}}}, 1e-3))
    end)

  it("turn nothing where they are the picture's own", function()
    local same = mg.affine_grid({{{1, 0, 0}, {0, 1, 0}}}, {1, 2, 3, 4}, {align_corners = true})
    assert(near(mg.grid_sample(x, same, {align_corners = true}), x, 1e-12))
  end)

  it("have their derivatives, of the picture, the grid and the matrix", function()
    for _, padding in ipairs{"zeros", "border", "reflection"} do
      assert(differentiable(function(v, t)
        local grid = mg.affine_grid(t, {1, 2, 2, 3}) * 1.1
        return mg.grid_sample(v, grid, {padding_mode = padding})
      end, {x, theta}))
    end
    local grid = mg.Variable(mg.affine_grid(theta, {1, 2, 2, 3}))
    mg.grid_sample(mg.Variable(x), grid, {mode = "nearest"}):sum():backward()
    assert.is_true(grid.grad == nil or grid.grad:abs():max():item() == 0)
  end)

  it("refuse what does not fit", function()
    assert(raises("affine_grid: theta (1, 2, 3), size (1, 2, 2): expected", mg.affine_grid, theta,
      {1, 2, 2}))
    assert(raises("grid_sample: x (1, 2, 3, 4), grid (1, 2, 3): expected", mg.grid_sample, x,
      mg.ones(1, 2, 3)))
  end)
end)
