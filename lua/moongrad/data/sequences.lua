-- Sequences: of unlike lengths in one batch, and one long one in pieces.

local mg = require "moongrad"
local Object = require "moongrad.class"
local dataset = require "moongrad.data.dataset"
local passes = require "moongrad.data.passes"
local checked, raise = mg.checked, mg.raise

local pad_sequence = checked(
  "pad_sequence(xs: list, {batch_first: bool = false, value: number = 0})",
  "sequences (t, ...) of unlike t as one array (T, n, ...), or (n, T, ...) if batch_first, with " ..
    "value behind their ends; and their lengths, int64 (n)",
  function(xs, batch_first, value)
    if #xs == 0 then raise("pad_sequence: no sequences") end
    local most, lengths, padded = 0, {}, {}
    for i, x in ipairs(xs) do
      if x.ndim == 0 then raise("pad_sequence: sequence %d is a number", i) end
      lengths[i] = #x
      most = math.max(most, #x)
    end
    for i, x in ipairs(xs) do
      local widths = {}
      for k = 1, 2 * x.ndim do widths[k] = 0 end
      widths[2 * x.ndim] = most - #x -- the last axis comes first
      padded[i] = #x == most and x or x:pad(widths, { value = value })
    end
    return mg.stack(padded, batch_first and 1 or 2), mg.tensor(lengths, "int64")
  end)

local SequenceLoader = Object:extend("SequenceLoader"):_seal()
SequenceLoader:_no_places "its batches come by for x, t in loader do"

SequenceLoader.init = checked(
  "SequenceLoader(self, ds: any, {batch_size: int(1..) = 1, length: int(1..), " ..
    "drop_last: bool = false})",
  "one long sequence, the items of ds in order, cut into batch_size equal ones, which are gone " ..
    "through side by side: for x, t in loader do gives the next length steps of each, x " ..
    "(length, batch_size, ...); state is carried on from one to the next (truncated " ..
    "backpropagation)",
  function(self, ds, size, length, drop_last)
    dataset.check("SequenceLoader", ds)
    if type(ds) == "table" and ds._steps then ds = ds:_steps() end
    if not length then raise("SequenceLoader: length is missing") end
    self.ds, self.batch_size, self.length, self.drop_last = ds, size, length, drop_last
    self.running = setmetatable({}, { __mode = "k" }) -- the iterator of a pass, by its last batch
    self:split()
  end)

local assigned =
  mg.signature "SequenceLoader({batch_size: int(1..), length: int(1..), drop_last: bool})"

-- How many batches a pass has, how many steps each sequence, and how many of either there are
function SequenceLoader:split()
  local size, length = assigned{ batch_size = self.batch_size, length = self.length,
                                 drop_last = self.drop_last }
  local steps = #self.ds // size
  local count = self.drop_last and steps // length or -(-steps // length)
  if steps == 0 then
    raise("SequenceLoader: %d items make no %d sequences", #self.ds, self.batch_size)
  elseif count == 0 then
    raise("SequenceLoader: %d steps make no batch of %d, and drop_last drops what is left",
      steps, length)
  end
  return count, steps, size, length
end

function SequenceLoader:__len() return (self:split()) end

function SequenceLoader:__tostring()
  return ("SequenceLoader(%s, %d times %d steps of %d)"):format(tostring(self.ds), #self,
    self.length, self.batch_size)
end

-- Each value's steps first..last of all sequences, n of so many steps: (t, n, ...)
local function piece(ds, n, steps, first, last)
  local starts = mg.range(0, n - 1, { dtype = "int64" }) * steps
  local index = mg.range(first, last, { dtype = "int64" }):unsqueeze(2) + starts
  local flat = index:reshape(index.size)
  local values = table.pack(dataset.any(ds, flat))
  for k = 1, values.n do
    local shape = values[k].shape
    values[k] = values[k]:reshape { last - first + 1, n, table.unpack(shape, 2) }
  end
  return table.unpack(values, 1, values.n)
end

SequenceLoader.batches = checked("batches(self)", "an iterator of x, t, ... for one pass",
  function(self)
    local count, steps, size, length = self:split()
    return passes.iterator(self, count, function(n)
      return piece(self.ds, size, steps, (n - 1) * length + 1, math.min(n * length, steps))
    end)
  end)

function SequenceLoader:__call(_, last)
  if last == nil then return self:batches()(self.running) end
  return passes.next("SequenceLoader", self, last)
end

return { pad_sequence = pad_sequence, SequenceLoader = SequenceLoader }
