-- A DataLoader's next batch is copied by another thread: nobody can tell from what comes out.

local mg = require "moongrad"
local helper = require "spec.helper"
local data = mg.data
local raises = helper.raises

local function no_thread(fn, ...)
  local ahead = mg._ahead
  mg._ahead = function() end
  local results = table.pack(pcall(fn, ...))
  mg._ahead = ahead
  assert(results[1], results[2])
  return table.unpack(results, 2, results.n)
end

local function batches(ds, opts)
  local list = {}
  for x, t in data.DataLoader(ds, opts) do list[#list + 1] = {x, t} end
  return list
end

local function same(a, b)
  assert.equal(#a, #b)
  for i, v in ipairs(a) do
    for k, x in ipairs(v) do assert(helper.same(x, b[i][k])) end
  end
end

describe("rows copied ahead", function()
  helper.guard(before_each, after_each)

  it("are those that an index takes", function()
    for _, dtype in ipairs{"float64", "float32", "int64", "uint8", "bool"} do
      local x = (mg.rand(7, 3, 2) * 9 - 4):abs():to(dtype)
      local t = mg.range(1, 7, {dtype = "int64"})
      mg.eval(x, t)
      local index = mg.tensor({7, 1, 1, 3}, "int64")
      local job = mg._ahead(index, x, t)
      local a, b = job:take(x, t)
      assert(helper.same(a, x[index]) and helper.same(b, t[index]))
      assert.is_nil((job:take(x, t)))
    end
    local wide = mg.rand(6, 8)
    local part = wide[{{}, {2, 4}}] -- rows that do not follow each other
    local index = mg.tensor({6, 2}, "int64")
    local job = mg._ahead(index, part)
    if job then assert(helper.same(job:take(part), part[index])) end
  end)

  it("are not, where that would be seen", function()
    local x, index = mg.rand(4, 2), mg.tensor({1, 4}, "int64")
    assert.is_nil(mg._ahead(mg.tensor({0}, "int64"), x))
    assert.is_nil(mg._ahead(mg.tensor({5}, "int64"), x))
    assert.is_nil(mg._ahead(mg.tensor({-1}, "int64"), x))
    assert.is_nil(mg._ahead(mg.tensor{1, 2}, x))
    assert.is_nil(mg._ahead(index, mg.Variable(x)))
    assert.is_nil(mg._ahead(index, mg.zeros(4, 2).T))
    assert.is_nil(mg._ahead(index, 3))
    assert.is_nil(mg._ahead(index))
    assert.is_nil(mg._ahead(mg.zeros{0, dtype = "int64"}, x))
    local long = mg.rand(4, 10000)
    mg.eval(long)
    assert.is_truthy(mg._ahead(index, long))
    mg.memory_limit(helper.settle() + 1000)
    finally(function() mg.memory_limit(0) end)
    assert.is_nil(mg._ahead(index, long))
  end)

  it("are taken anew where the values changed meanwhile", function()
    local x, index = mg.tensor{{0, 0}, {0, 0}, {0, 0}, {0, 0}}, mg.tensor({1, 4}, "int64")
    local job = mg._ahead(index, x)
    x[4] = 7
    assert.is_nil((job:take(x)))
    local ds = data.TensorDataset(x)
    local seen = {}
    for b in data.DataLoader(ds, {batch_size = 1, shuffle = true}) do
      seen[#seen + 1] = b:sum():item()
      x[{}] = #seen
    end
    assert.same({2, 4, 6}, {table.unpack(seen, 2)})
  end)

  it("leave nothing behind when nobody takes them", function()
    local ds = data.TensorDataset(mg.rand(1000, 100), mg.rand(1000))
    mg.eval(ds:raw())
    local before = helper.settle()
    for _ = 1, 20 do data.DataLoader(ds, {batch_size = 10, shuffle = true}):batches()() end
    assert.equal(before, helper.settle())
  end)
end)

describe("a DataLoader", function()
  helper.guard(before_each, after_each)

  local x, t = mg.rand(50, 3), mg.range(1, 50, {dtype = "int64"})

  it("gives the same batches without a thread", function()
    local ds = data.TensorDataset(x, t)
    local half = data.Subset(ds, mg.range(1, 50, 2))
    local noisy = ds:map(function(a, b) return a + mg.rand(#a, 1), b end, {batched = true})
    for _, set in ipairs{ds, half, noisy} do
      for _, opts in ipairs{{batch_size = 7, shuffle = true, seed = 3},
                            {batch_size = 7, shuffle = true, seed = 3, drop_last = true},
                            {batch_size = 4, sampler = data.RandomSampler(set), seed = 3},
                            {batch_size = 7}} do
        mg.seed(1)
        local a = batches(set, opts)
        mg.seed(1)
        same(a, no_thread(batches, set, opts))
      end
    end
  end)

  it("raises where a batch is asked for that cannot be had", function()
    local Two = data.Sampler:extend "Two"
    Two.n = 4
    function Two.positions() return mg.tensor({1, 2, 3, 99}, "int64") end
    local next_batch = data.DataLoader(data.TensorDataset(x, t),
      {batch_size = 2, sampler = Two()}):batches()
    assert.same({1, 2}, select(2, next_batch()):totable())
    assert(raises("99", next_batch))
    local Own = data.TensorDataset:extend "Own" -- its take is asked, and nobody goes round it
    function Own:take(index) return self.tensors[1][index] * 0 end
    for b in data.DataLoader(Own(x), {batch_size = 10, shuffle = true}) do
      assert.equal(0, b:abs():sum():item())
    end
    next_batch = data.DataLoader(data.TensorDataset(x:clone()), {batch_size = 25, shuffle = true})
      :batches()
    next_batch()
    next_batch()
    assert.is_nil((next_batch()))
  end)

  -- While the state is closed nobody would wait for the thread.
  it("are not, in a finalizer", function()
    local job, seen, y = true, 0, mg.rand(3, 2)
    mg.eval(y)
    setmetatable({}, {__gc = function()
      job = mg._ahead(mg.tensor({1, 3}, "int64"), y)
      for v in data.DataLoader(data.TensorDataset(x), {batch_size = 9, shuffle = true}) do
        seen = seen + #v
      end
    end})
    collectgarbage()
    assert.is_nil(job)
    assert.equal(#x, seen)
  end)

  it("can be in several places at once, and in a gradient", function()
    local a = data.DataLoader(data.TensorDataset(x, t), {batch_size = 9, shuffle = true, seed = 1})
    local n = 0
    for u in a do
      for v in a do
        n = n + #u * #v
        if n % 5 == 0 then break end
      end
    end
    assert(n > 0)
    local w = mg.Variable(mg.ones(3, 1))
    for u in a do u:matmul(w):sum():backward() end
    assert(helper.near(w.grad.data, x:sum(1):reshape(3, 1), 1e-9))
  end)
end)
