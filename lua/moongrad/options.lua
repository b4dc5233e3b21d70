-- options(op, given, defaults) -> a new table: what was given, and the defaults for the rest.
-- A name that has no default is an error, and so is a value of another type than its default's.
-- The default false stands for "off": anything may be given for it.

local raise = require "moongrad.core".raise

return function(op, given, defaults)
  local t = {}
  for name, value in pairs(defaults) do t[name] = value end
  if given == nil then return t end
  if type(given) ~= "table" then
    raise("%s: options are a %s, expected a table", op, type(given))
  end
  for name, value in pairs(given) do
    local default = defaults[name]
    if default == nil then raise("%s: unknown option %s", op, tostring(name)) end
    if default ~= false and type(value) ~= type(default) then
      raise("%s: option %s is a %s, expected a %s", op, name, type(value), type(default))
    end
    t[name] = value
  end
  return t
end
