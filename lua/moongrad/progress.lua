-- mg.progress(what, text, total): a loop with a bar.
--
--   for i in mg.progress(100, "fit") do ... end                    counts 1..100
--   for x, t in mg.progress(loader, "epoch 1") do ... end          goes through a pass of loader
--   for line in mg.progress(io.lines(path), "read", n) do ... end  any iterator of one function
--
-- The result is the iterator; bar:set("loss 0.3") on it changes what stands at the end of the
-- line. On a terminal the bar redraws itself on stderr; elsewhere a plain line is written every
-- few seconds and at the end. Lua's clocks are whole seconds (os.time) and the CPU time of all
-- threads (os.clock): the first is shown, a change of either is good enough to redraw.

local mg = require "moongrad"
local Object = require "moongrad.class"

local INTERVAL = 5       -- seconds between plain lines
local REDRAW = 0.1       -- CPU seconds between bars
local WIDTH = 30

local terminal           -- nil until somebody needs to know
local function is_terminal()
  if terminal == nil then terminal = os.execute("test -t 2") or false end
  return terminal
end

local Bar = {__name = "Bar"}
Bar.__index = Bar

local function line(bar)
  local parts = { bar.text }
  if bar.total then
    local filled = bar.total == 0 and WIDTH or math.min(WIDTH, WIDTH * bar.n // bar.total)
    if is_terminal() then
      parts[#parts + 1] = ("[%s%s]"):format(("#"):rep(filled), ("."):rep(WIDTH - filled))
    end
    parts[#parts + 1] = ("%d/%d"):format(bar.n, bar.total)
  else
    parts[#parts + 1] = tostring(bar.n)
  end
  parts[#parts + 1] = ("%d s"):format(os.time() - bar.began)
  parts[#parts + 1] = bar.note
  return table.concat(parts, "  ")
end

local function draw(bar)
  bar.drawn, bar.cpu = os.time(), os.clock()
  if is_terminal() then
    io.stderr:write("\r", line(bar), "\27[K")
  else
    io.stderr:write(line(bar), "\n")
  end
end

local function due(bar)
  local waited = os.time() - bar.drawn
  if is_terminal() then return waited > 0 or os.clock() - bar.cpu >= REDRAW end
  return waited >= INTERVAL
end

-- Also called when a for loop is left early.
local function finish(bar)
  if bar.finished then return end
  bar.finished = true
  draw(bar)
  if is_terminal() then io.stderr:write("\n") end
end

Bar.__close = finish

Bar.set = mg.checked("set(self, note: string)", "what stands at the end of the line",
  function(self, note) self.note = note end)

local function pass(bar, first, ...)
  if first == nil then
    finish(bar)
    return nil
  end
  bar.n = bar.n + 1
  return first, ...
end

-- A call says that the item before is done.
function Bar:__call(state, control)
  if self.finished then
    mg.raise("progress: this one, %s, has ended; each loop has one of its own", self.text)
  end
  if due(self) then draw(self) end
  return pass(self, self.iterator(state, control))
end

Object._seal(Bar, "note finished", "total")

return mg.checked('progress(what: any, text: string = "progress", total: int(0..)?)',
  "a bar on a terminal's stderr while one iterates, plain lines else: over 1..n, a loader's " ..
    "batches or any iterator; bar:set(note) changes what stands at its end",
  function(what, text, total)
    local iterator, given = what, total
    if type(what) == "number" then
      total = math.tointeger(what)
      if not total or total < 0 then
        mg.raise("progress: a number must be whole and not negative, got %s", tostring(what))
      end
      local i = 0
      iterator = function()
        i = i + 1
        if i <= total then return i end
      end
    elseif type(what) == "table" and what.batches then
      local ours = rawget(what, "running") -- its pass begins with the first batch
      iterator, total = ours and what or what:batches(), #what
    elseif type(what) ~= "function" and not (getmetatable(what) or {}).__call then
      mg.raise("progress: got a %s, expected an iterator, a loader or a number", type(what))
    end
    if given and given ~= total then
      mg.raise("progress: total = %d, but there are %d", given, total)
    end
    local bar = setmetatable({
      iterator = iterator, text = text, total = total, n = 0,
      began = os.time(), drawn = os.time(), cpu = os.clock()
    }, Bar)
    return bar, nil, nil, bar
  end)
