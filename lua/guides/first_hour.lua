-- # The first hour
--
-- Variables, gradients, a fit, and a network: what there is, in the order one meets it.
--
-- Everything below runs as it stands, line by line in `make repl`, or by `lua5.4
-- lua/guides/first_hour.lua` in a checkout that is installed or that `eval "$(make -s env)"` has
-- told Lua of. The module is one table.

local mg = require "moongrad"

-- ## Variables
--
-- A Variable holds an array of numbers. `mg.tensor` makes a constant of a number or nested
-- tables, `mg.Variable` one that gradients are wanted for. Numbers are float64 unless told
-- otherwise.

local x = mg.tensor{{1, 2, 3}, {4, 5, 6}}
print(x)
print(x.shape, x.ndim, x.size, x.dtype)

-- Operators and ops work element by element; shapes broadcast as in NumPy. Each op is a function
-- and a method. Axes, indices and labels count from 1.

print(x * 10 + mg.tensor{1, 2, 3})
print(x:sum(1), x:max(), mg.sqrt(x[1]))
print(x[2])
print(x[{ {}, {2, 3} }])

-- A Variable of one element becomes a number by `:item()`; tables come back by `:totable()`.

print(x:mean():item(), #x, x:totable()[2][3])

-- ## Gradients
--
-- What is computed from a `mg.Variable` remembers how. `y:backward()` puts the derivative of `y`
-- into `.grad` of the leaves it came from.

local v = mg.Variable(2.0)
local y = v ^ 3 + 2 * v
y:backward()
print(v.grad)

-- The same as a function of functions: `mg.grad(f)` is the derivative of `f`, and can be taken
-- again.

local function f(t) return (t:sin() * t):sum() end
local at = mg.tensor{0.5, 1, 2}
print(mg.grad(f)(at))
print(mg.grad(function(t) return mg.grad(f)(t):sum() end)(at))

-- ## A fit
--
-- Gradients add up in `.grad`, so they are cleared before each step. `W.data` is the values
-- alone, and assigning it gives `W` new ones.

mg.seed(1)
local inputs = mg.rand(100, 1)
local targets = 5 + 2 * inputs + 0.1 * mg.randn(100, 1)
local W, b = mg.Variable(mg.zeros(1, 1)), mg.Variable(mg.zeros(1))
for step = 1, 200 do
  local loss = mg.mean_squared_error(inputs:matmul(W) + b, targets)
  W:cleargrad(); b:cleargrad()
  loss:backward()
  W.data = W.data - 0.5 * W.grad
  b.data = b.data - 0.5 * b.grad
  if step % 50 == 0 then print(step, loss) end
end
print(W, b)

-- ## A network
--
-- Layers, optimizers and data are Lua tables with a `forward` and a `step`. The sizes of inputs
-- are found when a layer is first called. `data.Spiral` is three arms of points in the plane.

local nn, optim, data = mg.nn, mg.optim, mg.data
local model = nn.Sequential(nn.Linear(32), mg.tanh, nn.Linear(3))
local opt = optim.Adam(model, {lr = 1e-2})
local loader = data.DataLoader(data.Spiral(), {batch_size = 30, shuffle = true, seed = 1})
for epoch = 1, 100 do
  local sum = 0
  for points, labels in loader do
    local loss = mg.cross_entropy(model(points), labels)
    model:cleargrads(); loss:backward(); opt:step()
    sum = sum + loss:item()
  end
  if epoch % 25 == 0 then print(epoch, ("%.3f"):format(sum / #loader)) end
end

-- `Config.train` says whether dropout drops; `mg.test_mode` switches it off for a call.

local test = data.Spiral{split = "test"}
local points, labels = test:batch(1, #test)
print(mg.test_mode(function() return mg.accuracy(model(points), labels) end))

-- ## Where to go on
--
-- - [Arrays and indexing](guide-arrays.html), [gradients](guide-autograd.html),
--   [training](guide-training.html)
-- - [What is otherwise than elsewhere](guide-coming_from.html), for those who know PyTorch or
--   NumPy
-- - `mg.help()` lists all names, `mg.help "conv2d"` says what one takes; the
--   [reference](reference.html) says it at length
