-- Float32 sums are exact to 1e-6, however many addends there are and wherever they meet.

local mg = require "moongrad"
local helper = require "spec.helper"

-- Not representable, so that each addition is rounded, and always the same way
local ADDENDS = {0.1, 1 / 3, 1.0001, 1.9999}

local function f32(v) return mg.tensor({v}, "float32")[1]:item() end

-- Every element of sums is n times addend.
local function sums_up(sums, addend, n)
  local want = f32(addend) * n
  local off = ((sums:to "float64" - want):abs():max() / want):item()
  return off <= 1e-6, ("%d times %s is off by %g"):format(n, addend, off)
end

describe("float32 sums", function()
  helper.guard(before_each, after_each)

  it("of columns, rows and all", function()
    for _, shape in ipairs{{1000000, 2}, {300000, 7}, {256, 2}, {85, 6}, {50000, 50},
      {20, 900, 40}, {20000, 600}, {30000, 90}, {6000, 1500}, {120, 5000}, {3000, 5000},
      {100, 40000}, {3, 100000}} do
      local axis = #shape - 1
      local n = shape[axis]
      for _, addend in ipairs(ADDENDS) do
        local x = mg.full(shape, addend, "float32")
        assert(sums_up(x:sum(axis), addend, n))
        assert(sums_up((x * 1):sum(axis), addend, n))
        assert(sums_up(x:mean(axis), addend, 1))
        assert(sums_up(x:sum(axis + 1), addend, shape[axis + 1]))
        assert(sums_up(x:sum(), addend, x.size))
      end
    end
  end)

  it("of products with a vector", function()
    local n = 1000000
    local ones = mg.ones{n, dtype = "float32"}
    for _, addend in ipairs(ADDENDS) do
      local rows, columns = mg.full({3, n}, addend, "float32"), mg.full({n, 3}, addend, "float32")
      assert(sums_up(rows:matmul(ones), addend, n))
      assert(sums_up(ones:matmul(columns), addend, n))
      assert(sums_up(rows:matmul(ones:reshape(n, 1)), addend, n))
      assert(sums_up(rows[1]:dot(ones), addend, n))
      assert(sums_up(rows[{1, {1, 40007}}]:dot(ones[{{1, 40007}}]), addend, 40007))
    end
  end)

  it("of gradients of what was broadcast", function()
    local b = mg.Variable(mg.zeros{3, dtype = "float32"})
    for _, addend in ipairs(ADDENDS) do
      b:cleargrad()
      local y = (b + mg.zeros{300000, 3, dtype = "float32"}) * addend
      y:sum():backward()
      assert(sums_up(b.grad, addend, 300000))
    end
  end)

  it("of what meets in a row", function()
    local n = 1000000
    local ones = mg.ones{n, dtype = "int64"}
    for _, addend in ipairs(ADDENDS) do
      local W = mg.Variable(mg.zeros{3, 1, dtype = "float32"})
      local y = mg.embedding(ones + 1, W) * addend
      y:sum():backward()
      assert(sums_up(W.grad[2], addend, n))
      assert.same({0, 0}, {W.grad[1]:item(), W.grad[3]:item()})
      local source = mg.full({2, n // 10, 3}, addend, "float32")
      local sums = mg.zeros{2, 2, 3, dtype = "float32"}:index_add(2, ones[{{1, n // 10}}], source)
      assert(sums_up(sums[{{}, 1}], addend, n // 10))
      assert.equal(0, sums[{{}, 2}]:abs():sum():item())
    end
  end)

  it("of what meets in an element", function()
    for _, addend in ipairs(ADDENDS) do
      for _, at in ipairs{1, 2, 3} do
        local shape, into = {3, 3, 3}, {3, 3, 3}
        shape[at], into[at] = 100000, 2
        local index = mg.ones(shape):to "int64"
        local source = mg.full(shape, addend, "float32")
        local zeros = mg.full(into, 0, "float32")
        local first, second = zeros:scatter_add(at, index, source):split(1, at)
        assert(sums_up(first, addend, 100000))
        assert.equal(0, second:abs():sum():item())
        into[at] = 1000000                     -- far more places than addends
        local sums = mg.full(into, 0, "float32"):scatter_add(at, index, source)
        assert(sums_up(sums:max(), addend, 100000))
        assert.equal(9, sums:ne(0):sum():item())
      end
    end
  end)

  it("by index are those of float64, whatever the shapes", function()
    math.randomseed(1)
    for trial = 1, 60 do
      local rank, axis, base, index = math.random(1, 4), nil, {}, {}
      axis = math.random(rank)
      for k = 1, rank do
        base[k] = math.random(1, k == axis and 300 or 9)
        index[k] = k == axis and math.random(1, 400) or math.random(1, base[k])
      end
      local x, source = mg.randn(base), mg.randn(index)
      local at = mg.randint(1, base[axis], index)
      local along = mg.randint(1, base[axis], {index[axis]})
      local rows = {table.unpack(base)}
      rows[axis] = index[axis]
      local whole = mg.randn(rows)
      local function both(dtype)
        return x:to(dtype):scatter_add(axis, at, source:to(dtype)),
          x:to(dtype):index_add(axis, along, whole:to(dtype))
      end
      local wide = {both "float64"}
      for i, y in ipairs{both "float32"} do
        assert(helper.near(y, wide[i], 1e-5, 1e-4), trial)
      end
    end
  end)
end)
