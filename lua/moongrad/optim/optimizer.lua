-- What all optimizers share: whose parameters, the options, hooks, state, and the step itself.
--
-- A rule is a class with `defaults`, the options it knows, `buffers`, the names of the arrays it
-- keeps for each parameter (zeros at first), and update(p, g, s), which returns p with those of its
-- buffers in s that change, and their new values: two tables for mg.assign, which computes them in
-- one pass over memory and in place, since mg.tidy leaves nobody else who sees the old ones. (So
-- use p itself in update; p.data would be such another.) s.step counts p's updates from 1.

local mg = require "moongrad"
local Object = require "moongrad.class"
local options = require "moongrad.options"
local raise, tidy, assign = mg.raise, mg.tidy, mg.assign

local Optimizer = Object:extend("Optimizer")
Optimizer.defaults = { lr = 1e-3 }
Optimizer.buffers = {}

-- target: a module, asked for its parameters at every step since lazily sized layers get theirs
-- late, or an array of Variables. The options become fields; all may be assigned, lr usually is.
function Optimizer:init(target, opts)
  local name = getmetatable(self).__name
  if type(target) ~= "table" then
    raise("%s: got a %s, expected a module or a table of parameters", name, type(target))
  elseif not target.named_parameters then
    if #target == 0 then
      raise(next(target) == nil and "%s: the table of parameters is empty" or
        "%s: the table of parameters has keys, expected a list", name)
    end
    for i, p in ipairs(target) do
      if not mg.is_variable(p) then
        raise("%s: parameter %d is a %s, expected a Variable", name, i, type(p))
      end
    end
  end
  for k, v in pairs(options(name, opts, self.defaults)) do
    if type(v) == "number" and v < 0 then raise("%s: %s = %g is negative", name, k, v) end
    self[k] = v
  end
  self.target, self.hooks = target, {}
  self.slots = {}   -- by the id of the parameter
end

-- Iterates over name, parameter; in an array the position is the name.
local function named(target)
  if target.named_parameters then return target:named_parameters() end
  local i = 0
  return function()
    i = i + 1
    if target[i] then return tostring(i), target[i] end
  end
end

-- Calls f(params) before each update, with the array of those that have a grad. f may assign to
-- their grads; one whose grad it removes is not updated. Nothing f does is recorded.
function Optimizer:add_hook(f)
  local meta = getmetatable(f)
  if type(f) ~= "function" and not (type(meta) == "table" and meta.__call) then
    raise("add_hook: got a %s, expected a function", type(f))
  end
  self.hooks[#self.hooks + 1] = f
end

local function slot(self, p)
  local s = self.slots[p.id]
  if not s then
    s = { step = 0 }
    for _, name in ipairs(self.buffers) do s[name] = mg.zeros_like(p) end
    self.slots[p.id] = s
  end
  return s
end

-- Updates every parameter that has a grad and is not frozen (requires_grad = false).
function Optimizer:step()
  mg.no_grad(function()
    local params = {}
    for _, p in named(self.target) do
      if p.requires_grad and p.grad then params[#params + 1] = p end
    end
    for _, hook in ipairs(self.hooks) do hook(params) end
    for _, p in ipairs(params) do
      local g = p.grad
      if g then
        local s = slot(self, p)
        s.step = s.step + 1
        tidy(function() assign(tidy(self.update, self, p, g, s)) end)
      end
    end
  end)
end

-- Everything that later steps depend on, apart from the options: a flat table of Variables, as
-- mg.save wants it. "l1.weight.m" is buffer m of the parameter l1.weight; "lr" is the rate.
function Optimizer:state()
  local t = { lr = mg.tensor(self.lr, "float64") }
  for name, p in named(self.target) do
    for k, v in pairs(self.slots[p.id] or {}) do
      t[name .. "." .. k] = mg.is_variable(v) and v.data or mg.tensor(v, "int64")
    end
  end
  return t
end

-- Takes what state() gave for a like set of parameters; in case of an error nothing has changed.
-- Lazily sized layers must have their sizes by now: load the model first.
function Optimizer:load_state(t)
  local slots, used = {}, { lr = true }
  for name, p in named(self.target) do
    local function entry(key)
      local full = name .. "." .. key
      if not mg.is_variable(t[full]) then raise("load_state: %s is missing", full) end
      used[full] = true
      return t[full]
    end
    if t[name .. ".step"] then
      local s = { step = math.tointeger(entry("step"):item()) }
      for _, key in ipairs(self.buffers) do
        local v = entry(key)
        local have, want = table.concat(v.shape, ", "), table.concat(p.shape, ", ")
        if have ~= want then
          raise("load_state: %s.%s is (%s), expected (%s)", name, key, have, want)
        end
        s[key] = mg.tensor(v, p.dtype)
      end
      slots[p.id] = s
    end
  end
  for name in pairs(t) do
    if not used[name] then raise("load_state: %s is unexpected", tostring(name)) end
  end
  if mg.is_variable(t.lr) then self.lr = t.lr:item() end
  self.slots = slots
  return self
end

return Optimizer
