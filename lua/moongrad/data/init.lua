-- mg.data: datasets and the DataLoader. Each file below gives a table; they are joined here.

local data = {}

for _, file in ipairs { "dataset", "loader", "idx", "csv", "curves", "grid" } do
  for name, value in pairs(require("moongrad.data." .. file)) do data[name] = value end
end

return data
