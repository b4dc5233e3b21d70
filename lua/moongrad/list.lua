-- list.lua -- what is to be a list is one: t[1] .. t[n], and no other key, which nobody would read.

local raise = require "moongrad.core".raise

-- n, or an error: "op: what has the key k, expected a list".
return function(op, what, t)
  local n = 0
  for _ in ipairs(t) do n = n + 1 end
  for k in pairs(t) do
    if math.type(k) ~= "integer" or k < 1 or k > n then
      raise("%s: %s has the key %s, expected a list", op, what, tostring(k))
    end
  end
  return n
end
