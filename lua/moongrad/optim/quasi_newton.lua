-- What quasi-Newton methods share, whoever keeps their vectors: the direction of L-BFGS and a line
-- search that ends where the strong Wolfe conditions hold. Nocedal and Wright, Numerical
-- Optimization, algorithms 7.4, 3.5 and 3.6, after Schmidt's minFunc.

local mg = require "moongrad"

-- In doubles, as squares of float32 may be no float32
local function dot(a, b) return mg.dot(a:to "float64", b:to "float64"):item() end

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

-- ---- L-BFGS -----------------------------------------------------------------------------------

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

-- One more step s with change of gradient y in the history k of at most `size`, if y.s > least
local function remember(k, s, y, size, least)
  local ys = dot(y, s)
  if ys <= least or ys ~= ys then return end
  if #k.s == size then
    for _, list in ipairs { k.s, k.y, k.r } do table.remove(list, 1) end
  end
  mg.eval(y, s)
  local n = #k.s + 1
  k.s[n], k.y[n], k.r[n], k.H = s, y, 1 / ys, ys / dot(y, y)
end

return { dot = dot, strong_wolfe = strong_wolfe, direction = direction, remember = remember }
