-- passes.lua -- loaders that stand in a for themselves, which calls them with nil and then with the
-- first value of each batch. Several passes can go on at a time.

local raise = require "moongrad.core".raise

-- The next batch of the pass whose last one is `last`, or of a new one, which `iterator` is of.
-- self.running: iterators by batch.
return function(name, self, last, iterator)
  iterator = iterator or self.running[last]
  if not iterator then raise("%s: this batch was not the last of a pass", name) end
  local function go_on(first, ...)
    if last ~= nil then self.running[last] = nil end
    if first ~= nil then self.running[first] = iterator end
    return first, ...
  end
  return go_on(iterator())
end
