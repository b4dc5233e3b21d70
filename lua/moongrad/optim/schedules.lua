-- Schedules: what the learning rate is after t calls of :step(), once a batch or once an epoch.
--
--   local schedule = optim.warmup(opt, 100, {after = optim.cosine(opt, 900)})
--   ... opt:step(); schedule:step()
--
-- A schedule starts from the optimizer's lr at the time it is made, and that of each group with an
-- lr of its own; where another schedule has just set that, from what this one started from. It sets
-- lr at once and at each step; lr assigned by hand lasts until then. All but plateau are functions
-- of t, and schedule.t may be assigned to go on from there.

local mg = require "moongrad"
local Object = require "moongrad.class"
local field = require "moongrad.field"
local number_of = require "moongrad.number"
local check_list = require "moongrad.list"
local only = require "moongrad.only"
local checked, raise = mg.checked, mg.raise

local Schedule = Object:extend("Schedule")
Schedule.is_schedule = true

-- The optimizer and the groups that have an lr of their own.
local function holders(opt)
  local list = {opt}
  for _, group in ipairs(opt.groups) do
    if group ~= opt and rawget(group.values, "lr") then list[#list + 1] = group end
  end
  return list
end

-- By holder: the lr that the last schedule made for it set at once, and what that one started from
local starts = setmetatable({}, { __mode = "k" })

local function base_of(holder)
  local start = starts[holder]
  return start and start.lr == holder.lr and start.base or holder.lr
end

local function copy(t) return table.move(t, 1, #t, 1, {}) end

local function option(fields, holder, name, value)
  field(fields, holder.values, name, holder._checked(holder, {[name] = value})[name])
end

-- The fields of t steps
local function planned(self, t)
  local fields = { n = 0 }
  for i, holder in ipairs(self.holders) do option(fields, holder, "lr", self:at(t, i)) end
  self:also(fields, t)
  field(fields, self, "t", t)
  return fields
end

-- kind: its name. rate(t, base) -> lr, where base is the lr that it started from.
function Schedule:init(kind, opt, rate, fields)
  if opt.lr == nil then raise("%s: %s has no lr", kind, getmetatable(opt).__name) end
  local base = {}
  for i, holder in ipairs(holders(opt)) do base[i] = base_of(holder) end
  for k, v in pairs{kind = kind, opt = opt, rate = rate, t = 0, holders = holders(opt),
                    base = base} do rawset(self, k, v) end
  for k, v in pairs(fields or {}) do rawset(self, k, v) end
  local first = planned(self, 0)
  for i, holder in ipairs(self.holders) do
    field(first, starts, holder, { lr = first[3 * i], base = base[i] })
  end
  mg._commit({}, {}, first)
end

-- Fields are made above; what else is assigned nobody would read.
function Schedule:__newindex(name)
  raise("%s: there is no field %s", self.kind, tostring(name))
end

-- The lr of holder i after t steps
function Schedule:at(t, i) return self.rate(t, self.base[i]) end

-- For fields beside lr: also(self, fields, t)
function Schedule.also() end

-- t, which may have been assigned
local function steps_of(self)
  local t = self.t
  if math.type(t) ~= "integer" or t < 0 then
    raise("step: t is %s, expected a number of steps", tostring(t))
  end
  return t
end

-- In a function that mg.compile records: before each replay what it sets after it. The optimizer
-- asks for its lr before, too.
local records = setmetatable({}, {__mode = "k"})   -- how many steps the record in the making has

local function recorded_step(self)
  if self:_is_within() then
    raise("step: this schedule begins anew at each call of a function that mg.compile records, " ..
      "its optimizer does not: make it before the call")
  end
  local record, serial = records[self], mg._recording()
  if not record or record.serial ~= serial then
    record = {serial = serial, steps = 0}
    records[self] = record
  end
  record.steps = record.steps + 1
  local steps = record.steps
  mg._ask(0, function() return true, planned(self, steps_of(self) + steps) end)
  self.opt:scheduled()
end

Schedule.step = checked("step(self)", "sets the optimizer's lr to what comes next, " ..
  "reckoned from the lr it began with: what is assigned to opt.lr meanwhile is lost",
  function(self)
    if mg._recording() and not self.opt:_is_within() then return recorded_step(self) end
    mg._commit({}, {}, planned(self, steps_of(self) + 1))
  end)

function Schedule:__tostring()
  return mg._format("Schedule(%s, t = %s, lr = %g)", self.kind, tostring(self.t), self.opt.lr)
end

-- ---- state ------------------------------------------------------------------------------------

-- What is state beside t, base and lr: names of fields that hold numbers.
Schedule.kept = {}

Schedule.state = checked("state(self)",
  "what later steps depend on, the lr of now among it: a table of numbers, as mg.save wants it",
  function(self)
    local t = { kind = self.kind, t = self.t, base = copy(self.base), lr = {}, parts = {} }
    for i, holder in ipairs(self.holders) do t.lr[i] = holder.lr end
    for _, name in ipairs(self.kept) do t[name] = self[name] end
    for i, part in ipairs(self.parts or {}) do t.parts[i] = part:state() end
    return t
  end)

-- A list of rates, one for each holder, or an error
local function saved_rates(self, t, name)
  local list, n = t[name], #self.holders
  if type(list) ~= "table" or #list ~= n then
    raise("load_state: %s must be %d numbers: the optimizer's groups differ", name, n)
  end
  for i, v in ipairs(list) do
    if type(v) ~= "number" or v ~= v then
      raise("load_state: %s[%d] is %s, expected a number", name, i, tostring(v))
    end
    getmetatable(self.opt).check { lr = v }
  end
  return copy(list)
end

-- The fields that a state gives a schedule and its parts.
local function read(self, t, fields)
  local what = type(t) == "table" and t.kind
  if what ~= self.kind then
    raise("load_state: this is %s, not of %s", type(what) == "string" and "the state of " .. what
      or "no schedule's state", self.kind)
  end
  local known = { kind = true, base = true, lr = true, parts = true }
  for _, name in ipairs { "t", table.unpack(self.kept) } do
    if type(t[name]) ~= "number" then raise("load_state: %s is missing", name) end
    known[name] = true
    field(fields, self, name, t[name])
  end
  if math.type(t.t) ~= "integer" or t.t < 0 or t.t > 1 << 53 then
    raise("load_state: t is %s, expected a number of steps", tostring(t.t))
  end
  for name in pairs(t) do
    if not known[name] then raise("load_state: %s is unexpected", tostring(name)) end
  end
  field(fields, self, "base", saved_rates(self, t, "base"))
  local parts = type(t.parts) == "table" and t.parts or {}
  if #parts ~= #(self.parts or {}) then
    raise("load_state: it has %d schedules inside, expected %d", #parts, #(self.parts or {}))
  end
  for i, part in ipairs(self.parts or {}) do read(part, parts[i], fields) end
end

Schedule.load_state = checked("load_state(self, state: table)",
  "takes what state() gave for a schedule made alike, and gives the optimizer the lr it had then",
  function(self, t)
    local fields = { n = 0 }
    read(self, t, fields)
    for i, lr in ipairs(saved_rates(self, t, "lr")) do
      field(fields, self.holders[i].values, "lr", lr)
    end
    self:also(fields, t.t)
    mg._commit({}, {}, fields)
    return self
  end)

-- ---- functions of t ---------------------------------------------------------------------------

local schedules = {}

local function half_cosine(from, to, part)
  return to + (from - to) * (1 + math.cos(math.pi * part)) / 2
end

local function line(from, to, part) return from + (to - from) * part end

schedules.cosine = checked(
  "cosine(opt: optimizer, t_max: number(0<..), {eta_min: number(0..) = 0})",
  "a schedule: lr along half a cosine down to eta_min in t_max steps (CosineAnnealingLR), then " ..
    "up again; schedule:step() once a batch or epoch",
  function(opt, t_max, min)
    return Schedule("cosine", opt, function(t, base) return half_cosine(base, min, t / t_max) end)
  end)

schedules.warm_restarts = checked(
  "warm_restarts(opt: optimizer, t_0: number(0<..), " ..
    "{t_mult: number(1..) = 1, eta_min: number(0..) = 0})",
  "a schedule: lr along half a cosine down to eta_min in t_0 steps, then again from the start, " ..
    "each time t_mult times as long (SGDR, Loshchilov and Hutter, arXiv 1608.03983; " ..
    "CosineAnnealingWarmRestarts)",
  function(opt, t_0, mult, min)
    return Schedule("warm_restarts", opt, function(t, base)
      local length = t_0
      if mult == 1 then t = t % t_0 end
      while t >= length do t, length = t - length, length * mult end
      return half_cosine(base, min, t / length)
    end)
  end)

schedules.step = checked("step(opt: optimizer, size: number(0<..), {gamma: number(0..) = 0.1})",
  "a schedule: lr times gamma every size steps (StepLR)",
  function(opt, size, gamma)
    return Schedule("step", opt, function(t, base) return base * gamma ^ (t // size) end)
  end)

schedules.multistep = checked(
  "multistep(opt: optimizer, milestones: numbers(0..), {gamma: number(0..) = 0.1})",
  "a schedule: lr times gamma at each of the milestones, numbers of steps (MultiStepLR)",
  function(opt, milestones, gamma)
    return Schedule("multistep", opt, function(t, base)
      local passed = 0
      for _, m in ipairs(milestones) do
        if t >= m then passed = passed + 1 end
      end
      return base * gamma ^ passed
    end)
  end)

schedules.exponential = checked("exponential(opt: optimizer, gamma: number(0..))",
  "a schedule: lr times gamma at every step (ExponentialLR)",
  function(opt, gamma)
    return Schedule("exponential", opt, function(t, base) return base * gamma ^ t end)
  end)

schedules.linear_lr = checked(
  "linear_lr(opt: optimizer, n: number(0<..), " ..
    "{start_factor: number(0..) = 0.3333333333333333, end_factor: number(0..) = 1})",
  "a schedule: from start_factor * lr to end_factor * lr in n steps, in a straight line " ..
    "(LinearLR), and there it stays",
  function(opt, n, first, last)
    return Schedule("linear_lr", opt, function(t, base)
      return base * line(first, last, math.min(t / n, 1))
    end)
  end)

-- Smith, "Cyclical learning rates for training neural networks", arXiv 1506.01186
schedules.cyclic = checked(
  "cyclic(opt: optimizer, base_lr: number(0..), max_lr: number(0..), {up: number(0<..) = 2000, " ..
    'down: number(0<..) = up, mode: "triangular" | "triangular2" | "exp_range" = "triangular", ' ..
    "gamma: number(0<..)?})",
  "a schedule: lr from base_lr to max_lr in `up` steps and back in `down`, again and again " ..
    "(CyclicLR); triangular2: half as high each time, exp_range: times gamma^t",
  function(opt, low, high, up, down, mode, gamma)
    if gamma and mode ~= "exp_range" then
      raise("cyclic: gamma is of no use to %s, only to exp_range", mode)
    elseif mode == "exp_range" and not gamma then
      raise "cyclic: exp_range needs gamma"
    end
    local total = up + down
    return Schedule("cyclic", opt, function(t)
      local cycle = t // total
      local part = t / total - cycle
      local height = part <= up / total and part * total / up or (1 - part) * total / down
      if mode == "triangular2" then height = height / 2.0 ^ cycle end
      if mode == "exp_range" then height = height * gamma ^ t end
      return low + (high - low) * height
    end)
  end)

schedules.polynomial = checked(
  "polynomial(opt: optimizer, n: number(0<..), {power: number(0..) = 1})",
  "a schedule: lr times (1 - t/n)^power, down to 0 in n steps (PolynomialLR)",
  function(opt, n, power)
    return Schedule("polynomial", opt, function(t, base)
      return base * (1 - math.min(t / n, 1)) ^ power
    end)
  end)

schedules.lambda = checked("lambda(opt: optimizer, f: function)",
  "a schedule: lr times f(t), t = 0, 1, ... (LambdaLR)",
  function(opt, f)
    return Schedule("lambda", opt, function(t, base)
      local factor = only("lambda: the function", f(t))
      if type(factor) ~= "number" then
        raise("lambda: the function gave a %s, expected a number", type(factor))
      end
      return base * factor
    end)
  end)

-- ---- of other schedules -----------------------------------------------------------------------

local function check_part(op, opt, part, i)
  if type(part) ~= "table" or not part.is_schedule then
    raise("%s: schedule %d is a %s", op, i, mg.is_variable(part) and "Variable" or type(part))
  elseif not part.rate then
    raise("%s: schedule %d, %s, is no function of the step", op, i, part.kind)
  elseif part.opt ~= opt then
    raise("%s: schedule %d is of another optimizer", op, i)
  end
end

-- Made of parts, whose bases are their own; lr(t, i, base) is that of holder i.
local function compound(kind, opt, parts, lr)
  for i, part in ipairs(parts) do check_part(kind, opt, part, i) end
  return Schedule(kind, opt, true, {
    parts = parts,
    at = function(self, t, i) return lr(t, i, self.base[i]) end,
    rate = function(t, base) return lr(t, 1, base) end
  })
end

schedules.warmup = checked(
  "warmup(opt: optimizer, n: number(0<..), " ..
    "{start_factor: number(0..) = 0.3333333333333333, after: schedule})",
  "a schedule: from start_factor * lr up to lr in n steps, in a straight line (LinearLR); then " ..
    "lr stays, or is what the schedule `after` says, counting from there",
  function(opt, n, first, after)
    return compound("warmup", opt, { after }, function(t, i, base)
      if t < n then return base * line(first, 1, t / n) end
      return after and after:at(t - n, i) or base
    end)
  end)

-- Their optimizer, and a list of them that nobody changes
local function check_parts(op, parts)
  check_list(op, "the list of schedules", parts)
  if #parts == 0 or not (type(parts[1]) == "table" and parts[1].is_schedule) then
    raise("%s: expected a list of schedules", op)
  end
  return parts[1].opt, copy(parts)
end

schedules.chained = checked("chained(schedules: table)",
  "a schedule: lr times the factors by which each of these changes it (ChainedScheduler)",
  function(list)
    local opt, parts = check_parts("chained", list)
    return compound("chained", opt, parts, function(t, i, base)
      local lr = base
      for _, part in ipairs(parts) do
        if part.base[i] ~= 0 then lr = lr * (part:at(t, i) / part.base[i]) end
      end
      return lr
    end)
  end)

schedules.sequential = checked("sequential(schedules: table, milestones: numbers(0..))",
  "a schedule: the first of these up to the first milestone, a number of steps, then the next, " ..
    "counting from there, and so on (SequentialLR)",
  function(list, milestones)
    local opt, parts = check_parts("sequential", list)
    if #milestones ~= #parts - 1 then
      raise("sequential: %d schedules need %d milestones, got %d", #parts, #parts - 1, #milestones)
    end
    for k = 2, #milestones do
      if milestones[k] <= milestones[k - 1] then raise("sequential: the milestones must rise") end
    end
    return compound("sequential", opt, parts, function(t, i)
      local k = 1
      while milestones[k] and t >= milestones[k] do k = k + 1 end
      return parts[k]:at(t - (milestones[k - 1] or 0), i)
    end)
  end)

-- ---- one cycle --------------------------------------------------------------------------------

-- The momentum of a rule: its own option, or the first of betas.
local function set_momentum(fields, opt, value)
  for _, group in ipairs { opt, table.unpack(opt.groups) } do
    if group == opt or rawget(group.values, "momentum") or rawget(group.values, "betas") then
      if opt.betas then option(fields, group, "betas", { value, table.unpack(group.betas, 2) })
      else option(fields, group, "momentum", value) end
    end
  end
end

schedules.one_cycle = checked(
  "one_cycle(opt: optimizer, max_lr: number(0<..), total: number(1<..), " ..
    '{pct_start: number(0..1) = 0.3, anneal: "cos" | "linear" = "cos", ' ..
    "cycle_momentum: bool = true, base_momentum: number(0..<1)?, " ..
    "max_momentum: number(0..<1)?, div_factor: number(0<..) = 25, " ..
    "final_div_factor: number(0<..) = 1e4, three_phase: bool = false})",
  "a schedule of total steps: lr up from max_lr / div_factor in pct_start of them, then down to " ..
    "the first lr / final_div_factor, where it stays, and momentum (or betas[1]) the other way, " ..
    "from max_momentum, 0.95, to base_momentum, 0.85 (Smith and Topin, arXiv 1708.07120; " ..
    "OneCycleLR)",
  function(opt, max_lr, total, start, anneal, cycle, low, high, div, final_div, three)
    if not cycle and (low or high) then
      raise "one_cycle: base_momentum and max_momentum are of no use without cycle_momentum"
    end
    low, high = low or 0.85, high or 0.95
    local first = max_lr / div
    local last = first / final_div
    local top = start * total - 1
    local phases = {
      { 0, top, first, max_lr, high, low },
      { top, total - 1, max_lr, last, low, high }
    }
    if three then
      phases[2] = { top, 2 * top, max_lr, first, low, high }
      phases[3] = { 2 * top, total - 1, first, last, high, high }
    end
    local between = anneal == "cos" and half_cosine or line
    local function at(t, from, to)
      for k, phase in ipairs(phases) do
        if t <= phase[2] or k == #phases then
          local length = phase[2] - phase[1]
          local part = length > 0 and math.min(math.max((t - phase[1]) / length, 0), 1) or 1
          return between(phase[from], phase[to], part)
        end
      end
    end
    if cycle and opt.momentum == nil and opt.betas == nil then
      raise("one_cycle: %s has no momentum; say cycle_momentum = false", getmetatable(opt).__name)
    end
    return Schedule("one_cycle", opt, function(t) return at(t, 3, 4) end, {
      also = cycle and function(self, fields, t)
        set_momentum(fields, self.opt, at(t, 5, 6))
      end or nil
    })
  end)

-- ---- plateau ----------------------------------------------------------------------------------

local Plateau = Schedule:extend("Schedule")
Plateau.kept = { "best", "bad", "rest" }

function Plateau:at(_, i) return self.holders[i].lr end

local function better(self, v)
  if self.best ~= self.best then return v == v end -- nan: none yet
  local sign = self.mode == "min" and 1 or -1
  local margin = self.relative and self.threshold * math.abs(self.best) or self.threshold
  if math.abs(self.best) == math.huge then margin = 0 end
  return sign * v < sign * self.best - margin
end

Plateau.step = checked("step(self, metric: number | variable)",
  "looks at how it goes, a number, once an epoch: lr times factor where it got no better for long",
  function(self, metric)
    if mg._recording() then
      raise("step: a plateau goes by a value, and there is none in a function that mg.compile " ..
        "records; call it after that function")
    end
    local v = number_of("step", "metric", metric)
    local fields = planned(self, steps_of(self) + 1)
    local best, bad, rest = self.best, self.bad + 1, self.rest
    if better(self, v) then best, bad = v, 0 end
    if rest > 0 then rest, bad = rest - 1, 0 end
    if bad > self.patience then
      rest, bad = self.cooldown, 0
      for _, holder in ipairs(self.holders) do
        local less = math.max(holder.lr * self.factor, self.min_lr)
        if holder.lr - less > self.eps then option(fields, holder, "lr", less) end
      end
    end
    for k, kept in pairs { best = best, bad = bad, rest = rest } do field(fields, self, k, kept) end
    mg._commit({}, {}, fields)
  end)

schedules.plateau = checked(
  'plateau(opt: optimizer, {mode: "min" | "max" = "min", factor: number(0..<1) = 0.1, ' ..
    "patience: number(0..inf) = 10, threshold: number(0..) = 1e-4, " ..
    'threshold_mode: "rel" | "abs" = "rel", cooldown: number(0..inf) = 0, ' ..
    "min_lr: number(0..) = 0, eps: number(0..) = 1e-8})",
  "a schedule whose step takes a number, a loss on held-out data: lr times factor where it was " ..
    "no better for more than patience steps (ReduceLROnPlateau)",
  function(opt, mode, factor, patience, threshold, how, cooldown, min_lr, eps)
    return Plateau("plateau", opt, nil, {
      mode = mode, factor = factor, patience = patience, threshold = threshold,
      relative = how == "rel", cooldown = cooldown, min_lr = min_lr, eps = eps,
      best = 0 / 0, bad = 0, rest = 0
    })
  end)

Schedule:_strict "rate parts"
Plateau:_strict "rate parts"

return schedules
