-- The first steps: a Variable, a function of it, its gradient, checked; and saving memory.
--   lua5.4 lua/examples/first_steps.lua [quick] [graph.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/first_steps.png"

-- 1. y = (exp(x^2))^2 and its slope, which is 4 x exp(x^2)^2
local x = mg.Variable(0.5, "x")
local y = x:square():exp():square()
y.name = "y"
mg.plot_graph(y, path)
y:backward()
print(("y = %.6f, dy/dx = %.6f by backward, %.6f by differences"):format(y:item(), x.grad:item(),
  mg.numerical_grad(function(v) return v:square():exp():square() end, x):item()))

-- 2. A Variable used twice: its gradients add up, in order of generations.
x = mg.Variable(2.0)
local a = x:square()
y = a:square() + a:square()
y:backward()
print("y = 2 x^4 at 2:", y, "slope", x.grad)
print("generations of x, x^2 and y:", x.generation, a.generation, y.generation)

-- 3. Gradients of what lies between are dropped the moment they have been used, unless asked for.
x = mg.Variable(3.0)
a = x:square()
y = a:exp()
y:backward { retain_grad = true }
print("dy/da is kept if asked for:", a.grad)
x:cleargrad()
a = x:square()
y = a:exp()
y:backward()
print("else it is gone:", a.grad, "and x.grad stays:", x.grad)

-- 4. Memory: ones and a chain of three squares, with a graph and without.
local n = quick and 10 or 100
local function peak(f)
  collectgarbage()
  mg.reset_peak()
  local before = mg.memory().live
  f()
  return (mg.memory().peak - before) / 2 ^ 20
end

local big = mg.Variable(mg.rand(n, n, n) + 0.5)
mg.eval(big)
local function chain() return big:square():square():square() end
print(("with backward: %.2f MiB for y and the gradient"):format(peak(function()
  local z = chain()
  z:backward()
  mg.eval(z)
end)))
print(("no_grad: %.2f MiB for y alone"):format(peak(function()
  mg.no_grad(function() mg.eval(chain()) end)
end)))
mg.using_config("enable_backprop", false, function()
  local z = chain()
  print("no_grad records nothing: creator", z.creator, "generation", z.generation)
end)
print("the graph of the first step is in " .. path)
