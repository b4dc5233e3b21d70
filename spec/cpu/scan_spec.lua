-- Along an axis: running products, extremes and sums of exponentials; places and searches.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises

local huge, nan = math.huge, 0 / 0

describe("along an axis", function()
  helper.guard(before_each, after_each)

  it("cumprod has its gradient where x has zeros, one or several", function()
    for _, case in ipairs{
      {{2, 0, 3}, {1, 2 + 2 * 3, 0}}, -- of y1 + y2 + y3
      {{0, 5, 0, 7}, {1 + 5, 0, 0, 0}},
      {{0, 0, 0}, {1, 0, 0}},
      {{-1, 2, -3}, {1 + 2 - 6, -1 + 3, -2}},
    } do
      local x = mg.Variable(case[1])
      x:cumprod(1):sum():backward()
      assert(exact(x.grad, case[2]))
    end
  end)

  it("cumprod of many columns is that of each, on any number of threads", function()
    local x, threads = mg.rand(40, 1000) + 0.5, mg.num_threads()
    local function all(axis)
      local v = mg.Variable(x)
      local y = v:cumprod(axis)
      y:sum():backward()
      return y, v.grad
    end
    for axis = 1, 2 do
      mg.set_num_threads(1)
      local y1, g1 = all(axis)
      mg.set_num_threads(4)
      local y4, g4 = all(axis)
      assert(same(y1, y4))
      assert(same(g1, g4))
    end
    mg.set_num_threads(threads)
    assert(same(x:cumprod(1)[{{}, 7}], x[{{}, 7}]:cumprod(1)))
    assert(same(x.T:cumprod(2).T, x:cumprod(1)))
  end)

  it("cumprod of int64 is exact and wraps around; float32 is multiplied in double", function()
    assert(same(mg.tensor({3, 5, 1 << 62}, "int64"):cumprod(1),
      mg.tensor({3, 15, 15 * (1 << 62)}, "int64")))
    assert.equal("int64", mg.tensor({true, false}):cumprod(1).dtype)
    local x = mg.full({1000}, 1.01, "float32")
    local y = x:cumprod(1)[-1]:item()
    local p = 1
    for _, v in ipairs(x:totable()) do p = p * v end
    assert(near(y, p, 1e-7))
  end)

  it("a 0-d Variable has an axis of one element", function()
    for _, op in ipairs{"cumsum", "cumprod", "logcumsumexp"} do
      local x = mg.Variable(3)
      local y = x[op](x, 1)
      assert.equal(0, y.ndim)
      assert.equal(3, y:item())
      y:backward()
      assert.equal(1, x.grad:item())
      assert(raises(op .. ": axis 2 is out of range for shape ()", x[op], x, 2))
    end
    local values, places = mg.tensor(3):cummax(-1)
    assert.equal(3, values:item())
    assert.equal(1, places:item())
    assert.equal(1, mg.tensor(3):argsort(1):item())
  end)

  it("cummax and cummin give the last of equals; nan wins from where it stands", function()
    local x = mg.tensor{1, 3, 3, 2, nan, 5, nan}
    local values, places = x:cummax(1)
    assert(exact(values, {1, 3, 3, 3, nan, nan, nan}))
    assert(same(places, mg.tensor({1, 2, 3, 3, 5, 5, 7}, "int64")))
    values, places = mg.tensor({{2, 1}, {2, 3}, {4, 1}}, "int64"):cummin(1)
    assert(same(values, mg.tensor({{2, 1}, {2, 1}, {2, 1}}, "int64")))
    assert(same(places, mg.tensor({{1, 1}, {2, 1}, {2, 3}}, "int64")))
    local v = mg.Variable{1, 4, 4, 2, 5}
    local y = v:cummax(1)
    assert.equal("cummax", y.creator.name)
    assert.is_nil(select(2, v:cummax(1)).creator)
    y:sum():backward()
    assert(exact(v.grad, {1, 1, 2, 0, 1}))
  end)

  it("slopes of logcumsumexp are those of what is less, be it far from 0", function()
    local x = mg.tensor{{0.5, -1, 2, 1}, {0, 0.25, -3, 0.125}}
    local function slope(v)
      v = mg.Variable(v)
      local g = mg.gradients((v:logcumsumexp(2) * x):sum(), {v}, {create_graph = true})[1]
      return g:detach(), mg.gradients((g * x):sum(), v)
    end
    for _, far in ipairs{0x1p40, -0x1p40} do
      local g, h = slope(x + far)
      local want, want_h = slope(x)
      assert(helper.near(g, want, 1e-14))
      assert(helper.near(h, want_h, 1e-14))
    end
  end)

  it("logcumsumexp neither overflows nor loses what is small", function()
    local most = 1000 + math.log(2)
    assert(near(mg.logcumsumexp({1000, 1000, -1000}, 1), {1000, most, most}))
    assert(exact(mg.logcumsumexp({-huge, -huge, 2, huge, 1}, 1), {-huge, -huge, 2, huge, huge}))
    assert(exact(mg.logcumsumexp({1, nan, 2}, 1), {1, nan, nan}))
    local x = mg.Variable{800, -huge, 799, -800}
    x:logcumsumexp(1)[-1]:backward()
    local e = math.exp(-1)
    assert(near(x.grad, {1 / (1 + e), 0, e / (1 + e), 0}))
    local first = mg.Variable{-huge, 0}
    first:logcumsumexp(1):sum():backward()
    assert(exact(first.grad, {1, 1}))
  end)

  it("scatter puts the last where indices meet, and gives the others no gradient", function()
    local x, src = mg.Variable{1, 2, 3}, mg.Variable{10, 20, 30}
    local y = x:scatter(1, {2, 2, 1}, src)
    assert(exact(y, {30, 20, 3}))
    y = y * mg.tensor{1, 10, 100}
    y:sum():backward()
    assert(exact(x.grad, {0, 0, 100}))
    assert(exact(src.grad, {0, 10, 1}))
    assert(exact(mg.scatter({{1, 2}, {3, 4}}, 2, {{2}, {1}}, 7), {{1, 7}, {7, 4}}))
    assert(same(mg.tensor({1, 2}, "int64"):scatter(1, {2}, 5), mg.tensor({1, 5}, "int64")))
    local n = mg.Variable(5)
    x:scatter(1, {1, 3}, n):sum():backward()
    assert.equal(2, n.grad:item())
    assert(raises("scatter: src has shape (2), expected (3)", function()
      x:scatter(1, {1, 2, 3}, mg.ones(2))
    end))
    local threads = mg.num_threads()
    local at, from = mg.randint(1, 50, {300, 400}), mg.rand(300, 400)
    mg.set_num_threads(1)
    local one = mg.zeros(300, 400):scatter(1, at, from)
    mg.set_num_threads(4)
    assert(same(one, mg.zeros(300, 400):scatter(1, at, from)))
    mg.set_num_threads(threads)
  end)

  it("searchsorted finds where values belong", function()
    local sorted = mg.tensor{1, 3, 3, 5}
    assert(same(sorted:searchsorted({0, 1, 3, 4, 9, nan}), mg.tensor({1, 1, 2, 4, 5, 5}, "int64")))
    assert(same(sorted:searchsorted({0, 1, 3, 4, 9, nan}, {right = true}),
      mg.tensor({1, 2, 4, 4, 5, 5}, "int64")))
    assert(same(mg.searchsorted({1, 2, nan}, {2, nan}), mg.tensor({2, 3}, "int64")))
    assert.equal(4, mg.searchsorted({1, 2, 3}, 7):item())
    assert(same(mg.searchsorted({{1, 2}, {5, 6}}, {{2, 9, 0}, {6, 5, 7}}),
      mg.tensor({{2, 3, 1}, {2, 1, 3}}, "int64")))
    assert(same(mg.zeros(0):searchsorted{1, 2}, mg.tensor({1, 1}, "int64")))
    assert(raises("searchsorted: sorted (2, 2) does not fit v (3)", mg.searchsorted,
      {{1, 2}, {3, 4}}, {1, 2, 3}))
  end)

  it("nonzero gives places, a row each", function()
    assert(same(mg.nonzero{{0, 2}, {nan, 0}}, mg.tensor({{1, 2}, {2, 1}}, "int64")))
    assert.same({0, 2}, mg.zeros(2, 3):nonzero().shape)
    assert.same({1, 0}, mg.tensor(3):nonzero().shape)
    assert.same({0, 0}, mg.tensor(0):nonzero().shape)
    assert.same({0, 3}, mg.zeros(2, 0, 4):nonzero().shape)
    local x = mg.rand(30, 20, 10):gt(0.5)
    local at = x:nonzero()
    local index = (at[{{}, 1}] - 1) * 200 + (at[{{}, 2}] - 1) * 10 + at[{{}, 3}]
    assert.is_true(x:reshape(6000)[index]:all():item())
    assert.equal(x:sum():item(), at.shape[1])
  end)
end)
