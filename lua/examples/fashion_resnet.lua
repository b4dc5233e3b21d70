-- A small residual network (He et al., arXiv 1512.03385) tells the clothes of Fashion-MNIST apart,
-- from pictures that are flipped and shifted; the curve of its accuracy.
--   lua5.4 lua/examples/fashion_resnet.lua [quick] [curve.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/fashion_resnet.png"

mg.seed(1)
mg.Config.dtype = "float32"
local WIDTH, EPOCHS = quick and 4 or 32, quick and 1 or 15

-- relu(x + f(x)); where the number of channels grows, pictures are halved and x is projected.
local Block = nn.Module:extend "Block"
function Block:init(from, to)
  local stride = from == to and 1 or 2
  local function conv(size, channels, step)
    return nn.Conv2d(channels, to, size, { stride = step, padding = size // 2, bias = false })
  end
  self.conv1, self.bn1 = conv(3, from, stride), nn.BatchNorm(to)
  self.conv2, self.bn2 = conv(3, to, 1), nn.BatchNorm(to)
  if stride == 2 then self.short = nn.Sequential(conv(1, from, 2), nn.BatchNorm(to)) end
end
function Block:forward(x)
  local y = self.bn2(self.conv2(mg.relu(self.bn1(self.conv1(x)))))
  return mg.relu(y + (self.short and self.short(x) or x))
end

-- (N, 1, 28, 28) -> (N, WIDTH, 28, 28) -> (N, 2 WIDTH, 14, 14) -> (N, 4 WIDTH, 7, 7) -> (N, 10)
local model = nn.Sequential(
  nn.Conv2d(1, WIDTH, 3, { padding = 1, bias = false }), nn.BatchNorm(WIDTH), mg.relu,
  Block(WIDTH, WIDTH), Block(WIDTH, 2 * WIDTH), Block(2 * WIDTH, 4 * WIDTH),
  function(x) return x:mean { axis = { 3, 4 } } end, nn.Linear(4 * WIDTH, 10))

local train = data.FashionMNIST { flat = false }
local test = data.FashionMNIST { split = "test", flat = false }
if quick then
  train, test = data.Subset(train, mg.range(1, 300)), data.Subset(test, mg.range(1, 200))
end
local loader = data.DataLoader(train, { batch_size = 100, shuffle = true, seed = 1, transform = {
  data.RandomHorizontalFlip(), data.RandomCrop({ 28, 28 }, { padding = 2 }) } })
local opt = optim.SGD(model, { lr = 0.1, momentum = 0.9, nesterov = true, weight_decay = 5e-4 })
local schedule = optim.one_cycle(opt, 0.1, EPOCHS * #loader)

local function accuracy()
  local right = 0
  mg.test_mode(mg.no_grad, function()
    for x, t in data.DataLoader(test, { batch_size = 500 }) do
      right = right + mg.count_nonzero(model(x):argmax(2):eq(t)):item()
    end
  end)
  return right / #test
end

local curve = {}
for epoch = 1, EPOCHS do
  local sum, n = 0, 0
  for x, t in mg.progress(loader, "epoch " .. epoch) do
    local loss = mg.cross_entropy(model(x), t)
    model:cleargrads()
    loss:backward()
    opt:step()
    schedule:step()
    sum, n = sum + loss:item(), n + 1
  end
  curve[epoch] = accuracy()
  print(("epoch %d: loss %.4f, test accuracy %.4f"):format(epoch, sum / n, curve[epoch]))
end
mg.plot { curve, title = "test accuracy", xlabel = "epoch", path = path }
print("the curve is in " .. path)
