-- mg.odeint: solutions of dy/dt = f(t, y) at given times.
--
-- dopri5 is the method of Dormand and Prince (J. Comput. Appl. Math. 6, 1980) with steps chosen as
-- in Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.4; between the ends
-- of a step the solution is the polynomial of degree 4 through the values and slopes there and the
-- value in the middle (Shampine, Math. Comp. 46, 1986). Gradients are those of the steps that were
-- taken; how long these are is a constant to them.

local mg = require "moongrad"
local only = require "moongrad.only"
local tree = require "moongrad.tree"

-- ---- methods ----------------------------------------------------------------------------------

-- rows: the slopes that stage i takes; last: the result; time: where the stages stand.
local METHODS = {
  euler = {time = {0}, rows = {{}}, last = {1}},
  midpoint = {time = {0, 1 / 2}, rows = {{}, {1 / 2}}, last = {0, 1}},
  rk4 = {time = {0, 1 / 2, 1 / 2, 1}, rows = {{}, {1 / 2}, {0, 1 / 2}, {0, 0, 1}},
         last = {1 / 6, 1 / 3, 1 / 3, 1 / 6}},
  dopri5 = {
    time = {0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1},
    rows = {{}, {1 / 5}, {3 / 40, 9 / 40}, {44 / 45, -56 / 15, 32 / 9},
            {19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729},
            {9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656},
            {35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84}},
    last = {35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0},
    wrong = {71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40},
    middle = {6025192743 / 30085553152 / 2, 0, 51252292925 / 65400821598 / 2,
              -2691868925 / 45128329728 / 2, 187940372067 / 1594534317056 / 2,
              -1776094331 / 19743644256 / 2, 11237099 / 235043384 / 2},
  },
}

-- The states are lists of arrays. y + h (w[1] k[1] + w[2] k[2] ...)
local function advance(y, h, w, k)
  local out = {}
  for j, v in ipairs(y) do
    local sum
    for i, factor in ipairs(w) do
      if factor ~= 0 then
        local part = (h * factor) * k[i][j]
        sum = sum and sum + part or part
      end
    end
    out[j] = sum and v + sum or v
  end
  return out
end

-- The slopes of all stages, the first of which may be known.
local function stages(f, m, t, y, h, first)
  local k = {first}
  for i = first and 2 or 1, #m.time do k[i] = f(t + m.time[i] * h, advance(y, h, m.rows[i], k)) end
  return k
end

-- ---- steps of one length ----------------------------------------------------------------------

local function fixed(f, m, y, times, step, run, info)
  local states = {y}
  for i = 2, #times do
    local from, to = times[i - 1], times[i]
    local n = step and math.max(1, math.ceil(math.abs(to - from) / step * (1 - 1e-12))) or 1
    local h = (to - from) / n
    for s = 0, n - 1 do
      y = run(function(z)
        local t = from + s * h
        return advance(z, h, m.last, stages(f, m, t, z, h))
      end, y)
      mg.eval(table.unpack(y))
    end
    info.steps = info.steps + n
    states[i] = y
  end
  return states
end

-- ---- steps as the error asks for --------------------------------------------------------------

-- The root of the mean of the squares of e / (atol + rtol |y|), y the larger of two
local function scaled(e, y, z, rtol, atol)
  return mg.no_grad(function()
    local sum, n = 0, 0
    for j, v in ipairs(e) do
      local most = mg.maximum(y[j]:detach():abs(), z[j]:detach():abs())
      sum = sum + (mg._divz(v:detach():to "float64", atol + rtol * most) ^ 2):sum()
      n = n + v.size
    end
    return n == 0 and 0 or math.sqrt((sum / n):item())
  end)
end

-- Hairer, Norsett and Wanner, II.4: a first step
local function first_step(f, t, y, k, way, rtol, atol)
  return mg.no_grad(function()
    local zero = {}
    for j, v in ipairs(y) do zero[j] = mg.zeros_like(v) end
    local d0, d1 = scaled(y, y, zero, rtol, atol), scaled(k, y, zero, rtol, atol)
    local h0 = (d0 < 1e-5 or d1 < 1e-5) and 1e-6 or 0.01 * d0 / d1
    local slope, change = f(t + way * h0, advance(y, way * h0, {1}, {k})), {}
    for j, v in ipairs(slope) do change[j] = v - k[j] end
    local d2 = scaled(change, y, zero, rtol, atol) / h0
    local most = math.max(d1, d2)
    local h1 = most <= 1e-15 and math.max(1e-6, h0 * 1e-3) or (0.01 / most) ^ (1 / 5)
    return math.min(100 * h0, h1)
  end)
end

-- At part s of a step from y to z of length h, with slopes k0 and k1, and `mid` in its middle
local function between(s, h, y, z, mid, k0, k1)
  local out = {}
  for j, y0 in ipairs(y) do
    local y1, ym, f0, f1 = z[j], mid[j], h * k0[j], h * k1[j]
    local a = 2 * (f1 - f0) - 8 * (y1 + y0) + 16 * ym
    local b = 5 * f0 - 3 * f1 + 18 * y0 + 14 * y1 - 32 * ym
    local c = f1 - 4 * f0 - 11 * y0 - 5 * y1 + 16 * ym
    out[j] = (((a * s + b) * s + c) * s + f0) * s + y0
  end
  return out
end

local function adaptive(f, m, y, times, opts, run, info)
  local t, last, way = times[1], times[#times], times[#times] < times[1] and -1 or 1
  local k = run(function(z) return f(times[1], z) end, y)
  local h = opts.step or first_step(f, t, y, k, way, opts.rtol, opts.atol)
  local states, at = {y}, 2
  while at <= #times do
    if info.steps + info.rejected >= opts.max_steps then
      mg.raise("odeint: max_steps = %d are taken, and t is %g", opts.max_steps, t)
    end
    h = math.min(h, math.abs(last - t))
    if t + way * h == t or h ~= h then
      mg.raise("odeint: the steps become too small at t = %g: the solution is not smooth or not " ..
        "finite there, or the equation is stiff", t)
    end
    local from, length, n, wrong = t, way * h, #y, nil
    -- what a checkpoint gives: y, then the slope there, then y in the middle
    local got = run(function(z)
      local here, slope = table.move(z, 1, n, 1, {}), table.move(z, n + 1, 2 * n, 1, {})
      local stage = stages(f, m, from, here, length, slope)
      local next_y = advance(here, length, m.last, stage)
      local out = table.move(next_y, 1, n, 1, {})
      table.move(stage[#stage], 1, n, n + 1, out)
      table.move(advance(here, length, m.middle, stage), 1, n, 2 * n + 1, out)
      if not wrong then
        local zero = {}
        for j, v in ipairs(here) do zero[j] = mg.zeros_like(v) end
        wrong = scaled(advance(zero, length, m.wrong, stage), here, next_y, opts.rtol, opts.atol)
      end
      return out
    end, table.move(k, 1, n, n + 1, table.move(y, 1, n, 1, {})))
    if wrong <= 1 then
      local z, slope = table.move(got, 1, n, 1, {}), table.move(got, n + 1, 2 * n, 1, {})
      local middle = table.move(got, 2 * n + 1, 3 * n, 1, {})
      mg.eval(table.unpack(z))
      local to = h == math.abs(last - t) and last or t + length
      while at <= #times and (times[at] - to) * way <= 0 do
        states[at] = times[at] == to and z or
          between((times[at] - t) / length, length, y, z, middle, k, slope)
        mg.eval(table.unpack(states[at]))
        at = at + 1
      end
      t, y, k = to, z, slope
      info.steps = info.steps + 1
    else
      info.rejected = info.rejected + 1
    end
    local factor = wrong == 0 and 10 or 0.9 * wrong ^ -0.2
    if wrong ~= wrong then factor = 0.2 end
    h = h * math.min(wrong <= 1 and 10 or 1, math.max(0.2, factor))
  end
  return states
end

-- ---- for Lua ----------------------------------------------------------------------------------

local function read_times(t)
  if not mg.is_variable(t) then t = mg.tensor(t, "float64") end
  if t.requires_grad then
    mg.raise("odeint: the times are tracked, but there are no gradients by them")
  elseif t.ndim ~= 1 then
    mg.raise("odeint: the times have shape %s, expected one axis", tostring(t.shape))
  end
  t = t:to("float64"):totable()
  if #t == 0 then mg.raise("odeint: there are no times") end
  local times, falls = {}, t[2] and t[2] < t[1]
  for i, v in ipairs(t) do
    times[i] = v
    if v ~= v or math.abs(v) == math.huge then mg.raise("odeint: time %d is %g", i, v) end
    if i > 1 and (v == times[i - 1] or (v < times[i - 1]) ~= falls) then
      mg.raise("odeint: the times must rise, or fall, but time %d is %g after %g", i, times[i],
        times[i - 1])
    end
  end
  return times
end

return mg.checked("odeint(f: function, y: tree, times: array | table, {" ..
  'method: "dopri5" | "rk4" | "midpoint" | "euler" = "dopri5", rtol: number(0..)?, ' ..
  "atol: number(0..)?, step: number(0<..)?, max_steps: int(1..)?, " ..
  "checkpoint: bool = false}) -> any, table",
  "the solution of dy/dt = f(t, y), t a number, that is y at times[1]: at all times, along a " ..
  "new axis 1 of each leaf; and {steps =, rejected =, evaluations =}. dopri5 chooses its steps " ..
  "by rtol (1e-7; of float32 1e-5) and atol (1e-9; 1e-7), the first is `step`, at most " ..
  "max_steps (100000); the others take " ..
  "steps of at most `step`, or from time to time. checkpoint: backward computes the steps " ..
  "again, one at a time, and only their ends are kept",
  function(f, y, t, method, rtol, atol, step, max_steps, checkpoint)
    local leaves, form = tree.flatten("odeint", "argument 2", y, true)
    local times, m, narrow = read_times(t), METHODS[method], false
    local info = {steps = 0, rejected = 0, evaluations = 0}
    for i, v in ipairs(leaves) do
      if not mg.is_variable(v) then v = mg.tensor(v) end
      if v.dtype ~= "float64" and v.dtype ~= "float32" then
        mg.raise("odeint: the state is %s, expected floats", v.dtype)
      end
      leaves[i], narrow = v, narrow or v.dtype == "float32"
    end
    local function slope(at, state)
      info.evaluations = info.evaluations + 1
      local given = only("odeint: f", f(at, tree.build(form, state)))
      local k = tree.match("odeint", "f's result", form, given)
      for j, v in ipairs(state) do
        local g = k[j]
        if not mg.is_variable(g) then g = mg.tensor(g, v.dtype) end
        if g.shape ~= v.shape and g.ndim > 0 then
          mg.raise("odeint: f gave shape %s for a state of shape %s", tostring(g.shape),
            tostring(v.shape))
        end
        g = g:to(v.dtype)
        k[j] = g.ndim < v.ndim and g:expand(v.shape) or g
      end
      return k
    end
    local function run(fn, state)
      if not checkpoint then return fn(state) end
      return {mg.checkpoint(function(...) return table.unpack(fn{...}) end, table.unpack(state))}
    end
    local states
    if m.wrong then
      local opts = {rtol = rtol or narrow and 1e-5 or 1e-7, atol = atol or narrow and 1e-7 or 1e-9,
                    step = step, max_steps = max_steps or 100000}
      states = adaptive(slope, m, leaves, times, opts, run, info)
    else
      if rtol or atol or max_steps then
        mg.raise("odeint: %s takes steps of one length, and no rtol, atol or max_steps", method)
      elseif step and math.abs(times[#times] - times[1]) / step > 2 ^ 53 then
        mg.raise("odeint: step = %g is too small to come from %g to %g", step, times[1],
          times[#times])
      end
      states = fixed(slope, m, leaves, times, step, run, info)
    end
    local out = {}
    for j in ipairs(leaves) do
      local rows = {}
      for i, state in ipairs(states) do rows[i] = state[j] end
      out[j] = mg.stack(rows, 1)
    end
    return tree.build(form, out), info
  end)
