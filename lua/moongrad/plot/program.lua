-- program.lua -- runs graphviz and gnuplot.
--
-- Both are given a script file, never a pipe: writing to one whose reader died would kill Lua. What
-- they draw is read from a pipe: to a full disk they would write half of it, and say nothing.
-- Names and paths are quoted for the shell here, and for the script by who writes it.

local mg = require "moongrad.core"
local raise = mg.raise

local program = {}

function program.write_file(path, text)
  local f, problem = io.open(path, "wb")
  if not f then return nil, problem end
  local ok, why = f:write(text)
  local closed, late = f:close()
  return ok and closed, why or late
end

function program.read_file(path)
  local f <close> = io.open(path, "rb")
  return f and f:read("a") or ""
end

-- What gnuplot and graphviz can show of a text, and XML may hold: UTF-8, no control characters.
function program.plain(s)
  s = utf8.len(s) and s:gsub("\xef\xbf[\xbe\xbf]", "?") or s:gsub("[\128-\255]", "?")
  return (s:gsub("%c", " "))
end

function program.shell_quote(s)
  return "'" .. s:gsub("'", "'\\''") .. "'"
end

-- A name for a file, removed where the variable that holds it ends, or later where that was
-- interrupted.
local Temporary = {__close = function(t)
  if t.path then os.remove(t.path) end
  t.path = nil
end}
Temporary.__gc = Temporary.__close

function program.temporary(op)
  local t = setmetatable({}, Temporary)
  local made, path = pcall(os.tmpname)
  if not made then raise("%s: no file for the script: %s", op, path) end
  t.path = path
  return t
end

-- The file at path, whole or not at all: what was there stays where a picture fails.
function program.save(op, path, bytes)
  local file <close> = mg._create(path, op)
  file:write(bytes)
  file:commit()
end

-- Runs command on a file that holds the script: what it writes, all of it, or with `aside` nothing,
-- since a window may outlive it. What it complains of goes into the error.
function program.run(op, package, command, script, aside)
  local file <close> = program.temporary(op)
  local complaint <close> = program.temporary(op)
  local ok, problem = program.write_file(file.path, script)
  if not ok then raise("%s: no file for the script: %s", op, problem) end
  command = ("%s %s 2>%s"):format(command, program.shell_quote(file.path),
    program.shell_quote(complaint.path))
  local picture, how, status
  if aside then ok, how, status = os.execute(command)
  else
    local known, run, why = pcall(io.popen, command) -- which raises where the C library has none
    local pipe <close> = known and run or nil
    if not pipe then raise("%s: cannot run %s: %s", op, package, why or run) end
    picture, why = mg._rest(pipe)
    ok, how, status = pipe:close()
    if ok and not picture then raise("%s: cannot read from %s: %s", op, package, why) end
  end
  if status == 127 then raise("%s: needs a program of the Debian package %s", op, package) end
  if not ok then
    raise("%s: %s failed (%s %s)\n%s", op, package, how, tostring(status),
      program.read_file(complaint.path))
  end
  if picture == "" then
    raise("%s: %s drew nothing\n%s", op, package, program.read_file(complaint.path))
  end
  return picture
end

-- The ending of a picture's path, one of `kinds` (a string of words).
function program.ending(op, path, kinds)
  if type(path) ~= "string" or path:find "\0" then
    raise("%s: path must be the name of a file, got %s", op, tostring(path))
  end
  local kind = path:match("%.(%w+)$")
  if not kind or not kinds:find(("%%f[%%w]%s%%f[%%W]"):format(kind)) then
    raise('%s: "%s" does not end in one of %s', op, path, (kinds:gsub("%w+", ".%0")))
  end
  return kind
end

return program
