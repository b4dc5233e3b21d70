-- Samplers: which items a pass goes through, and in what order. One has :positions(), an int64
-- Variable, asked for anew for each pass, and # (its length): data.DataLoader(ds, {sampler = s}).
-- Those here know of how many items they choose, :_of(): nil where a class that extends them has
-- positions of its own.

local mg = require "moongrad"
local Object = require "moongrad.class"
local dataset = require "moongrad.data.dataset"
local checked, raise = mg.checked, mg.raise

local Sampler = Object:extend("Sampler")
Sampler.is_sampler = true

mg._docs[Sampler] = "Sampler:extend(name)\n" ..
  "a class of samplers: with positions(self), int64 positions for one pass, and # (__len)"

function Sampler:__len() return self.n or 0 end

function Sampler:positions()
  raise("%s has no positions: function %s:positions() ... end says which items a pass has",
    getmetatable(self).__name, getmetatable(self).__name)
end

function Sampler:__tostring() return ("%s(%d items)"):format(getmetatable(self).__name, #self) end

local RandomSampler = Sampler:extend("RandomSampler"):_seal()

-- A dataset may grow between passes.
local function count(self)
  local of = #self.ds
  if not self.replacement and #self > of then
    raise("RandomSampler: num_samples = %d of %d items needs replacement", #self, of)
  end
  return of
end

RandomSampler.init = checked(
  "RandomSampler(self, ds: any, {replacement: bool = false, num_samples: int(1..)?})",
  "items by chance: all in random order, or num_samples of them, with replacement perhaps",
  function(self, ds, replacement, n)
    dataset.check("RandomSampler", ds)
    self.ds, self.replacement, self.n = ds, replacement, n or false
    count(self)
  end)

function RandomSampler:__len() return self.n or #self.ds end

function RandomSampler:_of()
  return self.positions == RandomSampler.positions and count(self) or nil
end

function RandomSampler:positions()
  local of = count(self)
  if self.replacement then return mg.randint(1, of, { #self }) end
  return mg.randperm(of)[{ { 1, #self } }]
end

local WeightedRandomSampler = Sampler:extend("WeightedRandomSampler"):_seal()

WeightedRandomSampler.init = checked(
  "WeightedRandomSampler(self, weights: array, num_samples: int(1..), {replacement: bool = true})",
  "num_samples items, each with a chance that goes by its weight: for classes of unlike sizes",
  function(self, weights, n, replacement)
    if weights.ndim ~= 1 or weights.size == 0 then
      raise("WeightedRandomSampler: weights must be a list of numbers")
    end
    weights = weights:to "float64":detach()
    local least, sum = weights:min():item(), weights:sum():item()
    if not (least >= 0 and sum > 0 and sum < math.huge) then
      raise("WeightedRandomSampler: weights must be numbers that are not negative, some above 0")
    end
    local some = mg.count_nonzero(weights):item()
    if not replacement and n > some then
      raise("WeightedRandomSampler: %d samples of %d items with a weight need replacement", n, some)
    end
    self.weights, self.n, self.replacement = weights, n, replacement
  end)

function WeightedRandomSampler:_of()
  return self.positions == WeightedRandomSampler.positions and #self.weights or nil
end

function WeightedRandomSampler:positions()
  local w = self.weights
  if self.replacement then
    local ends = w:cumsum(1)
    local u = mg.rand { self.n, dtype = "float64" } * ends[-1]
    return mg.searchsorted(ends, u, { right = true }):clamp { max = #w }
  end
  -- the first n of exponential waiting times are a sample without replacement
  local u = mg.rand { #w, dtype = "float64" }
  return mg.argsort(-mg.log1p(-u) / w)[{ { 1, self.n } }]
end

return { Sampler = Sampler, RandomSampler = RandomSampler,
         WeightedRandomSampler = WeightedRandomSampler }
