-- All optimizers on one task, from one start: a small network tells the arms of a spiral apart.
--   lua5.4 lua/examples/optimizers.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/optimizers.png"

local x, t = data.Spiral():batch(1, 300)
local rules = {
  { "SGD", { lr = 0.3 } }, { "SGD", { lr = 0.1, momentum = 0.9, nesterov = true } },
  { "AdaGrad", { lr = 0.05 } }, { "AdaDelta", { lr = 3 } }, { "RMSprop", { lr = 3e-3 } },
  { "Adam", { lr = 1e-2 } }, { "AdamW", { lr = 1e-2 } }, { "NAdam", { lr = 1e-2 } },
  { "Adamax", { lr = 2e-2 } }, { "Lion", { lr = 3e-3 } },
  { "LBFGS", { line_search = "strong_wolfe", max_iter = 1 } }
}

local steps = quick and 20 or 500
local picture = { labels = {}, log = "y", xlabel = "step", ylabel = "loss", path = path,
                  title = "a spiral, learned by all optimizers" }
for i, rule in ipairs(rules) do
  local name, opts = rule[1], rule[2]
  mg.seed(0)
  local model = nn.Sequential(nn.Linear(2, 32), mg.tanh, nn.Linear(32, 32), mg.tanh,
    nn.Linear(32, 3))
  local opt, losses = optim[name](model, opts), {}
  local function loss()
    local value = mg.cross_entropy(model(x), t)
    model:cleargrads()
    value:backward()
    return value
  end
  for step = 1, steps do
    if name == "LBFGS" then
      losses[step] = opt:step(loss)              -- which asks for the loss as often as it wants
    else
      losses[step] = loss():item()
      opt:step()
    end
  end
  local label = opts.momentum and name .. ", momentum" or name
  picture[i], picture.labels[i] = losses, label
  print(("%-14s loss %.5f, %.1f %% right"):format(label, losses[steps],
    mg.accuracy(model(x), t):item() * 100))
end
mg.plot(picture)
print("the curves are in " .. path)
