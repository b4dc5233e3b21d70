-- Reductions along every choice of axes, on either side of every boundary, and what is composed of
-- them: prod, var, std, norm; comparisons of whole arrays.

local mg = require "moongrad"
local helper = require "spec.helper"
local samples = require "spec.samples"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises
local huge, nan = math.huge, 0 / 0

-- A composition that is to do all that the reductions of the core do
samples = setmetatable({logsumexp = {
  dtypes = {"float64", "float32"},
  expected = function(list)
    local top, sum = math.max(table.unpack(list)), 0
    for _, v in ipairs(list) do sum = sum + math.exp(v - top) end
    return top + math.log(sum)
  end,
}}, {__index = samples})

-- Lists of those elements of `list`, seen in `shape`, that meet when `axes` (a set) go; in order.
local function cells(list, shape, axes)
  local strides, size = {}, 1
  for axis = #shape, 1, -1 do
    if not axes[axis] then
      strides[axis] = size
      size = size * shape[axis]
    end
  end
  local out, at, cell = {}, {}, 1
  for i = 1, size do out[i] = {} end
  for axis = 1, #shape do at[axis] = 1 end
  for _, v in ipairs(list) do
    local c = out[cell]
    c[#c + 1] = v
    local axis = #shape
    while axis > 0 do
      local stride = strides[axis] or 0
      at[axis], cell = at[axis] + 1, cell + stride
      if at[axis] <= shape[axis] then break end
      at[axis], cell = 1, cell - stride * shape[axis]
      axis = axis - 1
    end
  end
  return out
end

-- Every set of axes of n: as a set, and as a list that may count from the end.
local function choices(n)
  local sets = {}
  for bits = 1, (1 << n) - 1 do
    local set, list = {}, {}
    for axis = 1, n do
      if bits >> (axis - 1) & 1 == 1 then
        set[axis] = true
        list[#list + 1] = (bits + axis) % 2 == 0 and axis or axis - n - 1
      end
    end
    sets[#sets + 1] = {set = set, list = list}
  end
  return sets
end

local function kept(shape, set, keepdims)
  local t = {}
  for axis, n in ipairs(shape) do
    if not set[axis] then t[#t + 1] = n elseif keepdims then t[#t + 1] = 1 end
  end
  return t
end

-- There is no one index along several axes that do not lie together: argmax may refuse them.
local function may_refuse(name, axes)
  return name:match("^arg") and #axes > 1
end

-- name along all choices of axes of x against the sample's function of a list
local function agrees_along_axes(name, x, tol)
  local shape, list = x.shape, x:reshape(x.size):totable()
  for i, v in ipairs(list) do list[i] = v == true and 1 or v or 0 end
  for _, axes in ipairs(choices(#shape)) do
    local want = cells(list, shape, axes.set)
    for i, cell in ipairs(want) do want[i] = samples[name].expected(cell) end
    for _, keepdims in ipairs{false, true} do
      local ok, y = pcall(mg[name], x, {axis = axes.list, keepdims = keepdims})
      if ok then
        assert.same(kept(shape, axes.set, keepdims), y.shape)
        assert(near(y:reshape(#want), want, tol))
      else
        assert(may_refuse(name, axes.list), y)
      end
    end
  end
end

describe("reductions", function()
  helper.guard(before_each, after_each)

  local reductions = {}
  for _, op in ipairs(mg._ops()) do
    if op.kind == "reduce" and samples[op.name] then reductions[#reductions + 1] = op.name end
  end
  reductions[#reductions + 1] = "logsumexp"

  for _, name in ipairs(reductions) do
    it(name .. " agrees along all choices of axes", function()
      for n, shape in ipairs{{5}, {4, 3}, {2, 4, 3}, {3, 2, 4, 2}} do
        mg.seed(n)
        local x = mg.rand(shape) * 2 - 1
        agrees_along_axes(name, x, 1e-13)
        agrees_along_axes(name, x:transpose(), 1e-13)
        agrees_along_axes(name, (x * 3):to("int64"), 1e-13)
      end
    end)

    it(name .. " agrees on pending and broadcast operands", function()
      mg.seed(1)
      local row, wide = mg.rand(7), mg.rand(300, 7)
      agrees_along_axes(name, wide * 2 - row, 1e-12)
      agrees_along_axes(name, row:broadcast_to{300, 7}, 1e-12)
      agrees_along_axes(name, mg.rand(300, 1):broadcast_to{300, 7}, 1e-12)
    end)

    if samples[name].dtypes[1] == "float64" and not samples[name].gives
       and not samples[name].refuses and name ~= "all" and name ~= "any" then
      it(name .. " has its derivatives along all choices of axes", function()
        local x = (mg.range(1, 12) * 2.5):sin():reshape(2, 3, 2)
        for _, axes in ipairs(choices(3)) do
          for _, keepdims in ipairs{false, true} do
            assert(helper.differentiable(function(a)
              return (mg[name](a:exp(), {axis = axes.list, keepdims = keepdims}))
            end, {x}))
          end
        end
      end)
    end
  end

  -- ---- sizes ----------------------------------------------------------------------------------

  -- Whole numbers, so that sums are exact in any order.
  local function whole(shape)
    local x = mg.range(1, mg.zeros(shape).size):reshape(shape)
    return x * 7919 % 1009 - 504
  end

  local function agrees_on_whole(shape)
    local x = whole(shape)
    local list = x:reshape(x.size):totable()
    for _, axes in ipairs(choices(#shape)) do
      local sums, tops, places = {}, {}, {}
      for i, cell in ipairs(cells(list, shape, axes.set)) do
        local sum, at = 0, 1
        for j, v in ipairs(cell) do
          sum = sum + v
          if v > cell[at] then at = j end
        end
        sums[i], tops[i], places[i] = sum, cell[at], at
      end
      local along = {axis = axes.list}
      assert(exact(x:sum(along):reshape(#sums), sums))
      assert(exact(x:to("float32"):sum(along):reshape(#sums), sums))
      assert(exact((x + 1):sum(along):reshape(#sums) - x.size // #sums, sums))
      assert(exact(x:to("int64"):sum(along):reshape(#sums), sums))
      if #axes.list == 1 then assert(exact(x:argmax(along):reshape(#sums), places)) end
      assert(exact((x:max(along)):reshape(#sums), tops))
    end
  end

  for _, n in ipairs{1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1023, 1024, 1025, 4096, 4097,
                     32767, 32768, 32769, 65537} do
    it("are exact for rows of " .. n, function() agrees_on_whole{n} end)
  end

  for _, shape in ipairs{{3, 40000}, {40000, 3}, {5000, 70}, {2, 3, 20000}, {20000, 3, 2},
                         {511, 129}, {513, 128}, {1, 33000}, {33000, 1}, {65, 1025}, {1025, 65},
                         {70, 513, 2}, {17, 1, 2051}, {2, 700, 40}, {300, 2, 65}} do
    it("are exact for shape (" .. table.concat(shape, ", ") .. ")", function()
      agrees_on_whole(shape)
    end)
  end

  it("add a million float32 up nearly as if in double", function()
    mg.seed(2)
    local x = mg.rand{1000000, dtype = "float32"}
    local want = x:to("float64"):sum():item()
    assert(near(x:sum(), want, 1e-7))
    assert(near(x:mean(), want / 1e6, 1e-7))
    assert(near(mg.full({1000000}, 0.1, "float32"):sum(), 1e6 * 0.1, 1e-6))
    assert(near(x:reshape(100000, 10):sum(1):sum(), want, 1e-6))
  end)

  -- ---- dtypes, kinks, nothing -----------------------------------------------------------------

  it("sum small integers as int64", function()
    for _, x in ipairs{mg.tensor({3, 200, 1}, "uint8"), mg.tensor{false, true, true}} do
      for _, op in ipairs{"max", "min", "amax"} do
        assert.equal(x.dtype, x[op](x).dtype)
        assert(same((x[op](x)), (x[op](x, 1))))
      end
    end
    local bytes = mg.full({300}, 255, "uint8")
    assert(same(bytes:sum(), mg.tensor(76500, "int64")))
    assert(same(mg.ones(3, 4):gt(0):sum(1), mg.full({4}, 3, "int64")))
    assert.equal("float64", bytes:mean().dtype)
    assert.equal(255, bytes:mean():item())
    assert(same(mg.full({3}, 255, "uint8"):prod(), mg.tensor(255 ^ 3, "int64")))
  end)

  it("count what is not 0", function()
    local x = mg.tensor{{0, 1, 0 / 0}, {-0.0, 0, 1e-310}}
    assert(same(x:count_nonzero(), mg.tensor(3, "int64")))
    assert(same(x:count_nonzero(2), mg.tensor({2, 1}, "int64")))
    assert(same(x:count_nonzero{axis = {1, 2}, keepdims = true}, mg.tensor({{3}}, "int64")))
    for _, dtype in ipairs{"float32", "int64", "uint8", "bool"} do
      assert(exact(mg.tensor({{0, 1}, {2, 3}}, dtype):count_nonzero(1), {1, 2}))
    end
    assert(exact(mg.zeros(0, 2):count_nonzero(1), {0, 0}))
    assert.equal(1, mg.count_nonzero(7):item())
    assert.is_false(mg.Variable{1, 2}:count_nonzero().requires_grad)
    assert(raises("count_nonzero: axis 3 is out of range for shape (2, 3)", mg.count_nonzero, x, 3))
  end)

  it("are what they should be of nothing", function()
    local none = mg.zeros(0)
    assert.equal(0, none:sum():item())
    assert.equal(1, none:prod():item())
    assert.equal(-huge, none:logsumexp():item())
    assert.is_true(none:all():item())
    assert.is_false(none:any():item())
    assert(near(none:mean(), nan))
    assert(exact(mg.zeros(0, 3):sum(1), {0, 0, 0}))
    assert(exact(mg.zeros(3, 0):sum(2), {0, 0, 0}))
    assert.same({0}, mg.zeros(0, 3):sum(2).shape)
    assert.same({1 << 50, 0}, mg.zeros(1 << 50, 3, 0):sum(2).shape) -- no loop over the rows
    assert.same({0}, (mg.zeros(0, 3):max(2)).shape)
    for _, name in ipairs{"max", "min", "argmax", "argmin"} do
      assert(raises(name .. ": ", mg[name], none))
      assert(raises(name .. ": ", mg[name], mg.zeros(0, 3), 1))
    end
  end)

  it("of a 0-d Variable are of one element", function()
    local x = mg.tensor(3.5)
    for _, name in ipairs{"sum", "mean", "max", "min", "prod"} do
      assert(exact(mg[name](x), 3.5))
    end
    assert.equal(1, x:argmax():item())
    assert.is_true(x:all():item())
    assert(near(x:logsumexp(), 3.5))
    for _, axis in ipairs{1, -1} do
      for _, name in ipairs{"sum", "mean", "max", "min", "prod", "norm", "logsumexp", "sort"} do
        for _, v in ipairs{mg.tensor(3.5), mg.Variable(3.5)} do
          local y = mg[name](v, axis)
          assert(near(y, 3.5))
          assert.equal(0, y.ndim)
          if name ~= "sort" then assert.equal(0, mg[name](v, axis, {keepdims = true}).ndim) end
        end
      end
      local values, index = x:max(axis)
      assert(exact(values, 3.5))
      assert.same({1, "int64"}, {index:item(), index.dtype})
      assert(exact(x:softmax(axis), 1))
    end
    assert(raises("sum: axis 2 is out of range for shape ()", x.sum, x, 2))
  end)

  it("softmax, its kin and glu of nothing are empty, with their gradients", function()
    for _, f in ipairs{mg.softmax, mg.softmin, mg.log_softmax, mg.gumbel_softmax, mg.glu,
                       function(x) return mg.gumbel_softmax(x, {hard = true}) end} do
      for _, shape in ipairs{{3, 0}, {0, 4}} do
        local x = mg.Variable(mg.zeros(shape))
        local y = f(x)
        assert.equal(0, y.size)
        y:sum():backward()
        assert.same(shape, x.grad.shape)
      end
    end
  end)

  it("take the first of equals, and the first nan", function()
    assert(same(mg.tensor{1, 3, 3, 2}:argmax(), mg.tensor(2, "int64")))
    assert(same(mg.tensor{1, 3, 1, 2}:argmin(), mg.tensor(1, "int64")))
    assert.equal(2, mg.tensor{1, nan, huge, nan}:argmax():item())
    assert.equal(2, mg.tensor{1, nan, -huge, nan}:argmin():item())
    assert(near(mg.tensor{1, nan, 3}:max(), nan))
    assert(near(mg.tensor{1, nan, 3}:min(), nan))
    assert.equal(1, mg.full({5000}, -huge):argmax():item())
    for _, at in ipairs{1, 700, 1025, 4000} do
      local x = mg.zeros(70, 5000)
      x[{{}, at}] = 1
      x[{{}, {4500, 4600}}] = 1
      assert(same(x:argmax(2), mg.full({70}, at, "int64")))
      assert(same(x.T:argmax(1), mg.full({70}, at, "int64")))
      x[{{}, at}] = nan
      x[{{}, {4500, 4600}}] = nan
      assert(same(x:argmax(2), mg.full({70}, at, "int64")))
    end
    assert(same(mg.tensor{{1, 5}, {5, 2}}:argmax(), mg.tensor(2, "int64")))
  end)

  it("max and min with one axis give values and indices", function()
    local x = mg.Variable{{1, 5, 5}, {7, 2, 0}}
    local values, indices = x:max(2)
    assert(exact(values, {5, 7}))
    assert(same(indices, mg.tensor({2, 1}, "int64")))
    values:backward()
    assert(exact(x.grad, {{0, 1, 0}, {1, 0, 0}}))
    values, indices = x:min{axis = 1, keepdims = true}
    assert(exact(values, {{1, 2, 0}}))
    assert(exact(indices, {{1, 2, 2}}))
    assert.equal(1, select("#", x:max()))
  end)

  it("amax and amin give values alone, and equals the same share of the gradient", function()
    local x = mg.Variable{{1, 5, 5}, {7, 2, 0}}
    local values = x:amax(2)
    assert.equal(1, select("#", x:amax(2)))
    assert(exact(values, {5, 7}))
    values:backward()
    assert(exact(x.grad, {{0, 0.5, 0.5}, {1, 0, 0}}))
    assert(exact(x:amin{axis = 1, keepdims = true}, {{1, 2, 0}}))
    assert(exact(x:amax(), 7))
    assert(raises("amax: axis 3", function() x:amax(3) end))
    assert(raises("amin: nothing to choose from in shape (2, 0)",
      function() mg.zeros(2, 0):amin(2) end))
  end)

  it("max of all gives equals the same share", function()
    local x = mg.Variable{2, 5, 5, 1}
    x:max():backward()
    assert(exact(x.grad, {0, 0.5, 0.5, 0}))
    x:cleargrad()
    x:min():backward()
    assert(exact(x.grad, {0, 0, 0, 1}))
  end)

  it("logsumexp knows infinities and does not overflow", function()
    assert.equal(-huge, mg.tensor{-huge, -huge}:logsumexp():item())
    assert.equal(huge, mg.tensor{-huge, huge, 1}:logsumexp():item())
    assert(near(mg.tensor{1, nan}:logsumexp(), nan))
    assert(exact(mg.tensor{1000, 1000}:logsumexp(), 1000 + math.log(2), 2))
    assert(exact(mg.tensor{-1000, -1000}:logsumexp(), -1000 + math.log(2), 2))
    local x = mg.full({3, 5000}, -huge)
    x[{{}, 4321}] = 7
    assert(exact(x:logsumexp(2), {7, 7, 7}))
    assert(exact(x.T:logsumexp(1), {7, 7, 7}))
    x[{{}, 17}] = huge
    assert(exact(x:logsumexp(2), {huge, huge, huge}))
    local y = mg.Variable{-huge, 0, 0}
    y:logsumexp():backward()
    assert(near(y.grad, {0, 0.5, 0.5}))
  end)
end)

describe("options of reductions", function()
  it("stand behind the axis or beside it; nothing else does", function()
    local x = mg.tensor{{1, 2, 4}, {3, 5, 7}}
    for _, y in ipairs{x:sum(1, {keepdims = true}), x:sum{axis = 1, keepdims = true},
                       x:sum{1, keepdims = true}, x:sum({1}, {keepdims = true})} do
      assert(same(y, mg.tensor{{4, 7, 11}}))
    end
    assert(exact(x:mean{1, 2}, 22 / 6))
    assert(exact(x:flip{1, 2}, {{7, 5, 3}, {4, 2, 1}}))
    assert(exact(x:cumsum{axis = 1}, {{1, 2, 4}, {4, 7, 11}}))
    assert(raises("std: argument 2 is a number, expected a table of options",
      function() x:std(1, 0) end))
    assert(raises("sum: argument 3 is a boolean", mg.sum, x, 1, true))
    assert(raises("sum: unknown option dim; did you mean axis?", mg.sum, x, {dim = 1}))
    assert(raises("var: unknown option unbiased", mg.var, x, {unbiased = true}))
    assert(raises("norm: p is given twice", mg.norm, x, {1, p = 1}, {p = 2}))
  end)
end)

describe("a sum of columns", function()
  helper.guard(before_each, after_each)

  it("is that of its rows, one after the other, however long they are", function()
    mg.seed(4)
    for _, inner in ipairs{1, 3, 100, 255, 256, 257, 400, 512, 513, 1000, 4096, 4097, 5000} do
      for _, n in ipairs{2, 7, 16, 17, 150} do
        local x = (mg.rand(n, inner) * 9 - 4):round() + 0   -- whole numbers: exact in any order
        local r, most = x[1], x[1]
        for i = 2, n do r, most = r + x[i], mg.maximum(most, x[i]) end
        assert(same(x:sum(1), r))
        assert(same((x:max(1)), most))
        assert(same((x * 2):sum(1), r * 2))
        assert(same(x:to("float32"):sum(1), r:to("float32")))
        local both = mg.stack{x, x * 2}
        assert(same(both:sum(2), mg.stack{r, r * 2}))
        assert(same(x:gt(0):any(1), most:gt(0)))
      end
    end
  end)
end)

describe("a row", function()
  helper.guard(before_each, after_each)
  local FLOATS, ALL = {"float64", "float32"}, {"float64", "float32", "int64"}
  local reductions = {
    sum = ALL, mean = FLOATS, prod = ALL, max = ALL, min = ALL, argmax = ALL, argmin = ALL,
    any = {"bool"}, all = {"bool"}, var = FLOATS, logsumexp = FLOATS, softmax = FLOATS,
    cumsum = ALL,
  }
  local odd = {huge, -huge, nan, -nan, 0.0, -0.0}

  it("has its own result, to the last bit, whatever others lie beside it", function()
    mg.seed(6)
    for _, n in ipairs{1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 30, 31, 32, 33, 63, 64, 65} do
      for _, rows in ipairs{2, 4, 7, 13} do
        local list = (mg.randn(rows * n) * 3):totable()
        for i = 1, #list, 5 do list[i] = math.tointeger(list[i] // 1) + 0.0 end
        for i = n + 1, rows * n, 3 * n + 1 do list[i] = odd[i % #odd + 1] end
        for i = rows * n - n + 1, rows * n do list[i] = -0.0 end
        local x = mg.tensor(list):reshape(rows, n)
        for op, dtypes in pairs(reductions) do
          if n > 1 or op ~= "var" then
            for _, t in ipairs(dtypes) do
              local z = t == "bool" and x:gt(-4) or x:to(t)
              local r = z[op](z, 2)
              for i = 1, rows do
                local alone = z[{{i, i}}]
                assert(same(r[{{i, i}}], (alone[op](alone, 2))))
              end
            end
          end
        end
      end
    end
  end)
end)

describe("a reduction of a view", function()
  helper.guard(before_each, after_each)

  it("is that of a copy, however its axes lie in memory", function()
    mg.seed(3)
    local orders = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}}
    local axes = {1, 2, 3, {1, 2}, {2, 3}, {1, 3}, {1, 2, 3}}
    local x = mg.rand(12, 9, 17) - 0.5
    for _, order in ipairs(orders) do
      for _, base in ipairs{x, x[{ {1, 12, 2}, {}, {} }], x[{ {12, 1, -1}, {2, 9}, {} }]} do
        local view = base:permute(order)
        local copy = view + 0
        mg.eval(copy)
        for _, axis in ipairs(axes) do
          for _, keepdims in ipairs{true, false} do
            local opts = {axis = axis, keepdims = keepdims}
            for _, name in ipairs{"sum", "mean", "logsumexp"} do
              assert(near(view[name](view, opts), copy[name](copy, opts), 1e-13))
            end
            for _, name in ipairs{"argmax", "argmin"} do
              assert(same(view[name](view, opts), copy[name](copy, opts)))
            end
            assert(same((view:max(opts)), (copy:max(opts))))
          end
        end
      end
    end
  end)
end)

describe("composed reductions", function()
  helper.guard(before_each, after_each)

  local x = {{1.5, -2, 0.5}, {3, 0.25, -1}}

  it("var and std divide by n - correction", function()
    assert(near(mg.var{1, 2, 4}, 7 / 3))
    assert(near(mg.std{1, 2, 4}, math.sqrt(7 / 3)))
    assert(near(mg.var({1, 2, 4}, {correction = 0}), 14 / 9))
    assert(near(mg.var({{1, 2, 4}, {0, 0, 3}}, 2), {7 / 3, 3}))
    assert(near(mg.var({{1, 2}, {3, 6}}, {axis = 1, keepdims = true}), {{2, 8}}))
    assert(near(mg.var(mg.tensor{1e8, 1e8 + 1, 1e8 + 2}), 1))
    for _, v in ipairs{2, {axis = {1, 2}}, {axis = 1, correction = 0, keepdims = true}} do
      assert(helper.differentiable(function(a) return a:var(v) end, {mg.tensor(x)}))
      assert(helper.differentiable(function(a) return a:std(v) end, {mg.tensor(x)}))
    end
  end)

  it("prod is exact at zeros, also its gradients", function()
    assert.equal(24, mg.prod{1, 2, 3, 4}:item())
    for _, v in ipairs{1, 2, {axis = {1, 2}}, {axis = -1, keepdims = true}} do
      assert(helper.differentiable(function(a) return a:prod(v) end, {mg.tensor(x)}))
    end
    local a = mg.Variable{2, 0, 3, 5, 7}
    a:prod():backward()
    assert(exact(a.grad, {0, 210, 0, 0, 0}))
    a = mg.Variable{0, 4, 0}
    a:prod():backward()
    assert(exact(a.grad, {0, 0, 0}))
    assert(helper.differentiable(mg.prod, {mg.tensor{2, 0, 0, 5}}))
    assert(exact(mg.prod(mg.Variable{{1, 2, 3}, {4, 5, 6}}, 1), {4, 10, 18}))
    assert.same({3}, mg.prod(mg.Variable(mg.zeros(0, 3)), 1).shape)
  end)

  it("norm is the root of the sum of powers", function()
    local a = mg.tensor(x)
    assert(near(mg.norm{3, 4}, 5))
    assert(near(a:norm{p = 1}, 8.25))
    assert(near(a:norm{p = 3}, (1.5 ^ 3 + 8 + 0.125 + 27 + 0.25 ^ 3 + 1) ^ (1 / 3)))
    assert(near(a:norm{p = huge, axis = 2}, {2, 3}))
    assert(near(a:norm{p = -huge, axis = {1, 2}}, 0.25))
    assert(near(mg.norm({1, 0, 2}, {p = 0}), 2))
    assert(near(a:norm{axis = 1, keepdims = true}, {{11.25 ^ 0.5, 4.0625 ^ 0.5, 1.25 ^ 0.5}}))
    for _, p in ipairs{1, 2, 2.5, 3} do
      assert(helper.differentiable(function(b) return b:norm{p = p, axis = 2} end, {a}))
    end
    local zero = mg.Variable{0, 0}
    zero:norm():backward()
    assert(exact(zero.grad, {0, 0}))
  end)

  it("norm and its derivatives hold over the whole range of numbers", function()
    local function of(dtype, a, b)
      local v = mg.Variable(mg.tensor({a, b}, dtype))
      local y = v:norm()
      local g = mg.gradients(y, v, {create_graph = true})
      return y:item(), g:totable(), mg.gradients(g:sum(), v):totable()
    end
    local unit = {float32 = {0x1p-148, 0x1p-100, 1, 0x1p125},
                  float64 = {0x1p-1073, 0x1p-600, 1, 0x1p1021}}
    for dtype, list in pairs(unit) do
      for _, u in ipairs(list) do
        local y, g, h = of(dtype, 3 * u, 4 * u)
        assert.equal(5 * u, y)
        assert(near(mg.tensor(g), {0.6, 0.8}, 1e-6))
        if u > 0x1p-125 then assert(near(mg.tensor(h) * u, {0.032, -0.024}, 1e-6)) end
      end
    end
    local _, g, h = of("float32", 0x1p-133, 0) -- beside 0 the slope of the slope is not 0 / 0
    assert.same({1, 0}, g)
    assert.same({0, huge}, h)
    assert.equal(huge, (of("float64", huge, 1)))
    assert.equal("float64", mg.tensor({3, 4}, "int64"):norm().dtype)
  end)

  it("equal and allclose give a Lua boolean", function()
    assert.is_true(mg.equal(mg.tensor{1, 2}, {1, 2}))
    assert.is_false(mg.equal(mg.tensor{1, 2}, {1, 3}))
    assert.is_false(mg.equal(mg.tensor{1, 2}, {{1, 2}}))
    assert.is_true(mg.allclose({1, 2}, {1 + 1e-7, 2}))
    assert.is_false(mg.allclose({1, 2}, {1 + 1e-4, 2}))
    assert.is_true(mg.allclose({1, 2}, {1.1, 2}, {rtol = 0.2}))
    assert.is_true(mg.allclose({huge}, {huge}))
    assert.is_false(mg.allclose({1}, {huge}))
    assert.is_false(mg.allclose({huge}, {1}, {atol = huge}))
    assert.is_true(mg.allclose({huge, 5}, {huge, 1}, {atol = huge}))
    assert.is_false(mg.allclose({nan}, {nan}))
    assert.is_true(mg.allclose({nan}, {nan}, {equal_nan = true}))
  end)
end)
