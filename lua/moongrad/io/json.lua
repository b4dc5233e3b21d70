-- json.lua -- JSON as RFC 8259 has it and nothing beside: no comments, trailing commas, bytes after
-- the value, names twice in one object, or text that is no UTF-8.

local json = {null = setmetatable({}, {__name = "null"}), array = {__name = "array"}}

local DEPTH = 128
local ESCAPES = {['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r",
                 t = "\t"}

local Bad = {}                                    -- tells it from what a hook of somebody's throws

local function bad(pos, what)
  error(setmetatable({("%s at byte %d"):format(what, pos)}, Bad), 0)
end

local function skip(s, pos)
  if (s:byte(pos) or 0) > 32 then return pos end
  return s:find("[^ \t\r\n]", pos) or #s + 1
end

-- The four hex digits from pos on
local function code_unit(s, pos)
  local hex = s:match("^%x%x%x%x", pos)
  return hex and tonumber(hex, 16) or bad(pos, "a bad \\u")
end

-- The character that \u at pos means, and where it ends
local function escaped(s, pos)
  local high = code_unit(s, pos + 2)
  if high < 0xd800 or high > 0xdfff then return utf8.char(high), pos + 6 end
  local low = high < 0xdc00 and s:sub(pos + 6, pos + 7) == "\\u" and code_unit(s, pos + 8) or 0
  if low < 0xdc00 or low > 0xdfff then bad(pos, "half a surrogate pair") end
  return utf8.char(0x10000 + ((high - 0xd800) << 10 | low - 0xdc00)), pos + 12
end

-- pos is behind the opening quote.
local function text(s, pos)
  local plain, last = s:match('^([^"\\\0-\31]*)"()', pos)
  if plain then return plain, last end
  local parts = {}
  while true do
    local stop = s:find('["\\\0-\31]', pos)
    if not stop then bad(#s, "a string without end") end
    parts[#parts + 1] = s:sub(pos, stop - 1)
    local c = s:sub(stop, stop)
    if c == '"' then return table.concat(parts), stop + 1 end
    if c ~= "\\" then bad(stop, "a control character in a string") end
    local e = s:sub(stop + 1, stop + 1)
    if e == "u" then
      parts[#parts + 1], pos = escaped(s, stop)
    else
      parts[#parts + 1] = ESCAPES[e] or bad(stop, "an unknown escape")
      pos = stop + 2
    end
  end
end

local function number(s, pos)
  local whole, stop = s:match("^(-?%d+)()", pos)
  if not whole or whole:find "^-?0%d" then bad(pos, "no value") end
  if not s:find("^[.eE]", stop) then
    return whole == "-0" and -0.0 or tonumber(whole), stop
  end
  local fraction = s:match("^%.%d+", stop) or ""
  stop = stop + #fraction
  local exponent = s:match("^[eE][+-]?%d+", stop) or ""
  return tonumber(whole .. fraction .. exponent) * 1.0, stop + #exponent
end

local LITERALS = {t = {"true", true}, f = {"false", false}, n = {"null", json.null}}

local value

-- Calls item(pos) for each, which gives where it ends.
local function items(s, pos, close, item)
  pos = skip(s, pos)
  if s:sub(pos, pos) == close then return pos + 1 end
  while true do
    pos = skip(s, item(skip(s, pos)))
    local c = s:sub(pos, pos)
    if c == close then return pos + 1 end
    if c ~= "," then bad(pos, "neither , nor " .. close) end
    pos = pos + 1
  end
end

local function array(s, pos, depth)
  local t = setmetatable({}, json.array)
  return t, items(s, pos, "]", function(at)
    t[#t + 1], at = value(s, at, depth)
    return at
  end)
end

local function object(s, pos, depth)
  local t = {}
  return t, items(s, pos, "}", function(at)
    if s:sub(at, at) ~= '"' then bad(at, "no name") end
    local name, stop = text(s, at + 1)
    if t[name] ~= nil then bad(at, "a name twice") end
    stop = skip(s, stop)
    if s:sub(stop, stop) ~= ":" then bad(stop, "no :") end
    t[name], stop = value(s, skip(s, stop + 1), depth)
    return stop
  end)
end

function value(s, pos, depth)
  local c = s:sub(pos, pos)
  if c:find "%d" then return number(s, pos) end
  if c == '"' then return text(s, pos + 1) end
  if c == "{" or c == "[" then
    if depth == DEPTH then bad(pos, "too deep") end
    return (c == "{" and object or array)(s, pos + 1, depth + 1)
  end
  local literal = LITERALS[c]
  if not literal then return number(s, pos) end
  local stop = pos + #literal[1]
  if s:sub(pos, stop - 1) ~= literal[1] then bad(pos, "no value") end
  return literal[2], stop
end

-- decode(s): its value, or nil and what is wrong. null is json.null, an array has the metatable
-- json.array; numbers without . or e are integers where they fit.
function json.decode(s)
  local _, at = utf8.len(s)
  if at then return nil, ("no UTF-8 at byte %d"):format(at) end
  local ok, v, stop = pcall(value, s, skip(s, 1), 0)
  if not ok then
    if getmetatable(v) ~= Bad then error(v, 0) end
    return nil, v[1]
  end
  stop = skip(s, stop)
  if stop <= #s then return nil, ("bytes after the value at byte %d"):format(stop) end
  return v
end

-- A string of UTF-8 in quotes
function json.quote(s)
  return '"' .. s:gsub('[\0-\31"\\]', function(c)
    return c == '"' and '\\"' or c == "\\" and "\\\\" or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

return json
