-- What `make demo` runs: a network learns to tell clothes apart, and the memory-saving mode.
-- Fails unless the network gets at least 87 % of the test pictures right after three epochs.
--   lua5.4 lua/examples/demo.lua [seed]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data

local EPOCHS, BATCH, WANTED, PLAIN = 3, 100, 0.87, 200

-- Seconds that pass. Lua's own clocks count whole seconds, or the CPU time of all threads.
local function now()
  local file = io.open "/proc/uptime"
  if not file then return os.time() end
  local t = file:read "n"
  file:close()
  return t
end

local function MiB(bytes) return ("%.1f MiB"):format(bytes / 2 ^ 20) end

-- 1. Fashion-MNIST ------------------------------------------------------------------------------

mg.seed(math.tointeger(arg[1] or 1) or 1)
mg.Config.dtype = "float32"

local train, test = data.FashionMNIST { split = "train" }, data.FashionMNIST { split = "test" }
local loader = data.DataLoader(train, { batch_size = BATCH, shuffle = true })
local model = nn.MLP { 256, 128, 10 }
local opt = optim.Adam(model, { lr = 3e-3 })
local schedule = optim.cosine(opt, EPOCHS * #loader)   -- worth 1 % in so few epochs

local function test_accuracy()
  return mg.test_mode(mg.no_grad, function()
    local right = 0
    for i = 1, #test, 1000 do
      local x, t = test:batch(i, i + 999)
      right = right + mg.accuracy(model(x), t):item() * 1000
    end
    return right / #test
  end)
end

print(("Fashion-MNIST: %d pictures to learn, %d to test, %d threads"):format(#train, #test,
      mg.num_threads()))
local accuracy

-- Recorded at its first call, replayed from then on. What it is without, the first steps show.
local function step(x, t)
  local loss = mg.cross_entropy(model(x), t)
  model:cleargrads()
  loss:backward()
  opt:step()
  return loss
end
local compiled, plain = mg.compile(step), 0

for epoch = 1, EPOCHS do
  mg.reset_peak()
  local sum, began, steps = 0, now(), 0
  for x, t in mg.progress(loader, "epoch " .. epoch) do
    steps = steps + 1
    local run = epoch == 1 and steps <= PLAIN and step or compiled
    sum = sum + run(x, t):item()
    schedule:step()
    if epoch == 1 and steps == PLAIN then plain = PLAIN / (now() - began) end
  end
  local seconds = now() - began
  if epoch == 2 then
    print(("compiled: %.0f steps/s with the loading of pictures, %.0f without mg.compile"):format(
          #loader / seconds, plain))
  end
  accuracy = test_accuracy()
  print(("epoch %d: loss %.4f, test accuracy %.4f, %.0f images/s, peak memory %s"):format(epoch,
        sum / #loader, accuracy, #train / seconds, MiB(mg.memory().peak)))
end

-- 2. Memory saving ------------------------------------------------------------------------------

mg.Config.dtype = "float64"
local square = mg.square

-- What f's work takes at most beyond what is there before it.
local function measure(f)
  collectgarbage()
  mg.reset_peak()
  local before = mg.memory().live
  f()
  return MiB(mg.memory().peak - before)
end

-- A constant is one number however large its shape, and so is what is made of constants.
for _, make in ipairs { "ones", "rand" } do
  local x = mg.Variable(mg[make](100, 100, 100))
  mg.eval(x)
  local grads = measure(function()
    local y = square(square(square(x)))
    y:backward()
    mg.eval(y)
  end)
  local none = measure(function()
    mg.no_grad(function() mg.eval(square(square(square(x)))) end)
  end)
  print(("\nx = %s(100, 100, 100): %d values; y = square(square(square(x)))"):format(make, x.size))
  print(("with backward: %s at most for y and the gradient; x.grad has mean %g"):format(grads,
        x.grad:mean():item()))
  print(("under no_grad: %s at most for y alone"):format(none))
end

if accuracy < WANTED then
  io.stderr:write(("test accuracy %.4f is below %.2f\n"):format(accuracy, WANTED))
  os.exit(1, true)
end
