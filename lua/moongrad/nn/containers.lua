-- Modules made of modules.

local mg = require "moongrad"
local Module = require "moongrad.nn.module".Module
local Linear = require "moongrad.nn.layers".Linear
local options = require "moongrad.options"
local raise = mg.raise

-- Sequential(f1, f2, ...): modules or plain functions, applied one after the other. They are its
-- array part: net[1] is the first, net[#net + 1] = f appends.
local Sequential = Module:extend("Sequential")

function Sequential:init(...)
  for i = 1, select("#", ...) do
    local f = select(i, ...)
    local kind = type(f)
    if kind == "table" and getmetatable(f) and getmetatable(f).__call then kind = "function" end
    if kind ~= "function" and (kind ~= "userdata" or mg.is_variable(f)) then
      raise("Sequential: argument %d is a %s, expected a module or a function", i, kind)
    end
    self[i] = f
  end
end

function Sequential:forward(x)
  for _, f in ipairs(self) do x = f(x) end
  return x
end

-- MLP({n1, n2, ...} [, {activation = mg.relu}]): Linear layers with these numbers of outputs, the
-- activation between them and not after the last. The input's size is left to the first forward.
local MLP = Module:extend("MLP")

function MLP:init(sizes, opts)
  if type(sizes) ~= "table" or #sizes == 0 then
    raise("MLP: expected a table of sizes, one for each layer")
  end
  self.activation = options("MLP", opts, { activation = false }).activation or mg.relu
  self.layers = {}
  for i, n in ipairs(sizes) do self.layers[i] = Linear(n) end
end

function MLP:forward(x)
  for i, layer in ipairs(self.layers) do
    x = layer(x)
    if i < #self.layers then x = self.activation(x) end
  end
  return x
end

return { Sequential = Sequential, MLP = MLP }
