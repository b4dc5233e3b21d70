-- Model-agnostic meta-learning (Finn, Abbeel and Levine, arXiv 1703.03400): parameters from which
-- one gradient step on ten points of an unknown sine gives a good fit. The gradient goes through
-- that step, which is a gradient itself.
--   lua5.4 lua/examples/maml.lua [quick] [picture.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/maml.png"

mg.seed(0)
local HIDDEN, POINTS, RATE = 40, 10, 0.05
local function weight(n, m) return mg.Variable(mg.randn(n, m) * math.sqrt(1 / n)) end
local params = { w1 = weight(1, HIDDEN), b1 = mg.Variable(mg.zeros(HIDDEN)),
                 w2 = weight(HIDDEN, HIDDEN), b2 = mg.Variable(mg.zeros(HIDDEN)),
                 w3 = weight(HIDDEN, 1), b3 = mg.Variable(mg.zeros(1)) }

local function net(p, x)
  local h = (x:matmul(p.w1) + p.b1):tanh()
  return ((h:matmul(p.w2) + p.b2):tanh()):matmul(p.w3) + p.b3
end

local function loss(p, x, t) return (net(p, x) - t):square():mean() end

-- Parameters after some gradient steps on a task's points
local function adapt(p, x, t, steps)
  for _ = 1, steps do
    local g = mg.grad(loss)(p, x, t)
    p = mg.tree_map(function(v, gv) return v - RATE * gv end, p, g)
  end
  return p
end

local function task()
  local amplitude, phase = 0.1 + 4.9 * mg.rand(1):item(), math.pi * mg.rand(1):item()
  return function(n)
    local x = mg.rand(n, 1) * 10 - 5
    return x, amplitude * (x + phase):sin()
  end
end

local function meta_loss(p, batch)
  local sum = 0
  for _, points in ipairs(batch) do
    sum = sum + loss(adapt(p, points[1], points[2], 1), points[3], points[4])
  end
  return sum / #batch
end

local leaves = mg.tree_leaves(params)
local opt = mg.optim.Adam(leaves, { lr = 3e-3 })
local rounds, sum, count = quick and 30 or 1500, 0, 0
for round = 1, rounds do
  local batch = {}
  for i = 1, quick and 2 or 5 do
    local of = task()
    local x, t = of(POINTS)
    batch[i] = { x, t, of(POINTS) }
  end
  local value, grads = mg.value_and_grad(meta_loss)(params, batch)
  for i, g in ipairs(mg.tree_leaves(grads)) do leaves[i].grad = g end
  opt:step()
  sum, count = sum + value:item(), count + 1
  if round % (rounds // 5) == 0 then
    print(("round %5d: loss after one step %.3f"):format(round, sum / count))
    sum, count = 0, 0
  end
end

-- A sine it has never seen
local x = mg.rand(POINTS, 1) * 10 - 5
local t = 3 * (x + 1):sin()
local at = mg.linspace(-5, 5, 200):reshape(200, 1)
local picture = { { x:flatten(), t:flatten() }, { at:flatten(), (3 * (at + 1):sin()):flatten() },
                  labels = { "its points", "an unseen sine" }, styles = { "points" }, path = path,
                  title = "a sine from ten points, after gradient steps" }
for _, steps in ipairs { 0, 1, 10 } do
  local adapted = adapt(params, x, t, steps)
  print(("after %2d steps on ten points: loss on the whole sine %.3f"):format(steps,
    loss(adapted, at, 3 * (at + 1):sin()):item()))
  table.insert(picture, { at:flatten(), net(adapted, at):flatten() })
  table.insert(picture.labels, steps .. " steps")
end
mg.plot(picture)
print("the picture is in " .. path)
