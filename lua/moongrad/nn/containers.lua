-- Modules made of modules.

local mg = require "moongrad"
local Module = require "moongrad.nn.module".Module
local Linear = require "moongrad.nn.layers".Linear
local checked = mg.checked

-- They are its array part: net[1] is the first, net[#net + 1] = f appends.
local Sequential = Module:extend("Sequential")

Sequential.init = checked("Sequential(self, ...: module | function)",
  "modules or plain functions, applied one after the other",
  function(self, ...)
    for i = 1, select("#", ...) do self[i] = select(i, ...) end
  end)

-- What stood behind a hole would have parameters, and never be called.
function Sequential:__newindex(k, v)
  if math.type(k) == "integer" and k < 1 then
    mg.raise("Sequential: there is no member %d, the first is 1", k)
  elseif math.type(k) == "integer" and k > #self + 1 then
    mg.raise("Sequential: there is no member %d for member %d to follow", k - 1, k)
  elseif math.type(k) == "integer" then
    if Module._is_class(v) then
      mg.raise("Sequential: got the class %s, expected a module or a function: %s() makes one",
        v.__name, v.__name)
    end
  end
  Module.__newindex(self, k, v)
end

Sequential.forward = checked("Sequential(self, x: any)", "all of them, one after the other",
  function(self, x)
    local n = 0
    for i, f in ipairs(self) do
      n = i
      local meta = type(f) ~= "function" and getmetatable(f)
      if meta == nil or meta and not meta.__call then
        mg.raise("Sequential: member %d is a %s, expected a module or a function", i, type(f))
      end
      x = f(x)
    end
    if rawlen(self) ~= n then
      mg.raise("Sequential: member %d is a nil: table.remove takes one away", n + 1)
    end
    return x
  end)

local MLP = Module:extend("MLP")

MLP.init = checked("MLP(self, sizes: ints(1..), {activation: module | function})",
  "Linear layers with so many outputs each, the activation (mg.relu) between them; the number " ..
  "of inputs is left to the first call",
  function(self, sizes, activation)
    if #sizes == 0 then mg.raise("MLP: expected a table of sizes, one for each layer") end
    self.activation = activation or mg.relu
    self.layers = {}
    for i, n in ipairs(sizes) do self.layers[i] = Linear(n) end
  end)

MLP.forward = checked("MLP(self, x: any)", "all of them, one after the other", function(self, x)
  for i, layer in ipairs(self.layers) do
    x = layer(x)
    if i < #self.layers then x = self.activation(x) end
  end
  return x
end)

return { Sequential = Sequential, MLP = MLP }
