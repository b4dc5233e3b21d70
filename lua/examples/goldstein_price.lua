-- The gradient of the Goldstein-Price function at (1, 1), its graph, and the way down to its
-- minimum, which is 3 at (0, -1).
--   lua5.4 lua/examples/goldstein_price.lua [quick] [graph.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/goldstein_price.png"

local function f(x, y)
  return (1 + (x + y + 1)^2 * (19 - 14*x + 3*x^2 - 14*y + 6*x*y + 3*y^2)) *
    (30 + (2*x - 3*y)^2 * (18 - 32*x + 12*x^2 + 48*y - 36*x*y + 27*y^2))
end

local x, y = mg.Variable(1.0, "x"), mg.Variable(1.0, "y")
local z = f(x, y)
z.name = "z"
mg.plot_graph(z, path)
z:backward()
print("dz/dx", x.grad)
print("dz/dy", y.grad)
print("its graph is in " .. path)

x.data, y.data = 0.3, -0.6
local opt = mg.optim.LBFGS({x, y}, {line_search = "strong_wolfe"})
for i = 1, 3 do
  local before = opt:step(function()
    local value = f(x, y)
    x:cleargrad(); y:cleargrad(); value:backward()
    return value
  end)
  print(("step %d: from %.6f to f(%.6f, %.6f) = %.10f"):format(i, before, x:item(), y:item(),
    f(x, y):item()))
end
