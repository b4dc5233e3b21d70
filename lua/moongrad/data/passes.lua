-- passes.lua -- loaders that stand in a for themselves, which calls them with nil and then with the
-- first value of each batch. Several passes can go on at a time.

local raise = require "moongrad.core".raise

-- The next batch of the pass whose last one is `last`; nil: of a new one, that begin(self) gives an
-- iterator of, and its first batch, packed, if it has made it. self.running: iterators by batch.
return function(name, self, last, begin)
  local iterator, batch
  if last == nil then iterator, batch = begin(self) else iterator = self.running[last] end
  if not iterator then raise("%s: this batch was not the last of a pass", name) end
  local function go_on(first, ...)
    if last ~= nil then self.running[last] = nil end
    if first ~= nil then self.running[first] = iterator end
    return first, ...
  end
  if batch then return go_on(table.unpack(batch, 1, batch.n)) end
  return go_on(iterator())
end
