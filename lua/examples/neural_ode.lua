-- A neural ordinary differential equation (Chen et al., arXiv 1806.07366): a network is the right
-- side of dy/dt = f(y), and learns from points of a spiral. The solver's steps are checkpointed, so
-- that the gradient keeps one state a stretch, not all that lies between.
--   lua5.4 lua/examples/neural_ode.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim = mg.nn, mg.optim
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/neural_ode.png"

mg.seed(0)
local H, STRETCH = 0.05, 10            -- time between points; steps that are recomputed together

local function rk4(f, y)
  local k1 = f(y)
  local k2 = f(y + H / 2 * k1)
  local k3 = f(y + H / 2 * k2)
  local k4 = f(y + H * k3)
  return y + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
end

-- States y (n, 2) after 0, 1 ... steps, as one array
local function solve(f, y, steps, checkpointed)
  local list = { y }
  local function stretch(from, count)
    local states = { from }
    for i = 1, count do states[i + 1] = rk4(f, states[i]) end
    return mg.stack(states):reshape(count + 1, from.shape[1], 2)
  end
  for first = 1, steps, STRETCH do
    local count = math.min(STRETCH, steps - first + 1)
    local states
    if checkpointed then
      states = mg.checkpoint(function(from) return stretch(from, count) end, y)
    else
      states = stretch(y, count)
    end
    for i = 2, count + 1 do list[#list + 1] = states[i] end
    y = states[-1]
  end
  return mg.stack(list)
end

-- The truth: dy/dt = y^3 A
local A = mg.tensor { { -0.1, 2.0 }, { -2.0, -0.1 } }
local POINTS = quick and 100 or 400
local start = mg.tensor { { 2.0, 0.0 } }
local truth = solve(function(y) return (y ^ 3):matmul(A) end, start, POINTS - 1)

local net = nn.Sequential(nn.Linear(2, 50), mg.tanh, nn.Linear(50, 2))
local function f(y) return net(y ^ 3) end
local opt = optim.Adam(net, { lr = 3e-3 })

-- The loss of windows of the truth, from their first points on
local function loss_of(windows, length, checkpointed)
  local first = mg.randint(1, POINTS - length, { windows })
  local wanted = {}
  for i = 0, length do wanted[i + 1] = truth[{ {}, 1 }][first + i] end
  return (solve(f, wanted[1], length, checkpointed) - mg.stack(wanted)):abs():mean()
end

local function kept(checkpointed)
  collectgarbage()
  local before = mg.memory().live
  local loss = loss_of(200, 50, checkpointed)
  mg.eval(loss)
  collectgarbage()
  return (mg.memory().live - before) / 2 ^ 20
end
print(("kept for the gradient of 200 solutions of 50 steps: %.1f MiB, checkpointed %.1f"):format(
  kept(false), kept(true)))

local steps = quick and 10 or 600
for step = 1, steps do
  local loss = loss_of(20, 10, true)
  net:cleargrads()
  loss:backward()
  opt:step()
  if step % (steps // 5) == 0 then print(("step %3d: loss %.4f"):format(step, loss:item())) end
end

local learned = mg.no_grad(solve, f, start, POINTS - 1)
print(("mean distance over the whole way: %.3f"):format(
  (learned - truth):square():sum(3):sqrt():mean():item()))
local function columns(y) return { y[{ {}, 1, 1 }], y[{ {}, 1, 2 }] } end
mg.plot { columns(truth), columns(learned), labels = { "truth", "learned" }, path = path,
          styles = { "points", "lines" }, title = "a spiral, and the equation learned from it" }
print("the picture is in " .. path)
