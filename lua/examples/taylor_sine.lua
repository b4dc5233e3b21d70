-- sin(x) by its Taylor series, and its derivative through the series; how the error of both falls
-- with the number of terms; the graph of a short one.
--   lua5.4 lua/examples/taylor_sine.lua [quick] [graph.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/taylor_sine.png"

-- Terms down to the threshold; also how many
local function taylor_sine(x, threshold)
  local y, term, n = 0, x, 0
  repeat
    y = y + term
    n = n + 1
    term = -term * x * x / ((2 * n) * (2 * n + 1))
  until math.abs(term:item()) < threshold
  return y, n
end

local x = mg.Variable(math.pi / 4, "x")
for digits = 1, 15, 2 do
  local y, n = taylor_sine(x, 10.0 ^ -digits)
  x:cleargrad()
  y:backward()
  print(("threshold 1e-%02d: %d terms, sin %.15f (error %8.1e), cos %.15f (error %8.1e)"):format(
    digits, n, y:item(), y:item() - math.sin(math.pi / 4), x.grad:item(),
    x.grad:item() - math.cos(math.pi / 4)))
end

local y = taylor_sine(x, 1e-4)
y.name = "sin x"
mg.plot_graph(y, path)
print("the graph of the series for 1e-4 is in " .. path)
