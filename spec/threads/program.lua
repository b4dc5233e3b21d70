-- What each state of states.c does: something of all that states share, which is buffers,
-- libraries opened at need, tables made once, and files.

local number = tonumber((...))
local mg = require "moongrad"
local nn, optim = mg.nn, mg.optim

-- Fused programs, their machine code, reductions, small arrays, numbers
for _, n in ipairs{1, 3, 100, 5000, 40000} do
  local x = mg.Variable(mg.rand(n) + 0.5)
  local y = (x:exp() * x:tanh() + x:sqrt() / (x + 1)):sum()
  y:backward()
  assert(x.grad:isfinite():all():item())
  assert(mg.rand(n, 3):to("float32"):sum(1).size == 3)
end

-- Libraries opened at first need: products, zlib
local a, b = mg.rand(300, 300), mg.rand(300, 300)
assert(mg.allclose(a:matmul(b).T, b.T:matmul(a.T)))
local path = os.tmpname()
mg.save(path .. ".npz", {a = a, b = b})
mg.save(path .. ".safetensors", {a = a})
assert(mg.equal(mg.load(path .. ".npz").a, a) and mg.equal(mg.load(path .. ".safetensors").a, a))
for _, ending in ipairs{"", ".npz", ".safetensors"} do os.remove(path .. ending) end

-- Rows that are copied ahead, by the one thread for it
local ds = mg.data.TensorDataset(a, mg.range(1, 300, {dtype = "int64"}))
for _ = 1, 5 do
  for x, t in mg.data.DataLoader(ds, {batch_size = 50, shuffle = true}) do
    assert(mg.equal(x, a[t]))
    if t[1]:item() > 290 then break end
  end
end

-- A network and its steps, tidy, checkpoints, indices, sorting
mg.seed(number)
local model = nn.Sequential(nn.Linear(4, 8), mg.tanh, nn.Linear(8, 2))
local opt = optim.Adam(model, {lr = 1e-2})
for _ = 1, 5 do
  mg.tidy(function()
    local loss = mg.cross_entropy(mg.checkpoint(model, mg.rand(30, 4)), mg.randint(1, 2, {30}))
    model:cleargrads()
    loss:backward()
    opt:step()
  end)
end
local v, at = mg.rand(2000):sort()
assert(v[1]:item() <= v[-1]:item() and at.size == 2000)
mg.zeros(10, 3):index_add(1, mg.randint(1, 10, {500}), mg.rand(500, 3))

-- Errors, memory's counts, the collector
assert(not pcall(mg.matmul, a, mg.rand(3, 3)))
assert(mg.memory().live > 0)
collectgarbage()
