-- Programs that fold rows and go on with the result: softmax, layer_norm, var and their like.

local mg = require "moongrad"
local helper = require "spec.helper"
local same, near, settle = helper.same, helper.near, helper.settle

-- Moves from an (R, C) value x and another, y, to the next.
local along = {axis = 2, keepdims = true}
local MOVES = {
  function(x) return x - x:mean(along) end,
  function(x) return x / (x:square():sum(along) + 1):sqrt() end,
  function(x) return x:softmax() end,
  function(x) return x:log_softmax() * 0.1 end,
  function(x) return x:layer_norm() end,
  function(x, y) return x + y:logsumexp(along) end,
  function(x, y) return x * y:max(along):sin() end,
  function(x, y) return x - y:min(along):abs():expand(y.shape) end,
  function(x, y) return x + y:argmax(along):to(x.dtype) * 0.01 end,
  function(x, y) return mg.where(y:gt(0):any(along), x, -x) end,
  function(x, y) return x + (y:mean(2):tanh() * 0.5):reshape(#y, 1) end,
  function(x) return x + x:sum(1):tanh() end,
  function(x) return x * (x:mean():item() + 1) end,
  function(x, y) return x:var(along) + y end,
  function(x, y) return (x.T:clone().T + y):tanh() end,
  function(x, y) return mg.maximum(x, y * 0.5) end,
  function(x, y) return (x - y):sigmoid() end,
}

-- A chain of random moves; `after` sees each value. Gives all of them.
local function chain(seed, x, y, count, after)
  math.randomseed(seed)
  local v = {x, y}
  for i = 3, count + 2 do
    local move = MOVES[math.random(#MOVES)]
    v[i] = move(v[math.max(1, i - math.random(3))], v[i - math.random(2)])
    after(v[i])
  end
  return v
end

local function nothing() end

describe("a program that folds rows", function()
  helper.guard(before_each, after_each)

  for _, shape in ipairs{{700, 2}, {300, 3}, {90, 37}, {8, 511}, {7, 512}, {6, 513}, {40, 40},
                         {5, 1000}, {2, 4096}, {2, 4097}, {1, 2000}, {513, 1}} do
    local name = ("(%d, %d)"):format(shape[1], shape[2])

    it("of shape " .. name .. " has the bits of its steps one by one", function()
      for seed = 1, 8 do
        for _, dtype in ipairs{"float64", "float32"} do
          mg.seed(seed)
          local x, y = (mg.rand(shape) - 0.5):to(dtype), (mg.rand(shape) - 0.5):to(dtype)
          mg.eval(x, y)
          local late = chain(seed, x, y, 9, nothing)
          local eager = chain(seed, x, y, 9, mg.eval)
          for i = #late, 1, -1 do assert(same(late[i], eager[i])) end
          local all = chain(seed, x, y, 9, nothing)
          mg.eval(table.unpack(all))
          for i = 1, #all do assert(same(all[i], eager[i])) end
        end
      end
    end)

    it("of shape " .. name .. " has the gradients of its steps, for any number of threads",
      function()
        for seed = 1, 5 do
          mg.seed(seed)
          local a, b = mg.rand(shape) - 0.5, mg.rand(shape) - 0.5
          mg.eval(a, b)
          local function gradients(after)
            local x, y = mg.Variable(a), mg.Variable(b)
            local v = chain(seed, x, y, 6, after)
            local r = v[#v] * v[#v - 1]
            r:backward()
            return x.grad or mg.tensor(0), y.grad or mg.tensor(0), r
          end
          local gx, gy, r = gradients(nothing)
          local ex, ey, er = gradients(mg.eval)
          assert(same(gx, ex))
          assert(same(gy, ey))
          assert(same(r, er))
          local threads = mg.num_threads()
          for _, n in ipairs{1, 3} do
            mg.set_num_threads(n)
            local tx, ty = gradients(nothing)
            mg.set_num_threads(threads)
            assert(same(tx, gx))
            assert(same(ty, gy))
          end
        end
      end)
  end

  it("is the same whatever else it computes, sums of columns and of all too", function()
    for _, shape in ipairs{{60, 50}, {200, 700}, {1200, 9}} do
      mg.seed(1)
      local x, t = mg.rand(shape), mg.rand(shape)
      mg.eval(x, t)
      local function values()
        local s = x:softmax()
        local d = (s - t) * 2
        return {s, d, s:sum(1), d:sum(2), d:square():mean(), (s * t):sum(1), s:max(2), d:sum(),
                (s:log() * t):sum(2):mean()}
      end
      local together = values()
      mg.eval(table.unpack(together))
      local apart = values()
      for i = #apart, 1, -1 do
        mg.eval(apart[i])
        assert(same(apart[i], together[i]))
      end
    end
  end)

  it("takes rows over several axes, and arrays of other axes beside them", function()
    mg.seed(2)
    local x, w = mg.rand(6, 5, 4, 30), mg.rand(4, 30)
    local y = mg.layer_norm(x, {4, 30}, w, w)
    local flat = mg.layer_norm(x:reshape(30, 120), w:reshape(120), w:reshape(120))
    assert(same(y:reshape(30, 120), flat))
    local s = x:softmax(4) + x:mean{axis = {3, 4}, keepdims = true} + x:sum(1)
    local parts = x:softmax(4)
    mg.eval(parts)
    assert(near(s, parts + x:mean{axis = {3, 4}, keepdims = true} + x:sum(1), 1e-14))
    local sq = mg.rand(600, 600)          -- numbers a row, taken for a row: nothing is mixed up
    local m = sq:mean(2)
    local late = sq - m
    mg.eval(m)
    assert(same(late, sq - m:reshape(1, 600)))
    local v = mg.rand(600)
    assert(near((v:softmax() + mg.rand_like(v) * 0):sum(), 1, 1e-12))
    local z, u = mg.rand(4, 600, 600), mg.rand(4, 600)   -- numbers a row and rows, both (4, 600)
    local a, b = z:sum(3), u:softmax()
    mg.eval(a)
    mg.eval(b)
    assert(same(z:sum(3) + u:softmax(), a + b))
  end)

  it("reads a view of a row statistic that has been stored since the view was made", function()
    for _, op in ipairs{"sum", "mean", "max", "argmax"} do
      local x = mg.rand(40, 100)
      local function statistic() return (mg[op](x, {axis = 2})) end
      local late = statistic()
      local view = late:unsqueeze(2)
      local wide = view:broadcast_to{40, 100}
      mg.eval(late)
      assert(same(view:reshape(40), statistic()))
      assert(same(view:reshape(8, 5):reshape(40), statistic()))
      assert(same(view:reshape(40, 1):unsqueeze(1):reshape(40), statistic()))
      assert(same(wide:sum(2), late:unsqueeze(2):broadcast_to{40, 100}:sum(2)))
    end
    local x = mg.rand(16, 16, 16):cumsum(1)
    local late = x:mean(3)
    local view = late:unsqueeze(3)
    mg.eval(late)
    assert(same(view:reshape(16, 16):sum(1), x:mean(3):sum(1)))
  end)

  it("computes a loss, its gradient and nothing else of that size", function()
    local x, t = mg.Variable(mg.rand(1000, 500)), mg.randint(1, 500, {1000})
    mg.eval(x, t)
    settle()
    mg.reset_peak()
    local before = mg.memory().live
    local loss = mg.cross_entropy(x, t)
    loss:backward()
    mg.eval(loss)
    assert.is_true(mg.memory().peak - before < 5e6)
    x:cleargrad()
    settle()
    mg.reset_peak()
    before = mg.memory().live
    local y = x:layer_norm()
    y:sum():backward()
    assert.is_true(mg.memory().peak - before < 10e6)
  end)
end)
