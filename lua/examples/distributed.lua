-- The convolutional network of fashion_cnn in several processes: each has its part of every batch,
-- and backward leaves gradients averaged over all of them.
--   mpirun -n 2 lua5.4 lua/examples/distributed.lua [quick]
-- Without mpirun it is a program of one process. `make mpi` builds what it needs, `make demo-mpi`
-- does that and runs it.

local mg = require "moongrad"
local dist = require "moongrad.dist"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"

local EPOCHS, BATCH = quick and 1 or 3, 128 -- of all processes together
local WANTED = 0.88

mg.seed(1)
mg.Config.dtype = "float32"
local train = data.FashionMNIST { flat = false }
local test = data.FashionMNIST { split = "test", flat = false }
if quick then
  train, test = data.Subset(train, mg.range(1, 512)), data.Subset(test, mg.range(1, 200))
end

local model = dist.DataParallel(nn.Sequential(
  nn.Conv2d(1, 32, 3, { padding = 1 }), mg.relu, nn.MaxPool2d(2),
  nn.Conv2d(32, 64, 3, { padding = 1 }), mg.relu, nn.MaxPool2d(2),
  nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 128), mg.relu, nn.Linear(128, 10)))
local opt = optim.Adam(model, { lr = 2e-3 })
local loader = data.DataLoader(train, { batch_size = BATCH // dist.size, shuffle = true, seed = 1,
                                        drop_last = true, shard = dist })
local schedule = optim.cosine(opt, EPOCHS * #loader)

local function say(...) if dist.rank == 1 then print(string.format(...)) end end

-- Seconds that pass; Lua's own clock counts those of the processor.
local function now()
  local file <close> = assert(io.open "/proc/uptime")
  return file:read "n"
end

-- Each process looks at its part of the test set; what they got right is added up.
local function test_accuracy()
  local right = 0
  mg.test_mode(mg.no_grad, function()
    local part = #test // dist.size
    for i = (dist.rank - 1) * part + 1, dist.rank * part, 500 do
      local x, t = test:batch(i, math.min(i + 499, dist.rank * part))
      right = right + mg.count_nonzero(model(x):argmax(2):eq(t)):item()
    end
  end)
  return dist.all_reduce(right, "sum"):item() / (#test // dist.size * dist.size)
end

say("%d process%s of %d thread%s, %d pictures in each batch of %d", dist.size,
    dist.size == 1 and "" or "es", mg.num_threads(), mg.num_threads() == 1 and "" or "s",
    BATCH // dist.size, BATCH)
local accuracy
for epoch = 1, EPOCHS do
  local sum, began = 0, now()
  dist._times()
  for x, t in loader do
    local loss = mg.cross_entropy(model(x), t)
    model:cleargrads()
    loss:backward()
    opt:step()
    schedule:step()
    sum = sum + loss:item()
  end
  local seconds, spent = now() - began, dist._times()
  local loss = dist.all_reduce(sum / #loader, "mean"):item()
  accuracy = test_accuracy()
  say("epoch %d: loss %.4f, test accuracy %.4f, %.0f pictures/s; %.1f %% of the time in averaging",
      epoch, loss, accuracy, #loader * BATCH / seconds,
      100 * (spent.start + spent.step + spent.wait) / seconds)
end

-- All have the same parameters still.
for _, p in model:named_parameters() do assert(mg.equal(dist.broadcast(p.data), p.data)) end
if not quick and accuracy < WANTED then
  error(("test accuracy %.4f is below %.2f"):format(accuracy, WANTED))
end
