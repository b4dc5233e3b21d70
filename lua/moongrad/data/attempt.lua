-- attempt(undo, fn, ...) -> fn(attempt, ...)'s results. Where it fails undo() is called, if there
-- is one, and the random numbers that were drawn, by datasets and samplers of the user's too, are
-- drawn again by a second try. fn may yield. What it commits may have attempt.done = true among it:
-- then an interruption on the way back undoes nothing any more.

local mg = require "moongrad"

local function take_back(was)
  if was.done then return end
  if was.undo then was.undo() end
  if was.random then mg.set_rng_state(was.random) end
end

local Beginning = { __close = take_back }

local function done(was, ...)
  was.done = true
  return ...
end

local function caught(was, ok, ...)
  if ok then return ... end
  take_back(was)
  error((...), 0)
end

-- A coroutine that died closes nothing, or later: there fn is called under pcall.
return function(undo, fn, ...)
  local was = { undo = undo, random = not mg._recording() and mg.get_rng_state() }
  local _, main = coroutine.running()
  if not main then return caught(was, pcall(fn, was, ...)) end
  local _ <close> = setmetatable(was, Beginning)
  return done(was, fn(was, ...))
end
