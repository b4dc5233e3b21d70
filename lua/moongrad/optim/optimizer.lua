-- What all optimizers share: whose parameters, the options, hooks, state, and the step itself.
--
-- A rule is a class with options, as they stand in a signature, `buffers`, the names of the arrays
-- it keeps for each parameter (zeros at first) or a function of the optimizer that gives them, and
-- update(p, g, s), which returns p and those of its buffers in s that change, and their new values:
-- two tables for mg.assign, which computes them in one pass over memory and in place, since mg.tidy
-- leaves nobody else who sees the old ones. (So use p itself in update; p.data would be such
-- another.) s.step counts p's updates from 1; s is a copy, and counts when the step has succeeded.
-- `prepare`, if any, looks at the options together.
--
-- A step is done as a whole: the new values of all parameters are computed together, and only then
-- does anything change. If it fails, grads that hooks have changed are put back.
--
--   local Sign = optim.Optimizer:extend("Sign", "lr: number(0..) = 1e-3", "p - lr sign(g)")
--   function Sign:update(p, g) return { p }, { p - self.lr * g:sign() } end

local mg = require "moongrad"
local Object = require "moongrad.class"
local kind = require "moongrad.nn.kinds".kind
local raise, tidy, checked = mg.raise, mg.tidy, mg.checked

local Optimizer = Object:extend("Optimizer")
Optimizer.is_optimizer = true
Optimizer.buffers = {}

mg._docs[Optimizer] = "Optimizer:extend(name, options, doc)\n" ..
  "a rule of one's own: options as in a signature, update(self, p, g, s) gives targets and values"

-- ---- options ----------------------------------------------------------------------------------

-- They are fields: what is assigned to one is checked as by the constructor. There are no others.
local function read(self, name)
  local values = rawget(self, "values") -- nil while it is made
  local value = values and values[name]
  if value == nil then return getmetatable(self)[name] end
  return value
end

local function write(self, name, value)
  local class, values = getmetatable(self), rawget(self, "values")
  if values[name] == nil or value == nil then
    local near = mg._near(tostring(name), class.names)
    raise("%s: %s%s", class.__name, value == nil and "no value for " .. tostring(name) or
      "there is no field " .. tostring(name), near and ("; did you mean %s?"):format(near) or "")
  end
  local given = { class.check { [name] = value } }
  for i, option in ipairs(class.names) do
    if option == name then values[name] = given[i] end
  end
end

local function check_parameters(name, target)
  if #target == 0 then
    raise(next(target) == nil and "%s: the table of parameters is empty" or
      "%s: the table of parameters has keys, expected a list", name)
  end
  local seen = {}
  for i, p in ipairs(target) do
    if not mg.is_variable(p) then
      raise("%s: parameter %d is a %s, expected a Variable", name, i, type(p))
    elseif kind(p) ~= "parameter" then
      raise("%s: parameter %d is not tracked, or has a creator: it would never change", name, i)
    elseif seen[p.id] then
      raise("%s: parameters %d and %d are the same", name, seen[p.id], i)
    end
    seen[p.id] = i
  end
end

-- Without options: the parent's.
local function extend(self, name, options, doc)
  local class = Object.extend(self, name)
  class.options = options or self.options
  class.names = {}
  for option in class.options:gsub("%b()", ""):gmatch "([%w_]+):" do
    table.insert(class.names, option)
  end
  class.check = mg.signature(("%s({%s})"):format(name, class.options))
  class.__index, class.__newindex = read, write
  class.init = checked(
    ("%s(self, target: module | table, {%s})"):format(name, class.options), doc or name,
    function(object, target, ...)
      -- a module is asked at every step, since lazily sized layers get their parameters late
      if not target.named_parameters then check_parameters(name, target) end
      local values = {}
      for i, option in ipairs(class.names) do values[option] = (select(i, ...)) end
      for field, value in pairs { values = values, target = target, hooks = {}, slots = {} } do
        rawset(object, field, value)
      end
      if class.prepare then object:prepare() end
    end)
  return class
end

Optimizer.extend = checked("extend(self, name: string, options: string?, doc: string?)",
  "a rule of one's own", extend)

local function buffers(self)
  local list = self.buffers
  return type(list) == "function" and list(self) or list
end

function Optimizer:__tostring()
  local class, parts = getmetatable(self), {}
  for i, name in ipairs(class.names) do
    local value = self[name]
    if type(value) == "table" then
      value = "{" .. mg._format("%s" .. (", %s"):rep(#value - 1), table.unpack(value)) .. "}"
    end
    parts[i] = mg._format("%s = %s", name, value)
  end
  return ("%s(%s)"):format(class.__name, table.concat(parts, ", "))
end

-- ---- steps ------------------------------------------------------------------------------------

-- Iterates over name, parameter; in an array the position is the name.
local function named(target)
  if target.named_parameters then return target:named_parameters() end
  local i = 0
  return function()
    i = i + 1
    if target[i] then return tostring(i), target[i] end
  end
end

Optimizer.add_hook = checked("add_hook(self, f: function)",
  "f(params) is called before each update, with the list of those that have a grad; it may " ..
  "assign to their grads; one whose grad it removes is not updated; nothing it does is recorded",
  function(self, f) self.hooks[#self.hooks + 1] = f end)

-- What is kept for p, for its next step. A buffer may come later, with an option given then.
local function next_slot(self, p)
  local s, old = {}, self.slots[p.id]
  for k, v in pairs(old or {}) do s[k] = v end
  s.step = old and old.step + 1 or 1
  for _, name in ipairs(buffers(self)) do s[name] = s[name] or mg.zeros_like(p) end
  return s
end

local function update(self, params, slots)
  local targets, values, fields = {}, {}, { n = 0 }
  for i, p in ipairs(params) do
    local s, g = slots[i], p.grad
    if s and g then
      local to, from = tidy(self.update, self, p, g, s)
      if #to ~= #from then
        raise("%s: update gave %d targets, but %d values", getmetatable(self).__name, #to, #from)
      end
      table.move(to, 1, #to, #targets + 1, targets)
      table.move(from, 1, #from, #values + 1, values)
      local n = fields.n
      fields[n + 1], fields[n + 2], fields[n + 3], fields.n = self.slots, p.id, s, n + 3
    end
  end
  mg._commit(targets, values, fields)
end

local function hooks_and_update(self, params)
  for _, hook in ipairs(self.hooks) do hook(params) end
  local slots = {}
  for i, p in ipairs(params) do slots[i] = p.grad and next_slot(self, p) end
  tidy(update, self, params, slots)
end

local function step(self)
  local params = {}
  for _, p in named(self.target) do
    if p.requires_grad and p.grad then params[#params + 1] = p end
  end
  mg.no_grad(mg._attempt, params, hooks_and_update, self, params)
end

Optimizer.step = checked("step(self)",
  "updates every parameter that has a grad and is not frozen (requires_grad = false)", step)

-- ---- state ------------------------------------------------------------------------------------

-- "l1.weight.m" is buffer m of the parameter l1.weight; "lr" is the rate, "rule" the class.
Optimizer.state = checked("state(self)",
  "what later steps depend on, apart from the options: a flat table, as mg.save wants it",
  function(self)
    local t = { lr = mg.tensor(self.lr, "float64"), rule = getmetatable(self).__name }
    for name, p in named(self.target) do
      for k, v in pairs(self.slots[p.id] or {}) do
        t[name .. "." .. k] = mg.is_variable(v) and v.data or mg.tensor(v, "int64")
      end
    end
    return t
  end)

local function text(x) return "(" .. table.concat(x.shape, ", ") .. ")" end

-- The slot of one parameter, from what a state says of it; `take` gives its entries.
local function read_slot(self, name, p, take)
  local steps = take("step")
  local s = { step = steps.size == 1 and math.tointeger(steps:item()) }
  if not s.step or s.step < 1 then
    raise("load_state: %s.step is %s, expected a number of updates", name, tostring(steps))
  end
  for _, key in ipairs(buffers(self)) do
    local v = take(key)
    if text(v) ~= text(p) then
      raise("load_state: %s.%s is %s, expected %s", name, key, text(v), text(p))
    end
    s[key] = mg.tensor(v, p.dtype)
  end
  return s
end

-- Lazily sized layers must have their sizes by now: load the model first.
Optimizer.load_state = checked("load_state(self, state: table, metadata: table?)",
  "takes what state() gave for a like set of parameters; after an error nothing has changed",
  function(self, t)
    local rule = getmetatable(self).__name
    if t.rule ~= rule then
      raise("load_state: this is %s, not of %s", t.rule and "the state of " .. tostring(t.rule) or
        "no optimizer's state", rule)
    end
    local slots, used = {}, { lr = true, rule = true }
    for name, p in named(self.target) do
      if t[name .. ".step"] then
        slots[p.id] = read_slot(self, name, p, function(key)
          local full = name .. "." .. key
          if not mg.is_variable(t[full]) then raise("load_state: %s is missing", full) end
          used[full] = true
          return t[full]
        end)
      end
    end
    for name in pairs(t) do
      if not used[name] then raise("load_state: %s is unexpected", tostring(name)) end
    end
    if not mg.is_variable(t.lr) then raise("load_state: lr is missing") end
    local lr = getmetatable(self).check { lr = t.lr:item() }
    mg._commit({}, {}, { n = 6, self.values, "lr", lr, self, "slots", slots })
    return self
  end)

return Optimizer
