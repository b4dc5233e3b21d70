-- # Writing ops and Functions
--
-- Three ways to add an op: compose it in Lua, give it a gradient of its own, or make it a row in
-- C.

local mg = require "moongrad"

-- ## A composition
--
-- Any Lua function of Variables is differentiable. `mg.define` makes it one of moongrad's own:
-- its signature says what it takes, by which calls are checked; `mg.help`, the method and the
-- reference follow.

mg.define("soft_threshold(x: float, {lambda: number(0..) = 1})",
  "x moved toward 0 by lambda, and 0 where it would cross",
  function(x, lambda) return x:sign() * (x:abs() - lambda):relu() end)

print(mg.soft_threshold({-3, -0.5, 2}))
print(mg.tensor{-3, -0.5, 2}:soft_threshold{lambda = 0.25})
print(pcall(mg.soft_threshold, {1}, {lambda = -1}))
mg.help "soft_threshold"
mg.soft_threshold = nil

-- Types are `array`, `float`, `int`, `number(0..1)`, `axis`, `"a" | "b"` and more, all in the
-- [reference](reference.html#types). `mg.checked` does the same for constructors and methods.
--
-- ## A Function with a gradient of its own
--
-- `forward` gets untracked values. `backward` gets gradients of the outputs and gives one for
-- each input; it is written with ops, so that it can be differentiated again. There the inputs
-- are `self.inputs`; what forward keeps in `self` is a constant to every derivative.

local Swish = mg.Function{name = "swish",
  forward = function(_, x) return x * mg.sigmoid(x) end,
  backward = function(self, gy)
    local x = self.inputs[1]
    local s = mg.sigmoid(x)
    return gy * (s + x * s * (1 - s))
  end}

local x = mg.Variable{-1, 0, 1}
print(Swish(x))
print(mg.grad(function(v) return Swish(v):sum() end)(x))
print(mg.gradcheck(Swish, {x}, {order = 2}))

-- A straight-through estimator: rounded forward, the identity backward.

local Round = mg.Function{name = "round_through",
  forward = function(_, v) return v:round() end,
  backward = function(_, gy) return gy end}
print(mg.grad(function(v) return (Round(v) ^ 2):sum() end)(mg.tensor{0.4, 1.6}))

-- What is no Variable among the arguments (a string, a number beside Variables, a table of options,
-- nil) comes to `forward` as it is, and stands at its place in `self.inputs`; `backward` gives
-- gradients for the Variables alone, or one for each argument.

local Affine = mg.Function{name = "affine",
  forward = function(_, v, factor, options) return v * factor + options.shift end,
  backward = function(self, gy) return gy * self.inputs[2] end}
print(Affine(mg.Variable{1, 2}, 3, {shift = 1}))

-- Mistakes name the Function: a backward that gives too few gradients, or the wrong shape.

local Wrong = mg.Function{name = "wrong",
  forward = function(_, v) return v * 2 end,
  backward = function() return mg.ones(5) end}
local y = Wrong(mg.Variable{1, 2}):sum()
print(pcall(function() y:backward() end))

-- ## A module
--
-- Parameters are leaves that a module owns by having them in a field.

local nn = mg.nn
local Scale = nn.Module:extend "Scale"
function Scale:init(n) self.weight = nn.Parameter(mg.ones(n)) end
function Scale:forward(v) return v * self.weight end
print(nn.Sequential(nn.Linear(2, 3), Scale(3)))

-- ## An optimizer
--
-- A rule is a class with options, as in a signature, and an update of one parameter `p` by its
-- gradient `g`: two lists, what is to change, and to what. In `s` stand `s.step`, from 1, and the
-- arrays that the class's field `buffers` names, zeros at first; they change as `p` does. While
-- `mg.compile` records, `s.step` and `self.lr` are Variables, which are equal to no number: what
-- `if s.step == 1` would decide, `mg.where(mg.eq(s.step, 1), a, b)` does.

local Sign = mg.optim.Optimizer:extend("Sign", "lr: number(0..) = 0.1", "p - lr sign(g)")
function Sign:update(p, g) return {p}, {p - self.lr * g:sign()} end

local p = mg.Variable{1, -2}
local opt = Sign({p}, {lr = 0.5})
p:square():sum():backward()
opt:step()
print(p)

local Heavy = mg.optim.Optimizer:extend("Heavy", "lr: number(0..) = 0.1", "w - lr v")
Heavy.buffers = {"v"}
function Heavy:update(w, g, s)
  local v = 0.9 * s.v + g
  return {w, s.v}, {w - self.lr * v, v}
end
opt = Heavy({p})
for _ = 1, 2 do opt:step() end
print(p)

-- ## Tests
--
-- In specs of busted, `require "moongrad.luassert"` adds `assert.allclose(a, b)`,
-- `assert.shape(x, {2, 3})` and `assert.gradcheck(f, x)`; where they fail they show which
-- elements differ, and by how much.

-- ## In C
--
-- An elementwise op is one row of `src/ops.def`: its body, from which kernels for all dtypes and
-- the machine code are made, and the gradient for each operand.
-- [Adding an op](guide-inside.html#adding-an-op) shows it on `xlogy`, and an op with a kernel of
-- its own on `cumprod`.
