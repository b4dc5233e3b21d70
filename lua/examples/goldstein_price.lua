-- The gradient of the Goldstein-Price function, a long scalar expression, at (1, 1).

local mg = require "moongrad"

local function goldstein(x, y)
  return (1 + (x + y + 1)^2 * (19 - 14*x + 3*x^2 - 14*y + 6*x*y + 3*y^2)) *
         (30 + (2*x - 3*y)^2 * (18 - 32*x + 12*x^2 + 48*y - 36*x*y + 27*y^2))
end

local x, y = mg.Variable(1.0), mg.Variable(1.0)
local z = goldstein(x, y)
z:backward()
print("z", z)
print("dz/dx", x.grad)   -- -5376
print("dz/dy", y.grad)   -- 8064
