-- Transforms of colours and of parts of pictures, and mixtures of two: what is random stays within
-- what was said, what is not is exact.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local data = mg.data

local function int(t) return mg.tensor(t, "int64") end
local function range(x) return x:min():item(), x:max():item() end

describe("transforms", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(7) end)

  local x = mg.rand(300, 3, 6, 5)
  local grey = x[{ {}, 1 }] * 0.299 + x[{ {}, 2 }] * 0.587 + x[{ {}, 3 }] * 0.114

  it("take colours away", function()
    assert(near(data.Grayscale()(x)[{ {}, 1 }], grey))
    local three = data.Grayscale(3)(x)
    assert.same({300, 3, 6, 5}, three.shape)
    assert(near(three[{ {}, 3 }], grey))
    local some = data.RandomGrayscale(0.25)(x)
    local changed = (some - x):abs():amax{axis = {2, 3, 4}}:gt(0)
    local n = changed:sum():item()
    assert(n > 50 and n < 100, n)
    assert(near(some[changed], three[changed]))
    assert(raises("Grayscale: expected 1 or 3 channels, got 2", data.Grayscale(),
      x[{ {}, {1, 2} }]))
  end)

  it("jitter colours by what was said", function()
    assert(helper.same(data.ColorJitter{}(x), x))
    local dim = x * 0.4 + 0.3                                -- so that nothing leaves 0..1
    local low, high = range(data.ColorJitter{brightness = {0.5, 1.25}}(dim) / dim)
    assert(low >= 0.5 - 1e-9 and low < 0.52 and high <= 1.25 + 1e-9 and high > 1.23)
    local means = data.Grayscale()(dim):mean{axis = {2, 3, 4}, keepdims = true}
    low, high = range((data.ColorJitter{contrast = 0.2}(dim) - means) / (dim - means))
    assert(low >= 0.8 - 1e-9 and low < 0.82 and high <= 1.2 + 1e-9 and high > 1.18)
    local own = data.Grayscale()(dim)
    local more = data.ColorJitter{saturation = 0.2}(dim)
    assert(near(data.Grayscale()(more), own))
    low, high = range((more - own):norm{axis = 2} / (dim - own):norm{axis = 2})
    assert(low >= 0.8 - 1e-9 and low < 0.82 and high <= 1.2 + 1e-9 and high > 1.18)
    local turned = data.ColorJitter{hue = 0.05}(dim)
    assert(near(data.Grayscale()(turned), own))
    local moved = (turned - dim):abs():amax{axis = {2, 3, 4}}:gt(1e-3):sum():item()
    assert(moved > 270, moved)
    assert(near(data.ColorJitter{hue = 1e-12}(dim), dim, 1e-9))
    low, high = range(data.ColorJitter{brightness = 1, contrast = 1, saturation = 1, hue = 0.5}(x))
    assert(low >= 0 and high <= 1)
    assert(raises("ColorJitter: contrast must be a number or {low, high}", data.ColorJitter,
      {contrast = {1, 0.5}}))
  end)

  it("erase rectangles of a share and a shape", function()
    local ones = mg.ones(500, 2, 12, 16)
    local y = data.RandomErasing(0.5, {scale = {0.1, 0.3}, ratio = {0.5, 2}, value = 7})(ones)
    local hit = y:eq(7)
    assert(near(hit[{ {}, 1 }]:sum(), hit[{ {}, 2 }]:sum()))
    local area, n = hit[{ {}, 1 }]:sum{axis = {2, 3}}:totable(), 0
    local rows = hit[{ {}, 1 }]:any(3):sum(2):totable()
    local columns = hit[{ {}, 1 }]:any(2):sum(2):totable()
    for i, a in ipairs(area) do
      if a > 0 then
        n = n + 1
        assert.equal(rows[i] * columns[i], a)
        assert(a >= 0.05 * 192 and a <= 0.36 * 192, a)
        assert(rows[i] / columns[i] > 0.35 and rows[i] / columns[i] < 2.8)
      end
    end
    assert(n > 200 and n < 300, n)
    assert(raises("RandomErasing: scale must be {low, high}, both positive", data.RandomErasing, 1,
      {scale = {0.5, 0.1}}))
  end)

  it("move pictures as matrices say", function()
    assert(near(data.RandomAffine(0)(x), x))
    local y = data.RandomAffine(0, {translate = {0.4, 0}})(mg.ones(300, 1, 4, 10))
    assert(near(y[{ {}, {}, 1 }], y[{ {}, {}, 4 }]))            -- not up or down
    local lost = 1 - y:mean{axis = {2, 3, 4}}
    local low, high = range(lost)
    assert(low < 0.02 and high > 0.3 and high <= 0.41)
    local ring = mg.full({300, 1, 9, 9}, 1)
    local far = data.RandomAffine(0, {scale = {0.5, 0.5}})(ring)
    assert(near(far[{1, 1}], far[{2, 1}]))
    assert(near(far[{1, 1, 5, 5}], 1))
    assert(near(far[{1, 1, 1, 1}], 0))
    local turned = data.RandomAffine(45)(x)
    local rotated = (turned - x):abs():amax{axis = {2, 3, 4}}
    assert.is_true(rotated:min():item() > 0)
    assert(raises("RandomAffine: scale must be {low, high}", data.RandomAffine, 3,
      {scale = {0, 1}}))
  end)

  it("crop parts and make them of one size", function()
    local whole = data.RandomResizedCrop({6, 5}, {scale = {1, 1}, ratio = {1.2, 1.2}})
    assert(near(whole(x), x))
    local ramp = mg.linspace(0, 1, 20):expand(200, 1, 20, 20)
    local y = data.RandomResizedCrop(4, {scale = {0.25, 0.25}, ratio = {1, 1}})(ramp)
    assert.same({200, 1, 4, 4}, y.shape)
    local width = y[{ {}, 1, 1, 4 }] - y[{ {}, 1, 1, 1 }]      -- 3/4 of half the picture
    assert(near(width, mg.full({200}, 7.5 / 19), 1e-9))
    local low, high = range(y)
    assert(low < 0.1 and high > 0.9)
  end)

  it("find the elements of pictures beyond the whole numbers of float32", function()
    local w = 6000000
    local stripes = (mg.range(1, w, {dtype = "float32"}) % 2):expand(1, 1, 3, w)
    local crop = data.RandomResizedCrop({3, 6}, {scale = {1, 1}, ratio = {3 / w, 3 / w}})
    for _, transform in ipairs{crop, data.Resize{3, 6}} do
      assert(helper.exact(transform(stripes)[{1, 1}], mg.full({3, 6}, 0.5):totable()))
    end
  end)

  it("keep the dtype, and draw from the loader's seed", function()
    local pictures = x:to "float32"
    local chain = {data.ColorJitter{brightness = 0.2, hue = 0.1}, data.RandomErasing(0.5),
                   data.RandomAffine(10), data.RandomResizedCrop(4), data.RandomGrayscale(0.5)}
    local ds = data.TensorDataset(pictures, mg.range(1, 300))
    local function first()
      local loader = data.DataLoader(ds, {batch_size = 50, transform = chain, seed = 3})
      return (loader:batches()())
    end
    local a = first()
    assert.equal("float32", a.dtype)
    mg.rand(10)
    assert(helper.same(a, first()))
  end)

  it("give one result", function()
    local ds = data.TensorDataset(x, mg.range(1, 300))
    local function first(transform)
      return data.DataLoader(ds, {batch_size = 50, transform = transform}):batches()()
    end
    assert(raises("DataLoader: transform 2 gave 2 results: it is given a batch's first value",
      first, {data.ColorJitter{}, function(v, t) return v, t end}))
    assert(raises("DataLoader: transform 1 gave nothing", first, {function() end}))
    assert(raises("MixUp: expected x (N, ...) and labels", first, {data.MixUp{classes = 3}}))
  end)

  it("mix pictures and labels alike", function()
    local t = int{1, 2, 3, 1}
    local four = mg.stack{mg.full({1, 4, 4}, 1), mg.full({1, 4, 4}, 2), mg.full({1, 4, 4}, 3),
                          mg.full({1, 4, 4}, 1)}
    for _, mix in ipairs{data.MixUp{alpha = 1, classes = 3}, data.CutMix{alpha = 1, classes = 3}} do
      local seen = 0
      for _ = 1, 20 do
        local y, p = mix(four, t)
        assert(near(p:sum(2), mg.ones(4)))
        -- a class is as bright as its number: the label's mean is the picture's
        assert(near((p * mg.range(1, 3)):sum(2), y:mean{axis = {2, 3, 4}}))
        seen = seen + (p:amax(2):lt(0.999):any():item() and 1 or 0)
      end
      assert(seen > 5)
      assert(near(select(2, mix(four, t:one_hot(3):to "float64")):sum(2), mg.ones(4)))
    end
    assert.equal("float32", select(2, data.MixUp{classes = 3}(four:to "float32", t)).dtype)
    assert(raises("MixUp: labels need the number of classes", data.MixUp(), four, t))
    assert(raises("CutMix: expected x (N, ...) and labels (N)", data.CutMix{classes = 3}, four,
      int{1, 2}))
  end)
end)
