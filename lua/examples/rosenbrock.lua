-- Three ways down Rosenbrock's valley, f = 100 (y - x^2)^2 + (1 - x)^2, from (0, 2) to (1, 1):
-- gradient descent, Newton's method with a Hessian by automatic differentiation, and L-BFGS.
--   lua5.4 lua/examples/rosenbrock.lua [quick] [picture.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/rosenbrock.png"

local function f(p) return 100 * (p[2] - p[1] ^ 2) ^ 2 + (1 - p[1]) ^ 2 end

-- Each takes p and gives one that is better; the paths are lists of points.
local function descend(steps)
  local p, points, df = mg.tensor { 0.0, 2.0 }, {}, mg.grad(f)
  for i = 1, steps do
    points[i] = p:totable()
    p = p - 0.001 * df(p)
  end
  return points
end

local function newton(steps)
  local p, points, df = mg.tensor { 0.0, 2.0 }, {}, mg.grad(f)
  for i = 1, steps do
    points[i] = p:totable()
    local g, h = df(p):totable(), mg.hessian(f, p):totable()
    local det = h[1][1] * h[2][2] - h[1][2] * h[2][1]
    p = p - mg.tensor { (h[2][2] * g[1] - h[1][2] * g[2]) / det,
                        (h[1][1] * g[2] - h[2][1] * g[1]) / det }
  end
  return points
end

local function lbfgs(steps)
  local p, points = mg.Variable { 0.0, 2.0 }, {}
  local opt = mg.optim.LBFGS({ p }, { line_search = "strong_wolfe", max_iter = 1,
                                      tolerance_change = 0 })
  for i = 1, steps do
    points[i] = p:totable()
    opt:step(function()
      local value = f(p)
      p:cleargrad(); value:backward()
      return value
    end)
  end
  return points
end

local ways = {
  { "gradient descent", descend(quick and 500 or 10000) },
  { "Newton", newton(7) },
  { "L-BFGS", lbfgs(30) }
}
for _, way in ipairs(ways) do
  local last = way[2][#way[2]]
  print(("%-17s %5d points, the last (%.6f, %.6f), f = %.3g"):format(way[1], #way[2], last[1],
    last[2], f(mg.tensor(last)):item()))
end

-- The valley as grey levels, and the paths in it
local N = quick and 60 or 300
local x = mg.linspace(-1.5, 1.5, N):reshape(1, N)
local y = mg.linspace(2.5, -0.5, N):reshape(N, 1)
local picture = { image = (100 * (y - x ^ 2) ^ 2 + (1 - x) ^ 2 + 0.05):log(), path = path,
                  extent = { -1.5, 1.5, -0.5, 2.5 }, style = "linespoints", labels = {},
                  title = "Rosenbrock's valley, log f" }
for i, way in ipairs(ways) do
  local xs, ys = {}, {}
  for k, p in ipairs(way[2]) do
    xs[k], ys[k] = p[1], p[2]
  end
  picture[i], picture.labels[i] = { xs, ys }, way[1]
end
mg.plot(picture)
print("the paths are in " .. path)
