-- Datasets made of others: some items of one, several one after the other, parts chosen by chance.
-- They give batches as fast as what they are made of.

local mg = require "moongrad"
local check_list = require "moongrad.list"
local seeded = require "moongrad.data.seeded"
local dataset = require "moongrad.data.dataset"
local checked, raise = mg.checked, mg.raise

local subset = {}

local Subset = dataset.Dataset:extend("Subset"):_seal "get"

Subset.init = checked("Subset(self, ds: any, positions: array)",
  "the items of ds at these positions, in this order",
  function(self, ds, positions)
    dataset.check("Subset", ds)
    if positions.ndim ~= 1 then
      raise("Subset: positions have %d axes, expected 1", positions.ndim)
    end
    if positions.dtype == "bool" then
      raise "Subset: positions are a mask; mask:nonzero():flatten() gives where it is true"
    end
    local given = positions
    positions = given:to "int64"
    if not mg.all(mg.eq(given, positions)):item() then
      raise("Subset: positions must be whole numbers")
    end
    local n = #positions
    if n > 0 and (positions:min():item() < 1 or positions:max():item() > #ds) then
      raise("Subset: positions must be in 1..%d", #ds)
    end
    self.ds, self.positions = ds, positions
    if dataset.takes(ds) then
      self.take = function(_, index) return ds:take(positions[index]) end
      self._ahead = ds._ahead and function(_, index) return ds:_ahead(positions[index]) end
    end
  end)

dataset.gives(Subset, function(self, i) return self.ds:get(self.positions[i]:item()) end)

function Subset:__len() return #self.positions end

subset.Subset = Subset

local Concat = dataset.Dataset:extend("Concat"):_seal "get"

Concat.init = checked("Concat(self, ...)",
  "the items of these datasets, or of those in a list, one after the other",
  function(self, ...)
    local parts, n, all = { ... }, select("#", ...), true
    if n == 1 and type(parts[1]) == "table" and not parts[1].get then
      parts, n = parts[1], check_list("Concat", "the list of datasets", parts[1])
    end
    self.parts, self.first, self.length = table.move(parts, 1, n, 1, {}), {}, 0
    if n == 0 then raise("Concat: needs datasets") end
    for i = 1, n do
      local ds = self.parts[i]
      dataset.check("Concat", ds)
      self.first[i], self.length = self.length, self.length + #ds
      all = all and dataset.takes(ds)
    end
    if all then self.take = self.take_all end
  end)

-- The part that item i is in, and its position there
function Concat:find(i)
  if i < 1 or i > self.length then raise("Concat: item %d is not in 1..%d", i, self.length) end
  local k = #self.parts
  while self.first[k] >= i do k = k - 1 end
  return k, i - self.first[k]
end

dataset.gives(Concat, function(self, i)
  local k, at = self:find(i)
  return self.parts[k]:get(at)
end)

-- What each part gives, in the parts' order, put into that of the index
function Concat:take_all(index)
  local wanted, places = {}, {}
  for place, i in ipairs(index:totable()) do
    local k, at = self:find(i)
    wanted[k], places[k] = wanted[k] or {}, places[k] or {}
    table.insert(wanted[k], at)
    table.insert(places[k], place)
  end
  local columns, order, kinds = {}, {}, 0
  for k, ds in ipairs(self.parts) do
    if wanted[k] then
      kinds = kinds + 1
      table.move(places[k], 1, #places[k], #order + 1, order)
      for c, v in ipairs { ds:take(mg.tensor(wanted[k], "int64")) } do
        columns[c] = columns[c] or {}
        table.insert(columns[c], v)
      end
    end
  end
  local sorted = true
  for i, place in ipairs(order) do sorted = sorted and place == i end
  local back = {}
  for i, place in ipairs(order) do back[place] = i end
  for c, list in ipairs(columns) do
    if #list ~= kinds then raise("Concat: items of some datasets have %d values or more", c) end
    local all = #list == 1 and list[1] or mg.cat(list, 1)
    columns[c] = sorted and all or dataset.own(all[mg.tensor(back, "int64")])
  end
  return table.unpack(columns)
end

function Concat:__len() return self.length end

subset.Concat = Concat

-- Lengths, which add up to n, of what may be fractions: what rounding leaves goes to the first.
local function lengths_of(parts, n)
  local sum, whole = 0, true
  for i, v in ipairs(parts) do
    if v < 0 or v ~= v then raise("random_split: part %d is %g", i, v) end
    sum, whole = sum + v, whole and math.tointeger(v) and true or false
  end
  if #parts == 0 then raise("random_split: no parts") end
  if whole and (sum == n or sum ~= 1) then
    if sum ~= n then raise("random_split: the parts are %d items, the dataset has %d", sum, n) end
    return parts
  end
  if math.abs(sum - 1) > 1e-9 then raise("random_split: the fractions add up to %g, not 1", sum) end
  local lengths, left = {}, n
  for i, v in ipairs(parts) do
    lengths[i] = math.floor(v * n + 1e-9)
    left = left - lengths[i]
  end
  for i = 1, left do lengths[(i - 1) % #lengths + 1] = lengths[(i - 1) % #lengths + 1] + 1 end
  return lengths
end

subset.random_split = checked("random_split(ds: any, parts: numbers, {seed: int?})",
  "Subsets of these lengths, or fractions of all, by chance: " ..
    "local train, test = random_split(ds, {0.9, 0.1}). Several processes need a seed: " ..
    "without one each draws parts of its own",
  mg._drawing(function(ds, parts, seed)
    dataset.check("random_split", ds)
    local lengths = lengths_of(parts, #ds)
    local order = seeded(seed, function() return mg.randperm(#ds) end)
    local list, at = {}, 0
    for i, n in ipairs(lengths) do
      n = math.tointeger(n)
      list[i] = Subset(ds, order[{ { at + 1, at + n } }])
      at = at + n
    end
    return table.unpack(list)
  end))

return subset
