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

local function make(class, ...)
  local object = setmetatable({}, class)
  object:init(...)
  return object
end

function Object:extend(name)
  local class = {}
  for k, v in pairs(self) do
    if type(k) == "string" and k:sub(1, 2) == "__" then class[k] = v end
  end
  class.__name, class.__index = name, class
  return setmetatable(class, { __index = self, __call = make })
end

function Object.init() end

return Object
