-- literal.lua -- Python's literals, as they stand in the headers of .npy files: dicts, tuples,
-- lists, strings, whole numbers, True, False, None. Of numbers and strings only what repr writes,
-- and Python 2's: 1L, u'...'.

local literal = {
  dict = {__name = "dict"}, tuple = {__name = "tuple"}, list = {__name = "list"},
  None = setmetatable({}, {__name = "None"}),
}

local DEPTH = 32
local NAMES = {True = true, False = false, None = literal.None}
local ESCAPES = {["\\"] = "\\", ["'"] = "'", ['"'] = '"', n = "\n", t = "\t", r = "\r"}

local BAD = {}                                    -- nobody else throws it

local function bad() error(BAD, 0) end

-- Past blanks and comments
local function skip(s, pos)
  pos = s:find("[^ \t\r\n\f]", pos) or #s + 1
  if s:sub(pos, pos) ~= "#" then return pos end
  return skip(s, s:find("\n", pos, true) or #s + 1)
end

local function text(s, pos)
  local quote, parts = s:sub(pos, pos), {}
  pos = pos + 1
  while true do
    local stop = s:find("[\\\n" .. quote .. "]", pos)
    if not stop then bad() end
    parts[#parts + 1] = s:sub(pos, stop - 1)
    local c = s:sub(stop, stop)
    if c == quote then return table.concat(parts), stop + 1 end
    local hex = s:match("^\\x(%x%x)", stop)
    parts[#parts + 1] = c == "\\" and (hex and utf8.char(tonumber(hex, 16)) or
      ESCAPES[s:sub(stop + 1, stop + 1)]) or bad()
    pos = stop + (hex and 4 or 2)
  end
end

local function number(s, pos)
  local sign, digits, stop = s:match("^([+-]?)%s*([%w_.]+)()", pos)
  local plain = digits and digits:gsub("L$", ""):gsub("(%d)_(%x)", "%1%2") or ""
  if not (plain:find "^0[xX]%x+$" or plain:find "^0+$" or plain:find "^[1-9]%d*$") then bad() end
  local v = tonumber(plain)
  return sign == "-" and -v or v, stop
end

local value

-- Calls item(pos) for each, which gives where it ends; and how many, and whether a comma came last.
local function items(s, pos, close, item)
  local n, comma = 0, true
  while true do
    pos = skip(s, pos)
    if s:sub(pos, pos) == close then return pos + 1, n, comma and n > 0 end
    if not comma then bad() end
    n, pos = n + 1, skip(s, item(pos))
    comma = s:sub(pos, pos) == ","
    if comma then pos = pos + 1 end
  end
end

local function sequence(s, pos, close, kind, depth)
  local t = setmetatable({}, kind)
  local stop, n, comma = items(s, pos, close, function(at)
    t[#t + 1], at = value(s, at, depth)
    return at
  end)
  if close == ")" and n == 1 and not comma then return t[1], stop end -- (x) is x
  return t, stop
end

local function dict(s, pos, depth)
  local t = setmetatable({}, literal.dict)
  return t, (items(s, pos, "}", function(at)
    local key, v
    key, at = value(s, at, depth)
    at = skip(s, at)
    if type(key) ~= "string" or t[key] ~= nil or s:sub(at, at) ~= ":" then bad() end
    v, at = value(s, skip(s, at + 1), depth)
    t[key] = v
    return at
  end))
end

local function string_value(s, pos)
  local parts = {}
  while true do -- 'a' 'b' is 'ab'
    local start = s:match("^[uU]?()['\"]", pos)
    if not start then return table.concat(parts), pos end
    parts[#parts + 1], pos = text(s, start)
    local following = skip(s, pos)
    if not s:find("^[uU]?['\"]", following) then return table.concat(parts), pos end
    pos = following
  end
end

function value(s, pos, depth)
  if depth == DEPTH then bad() end
  depth = depth + 1
  if s:find("^[uU]?['\"]", pos) then return string_value(s, pos) end
  local c = s:sub(pos, pos)
  if c == "{" then return dict(s, pos + 1, depth) end
  if c == "(" then return sequence(s, pos + 1, ")", literal.tuple, depth) end
  if c == "[" then return sequence(s, pos + 1, "]", literal.list, depth) end
  local name, stop = s:match("^(%a+)()", pos)
  if not name then return number(s, pos) end
  if NAMES[name] == nil then bad() end
  return NAMES[name], stop
end

-- The value of s; nil where it is none.
function literal.decode(s)
  local ok, v, stop = pcall(value, s, skip(s, 1), 0)
  if not ok and v ~= BAD then error(v, 0) end
  if not ok or skip(s, stop) <= #s then return nil end
  return v
end

return literal
