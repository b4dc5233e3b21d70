-- What print shows of Variables, classes and models, and what Lua's own functions say of Variables.

local mg = require "moongrad"
local helper = require "spec.helper"
local raises, printed = helper.raises, helper.printed
local nn = mg.nn

describe("text of Variables", function()
  local options
  before_each(function() options = mg.set_printoptions() end)
  after_each(function() mg.set_printoptions(options) end)

  it("has rows that end before the line does, columns under columns", function()
    mg.set_printoptions{linewidth = 30}
    assert.equal("variable([1 2 3 4 5 6 7 8 9\n          8 7 6 5])",
      tostring(mg.tensor{1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 5}))
    assert.equal("variable([[ 100    2    3\n" ..
                 "              4    5]\n" ..
                 "          [   1    2    3\n" ..
                 "             -4 -100]])",
      tostring(mg.tensor{{100, 2, 3, 4, 5}, {1, 2, 3, -4, -100}}))
    for _, width in ipairs{37, 80} do
      mg.set_printoptions{linewidth = width}
      for line in tostring(mg.rand(2, 3, 40)):gmatch "[^\n]+" do assert.is_true(#line <= width) end
    end
    mg.set_printoptions{linewidth = 1}
    assert.equal("variable([1\n          2])", tostring(mg.tensor{1, 2}))
  end)

  it("has as many digits as were asked for", function()
    local third = mg.tensor(1 / 3)
    local function digits(n)
      mg.set_printoptions{precision = n}
      return tostring(third) .. tostring(third:to "float32")
    end
    assert.equal("variable(0.33333333)variable(0.3333333)", tostring(third) ..
      tostring(third:to "float32"))
    assert.equal("variable(0.333)variable(0.333)", digits(3))
    assert.equal("variable(0.33333333)variable(0.3333333)", digits(8))
    assert.equal("variable(0.333333333)variable(0.333333343)", digits(9))
    assert.equal("variable(0.33333333333333331)variable(0.333333343)", digits(17))
  end)

  it("leaves the middle out of more elements than the threshold", function()
    assert.same({precision = 8, threshold = 1000, linewidth = 80},
      mg.set_printoptions{threshold = 7})
    assert.equal("variable([1 2 3 4 5 6 7])", tostring(mg.range(1, 7)))
    assert.equal("variable([1 2 3 ... 6 7 8])", tostring(mg.range(1, 8)))
    assert.same({precision = 8, threshold = 7, linewidth = 80}, mg.set_printoptions())
    assert(raises("unknown option edge", mg.set_printoptions, {edge = 3}))
    assert(raises("precision", mg.set_printoptions, {precision = 0}))
  end)
end)

describe("text of", function()
  it("Variables and shapes is joined to what has one", function()
    local x = mg.tensor(3)
    assert.equal("variable(3)()a1", x .. x.shape .. "a" .. 1)
    assert(tostring(mg.Config) == ("" .. mg.ones(2).shape .. mg.Config):sub(4))
    local expected = ", expected a string or a number"
    assert(raises("..: argument 2 is a nil" .. expected, function() return x .. nil end))
    assert(raises("..: argument 1 is a boolean" .. expected, function() return true .. x end))
    assert(raises("..: argument 2 is a table" .. expected, function() return x.shape .. {} end))
  end)

  it("classes, Functions and mg says what they are", function()
    assert.equal("class Linear", tostring(nn.Linear))
    assert.equal("class Adam", tostring(mg.optim.Adam))
    assert.equal("moongrad " .. mg.version, tostring(mg))
    assert.equal("training\n  Checkpoint EMA EarlyStopping SWA", tostring(mg.training))
    local function same(_, x) return x end
    assert.equal("Function(keep)",
      tostring(mg.Function{name = "keep", forward = same, backward = same}))
  end)

  it("a model shows its layers, functions and its own parameters", function()
    local Net = nn.Module:extend "Net"
    function Net:init()
      self.W, self.mean = nn.Parameter(mg.zeros(2, 3)), nn.Buffer(mg.zeros(2))
      self.body = nn.Sequential(nn.Linear(3, 2), mg.relu, nn.Linear(4))
      self.list = {nn.Linear(2, 3)}
    end
    assert.equal("Net\n" ..
                 "  W: parameter (2, 3)\n" ..
                 "  body: Sequential\n" ..
                 "  body.0: Linear(3, 2)\n" ..
                 "  body.1: relu\n" ..
                 "  body.2: Linear(?, 4)\n" ..
                 "  list.0: Linear(2, 3)\n" ..
                 "  mean: buffer (2)", tostring(Net()))
  end)

  it("a model's summary is its parameters, their sizes and the sum", function()
    local Net = nn.Module:extend "Net"
    function Net:init()
      self.a, self.b, self.mean = nn.Linear(3, 2), nn.Linear(4), nn.Buffer(mg.zeros(2))
      self.tied = self.a.weight
      self.a.bias.requires_grad = false
    end
    local net = Net()
    local lines, n = printed(net.summary, net)
    assert.equal(8, n)
    assert.equal("Net\n" ..
                 "a.bias    frozen                     (2)     2\n" ..
                 "a.weight                             (2, 3)  6\n" ..
                 "b.?       waits for its first input\n" ..
                 "mean      buffer                     (2)     2\n" ..
                 "tied      is a.weight\n" ..
                 "2 parameters of 8 numbers, 80 bytes with buffers", lines[1])
    assert.equal("Flatten\n0 parameters of 0 numbers, 0 bytes with buffers",
      printed(nn.Flatten().summary, nn.Flatten())[1])
  end)
end)

describe("a Variable where Lua wants a number", function()
  it("is told of with item()", function()
    local x, why = mg.tensor{1.5}, "Variable (x:item() is its number)"
    for _, fn in ipairs{function() return ("%.3f"):format(x) end,
                        function() return math.sin(x) end,
                        function() local n = 0; for i = 1, x do n = n + i end; return n end,
                        function() return ("x"):rep(x) end} do
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.is_truthy(err:find(why, 1, true))
    end
  end)
end)

describe("what a property gives", function()
  it("is no place to write into: the value would be lost", function()
    local x = mg.zeros(2, 3)
    assert(raises("this is a copy that x[...] gave, or x.T", function() x.T[1] = 5 end))
    assert.equal(0, x:sum():item())
    local y = x.T:clone()
    y[1] = 5
    assert.equal(10, y:sum():item())
  end)
end)

describe("an optimizer", function()
  it("says what PyTorch's names are here", function()
    local opt = mg.optim.SGD({mg.Variable{1}}, {lr = 0.1})
    assert(raises("an optimizer has no zero_grad; here it is cleargrads",
      function() return opt.zero_grad end))
    assert(raises("an optimizer has no state_dict; here it is state",
      function() return opt.state_dict end))
    assert(raises("SGD: there is no field or method other", function() return opt.other end))
    assert.is_nil(opt.betas) -- other rules have them
  end)

  it("as mg, its modules and Variables do", function()
    for text, read in pairs{
      ["mg has no shape; here it is x.shape"] = function() return mg.shape end,
      ["mg has no inverse; here it is inv"] = function() return mg.inverse end,
      ["a Variable has no expand_as; here it is expand(y.shape)"] = function()
        return mg.ones(2).expand_as
      end,
      ["distributions has no kl_divergence; here it is mg.distributions.kl"] = function()
        return mg.distributions.kl_divergence
      end,
      ["data has no SequentialSampler; here it is the order without shuffle"] = function()
        return mg.data.SequentialSampler
      end
    } do assert(raises(text, read)) end
  end)

  it("and so does a log", function()
    local path = os.tmpname()
    local log <close> = mg.log(path .. ".csv")
    assert(raises("a log has no add_scalar; here it is a log's scalar",
      function() log:add_scalar("x", 1) end))
    assert(raises("Log: there is no field or method other", function() return log.other end))
    os.remove(path)
    os.remove(path .. ".csv")
  end)

  helper.counting(it)("reads values where they lie", function()
    local x = mg.rand(300, 400)
    mg.eval(x)
    local view = x[{{300, 1, -1}, {2, 400, 2}}]
    local copy = view + 0
    mg.eval(copy)
    mg.reset_peak()
    local live = mg.memory().live
    assert.equal(tostring(copy), tostring(view))
    assert.same(copy:totable(), view:totable())
    assert.equal(tostring(mg.ones(2, 2) * 7), tostring(mg.tensor{7}:broadcast_to(2, 2)))
    assert.equal("variable([3 3 3 ... 3 3 3])", tostring(mg.full({10000000000}, 3)))
    assert.is_true(mg.memory().peak < live + 1000)
  end)
end)
