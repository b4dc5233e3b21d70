-- mg.minimize: a minimum of a function of any tree, by its gradient.
--
-- L-BFGS as Nocedal and Wright, Numerical Optimization, algorithm 7.5; Newton-CG as 7.1, with
-- products of the Hessian and a vector in place of the Hessian. Both search along a line until the
-- strong Wolfe conditions hold. What is found is untracked.

local mg = require "moongrad"
local newton = require "moongrad.optim.quasi_newton"
local only = require "moongrad.only"
local vector = require "moongrad.solvers.vector"
local dot = newton.dot

local function largest(x) return x:abs():max():item() end

-- The value of f at vector x, its gradient, and what multiplies the Hessian by a vector, if asked.
local function evaluate(f, v, x, curved)
  local at = mg.Variable(x)
  local y = mg.enable_grad(function() return only("minimize: f", f(v.tree(at))) end)
  if not mg.is_variable(y) or y.size ~= 1 then
    mg.raise("minimize: f gave %s, expected a Variable of one element",
      mg.is_variable(y) and "shape " .. tostring(y.shape) or "a " .. type(y))
  end
  local value = y:item()
  local g = y.requires_grad and
    mg.gradients(y, at, {create_graph = curved, allow_unused = true})
  if not g then mg.raise("minimize: what f gave does not depend on its argument") end
  local function times(p)
    if not g.requires_grad then return mg.zeros_like(x) end
    local hp = mg.enable_grad(function()
      return mg.gradients(mg.dot(g, p), at, {retain_graph = true, allow_unused = true})
    end)
    return hp or mg.zeros_like(x)
  end
  return value, g:detach(), times
end

-- Solves H d = -g by conjugate gradients, as far as pays, or until the curvature is negative.
local function conjugate(g, times, most)
  local norm = mg.norm(g):item()
  local enough = math.min(0.5, math.sqrt(norm)) * norm
  local d, r, p = mg.zeros_like(g), g, -g
  local rr = dot(r, r)
  for i = 1, most do
    local Hp = times(p)
    local curvature = dot(p, Hp)
    if curvature <= 0 or curvature ~= curvature then return i == 1 and -g or d end
    local alpha = rr / curvature
    d, r = d + alpha * p, r + alpha * Hp
    mg.eval(d, r)
    local new = dot(r, r)
    if math.sqrt(new) <= enough then return d end
    p = -r + (new / rr) * p
    rr = new
  end
  return d
end

local function minimize(f, v, method, tol, max_iter, history, callback)
  local curved = method == "Newton-CG"
  local x, k = v.start, {s = {}, y = {}, r = {}, H = 1.0}
  local value, g, times = evaluate(f, v, x, curved)
  local info = {iterations = 0, evaluations = 1, converged = false}
  local function finish(why, converged)
    info.message, info.converged, info.value, info.gradient = why, converged, value, largest(g)
    return v.tree(x), info
  end
  if value - value ~= 0 then
    mg.raise("minimize: f is %s where it starts", value ~= value and "nan" or tostring(value))
  end
  while true do
    if largest(g) <= tol then return finish("the gradient is small", true) end
    if info.iterations >= max_iter then return finish("max_iter is reached", false) end
    local d, t = nil, 1.0
    if curved then
      d = conjugate(g, times, 2 * v.size)
    else
      d = newton.direction(k, g)
      if #k.s == 0 then t = math.min(1, 1 / g:abs():sum():item()) end
    end
    local slope = dot(g, d)
    if slope >= 0 or slope ~= slope then
      if #k.s == 0 then return finish("no direction leads down", false) end
      k.s, k.y, k.r, k.H = {}, {}, {}, 1.0        -- once more, along the gradient
      d, t = -g, math.min(1, 1 / g:abs():sum():item())
      slope = dot(g, d)
    end
    local function probe(at)
      info.evaluations = info.evaluations + 1
      local there = x + d * at
      mg.eval(there)
      local y, gy, H = evaluate(f, v, there, curved)
      return {t = at, f = y, g = gy, slope = dot(gy, d), x = there, times = H}
    end
    local from = {t = 0.0, f = value, g = g, slope = slope, x = x, times = times}
    local p = newton.strong_wolfe(probe, from, t, largest(d), 1e-15 * (1 + largest(x)))
    if p == from or p.f >= value and largest(p.g) >= largest(g) then
      -- Dennis and Schnabel, Numerical Methods for Unconstrained Optimization, 7.2.5
      local relative = largest(g * x:abs():maximum(1)) / (1 + math.abs(value))
      return finish("no step along the line makes it less, as far as numbers can tell",
        relative <= math.sqrt(tol))
    end
    if not curved then newton.remember(k, p.x - x, p.g - g, history, 0) end
    x, value, g, times = p.x, p.f, p.g, p.times
    info.iterations = info.iterations + 1
    local go = callback and only("minimize: the callback",
      callback(v.tree(x), value, info.iterations))
    if go ~= nil and type(go) ~= "boolean" then
      mg.raise("minimize: the callback gave a %s, expected false, to stop, or nothing",
        mg.is_variable(go) and "Variable" or type(go))
    elseif go == false then
      return finish("the callback said so", false)
    end
  end
end

return mg.checked('minimize(f: function, x: tree, {method: "L-BFGS" | "Newton-CG" = "L-BFGS", ' ..
  "tol: number(0..) = 1e-8, max_iter: int(0..) = 10000, history: int(1..)?, " ..
  "callback: function?}) -> any, table",
  "where f, which gives one number, is least, from x on: a tree like x, untracked, and " ..
  "{value =, gradient =, iterations =, evaluations =, converged =, message =}. It has " ..
  "converged when no element of the gradient is beyond tol, or no step makes f less and none of " ..
  "|gradient| max(|x|, 1) / (1 + |f|) is beyond sqrt(tol). history: of how many steps L-BFGS " ..
  "knows, 20. callback(x, value, i) after each " ..
  "step stops it by false",
  function(f, x, method, tol, max_iter, history, callback)
    if history and method ~= "L-BFGS" then
      mg.raise("minimize: history is of no use to %s", method)
    end
    local v = vector("minimize", "argument 2", x)
    return mg.no_grad(minimize, f, v, method, tol, max_iter, history or 20, callback)
  end)
