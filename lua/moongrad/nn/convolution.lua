-- Convolutions as layers, with PyTorch's parameter names, shapes and initial distributions.
-- Parameters have the dtype that Config.dtype was when the layer was made.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local options = require "moongrad.nn.describe"
local Module, Parameter, checked = module.Module, module.Parameter, mg.checked

local convolutions = {}

-- A number for each axis
local function each(name, what, v, axes)
  if type(v) ~= "table" then return v end
  if #v == 1 then
    for i = 2, axes do v[i] = v[1] end
  elseif #v ~= axes then
    mg.raise("%s: %s has %d numbers, expected one or one for each of %d axes", name, what, #v, axes)
  end
  return v
end

-- weight (rows, columns / groups, kernel ...): of a transposed one the rows are the inputs. Without
-- the inputs the parameters are made by the first forward, or by load_state.
local Convolution = Module:extend("Convolution")

function Convolution:prepare(inputs, outputs, kernel, given, bias)
  local name, axes = getmetatable(self).__name, self.axes
  self.outputs, self.kernel = outputs, each(name, "kernel_size", kernel, axes)
  self.has_bias, self.dtype = bias, mg.Config.dtype
  for what, v in pairs(given) do self[what] = each(name, what, v, axes) end
  if outputs % self.groups ~= 0 then
    mg.raise("%s: groups %d does not divide out_channels %d", name, self.groups, outputs)
  end
  if inputs then self:build(inputs) end
end

-- U(-bound, bound) with bound = 1/sqrt(fan_in), PyTorch's kaiming_uniform_(a = sqrt(5)); its fan_in
-- is what stands behind weight's first axis.
function Convolution:build(inputs)
  if inputs == 0 or inputs % self.groups ~= 0 then
    mg.raise("%s: groups %d does not divide in_channels %d", getmetatable(self).__name,
      self.groups, inputs)
  end
  local rows, columns = self.outputs, inputs
  if self.transposed then rows, columns = inputs, self.outputs end
  local dims, fan_in = {rows, columns // self.groups, dtype = self.dtype}, columns // self.groups
  for i, k in ipairs(self.kernel) do
    dims[i + 2], fan_in = k, fan_in * k
  end
  local bound = 1 / math.sqrt(fan_in)
  self.weight = Parameter((2 * mg.rand(dims) - 1) * bound)
  if self.has_bias then
    self.bias = Parameter((2 * mg.rand{self.outputs, dtype = self.dtype} - 1) * bound)
  end
end

function Convolution:_infer(find)
  local W = find "weight"
  if self.weight or not W or W.ndim ~= self.axes + 2 then return end
  self:build(self.transposed and W.shape[1] or W.shape[2] * self.groups)
end

function Convolution:_is_waiting() return not self.weight end

-- The first call of one that has no parameters yet
function Convolution:first(forward, x)
  if x.ndim ~= self.axes + 1 and x.ndim ~= self.axes + 2 then
    mg.raise("%s: x has %d axes, expected %d, or %d with a batch", getmetatable(self).__name,
      x.ndim, self.axes + 1, self.axes + 2)
  end
  return self:_sized(self.build, x.shape[x.ndim - self.axes], forward, x)
end

function Convolution:_describe()
  local inputs = "?"
  if self.weight then
    inputs = self.transposed and self.weight.shape[1] or self.weight.shape[2] * self.groups
  end
  local sizes = ("%s, %d, {%s}"):format(inputs, self.outputs, table.concat(self.kernel, ", "))
  return options(sizes, "stride", self.stride, 1, "padding", self.padding, 0,
    "output_padding", self.output_padding, 0, "dilation", self.dilation, 1,
    "groups", self.groups, 1, "bias", self.has_bias, true, "padding_mode", self.padding_mode,
    "zeros")
end

local SIZES = "[in_channels: int(1..),] out_channels: int(1..), kernel_size: ints(1..), "
local DOC = "%s of x (n, in, ...) or (in, ...); the number of channels in is found at the first " ..
  "call if left out"

for axes = 1, 3 do
  local name = "Conv" .. axes .. "d"
  local op = mg["conv" .. axes .. "d"]
  local Conv = Convolution:extend(name)
  convolutions[name] = Conv
  Conv.axes = axes

  Conv.init = checked(name .. "(self, " .. SIZES ..
    "{stride: ints(1..) = 1, padding: ints(0..) | \"same\" = 0, dilation: ints(1..) = 1, " ..
    "groups: int(1..) = 1, bias: bool = true, " ..
    'padding_mode: "zeros" | "reflect" | "replicate" | "circular" = "zeros"})',
    DOC:format("conv" .. axes .. "d") .. "; padding_mode: what stands in the border, as in pad",
    function(self, inputs, outputs, kernel, stride, padding, dilation, groups, bias, mode)
      local padded = padding == "same"
      for _, p in ipairs(padded and {} or padding) do padded = padded or p > 0 end
      if mode ~= "zeros" and not padded then
        mg.raise("%s: padding_mode is of no use without padding", name)
      end
      self.padding_mode = mode
      self:prepare(inputs, outputs, kernel,
        {stride = stride, padding = padding, dilation = dilation, groups = groups}, bias)
    end)

  -- The border of x, the last axis first, and none left to the op
  local function bordered(self, x)
    local widths = {}
    for i = axes, 1, -1 do
      local before, after
      if self.padding == "same" then
        local stride = type(self.stride) == "table" and self.stride[i] or self.stride
        if stride ~= 1 then
          mg.raise('%s: padding "same" is for stride 1 alone, got %d', name, stride)
        end
        local dilation = self.dilation
        if type(dilation) == "table" then dilation = dilation[i] end
        local all = (self.kernel[i] - 1) * dilation
        before, after = all // 2, all - all // 2
      else
        before = type(self.padding) == "table" and self.padding[i] or self.padding
        after = before
      end
      widths[#widths + 1], widths[#widths + 2] = before, after
    end
    return x:pad(widths, {mode = self.padding_mode}), 0
  end

  Conv.forward = checked(name .. "(self, x: float)", "x through the kernels of weight",
    function(self, x)
      if not self.weight then return self:first(Conv.forward, x) end
      local padding = self.padding
      if self.padding_mode ~= "zeros" then x, padding = bordered(self, x) end
      return op(x, self.weight, self.bias, {stride = self.stride, padding = padding,
        dilation = self.dilation, groups = self.groups})
    end)
end

for axes = 1, 3 do
  local name = "ConvTranspose" .. axes .. "d"
  local op = mg["conv_transpose" .. axes .. "d"]
  local Conv = Convolution:extend(name)
  convolutions[name] = Conv
  Conv.axes, Conv.transposed = axes, true

  Conv.init = checked(name .. "(self, " .. SIZES ..
    "{stride: ints(1..) = 1, padding: ints(0..) = 0, output_padding: ints(0..) = 0, " ..
    "groups: int(1..) = 1, bias: bool = true, dilation: ints(1..) = 1})",
    DOC:format("conv_transpose" .. axes .. "d"),
    function(self, inputs, outputs, kernel, stride, padding, output_padding, groups, bias, dilation)
      self:prepare(inputs, outputs, kernel, {stride = stride, padding = padding,
        output_padding = output_padding, groups = groups, dilation = dilation}, bias)
    end)

  Conv.forward = checked(name .. "(self, x: float)",
    "what a convolution's gradient does, with weight",
    function(self, x)
      if not self.weight then return self:first(Conv.forward, x) end
      return op(x, self.weight, self.bias, {stride = self.stride, padding = self.padding,
        output_padding = self.output_padding, groups = self.groups, dilation = self.dilation})
    end)
end

return convolutions
