-- The step that this engine grew from, sentence by sentence: gradients nobody needs are dropped at
-- once, and a mode in which nothing is kept for a backward that never comes.

local mg = require "moongrad"
local helper = require "spec.helper"
local square, Config = mg.square, mg.Config

describe("step 18", function()
  helper.guard(before_each, after_each)

  describe("backward", function()
    it("keeps the gradients of leaves alone", function()
      local x0, x1 = mg.Variable(1.0), mg.Variable(1.0)
      local t = x0 + x1
      local y = x0 + t
      y:backward()
      assert.is_nil(y.grad)
      assert.is_nil(t.grad)
      assert.equal(2, x0.grad:item())
      assert.equal(1, x1.grad:item())
    end)

    it("keeps all of them with retain_grad", function()
      for _, opts in ipairs{{retain_grad = true}, true} do
        local x0, x1 = mg.Variable(1.0), mg.Variable(1.0)
        local t = x0 + x1
        local y = x0 + t
        y:backward(opts)
        assert.equal(1, y.grad:item())
        assert.equal(1, t.grad:item())
        assert.equal(2, x0.grad:item())
        assert.equal(1, x1.grad:item())
      end
    end)

    it("drops a gradient that was given to the root, too", function()
      local x = mg.Variable{1, 2}
      local y = square(x)
      y.grad = mg.tensor{10, 100}
      y:backward()
      assert.is_nil(y.grad)
      assert(helper.near(x.grad, {20, 400}))
    end)

    it("starts from ones of the root's shape", function()
      local x = mg.Variable(mg.ones(2, 3))
      square(x):backward()
      assert(helper.near(x.grad, mg.full({2, 3}, 2)))
    end)

    it("goes by generation: the last Function made first", function()
      local x = mg.Variable(2.0)
      local a = square(x)
      local y = square(a) + square(a)
      y:backward()
      assert.equal(32, y:item())
      assert.equal(64, x.grad:item())
    end)
  end)

  describe("a Function", function()
    it("keeps its inputs, for backward", function()
      local x0, x1 = mg.Variable(2.0), mg.Variable(3.0)
      local f = (x0 * x1).creator
      assert.equal("mul", f.name)
      assert.equal(2, #f.inputs)
      assert.equal(x0, f.inputs[1])
      assert.equal(x1, f.inputs[2])
    end)

    it("keeps its outputs weakly", function()
      local x = mg.Variable(2.0)
      local y = square(x)
      local f = y.creator
      assert.equal(y, f.outputs[1])
      y = nil -- luacheck: ignore 311
      helper.settle()
      assert.same({}, f.outputs)
      assert.equal(x, f.inputs[1])
    end)

    it("is of the highest generation among its inputs; its outputs are one higher", function()
      local x = mg.Variable(2.0)
      local a = square(x)
      local b = square(a)
      local y = x * b
      assert.equal(0, x.generation)
      assert.is_nil(x.creator)
      assert.same({0, 1}, {a.creator.generation, a.generation})
      assert.same({1, 2}, {b.creator.generation, b.generation})
      assert.same({2, 3}, {y.creator.generation, y.generation})
    end)

    it("can be made the creator of another Variable", function()
      local x, z = mg.Variable(3.0), mg.Variable(9.0)
      local f = square(x).creator
      z:set_creator(f)
      assert.equal(f, z.creator)
      assert.equal(f.generation + 1, z.generation)
      z:backward()
      assert.equal(6, x.grad:item())
    end)

    it("and passes on to it what is added to a gradient piece by piece", function()
      local x, z = mg.Variable{1, 2, 3}, mg.Variable{7, 8, 9}
      local h, at = x * 2, mg.tensor({1, 1, 2}, "int64")
      z:set_creator(h.creator)
      local y = z[at]:sum() + z[{ {2, 3} }]:sum() + z:gather(1, at):sum() + z:cummax(1):sum()
      y = y + (h * 5):sum() + (z * {1, 10, 100}):sum()
      local gz = mg.gradients(y, {z}, {retain_graph = true})[1]
      assert(helper.near(gz, {6, 14, 102}))
      y:backward()
      assert(helper.near(x.grad, {22, 38, 214}))
    end)

    it("and is one with its own result, be that there still or gone", function()
      local Square = mg.Function{
        forward = function(_, x) return x * x, x * 2 end,
        backward = function(f, gy, gz) return gy * 2 * f.inputs[1] + gz * 2 end,
      }
      for _, fn in ipairs{square, Square} do
        local x, z, other = mg.Variable(3.0), mg.Variable(9.0), mg.Variable(9.0)
        local y = fn(x)
        z:set_creator(y.creator)
        other:set_creator(y.creator)
        local function gradient(v) return mg.gradients(v, {x}, {retain_graph = true})[1]:item() end
        assert.equal(6, gradient(z))
        assert.equal(6 * 2 + 6 * 18 + 6 * 3, gradient(y * 2 + z * z + other * 3))
        y:free()
        assert.equal(6, gradient(z))
        assert.equal(6 * 18 + 6 * 3, gradient(z * z + other * 3))
        local sum = z + other
        sum:backward()
        assert.equal(12, x.grad:item())
      end
    end)

    it("is none any more when it was unchained itself", function()
      local y, z = square(mg.Variable(3.0)), mg.Variable(9.0)
      local f = y.creator
      z:set_creator(f)
      y:unchain()
      assert.is_nil(z.creator)
      assert.equal("function(Function)", tostring(f))
      assert.same({}, f.inputs)
      assert.is_truthy(mg.dot_graph(z):find "digraph")
    end)

    it("has outputs of its own shape and dtype only", function()
      local x = mg.Variable{1, 2, 3}
      local f = square(x).creator
      for _, z in ipairs{mg.Variable{1, 2}, mg.Variable(1.0), mg.tensor({1, 2, 3}, "int64")} do
        assert(helper.raises("set_creator", z.set_creator, z, f))
        assert.is_nil(z.creator)
      end
      local y = square(x)
      y:set_creator(y.creator)                     -- it is that already
      y:backward()
      assert(helper.near(x.grad, {2, 4, 6}))
    end)

    it("returns its one output, or all of several", function()
      local Both = mg.Function{
        forward = function(_, x) return x + 1, x - 1 end,
        backward = function(_, ga, gb) return ga + gb end,
      }
      local x = mg.Variable(3.0)
      local a, b, none = Both(x)
      assert.same({4.0, 2.0}, {a:item(), b:item()})
      assert.is_nil(none)
      assert.equal(a.creator, b.creator)
      assert.equal(a, a.creator.outputs[1])
      assert.equal(b, a.creator.outputs[2])
    end)
  end)

  describe("Config.enable_backprop", function()
    it("is true at first", function()
      assert.is_true(Config.enable_backprop)
    end)

    it("off: nothing is recorded", function()
      finally(function() Config.enable_backprop = true end)
      local x = mg.Variable(mg.ones(10, 10, 10))
      Config.enable_backprop = false
      local y = square(square(square(x)))
      assert.is_nil(y.creator)
      assert.equal(0, y.generation)
      assert.is_false(y.requires_grad)
    end)

    it("on: backward as ever", function()
      local x = mg.Variable(mg.ones(100, 100, 100))
      local y = square(square(square(x)))
      y:backward()
      assert.same({8.0, 8.0}, {x.grad:min():item(), x.grad:max():item()})
      assert.is_nil(y.grad)
    end)

    -- exp's gradient reads its result, so the inner one must stay where a backward may come.
    it("off: values in between are thrown away", function()
      local bytes = 8 * 2 ^ 17
      local function kept()
        local x = mg.Variable(mg.rand(2 ^ 17))
        mg.eval(x)
        local before = helper.settle()
        local y = x:exp():exp()
        mg.eval(y)
        return (helper.settle() - before) // bytes
      end
      assert.equal(2, kept())
      assert.equal(1, mg.no_grad(kept))
    end)
  end)

  describe("using_config", function()
    it("sets a mode for as long as a function runs", function()
      mg.using_config("enable_backprop", false, function()
        assert.is_false(Config.enable_backprop)
        local y = square(mg.Variable(2.0))
        assert.equal(4, y:item())
        assert.is_nil(y.creator)
      end)
      assert.is_true(Config.enable_backprop)
      assert.is_truthy(square(mg.Variable(2.0)).creator)
    end)

    it("puts the old value back when the function fails", function()
      local log = {}
      local ok = pcall(function()
        log[#log + 1] = "start"
        mg.using_config("enable_backprop", false, function()
          log[#log + 1] = "process"
          error "stop"
        end)
      end)
      log[#log + 1] = Config.enable_backprop
      assert.is_false(ok)
      assert.same({"start", "process", true}, log)
    end)

    it("has no_grad for short", function()
      local y = mg.no_grad(function() return square(mg.Variable(2.0)) end)
      assert.equal(4, y:item())
      assert.is_nil(y.creator)
      assert.is_true(Config.enable_backprop)
    end)
  end)
end)
