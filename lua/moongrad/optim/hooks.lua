-- What people do to gradients between backward and the update. clip_grad_norm does it at once;
-- the others make functions for optimizer:add_hook.

local mg = require "moongrad"

local hooks = {}

local function parameters(target)
  return target.parameters and target:parameters() or target
end

local function number(op, name, v)
  if type(v) ~= "number" then mg.raise("%s: %s is a %s, expected a number", op, name, type(v)) end
end

-- The 2-norm of all grads together, a number; where it is above max, the grads are scaled down to
-- it: by max / (norm + 1e-6), as torch.nn.utils.clip_grad_norm_. target: a module or an array.
function hooks.clip_grad_norm(target, max)
  number("clip_grad_norm", "max", max)
  return mg.no_grad(function()
    local total = 0
    for _, p in ipairs(parameters(target)) do
      local g = p.grad
      if g then total = total + (g * g):sum() end
    end
    local norm = total == 0 and 0.0 or math.sqrt(total:item())
    if norm > max then
      local scale = max / (norm + 1e-6)
      for _, p in ipairs(parameters(target)) do
        if p.grad then p.grad = p.grad * scale end
      end
    end
    return norm
  end)
end

function hooks.clip_grad(max)
  number("clip_grad", "max", max)
  return function(params) hooks.clip_grad_norm(params, max) end
end

-- Adds rate * p to each grad (those that an earlier hook took away stay away).
function hooks.weight_decay(rate)
  number("weight_decay", "rate", rate)
  return function(params)
    for _, p in ipairs(params) do
      if p.grad then p.grad = p.grad + rate * p end
    end
  end
end

-- Keeps the parameters of target, a module or an array, as they are.
function hooks.freeze(target)
  if type(target) ~= "table" then
    mg.raise("freeze: got a %s, expected a module or a table of parameters", type(target))
  end
  return function()
    for _, p in ipairs(parameters(target)) do p:cleargrad() end
  end
end

return hooks
