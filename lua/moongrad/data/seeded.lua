-- seeded(seed, fn) -> fn()'s result, with random numbers that depend on the seed alone. The common
-- stream goes on afterwards as if fn had drawn none. A nil seed uses the common stream. fn cannot
-- yield: nobody else is to draw from its stream.

local mg = require "moongrad"

return function(seed, fn)
  if not seed then return fn() end
  local state = mg.get_rng_state()
  mg.set_rng_state { seed, 0 }
  local ok, result = pcall(mg.using_config, "train", mg.Config.train, fn)
  mg.set_rng_state(state)
  if not ok then error(result, 0) end
  return result
end
