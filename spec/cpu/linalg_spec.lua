-- Products: matmul of every kind of shape, at sizes on either side of its tiles, and its kin.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises

-- The product of two matrices, in plain Lua.
local function product(a, b)
  local r = {}
  for i, row in ipairs(a) do
    r[i] = {}
    for j = 1, #b[1] do
      local sum = 0
      for k, v in ipairs(row) do sum = sum + v * b[k][j] end
      r[i][j] = sum
    end
  end
  return r
end

-- Whole numbers, whose products are exact in any order.
local function whole(...)
  return (mg.rand(...) * 9 - 4):round()
end

describe("matmul", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(1) end)

  it("multiplies matrices of any size", function()
    for _, s in ipairs{{1, 1, 1}, {2, 3, 4}, {1, 7, 1}, {5, 1, 5}, {17, 33, 9}, {64, 64, 64},
                       {65, 63, 129}, {130, 10, 70}, {3, 300, 2}} do
      local a, b = whole(s[1], s[2]), whole(s[2], s[3])
      local want = product(a:totable(), b:totable())
      assert(exact(a:matmul(b), want))
      assert(exact(a:to("float32"):matmul(b:to("float32")), want))
      assert(exact(a.T:clone().T:matmul(b), want))
      assert(exact(a:matmul(b.T:clone().T), want))
      assert(exact(a:flip(2):clone():flip(2):matmul(b:flip(1):clone():flip(1)), want))
      assert(exact((a + 1 - 1):matmul(b * 1), want))
    end
  end)

  it("is the sum of products at sizes that are cut into tiles", function()
    for _, s in ipairs{{300, 200, 500}, {1000, 3, 400}, {7, 2000, 600}} do
      local a, b = whole(s[1], s[2]), whole(s[2], s[3])
      local y = a:matmul(b)
      assert(exact(y:sum(2), a:matmul(b:sum(2))))
      assert(exact(y:sum(1), a:sum(1):matmul(b)))
      for i = 1, s[1], 97 do assert(exact(y[i], a[i]:matmul(b))) end
      assert(exact(y[-1][-1], (a[-1] * b[{{}, -1}]):sum()))
    end
  end)

  it("takes vectors and stacks of matrices", function()
    local m, v, w = whole(2, 3), whole(3), whole(2)
    assert.equal((v * v):sum():item(), v:matmul(v):item())
    assert.same({}, v:matmul(v).shape)
    assert(exact(m:matmul(v), (m * v):sum(2)))
    assert(exact(w:matmul(m), (w:reshape(2, 1) * m):sum(1)))
    local a, b = whole(4, 1, 2, 3), whole(5, 3, 2)
    local y = a:matmul(b)
    assert.same({4, 5, 2, 2}, y.shape)
    for i = 1, 4 do
      for j = 1, 5 do assert(same(y[{i, j}], a[{i, 1}]:matmul(b[j]))) end
    end
    assert.same({4, 1, 2}, a:matmul(v).shape)
    assert.same({5, 2}, v:matmul(b).shape)
    assert(exact(v:matmul(b), (v:reshape(3, 1) * b):sum(2)))
    assert(same(a:matmul(m.T)[{3, 1}], a[{3, 1}]:matmul(m.T)))
  end)

  it("has its derivatives for every kind of shape", function()
    local v, m = mg.rand(3), mg.rand(2, 3)
    for _, pair in ipairs{
      {m, mg.rand(3, 2)}, {m.T:clone().T, m:flip(1).T},
      {v, mg.rand(3)}, {m, v}, {mg.rand(2), m},
      {mg.rand(2, 2, 3), mg.rand(2, 3, 2)}, {mg.rand(2, 1, 2, 3), mg.rand(3, 3, 1)},
      {mg.rand(2, 2, 3), v}, {v, mg.rand(2, 3, 2)}, {mg.rand(2, 2, 3), mg.rand(3, 2)},
    } do
      assert(helper.differentiable(mg.matmul, pair, 1e-6))
    end
    assert(helper.differentiable(function(a) return a:matmul(a.T) end, {m}, 1e-6))
  end)

  it("of nothing is zero or empty", function()
    assert(exact(mg.zeros(2, 0):matmul(mg.zeros(0, 3)), mg.zeros(2, 3)))
    assert.same({0, 3}, mg.zeros(0, 2):matmul(mg.ones(2, 3)).shape)
    assert.same({2, 0}, mg.ones(2, 3):matmul(mg.zeros(3, 0)).shape)
    assert.same({0, 2, 2}, mg.zeros(0, 2, 3):matmul(mg.zeros(3, 2)).shape)
    local w = mg.Variable(mg.ones(2, 3))
    mg.zeros(0, 2):matmul(w):sum():backward()
    assert(exact(w.grad, mg.zeros(2, 3)))
  end)

  it("keeps nan and infinities", function()
    local nan, huge = 0 / 0, math.huge
    assert(near(mg.matmul({{nan, 1}, {0, 1}}, {{0, 1}, {1, 1}}), {{nan, nan}, {1, 1}}))
    assert(near(mg.matmul({{huge, 1}}, {{1}, {1}}), {{huge}}))
    assert(near(mg.matmul({{huge, 1}}, {{0}, {1}}), {{nan}}))
  end)

  it("takes the wider float, and floats for integers beside them", function()
    local i, f = mg.ones{2, 2, dtype = "int64"}, mg.ones{2, 2, dtype = "float32"}
    assert.equal("float32", i:matmul(f).dtype)
    assert.equal("float64", f:matmul(mg.ones(2, 2)).dtype)
  end)

  it("of integers is int64, exact, and wraps around", function()
    local big = (1 << 53) + 1
    local x = mg.tensor({{big, 1 << 62}, {0, -1}}, {dtype = "int64"})
    assert(same(x:matmul(mg.tensor({{1}, {4}}, {dtype = "int64"})),
      mg.tensor({{big}, {-4}}, {dtype = "int64"})))
    local i = mg.ones{3, 2, dtype = "uint8"}
    assert(same(i:matmul(mg.tensor{true, true}), mg.tensor({2, 2, 2}, {dtype = "int64"})))
    local a, b = mg.randint(-9, 9, {5, 1, 40, 30}), mg.randint(-9, 9, {7, 30, 50})
    assert(same(a:matmul(b), a:to("float64"):matmul(b:to("float64")):to("int64")))
    local threads = mg.num_threads()
    a, b = mg.randint(1, 1 << 40, {300, 200}), mg.randint(1, 1 << 40, {200, 100})
    mg.set_num_threads(1)
    local one = a:matmul(b)
    mg.set_num_threads(4)
    assert(same(one, a:matmul(b)))
    mg.set_num_threads(threads)
    assert.same({3, 0}, mg.ones{3, 0, dtype = "int64"}:matmul(mg.ones{0, 0, dtype = "int64"}).shape)
    assert(same(mg.ones{2, 0, dtype = "int64"}:matmul(mg.ones{0, 1, dtype = "int64"}),
      mg.zeros{2, 1, dtype = "int64"}))
  end)

  it("refuses what does not align", function()
    local m = mg.ones(2, 3)
    assert(raises("matmul: (2, 3) and (4, 5) do not align: 3 and 4 differ", mg.matmul, m,
      mg.ones(4, 5)))
    assert(raises("matmul: (2, 3) and (2) do not align", mg.matmul, m, mg.ones(2)))
    assert(raises("matmul: (2, 2, 3) and (3, 3, 2): the leading axes do not broadcast", mg.matmul,
      mg.ones(2, 2, 3), mg.ones(3, 3, 2)))
    assert(raises("a 0-d Variable has no rows", mg.matmul, m, mg.tensor(1)))
  end)
end)

describe("dot and outer", function()
  helper.guard(before_each, after_each)

  it("multiply vectors", function()
    local a, b = mg.tensor{1, 2, 3}, mg.tensor{4, 5, 6}
    assert.equal(32, mg.dot(a, b):item())
    assert(exact(mg.outer(a, {10, 20}), {{10, 20}, {20, 40}, {30, 60}}))
    assert(helper.differentiable(mg.dot, {a, b}))
    assert(helper.differentiable(mg.outer, {a, mg.tensor{1, 2}}))
    assert(raises("dot: (3) and (2) differ in length", mg.dot, a, {1, 2}))
    assert(raises("dot: (1, 3) and (3) are not both 1-d", mg.dot, {{1, 2, 3}}, a))
    assert(raises("outer: (1, 3) and (3) are not both 1-d", mg.outer, {{1, 2, 3}}, a))
  end)
end)
