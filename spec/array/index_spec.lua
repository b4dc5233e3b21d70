-- x[...] and x[...] = v: every form of index, its gradient, and what writing may touch.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, same, raises = helper.exact, helper.same, helper.raises

local function int(t) return mg.tensor(t, "int64") end

local function filled(n)
  local t = {}
  for i = 1, n do t[i] = mg.newaxis end
  return t
end

-- (2, 3, 4), its elements 1..24
local function cube() return mg.range(1, 24):reshape(2, 3, 4) end

local forms = {
  {"a number", 2, {{13, 14, 15, 16}, {17, 18, 19, 20}, {21, 22, 23, 24}}},
  {"a negative number", -2, {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}}},
  {"a 0-d int64 Variable", int(2), {{13, 14, 15, 16}, {17, 18, 19, 20}, {21, 22, 23, 24}}},
  {"numbers for all axes", {2, 3, -1}, 24},
  {"numbers for the first axes", {1, 2}, {5, 6, 7, 8}},
  {"a range", {1, {2, 3}, 1}, {5, 9}},
  {"a range from the end", {1, {-2, -1}, 1}, {5, 9}},
  {"all of an axis", {{}, 1, 1}, {1, 13}},
  {"a step", {1, 1, {1, 4, 2}}, {1, 3}},
  {"a step that does not meet the end", {1, 1, {1, 4, 3}}, {1, 4}},
  {"a step backwards", {2, 3, {4, 1, -1}}, {24, 23, 22, 21}},
  {"a step backwards from the end", {2, 3, {-1, 1, -2}}, {24, 22}},
  {"a range of one", {{2, 2}, {3, 3}, {1, 2}}, {{{21, 22}}}},
  {"ranges for all axes", {{}, {1, 3, 2}, {2, 3}},
    {{{2, 3}, {10, 11}}, {{14, 15}, {22, 23}}}},
  {"an empty table", {}, nil},
  {"a new axis", {mg.newaxis, 2, {2, 3}, 1}, {{17, 21}}},
  {"new axes alone", {{}, 1, mg.newaxis, {1, 2}, mg.newaxis}, {{{{1}, {2}}}, {{{13}, {14}}}}},
  {"an index of the last axis", {{}, {2, 3}, int{4, 1}}, {{{8, 5}, {12, 9}}, {{20, 17}, {24, 21}}}},
  {"an index between ranges", {{}, int{3, -3}, {1, 2}},
    {{{9, 10}, {1, 2}}, {{21, 22}, {13, 14}}}},
  {"an index beside a number", {2, int{3, 1}}, {{21, 22, 23, 24}, {13, 14, 15, 16}}},
  {"an index apart from a number", {1, {2, 3}, int{4, 1}}, {{8, 12}, {5, 9}}},
  {"indices side by side", {int{2, 1, 2}, int{3, 1, -3}},
    {{21, 22, 23, 24}, {1, 2, 3, 4}, {13, 14, 15, 16}}},
  {"indices side by side behind a range", {{2, 1, -1}, int{3, 1}, int{-1, 2}}, {{24, 14}, {12, 2}}},
  {"indices apart, which move to the front", {int{2, 1}, {2, 3}, int{1, 4}}, {{17, 21}, {8, 12}}},
  {"indices that broadcast", {int{{1}, {2}}, int{3, 1}, 2}, {{10, 2}, {22, 14}}},
  {"indices of all axes", {int{2, 1}, int{1, 2}, int{-1, 3}}, {16, 7}},
  {"a 0-d index among others", {int(2), int{1, 2}, {1, 2}}, {{13, 14}, {17, 18}}},
  {"no index at all", {int{2}, mg.zeros{0, dtype = "int64"}}, {}},
  {"a mask of a later axis", {{}, 2, mg.tensor{true, false, false, true}}, {{5, 8}, {17, 20}}},
  {"a mask of two axes", {mg.tensor{{true, false, true}, {false, true, false}}, {2, 3}},
    {{2, 3}, {10, 11}, {18, 19}}},
  {"a mask of the last two axes", {1, mg.tensor{{false, true, false, false},
    {false, false, false, false}, {true, false, false, true}}}, {2, 9, 12}},
  {"a mask and an index", {mg.tensor{true, true}, {}, int{2, 4}},
    {{2, 6, 10}, {16, 20, 24}}},
  {"a mask beside a new axis", {{}, mg.tensor{true, false, true}, mg.newaxis, 1},
    {{{1}, {13}}, {{9}, {21}}}},
}

describe("index", function()
  helper.guard(before_each, after_each)

  for _, form in ipairs(forms) do
    local name, key, want = form[1], form[2], form[3]
    it("by " .. name, function()
      local x = cube()
      want = want or x:totable()
      assert(exact(x[key], want))
      assert(exact((x * 2 - x)[key], want))
      assert(exact(x:permute(3, 1, 2):clone():permute(2, 3, 1)[key], want))
      assert(exact(x:flip{1, 3}:clone():flip{1, 3}[key], want))
      assert(exact(x:to("uint8")[key], want))
      assert(helper.differentiable(function(a) return (a:sin())[key]:square() end, {x / 10}))
    end)
  end

  it("of a 1-d Variable gives a 0-d one", function()
    local x = mg.tensor{5, 6, 7}
    assert.same({}, x[2].shape)
    assert.equal(7, x[-1]:item())
    assert(exact(x[{{2, 3}}], {6, 7}))
    assert(exact(x:slice({3, 1, -1}), {7, 6, 5}))
  end)

  it("gives an empty range where the end is just before the first", function()
    local x = cube()
    assert.same({0, 3, 4}, x[{{1, 0}}].shape)
    assert.same({2, 0, 4}, x[{{}, {4, 3}}].shape)
    assert.same({0}, x[{1, 1, {3, 2}}].shape)
  end)

  it("of a 0-d Variable is all of it", function()
    local x = mg.Variable(2.0)
    assert.equal(2, x[{}]:item())
    x[{}]:backward()
    local z = x * x[{}] + x[{}]
    z:backward()
    assert.equal(1 + 4 + 1, x.grad:item())
    local y = x[{}] ^ 2 * x
    assert.equal(12, mg.gradients(y, {x})[1]:item())
    assert(helper.differentiable(function(v) return v[{}] * v end, {mg.tensor(2)}))
  end)

  it("by an int64 Variable picks along axis 1", function()
    local x = mg.tensor{{1, 2}, {3, 4}, {5, 6}}
    assert(exact(x[int{3, 1, 1}], {{5, 6}, {1, 2}, {1, 2}}))
    assert(exact(x[int{-1}], {{5, 6}}))
    assert(exact(x[int{{1, 2}, {3, 1}}], {{{1, 2}, {3, 4}}, {{5, 6}, {1, 2}}}))
    assert.same({0, 2}, x[mg.zeros{0, dtype = "int64"}].shape)
    assert(exact(mg.tensor{7, 8}[int{2, 2, 1}], {8, 8, 7}))
    assert(helper.differentiable(function(a) return a:exp()[int{3, 1, 1, -1}] end, {x / 5}))
  end)

  it("by a bool Variable selects", function()
    local x = mg.tensor{{1, 2}, {3, 4}, {5, 6}}
    assert(exact(x[x:gt(2)], {3, 4, 5, 6}))
    assert(exact(x[mg.tensor{true, false, true}], {{1, 2}, {5, 6}}))
    assert.same({0}, x[x:gt(9)].shape)
    assert.same({0, 2}, x[mg.tensor{false, false, false}].shape)
    assert(helper.differentiable(function(a) return a:square()[x:gt(2)] end, {x}))
    assert(helper.differentiable(function(a) return a:square()[x:gt(2)[{{}, 1}]] end, {x}))
  end)

  it("of many elements agrees with counting", function()
    local n = 70000
    local x = mg.range(1, n)
    local key = x:to("int64") * 7919 % n + 1
    assert(same(x[key]:to("int64"), key))
    local odd = (x % 2):eq(1)
    assert(same(x[odd], mg.range(1, n, 2)))
    assert(same(x[{{n, 1, -7}}], mg.range(n, 1, -7)))
    local leaf = mg.Variable(x)
    leaf[key]:sum():backward()
    assert(same(leaf.grad, mg.ones(n)))
    leaf:cleargrad()
    leaf[odd]:sum():backward()
    assert(same(leaf.grad, odd:to("float64")))
  end)

  it("adds up the gradients of what overlaps", function()
    local x = mg.Variable(mg.zeros(5))
    local sum = 0
    for i = 1, 3 do sum = sum + x[{{i, i + 2}}]:sum() * i + x[i] * 10 end
    sum:backward()
    assert(exact(x.grad, {11, 13, 16, 5, 3}))
    x:cleargrad()
    x[int{2, 2, 2, 5}]:sum():backward()
    assert(exact(x.grad, {0, 3, 0, 0, 1}))
  end)

  it("adds up the gradients of what is picked twice, in any places", function()
    local x = mg.Variable(mg.zeros(2, 3))
    x[{int{1, 2, 1}, int{2, 3, 2}}]:sum():backward()
    assert(exact(x.grad, {{0, 2, 0}, {0, 0, 1}}))
    x:cleargrad()
    x[{int{1, 1}, mg.newaxis, int{-1, 3}}]:square():sum():backward{create_graph = true}
    assert(exact(x.grad, {{0, 0, 0}, {0, 0, 0}}))
    local g = x.grad
    x:cleargrad()
    g[{1, 3}]:backward()
    assert(exact(x.grad, {{0, 0, 4}, {0, 0, 0}}))
  end)

  it("by mg.newaxis alone puts an axis in front", function()
    local x = mg.tensor{1, 2}
    assert.same({1, 2}, x[mg.newaxis].shape)
    assert.same({2, 1}, x[{{}, mg.newaxis}].shape)
    assert.same({1}, mg.tensor(3)[mg.newaxis].shape)
    x[mg.newaxis] = {{5, 6}}
    assert(exact(x, {5, 6}))
  end)

  it("takes any step, also where it leads nowhere", function()
    local x = mg.Variable(cube())
    for _, step in ipairs{1 << 62, math.maxinteger, 7} do
      assert(same(x[{{1, 2, step}, {3, 1, -step}}], x[{{1, 1}, {3, 3}}]))
    end
    assert(same(x[{{2, 1, math.mininteger}}], x[{{2, 2}}]))
    assert(same(x[{{2, 1, 1 << 62}}], mg.zeros(0, 3, 4)))
    x[{{1, 2, 1 << 62}}]:sum():backward()
    assert.equal(12, x.grad:sum():item())
    assert.equal(0, x.grad[2]:sum():item())
    x[{{2, 1, math.mininteger}}] = 0
    assert.equal(0, x[2]:abs():sum():item())
    assert(same(mg._slice_grad(mg.ones(1, 2), {2, 3}, {2, 1}, {1 << 62, 2}),
      mg.tensor{{0, 0, 0}, {1, 0, 1}}))
    assert(same(mg._slice_grad(mg.ones(0, 2), {2, 3}, {1 << 62, 1}, {0, 2}), mg.zeros(2, 3)))
  end)

  it("refuses what is out of range, by axis and shape", function()
    local x = cube()
    for text, key in pairs{
      ["index: 3 is out of range for axis 1 of shape (2, 3, 4)"] = 3,
      ["index: 0 is out of range for axis 1 of shape (2, 3, 4)"] = 0,
      ["index: -3 is out of range for axis 1 of shape (2, 3, 4)"] = -3,
      ["index: 5 is out of range for axis 3 of shape (2, 3, 4)"] = {1, 1, 5},
      ["index: 4 is out of range for axis 2"] = {1, {2, 4}},
      ["index: 0 is out of range for axis 2"] = {1, {0, 2}},
      ["index: the step at axis 1 is 0"] = {{1, 2, 0}},
      ["index: a table of 4 at axis 1"] = {{1, 2, 1, 1}},
      ["index: a string at axis 1"] = {"1"},
      ["index: the table has the key a"] = {a = 1},
      ["index: the table has the key b"] = {1, b = 1},
      ["{first, last, step}: the table has the key first"] = {{first = 1}},
      ["index: a position must be a whole number, not 1.5"] = 1.5,
      ["index: 4 for shape (2, 3, 4), which has 3 axes"] = {1, 1, 1, 1},
      ["index: 5 for shape (2, 3, 4), which has 3 axes"] = {1, 1, mg.newaxis, 1, int{1}},
      ["index: 18 in a table"] = {[18] = 1, table.unpack(filled(17))},
      ["index: 4 at position 2 of the index is not in 1..3"] = {{}, int{3, 4}},
      ["index: 0 at position 1 of the index is not in 1..4"] = {int{1}, 1, int{0}},
      ["index: -5 is out of range for axis 3 of shape (2, 3, 4)"] = {1, 1, int(-5)},
      ["index: indices of shapes (2) and (3) do not broadcast"] = {int{1, 2}, int{1, 2, 3}},
      ["index: a bool index of shape (2) does not fit shape (2, 3, 4)"] =
        {1, mg.tensor{true, true}},
      ["more than 8 axes"] = {int{{{{{{{1}}}}}}}},
      ["index: a Variable of float64"] = {1, mg.tensor{1}},
      ["expected int64 or bool"] = mg.tensor{1, 2},
      ["does not fit shape (2, 3, 4)"] = mg.tensor{true, false, true},
      ["is not in 1..2"] = int{1, 3},
      ["expected a number, a table or a Variable"] = true,
    } do
      assert(raises(text, function() return x[key] .. "" end))
      assert(raises(text, function() x[key] = 0 end))
    end
    assert(raises("index: ", function() return mg.tensor(1)[1] .. "" end))
  end)

  it("finds the first wrong index of very many", function()
    local index, x = mg.ones{100000, dtype = "int64"}, mg.rand(2, 3)
    for _, at in ipairs{100000, 70000, 40000, 1} do
      local wrong = at % 3 == 1 and 3 or -3   -- outside of 1..2 and -2..-1
      index[at] = wrong
      assert(raises(("index %d at position %d is not in 1..2"):format(wrong, at),
        mg.index_select, x, 1, index))
    end
  end)
end)

describe("assigning to an index", function()
  helper.guard(before_each, after_each)

  for _, form in ipairs(forms) do
    local name, key = form[1], form[2]
    it("by " .. name, function()
      local x, part = cube(), cube()[key]
      x[key] = part * -10
      assert(exact(x[key], part * -10))
      local changed = x:ne(cube())
      assert.equal(part:unique().size, changed:sum():item())
      x[key] = part
      assert(same(x, cube()))
    end)
  end

  it("broadcasts, converts and takes numbers and tables", function()
    local x = mg.zeros(2, 3)
    x[1] = 7
    x[2] = {1, 2, 3}
    assert(exact(x, {{7, 7, 7}, {1, 2, 3}}))
    x[{{}, {1, 2}}] = mg.tensor({{5}, {6}}, "int64")
    assert(exact(x, {{5, 5, 7}, {6, 6, 3}}))
    local i = mg.zeros{3, dtype = "int64"}
    i[2] = 2.9
    assert(exact(i, {0, 2, 0}))
    assert(raises("index: a value of shape (2) does not fit shape (3)", function()
      x[1] = {1, 2}
    end))
  end)

  it("keeps the last of what is written twice", function()
    local x = mg.zeros(2, 3)
    x[{int{1, 2, 1}, int{2, 2, 2}}] = {1, 2, 3}
    x[{2, int{3, 3, -1}}] = {4, 5, 6}
    assert(exact(x, {{0, 3, 0}, {0, 2, 6}}))
    local n = 100000
    local large = mg.zeros(3, 100)
    large[{mg.ones{n, dtype = "int64"}, mg.range(0, n - 1, {dtype = "int64"}) % 100 + 1}] =
      mg.range(1, n)
    assert(same(large[1], mg.range(n - 99, n)))
  end)

  it("by Variables writes where they pick", function()
    local x = mg.zeros(3, 2)
    x[int{3, 1}] = {{1, 2}, {3, 4}}
    assert(exact(x, {{3, 4}, {0, 0}, {1, 2}}))
    x[x:eq(0)] = 9
    assert(exact(x, {{3, 4}, {9, 9}, {1, 2}}))
    x[mg.tensor{true, false, false}] = {{-1, -2}}
    assert(exact(x, {{-1, -2}, {9, 9}, {1, 2}}))
    x[x:gt(100)] = 5
    assert(exact(x, {{-1, -2}, {9, 9}, {1, 2}}))
  end)

  it("leaves alone what others see", function()
    local x = mg.zeros(4)
    local data, view, copy, pending = x.data, x:reshape(2, 2), mg.tensor(x), x + 1
    x[{{1, 2}}] = 5
    assert(exact(x, {5, 5, 0, 0}))
    assert(exact(data, {0, 0, 0, 0}))
    assert(exact(view, {{0, 0}, {0, 0}}))
    assert(exact(copy, {0, 0, 0, 0}))
    assert(exact(pending, {1, 1, 1, 1}))
    local large = mg.zeros(5000)
    pending, view = large + 1, large[{{1, 4000}}]
    large[1] = 5
    assert.equal(1, pending[1]:item())
    assert.equal(0, view[1]:item())
    x[{{1, 3}}] = x[{{2, 4}}]
    assert(exact(x, {5, 0, 0, 0}))
  end)

  it("does not change what a backward to come will read", function()
    local x = mg.Variable{1, 2, 3}
    local y = x:square()
    x[1] = 100
    y:backward()
    assert(exact(x.grad, {2, 4, 6}))
    assert(exact(x, {100, 2, 3}))
  end)

  it("is refused of the values of a part, too", function()
    local x, leaf = mg.zeros(2, 2), mg.Variable(mg.zeros(2, 2))
    for _, part in ipairs{x[1], x[{{}, 1}], x[{{1, 1}}], x.T, (x:unbind())} do
      assert(raises("data: this is a copy that x[...] gave, or x.T", function()
        part.data = mg.ones(table.unpack(part.shape))
      end))
    end
    for _, part in ipairs{leaf[1], leaf[{{}, 1}], leaf[{{1, 1}}], leaf.T, leaf:reshape(4)} do
      assert(raises("of a Variable, which the value would not reach", function()
        part.data = mg.ones(table.unpack(part.shape))
      end))
    end
    assert(raises("data: this is a copy", function()
      for _, row in ipairs(x) do row.data = x[1] end
    end))
    local own = x[1]
    own.requires_grad = true                       -- a leaf from then on
    own.data = {1, 2}
    assert(exact(own, {1, 2}))
  end)

  it("is refused where its gradient would be", function()
    local x, y = mg.Variable{1, 2}, mg.zeros(2)
    for key, v in pairs{[1] = x[1] * 2, [{{}}] = x:clone(), [y:eq(0)] = x:square()} do
      assert(raises("index: what is written is not recorded, and this value would lose its",
        function() y[key] = v end))
    end
    assert(raises("index: what is written is not recorded", mg.grad(function(v)
      y[{ {} }] = v
      return (v * y):sum()
    end), x))
    assert(exact(y, {0, 0}))
    y[{ {} }] = x                                  -- a leaf is copied
    assert(exact(y, {1, 2}))
    y[1], y[2] = x[2].data, (x[2] * 2):detach()
    assert(exact(y, {2, 4}))
    mg.no_grad(function() y[1] = x[1] * 5 end)
    assert(raises("index: what is written is not recorded", function() x[2] = x[1] * 3 end))
    x[2] = (x[1] * 3).data
    assert(exact(y, {5, 4}))
    assert(exact(x, {1, 3}))
  end)

  it("is refused where it would be lost", function()
    local z = mg.zeros(2, 2)
    for _, key in ipairs{1, {1}, {{}, 1}, {{}, {1, 2}}} do
      assert(raises("index: this is a copy that x[...] gave", function() z[key][2] = 5 end))
    end
    assert(raises("index: this is a copy", function() z[mg.ones{1, dtype = "int64"}][1] = 5 end))
    assert(raises("index: this is a copy", function() z[z:eq(0)][1] = 5 end))
    assert(exact(z, {{0, 0}, {0, 0}}))
    local row = z[1]:clone()
    row[2] = 5
    assert(exact(row, {0, 5}))
    local x = mg.Variable{1, 2, 3}
    local leaf = mg.Variable{{1, 2}, {3, 4}}
    assert(raises("made by reshape: of x[i][j] = v say x[{i, j}] = v", function()
      leaf[1][2] = 0
    end))
    assert(raises("index: only a leaf can be written into; this Variable was made by square",
      function() x:square()[1] = 0 end))
    assert(raises("index: x.data is frozen", function() x.data[1] = 0 end))
    assert(exact(x, {1, 2, 3}))
  end)
end)

describe("loops over a Variable", function()
  helper.guard(before_each, after_each)

  it("go along axis 1 and end, by ipairs and by pairs", function()
    local x = mg.Variable{{1, 2}, {3, 4}, {5, 6}}
    for _, each in ipairs{ipairs, pairs} do
      local seen = {}
      for i, row in each(x) do seen[i] = row:totable() end
      assert.same({{1, 2}, {3, 4}, {5, 6}}, seen)
      for _ in each(mg.zeros(0)) do error "nothing is there" end
    end
    for _, row in ipairs(x) do row:sum():backward() end
    assert(exact(x.grad, {{1, 1}, {1, 1}, {1, 1}}))
    assert(raises("pairs: a 0-d Variable", pairs, mg.tensor(1)))
    assert(raises("index: 4 is out of range", function() return x[4] end))
  end)
end)
