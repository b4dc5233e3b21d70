-- A line through noisy points, by gradient descent and no layers: y = 2 x + 5 (+ 0.5, the noise).

local mg = require "moongrad"

mg.seed(0)
local x = mg.rand(100, 1)
local t = 5 + 2*x + mg.rand(100, 1)
local W, b = mg.Variable(mg.zeros(1, 1), "W"), mg.Variable(mg.zeros(1), "b")

for i = 1, 300 do
  local loss = mg.mean_squared_error(x:matmul(W) + b, t)
  W:cleargrad(); b:cleargrad()
  loss:backward()
  W.data = W.data - 0.1 * W.grad
  b.data = b.data - 0.1 * b.grad
  if i % 50 == 0 then
    print(("%d: loss %.4f, y = %.3f x + %.3f"):format(i, loss:item(), W:item(), b:item()))
  end
end
