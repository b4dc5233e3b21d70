-- mg.data: datasets and the DataLoader. Each file below gives a table; they are joined here.

local data = {}

for _, file in ipairs{"loader", "idx", "cifar", "csv", "curves", "grid", "subset", "samplers",
                      "text", "tokenizers", "sequences", "transforms"} do
  for name, value in pairs(require("moongrad.data." .. file)) do data[name] = value end
end

for _, name in ipairs{"Dataset", "TensorDataset", "collate"} do
  data[name] = require("moongrad.data.dataset")[name]
end

return data
