-- Training in several processes: what a step costs, what its gradients' sums cost, and what more
-- processes would gain.
--   lua5.4 spec/bench/dist.lua [picture.svg]      (make bench-mpi)
--
-- Steps are measured in 1, 2 and 4 processes of one thread, sums of 8 bytes to 16 MiB in 2; then
-- steps behind a slow link, with buckets that are summed while backward goes on, and with one at
-- its end. The model. A step computes for C seconds, the share `back` of them in backward. The
-- sums of B bytes in a ring of N processes take 2 (N - 1) (a + B / (N b)), a: seconds a message,
-- b: bytes a second. They are hidden behind backward but for what is longer, and for the last
-- bucket. Efficiency: C over the whole.

local mg = require "moongrad"
local dist = require "moongrad.dist"
local nn, optim = mg.nn, mg.optim

local BUCKET = 1 << 20
mg.Config.dtype = "float32"

-- name -> the model and a batch; loss(model(x), t) is what is trained on
local function make(name)
  mg.seed(1)
  if name == "mlp" then
    return nn.Sequential(nn.Linear(784, 1000), mg.relu, nn.Linear(1000, 1000), mg.relu,
      nn.Linear(1000, 10)), mg.rand(100, 784), mg.randint(1, 10, { 100 })
  elseif name == "cnn" then
    return nn.Sequential(nn.Conv2d(1, 32, 3, { padding = 1 }), mg.relu, nn.MaxPool2d(2),
      nn.Conv2d(32, 64, 3, { padding = 1 }), mg.relu, nn.MaxPool2d(2), nn.Flatten(),
      nn.Linear(64 * 7 * 7, 128), mg.relu, nn.Linear(128, 10)),
      mg.rand(64, 1, 28, 28), mg.randint(1, 10, { 64 })
  elseif name == "resnet18" then
    return mg.models.ResNet18 { num_classes = 10 }, mg.rand(32, 3, 64, 64),
      mg.randint(1, 10, { 32 })
  end
  local tokens = mg.randint(1, 256, { 16, 64 })
  return mg.models.GPT(256, { block_size = 64, n_layer = 4, n_embd = 128 }), tokens, tokens
end

local NAMES = { "mlp", "cnn", "resnet18", "gpt" }

-- ---- in each process --------------------------------------------------------------------------

local function put(...)
  if dist.rank == 1 then print("=", ...) end
end

local function train(name, bucket, seconds)
  local model, x, t = make(name)
  model = dist.DataParallel(model, { bucket = bucket, broadcast_buffers = false })
  local opt = optim.SGD(model, { lr = 1e-3 })
  local function forward()
    local y = model(x)
    return mg.cross_entropy(name == "gpt" and y:flatten(1, 2) or y, t:flatten())
  end
  local function step()
    local loss = forward()
    model:cleargrads()
    loss:backward()
    opt:step()
    return loss:item()
  end
  for _ = 1, 3 do step() end
  local bytes = 0
  for _, p in model:named_parameters() do bytes = bytes + 4 * p.size end
  local began = os.clock()
  for _ = 1, 3 do mg.eval(forward()) end
  local ahead = (os.clock() - began) / 3
  -- as many steps everywhere; the best one counts, others have this machine too
  local now = require "moongrad.mpi".seconds
  began = now()
  step()
  local n = dist.broadcast(math.max(8, math.ceil(seconds / (now() - began)))):item()
  local best, clock = math.huge, os.clock()
  dist.barrier()
  dist._times()
  for _ = 1, n do
    local from = now()
    step()
    best = math.min(best, now() - from)
  end
  local spent, cpu = dist._times(), (os.clock() - clock) / n
  put(name, bytes, best, cpu, math.max(0, 1 - ahead / cpu),
    (spent.start + spent.step + spent.wait) / n, spent.wait / n)
end

local function sums()
  for _, bytes in ipairs { 8, 1 << 12, 1 << 16, 1 << 20, 1 << 24 } do
    local x = mg.rand { bytes // 4, dtype = "float32" }
    mg.eval(x)
    local best, now = math.huge, require "moongrad.mpi".seconds
    for _ = 1, bytes > 1 << 18 and 30 or 300 do
      dist.barrier()
      local from = now()
      dist.all_reduce(x, "sum")
      best = math.min(best, now() - from)
    end
    put("sum", bytes, best)
  end
end

if arg[1] == "worker" then
  for i = 2, #arg do
    local name, bucket = arg[i]:match "^(%w+):?(%d*)$"
    if name == "sums" then sums() else train(name, tonumber(bucket) or BUCKET, 2) end
  end
  return
end

-- ---- the jobs ---------------------------------------------------------------------------------

local root = io.popen("id -u"):read "n" == 0 and "--allow-run-as-root" or ""

-- What n processes say, by name: lists of numbers
local function job(n, work, before)
  local command = ("OMP_NUM_THREADS=1 %s mpirun %s --oversubscribe -n %d lua5.4 " ..
    "spec/bench/dist.lua worker %s"):format(before or "", root, n, work)
  local pipe <close> = assert(io.popen(command))
  local got = {}
  for line in pipe:lines() do
    local fields = {}
    for field in line:gmatch "[^\t]+" do fields[#fields + 1] = tonumber(field) or field end
    if fields[1] == "=" then
      got[fields[2]] = got[fields[2]] or {}
      table.insert(got[fields[2]], table.move(fields, 3, #fields, 1, {}))
    end
  end
  return got
end

local function ms(x) return ("%.2f"):format(1e3 * x) end

local all = table.concat(NAMES, " ")
local runs = { [1] = job(1, all), [2] = job(2, all .. " sums"), [4] = job(4, all) }
local sum = runs[2].sum
local a = sum[1][2] / 2
local b = sum[5][1] / math.max(sum[5][2] - 2 * a, 1e-9)
print(("a sum of 8 bytes in 2 processes: %.1f us; of 16 MiB: %s ms, %.2f GB/s"):format(
  1e6 * sum[1][2], ms(sum[5][2]), b / 1e9))

local function predicted(r, n, message, rate)
  local bytes, C, back = r[1], r[3], r[4]
  local function ring(size) return 2 * (n - 1) * (message + size / (n * rate)) end
  local late = math.max(ring(bytes) - C * back, n > 1 and ring(math.min(bytes, BUCKET)) or 0)
  return C + late
end

print [[

milliseconds a step, best and of processor time (cpu), by number of processes; gain: steps of all
of them in the time of one alone, by either, and by the model
                    |        1          |                  2                  |           4
model         bytes |     best      cpu |    best     cpu  gain by cpu  model |    best    cpu ...]]
for _, name in ipairs(NAMES) do
  local r, s, q = runs[1][name][1], runs[2][name][1], runs[4][name][1]
  local function part(n, x)
    return ("%7s %7s %5.2f %5.2f %5.2f"):format(ms(x[2]), ms(x[3]), n * r[2] / x[2],
      n * r[3] / x[3], n * r[3] / predicted(r, n, a, b))
  end
  print(("%-9s %9d | %8s %8s | %s | %s"):format(name, r[1], ms(r[2]), ms(r[3]), part(2, s),
    part(4, q)))
end

-- ---- behind a slow link -----------------------------------------------------------------------

local library = os.tmpname()
local flags = "$(pkg-config --cflags --libs ompi-c)"
local compile = "gcc -O2 -shared -fPIC -o %s spec/bench/slow_mpi.c %s"
if os.execute(compile:format(library, flags)) then
  -- the link takes as long for a step's gradients as backward does
  local r = runs[1].mlp[1]
  local back = r[2] * r[4]
  local slow = ("SLOW_MBPS=%.1f SLOW_US=50 LD_PRELOAD=%s"):format(r[1] / back / 1e6, library)
  local early, late = job(2, "mlp", slow), job(2, ("mlp:%d"):format(1 << 40), slow)
  early, late = early.mlp[1], late.mlp[1]
  print(("\nmlp behind a link that takes %s ms for its gradients: a step takes %s ms, %s of " ..
    "them waiting;\nin one bucket, at the end of backward, %s and %s"):format(ms(back),
    ms(early[2]), ms(early[6]), ms(late[2]), ms(late[6])))
end
os.remove(library)

-- ---- the curve --------------------------------------------------------------------------------

local NETS = { { "this memory", a, b }, { "100 Gbit/s", 2e-6, 12e9 },
               { "10 Gbit/s", 25e-6, 1.2e9 } }
local layers, counts = {}, {}
for k = 0, 10 do counts[k + 1] = 1 << k end
print("\nefficiency by the model, processes:  " .. table.concat(counts, "     "))
for _, net in ipairs(NETS) do
  for _, name in ipairs(NAMES) do
    local r, line, text = runs[1][name][1], {}, {}
    for k, n in ipairs(counts) do
      line[k] = r[3] / predicted(r, n, net[2], net[3])
      text[k] = ("%.3f"):format(line[k])
    end
    print(("%-12s %-9s  %s"):format(net[1], name, table.concat(text, " ")))
    if net ~= NETS[1] then layers[#layers + 1] = mg.tensor(line) end
  end
end
if arg[1] then
  local labels = {}
  for _, net in ipairs { NETS[2], NETS[3] } do
    for _, name in ipairs(NAMES) do labels[#labels + 1] = name .. ", " .. net[1] end
  end
  layers.x, layers.log, layers.path = mg.tensor(counts), "x", arg[1]
  layers.labels, layers.xlabel, layers.ylabel = labels, "processes", "efficiency"
  layers.ylim, layers.legend, layers.size = { 0, 1.05 }, "bottom left", { 640, 420 }
  mg.plot(layers)
end
