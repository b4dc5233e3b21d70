-- Layers that pool, each by the op it is named after. They have no parameters.

local mg = require "moongrad"
local Module = require "moongrad.nn.module".Module
local checked = mg.checked

local layers = {}

local function text(size)
  return type(size) == "table" and "{" .. table.concat(size, ", ") .. "}" or tostring(size)
end

-- options: their names, as the signature gives them behind the size
local function layer(name, op, signature, doc, options)
  local class = Module:extend(name)
  class.init = checked(name .. "(self, " .. signature .. ")", doc, function(self, size, ...)
    self.size = size
    if #options == 0 then return end
    self.options = {}
    for i, key in ipairs(options) do self.options[key] = select(i, ...) end
  end)
  class.forward = checked(name .. "(self, x: float)", doc, function(self, x)
    return mg[op](x, self.size, self.options)
  end)
  function class:describe() return text(self.size) end
  layers[name] = class
end

local WINDOWS = "kernel_size: %s(1..), {stride: %s(1..) = kernel_size, padding: %s(0..) = 0, "

for axes, kind in ipairs{"int", "pair"} do
  local windows = WINDOWS:gsub("%%s", kind)
  local d = axes .. "d"
  layer("MaxPool" .. d, "max_pool" .. d,
    windows .. "dilation: " .. kind .. "(1..) = 1, ceil_mode: bool = false}",
    "the largest of each window", {"stride", "padding", "dilation", "ceil_mode"})
  layer("AvgPool" .. d, "avg_pool" .. d, windows .. "ceil_mode: bool = false, " ..
    "count_include_pad: bool = true" .. (axes == 2 and ", divisor_override: int(1..)}" or "}"),
    "the average of each window",
    {"stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"})
  local shared = "output_size: " .. kind .. "(1..)"
  layer("AdaptiveMaxPool" .. d, "adaptive_max_pool" .. d, shared,
    "the largest of each of so many windows", {})
  layer("AdaptiveAvgPool" .. d, "adaptive_avg_pool" .. d, shared,
    "the average of each of so many windows", {})
end

return layers
