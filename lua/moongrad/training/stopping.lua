-- EarlyStopping: when a number, a loss on held-out data, has not been better for long.

local mg = require "moongrad"
local Object = require "moongrad.class"
local number_of = require "moongrad.number"
local checked, raise = mg.checked, mg.raise

local NONE = math.abs(0 / 0) -- nan, before the first number

local EarlyStopping = Object:extend("EarlyStopping"):_seal()

EarlyStopping.init = checked(
  'EarlyStopping(self, patience: int(0..), {mode: "min" | "max" = "min", ' ..
    "min_delta: number(0..) = 0})",
  "stopping:step(metric), once an epoch, is true when there was nothing better, by more than " ..
    "min_delta, for more than patience epochs",
  function(self, patience, mode, delta)
    self.patience, self.mode, self.min_delta = patience, mode, delta
    self.best, self.bad, self.stopped = NONE, 0, false
  end)

-- All three together: an interruption may come anywhere.
local function settle(self, best, bad)
  mg._commit({}, {},
    { n = 9, self, "best", best, self, "bad", bad, self, "stopped", bad > self.patience })
end

local assigned = mg.signature('EarlyStopping({patience: int(0..), mode: "min" | "max", ' ..
  "min_delta: number(0..)})")

EarlyStopping.step = checked("step(self, metric: number | variable)",
  "takes this epoch's number; true: stop",
  function(self, metric)
    local v = number_of("step", "metric", metric)
    local _, mode, delta = assigned{
      patience = self.patience, mode = self.mode, min_delta = self.min_delta }
    local sign = mode == "min" and 1 or -1
    local first = self.best ~= self.best
    if first and v == v or sign * v < sign * self.best - delta then
      settle(self, v, 0)
    else
      settle(self, self.best, self.bad + 1)
    end
    return self.stopped
  end)

EarlyStopping.state = checked("state(self)", "the best number and how long ago it was",
  function(self) return { best = self.best, bad = self.bad } end)

local loaded = mg.signature "load_state({best: number, bad: int(0..)})"
EarlyStopping.load_state = checked("load_state(self, state: table)", "takes what state() gave",
  function(self, t)
    local best, bad = loaded(t)
    if not best or not bad then raise("load_state: this is no state of EarlyStopping") end
    settle(self, best, bad)
    return self
  end)

function EarlyStopping:__tostring()
  return mg._format("EarlyStopping(best = %g, %d of %d epochs ago)", self.best, self.bad,
    self.patience)
end

return { EarlyStopping = EarlyStopping }
