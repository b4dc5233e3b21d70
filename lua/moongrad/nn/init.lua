-- mg.nn: modules and layers. Each file below gives a table of classes; they are joined here.

local nn = {}

for _, file in ipairs { "module", "layers", "convolution", "containers", "recurrent",
                        "pooling", "normalization",
                        "attention", "transformer", "activation", "initialize" } do
  for name, class in pairs(require("moongrad.nn." .. file)) do nn[name] = class end
end

return nn
