-- Activations as layers: a constructor's arguments follow x in the op's call.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local options = require "moongrad.nn.describe"
local Module, Parameter, checked = module.Module, module.Parameter, mg.checked

-- name, op, what the constructor takes, and what of it the op is given behind x
local LIST = {
  {"ReLU", "relu"}, {"ReLU6", "relu6"}, {"SELU", "selu"}, {"SiLU", "silu"}, {"Mish", "mish"},
  {"Hardswish", "hardswish"}, {"Sigmoid", "sigmoid"}, {"LogSigmoid", "logsigmoid"},
  {"Tanh", "tanh"}, {"Hardsigmoid", "hardsigmoid"}, {"Softmin", "softmin", "axis: int = -1"},
  {"CELU", "celu", "alpha: number(0<..) = 1"},
  {"Hardshrink", "hardshrink", "lambda: number(0..inf) = 0.5"},
  {"Softshrink", "softshrink", "lambda: number(0..inf) = 0.5"},
  {"Hardtanh", "hardtanh", "{min: number(-inf..inf) = -1, max: number(-inf..inf) = 1}",
   function(min, max) return {min = min, max = max} end},
  {"LeakyReLU", "leaky_relu", "negative_slope: number(..) = 0.01"},
  {"ELU", "elu", "alpha: number(..) = 1"},
  {"GELU", "gelu", '{approximate: "none" | "tanh" = "none"}',
   function(how) if how == "tanh" then return {approximate = how} end end},
  {"Softplus", "softplus", "{beta: number(0<..) = 1}", function(beta) return {beta = beta} end},
  {"Softmax", "softmax", "axis: int = -1"}, {"LogSoftmax", "log_softmax", "axis: int = -1"},
  {"GLU", "glu", "axis: int = -1"},
}

local layers = {}

for _, entry in ipairs(LIST) do
  local name, op, takes, given = table.unpack(entry)
  local class = Module:extend(name)
  layers[name] = class
  class.init = checked(("%s(self%s)"):format(name, takes and ", " .. takes or ""),
    "mg." .. op .. " as a layer",
    function(self, value, ...)
      if given then value = given(value, ...) end
      self.argument = value
    end)
  class.forward = checked(name .. "(self, x: array)", "mg." .. op, function(self, x)
    if self.argument == nil then return mg[op](x) end
    return mg[op](x, self.argument)
  end)
  function class:_describe()
    local a = self.argument
    if type(a) ~= "table" then return a and mg._format("%g", a) or "" end
    return options("", "approximate", a.approximate, "none", "beta", a.beta, 1, "min", a.min, -1,
      "max", a.max, 1)
  end
end

local Identity = Module:extend "Identity"
layers.Identity = Identity
Identity.init = checked("Identity(self)", "x itself", function() end)
Identity.forward = checked("Identity(self, x: any)", "x itself", function(_, x) return x end)

-- He et al., "Delving deep into rectifiers", 2015.
local PReLU = Module:extend "PReLU"
layers.PReLU = PReLU
PReLU.init = checked("PReLU(self, num_parameters: int(1..) = 1, {init: number(..) = 0.25})",
  "x where positive, weight x elsewhere; a weight for all, or for each channel, axis 2",
  function(self, n, start)
    self.weight = Parameter(mg.full({n}, start, mg.Config.dtype))
  end)
PReLU.forward = checked("PReLU(self, x: float)", "mg.prelu",
  function(self, x) return mg.prelu(x, self.weight) end)
function PReLU:_describe() return tostring(self.weight.size) end

return layers
