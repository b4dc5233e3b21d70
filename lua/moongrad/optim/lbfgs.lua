-- LBFGS: a quasi-Newton method for a loss that is the same function at each call (whole data, no
-- dropout), as torch.optim.LBFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4, with
-- the line search of algorithms 3.5 and 3.6 after Schmidt's minFunc.
--
--   local opt = optim.LBFGS(model, {line_search = "strong_wolfe"})
--   local loss = opt:step(function()
--     local loss = mg.mean_squared_error(model(x), t)
--     model:cleargrads(); loss:backward()
--     return loss
--   end)
--
-- All parameters are one vector here: x, of gradient g, moved along d. A step that fails puts the
-- parameters, their grads and what is kept back as they were.

local mg = require "moongrad"
local Optimizer = require "moongrad.optim.optimizer"
local checked, raise = mg.checked, mg.raise

local LBFGS = Optimizer:extend("LBFGS",
  "lr: number(0..) = 1, max_iter: int(1..) = 20, max_eval: int(1..)?, " ..
    "tolerance_grad: number(0..) = 1e-7, tolerance_change: number(0..) = 1e-9, " ..
    'history_size: int(1..) = 100, line_search: "strong_wolfe"?',
  "a quasi-Newton method: opt:step(closure), where closure() clears the grads, computes the " ..
    "loss, calls backward and gives the loss")

function LBFGS:prepare()
  if self.groups and self.groups[1] ~= self or not self.groups then
    raise("LBFGS: takes no groups of parameters")
  end
end

LBFGS.add_group = checked("add_group(self, group: table)", "not here: LBFGS has one group",
  function() raise("LBFGS: takes no groups of parameters") end)

-- ---- one vector -------------------------------------------------------------------------------

local function leaves(self)
  local list = {}
  if self.target.named_parameters then
    for p in self.target:parameters() do
      if p.requires_grad then list[#list + 1] = p end
    end
  else
    for _, p in ipairs(self.target) do
      if p.requires_grad then list[#list + 1] = p end
    end
  end
  if #list == 0 then raise("LBFGS: there are no parameters to move") end
  return list
end

local function flat(params, what)
  local parts = {}
  for i, p in ipairs(params) do
    local v = what == "grad" and (p.grad or mg.zeros_like(p)) or p.data
    parts[i] = v:reshape(v.size)
  end
  local x = mg.cat(parts, 1)
  mg.eval(x)
  return x
end

local function put(params, x)
  local values, at = {}, 0
  for i, p in ipairs(params) do
    values[i] = x[{ { at + 1, at + p.size } }]:reshape(p.shape):to(p.dtype)
    at = at + p.size
  end
  mg.assign(params, values)
end

local function dot(a, b) return mg.dot(a, b):item() end

-- ---- the line search --------------------------------------------------------------------------

-- The minimum of the cubic with values f1, f2 and slopes g1, g2 at x1, x2, within low..high
local function cubic(x1, f1, g1, x2, f2, g2, low, high)
  if not low then low, high = math.min(x1, x2), math.max(x1, x2) end
  local d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
  local square = d1 * d1 - g1 * g2
  if square < 0 or square ~= square then return (low + high) / 2 end
  local d2 = math.sqrt(square)
  local at
  if x1 <= x2 then at = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
  else at = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2)) end
  if at ~= at then return (low + high) / 2 end
  return math.min(math.max(at, low), high)
end

local C1, C2, MOST = 1e-4, 0.9, 25

-- probe(t) -> a point {t, f, g, slope} on the line; `from` is that of t = 0. The one that is taken,
-- and how many were looked at.
local function strong_wolfe(probe, from, t, width, tolerance)
  local function rises(p) return p.f > from.f + C1 * p.t * from.slope or p.f ~= p.f end
  local function flat_enough(p) return math.abs(p.slope) <= -C2 * from.slope end
  local last, new, calls, ends = from, probe(t), 1, nil
  local steps = 0
  while steps < MOST do
    if rises(new) or steps > 1 and new.f >= last.f then
      ends = { last, new }
      break
    elseif flat_enough(new) then
      return new, calls
    elseif new.slope >= 0 then
      ends = { last, new }
      break
    end
    local low, high = new.t + 0.01 * (new.t - last.t), new.t * 10
    t = cubic(last.t, last.f, last.slope, new.t, new.f, new.slope, low, high)
    last, new = new, probe(t)
    calls, steps = calls + 1, steps + 1
  end
  if not ends then ends = { from, new } end
  local low, high = ends[1], ends[2]
  if low.f > high.f then low, high = high, low end
  local stuck = false
  while steps < MOST and math.abs(high.t - low.t) * width >= tolerance do
    t = cubic(low.t, low.f, low.slope, high.t, high.f, high.slope)
    local first, last_t = math.min(low.t, high.t), math.max(low.t, high.t)
    local margin = 0.1 * (last_t - first)       -- it must not stay at one end
    if math.min(last_t - t, t - first) < margin then
      if stuck or t >= last_t or t <= first then
        t = math.abs(t - last_t) < math.abs(t - first) and last_t - margin or first + margin
        stuck = false
      else
        stuck = true
      end
    else
      stuck = false
    end
    new = probe(t)
    calls, steps = calls + 1, steps + 1
    if rises(new) or new.f >= low.f then
      high = new
      if low.f > high.f then low, high = high, low end
    else
      local done = flat_enough(new)
      if not done and new.slope * (high.t - low.t) >= 0 then high = low end
      low = new
      if done then break end
    end
  end
  return low, calls
end

-- ---- the step ---------------------------------------------------------------------------------

-- -H g by the two loops over the history: s steps, y changes of g, r 1 / (y.s)
local function direction(k, g)
  local q, alpha = -g, {}
  for i = #k.s, 1, -1 do
    alpha[i] = k.r[i] * dot(k.s[i], q)
    q = q - alpha[i] * k.y[i]
  end
  q = q * k.H
  for i = 1, #k.s do q = q + k.s[i] * (alpha[i] - k.r[i] * dot(k.y[i], q)) end
  mg.eval(q)
  return q
end

local function largest(x) return x:abs():max():item() end

local function copy(k)
  local new = {}
  for name, v in pairs(k) do
    new[name] = type(v) == "table" and table.move(v, 1, #v, 1, {}) or v
  end
  return new
end

local function minimize(self, params, closure)
  -- the loss and its gradient where the parameters stand
  local function evaluate()
    local loss = mg.enable_grad(closure)
    if not mg.is_variable(loss) and type(loss) ~= "number" then
      raise("step: the closure gave a %s, expected the loss", type(loss))
    end
    for _, hook in ipairs(self.hooks) do hook(params) end
    return type(loss) == "number" and loss or loss:item(), flat(params, "grad")
  end
  local k = copy(self.slots.kept or { step = 0, s = {}, y = {}, r = {}, H = 1.0 })
  local most = self.max_eval or self.max_iter * 5 // 4
  local f, g = evaluate()
  local first, calls = f, 1
  if largest(g) <= self.tolerance_grad then return first, k end
  for i = 1, self.max_iter do
    k.step = k.step + 1
    if k.step == 1 then
      k.d = -g
    else
      local y, s = g - k.g, k.d * k.t
      local ys = dot(y, s)
      if ys > 1e-10 then
        if #k.s == self.history_size then
          for _, list in ipairs { k.s, k.y, k.r } do table.remove(list, 1) end
        end
        mg.eval(y, s)
        local n = #k.s + 1
        k.s[n], k.y[n], k.r[n], k.H = s, y, 1 / ys, ys / dot(y, y)
      end
      k.d = mg.tidy(direction, k, g)
    end
    k.g, k.f = g, f
    local t = self.lr
    if k.step == 1 then t = math.min(1, 1 / g:abs():sum():item()) * self.lr end
    k.t = t
    local slope = dot(g, k.d)
    if slope > -self.tolerance_change then break end
    local x = flat(params, "data")
    local function probe(at)
      put(params, x + k.d * at)
      local value, slopes = evaluate()
      return { t = at, f = value, g = slopes, slope = dot(slopes, k.d) }
    end
    local used = 0
    if self.line_search then
      local point
      point, used = strong_wolfe(probe, { t = 0.0, f = f, g = g, slope = slope }, t, largest(k.d),
        self.tolerance_change)
      k.t, f, g = point.t, point.f, point.g
      put(params, x + k.d * k.t)
    elseif i < self.max_iter then
      local point = probe(t)
      f, g, used = point.f, point.g, 1
    else
      put(params, x + k.d * t)
    end
    calls = calls + used
    if i == self.max_iter or calls >= most or largest(g) <= self.tolerance_grad or
       largest(k.d) * math.abs(k.t) <= self.tolerance_change or
       math.abs(f - k.f) < self.tolerance_change then break end
  end
  return first, k
end

local function step(self, closure)
  -- layers that wait for their input's size are given it
  if self.target.state and not self.slots.kept and not pcall(self.target.state, self.target) then
    closure()
  end
  local params = leaves(self)
  local loss, kept = mg.no_grad(mg._attempt_values, params, minimize, self, params, closure)
  self.slots.kept = mg._outlive(kept)
  return loss
end

LBFGS.step = checked("step(self, closure: function)",
  "moves the parameters by at most max_iter iterations; gives the loss before, a number", step)

-- ---- state ------------------------------------------------------------------------------------

LBFGS.state = checked("state(self)", "what later steps depend on, apart from the options, as " ..
  "mg.save wants it",
  function(self)
    local t = { lr = mg.tensor(self.lr, "float64"), rule = "LBFGS" }
    local k = self.slots.kept
    if not k then return t end
    t.step, t.H, t.f = mg.tensor(k.step, "int64"), mg.tensor(k.H, "float64"),
      mg.tensor(k.f or 0, "float64")
    t.t = mg.tensor(k.t or 0, "float64")
    if k.d then t.d, t.g = k.d.data, k.g.data end
    if #k.s > 0 then
      t.s, t.y, t.r = mg.stack(k.s), mg.stack(k.y), mg.tensor(k.r, "float64")
    end
    return t
  end)

LBFGS.load_state = checked("load_state(self, state: table, metadata: table?)",
  "takes what state() gave for a like set of parameters; after an error nothing has changed",
  function(self, t)
    if t.rule ~= "LBFGS" then
      raise("load_state: this is %s, not of LBFGS",
        t.rule and "the state of " .. tostring(t.rule) or "no optimizer's state")
    end
    local size, known = 0, { rule = true }
    for _, p in ipairs(leaves(self)) do size = size + p.size end
    local function take(name, ...)
      local v = t[name]
      if not mg.is_variable(v) then raise("load_state: %s is missing", name) end
      local want, have = table.concat({ ... }, ", "), table.concat(v.shape, ", ")
      if want ~= have then raise("load_state: %s is (%s), expected (%s)", name, have, want) end
      known[name] = true
      return v
    end
    local lr, kept = getmetatable(self).check { lr = take "lr":item() }, nil
    if t.step then
      kept = { step = take "step":item(), H = take "H":item(), f = take "f":item(),
               t = take "t":item(), s = {}, y = {}, r = {} }
      if t.d then kept.d, kept.g = take("d", size), take("g", size) end
      local n = t.r and mg.is_variable(t.r) and #t.r or 0
      if n > 0 then
        kept.r = take("r", n):totable()
        for _, name in ipairs { "s", "y" } do
          local rows = take(name, n, size)
          for i = 1, n do kept[name][i] = rows[i]:clone() end
        end
      end
    end
    for name in pairs(t) do
      if not known[name] then raise("load_state: %s is unexpected", tostring(name)) end
    end
    mg._commit({}, {}, { n = 6, self.values, "lr", lr, self.slots, "kept", kept })
    return self
  end)

return { LBFGS = LBFGS }
