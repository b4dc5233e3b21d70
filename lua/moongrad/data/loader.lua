-- DataLoader(ds, {batch_size = 1, shuffle = false, drop_last = false, seed =}): a dataset in
-- batches. `for x, t in loader:batches() do` goes through it once; #loader is how many there are.
-- The last batch is a smaller one where the length does not divide, unless drop_last. With a
-- seed, the n-th call of batches() always has the same order, whatever else is random.

local mg = require "moongrad"
local Object = require "moongrad.class"
local options = require "moongrad.options"
local collate = require "moongrad.data.dataset".collate
local seeded = require "moongrad.data.seeded"

local DataLoader = Object:extend("DataLoader")

function DataLoader:init(ds, opts)
  opts = options("DataLoader", opts, {
    batch_size = 1, shuffle = false, drop_last = false, seed = false
  })
  local size = math.tointeger(opts.batch_size)
  if not size or size < 1 then
    mg.raise("DataLoader: batch_size is %s, expected a positive integer", opts.batch_size)
  end
  if (type(ds) ~= "table" and type(ds) ~= "userdata") or not ds.get then
    mg.raise("DataLoader: the dataset is a %s, expected one with # and :get(i)",
             mg.is_variable(ds) and "Variable" or type(ds))
  end
  self.ds, self.batch_size = ds, size
  self.shuffle, self.drop_last, self.seed = opts.shuffle, opts.drop_last, opts.seed
end

function DataLoader:__len()
  local n = #self.ds
  return self.drop_last and n // self.batch_size or -(-n // self.batch_size)
end

local function in_order(ds, i, j)
  if ds.batch then return ds:batch(i, j) end
  local positions = {}
  for k = i, j do positions[#positions + 1] = k end
  return collate(ds, positions)
end

local function permuted(ds, order, i, j)
  local index = order[{ { i, j } }]
  if ds.take then return ds:take(index) end
  return collate(ds, index:totable())
end

function DataLoader:batches()
  local ds, size, length, last = self.ds, self.batch_size, #self.ds, #self
  local order
  if self.shuffle then
    order = seeded(self.seed, function() return mg.randperm(length) end)
    self.seed = self.seed and self.seed + 1
  end
  local n = 0
  return function()
    n = n + 1
    if n > last then return nil end
    local i, j = (n - 1) * size + 1, math.min(n * size, length)
    if order then return permuted(ds, order, i, j) end
    return in_order(ds, i, j)
  end
end

return { DataLoader = DataLoader }
