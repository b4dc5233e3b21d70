-- tree.lua -- tables of any form in files that hold arrays by name.
--
-- A flat table of Variables by name is such a file as it is. Of any other the metadata "moongrad"
-- says the form, as JSON: a table is an object, or an array where it is a list; null is an array of
-- the file, called by the keys that lead to it, joined by dots; numbers, strings and booleans are
-- what they are. An object with the name "#" is what JSON has not: {"#": "nan"}, {"#": "bytes",
-- "hex": ...} a string that is no UTF-8, {"#": "table", "pairs": [[key, value], ...]} a table whose
-- keys are not all strings.

local mg = require "moongrad.core"
local json = require "moongrad.io.json"
local raise = mg.raise

local tree = {}

local DEPTH = 32
local SHAPE = getmetatable(mg.tensor(0).shape) -- of what x.shape gives; comes back as a list

-- The path of what stands at key k of the table at path, nil: of the whole.
local function joined(path, k) return path and path .. "." .. k or tostring(k) end

-- ---- out of tables ----------------------------------------------------------------------------

local function float(v)
  if v ~= v then return '{"#":"nan"}' end
  if v == math.huge then return "1e999" end
  if v == -math.huge then return "-1e999" end
  local text
  for digits = 15, 17 do
    text = mg._format(("%%.%dg"):format(digits), v)
    if tonumber(text) == v then break end
  end
  return text:find "[.e]" and text or text .. ".0"
end

local function scalar(v)
  if math.type(v) == "integer" then return ("%d"):format(v) end
  if type(v) == "number" then return float(v) end
  if type(v) == "boolean" then return tostring(v) end
  if utf8.len(v) then return json.quote(v) end
  return '{"#":"bytes","hex":"' .. v:gsub(".", function(c) return ("%02x"):format(c:byte()) end) ..
    '"}'
end

-- Its keys in order, integers first, and whether they are those of a list, or strings alone.
local function keys_of(t, path)
  local keys, integers = {}, 0
  for k in next, t do
    if math.type(k) == "integer" then
      integers = integers + 1
    elseif type(k) ~= "string" then
      raise("save: a %s cannot name a Variable", type(k))
    elseif not utf8.len(k) or k:find "\0" then
      raise("save: %sthe key %q is no UTF-8, or has a NUL", path and path .. ": " or "", k)
    end
    keys[#keys + 1] = k
  end
  table.sort(keys, mg._before)
  local list = integers > 0 and integers == #keys and keys[1] == 1 and keys[#keys] == #keys
  return keys, list, integers == 0 and t["#"] == nil
end

-- encode(t): the list of its arrays, {name =, x =}, and its form; nil where it is flat.
function tree.encode(t)
  local arrays, names, flat = {}, {}, true

  local function value(v, path, depth)
    if mg.is_variable(v) then
      if names[path] then raise("save: two Variables are called %s", path) end
      names[path] = true
      arrays[#arrays + 1] = {name = path, x = v}
      return "null"
    end
    local kind = type(v)
    if kind == "number" or kind == "string" or kind == "boolean" then
      flat = false
      return scalar(v)
    elseif kind ~= "table" then
      raise("save: %s is a %s, expected a Variable, table, number, string or boolean", path, kind)
    elseif depth > DEPTH then
      raise("save: tables within tables, more than %d deep", DEPTH)
    end
    local class = getmetatable(v)
    if class and class ~= SHAPE then
      raise("save: %s is %s, not a plain table; save its :state(), if it has one",
        path or "argument 2",
        type(class) == "table" and class.__name and "an object of " .. class.__name or "an object")
    end
    flat = flat and depth == 0
    local keys, list, strings = keys_of(v, path)
    flat = flat and strings
    local parts = {}
    for i, k in ipairs(keys) do
      local part = value(v[k], joined(path, k), depth + 1)
      if list then parts[i] = part
      elseif strings then parts[i] = json.quote(k) .. ":" .. part
      else parts[i] = ("[%s,%s]"):format(scalar(k), part) end
    end
    local text = table.concat(parts, ",")
    if list then return "[" .. text .. "]" end
    if strings then return "{" .. text .. "}" end
    return '{"#":"table","pairs":[' .. text .. "]}"
  end

  local form = value(t, nil, 0)
  return arrays, not flat and form or nil
end

-- ---- into tables ------------------------------------------------------------------------------

local function malformed(label) raise('%s: the metadata "moongrad" are malformed', label) end

-- The pairs of a table's form, whichever of the three it is
local function pairs_of(label, form)
  local list = {}
  if getmetatable(form) == json.array then
    for i, v in ipairs(form) do list[i] = {i, v} end
  elseif form["#"] == "table" then
    if getmetatable(form.pairs) ~= json.array then malformed(label) end
    for i, p in ipairs(form.pairs) do
      if getmetatable(p) ~= json.array or #p ~= 2 or
         type(p[1]) ~= "string" and math.type(p[1]) ~= "integer" then malformed(label) end
      list[i] = p
    end
  else
    for k, v in pairs(form) do list[#list + 1] = {k, v} end
  end
  return list
end

local function special(label, form)
  if form["#"] == "nan" then return 0 / 0 end
  local hex = form.hex
  if form["#"] ~= "bytes" or type(hex) ~= "string" or #hex % 2 ~= 0 or hex:find "%X" then
    malformed(label)
  end
  return (hex:gsub("%x%x", function(c) return string.char(tonumber(c, 16)) end))
end

-- decode(label, text, array, wanted): the table of that form. array(name, inside, asked) gives an
-- array of the file, or nil; inside: it is wanted; asked: by its own name. wanted, if any, is the
-- set of paths to be read; those found go.
function tree.decode(label, text, array, wanted)
  local found = {}
  local function value(form, path, inside)
    local asked = path and wanted and wanted[path]
    if asked then inside, wanted[path], found[path] = true, nil, true
    elseif path and found[path] then raise("%s: two things are called %s", label, path) end
    if form == json.null then return array(path, inside, asked) end
    if type(form) ~= "table" or form["#"] ~= nil and form["#"] ~= "table" then
      if not inside then return nil end
      return type(form) == "table" and special(label, form) or form
    end
    local t, seen = {}, {}
    for _, p in ipairs(pairs_of(label, form)) do
      local k = p[1]
      if seen[k] then malformed(label) end
      seen[k] = true
      t[k] = value(p[2], joined(path, k), inside)
    end
    if inside or next(t) ~= nil then return t end
  end
  local form = json.decode(text)
  if type(form) ~= "table" or form == json.null then malformed(label) end
  return value(form, nil, not wanted) or {}
end

return tree
