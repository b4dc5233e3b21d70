-- Schedules: what the learning rate is after t calls of :step(), once a batch or once an epoch.
--
--   local schedule = optim.warmup(opt, 100, {after = optim.cosine(opt, 900)})
--   ... opt:step(); schedule:step()
--
-- A schedule starts from the optimizer's lr at the time it is made, and sets lr at once and at
-- each step; lr assigned by hand lasts until then. schedule.t may be assigned to go on from there.

local mg = require "moongrad"
local Object = require "moongrad.class"
local options = require "moongrad.options"

local Schedule = Object:extend("Schedule")

-- rate(t) -> lr
function Schedule:init(opt, rate)
  self.opt, self.rate, self.t = opt, rate, 0
  opt.lr = rate(0)
end

function Schedule:step()
  self.t = self.t + 1
  self.opt.lr = self.rate(self.t)
end

local function positive(op, name, n)
  if type(n) ~= "number" or n <= 0 then
    mg.raise("%s: %s is %s, expected a positive number", op, name, tostring(n))
  end
end

local function rate_of(op, opt)
  if type(opt) ~= "table" or type(opt.lr) ~= "number" then
    local meta = getmetatable(opt)
    local kind = type(meta) == "table" and meta.__name or type(opt)
    mg.raise("%s: argument 1 is a %s, expected an optimizer", op, kind)
  end
  return opt.lr
end

local schedules = {}

-- Half a cosine from lr down to eta_min in t_max steps (CosineAnnealingLR), then up again.
function schedules.cosine(opt, t_max, opts)
  local base, min = rate_of("cosine", opt), options("cosine", opts, { eta_min = 0 }).eta_min
  positive("cosine", "t_max", t_max)
  return Schedule(opt, function(t)
    return min + (base - min) * (1 + math.cos(math.pi * t / t_max)) / 2
  end)
end

-- lr times gamma every `size` steps (StepLR).
function schedules.step(opt, size, opts)
  local base, gamma = rate_of("step", opt), options("step", opts, { gamma = 0.1 }).gamma
  positive("step", "size", size)
  return Schedule(opt, function(t) return base * gamma ^ (t // size) end)
end

-- From start_factor * lr up to lr in n steps, in a straight line (LinearLR); then lr stays, or is
-- what the schedule `after` says, counting from there.
function schedules.warmup(opt, n, opts)
  opts = options("warmup", opts, { start_factor = 1 / 3, after = false })
  local base, first, after = rate_of("warmup", opt), opts.start_factor, opts.after
  positive("warmup", "n", n)
  return Schedule(opt, function(t)
    if t < n then return base * (first + (1 - first) * t / n) end
    return after and after.rate(t - n) or base
  end)
end

return schedules
