-- only.lua -- what a function that was handed over gives: one result. A second would be lost.

local raise = require "moongrad.core".raise

-- The result, or an error: "what gave 2 results, expected one". It may be nil, or none.
return function(what, result, ...)
  if select("#", ...) > 0 then
    raise("%s gave %d results, expected one", what, 1 + select("#", ...))
  end
  return result
end
