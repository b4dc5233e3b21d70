-- A dataset in batches: `for x, t in loader do` goes through it once; #loader is their number.
-- The last batch is a smaller one where the length does not divide, unless drop_last. With a
-- seed, the n-th pass always has the same order, whatever else is random.

local mg = require "moongrad"
local Object = require "moongrad.class"
local collate = require "moongrad.data.dataset".collate
local seeded = require "moongrad.data.seeded"

local DataLoader = Object:extend("DataLoader")

DataLoader.init = mg.checked(
  "DataLoader(self, ds: any, {batch_size: int(1..) = 1, shuffle: bool = false, " ..
    "drop_last: bool = false, seed: int})",
  "for x, t in loader do; ds has # and :get(i)",
  function(self, ds, size, shuffle, drop_last, seed)
    if mg.is_variable(ds) or type(ds) ~= "table" and type(ds) ~= "userdata" or not ds.get then
      mg.raise("DataLoader: the dataset is a %s, expected one with # and :get(i)",
        mg.is_variable(ds) and "Variable" or type(ds))
    end
    self.ds, self.batch_size, self.shuffle, self.drop_last = ds, size, shuffle, drop_last
    self.seed, self.pass = seed or false, 0
    self.running = setmetatable({}, { __mode = "k" }) -- the iterator of a pass, by its last batch
  end)

function DataLoader:__len()
  local n = #self.ds
  return self.drop_last and n // self.batch_size or -(-n // self.batch_size)
end

function DataLoader:__tostring()
  return ("DataLoader(%s, %d batches of %d)"):format(tostring(self.ds), #self, self.batch_size)
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

local function something(first, ...)
  if first == nil then mg.raise("DataLoader: the dataset gave a batch of nothing") end
  return first, ...
end

-- The seed of a pass: those of one seed do not meet those of the next.
local function mixed(seed, pass)
  local x = seed ~ (pass * 0x9e3779b97f4a7c15)
  x = (x ~ (x >> 30)) * 0xbf58476d1ce4e5b9
  return pass == 0 and seed or x ~ (x >> 27)
end

DataLoader.batches = mg.checked("batches(self)", "an iterator of x, t, ... for one pass",
  function(self)
    local ds, size, length, last = self.ds, self.batch_size, #self.ds, #self
    local order
    if self.shuffle then
      local seed = self.seed and mixed(self.seed, self.pass)
      order = seeded(seed, function() return mg.randperm(length) end)
      self.pass = self.pass + 1
    end
    local n = 0
    return function()
      n = n + 1
      if n > last then return nil end
      local i, j = (n - 1) * size + 1, math.min(n * size, length)
      if order then return something(permuted(ds, order, i, j)) end
      return something(in_order(ds, i, j))
    end
  end)

-- In a for, which calls it with nil and then with the first value of each batch. Several can go on
-- at a time.
function DataLoader:__call(_, last)
  local iterator = last == nil and self:batches() or self.running[last]
  if not iterator then mg.raise("DataLoader: this batch was not the last of a pass") end
  if last ~= nil then self.running[last] = nil end
  local function go_on(first, ...)
    if first ~= nil then self.running[first] = iterator end
    return first, ...
  end
  return go_on(iterator())
end

return { DataLoader = DataLoader }
