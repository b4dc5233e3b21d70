-- Layers that pool and resample, by the ops they are named after. They have no parameters.

local mg = require "moongrad"
local Module = require "moongrad.nn.module".Module
local options_of = require "moongrad.nn.describe"
local checked = mg.checked

local layers = {}

local DEFAULTS = { padding = 0, dilation = 1, ceil_mode = false, count_include_pad = true }

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
  function class:_describe()
    local given = { n = 0 }
    for _, key in ipairs(options) do
      local default = DEFAULTS[key]
      if key == "stride" then default = self.size end
      given[given.n + 1], given[given.n + 2], given[given.n + 3] = key, self.options[key], default
      given.n = given.n + 3
    end
    return options_of(text(self.size), table.unpack(given, 1, given.n))
  end
  layers[name] = class
end

local WINDOWS = "kernel_size: %s(1..), {stride: %s(1..) = kernel_size, padding: %s(0..) = 0, "

for axes, kind in ipairs{"int", "pair", "ints"} do
  local windows = WINDOWS:gsub("%%s", kind)
  local d = axes .. "d"
  layer("MaxPool" .. d, "max_pool" .. d,
    windows .. "dilation: " .. kind .. "(1..) = 1, ceil_mode: bool = false}",
    "the largest of each window", {"stride", "padding", "dilation", "ceil_mode"})
  layer("AvgPool" .. d, "avg_pool" .. d, windows .. "ceil_mode: bool = false, " ..
    "count_include_pad: bool = true" .. (axes >= 2 and ", divisor_override: int(1..)}" or "}"),
    "the average of each window",
    {"stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"})
  local shared = "output_size: " .. kind .. "(1..)"
  layer("AdaptiveMaxPool" .. d, "adaptive_max_pool" .. d, shared,
    "the largest of each of so many windows", {})
  layer("AdaptiveAvgPool" .. d, "adaptive_avg_pool" .. d, shared,
    "the average of each of so many windows", {})
end

local Upsample = Module:extend("Upsample")

Upsample.init = checked(
  "Upsample(self, size: ints(1..)?, {scale_factor: number(0<..) | numbers, " ..
    'mode: "nearest" | "linear" | "bilinear" | "bicubic" = "nearest", ' ..
    "align_corners: bool = false})",
  "interpolate of x (N, C, ...) to size, or by scale_factor",
  function(self, size, factor, mode, corners)
    if (size == nil) == (factor == nil) then
      mg.raise("Upsample: either size or scale_factor must be given")
    end
    self.options = { size = size, scale_factor = factor, mode = mode, align_corners = corners }
  end)

Upsample.forward = checked("Upsample(self, x: float)", "x with another size",
  function(self, x) return mg.interpolate(x, self.options) end)

function Upsample:_describe()
  local o = self.options
  return options_of(text(o.size or o.scale_factor) .. ", " .. o.mode,
    "align_corners", o.align_corners, false)
end

layers.Upsample = Upsample

return layers
