-- A dataset in batches: `for x, t in loader do` goes through it once; #loader is their number.
-- The last batch is a smaller one where the length does not divide, unless drop_last. With a
-- seed, the n-th pass always has the same order, whatever else is random.
--
-- With {shard = dist} each rank gets its part of every batch of size * batch_size items: the first
-- batch_size are rank 1's, and so on. The last, smaller batch is cut into equal parts as well; the
-- few items that are left over are in nobody's.
--
-- Where a batch is rows of Variables in an order of its own, those of the next one are copied by
-- another thread while this one is in use (dataset's ahead). All else happens when a batch is asked
-- for: functions, transforms, random numbers, errors; who asks again after one gets that batch.

local mg = require "moongrad"
local Object = require "moongrad.class"
local check_list = require "moongrad.list"
local one_result = require "moongrad.only"
local attempt = require "moongrad.data.attempt"
local dataset = require "moongrad.data.dataset"
local passes = require "moongrad.data.passes"
local seeded = require "moongrad.data.seeded"
local checked, raise = mg.checked, mg.raise

local DataLoader = Object:extend("DataLoader"):_seal(nil, "sampler collate")
DataLoader:_no_places "its batches come by for x, t in loader do"

local function check_transforms(transform)
  local list = Object._is_callable(transform) and { transform } or transform or {}
  for i, f in ipairs(list) do
    if not Object._is_callable(f) then
      raise("DataLoader: transform %d is a %s, expected a function", i, type(f))
    end
  end
  local n = check_list("DataLoader", "the list of transforms", list)
  return table.move(list, 1, n, 1, {})
end

DataLoader.init = checked(
  "DataLoader(self, ds: any, {batch_size: int(1..) = 1, shuffle: bool = false, " ..
    "drop_last: bool = false, seed: int, sampler: sampler, collate: function, " ..
    "transform: function | table, shard: dist})",
  "for x, t in loader do; ds has # and :get(i). sampler says which items a pass has, in place " ..
    "of shuffle; collate makes a batch of a list of items {x, t}; transform, a function or a " ..
    "list, changes the first value of each batch, and draws from the seed; shard = " ..
    "moongrad.dist: batches of size * batch_size items are dealt out to the ranks",
  function(self, ds, size, shuffle, drop_last, seed, sampler, collate, transform, shard)
    dataset.check("DataLoader", ds)
    if sampler and shuffle then raise("DataLoader: beside a sampler there is no shuffle") end
    self.ds, self.batch_size, self.shuffle, self.drop_last = ds, size, shuffle, drop_last
    self.sampler, self.collate, self.transforms = sampler, collate, check_transforms(transform)
    self.rank, self.ranks = shard and shard.rank or 1, shard and shard.size or 1
    self.drawn = not seed
    if self.ranks > 1 and not seed then -- rank 1's, so that all have one order
      seed = shard.broadcast(mg.randint(0, 1 << 52, { 1 }))[1]:item()
    end
    self.seed, self.pass = seed or false, 0
    self.running = setmetatable({}, { __mode = "k" }) -- the iterator of a pass, by its last batch
  end)

function DataLoader:__len()
  local whole, rest = self:split()
  return whole + (rest > 0 and not self.drop_last and 1 or 0)
end

local assigned =
  mg.signature "DataLoader({batch_size: int(1..), shuffle: bool, drop_last: bool, seed: int})"

-- How many whole batches a pass has, how many items the one after them, and how many a whole one
function DataLoader:split()
  local size = assigned{ batch_size = self.batch_size, shuffle = self.shuffle,
                         drop_last = self.drop_last, seed = self.seed or nil }
  local n, all = #(self.sampler or self.ds), size * self.ranks
  return n // all, n % all // self.ranks, size
end

-- A function of n: the items of batch n of a pass that begins now, their places i..j in the order.
-- Another batch_size is the next pass's.
function DataLoader:spans()
  local whole, rest, most = self:split()
  return function(n)
    local size = n > whole and rest or most
    local i = (n - 1) * most * self.ranks + (self.rank - 1) * size + 1
    return i, i + size - 1
  end
end

function DataLoader:__tostring()
  return ("DataLoader(%s, %d batches of %d)"):format(tostring(self.ds), #self, self.batch_size)
end

-- The seed of part n, from 1, of what has this seed: of a pass, of a batch in it, of a rank's part.
-- None meets another, of any seed.
local function mixed(seed, n)
  local x = seed ~ (n * 0x9e3779b97f4a7c15)
  x = (x ~ (x >> 30)) * 0xbf58476d1ce4e5b9
  return x ~ (x >> 27)
end

-- The items i..j of the dataset, or of the order there is
local function fetch(self, order, i, j)
  local ds = self.ds
  local index = order and order[{ { i, j } }]
  if not self.collate then
    if index then return dataset.any(ds, index) end
    if ds.batch then return ds:batch(i, j) end
  end
  local positions = index and index:totable() or {}
  for k = index and 1 or i, index and 0 or j do positions[#positions + 1] = k end
  if self.collate then return self.collate(dataset.items(ds, positions)) end
  return dataset.collate(ds, positions)
end

-- What transform i gave: a second result would be lost.
local function only(i, x, ...)
  if x == nil then raise("DataLoader: transform %d gave nothing", i) end
  if select("#", ...) > 0 then
    raise("DataLoader: transform %d gave %d results: it is given a batch's first value, and " ..
      "changes that alone", i, 1 + select("#", ...))
  end
  return x
end

local function finish(self, seed, first, ...)
  if first == nil then raise("DataLoader: the dataset gave a batch of nothing") end
  local list = self.transforms
  if #list == 0 then return first, ... end
  return seeded(seed, function()
    local x = first
    for i, f in ipairs(list) do x = only(i, f(x)) end
    return x
  end), ...
end

-- What the sampler says, of so many items
local function order_of(self, length)
  local of = self.sampler._of and self.sampler:_of()
  if of and of ~= #self.ds then
    raise("DataLoader: the sampler chooses of %d items, the dataset has %d", of, #self.ds)
  end
  local order = one_result("DataLoader: the sampler", self.sampler:positions())
  if type(order) == "table" then
    local given = mg.tensor(order, "float64")
    order = given:to "int64"
    if not mg.equal(order, given) then
      raise "DataLoader: the sampler gave positions that are no whole numbers"
    end
  elseif not mg.is_variable(order) then
    raise("DataLoader: the sampler gave a %s, expected positions", type(order))
  end
  if order.dtype ~= "int64" or order.ndim ~= 1 or order.size ~= length then
    raise("DataLoader: the sampler gave positions of %s %s, expected int64 (%d), as its # says",
      order.dtype, tostring(order.shape), length)
  end
  local least = length > 0 and order:min():item() or 1
  if least < 1 then raise("DataLoader: the sampler gave position %d, the first is 1", least) end
  return order
end

DataLoader.batches = checked("batches(self)", "an iterator of x, t, ... for one pass",
  function(self)
    local length, last, order = #(self.sampler or self.ds), #self, nil
    if last == 0 and length > 0 then
      raise("DataLoader: %d items make no batch of %d, and drop_last drops what is left", length,
        self.batch_size)
    end
    local seed = self.seed and mixed(self.seed, self.pass + 1)
    if self.sampler then
      order = seeded(seed, function() return order_of(self, length) end)
    elseif self.shuffle then
      order = seeded(seed, function() return mg.randperm(length) end)
    end
    self.pass = self.pass + 1
    local span = self:spans()
    local ahead = order and not self.collate and self.ds._ahead
    local function batch(n, first, ...)
      if first == nil then return fetch(self, order, span(n)) end
      return first, ...
    end
    local function begin_next(n, at, ...)
      at.begun = n < last and ahead and ahead(self.ds, order[{ { span(n + 1) } }]) or nil
      return ...
    end
    return passes.iterator(self, last, function(n, at)
      local own = seed and mixed(mixed(seed, n), self.rank)
      local taken = at.later -- this batch's rows, where another thread copies them
      at.later = nil
      if taken then return finish(self, own, begin_next(n, at, batch(n, taken()))) end
      return finish(self, own, begin_next(n, at, fetch(self, order, span(n))))
    end)
  end)

DataLoader.state = checked("state(self)",
  "how many passes were begun: the seed's orders go on from it, with the next pass; the seed, " ..
    "too, if it was drawn, as that of a shard",
  function(self)
    return { pass = self.pass, seed = self.drawn and self.seed or nil }
  end)

local loaded = mg.signature "load_state({pass: int(0..), seed: int})"
DataLoader.load_state = checked("load_state(self, state: table)", "takes what state() gave",
  function(self, t)
    local pass, seed = loaded(t)
    if not pass then raise("load_state: pass is missing") end
    self.pass = pass
    if seed and self.drawn then self.seed = seed end
    return self
  end)

local function first(_, self) return self:batches()(self.running) end

-- A pass whose first batch failed has not begun.
local function begin(self)
  local pass = self.pass
  return attempt(function() self.pass = pass end, first, self)
end

function DataLoader:__call(_, last)
  if last == nil then return begin(self) end
  return passes.next("DataLoader", self, last)
end

return { DataLoader = DataLoader }
