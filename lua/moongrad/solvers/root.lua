-- mg.root: where f is zero, by Newton's method with the jacobian; a step that does not make |f|
-- less is halved.
--
-- What is found depends on what f captures, as the implicit function theorem says: the steps to it
-- are not recorded, but two more from there are. One of them has the right derivative, two have
-- three: each doubles how far the result agrees with the function that it stands for.

local mg = require "moongrad"
local only = require "moongrad.only"
local vector = require "moongrad.solvers.vector"

local function largest(x) return x:abs():max():item() end

return mg.checked("root(f: function, x: tree, " ..
  "{tol: number(0..)?, max_iter: int(1..) = 50}) -> any, table",
  "x with f(x) = 0, by Newton's method from x on: a tree like x, with as many elements as " ..
  "f(x), which may be a tree; and {iterations =, residual =}, the largest |f|. Its gradients by " ..
  "what f captures are right to the third order. tol: for |f|; without, as far as the dtype goes",
  function(f, x0, tol, max_iter)
    local v = vector("root", "argument 2", x0)
    local eps = v.start.dtype == "float32" and 2.0 ^ -23 or 2.0 ^ -52

    local function residual(x)
      local y = only("root: f", f(v.tree(x)))
      if type(y) == "number" then y = mg.tensor(y) end
      if not mg.is_variable(y) then
        if type(y) ~= "table" then
          mg.raise("root: f gave a %s, expected a Variable or a tree of them", type(y))
        end
        local parts = {}
        for i, part in ipairs(mg.tree_leaves(y)) do
          if not mg.is_variable(part) then part = mg.tensor(part) end
          parts[i] = part:reshape(part.size)
        end
        y = mg.cat(parts, 1)
      end
      if x.requires_grad and not y.requires_grad then
        mg.raise "root: what f gave does not depend on its argument"
      elseif y.size ~= v.size then
        mg.raise("root: f gave %d elements for an x of %d", y.size, v.size)
      end
      return y:reshape(v.size)
    end

    local function newton(x, y)
      local J = mg.jacobian(residual, x)
      return mg.solve(J, y or residual(x))
    end

    local x, y, info = v.start, nil, {iterations = 0}
    mg.no_grad(function()
      y = residual(x)
      local size = largest(y)
      if size ~= size then mg.raise("root: f is nan where it starts") end
      while size > (tol or 0) do
        if info.iterations == max_iter then
          mg.raise("root: |f| is still %g after %d steps", size, max_iter)
        end
        info.iterations = info.iterations + 1
        local d, t = newton(x, y), 1.0
        local norm = mg.norm(y):item()             -- steps go down in it, not in the largest |f|
        local next_x, next_y, next_norm
        repeat
          next_x = x - t * d
          mg.eval(next_x)
          next_y = residual(next_x)
          next_norm = mg.norm(next_y):item()
          local enough = next_norm <= (1 - 1e-4 * t) * norm
          t = t / 2
        until enough or t < 1e-10
        local moved = largest(next_x - x) > 2 * eps * largest(x)
        local less = next_norm < norm
        if less then x, y, size = next_x, next_y, largest(next_y) end
        if not less or not moved then           -- as near as numbers of this width come?
          local near = largest(d) <= math.sqrt(eps) * (1 + largest(x))
          if near and size <= (tol or size) then break end
          if not less then
            mg.raise("root: no step makes |f| less than %g, after %d", size, info.iterations)
          end
        end
      end
    end)
    info.residual = largest(y:detach())
    if mg.Config.enable_backprop and residual(x).requires_grad then
      for _ = 1, 2 do x = x - newton(x) end
    end
    return v.tree(x), info
  end)
