-- Datasets. One is anything with # and :get(i), i from 1, which returns the values of an item,
-- usually x, t: Variables or numbers. data.Dataset gives those written as its classes the rest:
--   :batch(i, j)    the items i..j, each value stacked along a new axis 1
--   :map(fn)        the dataset of fn(x, t)
-- Where a whole batch can be had at once a dataset also has :take(index), index an int64 Variable
-- of positions; a DataLoader then uses it instead of asking for every item.

local mg = require "moongrad"
local Object = require "moongrad.class"
local options = require "moongrad.options"

local Dataset = Object:extend("Dataset")

-- Numbers become one array: of int64 if all are integers, labels that is.
local function stack(values)
  if mg.is_variable(values[1]) then return mg.stack(values) end
  local dtype = "int64"
  for _, v in ipairs(values) do
    if math.type(v) ~= "integer" then dtype = mg.Config.dtype end
  end
  return mg.tensor(values, dtype)
end

-- The items of ds at these positions, an array, as one batch.
local function collate(ds, positions)
  local columns = {}
  for n, i in ipairs(positions) do
    local item = table.pack(ds:get(i))
    for k = 1, item.n do
      columns[k] = columns[k] or {}
      columns[k][n] = item[k]
    end
  end
  for k, values in ipairs(columns) do columns[k] = stack(values) end
  return table.unpack(columns)
end

function Dataset:batch(i, j)
  local positions = {}
  for k = i, j do positions[#positions + 1] = k end
  return collate(self, positions)
end

-- fn is called each time an item is asked for. With {batched = true} it says that it can be given
-- whole batches as well, and loading stays as fast as without it.
local Mapped = Dataset:extend("Mapped")

function Dataset:map(fn, opts) return Mapped(self, fn, opts) end

function Mapped:init(ds, fn, opts)
  self.ds, self.fn = ds, fn
  if not options("map", opts, { batched = false }).batched then return end
  self.batch = function(_, i, j) return fn(ds:batch(i, j)) end
  self.take = ds.take and function(_, index) return fn(ds:take(index)) end
end

function Mapped:get(i) return self.fn(self.ds:get(i)) end

function Mapped:__len() return #self.ds end

-- TensorDataset(x, t, ...): Variables of one length; item i is x[i], t[i], ...
local TensorDataset = Dataset:extend("TensorDataset")

function TensorDataset:init(...)
  self.tensors = { ... }
  if #self.tensors == 0 then mg.raise("TensorDataset: needs Variables") end
  for k, x in ipairs(self.tensors) do
    if not mg.is_variable(x) then
      mg.raise("TensorDataset: argument %d is a %s, expected a Variable", k, type(x))
    elseif #x ~= #self.tensors[1] then
      mg.raise("TensorDataset: argument %d has length %d, the first has %d", k, #x,
               #self.tensors[1])
    end
  end
end

function TensorDataset:pick(index)
  local values = {}
  for k, x in ipairs(self.tensors) do values[k] = x[index] end
  return table.unpack(values)
end

TensorDataset.get = TensorDataset.pick
TensorDataset.take = TensorDataset.pick

function TensorDataset:batch(i, j) return self:pick { { i, j } } end

function TensorDataset:__len() return #self.tensors[1] end

return { Dataset = Dataset, TensorDataset = TensorDataset, collate = collate }
