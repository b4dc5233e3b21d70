-- A recurrent network continues a noisy sine. The sequence is one of a thousand steps; gradients go
-- back 30 of them, then the chain is cut (truncated backpropagation).
--   lua5.4 lua/examples/sine_rnn.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/sine_rnn.png"

mg.seed(0)
local HIDDEN = 32

-- h' = tanh(W x + U h + b), y = V h' + c
local Net = nn.Module:extend "Net"
function Net:init()
  self.input, self.hidden = nn.Linear(1, HIDDEN), nn.Linear(HIDDEN, HIDDEN, { bias = false })
  self.output = nn.Linear(HIDDEN, 1)
end
function Net:forward(x, h)
  h = (self.input(x) + self.hidden(h)):tanh()
  return self.output(h), h
end

local model = Net()
local opt = optim.Adam(model, { lr = 3e-3 })
local loader = data.SequenceLoader(data.SinCurve(), { batch_size = 1, length = 30 })
local epochs = quick and 2 or 80
local schedule = optim.cosine(opt, epochs)

for epoch = 1, epochs do
  local h, sum, count = mg.zeros(1, HIDDEN), 0, 0
  for xs, ts in loader do                              -- (30, 1, 1)
    local loss = 0
    for i = 1, #xs do
      local y
      y, h = model(xs[i], h)
      loss = loss + mg.mean_squared_error(y, ts[i])
    end
    loss = loss / #xs
    model:cleargrads()
    loss:backward()
    loss:unchain_backward()                            -- what came before is the past
    opt:step()
    sum, count = sum + loss:item(), count + 1
  end
  schedule:step()
  if epoch % (epochs // 2) == 0 or epoch == 1 then
    print(("epoch %3d: loss %.5f"):format(epoch, sum / count))
  end
end

-- A cosine it has never seen, one step ahead
local xs = data.SinCurve { split = "test" }:batch(1, 999)
local ahead = {}
mg.no_grad(function()
  local h = mg.zeros(1, HIDDEN)
  for i = 1, 999 do
    local y
    y, h = model(xs[{ { i, i } }], h)
    ahead[i] = y:item()
  end
end)
local off = (mg.tensor(ahead)[{ { 1, 998 } }] - xs[{ { 2, 999 }, 1 }]):abs():mean():item()
print(("mean error one step ahead: %.4f"):format(off))
mg.plot { xs[{ { 2, 999 } }]:flatten(), mg.tensor(ahead)[{ { 1, 998 } }], path = path,
          title = "a cosine, one step ahead", labels = { "cosine", "predicted" } }
print("the picture is in " .. path)
