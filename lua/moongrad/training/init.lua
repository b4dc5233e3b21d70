-- mg.training: what goes around the loop. Each file below gives a table; they are joined here.

local training = {}

for _, file in ipairs{"checkpoint", "stopping", "averages"} do
  for name, value in pairs(require("moongrad.training." .. file)) do training[name] = value end
end

return training
