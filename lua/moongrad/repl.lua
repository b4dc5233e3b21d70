-- repl.lua -- the command `moongrad`: runs a script, or reads what people type and shows what it
-- gives.
--
-- With lua-readline lines are edited, names completed by Tab, and what was typed is kept in a file,
-- $MOONGRAD_HISTORY or ~/.moongrad_history. Without, lines are read as they come.

local _ENV = require "moongrad.globals"()
local mg = require "moongrad"
local session = require "moongrad.session"

local repl = {}

local USAGE = [=[
moongrad [options] [script [arguments]]
  -e code    runs code, with mg there
  -i         goes on to read what is typed, whatever standard input is
  -v         says the version
  -h         says this
Without a script: a terminal is read line by line, and what expressions give is shown; else
standard input is the script, as where - stands for one.]=]

-- ---- lines ------------------------------------------------------------------------------------

local function is_terminal() return (os.execute "test -t 0 && test -t 1") == true end

local function history_file()
  return os.getenv "MOONGRAD_HISTORY" or (os.getenv "HOME" or ".") .. "/.moongrad_history"
end

-- read(prompt): a line, or nil at the end; and what is to be done last
local function reader()
  local ok, readline = pcall(require, "readline")
  if not ok or not is_terminal() then
    return function(prompt)
      io.write(prompt)
      io.flush()
      return io.read "l"
    end, function() end
  end
  readline.set_readline_name "moongrad"
  readline.set_options{histfile = history_file(), keeplines = 2000, completion = true}
  readline.set_complete_function(function(text, from, to)
    readline.set_completion_append_character ""     -- a space again before each completion
    local words, start = session.complete(text:sub(1, to))
    local list = {}
    for i, word in ipairs(words) do
      -- of the region that readline replaces, which may begin within the word
      list[i] = start <= from and word:sub(from - start + 1) or text:sub(from, start - 1) .. word
    end
    return list
  end)
  -- readline's own loop would go on reading after Ctrl-C, whose error must wait for its end
  local last
  return function(prompt)
    local line, done
    readline.handler_install(prompt, function(text)
      readline.handler_remove()
      line, done = text, true
    end)
    while not done do
      if mg._readable() then readline.read_char()
      else readline.handler_remove() end           -- which passes the signal on to us
    end
    line = line and line:gsub(" $", "")            -- which completion has put there
    if line and line:find "%S" and line ~= last then
      readline.add_history(line)
      last = line
    end
    return line
  end, function()
    -- readline would complain of a file that it cannot write
    local file <close> = io.open(history_file(), "a")
    if file then readline.save_history() end
  end
end

-- ---- the loop ---------------------------------------------------------------------------------

local NAME = "stdin"

local function show(...)
  for i = 1, select("#", ...) do print(session.text((select(i, ...)))) end
end

local function evaluate(fn, code)
  local results = table.pack(session.run(fn))
  if not results[1] then
    io.stderr:write(session.error_text(results[2], code, NAME), "\n")
    return
  end
  local shown, problem = pcall(show, table.unpack(results, 2, results.n))
  if not shown then io.stderr:write(session.text(problem), "\n") end
end

-- A whole input: lines until they compile or never will, or there are no more.
local function input(read)
  local code, fn, message, unfinished
  while true do
    local line = read(code and ">> " or "> ")
    if not line then return code, nil, nil, message end
    code = code and code .. "\n" .. line or line
    local asked = code:match "^%s*%?%s*(%S*)%s*$" or code:match "^%s*(%S+)%?%s*$"
    if asked and not code:find "\n" then return code, nil, asked end
    fn, message, unfinished = session.compile(code, "=" .. NAME)
    if fn or not unfinished then return code, fn, nil, message end
  end
end

local function loop()
  session.start()
  local read, finish = reader()
  local exit = os.exit
  os.exit = function(...)                          -- luacheck: ignore 122
    finish()
    exit(...)
  end
  print(("%s, %s: mg is here; ?name or name? is help, Ctrl-D ends"):format(tostring(mg), _VERSION))
  while true do
    local ok, code, fn, asked, message = pcall(mg._interruptible, input, read)
    if not ok then
      io.stderr:write("\n", (session.text(code):gsub("^[^\n:]*:%d+: ", "")), "\n")
    elseif not code then break
    elseif asked then
      local name = asked ~= "" and asked or "mg"
      io.write(session.help(name) or "nothing is known of " .. name, "\n")
    elseif fn then evaluate(fn, code)
    elseif message and code:find "%S" then io.stderr:write(message, "\n") end
  end
  io.write "\n"
  os.exit = exit                                   -- luacheck: ignore 122
  finish()
end

-- An interrupt that comes when nothing runs is for a coroutine that never does.
function repl.loop() mg._interruptible(coroutine.create(loop), loop) end

-- ---- the command ------------------------------------------------------------------------------

local function traceback(err)
  if type(err) ~= "string" then
    local meta = getmetatable(err)
    if type(meta) == "table" and meta.__tostring then return tostring(err) end
    err = ("(the error is a %s)"):format(type(err))
  end
  return debug.traceback(err, 2)
end

-- Runs a chunk; a message on stderr and exit status 1 if it fails.
local function execute(fn, message, ...)
  if not fn then io.stderr:write("moongrad: ", message, "\n") os.exit(1) end
  local ok, why = xpcall(fn, traceback, ...)
  if not ok then io.stderr:write("moongrad: ", why, "\n") os.exit(1) end
end

function repl.main(given)
  _G.mg = mg
  local i, interactive, ran = 1, false, false
  while given[i] and given[i]:find "^%-" do
    local option = given[i]
    if option == "-h" or option == "--help" then return print(USAGE) end
    if option == "-v" or option == "--version" then return print(tostring(mg)) end
    if option == "-i" then interactive = true
    elseif option == "-e" then
      if not given[i + 1] then
        io.stderr:write("moongrad: -e needs code\n")
        os.exit(1)
      end
      i, ran = i + 1, true
      execute(load(given[i], "=(command line)"))
    elseif option == "-" then break                -- standard input
    elseif option == "--" then
      i = i + 1
      break
    else
      io.stderr:write("moongrad: what is ", option, "?\n", USAGE, "\n")
      os.exit(1)
    end
    i = i + 1
  end
  local script = given[i]
  if script then
    _G.arg = {[0] = script, table.unpack(given, i + 1)}
    local fn, message = loadfile(script ~= "-" and script or nil)
    execute(fn, message, table.unpack(_G.arg))
  elseif not ran and not interactive and not is_terminal() then
    execute(loadfile())
  elseif not ran then
    interactive = true
  end
  if interactive then repl.loop() end
end

return repl
