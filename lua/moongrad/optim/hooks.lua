-- What people do to gradients between backward and the update. clip_grad_norm does it at once;
-- the others make functions for optimizer:add_hook.

local mg = require "moongrad"
local checked, raise = mg.checked, mg.raise

local hooks = {}

-- Of a module or an array of parameters
local function parameters(op, target)
  if target.named_parameters then return target:parameters() end
  for i, p in ipairs(target) do
    if not mg.is_variable(p) then
      raise("%s: parameter %d is a %s, expected a Variable", op, i, type(p))
    end
  end
  if next(target) ~= nil and #target == 0 then
    raise("%s: the table of parameters has keys, expected a list", op)
  end
  return target
end

-- By max / (norm + 1e-6), as torch.nn.utils.clip_grad_norm_.
local function clip_grad_norm(params, max)
  return mg.no_grad(function()
    local total = 0
    for _, p in ipairs(params) do
      local g = p.grad
      if g then total = total + (g * g):sum() end
    end
    local norm = total == 0 and 0.0 or math.sqrt(total:item())
    if norm > max then
      local scale = max / (norm + 1e-6)
      for _, p in ipairs(params) do
        if p.grad then p.grad = p.grad * scale end
      end
    end
    return norm
  end)
end

hooks.clip_grad_norm = checked("clip_grad_norm(params: module | table, max: number(0..))",
  "scales all grads down where their common norm is above max; gives the norm, a number",
  function(target, max) return clip_grad_norm(parameters("clip_grad_norm", target), max) end)

hooks.clip_grad = checked("clip_grad(max: number(0..))",
  "for opt:add_hook: clip_grad_norm before each update",
  function(max)
    return function(params) clip_grad_norm(params, max) end
  end)

-- Those that an earlier hook took away stay away.
hooks.weight_decay = checked("weight_decay(rate: number)",
  "for opt:add_hook: adds rate * p to each grad",
  function(rate)
    return function(params)
      for _, p in ipairs(params) do
        if p.grad then p.grad = p.grad + rate * p end
      end
    end
  end)

hooks.freeze = checked("freeze(params: module | table)", "for opt:add_hook: these are not updated",
  function(target)
    parameters("freeze", target)
    return function()
      for _, p in ipairs(parameters("freeze", target)) do p:cleargrad() end
    end
  end)

return hooks
