-- csv.lua -- tables as text: .csv, and .tsv with tabs (RFC 4180). A column of whole numbers becomes
-- int64, one of numbers floats, one of true and false bool; of anything else a list of strings.

local mg = require "moongrad.core"
local raise = mg.raise
local check_list = require "moongrad.list"

local csv = {ending = "csv"}

-- What says nothing: nan among numbers, "" among strings.
local MISSING = {"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"}

csv.options = 'header: bool | strings | "auto" = "auto", delimiter: string?, missing: strings?, ' ..
  "dtype: dtype?"
csv.loading = mg.signature("load(path: string, {list: bool = false, " .. csv.options .. "})")
csv.saving = mg.signature("save(path: string, x: any, {columns: strings?, header: bool = true, " ..
  "delimiter: string?})")

local function delimiter_of(f, delimiter)
  delimiter = delimiter or f:label():find "%.tsv$" and "\t" or ","
  if #delimiter ~= 1 or delimiter:find '[\r\n\0"%w.+%-]' then
    raise("%s: the delimiter is %q, expected one character that is no quote and stands in no " ..
      "number or word", f:label(), delimiter)
  end
  return delimiter
end

-- The key of each column: its name, or its number where there are none.
local function keys_of(r, columns, header)
  local keys, seen = {}, {}
  if type(header) == "table" and #header ~= #columns then
    raise("%s: header has %d names, the file %d columns", r:label(), #header, #columns)
  end
  for i, c in ipairs(columns) do
    keys[i] = type(header) == "table" and header[i] or c.name or i
    if seen[keys[i]] then raise("%s: two columns are called %s", r:label(), keys[i]) end
    seen[keys[i]] = i
  end
  return keys, seen
end

-- A table of columns; and their keys in order. A table as header: these are the names, the file has
-- none.
function csv.read(r, names, list, header, delimiter, missing, dtype)
  local first
  if header ~= "auto" then first = header == true end
  local sheet <close> = mg._sheet(r, delimiter_of(r, delimiter), first, missing or MISSING)
  local columns, rows = sheet:columns()
  local keys, at = keys_of(r, columns, header)
  local wanted = {}
  for _, name in ipairs(names or keys) do
    if not at[name] then raise("%s: there is no column %s in it", r:label(), name) end
    wanted[at[name]] = true
  end
  local t, values = {}, not list and sheet:read(wanted, dtype or mg.Config.dtype)
  for i in pairs(wanted) do
    t[keys[i]] = values and values[i] or {dtype = columns[i].dtype, shape = {rows}}
  end
  return t, keys
end

function csv.get(r, names, list, header, delimiter, missing, dtype)
  if list and dtype then raise("%s: dtype is of what is loaded, list loads nothing", r:label()) end
  return (csv.read(r, names, list, header, delimiter, missing, dtype))
end

-- ---- writing ----------------------------------------------------------------------------------

-- The columns of a table in the order asked for, or of their names; and the names, if any.
local function columns_of(label, t, order)
  local columns, names = {}, {}
  if order and not t[1] then names = order
  else
    for k in pairs(t) do
      if type(k) ~= "string" and math.type(k) ~= "integer" then
        raise("%s: a %s is no name of a column", label, type(k))
      elseif type(k) == "string" and k:find "\0" then
        raise("%s: the name %q has a NUL", label, k)
      end
      names[#names + 1] = k
    end
    table.sort(names, mg._before)
  end
  for i, k in ipairs(names) do
    columns[i] = t[k]
    if t[k] == nil then raise("%s: there is no column %s", label, k) end
  end
  if type(names[1]) == "number" then
    for i, k in ipairs(names) do
      if k ~= i then raise("%s: columns have names, or numbers from 1", label) end
    end
    names = order
    if names and #names ~= #columns then
      raise("%s: %d names, but %d columns", label, #names, #columns)
    end
  end
  return columns, names
end

local function length_of(label, name, c)
  if mg.is_variable(c) then
    if c.ndim ~= 1 then
      raise("%s: column %s has shape (%s), expected one axis", label, name,
        table.concat(c.shape, ", "))
    end
    return #c
  elseif type(c) ~= "table" then
    raise("%s: column %s is a %s, expected a Variable or a table", label, name, type(c))
  end
  check_list(label, "column " .. name, c)
  return #c
end

local function quoted(name, delimiter)
  name = tostring(name)
  local plain = name ~= "" and not name:find('[%c"' .. "%" .. delimiter .. "]")
  if plain and not name:find "^\xef\xbb\xbf" then return name end -- a byte order mark
  return '"' .. name:gsub('"', '""') .. '"'
end

function csv.put(w, x, names, header, delimiter)
  local label, columns, rows = w:label(), {x}, nil
  local numbered = mg.is_variable(x) or type(x) == "table" and x[1] ~= nil
  if names and not header and numbered then
    raise("%s: the columns' names are of no use without a header", label)
  end
  delimiter = delimiter_of(w, delimiter)
  if mg.is_variable(x) then
    if x.ndim ~= 2 then
      raise("%s: shape (%s), expected two axes", label, table.concat(x.shape, ", "))
    end
    rows = #x
    if names and #names ~= x.shape[2] then
      raise("%s: %d names, but %d columns", label, #names, x.shape[2])
    end
  elseif type(x) == "table" then
    columns, names = columns_of(label, x, names)
    for i, c in ipairs(columns) do
      local name = names and names[i] or i
      local n = length_of(label, name, c)
      rows = rows or n
      if n ~= rows then raise("%s: column %s has %d rows, the first %d", label, name, n, rows) end
    end
  else
    raise("%s: a table of columns or a Variable of two axes is expected, got a %s", label, type(x))
  end
  if names and #names > 0 and header then
    local row, seen = {}, {}
    for i, name in ipairs(names) do
      if seen[name] then raise("%s: two columns are called %s", label, name) end
      row[i], seen[name] = quoted(name, delimiter), true
    end
    w:write(table.concat(row, delimiter), "\n")
  end
  mg._csv(w, columns, rows or 0, delimiter)
end

return csv
