-- Layers with PyTorch's parameter names, shapes and initial distributions.
-- Parameters have the dtype that Config.dtype was when the layer was made.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local Module, Parameter, checked = module.Module, module.Parameter, mg.checked

local layers = {}

-- A layer's class; its constructor and forward take what their signatures say.
local function layer(name)
  layers[name] = Module:extend(name)
  return layers[name]
end

-- U(-bound, bound), the default of PyTorch's layers with bound = 1/sqrt(inputs), which is its
-- kaiming_uniform_(a = sqrt(5)).
local function uniform(bound, dims, dtype)
  dims.dtype = dtype
  return (2 * mg.rand(dims) - 1) * bound
end

-- weight (out, in), bias (out). Without the inputs the parameters are made by the first forward, or
-- by load_state.
local Linear = layer "Linear"

Linear.init = checked(
  "Linear(self, [in_features: int(1..),] out_features: int(1..), {bias: bool = true})",
  "x W' + b over the last axis; the number of inputs is found at the first call if left out",
  function(self, inputs, outputs, bias)
    self.outputs, self.has_bias, self.dtype = outputs, bias, mg.Config.dtype
    if inputs then self:build(inputs) end
  end)

function Linear:build(inputs)
  local bound = 1 / math.sqrt(inputs)
  local weight = Parameter(uniform(bound, { self.outputs, inputs }, self.dtype))
  if self.has_bias then self.bias = Parameter(uniform(bound, { self.outputs }, self.dtype)) end
  self.weight = weight -- the last: with it, all is there
end

function Linear:infer(find)
  local W = find "weight"
  if not self.weight and W and W.ndim == 2 then self:build(W.shape[2]) end
end

function Linear:is_waiting() return not self.weight end

Linear.forward = checked("Linear(self, x: any)", "x W' + b", function(self, x)
  if not self.weight then
    if not mg.is_variable(x) or x.ndim == 0 then
      mg.raise("Linear: x must be a Variable whose last axis holds the inputs")
    elseif x.shape[x.ndim] == 0 then
      mg.raise("Linear: in is 0, expected a positive integer")
    end
    mg._outside(self.build, self, x.shape[x.ndim])
  end
  return mg.linear(x, self.weight, self.bias)
end)

function Linear:describe()
  return ("%s, %d"):format(self.weight and self.weight.shape[2] or "?", self.outputs)
end

-- weight starts from N(0, 1).
local Embedding = layer "Embedding"

Embedding.init = checked(
  "Embedding(self, num_embeddings: int(1..), embedding_dim: int(1..))",
  "row i of weight (num_embeddings, embedding_dim) for each index i; x (...) gives (..., dim)",
  function(self, n, dim)
    self.weight = Parameter(mg.randn { n, dim, dtype = mg.Config.dtype })
  end)

Embedding.forward = checked("Embedding(self, index: int64 | uint8)", "rows of weight",
  function(self, index) return mg.embedding(index, self.weight) end)

function Embedding:describe() return table.concat(self.weight.shape, ", ") end

local Dropout = layer "Dropout"

Dropout.init = checked("Dropout(self, p: number(0..1) = 0.5)",
  "in training each element is 0 with probability p, else divided by 1 - p",
  function(self, p) self.p = p end)

Dropout.forward = checked("Dropout(self, x: float)", "x, or what is left of it in training",
  function(self, x) return mg.dropout(x, self.p) end)

function Dropout:describe() return mg._format("%g", self.p) end

local Flatten = layer "Flatten"

Flatten.init = checked("Flatten(self, first: int = 2, last: int = -1)",
  "axes first..last made one: (N, C, H, W) gives (N, C H W)",
  function(self, first, last) self.first, self.last = first, last end)

Flatten.forward = checked("Flatten(self, x: array)", "x with axes made one",
  function(self, x) return mg.flatten(x, self.first, self.last) end)

return layers
