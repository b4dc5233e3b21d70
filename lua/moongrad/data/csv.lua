-- CSV(path, {target =, features =, ...}): a table of text, its rows as items. Further options are
-- those of mg.load: header, delimiter, missing, dtype.
--   x (d) or (n, d): the features, numbers, in the file's order or that of the names given
--   t () or (n): the target column, where there is one; of a column of text the labels 1..k, and
--   ds.classes are the texts, sorted

local mg = require "moongrad"
local check_list = require "moongrad.list"
local csv = require "moongrad.io.csv"
local TensorDataset = require "moongrad.data.dataset".TensorDataset
local raise = mg.raise

local CSV = TensorDataset:extend("CSV"):_seal("get", "t classes")

local function labels_of(texts)
  local classes, number, labels = {}, {}, {}
  for _, text in ipairs(texts) do
    if not number[text] then
      number[text] = true
      classes[#classes + 1] = text
    end
  end
  table.sort(classes, mg._before)
  for k, text in ipairs(classes) do number[text] = k end
  for i, text in ipairs(texts) do labels[i] = number[text] end
  return mg.tensor(labels, "int64"), classes
end

local function read(self, path, target, features, header, delimiter, missing, dtype)
  local r <close> = mg._open(path, "CSV")
  local t, keys = csv.read(r, nil, false, header, delimiter, missing, dtype)
  local columns = {}
  local n = check_list("CSV", "the list of features", features or {})
  if target and t[target] == nil then raise("CSV: %s has no column %s", path, tostring(target)) end
  features = features and table.move(features, 1, n, 1, {})
  if not features then
    features = {}
    for _, k in ipairs(keys) do
      if k ~= target then features[#features + 1] = k end
    end
  end
  for i, k in ipairs(features) do
    if t[k] == nil then raise("CSV: %s has no column %s", path, tostring(k)) end
    if not mg.is_variable(t[k]) then
      raise("CSV: column %s holds text; name the features, or make it the target", tostring(k))
    end
    columns[i] = t[k]:to(dtype or mg.Config.dtype)
  end
  if #columns == 0 then raise("CSV: %s has no features", path) end
  self.features, self.x = features, mg.stack(columns, 2)
  if not target then return TensorDataset.init(self, self.x) end
  self.t = t[target]
  if not mg.is_variable(self.t) then self.t, self.classes = labels_of(self.t) end
  TensorDataset.init(self, self.x, self.t)
end

CSV.init = mg.checked("CSV(self, path: string, {target: string | int, features: table, " ..
  csv.options .. "})", "the rows of a table as text: x, the features, and t, the target", read)

return {CSV = CSV}
