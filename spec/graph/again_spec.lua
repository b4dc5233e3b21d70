-- Values that gradients compute again: nothing keeps what an activation or a normalization gave to
-- a product, and no bit tells. What a bias's gradient sums is not kept for it.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, near, raises, settle = helper.exact, helper.near, helper.raises, helper.settle

local N, K = 300, 128                                          -- large enough
local SIZE = 8 * N * K

local function live()
  settle()
  return mg.memory().live
end

local ACTS = {
  gelu = mg.gelu, silu = mg.silu, softplus = mg.softplus,
  norm = function(x) return mg.layer_norm(x, mg.zeros(K) + 0.7, mg.zeros(K) + 0.1) end,
  rms = function(x) return mg.rms_norm(x, mg.zeros(K) + 0.7) end,
  scaled = function(x) return mg.gelu(x) * 3 + 1 end,
}

describe("what a product was given", function()
  local x, W1, b, W2
  after_each(function() x, W1, b, W2 = nil, nil, nil, nil end)
  helper.guard(before_each, after_each)
  before_each(function()
    mg.seed(5)
    x, W1, b = mg.Variable(mg.randn(N, K)), mg.Variable(mg.randn(K, K) * 0.1),
      mg.Variable(mg.randn(K))
    W2 = mg.Variable(mg.randn(K, K) * 0.1)
    mg.eval(x, W1, b, W2)
  end)

  local function gradients() return {x.grad, W1.grad, b.grad, W2.grad} end

  local function clear()
    for _, v in ipairs{x, W1, b, W2} do v:cleargrad() end
  end

  local function agree(got, want)
    for i = 1, 4 do assert(exact(got[i], want[i])) end
  end

  -- In two parts, so that what is between is a leaf, whose value is kept
  local function cut(act)
    local h = act(x:matmul(W1) + b)
    local leaf = mg.Variable(h:detach())
    leaf:matmul(W2):sin():sum():backward()
    h.grad = leaf.grad
    h:backward()
    local grads = gradients()
    clear()
    return grads
  end

  for name, act in pairs(ACTS) do
    it("is not kept, of " .. name, function()
      local want = cut(act)
      local before = live()
      local h = act(x:matmul(W1) + b)
      local value = h + 0
      mg.eval(value)
      local y = h:matmul(W2)
      mg.eval(y)
      assert(live() - before < 3.5 * SIZE)                     -- value, y and the sum under h
      assert(exact(h, value))
      local loss = y:sin():sum()
      loss:backward{retain_graph = true}
      agree(gradients(), want)
      clear()
      loss:backward()
      agree(gradients(), want)
      assert(exact(h, value))
      assert(raises("released", function() loss:backward() end))
    end)

    it("may be differentiated again, of " .. name, function()
      local function second(rows, first)
        local y = act(rows:matmul(W1) + b):matmul(W2):sin():sum()
        y:backward{create_graph = true}
        local g = gradients()
        if first then first(g) end
        local other = g[1]:square():sum()
        clear()
        other:backward()
        local grads = gradients()
        clear()
        return grads
      end
      local want, all = cut(act), x
      local got = second(x, function(g)
        for i = 1, 4 do assert(near(g[i], want[i], 1e-11, 1e-12)) end
      end)
      local sums
      for i = 0, 2 do                                           -- small enough to be kept
        x = mg.Variable(all[{{100 * i + 1, 100 * i + 100}}])
        local part = second(x)
        assert(near(part[1], got[1][{{100 * i + 1, 100 * i + 100}}], 1e-9, 1e-11))
        if not sums then sums = part
        else for k = 2, 4 do sums[k] = sums[k] + part[k] end end
      end
      for k = 2, 4 do assert(near(sums[k], got[k], 1e-8, 1e-9)) end
    end)
  end

  it("is refused where it was given a new value, and needed to differentiate", function()
    local want = cut(mg.gelu)
    local function f()
      local h = mg.gelu(x:matmul(W1) + b)
      local loss = h:matmul(W2):sin():sum()
      mg.eval(loss)
      h.data = mg.zeros(N, K)
      return loss
    end
    local loss = f()
    assert(raises("was given a new value", function() loss:backward{create_graph = true} end))
    clear()
    f():backward()
    agree(gradients(), want)
  end)

  it("is the old value where parameters change before backward", function()
    local want = cut(mg.gelu)
    local loss = mg.gelu(x:matmul(W1) + b):matmul(W2):sin():sum()
    mg.eval(loss)
    mg.assign({b}, {b:detach() * 0 + 7})
    loss:backward()
    agree(gradients(), want)
  end)

  it("is seen by several products, views and threes of axes", function()
    local three = mg.Variable(x:detach():reshape(3, 100, K))
    local function f(cutting)
      local h = mg.gelu(mg.linear(three, W1, b))
      local seen = cutting and mg.Variable(h:detach()) or h
      local y = mg.linear(seen, W2) * mg.linear(seen, W1:detach()) + seen:square()
      y:sin():sum():backward()
      if cutting then h.grad = seen.grad h:backward() end
      local grads = {three.grad, W1.grad, b.grad, W2.grad}
      clear()
      three:cleargrad()
      return grads
    end
    local want = f(true)
    for i, g in ipairs(f()) do assert(near(g, want[i], 1e-12, 1e-12)) end
  end)
end)

describe("the gradient of a bias", function()
  helper.guard(before_each, after_each)

  it("keeps nothing of what it sums", function()
    mg.seed(6)
    local W, b = {}, {}
    for i = 1, 12 do
      W[i], b[i] = mg.Variable(mg.randn(K, K) * 0.1), mg.Variable(mg.randn(K))
    end
    local x = mg.randn(N, K)
    local function step()
      local h = x
      for i = 1, 12 do h = (h:matmul(W[i]) + b[i]):tanh() end
      local loss = h:sum()
      settle()
      mg.reset_peak()
      local before = mg.memory().live
      loss:backward()
      return mg.memory().peak - before
    end
    assert(step() < 12 * 8 * K * K + 6 * SIZE)
  end)

  it("adds up where a leaf was broadcast again and again", function()
    mg.seed(7)
    local x, b = mg.randn(N, K), mg.Variable(mg.randn(K))
    for times = 1, 4 do
      local y, g = x, mg.zeros(K)
      for _ = 1, times do y = (y + b):sin() end
      local leaf = mg.Variable(mg.zeros(times, K) + b:detach())
      local z = x
      for i = 1, times do z = (z + leaf[i]):sin() end
      z:sum():backward()
      for i = times, 1, -1 do g = g + leaf.grad[i] end
      b:cleargrad()
      y:sum():backward()
      assert(near(b.grad, g, 1e-12, 1e-12))
    end
  end)
end)
