-- What stands where in order and how often; diagonals, masks.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises

local huge, nan = math.huge, 0 / 0

local function int(t) return mg.tensor(t, {dtype = "int64"}) end

describe("statistics", function()
  helper.guard(before_each, after_each)

  it("median is the lower of the middle two, with where it stands", function()
    assert.equal(2, mg.median{3, 1, 2}:item())
    assert.equal(2, mg.median{{4, 1}, {2, 3}}:item())
    local x = mg.tensor{{5, 1, 4, 2}, {0, 9, 3, 7}}
    local values, places = x:median(2)
    assert(exact(values, {2, 3}))
    assert(same(places, int{4, 3}))
    values, places = x:median(-1, {keepdims = true})
    assert.same({2, 1}, values.shape)
    assert.same({2, 1}, places.shape)
    assert(exact(x:median(1), {0, 1, 3, 2}))
    assert(same(int{3, 1, 2}:median(), mg.tensor(2, {dtype = "int64"})))
    assert(exact(mg.median{1, nan, 3}, nan))
    assert(exact(mg.median({{1, nan, 3}, {1, 2, 3}}, 2), {nan, 2}))
    assert.equal(7, mg.median(7):item())
    assert.equal(7, mg.median(7, 1):item())
    local v = mg.Variable{{5, 1, 4}, {0, 9, 3}}
    v:median(2):sum():backward()
    assert(exact(v.grad, {{0, 0, 1}, {0, 0, 1}}))
    assert(raises("median: nothing to choose from in shape (0)", mg.median, mg.zeros(0)))
  end)

  it("quantile goes between two elements in proportion", function()
    local x = mg.tensor{3, 1, 2, 5}
    assert(exact(x:quantile(0), 1))
    assert(exact(x:quantile(1), 5))
    assert(exact(x:quantile(0.5), 2.5))
    assert(near(x:quantile(0.9), 3 + 0.7 * 2, 1e-15))
    assert(near(x:quantile({0.25, 0.5}), {1.75, 2.5}, 1e-15))
    local m = mg.tensor{{1, 2, 3}, {30, 10, 20}}
    assert(exact(m:quantile(0.5, 2), {2, 20}))
    assert(exact(m:quantile({0, 0.5, 1}, 2), {{1, 10}, {2, 20}, {3, 30}}))
    assert.same({3, 2, 1}, m:quantile({0, 0.5, 1}, 2, {keepdims = true}).shape)
    assert(exact(m:quantile(0.25, 1), {8.25, 4, 7.25}))
    for _, q in ipairs{mg.tensor(0.45), mg.tensor{0.45, 0.9}} do     -- by the part as well
      assert(helper.differentiable(function(v, p) return v:quantile(p) end, {mg.randn(6), q}))
    end
    local line = mg.randn{5000, dtype = "float32"}
    for q = 0.1234, 0.99, 0.1 do                                     -- no other value for that
      assert.equal(line:quantile(q):item(), line:quantile(mg.Variable(q)):item())
    end
    assert.same({0, 2}, m:quantile(mg.zeros(0), 2).shape)
    local edge = mg.Variable(0.5)
    local middle = mg.tensor{1, 2, 1 / 0}:quantile(edge)
    assert(exact(middle, 2))
    assert.equal("float32", mg.rand{4, dtype = "float32"}:quantile(edge).dtype)
    assert(exact(mg.quantile({-huge, 1, huge}, 0.5), 1))
    assert(exact(mg.quantile({1, huge, huge}, 0.9), huge))
    assert(exact(mg.quantile({1, nan}, 0.2), nan))
    assert(exact(mg.quantile({0.1, 0.1, 0.1}, 0.3), 0.1))
    assert(exact(mg.quantile({-1.7e308, 1.7e308}, 0.5), 0))
    assert(exact(int{1, 2}:quantile(0.5), 1.5))
    assert(helper.differentiable(function(v) return v:quantile({0.1, 0.6}, 2) end,
      {mg.tensor{{3, 1, 2, 7}, {4, 9, 6, 5}}}))
    assert(raises("quantile: q is 1.5, not in 0..1", x.quantile, x, {1.5}))
    assert(raises("quantile: ", x.quantile, x, -0.1))
  end)

  it("unique sorts, and says where and how often", function()
    local x = mg.tensor{{3, 1, 3}, {2, 1, 3}}
    local values, inverse, counts = x:unique{return_inverse = true, return_counts = true}
    assert(exact(values, {1, 2, 3}))
    assert(same(inverse, int{{3, 1, 3}, {2, 1, 3}}))
    assert(same(counts, int{2, 1, 3}))
    assert(same(values[inverse], x))
    assert.equal(1, select("#", x:unique()))
    assert(same(select(2, x:unique{return_counts = true}), counts))
    assert(same(mg.unique(int{4, 4}), int{4}))
    assert(same(mg.tensor({true, false, true}):unique(), mg.tensor{false, true}))
    values, inverse, counts = mg.zeros(0):unique{return_inverse = true, return_counts = true}
    assert.same({0, 0, 0}, {values.size, inverse.size, counts.size})
    assert.equal(5, mg.unique(5)[1]:item())
    local many = mg.randint(1, 1000, {300, 300})
    values, inverse, counts = many:unique{return_inverse = true, return_counts = true}
    assert(same(values[inverse], many))
    assert.equal(many.size, counts:sum():item())
  end)

  it("bincount counts a value at its place", function()
    assert(same(mg.bincount(int{1, 3, 3, 5}), int{1, 0, 2, 0, 1}))
    assert(same(mg.bincount({1, 2}, {minlength = 4}), int{1, 1, 0, 0}))
    assert(same(mg.bincount(mg.zeros{0, dtype = "int64"}), mg.zeros{0, dtype = "int64"}))
    local w = mg.Variable{0.5, 1, 2}
    local y = mg.bincount(int{2, 2, 1}, {weights = w})
    assert(exact(y, {2, 1.5}))
    y[2]:backward()
    assert(exact(w.grad, {1, 1, 0}))
    assert(raises("bincount: value 0 at position 2 is below 1", mg.bincount, int{1, 0}))
    assert(raises("bincount: weights (2) and x (1) have different shapes", mg.bincount, int{1},
      {weights = mg.ones(2)}))
  end)

  it("histogram counts what lies in each bin, the upper edge in the last", function()
    local counts, edges = mg.histogram({1, 2, 1, 4, 5}, 4)
    assert(same(counts, int{2, 1, 0, 2}))
    assert(exact(edges, {1, 2, 3, 4, 5}))
    counts, edges = mg.histogram({1, 2, 1, 4, nan, -3}, 2, {range = {1, 3}})
    assert(same(counts, int{2, 1}))
    assert(exact(edges, {1, 2, 3}))
    counts, edges = mg.histogram({0.5, 1.5, 3, 9}, {0, 1, 3})
    assert(same(counts, int{1, 2}))
    assert(exact(edges, {0, 1, 3}))
    assert(same(mg.histogram({2, 2}, 2), int{0, 2}))
    assert(same(mg.histogram(mg.zeros(0), 3), int{0, 0, 0}))
    assert(exact(mg.histogram({1, 2, 1}, 2, {weights = {0.5, 1, 2}}), {2.5, 1}))
    assert.equal(10, mg.histogram(mg.rand(100)).size)
    assert.equal(100, mg.histogram(mg.rand(100)):sum():item())
    local fine = mg.tensor({0.1, 0.3, 0.7, 0.9}, "float64")
    mg.using_config("dtype", "float32", function() -- edges are as fine as x
      assert(same(mg.histogram(fine, 3), int{2, 0, 2}))
      assert(same(mg.histogram(mg.tensor({16777217, 16777219}, "int64"), 2), int{1, 1}))
    end)
    assert(raises("histogram: x spreads from 1.0 to inf", mg.histogram, {1, huge}))
    assert(raises("histogram: range must be {low, high}", mg.histogram, {1}, 2, {range = {1}}))
  end)

  it("diagonal takes two axes for one", function()
    local x = mg.range(1, 12):reshape(3, 4)
    assert(exact(x:diagonal(), {1, 6, 11}))
    assert(exact(x:diagonal{offset = 1}, {2, 7, 12}))
    assert(exact(x:diagonal{offset = -2}, {9}))
    assert(same(x:diagonal{offset = 3}, x:diag(3)))
    assert.same({0}, x:diagonal{offset = 4}.shape)
    assert(exact(x:diagonal{axis1 = 2, axis2 = 1, offset = 1}, {5, 10}))
    local b = mg.range(1, 24):reshape(2, 3, 4)
    assert(exact(b:diagonal(), {{1, 17}, {2, 18}, {3, 19}, {4, 20}}))
    assert(exact(b:diagonal{axis1 = -2, axis2 = -1}, {{1, 6, 11}, {13, 18, 23}}))
    assert(helper.differentiable(function(v)
      return v:diagonal{offset = -1, axis1 = 1, axis2 = 3}
    end, {mg.rand(3, 2, 4)}))
    assert(raises("diagonal: needs two axes, got 1 and 1 of shape (3, 4)", function()
      x:diagonal{axis2 = 1}
    end))
  end)

  it("what whole numbers take is whole, and within their range", function()
    local x, mask, at = int{(1 << 53) + 1, 3}, mg.tensor{false, true}, int{2}
    assert.same({2, (1 << 53) + 1, 3}, x:pad({1, 0}, {value = 2.0}):totable())
    assert.same({(1 << 53) + 1, 2}, x:masked_fill(mask, 2.0):totable())
    assert.same({(1 << 53) + 1, 2}, x:scatter(1, at, 2.0):totable())
    assert.same({(1 << 53) + 1, 5}, x:scatter_add(1, at, {2}):totable())
    local narrow = mg.masked_fill(mg.ones{2, dtype = "float32"}, mask, mg.tensor(0.1))
    assert(near(narrow, {1, 0.1}, 1e-7))
    assert.equal("float32", narrow.dtype)
    for _, v in ipairs{0.5, 0 / 0, huge, 1e30} do
      assert(raises("pad: a value that int64 cannot hold", x.pad, x, {1, 0}, {value = v}))
      assert(raises("masked_fill: a value that int64 cannot hold", x.masked_fill, x, mask, v))
      assert(raises("scatter: src has a value that int64 cannot hold", x.scatter, x, 1, at, v))
      for _, name in ipairs{"scatter_add", "index_add"} do
        assert(raises(name .. ": src has a value that int64 cannot hold", mg[name], x, 1, at, {v}))
      end
    end
    local bytes = mg.tensor({1, 2}, "uint8")
    assert(raises("pad: a value that uint8 cannot hold", bytes.pad, bytes, {1, 0}, {value = 256}))
    assert(raises("scatter: src has a value that uint8 cannot hold", bytes.scatter, bytes, 1, at,
      -1))
    assert(raises("pad: a value that bool cannot hold", mask.pad, mask, {1, 0}, {value = 2}))
    local added = mg.compile(function(y, src) return y:scatter_add(1, at, src) end)
    assert.same({1, 5}, added(int{1, 2}, {3}):totable())
    assert.same({1, 6}, added(int{1, 2}, {4}):totable())
    assert(raises("src has a value that int64 cannot hold", added, int{1, 2}, {4.5}))
  end)

  it("a whole number beside whole numbers is one of them, whatever Config.dtype is", function()
    for dtype, n in pairs{float32 = 1 << 24, float64 = 1 << 53} do
      mg.using_config("dtype", dtype, function()
        local x = int{n, n + 1, n + 2}
        assert.same({false, true, false}, x:isin(n + 1):totable())
        assert.same({false, true, false}, x:isclose(n + 1, {rtol = 0, atol = 0}):totable())
        assert.equal(2, x:searchsorted(n + 1):item())
        assert.same({n + 1, n + 1, n + 2}, x:scatter(1, int{1}, n + 1):totable())
        assert.is_false(mg.equal(x[1], n + 1))
        assert.same({true, false}, int{3, 4}:isin(mg.tensor(3.0)):totable())
        assert.same({false, false}, int{3, 4}:isin(3.5):totable())
      end)
    end
  end)

  it("masked_fill keeps x's shape and dtype", function()
    local x = mg.tensor{{1, 2}, {3, 4}}
    assert(exact(x:masked_fill(mg.tensor{true, false}, -huge), {{-huge, 2}, {-huge, 4}}))
    assert(same(int{1, 2}:masked_fill(mg.tensor{true, false}, 7), int{7, 2}))
    assert(same(mg.tensor({1, 2}, "uint8"):masked_fill(mg.tensor{false, true}, 3),
      mg.tensor({1, 3}, "uint8")))
    local v, n = mg.Variable(x), mg.Variable(5)
    v:masked_fill(x:gt(2), n):sum():backward()
    assert(exact(v.grad, {{1, 1}, {0, 0}}))
    assert.equal(2, n.grad:item())
    assert(raises("masked_fill: mask (2, 1, 2) does not broadcast to x (2, 2)", function()
      x:masked_fill(mg.ones{2, 1, 2, dtype = "bool"}, 0)
    end))
    assert(raises("masked_fill: a value that int64 cannot hold", function()
      int{1, 2}:masked_fill(mg.tensor{true, false}, 0.5)
    end))
  end)
end)
