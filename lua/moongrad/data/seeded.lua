-- seeded(seed, fn) -> fn()'s result, with random numbers that depend on the seed alone. The common
-- stream goes on afterwards as if fn had drawn none. A nil seed uses the common stream, which is as
-- it was where fn fails. fn cannot yield: nobody else is to draw from its stream.

local mg = require "moongrad"

local drawn = mg._drawing(function(fn) return fn() end)

return function(seed, fn)
  if not seed then return (drawn(fn)) end
  return (mg._seeded(seed, fn))
end
