-- Gaussian process regression: the kernel's length, its height and the noise are found by L-BFGS on
-- the marginal likelihood, whose gradient goes through a Cholesky factor (Rasmussen and Williams,
-- Gaussian Processes for Machine Learning, algorithm 2.1).
--   lua5.4 lua/examples/gaussian_process.lua [quick] [picture.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/gaussian_process.png"

mg.seed(3)
local n = quick and 30 or 120
local x = mg.rand(n) * 8 - 4
x = x[x:abs():gt(0.7)]                       -- nothing is known near 0
n = #x
local t = (1.5 * x):sin() + x / 2 + 0.2 * mg.randn(n)

-- Logarithms of length, height and noise
local theta = mg.Variable { 0.0, 0.0, -1.0 }

local function kernel(a, b)
  local length, height = theta[1]:exp(), theta[2]:exp()
  local far = (a:unsqueeze(2) - b:unsqueeze(1)) / length
  return height ^ 2 * (-far ^ 2 / 2):exp()
end

local function factor()
  return mg.cholesky(kernel(x, x) + (theta[3]:exp() ^ 2 + 1e-8) * mg.eye(n))
end

-- -log p(t | x), and what predictions need: the factor L and L^-1 t
local function likelihood()
  local L = factor()
  local w = mg.triangular_solve(t:unsqueeze(2), L):squeeze(2)
  return (w * w):sum() / 2 + mg.diagonal(L):log():sum() + n / 2 * math.log(2 * math.pi), L, w
end

local opt = mg.optim.LBFGS({ theta }, { line_search = "strong_wolfe" })
for step = 1, quick and 1 or 2 do
  local before = opt:step(function()
    local value = likelihood()
    theta:cleargrad()
    value:backward()
    return value
  end)
  local now, found = likelihood():item(), theta:exp():totable()
  print(("step %d: -log likelihood from %.3f to %.3f; length %.3f, height %.3f, noise %.3f"):format(
    step, before, now, found[1], found[2], found[3]))
end

-- Mean and standard deviation between and beyond the points
local at = mg.linspace(-6, 6, 300)
local mean, std = mg.no_grad(function()
  local _, L, w = likelihood()
  local v = mg.triangular_solve(kernel(x, at), L)              -- (n, 300)
  local variance = theta[2]:exp() ^ 2 - (v * v):sum(1)
  return w:matmul(v), variance:clamp { min = 0 }:sqrt()
end)
print(("standard deviation of f: %.3f at 3, %.3f at 0, %.3f at 6"):format(std[226]:item(),
  std[150]:item(), std[300]:item()))
mg.plot { { x, t }, { at, mean }, { at, mean + 2 * std }, { at, mean - 2 * std },
          { at, (1.5 * at):sin() + at / 2 }, styles = { "points" }, path = path,
          labels = { "data", "mean", "mean + 2 std", "mean - 2 std", "truth" },
          title = "a Gaussian process" }
print("the picture is in " .. path)
