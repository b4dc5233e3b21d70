-- What people do to gradients between backward and the update. clip_grad_norm does it at once;
-- the others make functions for optimizer:add_hook. All grads change together, or none does.

local mg = require "moongrad"
local check_list = require "moongrad.list"
local field = require "moongrad.field"
local kinds = require "moongrad.nn.kinds"
local checked, raise = mg.checked, mg.raise

local hooks = {}

-- Of a module or an array of parameters, which does not lack those that layers got later.
local function parameters(op, target)
  local of = getmetatable(target)
  if target.named_parameters then
    local list = target:parameters()
    if type(list) ~= "table" then
      raise("%s: the method parameters of %s gave a %s, expected a list", op, of.__name, type(list))
    end
    local all = getmetatable(list) -- none where the class has a method of its own
    if #list == 0 and not (all and all.unfinished) then
      raise("%s: %s has no parameters", op, of.__name)
    end
    return list
  end
  if of and of.unfinished and #of.unfinished:_every() > #target then
    raise("%s: the list of parameters was made before all layers of its model had seen an " ..
      "input, and lacks theirs: give the model itself", op)
  elseif next(target) == nil then
    raise("%s: the table of parameters is empty", op)
  end
  local seen = {}
  for i, p in ipairs(target) do
    if not mg.is_variable(p) then
      raise("%s: parameter %d is a %s, expected a Variable", op, i, type(p))
    elseif seen[p.id] then
      raise("%s: parameters %d and %d are the same", op, seen[p.id], i)
    end
    kinds.check_place(op, i, p)
    seen[p.id] = i
  end
  check_list(op, "the table of parameters", target)
  return target
end

-- Gives each of the parameters that have a grad the grad that f(p, its grad) makes.
local function change(params, f)
  local fields = { n = 0 }
  for _, p in ipairs(params) do
    local g = p.grad
    if g then field(fields, p, "grad", f(p, g)) end
  end
  mg._commit({}, {}, fields)
end

-- The 2-norm of all grads together. One pass of squares is enough unless they overflow or vanish,
-- as those of float32 below FAINT may.
local FAINT = 1e-20
local function norm_of(params)
  local squares, norm = mg.tensor(0.0), mg.tensor(0.0)
  for _, p in ipairs(params) do
    local g = p.grad
    if g then squares = squares + g:square():sum() end
  end
  if mg._recording() then
    if mg._choose(squares:gt(FAINT):logical_and(squares:lt(math.huge))) then
      return mg._weak(squares:to "float64"):sqrt()
    end
  else
    local sum = squares:item()
    if sum > FAINT and sum < math.huge then return math.sqrt(sum) end
  end
  for _, p in ipairs(params) do
    local g = p.grad
    if g then norm = mg.hypot(norm, g:norm()) end
  end
  return mg._recording() and mg._weak(norm:to "float64") or norm:item()
end

-- By max / (norm + 1e-6), as torch.nn.utils.clip_grad_norm_.
local function clip_grad_norm(params, max)
  return mg.no_grad(function()
    local norm = norm_of(params)
    if mg._recording() then
      local scale = mg.where(norm:gt(max), max / (norm + 1e-6), 1)
      change(params, function(_, g) return g * scale end)
    elseif norm > max then
      local scale = max / (norm + 1e-6)
      change(params, function(_, g) return g * scale end)
    end
    return norm
  end)
end

hooks.clip_grad_norm = checked("clip_grad_norm(params: module | table, max: number(0..inf))",
  "scales all grads down where their common norm is above max; gives the norm, a number",
  function(target, max) return clip_grad_norm(parameters("clip_grad_norm", target), max) end)

hooks.clip_grad_value = checked("clip_grad_value(params: module | table, max: number(0..inf))",
  "clamps every element of all grads to -max..max",
  function(target, max)
    local params = parameters("clip_grad_value", target)
    mg.no_grad(change, params, function(_, g) return g:clamp{min = -max, max = max} end)
  end)

-- What a hook is called with: by the optimizer a plain list, by hand perhaps a module.
local function given(op, params)
  if type(params) ~= "table" then
    raise("%s: a hook takes parameters, a list or a module, not a %s", op, type(params))
  end
  return getmetatable(params) and parameters(op, params) or params
end

hooks.clip_grad = checked("clip_grad(max: number(0..inf))",
  "for opt:add_hook: clip_grad_norm before each update",
  function(max)
    return function(params) clip_grad_norm(given("clip_grad", params), max) end
  end)

hooks.clip_value = checked("clip_value(max: number(0..inf))",
  "for opt:add_hook: clip_grad_value before each update",
  function(max)
    return function(params)
      change(given("clip_value", params), function(_, g) return g:clamp{min = -max, max = max} end)
    end
  end)

-- Those that an earlier hook took away stay away.
hooks.weight_decay = checked("weight_decay(rate: number(0..))",
  "for opt:add_hook: adds rate * p to each grad",
  function(rate)
    return function(params)
      change(given("weight_decay", params), function(p, g) return g + rate * p end)
    end
  end)

hooks.freeze = checked("freeze(params: module | table)", "for opt:add_hook: these are not updated",
  function(target)
    parameters("freeze", target)
    return function()
      change(parameters("freeze", target), function() return nil end)
    end
  end)

return hooks
