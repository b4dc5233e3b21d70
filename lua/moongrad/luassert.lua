-- luassert.lua -- assertions for busted: require "moongrad.luassert" adds to luassert's `assert`
--
--   assert.allclose(a, b [, {rtol =, atol =, equal_nan =}])  b: what is expected, a number too
--   assert.shape(x, {2, 3})
--   assert.gradcheck(f, x or {xs} [, {order =, eps =, rtol =, atol =}])
--
-- and their opposites, assert.is_not.allclose(a, b). Messages show where things differ; Variables
-- in the messages of other assertions show their values. A message of one's own may come last.

local _ENV = require "moongrad.globals"()
local mg = require "moongrad"
local luassert = require "luassert"
local element = require "moongrad.element"
local is_variable = mg.is_variable

local SHOWN, DEPTH = 5, 100

local function dims(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- As a float64 or int64 array: a Variable, numbers, rows of them; nil: it is none.
local function values(v)
  if is_variable(v) then return v.dtype == "int64" and v:detach() or v:detach():to "float64" end
  local ok, x = pcall(mg.tensor, v)
  return ok and x:to "float64" or nil
end

local function place(shape, i) return "[" .. table.concat(element(shape, i), ", ") .. "]" end

-- "1, expected 2", with as many digits as tell them apart
local function unequal(u, v)
  local function text(format, w)
    return w ~= w and "nan" or math.type(w) == "integer" and tostring(w) or mg._format(format, w)
  end
  local a, b = text("%.8g", u), text("%.8g", v)
  if a == b then a, b = text("%.17g", u), text("%.17g", v) end
  return a .. ", expected " .. b
end

-- How array a is not near b; nil: it is
local function difference(a, b, opts)
  if b.ndim > 0 and a.shape ~= b.shape then
    return ("shape %s, expected %s"):format(dims(a.shape), dims(b.shape))
  end
  local x = a:reshape(a.size):totable()
  local y = b:broadcast_to(a.shape):reshape(a.size):totable()
  local lines, n, most, worst = {}, 0, -1, nil
  for i, u in ipairs(x) do
    local v = y[i]
    local off = u > v and u - v or u < v and v - u or math.abs(u - v)
    if off < 0 then off = off + 0x1p64 end         -- of int64 far apart
    local finite = math.abs(u) ~= math.huge and math.abs(v) ~= math.huge
    local near = u == v or finite and off <= opts.atol + opts.rtol * math.abs(v)
    if not (near or opts.equal_nan and u ~= u and v ~= v) then
      n = n + 1
      if off ~= off then off = math.huge end
      if off > most then most, worst = off, i end
      if n <= SHOWN then
        lines[n] = ("  %s: %s"):format(place(a.shape, i), unequal(u, v))
      end
    end
  end
  if n == 0 then return nil end
  if n > SHOWN then
    lines[SHOWN + 1] = ("  ... and %d more, the most at %s: %s"):format(n - SHOWN,
      place(a.shape, worst), unequal(x[worst], y[worst]))
  end
  return mg._format("%d of %d elements differ (rtol = %g, atol = %g):\n%s", n, a.size, opts.rtol,
    opts.atol, table.concat(lines, "\n"))
end

-- The same of trees, whose other leaves are equal or not. at: where they stand
local function unlike(a, b, at, opts, depth)
  if depth > DEPTH then error("allclose: a table nests too deep, or stands in itself", 0) end
  if rawequal(a, b) and type(a) ~= "table" and not is_variable(a) and type(a) ~= "number" then
    return nil
  end
  local x, y = values(a), values(b)
  if x and y then
    local text = difference(x, y, opts)
    return text and at .. text
  end
  if x or y or type(a) ~= "table" or type(b) ~= "table" then
    local strings = type(a) == "string" and type(b) == "string"
    local function kind(v, known)
      return known and "an array" or strings and ("%q"):format(v) or type(v)
    end
    return ("%sis %s, expected %s"):format(at == "" and "the value " or at, kind(a, x), kind(b, y))
  end
  for k in pairs(b) do
    if a[k] == nil then return ("%s%s is missing"):format(at, tostring(k)) end
  end
  for k, v in pairs(a) do
    if b[k] == nil then return ("%s%s is one too many"):format(at, tostring(k)) end
    local path = ("%s%s: "):format(at:gsub(": $", "."), tostring(k))
    local text = unlike(v, b[k], path, opts, depth + 1)
    if text then return text end
  end
  return nil
end

-- Each gives nil, or what is wrong.
local function allclose(a, b, rtol, atol, equal_nan)
  return unlike(a, b, "", {rtol = rtol, atol = atol, equal_nan = equal_nan}, 0)
end

local function shape(x, expected)
  local is, should = dims(x.shape), dims(expected)
  return is ~= should and ("shape %s, expected %s"):format(is, should) or nil
end

local function gradcheck(f, xs, order, eps, rtol, atol)
  local ok, why = mg.gradcheck(f, xs, {order = order, eps = eps, rtol = rtol, atol = atol})
  return not ok and why:gsub("^gradcheck: ", "") or nil
end

-- name, what reads the arguments, what looks at them, and the words for what should not have been
for _, row in ipairs{
  {"allclose", mg.signature("allclose(a: any, b: any, " ..
     "{rtol: number(0..) = 1e-5, atol: number(0..inf) = 1e-8, equal_nan: bool = false})"), allclose,
   "all elements are near each other"},
  {"shape", mg.signature("shape(x: array, dims: shape)"), shape, "it is of this shape"},
  {"gradcheck", mg.signature("gradcheck(f: function, xs: tree, {order: int(1..2) = 1, eps: " ..
     "number(0<..) = 1e-6, rtol: number(0..) = 1e-3, atol: number(0..inf) = 1e-5})"), gradcheck,
   "the gradient is right"},
} do
  local name, read, look, opposite = table.unpack(row)
  luassert:register("assertion", name, function(state, given, level)
    local n, own = given.n, nil
    if n > 2 and type(given[n]) == "string" then n, own = n - 1, given[n] end
    local ok, why = pcall(function()
      return look(read(table.unpack(given, 1, n)))
    end)
    if not ok then error(tostring(why):gsub("^[^\n:]+:%d+: ", ""), (level or 1) + 1) end
    local text = ("%s: %s"):format(name, why or opposite)
    state.failure_message = own and own .. "\n" .. text or text
    return why == nil
  end)
end

luassert:add_formatter(function(v) return is_variable(v) and tostring(v) or nil end)

return luassert
