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

local function make(class, ...)
  local object = setmetatable({}, class)
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

Object.extend = core.checked("extend(self, name: string)", "a class", function(self, name)
  local class = {}
  for k, v in pairs(self) do
    if type(k) == "string" and k:sub(1, 2) == "__" then class[k] = v end
  end
  class.__name, class.__index = name, class
  local sealed = rawget(self, "_sealed")
  if sealed then class.__newindex = sealed.__newindex end
  return setmetatable(class, { __index = self, __call = make, __tostring = describe })
end)

-- Of a class without one of its own, which has no use for arguments.
function Object:init(...)
  if select("#", ...) == 0 then return end
  raise("%s: takes no arguments: it has no init", getmetatable(self).__name)
end

-- Is this a class? One answers by all its objects' methods, and has none of their fields.
function Object._is_class(v)
  return type(v) == "table" and rawget(v, "__index") and rawget(v, "__name")
end

-- For a __newindex: nil and nan name no field of an object, or of a class called `kind`.
function Object._check_name(kind, name)
  if name == nil or name ~= name then raise("%s: %s names no field", kind, tostring(name)) end
end

-- Objects of this class have the fields that init makes, and those named in `late`: nobody would
-- read what is assigned besides. Classes that extend it may do as they like again.
function Object:seal(late)
  local before, known = rawget(self, "__newindex"), {}
  for name in (late or ""):gmatch "%S+" do known[name] = true end
  self._sealed = {__newindex = before}
  function self.__newindex(object, name, value)
    if unfinished[object] or known[name] then return (before or rawset)(object, name, value) end
    local kind, names = getmetatable(object).__name, {}
    Object._check_name(kind, name)
    for k in next, object do names[#names + 1] = type(k) == "string" and k or nil end
    table.sort(names)
    local near = core._near(tostring(name), names)
    raise("%s: there is no field %s%s", kind, tostring(name),
      near and ("; did you mean %s?"):format(near) or "")
  end
  return self
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
