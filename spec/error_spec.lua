-- Errors: what they say, and at which line they say it.

local mg = require "moongrad"
local helper = require "spec.helper"

describe("an error", function()
  helper.guard(before_each, after_each)

  -- The message of a script that fails in its third line.
  local function message(line)
    local script = assert(load("local mg, x, s = ...\n\n" .. line .. "\n", "@train.lua"))
    local ok, err = pcall(script, mg, mg.Variable{{1, 2, 3}, {4, 5, 6}}, mg.Variable(2.0))
    assert.is_false(ok)
    return err
  end

  local function says(expected, line)
    assert.equal("train.lua:3: " .. expected, message(line))
  end

  local function mentions(text, line)
    local got = message(line)
    assert(got:find("train.lua:3: ", 1, true) == 1, got)
    assert(got:find(text, 1, true), got)
  end

  it("names the op, the argument and the shapes", function()
    says("matmul: (2, 3) and (4, 5) do not align: 3 and 4 differ",
      "mg.matmul(mg.ones(2, 3), mg.ones(4, 5))")
    says("sum: axis 3 is out of range for shape (2, 3)", "mg.sum(x, 3)")
    says("cross_entropy: label 0 at position 5 is not in 1..10",
      "mg.cross_entropy(mg.zeros(6, 10), mg.tensor({1, 2, 3, 10, 0, 11}, 'int64'))")
    says("add: shapes (2, 3) and (2) do not broadcast", "return x + mg.ones(2)")
    mentions("(2, 3)", "x:reshape(4, 2)")
    mentions("reshape", "x:reshape(4, 2)")
    mentions("sqrt: argument 1 is a string", "mg.sqrt 'x'")
    mentions("sum: axis 0 is out of range for shape (2, 3)", "x:sum(0)")
    mentions("mean: unknown option axes", "x:mean{axes = 1}")
    mentions("cat", "mg.cat({x, mg.ones(2, 2)}, 1)")
    mentions("(2, 2)", "mg.cat({x, mg.ones(2, 2)}, 1)")
  end)

  it("stands at the script's line, through operators", function()
    mentions("(2, 3)", "return x * mg.ones(5)")
    mentions("mul", "return x * {}")
    mentions("add: argument 2 is a nil", "return x + nil")
    mentions("sub: argument 1 is a string", "return 'a' - x")
  end)

  it("through methods and indices", function()
    mentions("index: 3 is out of range for axis 1 of shape (2, 3)", "return x[3]")
    mentions("index", "return x[{1, 2, 3}]")
    mentions("index", "x[{1, 4}] = 1")
    mentions("item: shape (2, 3) has 6 elements, not one", "return x:item()")
    mentions("#: a 0-d Variable has no length", "return #s")
    mentions("compares Variables of size 1", "return x < x")
  end)

  it("through what is composed in Lua", function()
    mentions("var: unknown option corection", "x:var{corection = 0}")
    mentions("softmax: axis 3 is out of range for shape (2, 3)", "mg.softmax(x, 3)")
    mentions("layer_norm", "x:layer_norm({4})")
    mentions("linear: x (2, 3) does not fit W (2, 2)", "mg.linear(x, mg.ones(2, 2))")
    mentions("split", "x:split(2, 7)")
    mentions("grad", "mg.grad(function(v) return v end)(x)")
    mentions("mean_squared_error", "mg.mean_squared_error(x, mg.ones(3, 2))")
  end)

  it("through layers, optimizers and data", function()
    mentions("Linear", "mg.nn.Linear(0)")
    mentions("linear: x (2, 3) does not fit W (5, 4)", "mg.nn.Linear(4, 5)(x)")
    mentions("Adam: unknown option learning_rate", "mg.optim.Adam({x}, {learning_rate = 1})")
    mentions("SGD: lr = -1 is negative", "mg.optim.SGD({x}, {lr = -1})")
    mentions("DataLoader: unknown option size", "mg.data.DataLoader({}, {size = 1})")
    mentions('load: cannot open no/such.npz', "mg.load 'no/such.npz'")
    mentions("save", "mg.save('x.unknown', x)")
    mentions("plot_graph", "mg.plot_graph(x, 'x.unknown')")
    mentions("progress", "mg.progress(true)")
  end)

  it("through a function of the script's own, at its line", function()
    mentions("sum: axis 3", "mg.no_grad(function() return x:sum(3) end)")
    mentions("sum: axis 3", "mg.checkpoint(function(v) return v:sum(3) end, x)")
    mentions("sum: axis 3", "mg.grad(function(v) return v:sum(3) end)(x)")
  end)

  it("names an unknown property, read or written", function()
    says('a Variable has no property or method "garbage"', "return x.garbage")
    says('a Variable has no property "garbage"', "x.garbage = 1")
    mentions('property "shape" of a Variable cannot be assigned', "x.shape = {6}")
    mentions('property "creator"', "x.creator = nil")
    mentions('property "generation"', "x.generation = 1")
    says('a Function has no property "garbage"', "return (x + 1).creator.garbage")
    mentions("a recorded Function cannot be changed", "(x + 1).creator.name = 'y'")
  end)

  it("refuses a value that does not fit its property", function()
    mentions("data: a value of shape (3) for a Variable of shape (2, 3)", "x.data = {1, 2, 3}")
    mentions("data: a string", "x.data = 'x'")
    mentions("grad: a value of shape (3) for a Variable of shape (2, 3)", "x.grad = mg.ones(3)")
    mentions("grad: a number", "x.grad = 1")
    mentions("name: a number", "x.name = 1")
    mentions("requires_grad: a number", "x.requires_grad = 1")
    mentions("requires_grad: only of leaves", "(x + 1).requires_grad = false")
    mentions("requires_grad: gradients need floats", "mg.tensor({1}, 'int64').requires_grad = true")
    mentions("frozen", "x.data.data = 1")
    mentions("frozen", "x.data[1] = 1")
    mentions("index: only a leaf can be written into", "(x + 1)[1] = 1")
  end)

  it("refuses data that are none", function()
    mentions("ragged table: row 2 has 1 elements, row 1 has 2", "mg.tensor{{1, 2}, {3}}")
    mentions("element 2,1 is a string", "mg.tensor{{1, 2}, {'a', 3}}")
    mentions("element 2 is a number, element 1 a table", "mg.tensor{{1, 2}, 3}")
    mentions("Variable: a string", "mg.Variable 'x'")
    mentions("Variable: a nil", "mg.Variable()")
    mentions('tensor: no dtype "float16"', "mg.tensor({1}, 'float16')")
    mentions("zeros: unknown option dtyp", "mg.zeros{2, dtyp = 'float32'}")
    mentions("zeros: dim -1 is negative", "mg.zeros(-1)")
    mentions("zeros: a dim must be a whole number", "mg.zeros(1.5)")
    mentions("too large", "mg.zeros(1e9 // 1 | 0, 1e9 // 1 | 0, 1e9 // 1 | 0)")
    mentions("9 axes", "mg.zeros(1, 1, 1, 1, 1, 1, 1, 1, 1)")
  end)

  it("refuses gradients of what has none", function()
    mentions("backward: gradients need floats", "mg.tensor({1}, 'int64'):sum():backward()")
    mentions("argument 1 is a number, expected a Variable", "mg.backward(3)")
    mentions("gradients", "mg.gradients(x:sum(), {3})")
  end)

  it("can be caught, and all goes on", function()
    local x = mg.Variable{1, 2, 3}
    for _ = 1, 100 do
      assert.is_false(pcall(function() return (x * 2):sum(5) end))
      assert.is_false(pcall(function() return x:exp() + mg.ones(2) end))
    end
    x:exp():sum():backward()
    assert(helper.near(x.grad, x:exp()))
  end)

  it("with Config.debug names the line where the variable was made", function()
    local x = mg.Variable({1, 2}, "weights")
    local y = mg.using_config("debug", true, function() return x:exp() end)
    x.data = {5, 6}
    local z = y * x
    x.data = {7, 8}
    local ok, err = pcall(z.backward, z, {create_graph = true})
    assert.is_false(ok)
    assert.is_truthy(err:find("new value", 1, true))
  end)
end)
