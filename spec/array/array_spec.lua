-- Arrays: how they are made, their dtypes, how these meet, and the way back to Lua and to text.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, same, raises = helper.exact, helper.same, helper.raises
local huge, nan = math.huge, 0 / 0

local DTYPES = {"float64", "float32", "int64", "uint8", "bool"}

describe("making arrays", function()
  helper.guard(before_each, after_each)

  it("Variable is a tracked leaf, tensor a constant", function()
    local x, c = mg.Variable{1, 2}, mg.tensor{1, 2}
    assert.is_true(x.requires_grad)
    assert.is_false(c.requires_grad)
    assert.is_nil(x.creator)
    assert.equal(0, x.generation)
    assert.equal("w", mg.Variable(1, "w").name)
    assert.is_nil(x.name)
    assert.is_true(mg.Variable(c).requires_grad)
    assert.is_false(mg.tensor(x).requires_grad)
  end)

  it("takes numbers, nested tables and Variables", function()
    assert.same({}, mg.tensor(3).shape)
    assert.same({3}, mg.tensor{1, 2, 3}.shape)
    assert.same({2, 1, 3}, mg.tensor{{{1, 2, 3}}, {{4, 5, 6}}}.shape)
    assert.same({0}, mg.tensor{}.shape)
    assert.same({2, 0}, mg.tensor{{}, {}}.shape)
    assert.equal("float64", mg.tensor{1, 2}.dtype)
    assert.equal("bool", mg.tensor{true, false}.dtype)
    assert.equal("bool", mg.tensor(true).dtype)
    assert.equal("int64", mg.tensor({1, 2}, "int64").dtype)
    assert.equal("float32", mg.Variable(mg.ones{2, dtype = "float32"}).dtype)
    local x = mg.tensor{1, 2}
    assert(exact(mg.tensor(x, "int64"), {1, 2}))
    assert(exact(mg.tensor({true, false}, "float64"), {1, 0}))
    assert(exact(mg.tensor({2, 0}, "bool"), {true, false}))
  end)

  it("has its data apart from the table or Variable they came from", function()
    local t = {1, 2}
    local x = mg.Variable(t)
    local y = mg.Variable(x)
    t[1] = 7
    x.data = {5, 6}
    assert(exact(x, {5, 6}))
    assert(exact(y, {1, 2}))
  end)

  it("names the place where a table is ragged", function()
    for text, t in pairs{
      ["tensor: ragged table: row 2 has 3 elements, row 1 has 2"] = {{1, 2}, {1, 2, 3}},
      ["ragged table: row 2,1 has 1 elements, row 1,1 has 2"] = {{{1, 2}}, {{3}}},
      ["ragged table: element 2 is a number, element 1 a table"] = {{1, 2}, 3},
      ["ragged table: element 2 is a table, element 1 a number"] = {1, {2}},
      ["element 2,1 is a string, expected a number"] = {{1}, {"2"}},
      ["element 2 is a boolean, expected a number"] = {1, true},
      ["element 2 is a number, expected a boolean"] = {true, 1},
    } do
      assert(raises(text, mg.tensor, t))
    end
    assert(raises("Variable: ", mg.Variable, "text"))
    assert(raises("Variable: ", mg.Variable))
    assert(raises('no dtype "float16"', mg.tensor, 1, "float16"))
    assert(raises("nested more than 8 deep", mg.tensor, {{{{{{{{{1}}}}}}}}}))
  end)

  it("fills with zeros, ones, a value; dims as numbers or one table with options", function()
    assert(same(mg.zeros(2, 3), mg.tensor{{0, 0, 0}, {0, 0, 0}}))
    assert(same(mg.ones{2, dtype = "int64"}, mg.tensor({1, 1}, "int64")))
    assert(same(mg.full({2, 1}, 7), mg.tensor{{7}, {7}}))
    assert(same(mg.full({2}, 7, "uint8"), mg.tensor({7, 7}, "uint8")))
    assert(same(mg.full(2, 7), mg.tensor{7, 7}))
    assert(same(mg.zeros(), mg.tensor(0)))
    assert.same({4, 0, 2}, mg.empty(4, 0, 2).shape)
    assert.is_false(mg.zeros(2).requires_grad)
    assert(raises("zeros: dim -1 is negative", mg.zeros, 2, -1))
    assert(raises("zeros: a dim must be a whole number", mg.zeros, 1.5))
    assert(raises("ones: unknown option dtpye", mg.ones, {2, dtpye = "float32"}))
    assert(raises("zeros: shape", mg.zeros, 1 << 40, 1 << 40))
  end)

  it("takes the dtype in the table of dims, or in one behind", function()
    for _, make in ipairs{mg.zeros, mg.ones, mg.empty, mg.rand, mg.randn} do
      for _, x in ipairs{make{2, 3, dtype = "float32"}, make({2, 3}, {dtype = "float32"}),
                         make(2, 3, {dtype = "float32"})} do
        assert.equal("float32", x.dtype)
        assert.same({2, 3}, x.shape)
      end
      assert(raises("argument 2 is a string, expected a table of options", make, {2}, "float32"))
      assert(raises("dtype is given twice", make, {2, dtype = "float32"}, {dtype = "float32"}))
    end
    for _, x in ipairs{mg.full({2}, 7, "float32"), mg.full({2}, 7, {dtype = "float32"}),
                       mg.full({2, dtype = "float32"}, 7), mg.tensor({1, 2}, "float32"),
                       mg.tensor({1, 2}, {dtype = "float32"}), mg.range(1, 2, {dtype = "float32"}),
                       mg.range(1, 2, 1, {dtype = "float32"})} do
      assert.equal("float32", x.dtype)
      assert.equal(2, #x)
    end
    local form = 'mg.Variable(mg.tensor(data, "float32"))'
    assert(raises(form, mg.Variable, {1, 2}, {dtype = "float32"}))
    assert(raises(form, mg.Variable, {1, 2}, "float32"))
    assert(raises("Variable: argument 2 is a ByteTokenizer, expected a string (name)", mg.Variable,
      1, mg.data.ByteTokenizer()))
    assert(raises('no dtype "float32', mg.zeros, {2, dtype = "float32\0x"}))
  end)

  it("refuses what would be lost of a table", function()
    local function has(n) return setmetatable({}, n) end
    for text, t in pairs{
      ["tensor: a table of data has the key w"] = {1, 2, w = 3},
      ["tensor: a table of data has the key x"] = {{1, 2}, {3, 4, x = 1}},
      ["tensor: a table of data has the key 1.5"] = {1, 2, [1.5] = 4},
      ["say mg.tensor(data, {dtype = ...})"] = {1, 2, dtype = "float32"},
      ["a table with __len is not read as data"] = has{__len = function() return 3 end},
      ["a table with __index is not read as data"] = has{__index = {1, 2}},
    } do
      assert(raises(text, mg.tensor, t))
    end
    assert(raises("Variable: a table of data has the key w", mg.Variable, {w = 1}))
    local backwards = {}
    for i = 50, 1, -1 do backwards[i] = i end
    assert(exact(mg.tensor(backwards), mg.range(1, 50)))
  end)

  it("takes shape and dtype of another with _like", function()
    local x = mg.ones{2, 3, dtype = "float32"}
    for _, name in ipairs{"zeros_like", "ones_like", "rand_like", "randn_like"} do
      local y = mg[name](x)
      assert.same({2, 3}, y.shape)
      assert.equal("float32", y.dtype)
      assert.is_false(y.requires_grad)
      assert.equal("float64", mg[name](x, {dtype = "float64"}).dtype)
    end
  end)

  it("counts with range, as Lua's for", function()
    for _, r in ipairs{{1, 5}, {0, 1, 0.25}, {5, 1, -2}, {3, 2}, {1, 2, 3}, {-2, 2}} do
      local want = {}
      for v = r[1], r[2], r[3] or 1 do want[#want + 1] = v end
      assert(exact(mg.range(table.unpack(r)), want))
    end
    for _, r in ipairs{{0, 0.7, 0.1}, {0, 1.2, 0.1}, {0, 2, 0.1}, {2, 0, -0.1}, {0, 1e-9, 1e-10}} do
      local n = 0
      for _ = r[1], r[2], r[3] do n = n + 1 end
      assert.equal(n, #mg.range(table.unpack(r)))
    end
    assert.equal("float64", mg.range(1, 3).dtype)
    assert.equal("int64", mg.range(1, 3, {dtype = "int64"}).dtype)
    assert.equal(11, mg.range(0, 1, 0.1).size)
    assert(raises("range: the step is 0", mg.range, 1, 2, 0))
    assert(raises("range: argument 2 is a nil", mg.range, 1))
    local least, most, opts = math.mininteger, math.maxinteger, {dtype = "int64"}
    assert.same({most - 2, most - 1, most}, mg.range(most - 2, most, opts):totable())
    assert.same({least, least + (1 << 62), 0, 1 << 62},
      mg.range(least, most, 1 << 62, opts):totable())
    assert.same({most, -1}, mg.range(most, least + 1, least, opts):totable())
    assert(raises("cannot be counted", mg.range, least, most, opts))
    assert(raises("range: int64 needs whole numbers", mg.range, 1, 2, 0.5, opts))
  end)

  it("refuses shapes that no memory could hold, be an axis of length 0 among them", function()
    for _, shape in ipairs{{1 << 62, 4}, {0, 1 << 62, 4}, {1 << 62, 0, 4}, {1 << 62, 4, 0}} do
      assert(raises("too large", mg.zeros, shape))
      assert(raises("too large", mg.frombytes, "", "float32", shape))
      assert.has_error(function() mg.zeros(0, 3):reshape(shape) end)
    end
    assert(raises("cat: more than an axis can have", function()
      local x, xs = mg.ones(1 << 58), {}
      for i = 1, 64 do xs[i] = x end
      mg.cat(xs)
    end))
    assert.equal(0, (mg.ones(0, 1 << 40, 1) + 1):sum():item())
  end)

  it("takes a very long list of them", function()
    local x, s, xs, targets, values = mg.tensor{1, 2}, mg.tensor(1), {}, {}, {}
    for i = 1, 600000 do xs[i], targets[i], values[i] = x, s, 2 end
    assert.equal(1200000, mg.cat(xs).size)
    mg.assign(targets, values)
    assert.equal(2, s:item())
  end)

  it("has linspace with both ends, and eye", function()
    assert(exact(mg.linspace(0, 1, 5), {0, 0.25, 0.5, 0.75, 1}))
    assert(exact(mg.linspace(3, -3, 3), {3, 0, -3}))
    assert(exact(mg.linspace(2, 9, 1), {2}))
    local x = mg.linspace(0.1, 0.7, 1001)
    assert.equal(0.1, x[1]:item())
    assert.equal(0.7, x[-1]:item())
    assert(exact(mg.eye(2), {{1, 0}, {0, 1}}))
    assert(exact(mg.eye(2, 3, {dtype = "int64"}), {{1, 0, 0}, {0, 1, 0}}))
  end)

  it("x.data = v has v as x's dtype has it, whatever Config.dtype is", function()
    mg.using_config("dtype", "float32", function()
      local x, one = mg.Variable(mg.zeros{2, dtype = "float64"}), mg.tensor(1, "float64")
      x.data, one.data = {0.1, 0.2}, 0.1
      assert.same({0.1, 0.2}, x:totable())
      assert.equal(0.1, one:item())
      local n = mg.tensor({1, 2}, "int64")
      n.data = {(1 << 53) + 1, 3}
      assert.same({(1 << 53) + 1, 3}, n:totable())
    end)
  end)

  it("makes floats of Config.dtype", function()
    mg.using_config("dtype", "float32", function()
      for _, x in ipairs{mg.tensor(1), mg.Variable{1}, mg.zeros(2), mg.rand(2), mg.randn(2),
                         mg.range(1, 2), mg.eye(2), mg.full({2}, 1), mg.linspace(0, 1, 3)} do
        assert.equal("float32", x.dtype)
      end
      assert.equal("float32", (mg.ones{2, dtype = "int64"} / 2).dtype)
    end)
    assert.equal("float64", mg.tensor(1).dtype)
  end)
end)

describe("dtypes", function()
  helper.guard(before_each, after_each)

  it("meet in the wider float, else in int64", function()
    local function meet(a, b)
      return (mg.ones{2, dtype = a} + mg.ones{2, dtype = b}).dtype
    end
    for _, t in ipairs(DTYPES) do
      assert.equal("float64", meet("float64", t))
      assert.equal("float64", meet(t, "float64"))
    end
    for _, t in ipairs{"float32", "int64", "uint8", "bool"} do
      assert.equal("float32", meet("float32", t))
    end
    for _, t in ipairs{"int64", "uint8", "bool"} do
      assert.equal("int64", meet("int64", t))
      assert.equal("int64", meet("uint8", t))
      assert.equal("int64", meet("bool", t))
    end
  end)

  it("are not widened by a number", function()
    local f, i = mg.ones{2, dtype = "float32"}, mg.ones{2, dtype = "int64"}
    for _, y in ipairs{f + 1, 1 + f, f * 2.5, 0.1 - f, f / 3, f ^ 2, f ^ 2.5, f % 2, f // 2} do
      assert.equal("float32", y.dtype)
    end
    for _, y in ipairs{i + 1, 2 * i, i - 1, -i, i % 2, i // 2, i:square()} do
      assert.equal("int64", y.dtype)
    end
    for _, y in ipairs{i + 0.5, 1.5 * i, i / 2, i:exp(), i:sqrt()} do
      assert.equal("float64", y.dtype)
    end
  end)

  it("of int64 keep every bit", function()
    local big = mg.tensor({(1 << 62) + 1, -5}, "int64")
    assert(exact(big + 1, {(1 << 62) + 2, -4}))
    assert(exact(big - big, {0, 0}))
    assert(exact(mg.tensor({7, -7}, "int64") // 2, {3, -4}))
    assert(exact(mg.tensor({7, -7}, "int64") % 3, {1, 2}))
    assert.equal("integer", math.type((big * 1):totable()[1]))
    assert.is_true(big:eq((1 << 62) + 1)[1]:item())
    assert(raises("division of int64 by zero", function() return big % 0 end))
    assert(raises("division of int64 by zero", function()
      return big // mg.tensor({1, 0}, "int64")
    end))
  end)

  it("convert toward 0, round to float32, saturate", function()
    local x = mg.tensor{-1.7, -0.2, 0.2, 1.7, 300.5}
    assert(exact(x:to("int64"), {-1, 0, 0, 1, 300}))
    assert(exact(x:to("bool"), {true, true, true, true, true}))
    assert(exact(mg.tensor{0, -0.0, nan}:to("bool"), {false, false, true}))
    assert(exact(mg.tensor{0.1}:to("float32"), {(string.unpack("f", string.pack("f", 0.1)))}))
    assert(exact(mg.tensor{1e300, -huge, 1e-60}:to("float32"), {huge, -huge, 0}))
    assert(exact(mg.tensor{huge, -huge, nan}:to("int64"), {math.maxinteger, math.mininteger, 0}))
    assert(exact(mg.tensor({true, false}):to("float64"), {1, 0}))
    assert(exact(mg.tensor({1, 255}, "uint8"):to("int64"), {1, 255}))
  end)

  it("convert the same way in arrays of any size and in numbers", function()
    local values = {-1.7, 2.5, 0, 255, 1e19, -1e19, nan, huge, 127.9, 65536.5}
    for _, from in ipairs{"float64", "float32"} do
      for _, to in ipairs(DTYPES) do
        local x, ones = mg.tensor(values, from), {}
        for i = 1, #values do ones[i] = x[i]:to(to) end
        assert(same(mg.stack(ones), x:to(to)))
        assert(same(mg.tile(x, 500):to(to), mg.tile(x:to(to), 500)))
      end
    end
  end)

  it("pass gradients back in the dtype they came from", function()
    local x = mg.Variable(mg.ones{3, dtype = "float32"})
    local y = mg.Variable{1, 2, 3}
    local z = (x * y):sum()
    z:backward()
    assert.equal("float32", x.grad.dtype)
    assert.equal("float64", y.grad.dtype)
    assert(exact(x.grad, {1, 2, 3}))
    z = x:to("int64")
    assert.is_nil(z.creator)
    assert.is_false(z.requires_grad)
  end)

  it("other than floats are not tracked", function()
    assert.is_false(mg.Variable(mg.ones{2, dtype = "int64"}).requires_grad)
    assert(raises("gradients need floats", function()
      mg.ones{2, dtype = "int64"}.requires_grad = true
    end))
  end)
end)

describe("back to Lua", function()
  helper.guard(before_each, after_each)

  it("item gives the number of an array of size 1", function()
    assert.equal(2.5, mg.tensor(2.5):item())
    assert.equal(2.5, mg.tensor{{{2.5}}}:item())
    assert.equal("float", math.type(mg.tensor(2):item()))
    assert.equal("integer", math.type(mg.tensor(2, "int64"):item()))
    assert.is_true(mg.tensor(true):item())
    assert(raises("item: shape (2) has 2 elements, not one", function()
      mg.tensor{1, 2}:item()
    end))
  end)

  it("totable gives nested tables of the dtype's values", function()
    assert.same({{1, 2}, {3, 4}}, mg.tensor{{1, 2}, {3, 4}}:totable())
    assert.same({true, false}, mg.tensor{true, false}:totable())
    assert.equal(5, mg.tensor(5):totable())
    assert.same({{}, {}}, mg.zeros(2, 0):totable())
    assert.same({{1, 3}, {2, 4}}, mg.tensor{{1, 2}, {3, 4}}.T:totable())
    assert.equal("float", math.type(mg.tensor{1}:totable()[1]))
    assert.equal("integer", math.type(mg.tensor({1}, "uint8"):totable()[1]))
  end)

  it("bytes go out and come back", function()
    for _, dtype in ipairs(DTYPES) do
      local x = mg.tensor({{1, 0}, {3, 4}, {5, 1}}, dtype)
      assert(same(mg.frombytes(x:tobytes(), dtype, {3, 2}), x))
      assert(same(mg.frombytes(x[1][1]:tobytes(), dtype, {}), x[1][1]))
    end
    assert.equal(string.pack("<d", 0.1), mg.tensor(0.1):tobytes())
    assert.equal(string.pack("<ff", 0.1, 2), mg.tensor({0.1, 2}, "float32"):tobytes())
    assert(raises("frombytes: shape (2) of float64 needs 16 bytes, the string has 3",
      mg.frombytes, "abc", "float64", {2}))
  end)

  it("properties say what it is", function()
    local x = mg.zeros(2, 3, 4)
    assert.same({2, 3, 4}, x.shape)
    assert.equal(3, x.ndim)
    assert.equal(24, x.size)
    assert.equal(2, #x)
    assert.same({2, 4, 3}, x.T.shape)
    assert.same({5}, mg.zeros(5).T.shape)
    local shape = x.shape
    shape[1] = 9
    assert.same({2, 3, 4}, x.shape)
    assert(raises("#: a 0-d Variable has no length", function() return #mg.tensor(1) + 1 end))
    assert(raises('has no property or method "shap"', function() return x.shap .. "" end))
    assert(raises('has no property "shap"', function() x.shap = 1 end))
    assert(raises('"shape" of a Variable cannot be assigned', function() x.shape = {24} end))
  end)

  it("compares Variables as Lua compares: identity, and order of single numbers", function()
    local x, y = mg.Variable{2.0}, mg.Variable{2.0}
    assert.is_false(x == y)
    assert.is_true(x == x)
    x:sum():backward()
    assert.is_true(x.grad == x.grad)
    assert.is_true(x <= y and x >= y)
    assert.is_false(x < y or x > y)
    assert.is_true(x < 3 and 1 < x and x > mg.tensor(1.5))
    assert(raises("compares Variables of size 1, not (2)", function()
      return mg.ones(2) < 1
    end))
  end)
end)

describe("text", function()
  helper.guard(before_each, after_each)

  local function shows(text, x) assert.equal(text, tostring(x)) end

  it("of small arrays is whole, its columns lined up", function()
    shows("variable(3)", mg.tensor(3))
    shows("variable(-5376)", mg.Variable(-5376.0))
    shows("variable([1 2 3])", mg.tensor{1, 2, 3})
    shows("variable([[1 2 3]\n          [4 5 6]])", mg.tensor{{1, 2, 3}, {4, 5, 6}})
    shows("variable([[  1  20]\n          [300   4]])", mg.tensor{{1, 20}, {300, 4}})
    shows("variable([[[1]\n           [2]]\n\n          [[3]\n           [4]]])",
      mg.tensor{{{1}, {2}}, {{3}, {4}}})
    shows("variable([0.5  -1])", mg.tensor{0.5, -1})
    shows("variable([ true false])", mg.tensor{true, false})
    shows("variable([ nan  inf -inf])", mg.tensor{nan, huge, -huge}:clone())
    shows("variable([])", mg.zeros(0))
    shows("variable([], shape (0, 3))", mg.zeros(0, 3))
    shows("variable([1 2])", mg.tensor({1, 2}, "int64"))
  end)

  it("of large ones is cut past 1,000 elements", function()
    assert.is_nil(tostring(mg.zeros(1000)):find("...", 1, true))
    shows("variable([   1    2    3 ...  999 1000 1001])", mg.range(1, 1001))
    assert.is_true(#tostring(mg.zeros(1000, 1000)) < 500)
    assert.is_true(#tostring(mg.zeros(100, 10, 10, 10)) < 10000)
  end)
end)

describe("text", function()
  it("of shapes is that of messages, and they compare by value", function()
    local x = mg.ones(2, 3)
    assert.equal("(2, 3)", tostring(x.shape))
    assert.equal("(4)", tostring(mg.ones(4).shape))
    assert.equal("()", tostring(mg.tensor(1).shape))
    assert.equal("shape (2, 3)", "shape " .. x.shape)
    assert.is_true(x.shape == mg.zeros(2, 3).shape)
    assert.is_false(x.shape == mg.zeros(3, 2).shape or x.shape == mg.zeros(2).shape)
    assert(same(mg.zeros(x.shape), mg.zeros(2, 3)))
    assert(same(mg.zeros(mg.tensor(1).shape), mg.tensor(0)))
  end)

  it("is what .. makes of Variables", function()
    assert.equal("loss variable(2.5)", "loss " .. mg.tensor(2.5))
    assert.equal("variable(1), variable(2)", mg.tensor(1) .. ", " .. mg.tensor(2))
  end)

  it("of what mg has says what it is", function()
    assert.equal('Config{enable_backprop = true, train = true, dtype = "float64", lean = false, ' ..
      "debug = false}", tostring(mg.Config))
    assert(tostring(mg.memory()):find "^memory{live = %d+, peak = %d+, cached = %d+, limit = %d+}$")
  end)
end)
