-- session.lua -- what the REPL and the Jupyter kernel share: code is compiled and run as people
-- type it, values are shown, names completed and explained.
--
-- Code is a chunk whose last part may be an expression, or several, whose values are given. Locals
-- of a chunk's outermost block become globals when it ends: what is typed after it finds them.

local mg = require "moongrad"
local Object = require "moongrad.class"
local each = Object._each

local session = {}

-- From now on Ctrl-C reaches what runs within coroutines, too.
function session.start()
  local resume, wrap = coroutine.resume, coroutine.wrap
  function coroutine.resume(co, ...)               -- luacheck: ignore 122
    if type(co) ~= "thread" then error("bad argument #1 to 'resume' (coroutine expected)", 2) end
    return mg._interruptible(co, resume, co, ...)
  end
  function coroutine.wrap(fn)                      -- luacheck: ignore 122
    if type(fn) ~= "function" then error("bad argument #1 to 'wrap' (function expected)", 2) end
    local run = wrap(fn)
    local _, co = debug.getupvalue(run, 1)
    return function(...) return mg._interruptible(co, run, ...) end
  end
end

-- ---- running ----------------------------------------------------------------------------------

-- At the end of a chunk, which calls this as (...)(): its locals are put into _G.
local function keep_locals()
  local i = 1
  while true do
    local name, value = debug.getlocal(2, i)
    if not name then return end
    if name:find "^[%a_]" then _G[name] = value end
    i = i + 1
  end
end

local function lines_of(code)
  local lines = {}
  for line in (code .. "\n"):gmatch "(.-)\n" do lines[#lines + 1] = line end
  return lines
end

local function unfinished(message) return message:find "near <eof>$" end

-- A function, or nil, the message and whether the code may go on in a further line. Lines keep
-- their numbers.
function session.compile(code, name)
  local lines = lines_of((code:gsub("^%s*=", "return ", 1)))
  while #lines > 1 and lines[#lines]:find "^%s*$" do table.remove(lines) end
  lines[#lines] = lines[#lines] .. "\n"           -- a string ends with its line, if nothing goes on
  code = table.concat(lines, "\n")
  local plain, message = load(code, name, "t")
  -- the last statement may be an expression, or a call that gives something
  for n = 1, #lines do
    local i = plain and #lines + 1 - n or n
    local head, tail = table.concat(lines, "\n", 1, i - 1), table.concat(lines, "\n", i)
    local join = i > 1 and "%s\n;(...)() return %s" or "%sreturn %s"
    local fn, why = load(join:format(head, tail), name, "t")
    if fn and load(head, name, "t") then return fn end
    if not plain and not fn and unfinished(why) then return nil, why, true end
  end
  if plain then return load(code .. "\n;(...)()", name, "t") or plain end
  return nil, message, unfinished(message)
end

-- The calls of scripts that an error passed through, the library's own and this file's left out,
-- and the many of an endless recursion: to find a level takes the longer the deeper it is.
local MOST_FRAMES, MOST_LEVELS = 20, 1000
local library = debug.getinfo(1, "S").source:match "^(.*)session%.lua$"
local function frames()
  local list, level = {}, 3
  while true do
    local info = debug.getinfo(level, "Slnf")
    if not info or info.func == session.run then return list end
    if #list == MOST_FRAMES or level > MOST_LEVELS then
      list[#list + 1] = "  ..."
      return list
    end
    local own = info.what ~= "C" and info.source:sub(1, #library) ~= library
    if own and info.currentline > 0 then
      list[#list + 1] = ("  %s:%d%s"):format(info.short_src, info.currentline,
        info.name and " in " .. info.name or "")
    end
    level = level + 1
  end
end

local function explain(err) return {message = session.text(err), frames = frames()} end

-- Runs a compiled chunk: true and what it gives, or false and {message =, frames =}, as after
-- Ctrl-C.
function session.run(fn)
  return xpcall(mg._interruptible, explain, fn, keep_locals)
end

-- The text of an error: the message, the line of `code` that it is about, and how it came there,
-- if through files.
function session.error_text(err, code, name)
  local parts = {err.message}
  local line = tonumber(err.message:match("^" .. name:gsub("%p", "%%%0") .. ":(%d+):"))
  local lines = line and lines_of(code)
  if line and #lines > 1 and lines[line] then
    parts[2] = ("  %d: %s"):format(line, lines[line]:match "^%s*(.-)%s*$")
  end
  local elsewhere = false
  for _, frame in ipairs(err.frames) do
    elsewhere = elsewhere or frame ~= "  ..." and frame:sub(3, #name + 3) ~= name .. ":"
  end
  if elsewhere then table.move(err.frames, 1, #err.frames, #parts + 1, parts) end
  return table.concat(parts, "\n")
end

-- ---- showing ----------------------------------------------------------------------------------

local MOST, DEEP, WIDTH = 60, 3, 80

local function before(a, b)
  if type(a) ~= type(b) then return type(a) == "number" end
  if type(a) == "number" or type(a) == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local function signature(fn)
  local doc = mg._docs[fn]
  return doc and doc:match "^[^\n]*"
end

local show

local function entries(t, depth, seen)
  local keys, parts, n = {}, {}, #t
  for i = 1, math.min(n, MOST) do parts[i] = show(t[i], depth + 1, seen) end
  for k in next, t do
    if math.type(k) ~= "integer" or k < 1 or k > n then keys[#keys + 1] = k end
  end
  table.sort(keys, before)
  for i = 1, math.min(#keys, MOST - #parts) do
    local k = keys[i]
    local name = type(k) == "string" and k:find "^[%a_][%w_]*$" and k or
      "[" .. (type(k) == "string" and ("%q"):format(k) or tostring(k)) .. "]"
    parts[#parts + 1] = name .. " = " .. show(t[k], depth + 1, seen)
  end
  local left = n + #keys - #parts
  if left > 0 then parts[#parts + 1] = ("... and %d more"):format(left) end
  return parts
end

-- A value may fail to say what it is; where the library was asked is no line of the user's.
local function told(v)
  local ok, text = pcall(tostring, v)
  if ok then return text end
  return "(" .. (type(text) == "string" and text:gsub("^[^\n:]*:%d+: ", "") or type(text)) .. ")"
end

function show(v, depth, seen)
  local kind = type(v)
  if kind == "string" then return depth > 0 and ("%q"):format(v):gsub("\\\n", "\\n") or v end
  if kind == "function" then
    local text = signature(v)
    if not text then return tostring(v) end
    return "function " .. (depth > 0 and text:match "^[^({]*" or text)
  elseif kind ~= "table" then
    return told(v)
  end
  local meta = getmetatable(v)
  if type(meta) == "table" and (meta.__tostring or meta.__name) then return told(v) end
  if seen[v] then return "{...}" end
  if next(v) == nil then return "{}" end
  if depth >= DEEP then return tostring(v) end
  seen[v] = true
  local parts = entries(v, depth, seen)
  seen[v] = nil
  local line = "{" .. table.concat(parts, ", ") .. "}"
  if #line <= WIDTH and not line:find "\n" then return line end
  local blank = ("  "):rep(depth + 1)
  for i, part in ipairs(parts) do
    local name = part:match "^[%w_%[%]\"]+ = " or ""
    -- the rows of a Variable begin under its first
    parts[i] = blank .. part:gsub("\n          ", "\n" .. blank .. (" "):rep(#name + 10))
  end
  return ("{\n%s\n%s}"):format(table.concat(parts, ",\n"), ("  "):rep(depth))
end

-- What is shown of a value that nobody printed; never an error, but as after Ctrl-C
function session.text(v)
  local ok, text = pcall(mg._interruptible, show, v, 0, {})
  return ok and text or told(text)
end

-- ---- names ------------------------------------------------------------------------------------

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
               return then true until while]]):gmatch "%a+" do KEYWORDS[#KEYWORDS + 1] = word end

-- Calls use(name, value) for what can stand behind v and a dot or colon.
local function members(v, use)
  if mg.is_variable(v) then
    mg._all()
    for name, member in pairs(mg._docs.methods) do
      use(name, type(member) == "function" and member or nil)
    end
    return
  end
  if type(v) == "string" then v = string end
  if v == mg then
    for name in mg._names() do use(name, type(rawget(mg, name)) == "table" and {} or print) end
    return
  elseif v == mg.Config then
    for name in tostring(v):gmatch "([%w_]+) = " do use(name, false) end
    return
  end
  Object._members(v, use)
end

-- The value of a chain of names and whole numbers, such as model.layers[2].weight, or nil
local function value_of(chain)
  local value, rest = _G, "." .. chain
  while rest ~= "" do
    local key = rest:match "^[.:]([%a_][%w_]*)"
    local length = key and #key + 1
    if not key then
      key = rest:match "^%[(%-?%d+)%]"
      length = key and #key + 2
      key = tonumber(key)
    end
    if not key or value == nil then return nil end
    local ok, member = pcall(function() return value[key] end)
    if not ok then return nil end
    value, rest = member, rest:sub(length + 1)
  end
  return value
end

local SOME = mg.tensor(0)                          -- what a call gives may well be a Variable

-- What the last word of text can become: a list of whole words, in order, and where it begins.
function session.complete(text)
  local word = text:match "[%w_.:%[%]]*$"
  local chain, mark, start = word:match "^(.*)([.:])([%w_]*)$"
  local names, found = {}, {}
  local function use(name, value)
    if type(name) ~= "string" or found[name] or not name:find "^[%a_][%w_]*$" then return end
    if name:sub(1, #start) ~= start or name:sub(1, 1) == "_" and start == "" then return end
    if mark == ":" and type(value) ~= "function" then return end
    found[name] = true
    names[#names + 1] = (chain or "") .. (mark or "") .. name
  end
  if chain then
    local value = value_of(chain)
    if chain == "" and text:sub(1, #text - #word):find "%)$" then value = SOME end
    members(value, use)
  else
    start = word:match "[%w_]*$"
    chain = word:sub(1, #word - #start)
    for _, name in ipairs(KEYWORDS) do use(name, true) end
    each(_G, use)
  end
  table.sort(names)
  return names, #text - #word + 1
end

-- What mg.help says of a name or of the value that stands at its end; nil: nothing.
function session.help(name)
  local help = require "moongrad.help"
  local ok, text = pcall(help.text, name)
  if ok then return text end
  local value = value_of(name)
  if value == nil then return nil end
  ok, text = pcall(help.text, value)
  return ok and text or session.text(value)
end

return session
