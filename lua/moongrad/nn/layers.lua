-- Layers with PyTorch's parameter names, shapes and initial distributions.
-- Parameters have the dtype that Config.dtype was when the layer was made.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local options = require "moongrad.options"
local Module, Parameter, raise = module.Module, module.Parameter, mg.raise

local layers = {}

-- A size given to a layer, as an integer.
local function size(layer, name, n)
  local i = math.tointeger(n)
  if not i or i < 1 then
    raise("%s: %s is %s, expected a positive integer", layer, name, tostring(n))
  end
  return i
end

-- U(-bound, bound), the default of PyTorch's layers with bound = 1/sqrt(inputs), which is its
-- kaiming_uniform_(a = sqrt(5)).
local function uniform(bound, dims, dtype)
  dims.dtype = dtype
  return (2 * mg.rand(dims) - 1) * bound
end

-- Linear(out [, opts]), Linear(in, out [, {bias = true}]): y = x W' + b over the last axis.
-- weight (out, in), bias (out). Without `in` the parameters are made by the first forward, or by
-- load_state.
local Linear = Module:extend("Linear")
layers.Linear = Linear

function Linear:init(inputs, outputs, opts)
  if type(outputs) ~= "number" then inputs, outputs, opts = nil, inputs, outputs end
  self.outputs = size("Linear", "out", outputs)
  self.has_bias = options("Linear", opts, { bias = true }).bias
  self.dtype = mg.Config.dtype
  if inputs then self:build(size("Linear", "in", inputs)) end
end

function Linear:build(inputs)
  local bound = 1 / math.sqrt(inputs)
  self.weight = Parameter(uniform(bound, { self.outputs, inputs }, self.dtype))
  if self.has_bias then self.bias = Parameter(uniform(bound, { self.outputs }, self.dtype)) end
end

function Linear:infer(find)
  local W = find "weight"
  if not self.weight and W and W.ndim == 2 then self:build(W.shape[2]) end
end

function Linear:forward(x)
  if not self.weight then
    if not mg.is_variable(x) or x.ndim == 0 then
      mg.raise("Linear: x must be a Variable whose last axis holds the inputs")
    end
    self:build(size("Linear", "in", x.shape[x.ndim]))
  end
  return mg.linear(x, self.weight, self.bias)
end

function Linear:describe()
  return ("%s, %d"):format(self.weight and self.weight.shape[2] or "?", self.outputs)
end

-- Embedding(n, dim): row i of weight (n, dim) for each index i of 1..n; x (...) gives (..., dim).
-- weight starts from N(0, 1).
local Embedding = Module:extend("Embedding")
layers.Embedding = Embedding

function Embedding:init(n, dim)
  n, dim = size("Embedding", "n", n), size("Embedding", "dim", dim)
  self.weight = Parameter(mg.randn { n, dim, dtype = mg.Config.dtype })
end

function Embedding:forward(x) return mg.embedding(x, self.weight) end

function Embedding:describe() return table.concat(self.weight.shape, ", ") end

-- LayerNorm([shape,] {eps = 1e-5, elementwise_affine = true, bias = true}): normalises the last
-- axes, those of `shape`, a number or a table. Without it the last axis, whatever its size.
local LayerNorm = Module:extend("LayerNorm")
layers.LayerNorm = LayerNorm

function LayerNorm:init(shape, opts)
  if type(shape) == "table" and #shape == 0 then shape, opts = nil, shape end
  opts = options("LayerNorm", opts, { eps = 1e-5, elementwise_affine = true, bias = true })
  self.eps, self.affine, self.has_bias = opts.eps, opts.elementwise_affine, opts.bias
  self.dtype = mg.Config.dtype
  if shape then self:build(type(shape) == "table" and shape or { shape }) end
end

function LayerNorm:build(shape)
  local dims = { dtype = self.dtype }
  for i, n in ipairs(shape) do dims[i] = size("LayerNorm", "shape", n) end
  self.sizes = table.move(dims, 1, #dims, 1, {})
  if not self.affine then return end
  self.weight = Parameter(mg.ones(dims))
  if self.has_bias then self.bias = Parameter(mg.zeros(dims)) end
end

function LayerNorm:infer(find)
  local W = find "weight"
  if not self.sizes and W then self:build(W.shape) end
end

function LayerNorm:forward(x)
  if not self.sizes then self:build { x.shape[x.ndim] } end
  return mg.layer_norm(x, self.sizes, self.weight, self.bias, { eps = self.eps })
end

function LayerNorm:describe() return self.sizes and table.concat(self.sizes, ", ") or "?" end

-- Dropout(p = 0.5): in training zeroes elements with probability p and scales the others by
-- 1/(1-p); with Config.train off it gives its input.
local Dropout = Module:extend("Dropout")
layers.Dropout = Dropout

function Dropout:init(p)
  p = p or 0.5
  if type(p) ~= "number" or not (p >= 0 and p <= 1) then
    raise("Dropout: p is %s, expected a number in 0..1", tostring(p))
  end
  self.p = p
end

function Dropout:forward(x) return mg.dropout(x, self.p) end

function Dropout:describe() return mg._format("%g", self.p) end

-- Flatten(first = 2, last = -1): those axes become one; (N, C, H, W) gives (N, C H W).
local Flatten = Module:extend("Flatten")
layers.Flatten = Flatten

function Flatten:init(first, last) self.first, self.last = first or 2, last or -1 end

function Flatten:forward(x) return mg.flatten(x, self.first, self.last) end

return layers
