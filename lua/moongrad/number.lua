-- number(op, name, v): the number that v is, a number, a boolean or a Variable of one element.

local mg = require "moongrad.core"
local raise = mg.raise

return function(op, name, v)
  if mg.is_variable(v) then
    if v.size ~= 1 then
      raise("%s: %s has shape %s, expected one element", op, name, tostring(v.shape))
    end
    v = v:item()
  end
  if type(v) == "boolean" then v = v and 1 or 0 end
  if type(v) ~= "number" then raise("%s: %s is a %s, expected a number", op, name, type(v)) end
  return v
end
