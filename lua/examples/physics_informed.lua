-- A physics-informed network solves the heat equation u_t = a u_xx on a rod with cold ends, knowing
-- the equation alone: its residual at points in space and time is the loss. The derivatives are
-- gradients of the network by its inputs.
--   lua5.4 lua/examples/physics_informed.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim = mg.nn, mg.optim
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/physics_informed.png"

mg.seed(0)
local a, pi = 0.1, math.pi
local net = nn.Sequential(nn.Linear(2, 24), mg.tanh, nn.Linear(24, 24), mg.tanh, nn.Linear(24, 1))

-- u(x, 0) = sin(pi x) + sin(3 pi x) / 2 and u(0, t) = u(1, t) = 0, whatever the network says
local function u(x, t)
  return (pi * x):sin() + (3 * pi * x):sin() / 2 + t * x * (1 - x) * net(mg.cat({ x, t }, 2))
end

local function exact(x, t)
  return (pi * x):sin() * (-a * pi ^ 2 * t):exp() +
    (3 * pi * x):sin() * (-9 * a * pi ^ 2 * t):exp() / 2
end

local function residual(x, t)
  local value = u(x, t)
  local ux, ut = table.unpack(mg.gradients(value:sum(), { x, t }, { create_graph = true }))
  local uxx = mg.gradients(ux:sum(), x, { create_graph = true })
  return ut - a * uxx
end

local n = quick and 100 or 600
local x, t = mg.Variable(mg.rand(n, 1)), mg.Variable(mg.rand(n, 1))
local opt = optim.LBFGS(net, { line_search = "strong_wolfe", max_iter = 10 })
local steps = quick and 3 or 60
for step = 1, steps do
  local loss = opt:step(function()
    local loss = residual(x, t):square():mean()
    net:cleargrads()
    loss:backward()
    return loss
  end)
  if step % math.max(steps // 6, 1) == 0 then
    print(("%4d iterations: mean squared residual %.3g"):format(step * 10, loss))
  end
end

local N = quick and 30 or 120
local at = mg.linspace(0, 1, N)
local xs = at:unsqueeze(1):expand(N, N):reshape(N * N, 1)
local ts = at:flip(1):unsqueeze(2):expand(N, N):reshape(N * N, 1)
local found, want = mg.no_grad(u, xs, ts), exact(xs, ts)
print(("largest error %.2g, of values up to %.2f"):format((found - want):abs():max():item(),
  want:max():item()))
mg.plot { image = found:reshape(N, N), extent = { 0, 1, 0, 1 }, palette = "color", xlabel = "x",
          ylabel = "t", title = "heat in a rod: u(x, t)", path = path }
print("the picture is in " .. path)
