-- A training run gives the same bits for any number of threads, all of its kinds of work together.

local mg = require "moongrad"
local helper = require "spec.helper"
local nn, optim, data = mg.nn, mg.optim, mg.data

describe("an epoch of training", function()
  helper.guard(before_each, after_each)

  local function train(threads, seed, compiled)
    mg.set_num_threads(threads)
    mg.seed(seed)
    return mg.using_config("dtype", "float32", function()
      local x, t = mg.rand(2000, 784), mg.randint(1, 10, {2000})
      local model = nn.Sequential(nn.Linear(200), mg.relu, nn.Dropout(0.2), nn.Linear(10))
      local opt = optim.Adam(model, {lr = 3e-3})
      local loader = data.DataLoader(data.TensorDataset(x, t), {batch_size = 100, shuffle = true})
      local function step(input, label)
        local loss = mg.cross_entropy(model(input), label)
        model:cleargrads()
        loss:backward()
        opt:step()
      end
      if compiled then step = mg.compile(step) end
      for input, label in loader:batches() do step(input, label) end
      local bytes = {}
      for name, p in model:named_parameters() do bytes[#bytes + 1] = name .. mg.tobytes(p) end
      return table.concat(bytes)
    end)
  end

  it("gives the same bits for 1, 2 and 4 threads, and compiled", function()
    local threads = mg.num_threads()
    finally(function() mg.set_num_threads(threads) end)
    local want = train(1, 1)
    assert.is_true(want == train(2, 1))
    assert.is_true(want == train(4, 1))
    assert.is_false(want == train(1, 2)) -- it could differ
    assert.is_true(want == train(2, 1, true))
  end)
end)
