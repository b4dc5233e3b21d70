-- Three arms of a spiral told apart by a small network, and its picture in characters.

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data

mg.seed(0)
local loader = data.DataLoader(data.Spiral(), { batch_size = 30, shuffle = true })
local model = nn.Sequential(nn.Linear(2, 32), mg.tanh, nn.Linear(32), mg.tanh, nn.Linear(3))
local opt = optim.Adam(model, { lr = 1e-2 })

for epoch = 1, 100 do
  local sum = 0
  for x, t in loader:batches() do
    local loss = mg.cross_entropy(model(x), t)
    model:cleargrads()
    loss:backward()
    opt:step()
    sum = sum + loss:item()
  end
  if epoch % 20 == 0 then print(("epoch %3d: loss %.4f"):format(epoch, sum / #loader)) end
end

local test = data.Spiral { split = "test" }
local x, t = test:batch(1, #test)
print(("test accuracy %.3f"):format(mg.accuracy(model(x), t):item()))

-- Which arm the model sees at each point of the square -1..1.
local N = 31
local points = {}
for row = 1, N do
  for column = 1, 2 * N do
    points[#points + 1] = { 2 * column / (2 * N) - 1, 1 - 2 * row / N }
  end
end
local arms = mg.no_grad(function() return model(mg.tensor(points)):argmax(2):totable() end)
local marks = { ".", "o", "+" }
for i, arm in ipairs(arms) do
  io.write(marks[arm], i % (2 * N) == 0 and "\n" or "")
end
