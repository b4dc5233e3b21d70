-- Config, and functions that run in another mode.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local Config = mg.Config

local function backprop() return Config.enable_backprop end

describe("Config", function()
  helper.guard(before_each, after_each)

  it("has five modes", function()
    assert.is_true(Config.enable_backprop)
    assert.is_true(Config.train)
    assert.equal("float64", Config.dtype)
    assert.is_false(Config.lean)
    assert.is_false(Config.debug)
  end)

  it("is written as it is read", function()
    finally(function()
      Config.dtype, Config.train, Config.lean, Config.debug = "float64", true, false, false
    end)
    Config.dtype = "float32"
    assert.equal("float32", Config.dtype)
    assert.equal("float32", mg.zeros(2).dtype)
    for _, name in ipairs{"train", "lean", "debug"} do
      Config[name] = not Config[name]
      assert.equal(name ~= "train", Config[name])
    end
  end)

  it("knows no other names", function()
    assert(raises("Config: there is no mode backprop; there are enable_backprop train dtype " ..
      "lean debug", function() return Config.backprop end))
    assert(raises("Config: there is no mode backprop", function() Config.backprop = true end))
    assert(raises("Config: there is no mode 1", function() return Config[1] end))
    assert(raises("Config: there is no mode no_such", mg.using_config, "no_such", 1, print))
  end)

  it("takes a value of the right kind, or sets nothing", function()
    assert(raises('dtype must be "float64" or "float32", not float99', function()
      Config.dtype = "float99"
    end))
    assert(raises("dtype must be", function() Config.dtype = "int64" end))
    assert(raises("dtype must be", function() Config.dtype = 64 end))
    assert(raises("train must be true or false, not a number", function() Config.train = 0 end))
    assert(raises("enable_backprop must be", function() Config.enable_backprop = nil end))
    assert(raises("lean must be", function() Config.lean = "yes" end))
    assert.equal("float64", Config.dtype)
    assert.same({true, true, false}, {Config.train, Config.enable_backprop, Config.lean})
  end)

  it("is asked when an op is called, not when it is computed", function()
    local x = mg.Variable(mg.rand(10000))
    local y = mg.no_grad(function() return x:exp() end)
    assert.is_nil(y.creator)
    assert(near(y, x:exp()))
    assert.is_nil(y.creator)
    y = x * 3
    assert(raises("nothing was recorded", function()
      mg.no_grad(function() y:sum():backward() end)
    end))
    assert.is_nil(x.grad)
    mg.no_grad(y.backward, y)
    assert(near(x.grad, mg.full({10000}, 3)))
    local z = mg.using_config("dtype", "float32", mg.zeros, 3)
    assert.equal("float32", z.dtype)
  end)

  it("says with debug where things were made, and costs nothing else", function()
    local x = mg.Variable{1, 2}
    mg.using_config("debug", true, function() (x:exp() * 2):backward() end)
    assert(near(x.grad, 2 * x:exp()))
  end)
end)

describe("in another mode", function()
  helper.guard(before_each, after_each)

  it("functions get arguments and give results", function()
    local function all(...) return select("#", ...), ... end
    local got = table.pack(mg.no_grad(all, 1, nil, 3, nil))
    assert.same({n = 5, 4, 1, nil, 3}, got)
    assert.equal(0, select("#", mg.no_grad(function() end)))
    assert.same({1, 2}, {mg.using_config("train", false, function(a, b) return a, b end, 1, 2)})
    assert.equal(300, select("#", mg.no_grad(table.unpack, {}, 1, 300)))
  end)

  it("anything that can be called is a function", function()
    local callable = setmetatable({}, {__call = function(_, x) return x, backprop() end})
    assert.same({5, false}, {mg.no_grad(callable, 5)})
    assert(raises("no_grad: argument 1 is a number, expected a function", mg.no_grad, 5))
    assert(raises("using_config: argument 3 is a nil", mg.using_config, "train", false))
  end)

  it("each changes its own", function()
    assert.is_false(mg.no_grad(backprop))
    assert.is_true(mg.enable_grad(backprop))
    assert.is_false(mg.test_mode(function() return Config.train end))
    assert.is_true(mg.test_mode(backprop))
    assert.is_true(mg.using_config("lean", true, function() return Config.lean end))
    assert.same({true, true, false}, {Config.enable_backprop, Config.train, Config.lean})
  end)

  it("they nest", function()
    local log = {}
    local function note() log[#log + 1] = backprop() end
    mg.no_grad(function()
      note()
      mg.enable_grad(function()
        note()
        mg.test_mode(mg.no_grad, note)
        note()
      end)
      note()
    end)
    note()
    assert.same({false, true, false, true, false, true}, log)
  end)

  it("an assignment inside ends with the function", function()
    mg.no_grad(function() Config.enable_backprop = true end)
    assert.is_true(backprop())
    mg.using_config("train", true, function() Config.train = false end)
    assert.is_true(Config.train)
  end)

  it("errors come out as they are, and restore", function()
    local err = {code = 7}
    for _, mode in ipairs{mg.no_grad, mg.test_mode, mg.enable_grad} do
      local ok, got = pcall(mode, function() mg.test_mode(error, err) end)
      assert.is_false(ok)
      assert.is_true(rawequal(err, got))
      assert.same({true, true}, {Config.enable_backprop, Config.train})
    end
    local ok, got = pcall(mg.no_grad, error)
    assert.same({false, nil}, {ok, got})
    assert.is_true(backprop())
  end)

  it("a traceback shows the line inside", function()
    local line
    local function fails()
      line = debug.getinfo(1, "l").currentline + 1
      error "deep"
    end
    local _, trace = xpcall(mg.no_grad, debug.traceback, fails)
    assert.is_truthy(trace:find("modes_spec.lua:" .. line .. ": in", 1, true))
  end)

  it("a refused mode runs nothing", function()
    local ran = false
    assert(raises("train must be", mg.using_config, "train", 5, function() ran = true end))
    assert.is_false(ran)
  end)

  it("depth is bounded by an error, not by a crash", function()
    local function deeper(n) return mg.no_grad(deeper, n + 1) end
    assert.is_false(pcall(deeper, 1))
    assert.is_true(backprop())
  end)

  -- Ctrl-C is one: lua5.4 raises it from a hook, which comes once.
  it("an error in a hook leaves nothing behind, wherever it comes", function()
    local Same = mg.Function{
      name = "same",
      forward = function(_, x) return x * 1 end,
      backward = function(_, g) return g end,
    }
    local x = mg.Variable{1, 2}
    local programs = {
      function() pcall(mg.no_grad, error, "x") end,
      function() mg.test_mode(mg.using_config, "dtype", "float32", error, "x") end,
      function() mg.tidy(mg.no_grad, error, "x") end,
      function() mg._profile(mg.no_grad, error, "x") end,
      function() Same(x * 2):backward{create_graph = true} end,
      function() mg.checkpoint(Same, x):backward() end,
      function() mg.gradients(Same(x), {x}) end,
    }
    local function interrupt(event, at, fn)
      local count = 0
      pcall(pcall, function()               -- it may come when the inner one is over
        debug.sethook(function()
          count = count + 1
          if count == at then
            debug.sethook()
            error "hook"
          end
        end, event, event == "" and 1 or 0)
        pcall(fn)
        debug.sethook()
      end)
      debug.sethook()
      return count >= at
    end
    for _, event in ipairs{"", "c", "r", "l"} do
      for _, program in ipairs(programs) do
        local at = 1
        while interrupt(event, at, program) do
          at = at + 1
          assert.same({true, true, "float64"}, {backprop(), Config.train, Config.dtype})
          mg._profile(function() end)       -- none is running
          x:unchain_backward()              -- nor is a backward
          x:cleargrad()
          mg.gradients(x * x, {x})
        end
      end
    end
  end)

  describe("a coroutine", function()
    it("works like the main thread", function()
      local co = coroutine.wrap(function()
        local inside = mg.no_grad(backprop)
        coroutine.yield(inside, backprop())
        local ok, err = pcall(mg.no_grad, error, "inside")
        coroutine.yield(ok, err, backprop())
      end)
      assert.same({false, true}, {co()})
      assert.same({false, "inside", true}, {co()})
    end)

    it("cannot carry a mode out", function()
      local co = coroutine.create(function()
        mg.no_grad(function() coroutine.yield() end)
      end)
      assert.is_false(coroutine.resume(co))
      assert.is_true(backprop())
      co = coroutine.create(function()
        mg.no_grad(function() pcall(coroutine.yield) end)
        return backprop()
      end)
      local _, after = coroutine.resume(co)
      assert.is_true(after)
      assert.is_true(backprop())
    end)

    it("that dies inside restores at once", function()
      local co = coroutine.create(function() mg.no_grad(error, "dead") end)
      assert.is_false(coroutine.resume(co))
      assert.is_true(backprop())
    end)

    it("can run backward, Functions written in Lua too", function()
      local Double = mg.Function{
        forward = function(_, x) return x * 2 end,
        backward = function(_, gy) return gy * 2 end,
      }
      local x = mg.Variable{1, 2}
      coroutine.wrap(function() Double(x * x):backward() end)()
      assert(near(x.grad, {4, 8}))
    end)
  end)
end)
