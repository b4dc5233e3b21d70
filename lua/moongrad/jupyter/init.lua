-- The Lua process of the Jupyter kernel: kernel.py starts it and asks by lines of JSON.
--
-- Requests come by the file descriptor $MOONGRAD_REQUESTS, answers go by $MOONGRAD_ANSWERS; what
-- code prints goes to stdout and stderr as always, and is flushed before an answer.

local _ENV = require "moongrad.globals"()
local mg = require "moongrad"
local json = require "moongrad.io.json"
local session = require "moongrad.session"

local function open(name, mode)
  return assert(io.open("/dev/fd/" .. assert(os.getenv(name), name .. " is missing"), mode))
end

local requests, answers = open("MOONGRAD_REQUESTS", "r"), open("MOONGRAD_ANSWERS", "w")
_G.mg = mg

-- Flat tables of strings, numbers and booleans, and lists of them
local function encode(v)
  if type(v) == "string" then return json.quote(v) end
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  if getmetatable(v) == json.array then
    for i, e in ipairs(v) do parts[i] = encode(e) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for k, e in pairs(v) do parts[#parts + 1] = json.quote(k) .. ":" .. encode(e) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local function answer(t)
  io.stdout:flush()
  io.stderr:flush()
  answers:write(encode(t), "\n")
  answers:flush()
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(s)
  local function digit(n, shift)
    local i = (n >> shift & 63) + 1
    return DIGITS:sub(i, i)
  end
  local text = (s .. ("\0"):rep(-#s % 3)):gsub("...", function(three)
    local n = (">I3"):unpack(three)
    return digit(n, 18) .. digit(n, 12) .. digit(n, 6) .. digit(n, 0)
  end)
  return text:sub(1, #text - -#s % 3) .. ("="):rep(-#s % 3)
end

-- plot and plot_graph give their pictures here, as the notebook's messages have them.
function mg._display(bytes, kind)
  answer{display = kind == "svg" and bytes or base64(bytes), kind = kind}
end

local handlers = {}

function handlers.run(t)
  local name = "In [" .. t.count .. "]"
  local fn, message = session.compile(t.code, "=" .. name)
  if not fn then return {error = message} end
  local results = table.pack(session.run(fn))
  if not results[1] then return {error = session.error_text(results[2], t.code, name)} end
  local shown = {}
  for i = 2, results.n do shown[i - 1] = session.text(results[i]) end
  return {text = table.concat(shown, "\n"), shown = #shown > 0}
end

function handlers.complete(t)
  local words, start = session.complete(t.text)
  return {words = setmetatable(words, json.array), start = start}
end

function handlers.help(t) return {text = session.help(t.name) or ""} end

function handlers.whole(t)
  local fn, _, unfinished = session.compile(t.code, "=code")
  return {status = fn and "complete" or unfinished and "incomplete" or "invalid"}
end

local function serve()
  for line in requests:lines() do
    local request = json.decode(line)
    answer(handlers[request.ask](request))
  end
end

session.start()
io.stdout:setvbuf "line"
-- An interrupt that comes when nothing runs is for a coroutine that never does.
mg._interruptible(coroutine.create(serve), serve)
