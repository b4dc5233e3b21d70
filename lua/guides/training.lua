-- # Training
--
-- Modules, losses, optimizers, data, schedules, averages, checkpoints: a whole training, part by
-- part.

local mg = require "moongrad"
local nn, optim, data, training = mg.nn, mg.optim, mg.data, mg.training
mg.seed(1)

-- ## A model
--
-- `Module:extend` makes a class: `init` makes parts as fields, `forward` uses them. Parameters
-- are found by the fields' names, in plain tables too: not in those with a metatable of their
-- own. Functions stand in a Sequential beside layers.

local Net = nn.Module:extend "Net"

function Net:init(hidden, classes)
  self.body = nn.Sequential(nn.Linear(hidden), nn.LayerNorm(), mg.gelu, nn.Dropout(0.1))
  self.head = nn.Linear(classes)
end

function Net:forward(x) return self.head(self.body(x)) end

local model = Net(32, 3)
print(model(mg.rand(5, 2)).shape)
for name, p in model:named_parameters() do print(name, p.shape) end

-- ## Data
--
-- A dataset has a length and `get(i)`; `map` and `random_split` make others of it. A loader goes
-- through one in batches.

local train, valid = data.random_split(data.Spiral(), {0.8, 0.2}, {seed = 1})
local loader = data.DataLoader(train, {batch_size = 40, shuffle = true, seed = 1})
print(#train, #valid, #loader)

-- ## The loop
--
-- An optimizer takes a module, or a list of parameters. `clip_grad` is a hook that limits
-- gradients before each step; a schedule sets `opt.lr`. `EMA` averages parameters, `Checkpoint`
-- keeps the best and the last states on disk, `EarlyStopping` says when it is enough.

local opt = optim.AdamW(model, {lr = 0.01, weight_decay = 1e-3})
opt:add_hook(optim.clip_grad(1))
local schedule = optim.warmup(opt, 10, {after = optim.cosine(opt, 60 * #loader)})
local ema = training.EMA(model, {decay = 0.95})
local stopping = training.EarlyStopping(15)
local folder = os.tmpname()
os.remove(folder)
local checkpoint = training.Checkpoint(folder, {model = model, opt = opt, schedule = schedule},
  {keep = 1, mode = "min"})

local x, t = valid:batch(1, #valid)
local function validate()
  return mg.test_mode(mg.no_grad, function()
    local y = model(x)
    return mg.cross_entropy(y, t):item(), mg.accuracy(y, t):item()
  end)
end

for epoch = 1, 60 do
  local sum = 0
  for points, labels in loader do
    local loss = mg.cross_entropy(model(points), labels)
    model:cleargrads()
    loss:backward()
    opt:step()
    schedule:step()
    ema:update()
    sum = sum + loss:item()
  end
  local loss, accuracy = ema:apply(validate)
  checkpoint:save(epoch, loss)
  if epoch % 10 == 0 then
    print(("epoch %2d: loss %.3f, of the average %.3f, right %.2f, lr %.5f"):format(epoch,
      sum / #loader, loss, accuracy, opt.lr))
  end
  if stopping:step(loss) then break end
end
print("best", checkpoint:best())
checkpoint:load "best"
os.execute("rm -r " .. folder)

-- Modes come from `mg.Config.train` alone: there is no `train()` or `eval()` of a model to be
-- forgotten.
--
-- ## Gradient accumulation
--
-- Gradients add up: several backwards before a step are one batch of their sum.

model:cleargrads()
for points, labels in loader do
  (mg.cross_entropy(model(points), labels) / #loader):backward()
end
opt:step()

-- ## Groups, freezing, hooks
--
-- Groups have options of their own. What has no gradient is passed over; `optim.freeze` is a
-- hook that leaves some parameters as they are.

local grouped = optim.SGD({{params = model.body, lr = 0.1}, {params = model.head}}, {lr = 0.01})
print(#grouped.groups, grouped.groups[1].lr, grouped.groups[2].lr)
grouped:add_hook(optim.freeze(model.head))

-- ## What came of it
--
-- `mg.metrics` has the confusion matrix and what is made of it.

local predicted = mg.test_mode(function() return model(x):argmax(2) end)
print(mg.metrics.confusion_matrix(predicted, t))
print(mg.metrics.f1(predicted, t))
