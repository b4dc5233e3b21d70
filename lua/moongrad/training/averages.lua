-- Averages of a model's parameters over the steps of training, which often do better than the last
-- ones: EMA forgets exponentially, SWA does not (Izmailov et al., arXiv 1803.05407). Buffers are
-- taken as they are.

local mg = require "moongrad"
local Object = require "moongrad.class"
local field = require "moongrad.field"
local checked, raise = mg.checked, mg.raise

local Average = Object:extend("Average")

-- How many updates of an average the record in the making has, by average
local records = setmetatable({}, {__mode = "k"})

-- In a function that mg.compile records: the rate is asked for before each replay, which counts.
local function recorded_rate(self)
  local record, serial, kept = records[self], mg._recording(), self.values
  if not record or record.serial ~= serial then
    record = {serial = serial, updates = 0}
    records[self] = record
  end
  local before = record.updates
  record.updates = before + 1
  for name in self.model:named_parameters() do
    if not kept[name] then
      raise("update: %s has no average yet; in a function that mg.compile records there must be " ..
        "one: call update() once before", name)
    end
  end
  mg._ask(0, function()
    return rawequal(self.values, kept), { self, "count", self.count + before + 1 }
  end)
  return mg._outlive(mg._ask(1, function() return self:rate(self.count + before) end))
end

Average.update = checked("update(self)", "takes the parameters as they are now; after opt:step()",
  function(self)
    mg.no_grad(mg.tidy, function()
      local recording = mg._recording() and not self:_is_within()
      local rate = recording and recorded_rate(self) or self:rate(self.count)
      local targets, values, none = {}, {}, true
      local fields = recording and { n = 0 } or { n = 3, self, "count", self.count + 1 }
      for name, p in self.model:named_parameters() do
        local old = self.values[name]
        none = false
        if old and old.shape ~= p.shape then
          raise("update: %s is %s now, its average %s: other layers have an average of their own",
            name, tostring(p.shape), tostring(old.shape))
        elseif old then
          targets[#targets + 1], values[#values + 1] = old, old + rate * (p - old)
        else -- all there is of a layer that has just got its parameters
          field(fields, self.values, name, mg.tensor(p.data))
        end
      end
      if none then
        raise("update: %s has no parameters (a layer whose input size was left out has none " ..
          "before its first call)", getmetatable(self.model).__name)
      end
      mg._commit(targets, values, fields)
    end)
  end)

Average.apply = checked("apply(self, fn: function, ...)",
  "fn(...) while the model has the averages for parameters, as in mg.test_mode(fn, ...)",
  function(self, fn, ...)
    if self.count == 0 then raise("apply: there are no averages yet; say update() after steps") end
    local params, averages = {}, {}
    for name, p in self.model:named_parameters() do
      params[#params + 1] = p
      averages[#averages + 1] = self.values[name] or p.data
    end
    return mg._lend(params, function(...)
      mg.assign(params, averages)
      return fn(...)
    end, ...)
  end)

Average.copy = checked("copy(self)", "the model's parameters become the averages", function(self)
  if self.count == 0 then raise("copy: there are no averages yet; say update() after steps") end
  local params, averages = {}, {}
  for name, p in self.model:named_parameters() do
    if self.values[name] then
      params[#params + 1], averages[#averages + 1] = p, self.values[name]
    end
  end
  mg.assign(params, averages)
end)

Average.state = checked("state(self)", "the averages, by name, and how many went in", function(self)
  local t = { kind = getmetatable(self).__name, count = self.count, values = {} }
  for name, v in pairs(self.values) do t.values[name] = v.data end
  return t
end)

local loaded = mg.signature "load_state({kind: string, count: int(0..), values: table})"
Average.load_state = checked("load_state(self, state: table)", "takes what state() gave",
  function(self, t)
    local of, count, averages = loaded(t)
    if not of or not count or not averages then
      raise("load_state: this is no state of averages")
    end
    local name_of_class = getmetatable(self).__name
    if of ~= name_of_class then
      raise("load_state: this is the state of %s, not of %s", of, name_of_class)
    end
    local values, left = {}, {}
    for name in pairs(averages) do left[name] = true end
    for name, p in self.model:named_parameters() do
      left[name] = nil
      local v = averages[name]
      if not mg.is_variable(v) or table.concat(v.shape, ",") ~= table.concat(p.shape, ",") then
        if count > 0 then raise("load_state: %s is missing, or of another shape", name) end
      else
        values[name] = mg.tensor(v, p.dtype)
      end
    end
    local more = next(left)
    if more ~= nil then raise("load_state: %s is unexpected", tostring(more)) end
    mg._commit({}, {}, { n = 6, self, "count", count, self, "values", values })
    return self
  end)

function Average:__tostring()
  return ("%s(%d updates)"):format(getmetatable(self).__name, self.count)
end

local EMA = Average:extend("EMA"):_seal()

EMA.init = checked("EMA(self, model: module, {decay: number(0..<1) = 0.999, warmup: bool = true})",
  "average = decay average + (1 - decay) p at each update(); with warmup decay is at most " ..
    "(1 + n) / (10 + n) after n of them, so that the start is soon forgotten",
  function(self, model, decay, warmup)
    self.model, self.decay, self.warmup, self.count, self.values = model, decay, warmup, 0, {}
  end)

local assigned = mg.signature "EMA({decay: number(0..<1), warmup: bool})"

-- Of the update that n came before
function EMA:rate(n)
  local decay, warmup = assigned{decay = self.decay, warmup = self.warmup}
  return 1 - (warmup and math.min(decay, (1 + n) / (10 + n)) or decay)
end

local SWA = Average:extend("SWA"):_seal()

SWA.init = checked("SWA(self, model: module)",
  "the mean of the parameters at all update()s, say once an epoch near the end",
  function(self, model) self.model, self.count, self.values = model, 0, {} end)

function SWA.rate(_, n) return 1 / (n + 1) end

return { EMA = EMA, SWA = SWA }
