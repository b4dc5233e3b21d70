-- Errors: what they say, and at which line they say it.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"

describe("an error", function()
  helper.guard(before_each, after_each)

  it("is the script's, though paths name the library's folder in two ways", function()
    local folder = child.folder()
    child.write(folder .. "/script.lua", [[
      package.path = arg[1] .. "/lua/?.lua;" .. arg[1] .. "/lua/./?/init.lua"
      local mg = require "moongrad"
      print(select(2, pcall(function() return mg.nn.Linear(3)(1) end)))
      print(select(2, pcall(function() return mg.save(3) end)))]])
    local said = child.lua(("script.lua '%s'"):format(child.here), folder)
    assert.equal(2, select(2, said:gsub("script.lua:%d: ", "")), said)
  end)

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
    says("one_hot: label 0 at position 1 is not in 1..3", "mg.one_hot({0, 1}, 3)")
    says("one_hot: label 0 at position 1 is below 1", "mg.one_hot {0, 1}")
    mentions("raise: bad argument #2 to 'string.format'", "mg.raise('%d steps')")
    mentions("raise: bad argument #1 to 'string.format'", "mg.raise(x)")
    mentions("grad: argument 1 is a Variable, expected a function (f); mg.gradients(y, xs) " ..
      "takes Variables", "mg.grad(x)")
    mentions("minimize: argument 1 is a Variable, expected a function (f)\n", "mg.minimize(x, x)")
    mentions("numbers (argnum); it gives a function: mg.grad(f)(x)", "mg.grad(print, x)")
    mentions("true or false (retain_grad); y.grad = v before it starts from v", "x:backward(x)")
    says("Variable: argument 2 is the name; for float32: mg.Variable(mg.tensor(data, \"float32\"))",
      "mg.Variable({1, 2}, 'float32')")
    says("Adam: the table of parameters has keys, expected a list", "mg.optim.Adam {W = x}")
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
    mentions("Variable: argument 1 is a nil", "mg.Variable()")
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

  describe("in a module within others", function()
    local nn = mg.nn

    local function tells(expected, fn, ...)
      local ok, err = pcall(fn, ...)
      assert.is_false(ok)
      assert.equal(expected, err:match "; in ([^\n]*)", err)
    end

    local Net = nn.Module:extend "Net"
    function Net:init()
      self.parts = {enc = {nn.Linear(3, 4), nn.Linear(5, 6)}}
      self.head = nn.Sequential(mg.relu, nn.Embedding(3, 4))
    end
    function Net:forward(x)
      for _, part in ipairs(self.parts.enc) do x = part(x) end
      return x
    end

    it("tells the way to it, in its caller's words", function()
      local model = nn.Sequential(mg.relu, nn.Sequential(nn.Linear(2, 3)))
      tells("model[2][1] (Linear)", function() model(mg.ones(1, 5)) end)
      tells("Sequential[2][1] (Linear)", model, mg.ones(1, 5))
      local net = Net()
      tells("net.parts.enc[2] (Linear)", function() net(mg.ones(1, 3)) end)
      local Outer = nn.Module:extend "Outer"
      function Outer:init() self.net = net end
      function Outer:forward(x) return self.net.head(x) end
      local outer = Outer()
      tells("outer.net.head[2] (Embedding)", function() outer(mg.ones(2)) end)
    end)

    it("survives tail calls and hooks, and modules that hold their parents", function()
      local Last = nn.Module:extend "Last"
      function Last:init() self.back, self.l = {}, nn.Linear(7, 1) end
      function Last:forward(x) return self.l(x) end
      local last = Last()
      last.back.up = last
      tells("last.l (Linear)", function() last(mg.ones(1, 2)) end)
      tells("Last.l (Linear)", function() return last(mg.ones(1, 2)) end)
      last:add_hook("forward", function() end)
      tells("last.l (Linear)", function() last(mg.ones(1, 2)) end)
    end)

    it("begins anew where one is not in the one before", function()
      local other, Strange = nn.Sequential(nn.Linear(2, 3)), nn.Module:extend "Strange"
      function Strange.forward(_, x) return other(x) end
      tells("Sequential[1] (Linear)", Strange(), mg.ones(1, 5))
    end)

    it("says nothing of one alone", function()
      local ok, err = pcall(nn.Linear(2, 3), mg.ones(1, 5))
      assert.is_false(ok)
      assert.is_nil(err:find "; in ")
      ok, err = pcall(mg.exp, "x")
      assert.is_false(ok)
      assert.is_nil(err:find "; in ")
    end)
  end)

  describe("with Config.debug, of what is not finite,", function()
    local huge, nan = math.huge, 0 / 0

    -- Line 3 and the next ones make y, line 9 does what fails.
    local function tells(expected, made, fails)
      local blank = ("\n"):rep(6 - select(2, made:gsub("\n", "")))
      local script = assert(load("local mg, x = ...\n\n" .. made .. blank .. fails, "@model.lua"))
      local ok, err = pcall(mg.using_config, "debug", true, script, mg, mg.Variable{0, 4})
      assert.is_false(ok)
      assert.equal("model.lua:9: " .. expected, err)
    end

    it("tells the op that made the first, however much follows", function()
      tells("backward: the result has nan: log made nan of finite values at model.lua:3",
        "local y = mg.log(x - 1)\ny = (y * 2 + 1):reshape(2, 1)\ny = mg.cat({y, y}):tanh()",
        "y:sum():backward()")
      tells("gradients: backward: the result has nan: sub made nan of inf at model.lua:4; " ..
        "div made inf of finite values at model.lua:3",
        "local y = 1 / x\ny = y - y", "mg.gradients(y:sum(), x)")
      tells("backward: the result has nan: mul made nan of inf at model.lua:3; " ..
        "that inf was given", "local y = x * (1 / 0)", "y:backward()")
      tells("backward: the result has inf: div made inf of finite values at model.lua:3",
        "local y = (x + 4) / 0\ny = y:detach() * x[2]", "y:sum():backward()")
      tells("backward: the result has inf: exp made inf of finite values at model.lua:3",
        "local y = mg.exp(x * 1000)", "y:sum():backward()")
    end)

    it("tells where it was given", function()
      tells("backward: the result has nan: nan was given to tensor at model.lua:3, operand 1",
        "local y = x * mg.tensor{1, 0 / 0}", "y:backward()")
      tells("backward: the result has nan: nan was given to Variable at model.lua:3, operand 1",
        "local y = mg.Variable(0 / 0) * x", "y:backward()")
      local x = mg.Variable({1, nan}, "w")
      local ok, err = pcall(mg.using_config, "debug", true, function() x:exp():backward() end)
      assert.is_false(ok)
      assert(err:find('nan was given to exp at spec/[^ ]*, by "w", operand 1$'), err)
    end)

    it("tells the gradient that is first, and what made its op", function()
      tells("backward: the gradient of operand 1 of sqrt has inf, and what came in is finite " ..
        "(sqrt made at model.lua:3)", "local y = x:sqrt()", "y:sum():backward()")
      tells("backward: the gradient of operand 1 of F has nan, and what came in is finite " ..
        "(F made at model.lua:4)",
        "local F = mg.Function{name = 'F', forward = function(_, v) return v * 1 end,\n" ..
        "backward = function(_, g) return g * (0 / 0) end} local y = F(x)", "y:sum():backward()")
    end)

    it("lets be what a mask hides, and gradients that are 0 there", function()
      local x = mg.Variable{-1, 4}
      mg.using_config("debug", true, function()
        local y = mg.where(x:gt(0), x:log(), 0)
        y:sum():backward()
        mg.softmax(mg.tensor{-huge, 0, 1}):sum()
        local scores = mg.Variable{1, 2, 3}
        local masked = scores:masked_fill({true, false, false}, -huge)
        mg.softmax(masked)[2]:backward()
        assert.equal(0, scores.grad[1]:item())
      end)
      assert(helper.near(x.grad, {0, 0.25}))
    end)

    it("costs and says nothing when off", function()
      local x = mg.Variable{-1, 4}
      local y = x:log()
      y:sum():backward()
      local ok, err = pcall(mg.using_config, "debug", true, y.backward, mg.Variable(nan) * 1)
      assert.is_false(ok)
      assert(err:find("where from, is known of what was made with Config.debug on", 1, true), err)
    end)

    it("detect_anomaly looks at results as well", function()
      local x = mg.tensor{1, 2}
      local a, b = mg.detect_anomaly(function(v, n) return v:log(), n end, x, "n")
      assert(helper.near(a, mg.log(x)))
      assert.equal("n", b)
      assert(helper.raises("detect_anomaly: result 2 has nan: log made nan of finite values at ",
        mg.detect_anomaly, function(v) return 1, (-v):log() end, x))
      assert.is_false(mg.Config.debug)
    end)

    it("detect_anomaly looks into tables of results, each once", function()
      local x = mg.Variable{-1, 2}
      local ring = {mg.nn.Linear(2, 2), x, "s"}
      ring.ring = ring
      assert.equal(ring, mg.detect_anomaly(function() return ring end))
      assert(helper.raises("detect_anomaly: result 2.losses[2] has nan: log made nan of finite " ..
        "values at ", mg.detect_anomaly, function()
        return ring, {ring = ring, losses = {x, x:log()}}
      end))
    end)

    it("is told, or that there was no memory to look for it", function()
      local x = mg.Variable(mg.rand(1000) - 0.5)
      for n = 1, 300 do
        mg._fail_at(n, 1 << 60)
        local ok, err = pcall(mg.detect_anomaly, mg.log, x)
        mg._fail_at(0)
        assert.is_false(ok)
        assert(err:find "has nan" or err:find "out of memory", err)
        local y = x:sqrt()
        mg._fail_at(n, 1 << 60)
        ok, err = pcall(mg.using_config, "debug", true, y.backward, y)
        mg._fail_at(0)
        assert.is_false(ok)
        assert(err:find "has nan" or err:find "out of memory", err)
      end
    end)

    it("is passed over in a function that mg.compile records", function()
      local f = mg.compile(function(v) return mg.using_config("debug", true, mg.log, v) end)
      assert(helper.near(f(mg.tensor{1, -1}), {0, nan}))
    end)

    it("is found in a compiled function, which is the function itself then", function()
      local line = debug.getinfo(1, "l").currentline + 1
      local f = mg.compile(function(v) return (v * 2):log() + 1 end)
      for _, x in ipairs{mg.tensor{1, 2}, mg.tensor{1, -1}} do f(x) end
      assert(helper.raises(("result 1 has nan: log made nan of finite values at " ..
        "spec/lua/error_spec.lua:%d"):format(line), mg.detect_anomaly, f, mg.tensor{1, -1}))
    end)
  end)

  describe("in backward, with Config.debug,", function()
    local function same(_, v) return v * 1 end

    -- Line 3 of a script makes y with debug on, line 5 does what fails.
    local function of(made, fails, ...)
      local script = assert(load("local mg, x, w, F = ...\n\n" .. made .. "\n\n" .. fails,
        "@model.lua"))
      local x = mg.Variable{0.5, 1}
      return pcall(mg.using_config, "debug", true, script, mg, x, mg.Variable({1, 2}, "w"), ...)
    end

    local function tells(expected, ...)
      local ok, err = of(...)
      assert.is_false(ok)
      assert.equal(expected, err)
    end

    it("names the op and the line that made it", function()
      local released = "model.lua:5: %sbackward: this graph was released by an earlier " ..
        "backward; pass retain_graph = true to the first (%s made at model.lua:3)"
      tells(released:format("", "sigmoid"), "local y = x:sigmoid() y:backward()", "y:backward()")
      tells(released:format("", "checkpoint"), "local y = mg.checkpoint(mg.exp, x) y:backward()",
        "y:backward()")
      tells(released:format("gradients: ", "div"), "local y = mg.softmax(x) y:backward()",
        "mg.gradients(y, {x})")
      tells("model.lua:5: leaky_relu: this operand has no gradient " ..
        "(leaky_relu made at model.lua:3)",
        "local y = mg.leaky_relu(x, mg.Variable{0.1, 0.2})", "y:sum():backward()")
    end)

    it("and the names of Variables", function()
      tells("model.lua:5: backward: operand 2 of mul was given a new value since; create_graph " ..
        'needs the old one (mul "y" of "w" made at model.lua:3)',
        "local y = x * w; y.name = 'y'", "w.data = {3, 4} y:backward{create_graph = true}")
      tells('model.lua:5: F: input 2 was given a new value since; its old one is needed ' ..
        '(F "z" of "w", "v" made at model.lua:3)',
        "local v = mg.Variable(1.0, 'v') local y, z = F(x, w, v); z.name = 'z'",
        "w.data = {3, 4} z:backward{create_graph = true}",
        mg.Function{name = "F", forward = function(_, a, b) return a * 1, b * 1 end,
                    backward = function(_, a, b) return a, b, 0 end})
    end)

    it("says so of a Function's backward, whatever it does", function()
      local function bad(backward)
        return mg.Function{name = "bad", forward = same, backward = backward}
      end
      local where = " (bad made at model.lua:3)"
      local made, fails = "local y = F(x)", "y:backward()"
      tells("model.lua:5: bad: its backward is a nil, expected a function" .. where, made, fails,
        bad())
      tells("model.lua:5: bad: backward gave 0 gradients for 1 input" .. where, made, fails,
        bad(function() end))
      tells("model.lua:5: bad: backward gave a gradient of shape () for input 1 of shape (2)" ..
        where, made, fails, bad(function(_, g) return g:sum() end))
      tells("thrown" .. where, made, fails, bad(function() error("thrown", 0) end))
      local inner = bad(function() error("thrown", 0) end)(mg.Variable(1.0))
      tells("thrown (bad)" .. where, made, fails, bad(function() inner:backward() end))
      local object = {}
      local ok, err = of(made, fails, bad(function() error(object) end))
      assert.is_false(ok)
      assert.is_true(rawequal(object, err))
    end)

    it("says nothing of what was made without", function()
      local x = mg.Variable{1, 2}
      local y = x:exp()
      y:backward()
      local ok, err = pcall(mg.using_config, "debug", true, y.backward, y)
      assert.is_false(ok)
      assert(err:find("to the first (exp)", 1, true), err)
      ok, err = pcall(y.backward, y)
      assert.is_false(ok)
      assert(err:find("to the first$"), err)
    end)
  end)
end)
