-- A small convolutional network tells the clothes of Fashion-MNIST apart; pictures it gets wrong.
--   lua5.4 lua/examples/fashion_cnn.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/fashion_cnn.png"

mg.seed(1)
mg.Config.dtype = "float32"
local train = data.FashionMNIST { flat = false }
local test = data.FashionMNIST { split = "test", flat = false }
if quick then
  train, test = data.Subset(train, mg.range(1, 500)), data.Subset(test, mg.range(1, 200))
end

local model = nn.Sequential(
  nn.Conv2d(1, 32, 3, { padding = 1 }), nn.BatchNorm(32), mg.relu, nn.MaxPool2d(2),
  nn.Conv2d(32, 64, 3, { padding = 1 }), nn.BatchNorm(64), mg.relu, nn.MaxPool2d(2),
  nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 128), mg.relu, nn.Dropout(0.3),
  nn.Linear(128, 10))
local epochs = quick and 1 or 10
local loader = data.DataLoader(train, { batch_size = 100, shuffle = true, seed = 1,
                                        transform = data.RandomHorizontalFlip() })
local opt = optim.AdamW(model, { lr = 2e-3, weight_decay = 1e-3 })
local schedule = optim.one_cycle(opt, 3e-3, epochs * #loader)

-- Labels seen in pictures i..j of the test set, and those that are right
local function look(i, j)
  local x, t = test:batch(i, j)
  return mg.test_mode(mg.no_grad, function() return model(x):argmax(2), t, x end)
end

for epoch = 1, epochs do
  local sum, n = 0, 0
  for x, t in mg.progress(loader, "epoch " .. epoch) do
    local loss = mg.cross_entropy(model(x), t)
    model:cleargrads()
    loss:backward()
    opt:step()
    schedule:step()
    sum, n = sum + loss:item(), n + 1
  end
  local right = 0
  for i = 1, #test, 500 do
    local seen, t = look(i, math.min(i + 499, #test))
    right = right + mg.count_nonzero(seen:eq(t)):item()
  end
  print(("epoch %d: loss %.4f, test accuracy %.4f"):format(epoch, sum / n, right / #test))
end

local wrong = {}
for i = 1, #test, 100 do
  local seen, t, x = look(i, i + 99)
  local off = seen:ne(t):nonzero():flatten():totable()
  for _, k in ipairs(off) do
    if #wrong < 60 then wrong[#wrong + 1] = x[k] end
  end
end
mg.save(path, data.grid(mg.stack(wrong), { columns = 12 }))
print(("%d pictures that it gets wrong are in %s"):format(#wrong, path))
