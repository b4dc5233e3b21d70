-- session.lua -- runs a text line by line, as the interactive Lua does, and gives what is then on
-- the screen: `> ` before what was typed, and below it the values and what was printed. Progress,
-- which goes to stderr, is not shown.
--
-- An entry goes on over lines until it is whole. A line that begins with ! must raise, and its
-- message stands below it; anywhere else an error is one of session.run.

local mg = require "moongrad"

local session = {}

-- A call that returns in the end has left the line it stands on: what is to raise is no such call.
local function compile(code, raises, env)
  local chunk = not raises and load("return " .. code, "=stdin", "t", env)
  if chunk then return chunk end
  return load(code, "=stdin", "t", env)
end

local function is_unfinished(err) return err:find "<eof>$" ~= nil end

local function shown(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  return table.concat(parts, "\t")
end

-- Appends to out each line of the text.
local function add_lines(out, text)
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do out[#out + 1] = line end
end

local function add_results(out, ok, ...)
  if not ok then return (...) end
  if select("#", ...) > 0 then add_lines(out, shown(...)) end
  return nil
end

-- The lines of the screen. Random numbers begin anew.
function session.run(text)
  local out, code, raises = {}, nil, false
  local env = setmetatable({mg = mg}, {__index = _G})
  mg.seed(1)
  for line in (text:gsub("\n$", "") .. "\n"):gmatch "([^\n]*)\n" do
    if not code and line:sub(1, 1) == "!" then
      raises, line = true, line:match "^!%s*(.*)$"
    end
    out[#out + 1] = (code and ">> " or "> ") .. line
    code = code and code .. "\n" .. line or line
    local chunk, err = compile(code, raises, env)
    if chunk then
      local printed, stderr = print, io.stderr
      print = function(...) add_lines(out, shown(...)) end -- luacheck: ignore
      io.stderr = {write = function(self) return self end} -- luacheck: ignore
      local message = add_results(out, pcall(chunk))
      print, io.stderr = printed, stderr -- luacheck: ignore
      if (message ~= nil) ~= raises then
        error(("%s\n%s"):format(code, message or "it was to raise an error"), 0)
      end
      if raises then add_lines(out, tostring(message)) end
      code, raises = nil, false
    elseif not is_unfinished(err) then
      error(code .. "\n" .. err, 0)
    end
  end
  if code then error(code .. "\nis not finished", 0) end
  return out
end

return session
