-- Hamiltonian Monte Carlo (Neal, arXiv 1206.1901): samples of a density by the gradient of its log.
-- The density is a banana: x ~ N(0, 1), y ~ N(x^2, 1/2). Many chains go side by side.
--   lua5.4 lua/examples/hamiltonian_monte_carlo.lua [quick] [picture.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/hamiltonian_monte_carlo.png"

mg.seed(0)
-- -log density of each row of q (n, 2), up to a constant
local function energy(q)
  local x, y = q[{ {}, 1 }], q[{ {}, 2 }]
  return x ^ 2 / 2 + (y - x ^ 2) ^ 2 / (2 * 0.5 ^ 2)
end
local slope = mg.grad(function(q) return energy(q):sum() end)

-- Leapfrog: `steps` of size h from positions q and momenta p
local function leapfrog(q, p, h, steps)
  p = p - h / 2 * slope(q)
  for i = 1, steps do
    q = q + h * p
    p = p - (i < steps and h or h / 2) * slope(q)
  end
  return q, p
end

local chains, rounds, burn = 100, quick and 30 or 300, quick and 10 or 50
local q, kept, accepted, h = mg.randn(chains, 2), {}, 0, 0.1
for round = 1, rounds do
  local p = mg.randn(chains, 2)
  local q2, p2 = mg.tidy(leapfrog, q, p, h * mg.rand(1):item(), 20)   -- no length is resonant
  local change = energy(q2) + p2:square():sum(2) / 2 - energy(q) - p:square():sum(2) / 2
  local yes = mg.rand(chains):lt((-change):exp())
  q = mg.where(yes:unsqueeze(2), q2, q)
  local rate = mg.count_nonzero(yes):item() / chains
  if round > burn then
    kept[#kept + 1] = q
    accepted = accepted + rate
  else
    h = h * (rate > 0.9 and 1.1 or 0.9)        -- nine times in ten is one accepted
  end
end

local samples = mg.cat(kept, 1)
local x, y = samples[{ {}, 1 }], samples[{ {}, 2 }]
print(("step %.3f, accepted %.2f, %d samples"):format(h, accepted / #kept, #samples))
for _, row in ipairs { { "mean of x", x:mean(), 0 }, { "mean of y", y:mean(), 1 },
                       { "variance of x", x:var(), 1 }, { "variance of y", y:var(), 2 + 0.25 } } do
  print(("%-13s %6.3f, exact %.2f"):format(row[1], row[2]:item(), row[3]))
end

local N = 150
local across = mg.linspace(-3, 3, N):expand(N, N)
local down = mg.linspace(8, -2, N):unsqueeze(2):expand(N, N)
local density = (-energy(mg.stack({ across:flatten(), down:flatten() }, 2))):exp():reshape(N, N)
local shown = mg.randperm(#samples)[{ { 1, math.min(500, #samples) } }]
mg.plot { { x[shown], y[shown] }, image = density, extent = { -3, 3, -2, 8 }, palette = "color",
          style = "points", labels = { "samples" }, title = "a banana and samples of it",
          path = path }
print("the picture is in " .. path)
