-- Tables as text: what is read of them, what is written, and what is refused.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises
local near = helper.near
local nan, inf = 0 / 0, math.huge

local function loaded(text, ...)
  local path = child.path ".csv"
  child.write(path, text)
  return mg.load(path, ...)
end

local function column(text, ...) return loaded("x\n" .. text .. "\n", ...).x end

describe("a .csv file", function()
  helper.guard(before_each, after_each)

  it("becomes columns of what they hold", function()
    local t = loaded 'a,b,c,d,e\r\n1,2.5,x,true,\r\n-3,1e3,"y,\n""z""",False,NA\n\n+4,nan,,TRUE, 7 '
    assert(helper.same(t.a, mg.tensor({1, -3, 4}, "int64")))
    assert(near(t.b, {2.5, 1000, nan}))
    assert.same({"x", 'y,\n"z"', ""}, t.c)
    assert(helper.same(t.d, mg.tensor{true, false, true}))
    assert(near(t.e, {nan, nan, 7}))
    assert.equal("float64", t.e.dtype)
  end)

  it("has its names in the first row, unless a number stands there", function()
    assert.same({1, 2}, loaded("a\n1\n2").a:totable())
    assert.same({1, 2}, loaded("1\n2")[1]:totable())
    assert.same({"a", "1"}, loaded("a\n1", {header = false})[1])
    assert.same({2}, loaded("1\n2", {header = true})["1"]:totable())
    assert.same({1, 3}, loaded("1,2\n3,4", {header = {"a", "b"}}).a:totable())
    assert.same({"a", "c"}, loaded("a,b\nc,d", {header = {"x", "y"}}).x)
    assert.same({1}, loaded("\xef\xbb\xbf\"a\"\n1").a:totable())
    assert.same({}, loaded "")
    assert.same({0}, loaded("a,b\n").a.shape)
    assert(raises("two columns are called a", loaded, "a,a\n1,2"))
    assert(raises("header has 1 names, the file 2 columns", loaded, "1,2", {header = {"a"}}))
  end)

  it("is read in part, or listed", function()
    local text = "a,b,c\n1,x,2.5\n2,y,3.5\n"
    local t = loaded(text, {"c", "a"})
    assert.is_nil(t.b)
    assert(near(t.c, {2.5, 3.5}))
    assert.same({a = {dtype = "int64", shape = {2}}, b = {dtype = "string", shape = {2}}},
      loaded(text, {"a", "b", list = true}))
    assert(raises("there is no column d", loaded, text, {"d"}))
    assert(raises("dtype is of what is loaded, list loads nothing", loaded, text,
      {list = true, dtype = "float32"}))
  end)

  it("has other delimiters, words for what is missing, and dtypes", function()
    assert.same({1, 3}, loaded("a;b\n1;2\n3;4", {delimiter = ";"}).a:totable())
    local t = loaded("a,b\n-999,x\n3,-999", {missing = {"-999"}, dtype = "float32"})
    assert(near(t.a, {nan, 3}))
    assert.equal("float32", t.a.dtype)
    assert.same({"x", "-999"}, t.b)
    assert(raises("the delimiter is", loaded, "a", {delimiter = ""}))
    assert(raises("the delimiter is", loaded, "a", {delimiter = ";;"}))
    assert(raises("the delimiter is", loaded, "a", {delimiter = '"'}))
    assert(raises("missing[1] is a number", loaded, "a", {missing = {3}}))
    assert(raises("unknown option delimeter", loaded, "a", {delimeter = ";"}))
    assert(raises("dtype must be float64 or float32", loaded, "a\n1", {dtype = "int64"}))
  end)

  it("has numbers to the last bit", function()
    mg.seed(3)
    local x = mg.cat({mg.randn(1000), 10 ^ (mg.rand(1000) * 600 - 300), mg.tensor{
      0.1, 1e22, 1e23, 123456789012345678, 2^53, 2^53 + 2, 5e-324, 2.2250738585072014e-308,
      1.7976931348623157e308, 9007199254740993.0, 0.30000000000000004, 1e-22, 1e-23}}, 1)
    local lines = {}
    for i, v in ipairs(x:totable()) do lines[i] = ("%.17g"):format(v) end
    assert(helper.same(column(table.concat(lines, "\n") .. "\n0.5"), mg.cat({x, mg.tensor{0.5}})))
    assert(near(column "1.\n.5\n-.5e1\n+1E2\ninf\n-Infinity\nNaN\n1e400\n1e-400\n-0",
      {1, 0.5, -5, 100, inf, -inf, nan, inf, 0, 0}))
    local digits = ("1"):rep(400)
    assert(near(column(digits .. "\n0." .. digits), {inf, 1 / 9}))
    assert(near(column('1\n"0.' .. digits:rep(9) .. '"\n0.' .. digits:rep(9)), {1, 1 / 9, 1 / 9}))
    assert(near(loaded("0." .. digits:rep(9))[1], {1 / 9}))
    assert.same({math.mininteger, math.maxinteger}, column(math.mininteger .. "\n" ..
      math.maxinteger):totable())
    assert.equal("float64", column("9223372036854775808").dtype)
    for _, text in ipairs{"1e", "e1", ".", "-", "1.2.3", "0x10", "1_0", "1 2", "infinit", "1e+"} do
      assert.same({text}, column(text))
    end
    assert.same({"true", "x"}, column "true\nx")
    assert.same({"true", ""}, column "true\n\"\"")
  end)

  it("that is broken says where", function()
    assert(raises("line 3 has 1 fields, the first has 2", loaded, "a,b\n1,2\n3\n"))
    assert(raises("line 2 has 3 fields", loaded, "a,b\n1,2,3\n"))
    assert(raises("line 4: a quote is never closed", loaded, 'a\n"x\ny"\n"z\n'))
    assert(raises("line 2: text behind a closing quote", loaded, 'a\n"x" y\n'))
    assert(raises("it has a NUL", loaded, "a\n\0\n"))
    mg.memory_limit(helper.settle() + (1 << 16))
    finally(function() mg.memory_limit(0) end)
    assert(raises("out of memory", column, ("1\n"):rep(1 << 16)))
  end)
end)

describe("saved as .csv", function()
  helper.guard(before_each, after_each)

  local function saved(x, ...)
    local path = child.path ".csv"
    mg.save(path, x, ...)
    return child.read(path)
  end

  it("columns stand in order of names, or as they are asked for", function()
    local t = {b = mg.tensor({1, -2}, "int64"), a = {"x", 'y,"z"'}, c = mg.tensor{true, false},
               d = mg.tensor({0.1, 1e10}, "float32"), ["e,f"] = {1, 2.5}}
    assert.equal('a,b,c,d,"e,f"\nx,1,true,0.1,1\n"y,""z""",-2,false,10000000000.0,2.5\n', saved(t))
    assert.equal("d,b\n0.1,1\n10000000000.0,-2\n", saved(t, {columns = {"d", "b"}}))
    assert.equal("1\n-2\n", saved(t, {columns = {"b"}, header = false}))
    assert.equal("1;x\n2;y\n", saved({{1, 2}, {"x", "y"}}, {delimiter = ";"}))
    assert.equal("p,q\n1,x\n", saved({{1}, {"x"}}, {columns = {"p", "q"}}))
    assert.equal("1.0,2.0\n3.0,4.0\n", saved(mg.tensor{{1, 2}, {3, 4}}))
    assert.equal("p,q\n1.0,2.0\n", saved(mg.tensor{{1, 2}}, {columns = {"p", "q"}}))
    assert.equal("", saved{})
  end)

  it("what was saved comes back", function()
    local folder = child.folder()
    local x = mg.cat{mg.randn(1000), mg.tensor{nan, inf, -inf, 0.1, 1e300, 5e-324, 1e15, -0.0, 2.0}}
    local t = {x = x, k = mg.range(1, #x):to "int64", b = x:gt(0), s = {},
               f = mg.randn{#x, dtype = "float32"}}
    for i = 1, #x do t.s[i] = (i % 3 == 0 and " x" or 'a"\n,\t') .. i end
    for _, kind in ipairs{".csv", ".tsv"} do
      mg.save(folder .. "/t" .. kind, t)
      local got = mg.load(folder .. "/t" .. kind)
      for _, k in ipairs{"x", "k", "b"} do assert(helper.same(got[k], t[k])) end
      assert(helper.same(got.f:to "float32", t.f))
      assert.same(t.s, got.s)
    end
    local marked = {["\xef\xbb\xbfa"] = {"\xef\xbb\xbfb"}} -- begins no text, is of one
    assert.same(marked, loaded(saved(marked)))
    assert.same({"\xef\xbb\xbfb"}, loaded(saved(marked, {header = false}), {header = false})[1])
  end)

  it("only tables of columns of one length are", function()
    assert(raises("column b has 1 rows, the first 2", saved, {a = {1, 2}, b = {1}}))
    assert(raises("column a has shape (2, 2)", saved, {a = mg.ones(2, 2)}))
    assert(raises("column a is a number", saved, {a = 3}))
    assert(raises("a column holds a table", saved, {a = {{}}}))
    assert(raises("a column holds a nil", saved, {a = setmetatable({}, {__len = function()
      return 1
    end})}))
    assert(raises("a text has a NUL", saved, {a = {"\0"}}))
    assert(raises("shape (2), expected two axes", saved, mg.ones(2)))
    assert(raises("there is no column c", saved, {a = {1}}, {columns = {"c"}}))
    assert(raises("3 names, but 2 columns", saved, mg.ones(2, 2), {columns = {"a", "b", "c"}}))
    assert(raises("1 names, but 2 columns", saved, {{1}, {2}}, {columns = {"a"}}))
    assert(raises("the columns' names are of no use without a header", saved, {{1}, {2}},
      {columns = {"a", "b"}, header = false}))
    assert(raises("numbers from 1", saved, {[1] = {1}, [3] = {1}}))
    assert(raises("unknown option dtype", saved, {a = {1}}, {dtype = "float32"}))
  end)
end)

describe("data.CSV", function()
  helper.guard(before_each, after_each)

  it("is a dataset of rows", function()
    local path = child.folder() .. "/iris.csv"
    child.write(path, "length,width,kind,n\n1,2.5,b,1\n3,4,a,2\n5,,b,3\n")
    local ds = mg.data.CSV(path, {target = "kind", features = {"width", "length"}})
    assert.equal(3, #ds)
    local x, t = ds:batch(1, 3)
    assert(near(x, {{2.5, 1}, {4, 3}, {nan, 5}}))
    assert.same({2, 1, 2}, t:totable())
    assert.same({"a", "b"}, ds.classes)
    ds = mg.data.CSV(path, {target = "n", features = {"length"}, dtype = "float32"})
    x, t = ds:get(2)
    assert(helper.same(x, mg.tensor({3}, "float32")))
    assert.equal(2, t:item())
    assert.is_nil(ds.classes)
    x = mg.data.CSV(path, {features = {"length", "n"}}):get(1)
    assert.same({1, 1}, x:totable())
    assert(raises("column kind holds text", mg.data.CSV, path))
    local mine = {"length"}
    ds = mg.data.CSV(path, {features = mine})
    mine[1] = "n"
    assert.same({"length"}, ds.features)
    assert(raises("has no column x", mg.data.CSV, path, {target = "x", features = {"n"}}))
    assert(raises("has no column x", mg.data.CSV, path, {target = "x"}))
    assert(raises("has no column x", mg.data.CSV, path, {features = {"x"}}))
    assert(raises("CSV: the list of features has the key 3, expected a list", mg.data.CSV, path,
      {features = {"n", nil, "length"}}))
    assert(raises("CSV: the list of features has the key length", mg.data.CSV, path,
      {features = {"n", length = true}}))
    assert(raises("CSV: cannot open", mg.data.CSV, "/no/such.csv"))
    assert(raises("CSV: the path has a NUL, behind " .. path, mg.data.CSV, path .. "\0x"))
  end)
end)
