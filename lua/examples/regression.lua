-- A small network fits y = sin(2 pi x) + noise, beside a straight line, which cannot.
--   lua5.4 lua/examples/regression.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim = mg.nn, mg.optim
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/regression.png"

mg.seed(0)
local x = mg.rand(100, 1)
local t = (2 * math.pi * x):sin() + 0.3 * mg.randn(100, 1)

local function fit(name, model, opt, steps)
  local loss
  for step = 1, steps do
    loss = mg.mean_squared_error(model(x), t)
    model:cleargrads()
    loss:backward()
    opt:step()
    if step % (steps // 4) == 0 then
      print(("%-8s step %5d: loss %.4f"):format(name, step, loss:item()))
    end
  end
end

local line = nn.Linear(1, 1)
fit("line", line, optim.SGD(line, { lr = 0.2 }), quick and 200 or 1000)

-- Two groups: the hidden layers decay, the output does not.
local net = nn.Sequential(nn.Linear(1, 32), mg.tanh, nn.Linear(32, 32), mg.tanh, nn.Linear(32, 1))
local opt = optim.AdamW({ { params = { net[1].weight, net[1].bias, net[3].weight, net[3].bias } },
                          { params = net[5], weight_decay = 0 } }, { lr = 1e-2 })
fit("network", net, opt, quick and 300 or 2000)

local at = mg.linspace(0, 1, 200)
local function curve(model)
  return mg.no_grad(function() return model(at:reshape(200, 1)):flatten() end)
end
mg.plot { { x:flatten(), t:flatten() }, { at, curve(line) }, { at, curve(net) },
          { at, (2 * math.pi * at):sin() }, styles = { "points" }, path = path,
          labels = { "data", "line", "network", "sin(2 pi x)" }, title = "regression" }
print("the curves are in " .. path)
