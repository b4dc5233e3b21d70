-- Elements rearranged: what moves them gives what is written here, for every dtype, and passes
-- gradients to where the elements came from.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, same, raises = helper.exact, helper.same, helper.raises
local counts = helper.counting(it)

local DTYPES = {"float64", "float32", "int64", "uint8", "bool"}

local X = {{1, 2, 3}, {4, 5, 6}}

local function int(t) return mg.tensor(t, "int64") end

local function is_true(t)
  if type(t) ~= "table" then return t ~= 0 end
  local r = {}
  for i, v in ipairs(t) do r[i] = is_true(v) end
  return r
end

-- call gives `want` of x with these elements, in all dtypes; and is differentiable twice.
local function moves(elements, call, want)
  for _, dtype in ipairs(DTYPES) do
    local y = call(mg.tensor(elements, dtype))
    assert.equal(dtype, y.dtype)
    assert(exact(y, dtype == "bool" and is_true(want) or want))
  end
  assert(helper.differentiable(function(x) return call(x:sin()):square() end,
    {mg.tensor(elements)}))
end

local function check(name, cases)
  it(name, function()
    for _, case in ipairs(cases) do
      moves(case[1], function(x) return (x[name](x, table.unpack(case, 2, #case - 1))) end,
        case[#case])
    end
  end)
end

describe("shape ops", function()
  helper.guard(before_each, after_each)

  check("reshape", {
    {X, 6, {1, 2, 3, 4, 5, 6}},
    {X, {3, 2}, {{1, 2}, {3, 4}, {5, 6}}},
    {X, -1, 1, 2, {{{1, 2}}, {{3, 4}}, {{5, 6}}}},
    {{{7}}, 7},
  })
  check("transpose", {
    {X, {{1, 4}, {2, 5}, {3, 6}}},
    {{X}, 2, 3, 1, {{{1}, {2}, {3}}, {{4}, {5}, {6}}}},
    {{X}, {{{1}, {4}}, {{2}, {5}}, {{3}, {6}}}},
  })
  check("permute", {{{X}, {-1, 1, 2}, {{{1, 4}}, {{2, 5}}, {{3, 6}}}}})
  check("swapaxes", {
    {X, 1, 2, {{1, 4}, {2, 5}, {3, 6}}},
    {{X}, 1, -2, {{{1, 2, 3}}, {{4, 5, 6}}}},
  })
  check("squeeze", {{{{X}}, X}, {{{X}}, 1, {X}}, {{{X}}, {1, 2}, X}, {X, 1, X}})
  check("unsqueeze", {{X, 1, {X}}, {X, -1, {{{1}, {2}, {3}}, {{4}, {5}, {6}}}}})
  check("flatten", {
    {{X, X}, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}},
    {{X, X}, 2, {{1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}}},
    {{X, X}, 1, 2, {{1, 2, 3}, {4, 5, 6}, {1, 2, 3}, {4, 5, 6}}},
  })
  check("broadcast_to", {
    {{1, 2}, {2, 2}, {{1, 2}, {1, 2}}},
    {{{1}, {2}}, {2, 3}, {{1, 1, 1}, {2, 2, 2}}},
    {5, {2}, {5, 5}},
  })
  check("expand", {
    {{{1}, {2}}, 2, 3, {{1, 1, 1}, {2, 2, 2}}},
    {{{1}, {2}}, {-1, 2}, {{1, 1}, {2, 2}}},
    {{1, 2}, 2, -1, {{1, 2}, {1, 2}}},
  })
  check("flip", {{X, 1, {{4, 5, 6}, {1, 2, 3}}}, {X, {1, -1}, {{6, 5, 4}, {3, 2, 1}}}})
  check("roll", {
    {X, 1, {{6, 1, 2}, {3, 4, 5}}},
    {X, -1, 2, {{2, 3, 1}, {5, 6, 4}}},
    {X, {1, 4}, {1, 2}, {{6, 4, 5}, {3, 1, 2}}},
    {X, 0, 1, X},
  })
  check("pad", {
    {{1, 2}, {1, 2}, {0, 1, 2, 0, 0}},
    {{{1}, {2}}, {0, 1, 1, 0}, {{0, 0}, {1, 0}, {2, 0}}},
    {{1, 2, 3}, {-1, 1}, {2, 3, 0}},
    {{1, 2}, {1, 0}, {value = 1}, {1, 1, 2}},
  })
  check("tril", {
    {X, {{1, 0, 0}, {4, 5, 0}}},
    {X, 1, {{1, 2, 0}, {4, 5, 6}}},
    {{X}, -1, {{{0, 0, 0}, {4, 0, 0}}}},
  })
  check("triu", {{X, {{1, 2, 3}, {0, 5, 6}}}, {X, 1, {{0, 2, 3}, {0, 0, 6}}}})
  check("diag", {
    {X, {1, 5}}, {X, 1, {2, 6}}, {X, -1, {4}},
    {{1, 2}, {{1, 0}, {0, 2}}},
    {{1, 2}, 1, {{0, 1, 0}, {0, 0, 2}, {0, 0, 0}}},
    {{3}, -1, {{0, 0}, {3, 0}}},
  })
  check("repeat_interleave", {
    {{1, 2}, 2, {1, 1, 2, 2}},
    {X, 2, 2, {{1, 1, 2, 2, 3, 3}, {4, 4, 5, 5, 6, 6}}},
    {X, {2, 1}, 1, {{1, 2, 3}, {1, 2, 3}, {4, 5, 6}}},
  })
  check("tile", {
    {{1, 2}, 2, {1, 2, 1, 2}},
    {X, 1, 2, {{1, 2, 3, 1, 2, 3}, {4, 5, 6, 4, 5, 6}}},
    {{1, 2}, {2, 2}, {{1, 2, 1, 2}, {1, 2, 1, 2}}},
    {X, 1, X},
  })
  check("movedim", {
    {{X}, 1, -1, {{{1}, {2}, {3}}, {{4}, {5}, {6}}}},
    {{X}, {3, 1}, {1, 2}, {{{1, 4}}, {{2, 5}}, {{3, 6}}}},
    {X, 2, 2, X},
    {7, 1, -1, 7},
  })
  check("rot90", {
    {X, {{3, 6}, {2, 5}, {1, 4}}},
    {X, 2, {{6, 5, 4}, {3, 2, 1}}},
    {X, -1, {{4, 1}, {5, 2}, {6, 3}}},
    {X, 1, {2, 1}, {{4, 1}, {5, 2}, {6, 3}}},
    {X, 4, X},
    {{X}, 1, {-1, 2}, {{{4, 1}, {5, 2}, {6, 3}}}},
  })
  check("index_select", {{X, 2, {3, -3}, {{3, 1}, {6, 4}}}})
  check("gather", {
    {X, 1, {{2, 1, 1}, {1, 1, 2}}, {{4, 2, 3}, {1, 2, 6}}},
    {X, 2, {{3}, {-3}}, {{3}, {4}}},
  })
  check("take_along", {
    {X, int{{3}, {1}}, 2, {{3}, {4}}},
    {X, int{5, 1}, {5, 1}},
    {X, int{{2}}, 2, {{2}, {5}}},
  })

  it("cat and stack", function()
    moves(X, function(x) return mg.cat({x, x[{{1, 1}}]}) end, {{1, 2, 3}, {4, 5, 6}, {1, 2, 3}})
    moves(X, function(x) return mg.cat({x, x}, -1) end, {{1, 2, 3, 1, 2, 3}, {4, 5, 6, 4, 5, 6}})
    moves({1, 2}, function(x) return mg.stack{x, x} end, {{1, 2}, {1, 2}})
    moves({1, 2}, function(x) return mg.stack({x, x}, -1) end, {{1, 1}, {2, 2}})
    moves(3, function(x) return mg.stack{x, x} end, {3, 3})
    assert(same(mg.cat{mg.zeros(0, 2), mg.ones(1, 2)}, mg.ones(1, 2)))
    assert(raises("stack: input 2 has shape (3), input 1 (2)", mg.stack, {mg.ones(2), mg.ones(3)}))
    assert(raises("cat: ", mg.cat, {mg.ones(2, 2), mg.ones(3, 3)}))
    assert(raises("cat: ", mg.cat, {}))
  end)

  it("numbers widen none of those that they are joined with", function()
    local x, n = mg.tensor({1, 2}, "float32"), mg.tensor({(1 << 53) + 1, 2}, "int64")
    for _, join in ipairs{mg.stack, mg.hstack, mg.vstack} do
      assert.equal("float32", join{0.5, x[1], 7}.dtype)
      assert.equal("float64", join{x[1], 0.5, mg.tensor(1, "float64")}.dtype)
      assert.equal("float64", join{n[2], 0.5}.dtype)
      assert.equal("float64", join{1, 2}.dtype)
    end
    assert.same({(1 << 53) + 1, (1 << 53) + 3}, mg.stack{n[1], (1 << 53) + 3}:totable())
    mg.using_config("dtype", "float32", function()
      assert.same({1, 0.1}, mg.stack{mg.tensor(1, "float64"), 0.1}:totable())
    end)
  end)

  it("hstack and vstack", function()
    moves(X, function(x) return mg.hstack{x, x} end, {{1, 2, 3, 1, 2, 3}, {4, 5, 6, 4, 5, 6}})
    moves(X, function(x) return mg.vstack{x, x[1]} end, {{1, 2, 3}, {4, 5, 6}, {1, 2, 3}})
    moves({1, 2}, function(x) return mg.hstack{x, x[1]} end, {1, 2, 1})
    moves({1, 2}, function(x) return mg.vstack{x, x} end, {{1, 2}, {1, 2}})
    moves(3, function(x) return mg.vstack{x, x} end, {{3}, {3}})
    assert.same({2, 0}, mg.hstack{mg.ones(2, 0), mg.ones(2, 0)}.shape)
    assert(raises("hstack: needs a table of Variables", mg.hstack, {}))
    local a, b = mg.ones(2, 3), mg.ones(4, 5)
    assert(raises("hstack: input 2 has shape (4, 5), input 1 (2, 3); only axis 2 may differ",
      mg.hstack, {a, b}))
    assert(raises("vstack: input 2 has shape (4, 5), input 1 (2, 3); only axis 1 may differ",
      mg.vstack, {a, b}))
    assert(raises("vstack: input 2 has shape (1, 2, 3)", mg.vstack, {a, a:unsqueeze(1)}))
    assert(raises("masked_fill: mask (4, 5) does not broadcast to x (2, 3)",
      mg.masked_fill, a, b:gt(0), 1))
    assert(raises("allclose: shapes (2, 3) and (4, 5) do not broadcast", mg.allclose, a, b))
    assert(raises("vstack: argument 1 is a Variable, expected a table of Variables", mg.vstack,
      mg.ones(2)))
  end)

  it("meshgrid spreads each over the axes of the others", function()
    local a, b = mg.tensor{1, 2}, mg.tensor({3, 4, 5}, "int64")
    local x, y = mg.meshgrid(a, b)
    assert(same(x, mg.tensor{{1, 1, 1}, {2, 2, 2}}))
    assert(same(y, mg.tensor({{3, 4, 5}, {3, 4, 5}}, "int64")))
    x, y = a:meshgrid(b, {indexing = "xy"})
    assert(same(x, mg.tensor{{1, 2}, {1, 2}, {1, 2}}))
    assert(same(y, mg.tensor({{3, 3}, {4, 4}, {5, 5}}, "int64")))
    local z = select(3, mg.meshgrid({1, 2}, 3, {4, 5}))
    assert(exact(z, {{{4, 5}}, {{4, 5}}}))
    assert.same({2, 0}, (mg.meshgrid(a, mg.ones(0))).shape)
    assert(exact(mg.meshgrid({1, 2}, {indexing = "xy"}), {1, 2}))
    assert(helper.differentiable(function(u, v)
      u, v = mg.meshgrid(u, v)
      return u:sin() * v:square()
    end, {a, b:to "float64"}))
    assert(raises("meshgrid: input 2 has shape (1, 2), expected 1-d", mg.meshgrid, a, {{1, 2}}))
  end)

  it("more results than a call can give are refused", function()
    local x = mg.rand(900000)
    for name, arg in pairs{unbind = 1, split = 1, chunk = 900000} do
      assert(helper.raises(name .. ": 900000 results are more than a call can give",
        function() return mg[name](x, arg) end))
    end
    assert(helper.raises("split: 1000000000000", mg.split, mg.full({1000000, 1000000}, 1):flatten(),
      1))
    assert.equal(100000, select("#", mg.unbind(mg.rand(100000))))
  end)

  it("unbind gives what stands along an axis, one by one", function()
    moves(X, function(x) return (select(2, x:unbind())) end, {4, 5, 6})
    moves(X, function(x) return (select(2, x:unbind(-1))) end, {2, 5})
    assert.equal(3, select("#", mg.unbind(X, 2)))
    assert.equal(0, select("#", mg.ones(0, 2):unbind()))
    assert(raises("unbind: a 0-d Variable has no parts", mg.unbind, 3))
  end)

  it("split and chunk give several results", function()
    local x = mg.range(1, 7)
    local function sizes(...)
      local t = {}
      for i, y in ipairs{...} do t[i] = y.size end
      return t
    end
    assert.same({3, 3, 1}, sizes(x:split(3)))
    assert.same({2, 0, 5}, sizes(x:split{2, 0, 5}))
    assert.same({3, 3, 1}, sizes(x:chunk(3)))
    assert.same({7}, sizes(x:chunk(1)))
    moves(X, function(y) return (select(2, y:split(2, 2))) end, {{3}, {6}})
    moves(X, function(y) return (select(2, y:chunk(2))) end, {{4, 5, 6}})
    assert(raises("split: sizes (2, 2) add up to 4, but axis 1 of shape (7) has 7",
      x.split, x, {2, 2}))
  end)

  it("one_hot is int64", function()
    assert(same(mg.one_hot({2, 1}, 3), mg.tensor({{0, 1, 0}, {1, 0, 0}}, "int64")))
    assert(exact(mg.one_hot{1, 3}, {{1, 0, 0}, {0, 0, 1}}))
    assert.same({2, 2, 4}, mg.one_hot({{1, 2}, {3, 4}}, 4).shape)
    assert(raises("one_hot: label 4 at position 2 is not in 1..3", mg.one_hot, {1, 4}, 3))
  end)

  it("sort and topk give values and indices, stable, nan the largest", function()
    local nan = 0 / 0
    local x = mg.tensor{3, 1, nan, 2, 1}
    local values, order = x:sort()
    assert(exact(values, {1, 1, 2, 3, nan}))
    assert(same(order, mg.tensor({2, 5, 4, 1, 3}, "int64")))
    values, order = x:sort{descending = true}
    assert(exact(order, {3, 1, 4, 2, 5}))
    assert(exact(values, {nan, 3, 2, 1, 1}))
    assert(exact((mg.topk(x, 2)), {nan, 3}))
    assert(exact((mg.topk(x, 4, {largest = false})), {1, 1, 2, 3}))
    assert(exact((mg.tensor({nan, -nan, 1 / 0, -1 / 0}):sort{descending = true}),
      {nan, nan, 1 / 0, -1 / 0}))
    values, order = mg.topk({{1, 5, 2}, {9, 8, 7}}, 2)
    assert(exact(values, {{5, 2}, {9, 8}}))
    assert(exact(order, {{2, 3}, {1, 2}}))
    assert(exact((mg.topk({{1, 5, 2}, {9, 8, 7}}, 1, {axis = 1, largest = false})), {{1, 5, 2}}))
    assert(exact((mg.sort({{3, 1}, {2, 4}}, 1)), {{2, 1}, {3, 4}}))
    moves(X, function(y) return (y:sort{descending = true}) end, {{3, 2, 1}, {6, 5, 4}})
    moves(X, function(y) return (y:topk(2)) end, {{3, 2}, {6, 5}})
    assert(raises("topk: k 4 is more than axis 2 of shape (2, 3) has", mg.topk, X, 4))
  end)

  it("sort agrees with table.sort on long rows and columns", function()
    mg.seed(1)
    for _, n in ipairs{11, 12, 13, 25, 1000, 40000} do
      local x = mg.randint(-n, n, {n})
      local want = x:totable()
      table.sort(want)
      local values, order = x:sort()
      assert(exact(values, want))
      assert(same(x[order], values))
      local steps = order[{{2, n}}] - order[{{1, n - 1}}]
      local ties = values[{{2, n}}]:eq(values[{{1, n - 1}}])
      assert.is_false(ties:logical_and(steps:lt(0)):any():item())
      local columns = mg.stack({x, -x}, 2)
      assert(same((columns:sort(1)), mg.stack({values, -values:flip(1)}, 2)))
    end
  end)

  it("cumsum runs along an axis, forwards and back", function()
    for axis = 1, 3 do
      assert(helper.differentiable(function(x) return x:cumsum(axis):sin() end,
        {mg.rand(2, 3, 2)}))
    end
    assert(exact(mg.ones(70000):cumsum(1)[-1], 70000))
    assert(exact(mg.ones(3, 100):cumsum(1)[3], mg.full({100}, 3)))
    assert.equal("int64", mg.ones{2, dtype = "uint8"}:cumsum(1).dtype)
    assert(exact(mg.full({100000}, 0.1, "float32"):cumsum(1)[-1]:item(), 10000, 1 << 30))
  end)

  it("elements of permuted axes are read, and copied to where they belong", function()
    local orders = {{1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}}
    for _, shape in ipairs{{3, 33, 17}, {2, 1050, 40}, {35, 16, 2}, {1, 64, 1100}, {16, 2, 15}} do
      local n = {shape[2] * shape[3], shape[3], 1}
      local x = mg.range(0, shape[1] * n[1] - 1):reshape(shape)
      for _, order in ipairs(orders) do
        local want = 0                                    -- where in x each is
        for k, axis in ipairs(order) do
          local places, along = mg.range(0, shape[axis] - 1), {1, 1, 1}
          along[k] = -1
          want = want + places:reshape(along) * n[axis]
        end
        for _, dtype in ipairs(DTYPES) do
          local modulus = dtype == "bool" and 2 or 251
          local y, dense = (x % modulus):to(dtype), (want % modulus):to(dtype)
          mg.eval(y, dense)
          y = y:permute(order)
          assert(y:reshape(-1):eq(dense:reshape(-1)):all():item())
          assert(y:eq(dense):all():item())
          for axis = 1, dtype:find "float" and 3 or 0 do
            assert((y * 0.1 + 1):sum(axis):eq((dense * 0.1 + 1):sum(axis)):all():item())
          end
        end
      end
    end
  end)

  it("scatter_add and index_add add where indices meet, leaving x alone", function()
    local x = mg.zeros(3)
    assert(exact(x:scatter_add(1, {1, 1, 3}, mg.tensor{1, 2, 4}), {3, 0, 4}))
    assert(exact(x:index_add(1, {2, 2}, mg.tensor{1, 2}), {0, 3, 0}))
    assert(exact(x, {0, 0, 0}))
    local at = mg.range(0, 99999):to("int64") % 7 + 1
    assert(exact(mg.zeros(7):scatter_add(1, at, mg.ones(100000)),
      {14286, 14286, 14286, 14286, 14286, 14285, 14285}))
    assert(exact(mg.zeros(7, 2):index_add(1, at, mg.ones(100000, 2))[{{}, 2}],
      {14286, 14286, 14286, 14286, 14286, 14285, 14285}))
  end)

  counts("reshape sees parts of a large array where they lie, or copies them", function()
    local x = mg.range(1, 40 * 50 * 96):reshape(40, 50, 96)
    local function bytes(part, shape)
      mg.eval(part)
      mg.reset_peak()
      local before = mg.memory().live
      local y = part:reshape(shape)
      local more = mg.memory().peak - before
      assert(exact(y, (part + 0):reshape(shape)))
      assert(exact(y:swapaxes(1, -1) * 2 + 1, (part + 0):reshape(shape):swapaxes(1, -1) * 2 + 1))
      return more
    end
    local rows = x[{{}, {}, {33, 64}}]
    for _, shape in ipairs{{40, 50, 4, 8}, {2000, 32}, {8, 5, 1, 25, 2, 32, 1}, {2000, 2, 16}} do
      assert.equal(0, bytes(rows, shape))
    end
    local size = 8 * rows.size
    for _, shape in ipairs{{-1}, {40, 1600}, {1000, 64}} do assert(bytes(rows, shape) >= size) end
    assert.equal(0, bytes(x[{{}, {1, 40}}], {40, 10, 4, 96}))
    assert(bytes(x[{{}, {1, 40}}], {20, 80, 96}) > 0)
    assert.equal(0, bytes(x[{{40, 1, -1}}], {8, 5, 4800}))
    assert(bytes(x.T, {40, 96, 5, 10}) > 0)
    assert(bytes(x:permute(2, 1, 3), {5, 10, 40, 96}) == 0)
    assert(bytes(x[{{}, {}, {1, 8}}], {40, 50, 2, 4}) > 0)         -- short rows
    local v = mg.Variable(x)
    local weight = mg.randn(40, 4, 50, 8)
    local y = (v[{{}, {}, {33, 64}}]:reshape(40, 50, 4, 8):swapaxes(2, 3) * weight):sum()
    y:backward()
    local want = mg.zeros_like(x)
    want[{{}, {}, {33, 64}}] = weight:swapaxes(2, 3):reshape(40, 50, 32)
    assert(same(v.grad, want))
  end)

  it("give Variables of their own where there is nothing to do", function()
    local one, square, whole = mg.tensor(5), mg.tensor{{1, 2}, {3, 4}}, int{1, 2}
    for name, call in pairs{
      roll = function() return mg.tensor(X), function(x) return x:roll({3, -2}, {2, 1}) end end,
      rot90 = function() return mg.tensor(X), function(x) return x:rot90(-4) end end,
      diff = function() return mg.tensor(X), function(x) return x:diff{n = 0} end end,
      movedim = function() return one, function(x) return x:movedim(1, 1) end end,
      shuffle = function() return one, function(x) return x:shuffle() end end,
      matrix_power = function() return square, function(x) return x:matrix_power(1) end end,
      nan_to_num = function() return whole, function(x) return x:nan_to_num() end end,
    } do
      local x, fn = call()
      local y, before = fn(x), x:totable()
      assert.not_equal(x, y, name)
      assert.same(before, y:totable(), name)
      y.data = mg.zeros_like(y)
      assert.same(before, x:totable(), name)
      y:free()
      assert.same(before, x:totable(), name)
      if x.dtype == "float64" then
        local leaf = mg.Variable(x)
        fn(leaf):sum():backward()
        assert(exact(leaf.grad, mg.ones_like(x):totable()), name)
      end
    end
  end)

  it("refuse what does not fit", function()
    local x = mg.tensor(X)
    for text, call in pairs{
      ["reshape: (2, 3) has 6 elements, (4) has 4"] = function() x:reshape(4) end,
      ["reshape: (-1, 4) does not fit (2, 3)"] = function() x:reshape(-1, 4) end,
      ["permute: axis 1 is given twice"] = function() x:permute(1, 1) end,
      ["permute: 1 axes given for shape (2, 3)"] = function() x:permute(1) end,
      ["swapaxes: axis 3 is out of range for shape (2, 3)"] = function() x:swapaxes(1, 3) end,
      ["unsqueeze: axis 4 is out of range"] = function() x:unsqueeze(4) end,
      ["broadcast_to: (2, 3) does not broadcast to (2, 4)"] =
        function() x:broadcast_to{2, 4} end,
      ["expand: (2, 3) does not expand to (3, 3)"] = function() x:expand(3, 3) end,
      ["sum_to: (4) does not broadcast to (2, 3)"] = function() x:sum_to{4} end,
      ["flatten: first axis 2 stands after last axis 1"] = function() x:flatten(2, 1) end,
      ["flip: axis 3 is out of range"] = function() x:flip(3) end,
      ["roll: 1 shifts for 2 axes"] = function() x:roll(1, {1, 2}) end,
      ["pad: widths must be"] = function() x:pad{1} end,
      ["pad: widths -2 and -2 cut more than axis 2"] = function() x:pad{-2, -2} end,
      ["tril: needs 2 axes or more, got shape (3)"] = function() x[1]:tril() end,
      ["pad: widths 9223372036854775807 and 1 are too large"] = function()
        x:pad{math.maxinteger, 1}
      end,
      ["diag: diagonal 4294967296 is too far out"] = function() x[1]:diag(1 << 32) end,
      ["diag: diagonal -9223372036854775808 is too far out"] = function()
        x[1]:diag(math.mininteger)
      end,
      ["diag_embed: diagonal -9223372036854775808 is too far out"] = function()
        x:diag_embed{offset = math.mininteger}
      end,
      ["diag: shape (2, 3) has no diagonal 3"] = function() x:diag(3) end,
      ["tile: n[1] = -1 is negative"] = function() x:tile(-1) end,
      ["repeat_interleave: n must be a number or 3 numbers"] =
        function() x:repeat_interleave({1}, 2) end,
      ["index_select: index 3 at position 1 is not in 1..2"] =
        function() x:index_select(1, {3}) end,
      ["gather: "] = function() x:gather(1, {1, 2}) end,
      ["sort: argument 2 is a boolean, expected a table of options"] =
        function() x:sort(1, true) end,
      ["split: a 0-d Variable has no parts"] = function() mg.split(3, 1) end,
      ["movedim: 1 axes to 2 places"] = function() x:movedim(1, {1, 2}) end,
      ["movedim: axis 1 is given twice"] = function() x:movedim({1, -2}, {1, 2}) end,
      ["rot90: needs two axes, got 1"] = function() x:rot90(1, 2) end,
      ["rot90: axis 2 is out of range for shape (3)"] = function() x[1]:rot90() end,
      ["stack: input 2 is a string"] = function() mg.stack{x, "x"} end,
    } do
      assert(raises(text, call))
    end
  end)
end)
