-- Newton's method: the second derivative is the gradient of the gradient.
-- y = x^4 - 2 x^2 has its minimum at 1; from 2 it takes six steps.

local mg = require "moongrad"

local x = mg.Variable(2.0)
for i = 1, 10 do
  print(i, x)
  local y = x^4 - 2*x^2
  x:cleargrad()
  y:backward { create_graph = true }
  local gx = x.grad
  x:cleargrad()
  gx:backward()
  x.data = x.data - gx.data / x.grad.data
end
