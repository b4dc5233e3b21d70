-- helper.lua -- what the specs share: closeness, errors, derivatives by differences, memory.
--
-- Checks give true, or false and what is wrong, and stand in an assert of the spec's own.

local mg = require "moongrad"

local helper = {}

-- The address sanitizer: its shadow has no room below limits of address space.
helper.asan = (os.getenv "LD_PRELOAD" or ""):find "asan" ~= nil

local EPS = 2.0 ^ -52

-- ---- closeness --------------------------------------------------------------------------------

local function plain(x)
  if mg.is_variable(x) then return x:totable() end
  return x
end

local function number_near(a, b, rtol, atol)
  if a == b or (a ~= a and b ~= b) then return true end
  return math.abs(a - b) <= atol + rtol * math.abs(b) and math.abs(a) < math.huge
end

local function compare(a, b, rtol, atol, place)
  if type(a) == "table" and type(b) == "table" then
    if #a ~= #b then return false, ("%s has %d elements, expected %d"):format(place, #a, #b) end
    for i = 1, #a do
      local ok, message = compare(a[i], b[i], rtol, atol, place .. "[" .. i .. "]")
      if not ok then return false, message end
    end
    return true
  end
  local numbers = type(a) == "number" and type(b) == "number"
  if numbers and number_near(a, b, rtol, atol) or not numbers and a == b then return true end
  local show = numbers and "%.17g" or "%s"
  return false, ("%s is " .. show .. ", expected " .. show):format(place, a, b)
end

-- |a - b| <= atol + rtol |b| for numbers, nested tables or Variables; nan is near nan.
function helper.near(a, b, rtol, atol)
  rtol = rtol or 1e-9
  return compare(plain(a), plain(b), rtol, atol or rtol, "value")
end

-- Near but for a few units in the last place.
function helper.exact(a, b, ulps)
  local tol = (ulps or 0) * EPS
  return helper.near(a, b, tol, tol / 16)
end

-- The same shape, dtype and bits; one nan is as good as another.
function helper.same(a, b)
  local shape_a, shape_b = table.concat(a.shape, ", "), table.concat(b.shape, ", ")
  if a.dtype ~= b.dtype or shape_a ~= shape_b then
    return false, ("%s (%s) is not %s (%s)"):format(a.dtype, shape_a, b.dtype, shape_b)
  end
  if a:tobytes() == b:tobytes() then return true end
  local u, v = a:reshape(a.size):totable(), b:reshape(b.size):totable()
  for i = 1, #u do
    local x, y = u[i], v[i]
    local zeros = x == 0 and y == 0
    if not (x ~= x and y ~= y) and (x ~= y or zeros and 1 / x ~= 1 / y) then
      return false, ("element %d is %s, expected %s"):format(i, x, y)
    end
  end
  return true
end

-- ---- errors -----------------------------------------------------------------------------------

-- fn(...) raises an error with this text, at a line of the specs.
function helper.raises(text, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then return false, "no error; expected " .. text end
  local message = tostring(err):match("spec/[%w_/]+%.lua:%d+: (.*)$")
  if not message or not message:find(text, 1, true) then
    return false, ("error %q; expected %q, at a line of the specs"):format(tostring(err), text)
  end
  return true
end

-- ---- derivatives ------------------------------------------------------------------------------

-- A sum in which each element has its own weight: no error hides where a plain sum is constant.
local function weighed(y)
  local weights = mg.range(1, y.size, {dtype = "float64"}):sin() + 1.5
  return (y:reshape(y.size) * weights):sum()
end

-- Gradients of the weighed results of f at xs, which are constants, as a list.
function helper.gradients(f, xs, create_graph)
  local leaves = {}
  for i, x in ipairs(xs) do leaves[i] = mg.Variable(x) end
  weighed(f(table.unpack(leaves))):backward{create_graph = create_graph}
  local grads = {}
  for i, x in ipairs(leaves) do grads[i] = x.grad or mg.zeros_like(x) end
  return grads, leaves
end

-- Central differences of number(xs) by each element of xs[k], as a flat table.
function helper.differences(number, xs, k)
  local flat, slopes = xs[k]:reshape(xs[k].size):totable(), {}
  local moved = table.move(xs, 1, #xs, 1, {})
  for i, v in ipairs(flat) do
    local h = 2.0 ^ -18 * math.max(1, math.abs(v))
    local function at(value)
      flat[i] = value
      moved[k] = mg.tensor(flat):reshape(xs[k].shape)
      return number(moved)
    end
    slopes[i] = (at(v + h) - at(v - h)) / ((v + h) - (v - h))
    flat[i] = v
  end
  return slopes
end

local function agrees(what, grads, xs, number, tol)
  for k, g in ipairs(grads) do
    if table.concat(g.shape, " ") ~= table.concat(xs[k].shape, " ") then
      return false, ("%s of input %d has shape (%s)"):format(what, k, table.concat(g.shape, ", "))
    end
    local slopes = helper.differences(number, xs, k)
    local ok, message = helper.near(g:reshape(g.size), slopes, tol)
    if not ok then return false, ("%s of input %d: %s"):format(what, k, message) end
  end
  return true
end

-- The first and second derivatives of f, a function of the float64 constants xs, are what
-- differences say: of f for the first, of the first for the second.
function helper.differentiable(f, xs, tol)
  tol = tol or 1e-7
  local ok, message = agrees("gradient", helper.gradients(f, xs), xs, function(at)
    return weighed(f(table.unpack(at))):item()
  end, tol)
  if not ok then return false, message end
  local function slope(grads)
    local sum = 0
    for k, g in ipairs(grads) do sum = sum + weighed(g) * (k + 0.5) end
    return sum
  end
  local grads, leaves = helper.gradients(f, xs, true)
  local sum, second = slope(grads), {}
  for _, x in ipairs(leaves) do x:cleargrad() end
  if sum.creator then sum:backward() end
  for k, x in ipairs(leaves) do second[k] = x.grad or mg.zeros_like(x) end
  return agrees("second derivative", second, xs, function(at)
    return slope(helper.gradients(f, at)):item()
  end, tol)
end

-- Elements first..last of each of xs, as copies
function helper.parts(xs, first, last)
  local t = {}
  for k, x in ipairs(xs) do t[k] = x[{{first, last}}]:clone() end
  return t
end

-- ---- memory -----------------------------------------------------------------------------------

-- Bytes alive when the collector has had its say; the second round takes what finalizers let go.
function helper.settle()
  collectgarbage()
  collectgarbage()
  return mg.memory().live
end

-- How many bytes more are alive after fn(...) than before, its results held; and the results.
function helper.alive(fn, ...)
  local before = helper.settle()
  local results = table.pack(fn(...))
  return helper.settle() - before, table.unpack(results, 1, results.n)
end

-- Every name that os.tmpname has given, whose file it makes, since the last test
local temporary, tmpname = {}, os.tmpname
rawset(os, "tmpname", function()
  local path = tmpname()
  temporary[#temporary + 1] = path
  return path
end)

local function check_files()
  local left = {}
  for _, path in ipairs(temporary) do
    if os.remove(path) then left[#left + 1] = path end
  end
  temporary = {}
  if #left > 0 then error(table.concat(left, ", ") .. " stays after the test", 0) end
end

-- For a describe block, helper.guard(before_each, after_each): no test leaves anything alive, nor
-- a temporary file.
function helper.guard(before_each, after_each)
  local before
  before_each(function() before = before or helper.settle() end)
  after_each(function()
    local was = before
    before = helper.settle()
    check_files()
    if before > was then error(before - was .. " bytes stay alive after the test", 0) end
  end)
end

-- ---- finalizers -------------------------------------------------------------------------------

-- MOONGRAD_HOSTILE=yes runs the specs with something like a finalizer wherever one might come: it
-- takes the places of Variables that went, runs a backward of its own and collects. Results are the
-- same.
local hostile
if os.getenv "MOONGRAD_HOSTILE" then
  local count = 0
  function hostile()
    count = count + 1
    local x = mg.Variable{1, count}
    if count % 5 == 0 then mg.enable_grad(function() (x * x):sum():backward() end) end
    if count % 2003 == 0 then collectgarbage() end
    mg.tidy(mg.exp, x)
  end
  mg._hostile(hostile)
end

-- `it` of specs that count launches or bytes: what a finalizer does beside would count.
function helper.counting(it)
  if not hostile then return it end
  return function(name, fn)
    it(name, function()
      mg._hostile(nil)
      local ok, err = pcall(fn)
      mg._hostile(hostile)
      if not ok then error(err, 0) end
    end)
  end
end

-- ---- values -----------------------------------------------------------------------------------

-- Values that are computed already.
function helper.ready(...)
  local x = mg.rand(...)
  mg.eval(x)
  return x
end

-- What fn(...) prints, a list with one text for each print, and what it gives after that.
function helper.printed(fn, ...)
  local list, real = {}, print
  _G.print = function(s) list[#list + 1] = s end
  local got = table.pack(pcall(fn, ...))
  _G.print = real
  if not got[1] then error(got[2], 0) end
  return list, table.unpack(got, 2, got.n)
end

-- Parameters of a model, all different: those that the scripts behind reference numbers had, too.
function helper.fill(model)
  local names, all = {}, {}
  for name, p in model:named_parameters() do
    names[#names + 1] = name
    all[name] = p
  end
  table.sort(names)
  for k, name in ipairs(names) do
    local p = all[name]
    p.data = ((mg.range(1, p.size) * 0.7 + (k - 1)):sin() * 0.5):reshape(p.shape)
  end
  return model
end

return helper
