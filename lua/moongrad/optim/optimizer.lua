-- What all optimizers share: whose parameters, the options, hooks, state, and the step itself.
--
-- A rule is a class with options, as they stand in a signature, `buffers`, the names of the arrays
-- it keeps for each parameter (zeros at first, of its shape; one number where `single` has the
-- name) or a function of the optimizer that gives them, and update(p, g, s), which returns p and
-- those of its buffers in s that change, and their new values: two tables for mg.assign, which
-- computes them in one pass over memory and in place, since mg.tidy leaves nobody else who sees the
-- old ones. (So use p itself in update; p.data would be such another.) s.step counts p's updates
-- from 1; s is a copy, and counts when the step has succeeded.
-- While mg.compile records, s.step and self.lr are Variables, numbers that each replay asks for:
-- what Lua's own functions make of them is computed by self:numbers(s, fn), see rules.lua. Other
-- options that update reads are constants of the record, which is made anew when one has changed;
-- those that schedules change are read by self:numbers and self:is_zero.
-- `prepare`, if any, looks at the options together.
--
-- Parameters may come in groups: a group is an object like the optimizer, with a target and options
-- of its own, and the optimizer's where it has none. So update may be called on a group. An
-- optimizer without groups is its own only one.
--
-- A step is done as a whole: the new values of all parameters are computed together, and only then
-- does anything change. If it fails, grads that hooks have changed are put back.
--
--   local Sign = optim.Optimizer:extend("Sign", "lr: number(0..) = 1e-3", "p - lr sign(g)")
--   function Sign:update(p, g) return { p }, { p - self.lr * g:sign() } end

local mg = require "moongrad"
local check_list = require "moongrad.list"
local Object = require "moongrad.class"
local field = require "moongrad.field"
local kinds = require "moongrad.nn.kinds"
local raise, tidy, checked, gather = mg.raise, mg.tidy, mg.checked, mg._gather

local Optimizer = Object:extend("Optimizer")
Optimizer:_refuse_torch "an optimizer"
Optimizer.is_optimizer = true

function Optimizer:update()
  raise("%s: no update method", getmetatable(self).__name)
end

Optimizer.buffers, Optimizer.single = {}, {}

mg._docs[Optimizer] = "Optimizer:extend(name, options, doc)\n" ..
  "a rule of one's own: options as in a signature, self.lr ... in update(self, p, g, s), which " ..
  "gives what changes and the new values, two lists: {p, s.v}, {p - self.lr * v, v}; s has the " ..
  "arrays that the class's field buffers names, zeros at first, and s.step, from 1"

-- ---- options ----------------------------------------------------------------------------------

-- They are fields: what is assigned to one is checked as by the constructor, to a place of a list
-- at the next step. There are no others.
local function read(self, name)
  local values = rawget(self, "values") -- nil while it is made
  local value = values and values[name]
  if value ~= nil then return value end
  local class = getmetatable(self)
  value = class[name]
  if value == nil and rawget(class, "_missing") then class._missing(self, name) end
  return value
end

-- The values of options that an optimizer or a group is given, by name; or an error, and nothing
-- has changed.
local function checked_options(self, given)
  local class, own = getmetatable(self), {}
  local all = {class.check(given)}
  for i, name in ipairs(class.names) do
    if given[name] ~= nil then own[name] = all[i] end
  end
  if class.prepare then                            -- it looks at the options together
    local other = {}
    for k, v in next, self do other[k] = v end
    other.values = setmetatable(own, {__index = self.values})
    class.prepare(setmetatable(other, class))
  end
  return own
end

Optimizer._checked = checked_options

local function write(self, name, value)
  local class, values, known = getmetatable(self), rawget(self, "values"), false
  for _, option in ipairs(class.names) do known = known or option == name end
  if not known or value == nil then
    local near = not known and mg._near(tostring(name), class.names)
    raise("%s: %s%s", class.__name, value == nil and "no value for " .. tostring(name) or
      "there is no field " .. tostring(name), near and ("; did you mean %s?"):format(near) or "")
  end
  local checked_value = checked_options(self, {[name] = value})[name]
  if mg._recording() and not self:_is_within() then
    raise("%s: %s would be set once, not at each call of a function that mg.compile records: " ..
      "set it before the call, or step a schedule there", class.__name, name)
  end
  values[name] = checked_value
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return rawequal(a, b) end
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function copied(t) return table.move(t, 1, #t, 1, {}) end

-- Lists of numbers among the options as they were found right: opt.betas[1] = v passes write by.
local right = setmetatable({}, {__mode = "k"})

local function check_lists(self)
  local class = getmetatable(self)
  for _, name in ipairs(class._lists) do
    local list = rawget(self.values, name)
    if list and not same(list, right[list]) then
      class.check{[name] = list}
      if class.prepare then self:prepare() end
      right[list] = copied(list)
    end
  end
end

local function check_parameters(name, target)
  if #target == 0 then
    raise(next(target) == nil and "%s: the table of parameters is empty (a layer whose input " ..
      "size was left out has none before its first call)" or
      "%s: the table of parameters has keys, expected a list", name)
  end
  local of_module = getmetatable(target)
  if of_module and of_module.unfinished then
    raise("%s: the list is that of a model whose layers have not all seen an input: give the " ..
      "model itself", name)
  end
  local seen = {}
  check_list(name, "the table of parameters", target)
  for i, p in ipairs(target) do
    if not mg.is_variable(p) then
      raise("%s: parameter %d is a %s, expected a Variable%s", name, i, type(p),
        type(p) == "table" and "; of several models or lists make groups: {{params = a}, " ..
          "{params = b}}" or "")
    elseif kinds.kind(p) ~= "parameter" then
      raise("%s: parameter %d is not tracked, or has a creator: it would never change", name, i)
    elseif seen[p.id] then
      raise("%s: parameters %d and %d are the same", name, seen[p.id], i)
    end
    seen[p.id] = i
  end
end

-- A list of one's own, which changes to the one that was given do not reach; a module as it is,
-- unless what it calls its parameters is not what its fields hold, which are gone over at each step
local function own_list(name, target)
  if not target.named_parameters then return copied(target) end
  if target._every and target.parameters ~= target._every then
    raise("%s: %s has a method parameters of its own: give what it gives, model:parameters()", name,
      getmetatable(target).__name)
  end
  return target
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

local function check_new(seen, id, n, name, op)
  if seen[id] then
    raise("%s: parameter %s of group %d is in group %d already", op, name, n, seen[id])
  end
  seen[id] = n
end

-- Gives the group n that `given`, {params = ..., option = ...}, describes. `seen`: which group a
-- parameter is in, by id.
local function new_group(self, n, given, seen)
  local class, options = getmetatable(self), {}
  local target = type(given) == "table" and not mg.is_variable(given) and given.params
  if mg.is_variable(target) then target = {target} end
  if type(target) ~= "table" then
    raise("%s: group %d has no params, a module or a list of parameters", class.__name, n)
  end
  for k, v in pairs(given) do
    if k ~= "params" then options[k] = v end
  end
  if not target.named_parameters then
    check_parameters(class.__name .. ": group " .. n, target)
  end
  for name, p in named(target) do check_new(seen, p.id, n, name, class.__name) end
  local group = class._made(setmetatable({
    target = own_list(class.__name, target), values = setmetatable({}, {__index = self.values})
  }, class))
  for name, value in pairs(checked_options(group, options)) do group.values[name] = value end
  return group
end

local function are_groups(target)
  local first = target[1]
  return not target.named_parameters and type(first) == "table" and not mg.is_variable(first) and
    first.params ~= nil
end

-- Fields that all optimizers and groups have, beside their methods
local OWN = {values = true, target = true, groups = true, hooks = true, slots = true, params = true}

-- Of a rule of one's own; ours that depend on options are functions.
local function check_buffers(name, list)
  if type(list) == "function" then return end
  if type(list) ~= "table" then
    raise("%s: buffers is a %s, expected a list of names", name, type(list))
  end
  check_list(name, "buffers", list)
  for _, buffer in ipairs(list) do
    if type(buffer) ~= "string" or buffer == "step" or buffer == "number" then
      raise("%s: no buffer can be called %s", name, tostring(buffer))
    end
  end
end

-- Without options: the parent's.
local function extend(self, name, options, doc)
  options = options or self.options or ""
  local class = Object._extend(self, name)
  class.options = options:match "^%s*{(.*)}%s*$" or options
  class.names = {}
  for option in class.options:gsub("%b()", ""):gmatch "([%w_]+):" do
    if OWN[option] or rawget(Optimizer, option) ~= nil then
      raise("extend: no option of %s can be called %s: every optimizer has one of its own", name,
        option)
    end
    table.insert(class.names, option)
  end
  local braces = class.options:find "%S" and "{" .. class.options .. "}"
  local ok, parameters = pcall(mg._parameters, ("%s(%s)"):format(name, braces or ""))
  if not ok then raise("extend: %s", parameters) end
  class._lists = {}
  for _, p in ipairs(parameters.options) do
    if p.type:find "^numbers" then table.insert(class._lists, p.name) end
  end
  class.check = braces and mg.signature(("%s(%s)"):format(name, braces)) or function(given)
    local option = next(given)
    if option ~= nil then raise("%s: unknown option %s", name, tostring(option)) end
  end
  class.__index, class.__newindex = read, write
  class.init = checked(
    ("%s(self, target: module | table%s)"):format(name, braces and ", " .. braces or ""),
    doc or name,
    function(object, target, ...)
      -- a module is asked at every step, since lazily sized layers get their parameters late
      local grouped, values, groups = are_groups(target), {}, {object}
      if grouped then check_list(name, "the list of groups", target) end
      if not grouped and not target.named_parameters then check_parameters(name, target) end
      check_buffers(name, class.buffers)
      for i, option in ipairs(class.names) do values[option] = (select(i, ...)) end
      for k, value in pairs{values = values, target = own_list(name, target), groups = groups,
                            hooks = {}, slots = {}} do
        rawset(object, k, value)
      end
      if class.prepare then object:prepare() end
      if not grouped then return end
      local seen = {}
      for i, given in ipairs(target) do groups[i] = new_group(object, i, given, seen) end
    end)
  return class
end

Optimizer.extend = checked("extend(self, name: string, options: string?, doc: string?)",
  "a rule of one's own", extend)

local function buffers(self)
  local list = self.buffers
  return type(list) == "function" and list(self) or list
end

local function zeros(group, name, p)
  if group.single[name] then return mg.zeros{dtype = p.dtype} end
  return mg.zeros_like(p)
end

local function settings(names, values)
  local parts = {}
  for _, name in ipairs(names) do
    local value = values[name]
    if type(value) == "table" then
      value = "{" .. mg._format("%s" .. (", %s"):rep(#value - 1), table.unpack(value)) .. "}"
    end
    if value ~= nil then parts[#parts + 1] = mg._format("%s = %s", name, value) end
  end
  return table.concat(parts, ", ")
end

function Optimizer:__tostring()
  local class, lines = getmetatable(self), {}
  lines[1] = ("%s(%s)"):format(class.__name, settings(class.names or {}, self))
  for i, group in ipairs(rawget(self, "groups") or {}) do
    if group ~= self then
      local own = settings(class.names, setmetatable({}, {
        __index = function(_, name) return rawget(group.values, name) end
      }))
      lines[#lines + 1] = ("  group %d%s"):format(i, own == "" and "" or ": " .. own)
    end
  end
  return table.concat(lines, "\n")
end

Optimizer.add_group = checked("add_group(self, group: table)",
  "one more group of parameters: {params = a module or a list, lr = ...}; options it does not " ..
    "name are the optimizer's. opt.groups lists all groups, whose options may be assigned; " ..
    "schedules made before leave an lr of its own alone",
  function(self, given)
    local seen, groups = {}, self.groups
    for n, group in ipairs(groups) do
      for _, p in named(group.target) do seen[p.id] = n end
    end
    groups[#groups + 1] = new_group(self, #groups + 1, given, seen)
  end)

Optimizer.cleargrads = checked("cleargrads(self)",
  "the grad of every parameter of all groups becomes nil",
  function(self)
    local list = {}
    for _, group in ipairs(self.groups) do
      for _, p in named(group.target) do list[#list + 1] = p end
    end
    mg._set_all(list)
  end)

-- ---- steps ------------------------------------------------------------------------------------

Optimizer.add_hook = checked("add_hook(self, f: function)",
  "f(params) is called before each update, with the list of those that have a grad; it may " ..
  "assign to their grads; one whose grad it removes is not updated; nothing it does is " ..
  "recorded; grads that it gives would be lost, and are refused",
  function(self, f) self.hooks[#self.hooks + 1] = f end)

-- Iterates over name in the state, parameter, group.
local function all_named(self)
  local list, at = {}, 0
  for i, group in ipairs(self.groups) do
    local prefix = group == self and "" or i .. "."
    for name, p in named(group.target) do list[#list + 1] = {prefix .. name, p, group} end
  end
  return function()
    at = at + 1
    if list[at] then return table.unpack(list[at]) end
  end
end

-- What is kept for a Variable in whose place a module has one of params since :to(dtype) is that
-- one's.
local function take_over(self, params)
  local present                       -- the ids of all there are, when it is asked for
  for _, p in ipairs(params) do
    local former = not self.slots[p.id] and kinds.former[p]
    while former do
      local id, old, s = former.id, self.slots[former.id], {}
      former = former.before
      if old then
        if not present then
          present = {}
          for _, other in all_named(self) do present[other.id] = true end
        end
        for k, v in next, old do s[k] = mg.is_variable(v) and mg.tensor(v, p.dtype) or v end
        mg._commit({}, {}, {n = 6, self.slots, p.id, s, self.slots, id, present[id] and old or nil})
        break
      end
    end
  end
end

-- What is kept for p, for its next step. A buffer may come later, with an option given then.
local function next_slot(self, group, p)
  local s, old, names = {}, self.slots[p.id], buffers(group)
  if old then
    for k, v in next, old do s[k] = v end
  end
  s.step = old and old.step + 1 or 1
  for i = 1, #names do
    local name = names[i]
    s[name] = s[name] or zeros(group, name, p)
  end
  return s
end

-- What a rule computes of options and of the count of updates, by a function of both that is the
-- same at each step. While a function is recorded these numbers are asked for before each
-- replay.
function Optimizer:numbers(s, fn)
  if s.number then return s.number(fn) end
  return fn(self, s.step)
end

-- Is this option 0? A record asks no more of it: all other values are one to it.
function Optimizer:is_zero(name) return self[name] == 0 end

-- Two lists; a third would be lost.
local function lists(self, to, from, ...)
  if select("#", ...) > 0 then
    raise("%s: update gave %d results, expected two lists", getmetatable(self).__name,
      2 + select("#", ...))
  end
  return to, from
end

-- Through which update sees a slot: what it set there would be neither saved nor recorded.
local function view_of_slots(class)
  return setmetatable({}, {__newindex = function(_, k)
    k = tostring(k)
    raise("%s: update sets s.%s, which would not be kept: name it in the class, " ..
      "%s.buffers = {%q}, and give it, {p, s.%s}, {new p, new %s}", class, k, class, k, k, k)
  end})
end

local function update(attempt, self, params, owners, slots, recorded)
  local targets, values, fields, n = {}, {}, {}, 0
  local seen = view_of_slots(getmetatable(self).__name)
  local meta = getmetatable(seen)
  for i, p in ipairs(params) do
    local s, g = slots[i], p.grad
    if s and g then
      meta.__index = s
      local to, from = lists(self, self.update(owners[i], p, g, seen))
      local lists_fit, stray = gather(targets, values, to, from, p, s)
      if stray then
        raise("%s: target %d that update gave is neither the parameter nor one of its buffers, " ..
          "and would be lost", getmetatable(self).__name, stray)
      elseif not lists_fit then
        raise("%s: update gave no two lists of one length, of targets and of their values",
          getmetatable(self).__name)
      end
      if not recorded then
        fields[n + 1], fields[n + 2], fields[n + 3] = self.slots, p.id, s
        n = n + 3
      end
    end
  end
  fields.n = n
  mg._commit(targets, values, fields, attempt)
end

-- ---- recorded -----------------------------------------------------------------------------------

-- Buffers are made outside the record, which reads and changes them as it does parameters; they
-- become the optimizer's after the first replay, as every replay counts one update. What a rule
-- sees of a group has its lr, and of a slot its step, as numbers that are asked for. What it reads
-- of other options is noted. Parameters that were updated equally often share what is asked for: a
-- record that finds them apart, since some were frozen meanwhile, is made anew.

-- By optimizer, of the record in the making: slots that are new, and how often each was updated.
local records = setmetatable({}, {__mode = "k"})

local function record_of(self)
  local record, serial = records[self], mg._recording()
  if not record or record.serial ~= serial then
    record = {serial = serial, fresh = {}, updates = {}}
    records[self] = record
  end
  return record
end

local function lacks(group, s)
  for _, name in ipairs(buffers(group)) do
    if not s[name] then return true end
  end
  return false
end

local function fresh_slot(group, p, old)
  local s = {step = 0}
  for k, v in pairs(old or {}) do s[k] = v end
  for _, name in ipairs(buffers(group)) do
    s[name] = s[name] or mg._outlive(zeros(group, name, p))
  end
  return s
end

local function lr_of(group) return group.lr end
local function step_of(_, step) return step end

-- A group as update sees it. What it reads is noted: by option its value, and whether it is 0.
local function view(group, notes, number)
  local values, zeroes = {}, {}
  notes[group] = {values = values, zeroes = zeroes}
  local function is_zero(_, name)
    zeroes[name] = group[name] == 0
    return zeroes[name]
  end
  return setmetatable({is_zero = is_zero}, {__index = function(_, k)
    if k == "lr" then return number(group, nil, lr_of) end
    local value = group.values[k]
    if value ~= nil then values[k] = type(value) == "table" and copied(value) or value end
    return group[k]
  end, __newindex = function(_, k)
    raise("%s: update sets self.%s, which would be lost in a function that mg.compile records",
      getmetatable(group).__name, tostring(k))
  end})
end

local function unchanged(notes)
  for group, note in pairs(notes) do
    for k, v in pairs(note.values) do
      if not same(group[k], v) then return false end
    end
    for k, v in pairs(note.zeroes) do
      if (group[k] == 0) ~= v then return false end
    end
  end
  return true
end

-- From here on in the record lr is another than what is asked for before each replay.
function Optimizer:scheduled() record_of(self).scheduled = true end

local function recorded_update(attempt, self, params, owners)
  local record, slots, kept, seen, notes = record_of(self), self.slots, {}, {}, {}
  if record.scheduled then
    raise("step: in a function that mg.compile records a schedule steps after its optimizer")
  end
  local hooks, ngroups = #self.hooks, #self.groups
  local earlier, counted, counts = {}, {}, {}
  -- Is all as it was recorded? And what is set after the replay: the counts of updates.
  local function known()
    if #self.hooks ~= hooks or #self.groups ~= ngroups or not unchanged(notes) then return false end
    for id, s in pairs(kept) do
      local now = self.slots[id]
      if not now and s.step > 0 then return false end
      for k, v in pairs(now or {}) do
        if k ~= "step" and not rawequal(v, s[k]) then return false end
      end
    end
    local n, now = 0, {}
    for id, s in pairs(kept) do
      local steps, count = (self.slots[id] or s).step + earlier[id] + 1, counts[id]
      now[count] = now[count] or steps
      if now[count] ~= steps then return false end
      counted[n + 1], counted[n + 2], counted[n + 3] = s, "step", steps
      counted[n + 4], counted[n + 5], counted[n + 6], n = self.slots, id, s, n + 6
    end
    return true, counted
  end
  mg._ask(0, known)
  -- What fn gives for a group and the next update of id, once for all parameters alike
  local function number(group, id, fn)
    local before = id and record.updates[id] or 0
    local at = id and kept[id].step + before or -1
    local of = seen[group] or {}
    seen[group] = of
    of[fn] = of[fn] or {}
    if not of[fn][at] then
      local function ask()
        local now = id and (self.slots[id] or kept[id])
        return fn(group, now and now.step + before + 1)
      end
      of[fn][at] = table.pack(mg._ask(select("#", ask()), ask))
      for _, v in ipairs(of[fn][at]) do mg._outlive(v) end
    end
    return table.unpack(of[fn][at])
  end
  local groups, copies, views = {}, {}, {}
  for i, p in ipairs(params) do
    local group, id = owners[i], p.id
    if p.grad then
      local s = record.fresh[id] or slots[id]
      if not s or lacks(group, s) then
        s = mg._outside(fresh_slot, group, p, s)
        record.fresh[id] = s
      end
      kept[id], earlier[id] = s, record.updates[id] or 0
      counts[id] = s.step + earlier[id] + 1
      local copy = {number = function(fn) return number(group, id, fn) end}
      for k, v in pairs(s) do copy[k] = k ~= "step" and v or nil end
      copies[i] = setmetatable(copy, {__index = function(_, k)
        return k == "step" and number(group, id, step_of) or nil
      end})
    end
    views[group] = views[group] or view(group, notes, number)
    groups[i] = views[group]
  end
  tidy(update, attempt, self, params, groups, copies, true)
  for id in pairs(kept) do record.updates[id] = (record.updates[id] or 0) + 1 end
end

-- Each has a list of its own, to sort and to cut as it likes. A hook may end in a call, of
-- clip_grad_norm say, but new grads that it gave would be lost.
function Optimizer:run_hooks(params)
  for i, hook in ipairs(self.hooks) do
    local given = copied(params)
    local result = hook(given)
    if mg.is_variable(result) or type(result) == "table" and not rawequal(result, given) then
      raise("step: hook %d gave a %s, which is not used: new grads are assigned, p.grad = g", i,
        type(result) == "table" and "table" or "Variable")
    elseif type(result) == "function" then
      raise("step: hook %d gave a function, which is not used: f in place of f(...), say " ..
        "optim.clip_grad(1)?", i)
    end
  end
end

local function hooks_and_update(attempt, self, params, owners)
  self:run_hooks(params)
  if mg._recording() and not self:_is_within() then
    return recorded_update(attempt, self, params, owners)
  end
  local slots = {}
  for i, p in ipairs(params) do slots[i] = p.grad and next_slot(self, owners[i], p) end
  tidy(update, attempt, self, params, owners, slots)
end

-- Where no parameter has a grad: could any ever have one?
local function check_idle(self)
  local n = 0
  for _, group in ipairs(self.groups) do
    for name, p in named(group.target) do
      n = n + 1
      if not group.target.named_parameters then kinds.check_place("step", name, p, true) end
    end
  end
  if n == 0 then
    raise("step: there are no parameters: a module's stand in its fields, in layers and tables " ..
      "there, not in functions or its class")
  end
end

local function step(self)
  local params, owners, seen = {}, {}, #self.groups > 1 and {}
  check_lists(self)
  for n, group in ipairs(self.groups) do
    if getmetatable(group) ~= getmetatable(self) then
      raise("step: group %d was not made by add_group", n)
    end
    if group ~= self then check_lists(group) end
    for name, p in named(group.target) do
      if p.requires_grad and p.grad then
        params[#params + 1], owners[#params + 1] = p, group
        if seen then check_new(seen, p.id, n, name, "step") end
      elseif p.requires_grad and not group.target.named_parameters then
        kinds.check_place("step", name, p)
      end
    end
  end
  if #params == 0 then return check_idle(self) end -- no update, before which hooks were called
  if next(kinds.former) then mg._outside(take_over, self, params) end
  mg.no_grad(mg._attempt, params, hooks_and_update, self, params, owners)
end

Optimizer.step = checked("step(self)",
  "updates every parameter that has a grad and is not frozen (requires_grad = false)", step)

-- ---- state ------------------------------------------------------------------------------------

-- "l1.weight.m" is buffer m of the parameter l1.weight, "2.l1.weight.m" if it is in the second
-- group; "lr" is the rate, or the optimizer's and those of its groups; "rule" is the class.

local function rates(self)
  local list = {self.lr}
  for _, group in ipairs(self.groups) do
    if group ~= self then list[#list + 1] = group.lr end
  end
  return list
end

Optimizer.state = checked("state(self)",
  "what later steps depend on, the lr among it but no other option: a flat table, as mg.save " ..
    "wants it",
  function(self)
    local lr, t = rates(self), {rule = getmetatable(self).__name}
    if self.lr then t.lr = mg.tensor(#lr > 1 and lr or lr[1], "float64") end
    if next(kinds.former) then
      local params = {}
      for _, p in all_named(self) do params[#params + 1] = p end
      take_over(self, params)
    end
    for name, p in all_named(self) do
      for k, v in pairs(self.slots[p.id] or {}) do
        t[name .. "." .. k] = mg.is_variable(v) and v.data or mg.tensor(v, "int64")
      end
    end
    return t
  end)

local function text(x) return "(" .. table.concat(x.shape, ", ") .. ")" end

-- The slot of one parameter, from what a state says of it; `take` gives its entries.
local function read_slot(group, name, p, take)
  local steps = take("step")
  local s = { step = steps.size == 1 and math.tointeger(steps:item()) }
  if not s.step or s.step < 1 or s.step > 1 << 53 then
    raise("load_state: %s.step is %s, expected a number of updates", name, tostring(steps))
  end
  for _, key in ipairs(buffers(group)) do
    local v, want = take(key), group.single[key] and "()" or text(p)
    if text(v) ~= want then
      raise("load_state: %s.%s is %s, expected %s", name, key, text(v), want)
    end
    s[key] = mg.tensor(v, p.dtype)
  end
  return s
end

-- The rates that a state says, checked, as fields to set: a group's that is not the optimizer's
-- becomes its own.
local function read_rates(self, lr, fields)
  local check, have = getmetatable(self).check, rates(self)
  if self.lr == nil then return end
  if not mg.is_variable(lr) then raise("load_state: lr is missing") end
  if lr.size ~= #have then
    raise("load_state: lr has %d numbers, expected %d: the groups differ", lr.size, #have)
  end
  local list = lr:reshape(lr.size):totable()
  for i, v in ipairs(list) do
    list[i] = check{lr = v}
    local group = i == 1 and self or self.groups[#self.groups - #list + i]
    if i == 1 or list[i] ~= list[1] or rawget(group.values, "lr") then
      field(fields, group.values, "lr", list[i])
    end
  end
end

-- Lazily sized layers must have their sizes by now: load the model first.
Optimizer.load_state = checked("load_state(self, state: table, metadata: table?)",
  "takes what state() gave for a like set of parameters; after an error nothing has changed",
  function(self, t)
    local rule = getmetatable(self).__name
    if t.rule ~= rule then
      raise("load_state: this is %s, not of %s", type(t.rule) == "string" and "the state of " ..
        t.rule or "no optimizer's state", rule)
    end
    local slots, used = {}, { lr = self.lr ~= nil, rule = true }
    for name, p, group in all_named(self) do
      if t[name .. ".step"] then
        slots[p.id] = read_slot(group, name, p, function(key)
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
    local fields = {n = 3, self, "slots", slots}
    read_rates(self, t.lr, fields)
    mg._commit({}, {}, fields)
    return self
  end)

return Optimizer
