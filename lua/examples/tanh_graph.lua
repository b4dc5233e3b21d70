-- Derivatives of tanh of any order by backward of backward: their curves, and the graph of one.
-- Each order's graph contains those before.
--   lua5.4 lua/examples/tanh_graph.lua [quick] [graph.png] [curves.png]

local mg = require "moongrad"
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/tanh_graph.png"
local curves = arg[quick and 3 or 2] or "build/tanh_curves.png"
local drawn = quick and 2 or 4

-- The graph
local x = mg.Variable(1.0, "x")
local y = x:tanh()
y.name = "tanh x"
y:backward { create_graph = true }
for order = 1, 8 do
  local gx = x.grad
  gx.name = "gx" .. order
  if order == drawn then mg.plot_graph(gx, path) end
  local lines = select(2, mg.dot_graph(gx):gsub("\n", ""))
  print(("derivative %d of tanh at 1: %14.6f, a graph of %d lines"):format(order, gx:item(), lines))
  x:cleargrad()
  gx:backward { create_graph = true }
end

-- The curves, by a function of functions
local at = mg.linspace(-4, 4, 200)
local function f(v) return v:tanh() end
local picture = { x = at, labels = {}, title = "tanh and its derivatives", path = curves }
for order = 0, 3 do
  picture[order + 1], picture.labels[order + 1] = f(at), "order " .. order
  local g = f
  f = mg.grad(function(v) return g(v):sum() end)
end
mg.plot(picture)
print(("graph of order %d in %s, curves in %s"):format(drawn, path, curves))
