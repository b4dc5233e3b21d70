-- passes.lua -- loaders that stand in a for themselves, which calls them with nil and then with the
-- first value of each batch. Several passes can go on at a time: loader.running has their iterators
-- by their last batches.

local mg = require "moongrad"
local attempt = require "moongrad.data.attempt"

local passes = {}

local NONE = {}

-- An iterator of make(n, at)'s results, n from 1 to count; after an error the same batch is made
-- again. at.begun, which make may set, is at.later when all is done. A loader calls it with its
-- running and its last batch, which change with the place in the pass: an interruption may come
-- anywhere.
function passes.iterator(loader, count, make)
  local at = { n = 0 }
  local iterator

  local function settled(was, running, last, first, ...)
    mg._commit(NONE, NONE, { n = not running and 9 or last == nil and 12 or 15, was, "done", true,
      at, "n", at.n + 1, at, "later", at.begun, running, first, iterator, running, last, nil })
    return first, ...
  end

  local function batch(was, running, last)
    return settled(was, running, last, make(at.n + 1, at))
  end

  function iterator(running, last)
    if running ~= loader.running then running = nil end -- what a for or the user calls it with
    if at.n < count then return attempt(nil, batch, running, last) end
    if running and last ~= nil then running[last] = nil end
    return nil
  end

  return iterator
end

-- The next batch of the pass whose last one is `last`
function passes.next(name, loader, last)
  local iterator = loader.running[last]
  if not iterator then mg.raise("%s: this batch was not the last of a pass", name) end
  return iterator(loader.running, last)
end

return passes
