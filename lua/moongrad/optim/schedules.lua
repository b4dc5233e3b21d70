-- Schedules: what the learning rate is after t calls of :step(), once a batch or once an epoch.
--
--   local schedule = optim.warmup(opt, 100, {after = optim.cosine(opt, 900)})
--   ... opt:step(); schedule:step()
--
-- A schedule starts from the optimizer's lr at the time it is made, and sets lr at once and at
-- each step; lr assigned by hand lasts until then. schedule.t may be assigned to go on from there.

local mg = require "moongrad"
local Object = require "moongrad.class"
local checked = mg.checked

local Schedule = Object:extend("Schedule")
Schedule.is_schedule = true

-- rate(t) -> lr
function Schedule:init(opt, rate)
  self.opt, self.rate, self.t = opt, rate, 0
  opt.lr = rate(0)
end

Schedule.step = checked("step(self)", "sets the optimizer's lr to what comes next", function(self)
  local t = self.t + 1
  self.opt.lr = self.rate(t)
  self.t = t
end)

function Schedule:__tostring()
  return mg._format("Schedule(t = %d, lr = %g)", self.t, self.opt.lr)
end

local schedules = {}

schedules.cosine = checked(
  "cosine(opt: optimizer, t_max: number(0<..), {eta_min: number(0..) = 0})",
  "a schedule: lr along half a cosine down to eta_min in t_max steps (CosineAnnealingLR), then " ..
    "up again; schedule:step() once a batch or epoch",
  function(opt, t_max, min)
    local base = opt.lr
    return Schedule(opt, function(t)
      return min + (base - min) * (1 + math.cos(math.pi * t / t_max)) / 2
    end)
  end)

schedules.step = checked("step(opt: optimizer, size: number(0<..), {gamma: number(0..) = 0.1})",
  "a schedule: lr times gamma every size steps (StepLR)",
  function(opt, size, gamma)
    local base = opt.lr
    return Schedule(opt, function(t) return base * gamma ^ (t // size) end)
  end)

schedules.warmup = checked(
  "warmup(opt: optimizer, n: number(0<..), " ..
    "{start_factor: number(0..) = 0.3333333333333333, after: schedule})",
  "a schedule: from start_factor * lr up to lr in n steps, in a straight line (LinearLR); then " ..
    "lr stays, or is what the schedule `after` says, counting from there",
  function(opt, n, first, after)
    local base = opt.lr
    return Schedule(opt, function(t)
      if t < n then return base * (first + (1 - first) * t / n) end
      return after and after.rate(t - n) or base
    end)
  end)

return schedules
