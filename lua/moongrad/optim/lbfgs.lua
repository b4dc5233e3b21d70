-- LBFGS: a quasi-Newton method for a loss that is the same function at each call (whole data, no
-- dropout), as torch.optim.LBFGS.
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
local only = require "moongrad.only"
local newton = require "moongrad.optim.quasi_newton"
local kinds = require "moongrad.nn.kinds"
local checked, raise, dot = mg.checked, mg.raise, newton.dot

local LBFGS = Optimizer:extend("LBFGS",
  "lr: number(0..) = 1, max_iter: int(1..) = 20, max_eval: int(1..)?, " ..
    "tolerance_grad: number(0..) = 1e-7, tolerance_change: number(0..) = 1e-9, " ..
    'history_size: int(1..) = 100, line_search: "strong_wolfe"?',
  "a quasi-Newton method: opt:step(closure), where closure() clears the grads, computes the " ..
    "loss, calls backward and gives the loss; begins anew where parameters were frozen or thawed")

function LBFGS:prepare()
  if not self.groups then raise("LBFGS: takes no groups of parameters") end
end

LBFGS.add_group = checked("add_group(self, group: table)", "not here: LBFGS has one group",
  function() raise("LBFGS: takes no groups of parameters") end)

-- ---- one vector -------------------------------------------------------------------------------

local function all(self)
  return self.target.named_parameters and self.target:parameters() or self.target
end

local function leaves(self)
  local list = {}
  for _, p in ipairs(all(self)) do
    if p.requires_grad then list[#list + 1] = p end
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

-- ---- the step ---------------------------------------------------------------------------------

local function largest(x) return x:abs():max():item() end

local function copy(k)
  local new = {}
  for name, v in pairs(k) do
    new[name] = type(v) == "table" and table.move(v, 1, #v, 1, {}) or v
  end
  return new
end

local function same(a, b)
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- What was kept of earlier steps, if they moved the same parameters: of others, since some were
-- frozen or thawed, it says nothing.
local function kept_of(self, params)
  local k = self.slots.kept
  if k and same(k.of, params) then return copy(k) end
  return { step = 0, s = {}, y = {}, r = {}, H = 1.0, of = params }
end

local function minimize(self, params, closure)
  -- the loss and its gradient where the parameters stand
  local function evaluate()
    local loss = only("step: the closure", mg.enable_grad(closure))
    if not mg.is_variable(loss) and type(loss) ~= "number" then
      raise("step: the closure gave a %s, expected the loss", type(loss))
    end
    local some = false
    for i, p in ipairs(params) do
      some = some or p.grad
      if not self.target.named_parameters then kinds.check_place("step", i, p) end
    end
    if not some then raise "step: the closure left no gradients: it calls backward" end
    self:run_hooks(params)
    return type(loss) == "number" and loss or loss:item(), flat(params, "grad")
  end
  local k = kept_of(self, params)
  local most = self.max_eval or self.max_iter * 5 // 4
  local f, g = evaluate()
  local first, calls = f, 1
  if largest(g) <= self.tolerance_grad then return first, k end
  for i = 1, self.max_iter do
    k.step = k.step + 1
    if k.step == 1 then
      k.d = -g
    else
      newton.remember(k, k.d * k.t, g - k.g, self.history_size, 1e-10)
      k.d = mg.tidy(newton.direction, k, g)
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
      local from = { t = 0.0, f = f, g = g, slope = slope }
      point, used = newton.strong_wolfe(probe, from, t, largest(k.d), self.tolerance_change)
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
  if mg._recording() then
    raise("step: LBFGS goes by the values it meets, and there are none in a function that " ..
      "mg.compile records; compile the closure: opt:step(mg.compile(closure))")
  end
  -- layers that wait for their input's size are given it
  if self.target.is_module and not self.slots.kept and self.target:_waits() then closure() end
  local params = leaves(self)
  return mg.no_grad(mg._attempt_values, all(self), function(attempt)
    local loss, kept = minimize(self, params, closure) -- which clears frozen ones' grads, too
    mg._commit({}, {}, {n = 3, self.slots, "kept", kept}, attempt)
    return loss
  end)
end

LBFGS.step = checked("step(self, closure: function)",
  "moves the parameters by at most max_iter iterations; gives the loss before, a number", step)

-- ---- state ------------------------------------------------------------------------------------

-- `of` says which of all parameters were moved: others may be frozen by now, or when it is loaded.

-- Their places, or nil if one is not there any more: then the next step begins anew.
local function places(self, of)
  local place, list = {}, {}
  for i, p in ipairs(all(self)) do place[p.id] = i end
  for i, p in ipairs(of) do
    if not place[p.id] then return nil end
    list[i] = place[p.id]
  end
  return mg.tensor(list, "int64")
end

LBFGS.state = checked("state(self)", "what later steps depend on, apart from the options, as " ..
  "mg.save wants it",
  function(self)
    local t = { lr = mg.tensor(self.lr, "float64"), rule = "LBFGS" }
    local k = self.slots.kept
    t.of = k and places(self, k.of)
    if not t.of then return t end
    t.step, t.H, t.f = mg.tensor(k.step, "int64"), mg.tensor(k.H, "float64"),
      mg.tensor(k.f or 0, "float64")
    t.t = mg.tensor(k.t or 0, "float64")
    if k.d then t.d, t.g = k.d.data, k.g.data end
    if #k.s > 0 then
      t.s, t.y, t.r = mg.stack(k.s), mg.stack(k.y), mg.tensor(k.r, "float64")
    end
    return t
  end)

local function moved(self, of)
  local params, list, seen = all(self), {}, {}
  for i, place in ipairs(of:reshape(of.size):totable()) do
    list[i] = params[place]
    if not list[i] or seen[place] then
      raise("load_state: of is %s, expected places of %d parameters", tostring(of), #params)
    end
    seen[place] = true
  end
  return list
end

LBFGS.load_state = checked("load_state(self, state: table, metadata: table?)",
  "takes what state() gave for a like set of parameters; after an error nothing has changed",
  function(self, t)
    if t.rule ~= "LBFGS" then
      raise("load_state: this is %s, not of LBFGS",
        t.rule and "the state of " .. tostring(t.rule) or "no optimizer's state")
    end
    local size, dtype, known = 0, "float32", { rule = true, of = mg.is_variable(t.of) }
    local params = known.of and moved(self, t.of) or leaves(self)
    for _, p in ipairs(params) do
      size = size + p.size
      if p.dtype == "float64" then dtype = "float64" end
    end
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
      kept = { step = math.tointeger(take "step":item()), H = take "H":item(), f = take "f":item(),
               t = take "t":item(), s = {}, y = {}, r = {}, of = params }
      if not kept.step or kept.step < 0 or kept.step > 1 << 53 then
        raise("load_state: step is %s, expected a number of iterations", tostring(t.step))
      end
      if t.d or kept.step > 0 then
        kept.d, kept.g = mg.tensor(take("d", size), dtype), mg.tensor(take("g", size), dtype)
      end
      local n = t.r and mg.is_variable(t.r) and #t.r or 0
      if n > 0 then
        kept.r = take("r", n):totable()
        for _, name in ipairs { "s", "y" } do
          local rows = mg.tensor(take(name, n, size), dtype)
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

return { LBFGS = LBFGS:_strict(table.concat(LBFGS.names, " ") .. " groups momentum betas") }
