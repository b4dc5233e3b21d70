-- Programs as people write them, and the examples.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local near = helper.near

describe("a program", function()
  helper.guard(before_each, after_each)

  it("of the memory-saving mode", function()
    local square = mg.square
    local x = mg.Variable(mg.ones(100, 100, 100))
    local y = square(square(square(x)))
    y:backward()
    assert(near(x.grad:min(), 8))
    assert(near(x.grad:max(), 8))
    assert.is_nil(y.grad)
    y = square(square(square(x))); x:cleargrad(); y:backward{retain_grad = true}
    assert.equal(1, y.grad:min():item())

    mg.using_config("enable_backprop", false, function()
      local z = square(mg.Variable(2.0))
      assert(z.creator == nil and z.generation == 0)
    end)
    local ok, err = pcall(mg.no_grad, function() error{code = 7} end)
    assert(not ok and err.code == 7 and mg.Config.enable_backprop)
    local a, b = mg.no_grad(function(p, q) return q, p end, 1, 2)
    assert.same({2, 1}, {a, b})
  end)

  it("of the Goldstein-Price function", function()
    local x, y = mg.Variable(1.0), mg.Variable(1.0)
    local z = (1 + (x + y + 1)^2 * (19 - 14*x + 3*x^2 - 14*y + 6*x*y + 3*y^2)) *
              (30 + (2*x - 3*y)^2 * (18 - 32*x + 12*x^2 + 48*y - 36*x*y + 27*y^2))
    z:backward()
    assert.equal("variable(-5376) variable(8064)", tostring(x.grad) .. " " .. tostring(y.grad))
  end)

  it("of Newton's method", function()
    local x = mg.Variable(2.0)
    for _ = 1, 10 do
      local y = x^4 - 2*x^2
      x:cleargrad(); y:backward{create_graph = true}
      local gx = x.grad
      x:cleargrad(); gx:backward()
      x.data = x.data - gx.data / x.grad.data
    end
    assert.equal(1, x:item())
  end)

  it("of linear regression", function()
    mg.seed(0)
    local x = mg.rand(100, 1); local t = 5 + 2*x + mg.rand(100, 1)
    local W, b = mg.Variable(mg.zeros(1, 1)), mg.Variable(mg.zeros(1))
    for _ = 1, 100 do
      local loss = mg.mean_squared_error(x:matmul(W) + b, t)
      W:cleargrad(); b:cleargrad(); loss:backward()
      W.data = W.data - 0.1 * W.grad; b.data = b.data - 0.1 * b.grad
    end
    assert(near(W:item(), 2, 0.2))
    assert(near(b:item(), 5.5, 0.1))
  end)

  -- As on the whole of it, with fewer pictures.
  it("of a network on real data", function()
    local nn, optim, data = mg.nn, mg.optim, mg.data
    local path = child.folder() .. "/mlp.safetensors"
    mg.seed(1)
    local model = nn.Sequential(nn.Linear(128), mg.relu, nn.Linear(10))
    local opt   = optim.Adam(model, {lr = 1e-3})
    local train = data.TensorDataset(data.FashionMNIST{split = "train"}:batch(1, 2000))
    local first, last
    for _ = 1, 3 do
      for x, t in data.DataLoader(train, {batch_size = 100, shuffle = true}):batches() do
        local loss = mg.cross_entropy(model(x), t)
        model:cleargrads(); loss:backward(); opt:step()
        first, last = first or loss:item(), loss:item()
      end
    end
    local x, t = data.FashionMNIST{split = "test"}:batch(1, 1000)
    local accuracy
    mg.test_mode(function() accuracy = mg.accuracy(model(x), t) end)
    assert.is_true(last < first / 2)
    assert.is_true(accuracy:item() > 0.7)
    model:save(path)
    model[1].weight.data = mg.zeros_like(model[1].weight)
    model:load(path)
    assert.equal(accuracy:item(), mg.accuracy(model(x), t):item())
  end)

  it("of a Function of one's own", function()
    local Swish = mg.Function{ name = "swish",
      forward  = function(_, x) return x * mg.sigmoid(x) end,
      backward = function(self, gy)
        local x = self.inputs[1]; local s = mg.sigmoid(x)
        return gy * (s + x * s * (1 - s))
      end }
    local y = Swish(mg.Variable{-1, 0, 1})
    assert(near(y, {-0.2689414213699951, 0, 0.7310585786300049}))
  end)

  it("of transforms", function()
    local x = mg.Variable{0.5, 1, 2}
    local f = function(x) return (x:sin() * x):sum() end -- luacheck: ignore 431
    local df = mg.grad(f)
    local slope = x.data:sin() + x.data * x.data:cos()
    assert(near(df(x), slope))
    local v, g = mg.value_and_grad(f)(x)
    assert(near(v, f(x)))
    assert(near(g, slope))
    local H, hv = mg.hessian(f, x), mg.hvp(f, x, mg.ones_like(x))
    local curve = 2 * x.data:cos() - x.data * x.data:sin()
    assert(near(H, mg.eye(3) * curve))
    assert(near(hv, curve))
    local y = mg.checkpoint(function(x) return x:tanh():exp() end, x) -- luacheck: ignore 431
    assert(near(y, x:tanh():exp()))
    assert.is_nil(x.grad)
  end)

  it("of pictures and files", function()
    local folder = child.folder()
    local x = mg.Variable{0.5, 1, 2}
    local y = x:tanh():exp()
    mg.plot_graph(y, folder .. "/graph.svg")
    assert.is_truthy(child.read(folder .. "/graph.svg"):find("<svg", 1, true))
    mg.save(folder .. "/a.npz", {x = x, y = y}); local t = mg.load(folder .. "/a.npz")
    assert(helper.same(t.x, x.data))
    assert(helper.same(t.y, y.data))
  end)
end)
