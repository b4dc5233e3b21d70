-- # Recorded once, replayed
--
-- `mg.compile(f)` is f, but quicker: the first call with arguments of some shapes and dtypes runs f
-- and records every launch; later calls replay the record, without Lua, nodes or planning, in one
-- block of memory that was laid out once. The results are f's, to the bit.

local mg = require "moongrad"

local calls = 0
local f = mg.compile(function(x) calls = calls + 1; return (x:sin() * x):sum() end)
print(f(mg.tensor{1, 2, 3}), f(mg.tensor{4, 5, 6}), calls)

-- ## A training step
--
-- Parameters, what an optimizer keeps, means of batch norm: all that f captures is read at each
-- call, and what f does to it happens at each call; all at the end, or, after an error, nothing.

local model = mg.nn.Sequential(mg.nn.Linear(16), mg.tanh, mg.nn.Linear(1))
local opt = mg.optim.Adam(model, {lr = 1e-2})
local step = mg.compile(function(x, t)
  local loss = mg.mean_squared_error(model(x), t)
  model:cleargrads()
  loss:backward()
  opt:step()
  return loss
end)
local x = mg.linspace(-1, 1, 50):reshape(50, 1)
for i = 1, 200 do
  opt.lr = 1e-2 * 0.99 ^ i                         -- asked for before each replay
  local loss = step(x, x:sin())
  if i % 50 == 0 then print(i, loss) end
end

-- ## What a record is for
--
-- Variables in the arguments, in tables too, are inputs. Their shapes and dtypes, whether they are
-- tracked, all other arguments and Config belong to the key: another value records again. `{max =
-- 64}` records are kept, those last used. A module among the arguments is captured as it is, and so
-- is a Variable that f captures as well: a record is for that one alone. Of tables f gets copies:
-- what it puts into one is seen where f gives it back.

local scale = mg.compile(function(v, k) return v * k end)
print(scale(x, 2).shape, scale(x, 3).shape)        -- two records

-- Random streams go on as they would, `opt.lr`, momentum, betas and the count of updates are asked
-- for, another value of another option of an optimizer records again; schedules, where f calls them
-- (after `opt:step()`), step with each replay (they are asked before what to set after it), and
-- averages count it. Other numbers that f captures are constants, but for those that `mg.dynamic`
-- asks for. Which Variables f captures is part of the record, too, and so are a model's layers and
-- its hooks: what is put in the place of one, in a field or an upvalue, is not seen. Compile anew
-- then, or give the one there is a new value (`w.data = v`), which is.

local k = 1
local dynamic = mg.compile(function(v) return v * mg.dynamic(function() return k end) end)
print(dynamic(mg.tensor(2.0)))
k = 5
print(dynamic(mg.tensor(2.0)))

-- What needs a value while f is recorded raises at its line: `item`, `print`, `<`, the positions
-- of a mask; so do `mg.seed`, and what goes by values: LBFGS (compile its closure instead),
-- `mg.root`, `mg.minimize`, steps of `mg.odeint` that tolerances choose. What f sets in Lua it
-- sets once, so an optimizer that it captures refuses to have its options set. A check of values,
-- such as that labels are classes, is part of the record: where it fails f is called instead, as
-- if it were not recorded, and says what is wrong; what it did before is done.

print(pcall(mg.compile(function(v) return v:item() end), mg.tensor(1.0)))

-- ## Gradients
--
-- They are asked for inside. A record gives values alone: backward of a result raises, and says so.
-- Within a function that a transform differentiates it is f, for all that is tracked; with
-- `Config.debug` on, as in `mg.detect_anomaly`, it always is.

local newton = mg.compile(function(v)
  local df = mg.grad(function(u) return u ^ 4 - 2 * u ^ 2 end)
  local g, h = mg.value_and_grad(df)(v)
  return v - g / h
end)
local at = mg.tensor(2.0)
for _ = 1, 8 do at = newton(at) end
print(at, mg.grad(f)(mg.tensor{1, 2, 3}))

-- ## When it pays
--
-- Where launches are small. On one core: Goldstein-Price and its gradient, a program of 91
-- instructions then, takes 1 us instead of 30; the fifth derivative of tanh in 200 points 10
-- instead of 190; a chain of 1,000 sin and mul with its gradient 14 ns an op; an Adam step of a
-- 2-32-10 network 15 us instead of 180, of a 784-1000-1000-10 one, which is products, 15.8 ms
-- instead of 16.6. The first call takes two to three plain ones; programs of single numbers get
-- their machine code with the second, as many records are never met again. It does not pay for a
-- function that is called with another shape each time, or whose Lua decides by values.
--
-- `mg.launches` shows a record as it is replayed: `@64` is a place in its block, `#2` an address.

mg.launches(newton, at)
