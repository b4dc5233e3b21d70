-- Layers with PyTorch's parameter names, shapes and initial distributions.
-- Parameters have the dtype that Config.dtype was when the layer was made.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local options = require "moongrad.nn.describe"
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
  self.weight = Parameter(uniform(bound, { self.outputs, inputs }, self.dtype))
  if self.has_bias then self.bias = Parameter(uniform(bound, { self.outputs }, self.dtype)) end
end

function Linear:_infer(find)
  local W = find "weight"
  if not self.weight and W and W.ndim == 2 then self:build(W.shape[2]) end
end

function Linear:_is_waiting() return not self.weight end

Linear.forward = checked("Linear(self, x: any)", "x W' + b", function(self, x)
  if not self.weight then
    if not mg.is_variable(x) or x.ndim == 0 then
      mg.raise("Linear: x must be a Variable whose last axis holds the inputs")
    elseif x.shape[x.ndim] == 0 then
      mg.raise("Linear: in is 0, expected a positive integer")
    end
    return self:_sized(self.build, x.shape[x.ndim], Linear.forward, x)
  end
  return mg.linear(x, self.weight, self.bias)
end)

function Linear:_describe()
  return options(("%s, %d"):format(self.weight and self.weight.shape[2] or "?", self.outputs),
    "bias", self.has_bias, true)
end

-- weight (out, in1, in2), bias (out)
local Bilinear = layer "Bilinear"

Bilinear.init = checked(
  "Bilinear(self, in1_features: int(1..), in2_features: int(1..), out_features: int(1..), " ..
    "{bias: bool = true})",
  "mg.bilinear: x W[k] y' + b[k] for each of the outputs",
  function(self, n, m, outputs, bias)
    local bound, dtype = 1 / math.sqrt(n), mg.Config.dtype
    self.weight = Parameter(uniform(bound, { outputs, n, m }, dtype))
    if bias then self.bias = Parameter(uniform(bound, { outputs }, dtype)) end
  end)

Bilinear.forward = checked("Bilinear(self, x: float, y: float)", "x W[k] y' + b[k]",
  function(self, x, y) return mg.bilinear(x, y, self.weight, self.bias) end)

function Bilinear:_describe()
  local s = self.weight.shape
  return options(("%d, %d, %d"):format(s[2], s[3], s[1]), "bias", self.bias ~= nil, true)
end

-- weight starts from N(0, 1), but for the row that pads, which is 0 and stays so.
local Embedding = layer "Embedding"

Embedding.init = checked(
  "Embedding(self, num_embeddings: int(1..), embedding_dim: int(1..), {padding_idx: int?})",
  "row i of weight (num_embeddings, embedding_dim) for each index i; x (...) gives (..., dim); " ..
    "row padding_idx (-1: the last) begins as 0 and gets no gradient",
  function(self, n, dim, padding)
    local W = mg.randn { n, dim, dtype = mg.Config.dtype }
    if padding then
      local at = padding < 0 and padding + n + 1 or padding
      if at < 1 or at > n then
        mg.raise("Embedding: padding_idx %d is not among %d rows", padding, n)
      end
      self.padding_idx, W[at] = at, 0
    end
    self.weight = Parameter(W)
  end)

Embedding.forward = checked("Embedding(self, index: int64 | uint8)", "rows of weight",
  function(self, index)
    return mg.embedding(index, self.weight, { padding_idx = self.padding_idx })
  end)

function Embedding:_describe()
  return options(table.concat(self.weight.shape, ", "), "padding_idx", self.padding_idx)
end

-- Layers of an op that takes so much beside x: name, its arguments in the constructor, doc
local function plain(name, op, takes, doc, describe)
  local class = layer(name)
  class.init = checked(("%s(self%s)"):format(name, takes ~= "" and ", " .. takes or ""), doc,
    function(self, ...) self.given = { ... } end)
  class.forward = checked(name .. "(self, x: array)", "mg." .. op,
    function(self, x) return mg[op](x, table.unpack(self.given)) end)
  function class:_describe() return describe(table.unpack(self.given)) end
end

local function number(v) return mg._format("%g", v) end

for axes, kind in ipairs { "1d", "2d", "3d" } do
  local channels = ({ "(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)" })[axes]
  plain("Dropout" .. kind, "dropout" .. kind, "p: number(0..1) = 0.5",
    ("in training each channel of x %s is 0 with probability p, else divided by 1 - p")
      :format(channels), number)
end

plain("AlphaDropout", "alpha_dropout", "p: number(0..<1) = 0.5",
  "dropout that keeps mean 0 and variance 1 of what selu gave", number)
plain("Unflatten", "unflatten", "axis: int, dims: ints(-1..)",
  "an axis made into several, which have dims; one may be -1",
  function(axis, dims) return ("%d, {%s}"):format(axis, table.concat(dims, ", ")) end)
plain("PixelShuffle", "pixel_shuffle", "upscale_factor: int(1..)",
  "x (..., C r^2, H, W) as (..., C, H r, W r)", number)
plain("PixelUnshuffle", "pixel_unshuffle", "downscale_factor: int(1..)",
  "x (..., C, H r, W r) as (..., C r^2, H, W)", number)
plain("ChannelShuffle", "channel_shuffle", "groups: int(1..)",
  "x (N, C, ...) with the channels of its groups dealt out in turn", number)

local LocalResponseNorm = layer "LocalResponseNorm"

LocalResponseNorm.init = checked("LocalResponseNorm(self, size: int(1..), " ..
    "{alpha: number(..) = 1e-4, beta: number(..) = 0.75, k: number(..) = 1})",
  "local_response_norm over `size` neighbouring channels of x (N, C, ...)",
  function(self, size, alpha, beta, k)
    self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
  end)

LocalResponseNorm.forward = checked("LocalResponseNorm(self, x: float)", "mg.local_response_norm",
  function(self, x)
    return mg.local_response_norm(x, self.size,
      { alpha = self.alpha, beta = self.beta, k = self.k })
  end)

function LocalResponseNorm:_describe()
  return options(tostring(self.size), "alpha", self.alpha, 1e-4, "beta", self.beta, 0.75,
    "k", self.k, 1)
end

local Dropout = layer "Dropout"

Dropout.init = checked("Dropout(self, p: number(0..1) = 0.5)",
  "in training each element is 0 with probability p, else divided by 1 - p",
  function(self, p) self.p = p end)

Dropout.forward = checked("Dropout(self, x: float)", "x, or what is left of it in training",
  function(self, x) return mg.dropout(x, self.p) end)

function Dropout:_describe() return mg._format("%g", self.p) end

local Flatten = layer "Flatten"

Flatten.init = checked("Flatten(self, first: int = 2, last: int = -1)",
  "axes first..last made one: (N, C, H, W) gives (N, C H W)",
  function(self, first, last) self.first, self.last = first, last end)

Flatten.forward = checked("Flatten(self, x: array)", "x with axes made one",
  function(self, x) return mg.flatten(x, self.first, self.last) end)

function Flatten:_describe() return options("", "first", self.first, 2, "last", self.last, -1) end

return layers
