-- errors.lua -- what an op, a function or a constructor refuses: calls that are made while the
-- page is, and what they raised.
--
-- Calls come from two places: those of examples/refused.lua are written, for what an op itself
-- looks at, shapes and values above all; the others follow from the signature, which every argument
-- is read by: one of another type, one out of its bounds, an axis that is not there, an unknown
-- option.

local mg = require "moongrad"
local refused = require "docs.examples.refused"

local errors = {}

-- ---- calls that a signature refuses -----------------------------------------------------------

local X = "mg.ones(2, 3)"

-- Something of each type
local GOOD = {
  array = X, float = X, float64 = X, float32 = 'mg.ones{2, dtype = "float32"}', variable = X,
  int64 = "{1, 2}", uint8 = 'mg.tensor({1}, "uint8")', ["bool array"] = "{true, false}",
  list = "{" .. X .. "}", tree = X, int = "1", number = "1", bool = "true", string = '"a"',
  dtype = '"float32"', ["function"] = "math.abs", table = "{}", any = "1", axis = "1",
  new_axis = "1", axes = "1", ints = "1", shape = "{2, 3}", pair = "1", numbers = "{1}",
  module = "mg.nn.Flatten()", optimizer = "mg.optim.SGD({mg.Variable(1)}, {lr = 1})",
  tokenizer = 'mg.data.CharTokenizer "abc"',
}

-- Of another type, or another value than may be; the first that is refused is shown.
local WRONG = {
  axis = {"3", "9"}, axes = {"3", "9"}, new_axis = {"9"}, bool = {"1"}, dtype = {'"float99"'},
  int = {"1.5"}, number = {'"a"'}, pair = {"{1, 2, 3}"}, ints = {'{"a"}'}, numbers = {'{"a"}'},
  shape = {"{-1}"}, list = {"{print}"}, float = {X .. ':to "int64"'},
  float64 = {X .. ':to "int64"'},
  int64 = {"{1.5}"}, uint8 = {"{1.5}"}, ["bool array"] = {X}, string = {"1"},
}

local function alternatives(type)
  local list = {}
  for one in type:gmatch "[^|]+" do list[#list + 1] = one:match "^%s*(.-)%s*$" end
  return list
end

-- The word of a type, and what it is bounded by: "int(1..)" is "int", "1", "", ""
local function bounds(type)
  local word, low, above, below, high = type:match "^(%a+)%((.-)(<?)%.%.(<?)(.-)%)$"
  return word or type, tonumber(low), above == "<", below == "<", tonumber(high)
end

local function good(p)
  local word, low, above, _, high = bounds(alternatives(p.type)[1])
  if word:sub(1, 1) == '"' then return word end
  if low and (word == "int" or word == "number") then
    if not above then return tostring(low) end
    return tostring(high and (low + high) / 2 or low + 1)
  end
  return GOOD[word]
end

-- Arguments in place of p that should not do, the most telling ones first
local function wrong(p)
  local list, kinds = {}, alternatives(p.type)
  for _, kind in ipairs(kinds) do
    local word, low, above, below, high = bounds(kind)
    if low then list[#list + 1] = ("%s"):format(above and low or low - 1) end
    if high then list[#list + 1] = ("%s"):format(below and high or high + 1) end
    if word:sub(1, 1) == '"' and #kinds > 1 then list[#list + 1] = '"other"' end
    if #kinds == 1 then table.move(WRONG[word] or {}, 1, #(WRONG[word] or {}), #list + 1, list) end
  end
  if not p.type:find "function" then list[#list + 1] = "print" end
  list[#list + 1] = "1"
  return list
end

-- The message that code raises, at its own line, without what follows its first; nil if it does not
local function message_of(code)
  local env = setmetatable({mg = mg}, {__index = _G})
  local chunk = load(code, "=stdin", "t", env) or
    assert(load("local _ = " .. code, "=stdin", "t", env))
  local state = mg.get_rng_state()
  local ok, message = pcall(chunk)
  mg.set_rng_state(state)
  if ok then return nil end
  return tostring(message):match "^stdin:1: ([^\n]*)"
end

-- Calls `made(arguments)`, given good arguments but for one, until one is refused: its signature's
-- error, which names the argument or what it is for.
local function try(found, seen, made, values)
  for _, value in ipairs(values) do
    local code = made(value)
    local message = message_of(code)
    if message then
      if not seen[message] then
        seen[message] = true
        found[#found + 1] = {call = code, message = message}
      end
      return
    end
  end
end

-- What the signature of e refuses. Wrong arguments never get further than that, be it to a file or
-- to the end of a calculation; so it is safe to give them to whatever there is.
local function of_signature(e, found, seen)
  local call, before = e.call, {}
  local name, from = e.path, 1
  if e.path:sub(1, 2) == "x:" then name, from = X .. ":" .. e.name, 2 end
  local function made(arguments) return ("%s(%s)"):format(name, table.concat(arguments, ", ")) end
  local function with(value)
    local list = table.move(before, 1, #before, 1, {})
    list[#list + 1] = value
    return made(list)
  end
  for i = from, #call do
    local p = call[i]
    if p.type ~= "any" and not p.skip then try(found, seen, with, wrong(p)) end
    local value = good(p)
    if not value then return end
    before[#before + 1] = value
  end
  local required = before
  for i = #call, from, -1 do                       -- options may follow what has to be there
    if call[i].optional or call[i].default then required[i - from + 1] = nil else break end
  end
  local function option(text) return with("{" .. text .. "}") end
  for _, p in ipairs(call.options) do
    if p.type ~= "any" then
      try(found, seen, function(v) return option(p.name .. " = " .. v) end, wrong(p))
    end
  end
  if #call.options > 0 then try(found, seen, option, {"other = 1"}) end
end

-- ---- shapes that do not broadcast -------------------------------------------------------------

local kinds = {}
for _, op in ipairs(mg._ops()) do kinds[op.name] = op.kind end

local function of_shapes(e, found, seen)
  if kinds[e.name] ~= "elementwise" or e.path ~= "mg." .. e.name then return end
  local arrays, text = 0, {X, "mg.ones(4)", X}
  for _, p in ipairs(e.call) do
    if p.type:find "array" and not p.optional then arrays = arrays + 1 end
  end
  if arrays < 2 then return end
  try(found, seen, function(last)
    return ("%s(%s)"):format(e.path, table.concat(text, ", ", 1, arrays - 1) .. ", " .. last)
  end, {arrays == 2 and text[2] or X})
end

-- ---- all of an entry ----------------------------------------------------------------------------

-- A list of {call =, message =}; what is written first.
function errors.of(e)
  local found, seen = {}, {}
  local written = refused[(e.path:gsub("^mg%.", ""):gsub("^x:", ""))]
  for code in (written or ""):gsub("\n      +", " "):gmatch "%s*([^\n]+)" do
    local message = message_of(code)
    if not message then error(e.path .. ": nothing is wrong with " .. code, 0) end
    seen[message] = true
    found[#found + 1] = {call = code, message = message}
  end
  if e.call and (e.kind == "function" or e.kind == "method" and e.path:sub(1, 2) == "x:" or
                 e.kind == "class" and rawget(e.value, "init")) then
    of_shapes(e, found, seen)
    of_signature(e, found, seen)
  end
  return found
end

return errors
