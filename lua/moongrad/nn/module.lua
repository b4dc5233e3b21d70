-- nn.Module: a thing with parameters and a forward.
--
--   local Net = nn.Module:extend("Net")
--   function Net:init(n) self.l1, self.l2 = nn.Linear(n), nn.Linear(10) end
--   function Net:forward(x) return self.l2(mg.relu(self.l1(x))) end
--   local y = Net(128)(x)
--
-- There is no registration. What a module owns is found by walking its fields, in order of their
-- names, through sub-modules and plain tables of them:
--   parameter   what nn.Parameter made, or any other tracked leaf; frozen ones remain parameters
--   buffer      what nn.Buffer made: untracked, but part of the state (running means)
-- Members of an array are counted from 0 in names, unlike everywhere else in Lua: "0.weight" is
-- what PyTorch's files say, and they must load here and ours there. The functions standing in a
-- Sequential are counted as well, as nn.ReLU() is there.
--
-- A layer may leave its input size open until it is known. Then it has no parameters yet, and its
-- method _infer(find) makes them from a file: find "weight" gives the array of that name or nil.
-- The dtype of parameters still to be made is the field dtype.

local mg = require "moongrad"
local Object = require "moongrad.class"
local field = require "moongrad.field"
local kinds = require "moongrad.nn.kinds"
local Parameter, Buffer, kind, settled = kinds.Parameter, kinds.Buffer, kinds.kind, kinds.settled
local is_variable, raise, checked = mg.is_variable, mg.raise, mg.checked

local Module = Object:extend("Module")
Module.is_module = true

Module:_refuse_torch "a module"

local check_made, check_class

-- A module that could not be made wholly has drawn no random numbers.
Module.extend = checked("extend(self, name: string)", "a class of modules", function(self, name)
  local class = Object._extend(self, name)
  local meta = getmetatable(class)
  local make = meta.__call
  meta.__call = mg._drawing(function(...)
    local before = mg.tensor(0).id
    return check_made(make(...), before)
  end)
  return class
end)

mg._docs[Module] = "Module:extend(name: string)\n" ..
  "a class: init(self, ...) makes fields, forward(self, x) uses them; M(...) makes one, " ..
  "model(x) calls it"

function Module:forward()
  raise("%s: no forward method", getmetatable(self).__name)
end

-- What stood in a field as a parameter or buffer, by table and key; see note.
local known = setmetatable({}, { __mode = "k" })

local function remember(t, k, of)
  local old = known[t]
  if old then old[k] = of elseif of then known[t] = { [k] = of } end
end

local MODE = "%s.%s: a module has no mode of its own; modes come from mg.Config.train, as in " ..
  "mg.test_mode(function() ... end)"

-- In a method's place: a function, or what is called as one, such as a Function
local function is_method(v)
  local meta = type(v) == "table" and getmetatable(v)
  return type(v) == "function" or type(meta) == "table" and meta.__call and not meta.is_module
end

-- No field of an object or class may be one that nobody reads, or that hides a method.
local function check_field(name, k, v)
  if type(v) == "boolean" and (k == "train" or k == "training") then
    raise(MODE, name, k)
  elseif type(v) == "boolean" and k == "requires_grad" then
    raise("%s.requires_grad: only Variables have it; model:freeze() is for all parameters", name)
  elseif v and type(rawget(Module, k)) == "function" and not is_method(v) then
    raise("%s.%s: every module has a method of this name, which the field would hide: name it " ..
      "otherwise", name, k)
  end
end

-- Called for fields that are not there: one that was set to nil may become something else.
function Module:__newindex(k, v)
  local name = getmetatable(self).__name
  Object._check_name(name, k)
  check_field(name, k, v)
  remember(self, k, is_variable(v) and settled(v) or nil)
  rawset(self, k, v)
end

-- Hooks by module: {forward = {fn, ...}, backward = {fn, ...}}. They hang here, not on the module,
-- whose fields are the user's.
local hooks = setmetatable({}, { __mode = "k" })

local function hooked(self, list, ...)
  local given, results = table.pack(...), table.pack(self:forward(...))
  for _, fn in ipairs(list.forward) do
    local other = table.pack(fn(self, given, table.unpack(results, 1, results.n)))
    if other[1] ~= nil then results = other
    elseif other.n > 1 then
      raise("%s: a forward hook gave %d results, the first nil", getmetatable(self).__name, other.n)
    end
  end
  for _, watch in ipairs(list.backward) do
    for k = 1, results.n do
      local y = results[k]
      if is_variable(y) and y.requires_grad then
        results[k] = mg.hook(y, function(gy) return watch(self, gy, k) end)
      end
    end
  end
  return table.unpack(results, 1, results.n)
end

local function results(...) return ... end

-- No tail call: errors inside are told with the modules whose calls are under way.
function Module:__call(...)
  local list = hooks[self]
  if list then return results(hooked(self, list, ...)) end
  return results(self:forward(...))
end

Module.add_hook = checked('add_hook(self, when: "forward" | "backward", fn: function)',
  "forward: fn(module, {inputs}, outputs ...) after each call, what it gives takes their place; " ..
    "backward: fn(module, gradient, k) of output k, likewise. Gives a function that takes it away",
  function(self, when, fn)
    local list = hooks[self] or { forward = {}, backward = {} }
    hooks[self] = list
    local entry = function(...) return fn(...) end    -- one of its own, to be found again
    -- A call under way goes on with the list it began with.
    local function set(last)
      local new = {}
      for _, e in ipairs(list[when]) do new[#new + 1] = e ~= entry and e or nil end
      new[#new + 1] = last
      list[when] = new
    end
    set(entry)
    return function()
      set(nil)
      if hooks[self] == list and #list.forward + #list.backward == 0 then hooks[self] = nil end
    end
  end)

-- Tables of more than MANY numbers or strings and nothing else, by how long they were when they
-- were looked through: they are not walked at every step.
local plain, MANY = setmetatable({}, { __mode = "k" }), 64

-- true for a Variable or a table to look into: an array of members, or members by name, whatever
-- stands beside them.
local function member(v)
  local t = type(v)
  if t == "userdata" then return is_variable(v) end
  if t ~= "table" then return false end
  local class = getmetatable(v)
  if class then return class.is_module or false end
  if plain[v] == #v then return false end
  local n = 0
  for _, x in next, v do
    t = type(x)
    if t == "table" or t == "userdata" or t == "function" then return true end
    n = n + 1
  end
  plain[v] = n > MANY and #v or nil
  return false
end

-- For the key of a member: it has a place in names.
local function check_named(k, v)
  local variable = is_variable(v)
  if variable and kind(v) or not variable and member(v) and getmetatable(v) then
    raise("a %s stands under the key %s: those of layers and parameters are names or whole numbers",
      variable and kind(v) or getmetatable(v).__name, tostring(k))
  end
end

-- The fields that lead to parameters, in order: all layers of a model at every step.
local function members(t, more)
  local keys, numbers, names = {}, 0, 0
  for k, v in pairs(t) do
    local kind_of_key = math.type(k) or type(k)
    if (kind_of_key == "string" or kind_of_key == "integer") and member(v) then
      if kind_of_key == "string" then names = names + 1 else numbers = numbers + 1 end
      keys[names + numbers] = k
    elseif kind_of_key == "float" or kind_of_key == "boolean" then
      check_named(k, v)
    end
  end
  if more then
    for k, v in pairs(more) do
      if rawget(t, k) == nil and type(k) == "string" and member(v) then
        names = names + 1
        keys[names + numbers] = k
      end
    end
  end
  if names + numbers > 1 then
    table.sort(keys, names > 0 and mg._before or nil)
  end
  return keys
end

-- Does no older leaf have a gradient by v? All that was there before has an id up to `before`.
local function made_since(before, v, seen)
  if v.id <= before then return not v.requires_grad end
  if seen[v.id] or not v.creator then return true end
  seen[v.id] = true
  for _, x in ipairs(v.creator.inputs) do
    if not made_since(before, x, seen) then return false end
  end
  return true
end

-- What init computed from a parameter that it made, 0.1 * nn.Parameter(x), is none, and nobody has
-- the other any more.
function check_made(object, before)
  for k, v in next, object do
    if is_variable(v) and v.creator and v.requires_grad and made_since(before, v, {}) then
      raise("%s: %s is the result of %s, not a parameter, and would not be trained: give " ..
        "nn.Parameter the value", getmetatable(object).__name, k, v.creator.name)
    end
  end
  check_class(getmetatable(object), object)
  return object
end

-- How one gets from t to a module in it, as one would write it: "[2].conv1"; nil: one does not.
local function way(t, to, seen)
  seen[t] = true
  for _, k in ipairs(members(t)) do
    local v = t[k]
    local step = type(k) == "string" and "." .. k or "[" .. k .. "]"
    if v == to then return step end
    local rest = type(v) == "table" and not seen[v] and way(v, to, seen)
    if rest then return step .. rest end
  end
end

-- Behind the text of an error: in which of nested modules, from the innermost on, it arose. `name`
-- is what its caller calls the outermost. Where one is not in the one before, the path begins anew.
mg._path(Module.__call, function(name, ...)
  local modules = {...}
  local text = name or getmetatable(modules[#modules]).__name
  for i = #modules - 1, 1, -1 do
    local step = way(modules[i + 1], modules[i], {})
    text = step and text .. step or getmetatable(modules[i]).__name
  end
  local class = getmetatable(modules[1]).__name
  return ("; in %s%s"):format(text, text == class and "" or (" (%s)"):format(class))
end)

-- For trees. The keys of a module, or of a table in one, that lead to parameters; nil: a layer
-- whose parameters are still to be made.
function Module._keys(t)
  local keys, own = {}, false
  for _, k in ipairs(members(t)) do
    local v = t[k]
    local variable = is_variable(v)
    if not variable or kind(v) == "parameter" then keys[#keys + 1] = k end
    own = own or variable
  end
  if not own and getmetatable(t) and t._infer then return nil end
  return keys
end

Module._adopt = kinds.adopt

local LOST = "%s was a %s and is %s now: assign its values, %s.data = x, or make the new one " ..
  "by nn.%s(x)"

local function refuse_lost(name, old, now)
  raise(LOST, name, old, now, name, old == "buffer" and "Buffer" or "Parameter")
end

-- The kind of the Variable v in t[k]. A buffer's new value is a buffer. A constant or the result of
-- an op in a parameter's place would be trained and saved no more, and nobody would be told.
local function note(t, k, v, name, old)
  local of = settled(v)
  if of then
    if not old or old[k] ~= of then remember(t, k, of) end
  elseif old and old[k] == "buffer" and not v.creator then
    kinds.adopt(v, "buffer")
    of = "buffer"
  elseif old and old[k] then
    refuse_lost(name, old[k], v.creator and "the result of " .. v.creator.name or "a constant")
  end
  return of
end

-- As files and messages have it: lists are counted from 0 there.
local function name_of(prefix, k) return prefix .. (type(k) == "string" and k or k - 1) end

-- Numbers are no member, and would not be seen where a parameter or buffer stood.
local function check_lost(t, old, prefix)
  for k, of in next, old do
    local v = rawget(t, k)
    if type(v) ~= "userdata" and v then
      local data = v
      while type(data) == "table" and not getmetatable(data) do data = data[1] end
      if type(data) == "number" then
        refuse_lost(name_of(prefix, k), of,
          type(v) == "table" and "a table of numbers" or "a number")
      end
    end
  end
end

-- Calls on_variable(name, variable, table, key) for all parameters and buffers below t, shared
-- ones once for each name, and on_module(module, prefix) for a module before its members.
-- `path` is the set of tables we are inside of: a module may know its parent. `more` has fields by
-- table that are to be seen as if they stood there.
local NONE = {}
local function walk(t, on_variable, on_module, more, prefix, path)
  prefix, path = prefix or "", path or {}
  path[t] = true
  if on_module and getmetatable(t) then on_module(t, prefix) end
  local old = known[t]
  if old then check_lost(t, old, prefix) end
  local new = more and more[t] or NONE
  for _, k in ipairs(members(t, new)) do
    local v = new[k] or t[k]
    local name = name_of(prefix, k)
    if is_variable(v) then
      if note(t, k, v, name, old) then on_variable(name, v, t, k) end
    elseif not path[v] then
      walk(v, on_variable, on_module, more, name .. ".", path)
    end
  end
  path[t] = nil
end

local function is_a(class, object)
  local c = getmetatable(object)
  while c ~= class and c ~= Module do c = getmetatable(c).__index end
  return c == class
end

-- A parameter in a class is found by its objects, which have no such field: it would be computed
-- with, and never trained. Unless it is that of another object, which the class has a list of.
function check_class(class, object)
  while class ~= Module do
    for k, v in next, class do
      local named = type(v) ~= "function" and type(k) == "string" and k:sub(1, 2) ~= "__"
      if named then check_field(class.__name, k, v) end
      if named and member(v) and rawget(object, k) == nil then
        local trained, objects = false, false
        walk({ v }, function(_, p) trained = trained or p.requires_grad end, function(m)
          trained = trained or m:_is_waiting()
          objects = objects or is_a(class, m)
        end)
        if trained and not objects then
          raise("%s: %s stands in the class, not in its objects: make it in init, self.%s = ...",
            class.__name, k, k)
        end
      end
    end
    class = getmetatable(class).__index
  end
end

-- For moongrad.dist: on_variable(name, variable, kind), on_module(module).
function Module:_walk(on_variable, on_module)
  walk(self, function(name, v) on_variable(name, v, kind(v)) end, on_module)
end

-- {name, parameter} of all, and whether a layer waits for its first input, whose are not there yet.
-- A shared one comes once, by its first name.
local function collect(self)
  local list, seen, waits = {}, {}, false
  walk(self, function(name, v)
    if kind(v) == "parameter" and not seen[v.id] then
      seen[v.id] = true
      list[#list + 1] = { name, v }
    end
  end, function(module)
    waits = waits or module:_is_waiting()
  end)
  return list, waits
end

Module.named_parameters = checked("named_parameters(self)",
  'iterates over name, parameter: "l1.weight", W',
  function(self)
    local list, i = collect(self), 0
    return function()
      i = i + 1
      if list[i] then return list[i][1], list[i][2] end
    end
  end)

-- The result is an array, and can stand in a for loop as it is: for p in model:parameters() do.
-- Where another loop goes over it meanwhile, `last` says where this one is.
local parameter_list = {
  __call = function(self, _, last)
    local i = last == nil and 0 or self.at
    if last ~= nil and self[i] ~= last then
      for k, p in ipairs(self) do
        if p == last then i = k end
      end
    end
    self.at = i + 1
    return self[i + 1]
  end
}

-- ... of a module some of whose layers have none yet: optimizers take none of these.
local function unfinished_list(module)
  return {__call = parameter_list.__call, unfinished = module}
end

Module.parameters = checked("parameters(self)", "a list of them; for p in model:parameters() do",
  function(self)
    local all, waits = collect(self)
    local list = setmetatable({}, waits and unfinished_list(self) or parameter_list)
    for i, each in ipairs(all) do list[i] = each[2] end
    return list
  end)

Module._every = Module.parameters    -- whatever a class of one's own has under that name

local function listed(self)
  local list = {}
  for _, p in self:named_parameters() do list[#list + 1] = p end
  return list
end

Module.cleargrads = checked("cleargrads(self)", "every parameter's grad becomes nil",
  function(self) mg._set_all(listed(self)) end)

-- For walk: a layer that waits for its first input is an error.
local function no_waiting(op)
  return function(module, prefix)
    if module:_is_waiting() then
      raise("%s: %s has no parameters yet%s: it has not seen an input", op,
        getmetatable(module).__name, prefix == "" and "" or " (" .. prefix:sub(1, -2) .. ")")
    end
  end
end

-- Is there a layer that waits for its first input?
-- Some layers make their parameters when they see their first input.
function Module._is_waiting() return false end

function Module:_waits() return select(2, collect(self)) end

Module.freeze = checked("freeze(self, on: bool = true)",
  "requires_grad of all its parameters becomes false: no gradients, and optimizers pass them " ..
    "over; freeze(false) takes it back. What follows batch statistics still does: for a part " ..
    "that shall not, y = mg.test_mode(part, x)",
  function(self, on)
    walk(self, function() end, no_waiting "freeze")
    mg._set_all(listed(self), not on)
    return self
  end)

-- Copies of tables and of what they own by what was copied: what was shared is so again.
local function copy_of(v, copies)
  local variable = is_variable(v)
  local key = variable and v.id or v
  local copy = copies[key]
  if copy then return copy end
  if variable then
    local of = kind(v)
    if not of then return v end
    copy = (of == "parameter" and Parameter or Buffer)(v.data)
    copy.name, copy.requires_grad = v.name, v.requires_grad
    copies[key] = copy
  else
    copy = {}
    copies[key] = copy
    for k, e in pairs(v) do
      copy[k] = member(e) and copy_of(e, copies) or e
      remember(copy, k, is_variable(e) and kind(e) or nil)
    end
    setmetatable(copy, getmetatable(v))
  end
  return copy
end

Module.clone = checked("clone(self)",
  "a copy with parameters and buffers of its own, without grads and hooks; what else stands in " ..
    "fields is the same",
  function(self) return copy_of(self, {}) end)

-- A shared parameter stands under each of its names, as in PyTorch.
Module.state = checked("state(self)",
  "all parameters and buffers: a table from name to constant, which later training leaves alone",
  function(self)
    local t = {}
    walk(self, function(name, v)
      if t[name] then raise("state: two parameters or buffers are called %s", name) end
      t[name] = v.data
    end, no_waiting "state")
    return t
  end)

local function shape(x) return "(" .. table.concat(x.shape, ", ") .. ")" end

-- The fields that make(module, ...) would set
local function fields_of(module, make, ...)
  local class = setmetatable({ __index = module }, { __index = getmetatable(module) })
  local new = setmetatable({}, class)
  make(new, ...)
  return setmetatable(new, nil)
end

-- Makes the parameters that wait for their input's size: the fields that modules will have, by
-- module; and for those that wait still the name they looked for.
local function infer(self, t)
  local more, lost = {}, {}
  walk(self, function() end, function(module, prefix)
    if not module._infer or more[module] and next(more[module]) then return end
    local asked
    more[module] = fields_of(module, module._infer, function(name)
      local value = t[prefix .. name]
      if not value then asked = asked or prefix .. name end
      return value
    end)
    lost[module] = not next(more[module]) and module:_is_waiting() and asked or nil
  end)
  return more, lost
end

local Waiting = { __close = function(was)
  for k in next, was.made do rawset(was.layer, k, was.fields[k]) end
end }

local function sized(attempt, was, ...)
  mg._commit({}, {}, { n = 3, was, "made", {} }, attempt)
  return ...
end

-- build(self, size), by which a layer is sized at its first input, and then forward(self, ...),
-- which gives the results. If either fails, the layer waits as before, and no random numbers were
-- drawn: what it has not taken may have been of a wrong size.
function Module:_sized(build, size, forward, ...)
  return mg._attempt({}, function(attempt, ...)
    local fields, made = { n = 0 }, mg._outside(fields_of, self, build, size)
    local was = setmetatable({ layer = self, made = made, fields = {} }, Waiting)
    for k, v in pairs(made) do
      was.fields[k] = rawget(self, k)
      field(fields, self, k, v)
      remember(self, k, is_variable(v) and settled(v) or nil)
    end
    local _ <close> = was
    mg._commit({}, {}, fields)
    mg._grown()
    return sized(attempt, was, forward(self, ...))
  end, ...)
end

local SAME = { rtol = 0, atol = 0, equal_nan = true }

-- Names missing, names unexpected and shapes that differ are all told in one error, and then
-- nothing has changed. Of a shared parameter's names one is enough; others may say the same. If not
-- strict, what fits is taken, and the rest told in a report.
local function load_state(attempt, self, t, strict)
  for name, value in pairs(t) do
    if not is_variable(value) then
      raise("load_state: %s is a %s, expected a Variable", tostring(name), type(value))
    end
  end
  local more, lost = infer(self, t)
  local targets, values, names, used, wrong = {}, {}, {}, {}, {}
  local report = { missing = {}, unexpected = {}, mismatched = {} }
  local function add(list, name, text)
    list[#list + 1], wrong[#wrong + 1] = name, name .. text
  end
  walk(self, function(name, v)
    local id, value = v.id, t[name]
    targets[id], names[id] = v, names[id] or name
    if not value then return end
    used[name] = true
    if shape(value) == shape(v) then
      if values[id] and not mg.allclose(value, values[id], SAME) then
        add(report.mismatched, name,
          (" is the same parameter as %s and has another value"):format(names[id]))
      else
        values[id] = value
      end
    else
      values[id] = values[id] or false
      add(report.mismatched, name, (" is %s, expected %s"):format(shape(value), shape(v)))
    end
  end, nil, more)
  for id, name in pairs(names) do
    if values[id] == nil then add(report.missing, name, " is missing") end
  end
  for _, name in pairs(lost) do add(report.missing, name, " is missing") end
  for name in pairs(t) do
    if not used[name] then add(report.unexpected, tostring(name), " is unexpected") end
  end
  for _, list in pairs(report) do table.sort(list) end
  if strict and #wrong > 0 then
    table.sort(wrong)
    raise("load_state: %s", table.concat(wrong, "; "))
  end
  local to, from, fields = {}, {}, { n = 0 }
  for id, v in pairs(targets) do
    if values[id] then to[#to + 1], from[#from + 1] = v, values[id] end
  end
  for module, new in pairs(more) do
    for k, v in pairs(new) do field(fields, module, k, v) end
  end
  mg._commit(to, from, fields, attempt)
  if strict then return self end
  return self, report
end

-- Metadata are strings, and options are none.
local function is_strict(op, more)
  local strict = true
  for k, v in pairs(more or {}) do
    if type(v) ~= "string" then
      if k ~= "strict" then raise("%s: unknown option %s", op, tostring(k)) end
      if type(v) ~= "boolean" then
        raise("%s: option strict is a %s, expected true or false", op, type(v))
      end
      strict = v
    end
  end
  return strict
end

Module.load_state = checked("load_state(self, state: table, options: table?)",
  "takes what state() or mg.load gave, converting dtypes; metadata are passed over. " ..
    "{strict = false}: takes what fits, and gives a second result, a table of lists of names: " ..
    "missing, unexpected and mismatched (of another shape, or a shared one's second value)",
  function(self, t, more)
    return mg._attempt({}, load_state, self, t, is_strict("load_state", more))
  end)

-- Through mg.save and mg.load: a .safetensors file is PyTorch's state_dict.
Module.save = checked("save(self, path: string, {dtype: string?, metadata: table?})",
  "writes its state to a file, as mg.save does",
  function(self, path, dtype, metadata)
    mg.save(path, self:state(), {dtype = dtype, metadata = metadata})
  end)

Module.load = checked("load(self, path: string, {strict: bool = true})",
  "takes its state from a file, as load_state does",
  function(self, path, strict) return self:load_state((mg.load(path)), { strict = strict }) end)

Module.to = checked('to(self, dtype: "float32" | "float64")',
  "converts the floats among parameters and buffers, which become new Variables without a grad: " ..
    "an optimizer of the module goes on with what it kept, one of a list of them is made after",
  function(self, dtype)
    local converted, fields = {}, { n = 0 }
    walk(self, function(_, v, t, k)
      if v.dtype == dtype or v.dtype:sub(1, 5) ~= "float" then return end
      local new = converted[v.id]
      if not new then
        if mg._recording() then       -- they would have no value once it is recorded
          raise "to: not in a function that mg.compile records: call it before"
        end
        new = (kind(v) == "parameter" and Parameter or Buffer)(v.data:to(dtype))
        new.name, new.requires_grad = v.name, v.requires_grad
        converted[v.id] = new
      end
      kinds.replace(fields, v, new)
      field(fields, t, k, new)
      if v.grad then field(fields, v, "grad", nil) end -- nobody clears it any more
    end, function(module)
      if module.dtype == "float64" or module.dtype == "float32" then
        field(fields, module, "dtype", dtype)
      end
    end)
    if next(converted) then mg._converted() end -- first: an interruption may come after the commit
    mg._commit({}, {}, fields)
    return self
  end)

-- A function that takes it back to what it is now, layers that wait for their first input, too:
-- state() says nothing of these.
function Module:_snapshot()
  local tables, params, values, seen = {}, {}, {}, {}
  walk(self, function(_, v)
    if seen[v.id] then return end
    seen[v.id], params[#params + 1], values[#values + 1] = true, v, v.data
  end, function(module)
    local fields = {}
    for k, v in next, module do fields[k] = v end
    tables[module] = fields
  end)
  return function()
    local fields = { n = 0 }
    for module, old in pairs(tables) do
      for k in next, module do field(fields, module, k, old[k]) end
    end
    mg._commit(params, values, fields)
  end
end

-- What a layer prints between its parentheses.
function Module._describe() return "" end

-- Its members, and the functions of an array of layers.
local function shown(t)
  local keys = members(t)
  for i, v in ipairs(t) do
    if type(v) == "function" then keys[#keys + 1] = i end
  end
  table.sort(keys, mg._before)
  return keys
end

local function function_name(fn) return (mg._docs[fn] or "function"):match "^[^(\n]*" end

-- The text of what stands in a field; of a layer that says its sizes, not what it has.
local function describe(v, name, lines, path)
  local head, own, deep = nil, true, type(v) == "table" and not path[v]
  if is_variable(v) then head = ("%s %s"):format(kind(v), shape(v))
  elseif type(v) == "function" then head = function_name(v)
  elseif getmetatable(v) then
    local text = v:_describe()
    own = text == ""
    head = getmetatable(v).__name .. (own and "" or "(" .. text .. ")")
  end
  if head then lines[#lines + 1] = name == "" and head or "  " .. name .. ": " .. head end
  if not deep then return end
  path[v] = true
  for _, k in ipairs(shown(v)) do
    local e = v[k]
    if not is_variable(e) or own and kind(e) then
      local key = tostring(type(k) == "string" and k or k - 1)
      describe(e, name == "" and key or name .. "." .. key, lines, path)
    end
  end
  path[v] = nil
end

function Module:__tostring()
  local lines = {}
  describe(self, "", lines, {})
  return table.concat(lines, "\n")
end

-- Texts in columns; the last is of numbers.
local function columns(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for k, text in ipairs(row) do widths[k] = math.max(widths[k] or 1, #text) end
  end
  for i, row in ipairs(rows) do
    local format = ""
    for k, w in ipairs(widths) do
      format = format .. (k == 1 and "" or "  ") .. "%" .. (k == #widths and "" or "-") .. w .. "s"
    end
    lines[i] = format:format(table.unpack(row)):gsub(" +$", "")
  end
  return table.concat(lines, "\n")
end

Module.summary = checked("summary(self)",
  "prints its parameters and buffers with their shapes and sizes, and their sum, which it gives",
  function(self)
    local rows, seen, n, numbers, bytes = {}, {}, 0, 0, 0
    local width = { float64 = 8, int64 = 8, float32 = 4 }
    walk(self, function(name, v)
      local what = kind(v)
      if seen[v.id] then
        rows[#rows + 1] = { name, "is " .. seen[v.id], "", "" }
        return
      end
      seen[v.id] = name
      if what == "parameter" and not v.requires_grad then what = "frozen" end
      rows[#rows + 1] = { name, what == "parameter" and "" or what, shape(v), tostring(v.size) }
      if what ~= "buffer" then n, numbers = n + 1, numbers + v.size end
      bytes = bytes + v.size * (width[v.dtype] or 1)
    end, function(module, prefix)
      if module:_is_waiting() then
        rows[#rows + 1] = { prefix .. "?", "waits for its first input", "", "" }
      end
    end)
    print(("%s%s%s\n%d parameters of %d numbers, %d bytes with buffers"):format(
      getmetatable(self).__name, #rows > 0 and "\n" or "", columns(rows), n, numbers, bytes))
    return numbers
  end)

return { Module = Module, Parameter = Parameter, Buffer = Buffer }
