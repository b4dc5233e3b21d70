-- An LSTM learns noisy sines and goes on by itself. Many sequences side by side; gradients go back
-- 50 steps, the state further (truncated backpropagation).
--   lua5.4 lua/examples/sine_lstm.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/sine_lstm.png"

mg.seed(0)
local HIDDEN, STREAMS, PIECE = 48, 16, 50

-- Twenty periods of 40 steps each stream, of its own amplitude and phase; one after the other
local n = 800
local phase, amplitude = 2 * math.pi * mg.rand(STREAMS, 1), 0.5 + mg.rand(STREAMS, 1)
local wave = amplitude * (2 * math.pi / 40 * mg.range(1, n) + phase):sin()
local noisy = (wave + 0.05 * mg.randn(STREAMS, n)):reshape(STREAMS * n, 1)
local total = #noisy
local ds = data.TensorDataset(noisy[{ { 1, total - 1 } }], noisy[{ { 2, total } }])
local loader = data.SequenceLoader(ds, { batch_size = STREAMS, length = PIECE, drop_last = true })

local Net = nn.Module:extend "Net"
function Net:init() self.lstm, self.out = nn.LSTM(1, HIDDEN), nn.Linear(HIDDEN, 1) end
function Net:forward(x, h, c)                     -- x (T, N, 1)
  local y
  y, h, c = self.lstm(x, h, c)
  return self.out(y), h, c
end

local model = Net()
local epochs = quick and 1 or 60
local opt = optim.Adam(model, { lr = 1e-2 })
local schedule = optim.one_cycle(opt, 1e-2, epochs * #loader)
opt:add_hook(optim.clip_grad(1))

for epoch = 1, epochs do
  local h, c
  local sum = 0
  for x, t in loader do
    local y
    y, h, c = model(x, h, c)
    local loss = mg.mean_squared_error(y, t)
    model:cleargrads()
    loss:backward()
    opt:step()
    schedule:step()
    h, c = h:detach(), c:detach()                 -- the state goes on, the gradient does not
    sum = sum + loss:item()
  end
  if epoch % math.max(epochs // 6, 1) == 0 then
    print(("epoch %2d: loss %.5f (of it noise %.4f)"):format(epoch, sum / #loader, 0.05 ^ 2))
  end
end

-- A sine it has not seen: 100 steps are shown to it, then it goes on by its own words.
local seen, alone = 100, 200
local truth = 0.8 * (2 * math.pi / 40 * mg.range(1, seen + alone) + 1):sin()
local made = {}
mg.no_grad(function()
  local y, h, c = model(truth[{ { 1, seen } }]:reshape(seen, 1, 1))
  local x = y[{ { seen, seen } }]
  for i = 1, alone do
    made[i] = x:item()
    x, h, c = model(x, h, c)
  end
end)
local off = (mg.tensor(made) - truth[{ { seen + 1, seen + alone } }]):abs()
print(("by itself, off by %.3f in the next 40 steps, by %.3f in the 40 after"):format(
  off[{ { 1, 40 } }]:mean():item(), off[{ { 41, 80 } }]:mean():item()))
mg.plot { truth, { mg.range(seen + 1, seen + alone), made }, labels = { "a sine", "continued" },
          path = path, title = "100 steps of a sine, continued by an LSTM" }
print("the picture is in " .. path)
