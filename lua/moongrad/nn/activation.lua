-- Activations as layers: a constructor's arguments follow x in the op's call.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local Module, Parameter, checked = module.Module, module.Parameter, mg.checked

-- name, op, what the constructor takes, and what of it the op is given behind x
local LIST = {
  {"ReLU", "relu"}, {"ReLU6", "relu6"}, {"SELU", "selu"}, {"SiLU", "silu"}, {"Mish", "mish"},
  {"Hardswish", "hardswish"}, {"Sigmoid", "sigmoid"}, {"LogSigmoid", "logsigmoid"},
  {"Tanh", "tanh"},
  {"LeakyReLU", "leaky_relu", "negative_slope: number = 0.01"},
  {"ELU", "elu", "alpha: number = 1"},
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
    function(self, value)
      if given then value = given(value) end
      self.argument = value
    end)
  class.forward = checked(name .. "(self, x: array)", "mg." .. op, function(self, x)
    if self.argument == nil then return mg[op](x) end
    return mg[op](x, self.argument)
  end)
  function class:describe()
    return type(self.argument) == "number" and mg._format("%g", self.argument) or ""
  end
end

local Identity = Module:extend "Identity"
layers.Identity = Identity
Identity.init = checked("Identity(self)", "x itself", function() end)
Identity.forward = checked("Identity(self, x: any)", "x itself", function(_, x) return x end)

-- He et al., "Delving deep into rectifiers", 2015.
local PReLU = Module:extend "PReLU"
layers.PReLU = PReLU
PReLU.init = checked("PReLU(self, num_parameters: int(1..) = 1, {init: number = 0.25})",
  "x where positive, weight x elsewhere; a weight for all, or for each channel, axis 2",
  function(self, n, start)
    self.weight = Parameter(mg.full({n}, start, mg.Config.dtype))
  end)
PReLU.forward = checked("PReLU(self, x: float)", "x, or weight x where it is negative",
  function(self, x)
    local w = self.weight
    if w.size > 1 and x.ndim > 2 then
      local shape = {w.size}
      for i = 2, x.ndim - 1 do shape[i] = 1 end
      w = w:reshape(shape)
    end
    return mg.where(x:gt(0), x, x * w)
  end)

return layers
