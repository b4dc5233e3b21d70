-- mg.tidy: what is made in a call goes with it.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises, same, settle = helper.near, helper.raises, helper.same, helper.settle

describe("tidy", function()
  helper.guard(before_each, after_each)

  it("frees what was made in it, at its end", function()
    collectgarbage "stop"
    local before = mg.memory().live
    local held
    mg.tidy(function()
      held = mg.rand(1000) + 0
      mg.eval(held)
      assert.is_true(mg.memory().live > before)
    end)
    local after = mg.memory().live
    collectgarbage "restart"
    assert.equal(before, after)
    assert(raises("this Variable was freed", function() return held + 1 end))
  end)

  it("keeps what it returns, in tables too, and what was there before", function()
    local x = mg.Variable{1, 2, 3}
    local y, list, n = mg.tidy(function(a)
      local t = a * 2
      local z = t + 1
      return z, {a, deep = {t:exp()}}, 7
    end, x)
    assert(near(y, {3, 5, 7}))
    assert(near(list[1], {1, 2, 3}))
    assert(near(list.deep[1], {math.exp(2), math.exp(4), math.exp(6)}))
    assert.equal(7, n)
    y:sum():backward()                     -- its graph lives, though its inputs' Variables do not
    assert(near(x.grad, {2, 2, 2}))
  end)

  it("looks into tables once, however deep they lie and whatever knows whom", function()
    local deep = {x = mg.ones(2) + 1}
    local list = mg.tidy(function()
      for _ = 1, 300000 do deep = {deep} end
      local all = {}
      for i = 1, 200 do all[i] = {mg.ones(i) * 2} end
      for i = 1, 200 do
        for j = 1, 200 do all[i][#all[i] + 1] = all[j] end
      end
      return all[7], deep
    end)
    for i = 1, 200 do assert.equal(i, #list[i + 1][1]) end
  end)

  it("keeps what a recorded Function has in its self, until a backward has been there", function()
    local F = mg.Function{name = "f",
      forward = function(self, x)
        self.y = x:tanh()
        self.more = {s = x:sin()}
        return self.y * self.more.s
      end,
      backward = function(self, gy)
        local x, y, s = self.inputs[1], self.y, self.more.s
        return gy * ((1 - y ^ 2) * s + y * x:cos())
      end}
    local x = mg.Variable{0.3, 0.5}
    local function f(v) return (v:tanh() * v:sin()):sum() end
    local y = mg.tidy(function() return mg.tidy(function() return F(x):sum() end) end)
    y:backward()
    assert(near(x.grad, mg.grad(f)(x)))
    local h = mg.tidy(function()
      local self
      local G = mg.Function{forward = function(s, v) self, s.y = s, v * 2 return s.y end,
        backward = function(_, gy) return gy * 2 end}
      G(x):sum():backward()
      return function() return self.y end
    end)
    assert(raises("freed", function() return h() + 1 end))
  end)

  it("hands what it returns to the tidy around it", function()
    local inner, x
    local outer = mg.tidy(function()
      x, inner = mg.tidy(function() return mg.ones(2) + 1, mg.ones(3) * 3 end)
      assert(near(inner, {3, 3, 3}))
      return x * 2
    end)
    assert(near(outer, {4, 4}))
    assert(raises("this Variable was freed", function() return inner + 1 end))
    assert(raises("this Variable was freed", function() return x + 1 end))
  end)

  it("raises the error of the function and is over then", function()
    local err = {}
    local ok, got = pcall(mg.tidy, function() mg.tidy(function() error(err) end) end)
    assert.is_false(ok)
    assert.equal(err, got)
    local x = mg.ones(2) * 2
    mg.tidy(function() end)
    assert(near(x, {2, 2}))
    local co = coroutine.wrap(function() return pcall(mg.tidy, function() error(err) end) end)
    assert.is_false((co()))
    assert(raises("tidy: argument 1 is a nil, expected a function", mg.tidy))
  end)

  it("lets optimizers work in place", function()
    for _, name in ipairs{"SGD", "Adam", "AdamW", "RMSprop", "AdaGrad", "AdaDelta"} do
      local p = mg.Variable(mg.rand(100000) + 0)
      mg.eval(p)
      p.grad = mg.rand(100000)
      mg.eval(p.grad)
      local opt = mg.optim[name]({p}, name == "SGD" and {momentum = 0.9} or {})
      opt:step()
      opt:step()
      settle()
      mg.reset_peak()
      local before = mg.memory().live
      for _ = 1, 3 do opt:step() end
      assert.is_true(mg.memory().peak - before < 5e5, name)
    end
  end)

  it("keeps a buffer that an optimizer's update makes", function()
    local Counting = mg.optim.Optimizer:extend("Counting", "lr: number = 1", "p - lr g")
    local seen
    function Counting:update(p, g)
      seen = seen or mg.nn.Buffer(mg.zeros(2))
      return {p}, {p - self.lr * g}
    end
    local p = mg.Variable{1, 2}
    p.grad = mg.ones(2)
    Counting({p}):step()
    assert.same({0, 0}, seen:totable())
    assert.same({0, 1}, p:totable())
  end)

  it("keeps what optimizers and modules keep", function()
    local optimizers = {}
    for name, make in pairs(mg.optim) do
      if type(make) == "table" and name ~= "Optimizer" then optimizers[#optimizers + 1] = name end
    end
    assert.is_true(#optimizers >= 8)
    local function train(name, tidy)
      mg.seed(1)
      local model = mg.nn.Sequential(mg.nn.Linear(3), mg.tanh, mg.nn.Linear(2))
      local x, t = mg.rand(5, 4), mg.rand(5, 2)
      local opt
      local function loss()
        local l = ((model(x) - t) ^ 2):sum()
        model:cleargrads()
        l:backward()
        return l
      end
      for _ = 1, 4 do
        tidy(function()
          local l = loss()
          opt = opt or mg.optim[name](model)
          opt:step(name == "LBFGS" and loss or nil)
          return l
        end)
      end
      return model[1].weight
    end
    for _, name in ipairs(optimizers) do
      assert(same(train(name, mg.tidy), train(name, function(f) return f() end)), name)
    end
  end)
end)
