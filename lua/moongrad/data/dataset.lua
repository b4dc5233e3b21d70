-- Datasets. One is anything with # and :get(i), i from 1, which returns the values of an item,
-- usually x, t: Variables or numbers. data.Dataset gives those written as its classes the rest:
--   :batch(i, j)    the items i..j, each value stacked along a new axis 1
--   :map(fn)        the dataset of fn(x, t)
-- Where a whole batch can be had at once a dataset also has :take(index), index an int64 Variable
-- of positions; a DataLoader then uses it instead of asking for every item.

local mg = require "moongrad"
local Object = require "moongrad.class"
local checked, raise, is_class = mg.checked, mg.raise, Object._is_class

local Dataset = Object:extend("Dataset")

mg._docs[Dataset] = "Dataset:extend(name)\n" ..
  "a class of datasets: with # (__len) and get(i) it has batch(i, j) and map(fn)"

-- Where get is written anew, in a class or an object, what an ancestor has for whole batches would
-- pass it by.
local function set(t, name, value)
  Object._check_name(rawget(t, "__name") or getmetatable(t).__name, name)
  rawset(t, name, value)
  if name ~= "get" then return end
  for other, instead in pairs { take = false, _ahead = false, batch = Dataset.batch } do
    local now = t[other]
    if now and now ~= instead and rawget(t, other) == nil then rawset(t, other, instead) end
  end
end

Dataset.__newindex = set

function Dataset.extend(...)
  local class = Object.extend(...)
  getmetatable(class).__newindex = set
  return class
end

-- Numbers become one array: of int64 if all are integers, labels that is.
local function stack(values)
  local dtype = "int64"
  for _, v in ipairs(values) do
    if mg.is_variable(v) then
      for n, other in ipairs(values) do
        if mg.is_variable(other) and tostring(other.shape) ~= tostring(v.shape) then
          raise("collate: item %d has shape %s, the first %s: what is of unlike length needs a " ..
            "collate of its own, as by data.pad_sequence", n, tostring(other.shape),
            tostring(v.shape))
        end
      end
      return mg.stack(values)
    end
    if math.type(v) ~= "integer" then dtype = mg.Config.dtype end
  end
  return mg.tensor(values, dtype)
end

local function is_dataset(ds)
  local kind = type(ds)
  return (kind == "table" or kind == "userdata" and getmetatable(ds) ~= nil) and
    not mg.is_variable(ds) and ds.get ~= nil
end

local function check_get(op, ds)
  if is_class(ds) then
    raise("%s: got the class %s, expected a dataset: %s(...) makes one", op, ds.__name, ds.__name)
  elseif not is_dataset(ds) then
    raise("%s: the dataset is a %s, expected one with # and :get(i)", op,
      mg.is_variable(ds) and "Variable" or type(ds))
  end
end

local function check_length(op, n)
  if not (math.type(n) and math.tointeger(n) and n >= 0) then
    raise("%s: the dataset's length is %s, expected a whole number from 0", op, tostring(n))
  end
  return n
end

local function check(op, ds)
  check_get(op, ds)
  for _, name in ipairs{"get", "batch", "take"} do
    if ds[name] and type(ds[name]) ~= "function" then
      raise("%s: the dataset's %s is a %s, and is called as a method: name the field otherwise", op,
        name, mg.is_variable(ds[name]) and "Variable" or type(ds[name]))
    end
  end
  local meta = getmetatable(ds)
  if type(ds) == "table" and #ds == 0 and not (meta and meta.__len) then
    raise("%s: the dataset has no length: give it a metamethod __len, or items at 1, 2, ...", op)
  end
  local known, n = pcall(function() return #ds end)
  if known then check_length(op, n) end
end

function Dataset:__len()
  raise("%s has no length: function %s:__len() ... end says how many items there are",
    getmetatable(self).__name, getmetatable(self).__name)
end

-- Whole batches can be had at once.
local function takes(ds) return ds.take and true or false end

local function items(ds, positions)
  local list = {}
  for n, i in ipairs(positions) do list[n] = table.pack(ds:get(i)) end
  return list
end

local function collate(ds, positions)
  local columns, width = {}, nil
  for n, i in ipairs(positions) do
    local item = table.pack(ds:get(i))
    width = width or item.n
    if item.n == 0 then raise("collate: item %d has no values", i) end
    if item.n ~= width then raise("collate: item %d has %d values, others %d", i, item.n, width) end
    for k = 1, item.n do
      columns[k] = columns[k] or {}
      columns[k][n] = item[k]
    end
  end
  for k = 1, width or 0 do
    if #columns[k] ~= #positions then raise("collate: value %d of an item is nil", k) end
    columns[k] = stack(columns[k])
  end
  return table.unpack(columns, 1, width or 0)
end

-- A batch of the items at index, an int64 Variable
local function any(ds, index)
  if ds.take then return ds:take(index) end
  return collate(ds, index:totable())
end

local function span(i, j)
  local positions = {}
  for k = i, j do positions[#positions + 1] = k end
  return positions
end

-- Item i of n, if that is known, from the end if it is negative
local function place(op, i, n)
  local k = n and i < 0 and i + n + 1 or i
  if n and (k < 1 or k > n) then raise("%s: item %d is not in 1..%d", op, i, n) end
  return k
end

local function length(op, ds)
  local class = type(ds) == "table" and not is_class(ds) and getmetatable(ds)
  local len = class and class.__len
  if not len then
    raise("%s: %s; methods are called by a colon, of objects, ds:%s(...)", op, is_class(ds) and
      ds.__name .. " is a class" or "a " .. type(ds) .. " is no dataset", op)
  end
  return len ~= Dataset.__len and check_length(op, len(ds)) or nil
end

local function places(n, i, j)
  local first, last = place("batch", i, n), place("batch", j, n)
  if last < first then raise("batch: there are no items from %d to %d", i, j) end
  return first, last
end

-- The methods of a class, by what gives an item and what gives the items i..j. What they do is
-- said of Dataset.
local one, several = mg.signature "get(i: int)", mg.signature "batch(i: int, j: int)"
local function gives(class, get, batch)
  function class:get(...)
    local n = length("get", self)
    return get(self, place("get", one(...), n))
  end
  if batch then
    function class:batch(...)
      local n = length("batch", self)
      return batch(self, places(n, several(...)))
    end
  end
end

-- What x[...] gave as an array of its taker's, to write into: x never sees it.
local function own(v) return v.requires_grad and v or v:detach() end

-- The same of one whose raw() gives Variables, of which items are rows, and made(...) what comes of
-- rows of them: pick(index) takes what x[index] does. _ahead(index) begins to copy rows for later,
-- in another thread; it gives a function that gives what take does, or nil: they are to be taken.
local function gives_picks(class)
  function class:pick(index)
    local rows = table.pack(self:raw())
    for k = 1, rows.n do rows[k] = own(rows[k][index]) end
    return self:made(table.unpack(rows, 1, rows.n))
  end
  function class:_ahead(index)
    if self.pick ~= class.pick or self.take ~= class.take then return nil end
    local job = mg._ahead(index, self:raw())
    return job and function()
      local rows = table.pack(job:take(self:raw()))
      if rows[1] ~= nil then return self:made(table.unpack(rows, 1, rows.n)) end
    end
  end
  gives(class, class.pick, function(self, i, j) return self:pick { { i, j } } end)
  class.take = class.pick
end

Dataset.batch = checked("batch(self, i: int, j: int)",
  "the items i..j, each value stacked along a new axis 1; -1 is the last",
  function(self, i, j)
    check_get("batch", self)
    i, j = places(length("batch", self), i, j)
    if self.take then return self:take(mg.range(i, j, { dtype = "int64" })) end
    return collate(self, span(i, j))
  end)

function Dataset:__tostring()
  local name = getmetatable(self).__name
  local known, n = pcall(function() return #self end)
  return known and ("%s(%d items)"):format(name, n) or name
end

local Mapped = Dataset:extend("Mapped"):_seal "get"

Dataset.map = checked("map(self, fn: function, {batched: bool = false})",
  "the dataset of fn(x, t), called each time an item is asked for; batched: fn can be given " ..
    "whole batches as well, and loading stays as fast as without it",
  function(self, fn, batched)
    check_get("map", self)
    return Mapped(self, fn, batched)
  end)

-- What fn gave, for what; nothing would look like the end of all batches.
local function something(first, ...)
  if first == nil then raise("map: the function gave nothing") end
  return first, ...
end

function Mapped:init(ds, fn, batched)
  self.ds, self.fn = ds, fn
  if not batched then return end
  self.batch = function(_, i, j) return something(fn(ds:batch(i, j))) end
  self.take = ds.take and function(_, index) return something(fn(ds:take(index))) end
  self._ahead = ds._ahead and function(_, index)
    local later = ds:_ahead(index)
    local function mapped(first, ...)
      if first ~= nil then return something(fn(first, ...)) end
    end
    return later and function() return mapped(later()) end
  end
end

gives(Mapped, function(self, i) return something(self.fn(self.ds:get(i))) end)

function Mapped:__len() return #self.ds end

local TensorDataset = Dataset:extend("TensorDataset"):_seal "get"

TensorDataset.init = checked("TensorDataset(self, ...: variable)",
  "the items of Variables of one length: x[i], t[i], ...",
  function(self, ...)
    self.tensors = { ... }
    if #self.tensors == 0 then raise("TensorDataset: needs Variables") end
    for k, x in ipairs(self.tensors) do
      if #x ~= #self.tensors[1] then
        raise("TensorDataset: argument %d has length %d, the first has %d", k, #x, #self.tensors[1])
      end
    end
  end)

function TensorDataset:raw() return table.unpack(self.tensors) end
function TensorDataset:made(...) return ... end -- luacheck: ignore self

gives_picks(TensorDataset)

function TensorDataset:__len() return #self.tensors[1] end

return {
  Dataset = Dataset, TensorDataset = TensorDataset, check = check, takes = takes, items = items,
  any = any, gives = gives, gives_picks = gives_picks, own = own,
  collate = checked("collate(ds: any, positions: ints)",
    "ds:get(i) of these positions, stacked to a batch",
    function(ds, positions)
      check("collate", ds)
      return collate(ds, positions)
    end)
}
