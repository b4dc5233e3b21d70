-- What a layer prints between its parentheses: of its options those that are not what they are
-- where nothing is said.

local mg = require "moongrad"

local function text(v)
  if type(v) == "table" then
    local parts = {}
    for i, e in ipairs(v) do parts[i] = text(e) end
    return "{" .. table.concat(parts, ", ") .. "}"
  end
  return type(v) == "number" and mg._format("%g", v) or tostring(v)
end

-- A number stands for a list of it.
local function same(v, default)
  if type(v) ~= "table" then return v == default end
  for i, e in ipairs(v) do
    if e ~= (type(default) == "table" and default[i] or default) then return false end
  end
  return true
end

-- head, then "name = value" of each name, value, default; a nil is not there.
return function(head, ...)
  local parts, given = {head ~= "" and head or nil}, table.pack(...)
  for i = 1, given.n, 3 do
    local name, v, default = given[i], given[i + 1], given[i + 2]
    if v ~= nil and not same(v, default) then parts[#parts + 1] = name .. " = " .. text(v) end
  end
  return table.concat(parts, ", ")
end
