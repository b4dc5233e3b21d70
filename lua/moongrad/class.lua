-- Classes with single inheritance: what layers, datasets and optimizers are made of.
--
--   local Net = Base:extend("Net")     a class; Base's metamethods are copied when it is made
--   function Net:init(n) ... end       gets the arguments of Net(n)
--   local net = Net(10)
--
-- A class is the metatable of its instances and their __index, so methods and class fields are
-- found through it, and "is this an instance of ..." is a look at the metatable.

local Object = { __name = "Object" }
Object.__index = Object

local core = require "moongrad.core"
local raise = core.raise

-- Objects of sealed classes whose init is at work
local unfinished = setmetatable({}, {__mode = "k"})

-- By object, the record in whose making it was made, and the one that knows it to be its own
local born, noted = setmetatable({}, {__mode = "k"}), setmetatable({}, {__mode = "k"})

-- Does each replay make it anew? Its numbers are constants there, its Variables the record's own.
-- One that is kept would be found again by the function's next call, but by no replay.
function Object._is_within(object)
  local serial = core._recording()
  if not serial or born[object] ~= serial then return false end
  if noted[object] ~= serial then
    local left = setmetatable({object}, {__mode = "v"})
    core._ask(0, function()
      if left[1] then collectgarbage() end
      if not left[1] then return true end
      raise("mg.compile: %s was made by the function that is recorded, and kept: make it before " ..
        "the call", getmetatable(left[1]).__name)
    end)
    noted[object] = serial
  end
  return true
end

function Object._made(object)
  local serial = core._recording()
  if serial then born[object] = serial end
  return object
end

local function make(class, ...)
  local object = Object._made(setmetatable({}, class))
  local sealed = rawget(class, "_sealed")
  if sealed then unfinished[object] = true end
  local init = object.init
  if type(init) ~= "function" then
    raise("%s: its init is a %s, expected a function", class.__name, type(init))
  end
  init(object, ...)
  if sealed then unfinished[object] = nil end
  return object
end

local function describe(class) return "class " .. class.__name end

-- For an extend of one's own, whose signature has checked the arguments
function Object._extend(self, name)
  if not Object._is_class(self) then
    raise("extend: this %s is an object, expected a class", getmetatable(self).__name)
  end
  local class = {}
  for k, v in pairs(self) do
    if type(k) == "string" and k:sub(1, 2) == "__" then class[k] = v end
  end
  class.__name, class.__index = name, class
  local sealed = rawget(self, "_sealed")
  if sealed then class.__newindex = sealed.__newindex end
  return setmetatable(class, { __index = self, __call = make, __tostring = describe })
end

Object.extend = core.checked("extend(self, name: string)", "a class", Object._extend)

-- Of a class without one of its own, which has no use for arguments.
function Object:init(...)
  local class = getmetatable(self)
  if class.__init then raise("%s: __init is never called; it is init", class.__name) end
  if select("#", ...) == 0 then return end
  raise("%s: takes no arguments: it has no init", class.__name)
end

-- Is this a class? One answers by all its objects' methods, and has none of their fields.
function Object._is_class(v)
  return type(v) == "table" and rawget(v, "__index") and rawget(v, "__name")
end

-- For a __newindex: nil and nan name no field of an object, or of a class called `kind`.
function Object._check_name(kind, name)
  if name == nil or name ~= name then raise("%s: %s names no field", kind, tostring(name)) end
end

-- What pairs gives of t, as far as that goes
local function each(t, use)
  pcall(function() for name, value in pairs(t) do use(name, value) end end)
end

-- Calls use(name, value) for what can stand behind v, a table, and a dot or colon.
local function members(v, use)
  local seen = {}
  while type(v) == "table" and not seen[v] do
    seen[v] = true
    each(v, use)
    local meta = getmetatable(v)
    if type(meta) ~= "table" then return end
    each(rawget(meta, "names"), function(_, name) use(name, false) end)    -- an optimizer's
    each(rawget(meta, "_"), function(name) use(name, false) end)           -- a distribution's
    v = type(meta.__index) == "table" and meta.__index or rawget(meta, "__index") and meta or nil
  end
end

Object._each, Object._members = each, members

-- An object has no such field: an error that says what is near, of the names that list goes over.
local function refuse(object, name, what, list, foreign)
  local kind, names = getmetatable(object).__name, {}
  Object._check_name(kind, name)
  list(object, function(k)
    local own = type(k) == "string" and k:sub(1, 1) ~= "_" and rawget(Object, k) == nil
    names[#names + 1] = own and k or nil
  end)
  table.sort(names)
  if foreign then foreign(kind, name, names) end
  local near = core._near(tostring(name), names)
  raise("%s: there is no %s %s%s", kind, what, tostring(name),
    near and ("; did you mean %s?"):format(near) or "")
end

local function set_of(names)
  local set = {}
  for name in (names or ""):gmatch "%S+" do set[name] = true end
  return set
end

-- What anything is asked for, to learn what it can do: these names, and those with _ or is_ first
local ASKED =
  set_of "get batch take batches params parameters named_parameters state load_state"

local function is_asked(name)
  return type(name) ~= "string" or ASKED[name] or name:find "^_" or name:find "^is_"
end

-- Objects of this class have its fields and methods: what else is read of them raises, but for the
-- names in `absent`, which may be nil. Classes that extend it may do as they like again. An __index
-- of its own is to call _missing where it finds nothing.
function Object:_strict(absent)
  local known = set_of(absent)
  local function missing(object, name)
    if self.get and math.type(name) == "integer" then
      raise("%s: there is no [%d]: its items come by get(i), from 1 on", self.__name, name)
    end
    if known[name] or is_asked(name) then return end
    refuse(object, name, "field or method", members, require "moongrad.help".refuse_member)
  end
  self._missing = missing
  if self.__index == self then
    function self.__index(object, name)
      local value = self[name]
      if value == nil then missing(object, name) end
      return value
    end
  end
  return self
end

function Object._is_callable(v)
  local meta = getmetatable(v)
  return type(v) == "function" or type(meta) == "table" and meta.__call ~= nil
end

-- Likewise what is assigned: their fields are those that init makes, and those named in `late`; and
-- what can be called may take a method's place.
function Object:_seal(late, absent)
  local before = rawget(self, "__newindex")
  late, absent = set_of(late), ("%s %s"):format(late or "", absent or "")
  self._sealed = {__newindex = before}
  function self.__newindex(object, name, value)
    local known = unfinished[object] or late[name] or
      Object._is_callable(value) and rawget(Object, name) == nil and type(self[name]) == "function"
    if known then return (before or rawset)(object, name, value) end
    refuse(object, name, "field", each)
  end
  return Object._strict(self, absent)
end

-- For a class whose bases are Object alone: its objects have no places, though ipairs would walk
-- them. `how`: what one says instead.
function Object._no_places(class, how)
  getmetatable(class).__index = function(_, name)
    if math.type(name) == "integer" then
      raise("%s: there is no [%d]: %s", class.__name, name, how)
    end
    return Object[name]
  end
end

-- For a class whose bases are Object alone: a name that nobody down the line has may be PyTorch's,
-- and then raises an error that says ours. `what`: a module, say.
function Object._refuse_torch(class, what)
  local meta = getmetatable(class)
  meta.__index = function(_, name)
    local value = Object[name]
    if value == nil then require "moongrad.help".refuse_torch(what, name) end
    return value
  end
end

return Object
