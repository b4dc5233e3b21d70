-- mg.models: networks that are known by a name.

local models = {}

for _, file in ipairs{"gpt", "vision"} do
  for name, class in pairs(require("moongrad.models." .. file)) do models[name] = class end
end

return models
