-- Elementwise ops and their first derivatives against mpmath's values, in units in the last place.
--
-- spec/ulp/values.lua, made by spec/ulp/make.py, has points of both dtypes over tails, thresholds
-- and subnormals; between them, of elu and its kin too, float32 is compared with float64. An error
-- of n is n numbers of the dtype away from the exact value rounded once. Values keep within 2,
-- slopes within 4; what does not says why. Slopes are not looked at where the value overflows.

local mg = require "moongrad"
local helper = require "spec.helper"
local values = require "spec.ulp.values"
local huge = math.huge

local VALUE, SLOPE = 2, 4

-- Who may be further off, in what, by how much (`of_1`: units of 1; `tiny`: of the smallest
-- subnormal), and why.
local EXCEPTIONS = {
  tanh = {slope = {of_1 = 2, why = "1 - tanh^2 is made of the rounded result"}},
  sigmoid = {slope = {of_1 = 1, why = "s (1 - s) is made of the rounded result"}},
  gelu = {slope = {of_1 = 1, why = "the slope has a root near -0.75"}},
  gelu_tanh = {slope = {of_1 = 1, why = "the slope has a root near -0.75"}},
  silu = {slope = {of_1 = 1, why = "the slope has a root near -1.28"}},
  mish = {value = {units = 4, why = "three roundings of equal weight"},
          slope = {of_1 = 1, why = "the slope has a root near -1.19"}},
  erfinv = {slope = {units = 70, why = "exp(y^2) magnifies the rounding of y by 2 y^2"}},
  lgamma = {value = {of_1 = 1, why = "roots between negative whole numbers"}},
  logaddexp = {value = {of_1 = 1, why = "a sum of two signs, near 0"}},
  hypot = {slope = {units = 64, why = "a length that is subnormal has few digits"}},
  pow = {slope = {tiny = 2000, why = "of a power that is subnormal, y times over"}},
}

local call = {gelu_tanh = function(x) return mg.gelu(x, {approximate = "tanh"}) end,
              pow = function(x, y) return x:abs() ^ y end,
              xlogy = function(x, y) return mg.xlogy(x, y:abs()) end}

-- Without values of many digits
local OTHERS = {"elu", "selu", "celu"}

-- Further ranges, where others take over
local FAR = {sin = {-1e8, 1e8}, cos = {-1e8, 1e8}}

-- Numbers of a dtype in order, as integers.
local FORMATS = {float64 = {"<d", "<i8", math.mininteger}, float32 = {"<f", "<i4", -0x80000000}}

local function place(x, dtype)
  local float, integer, lowest = table.unpack(FORMATS[dtype])
  local i = string.unpack(integer, string.pack(float, x))
  return i < 0 and lowest - i or i
end

local function distance(a, b, dtype)
  if a == b then return 0 end
  if a ~= a or b ~= b then return huge end
  a, b = place(a, dtype), place(b, dtype)
  return (a < 0) == (b < 0) and math.abs(a - b) or math.abs(1.0 * a) + math.abs(1.0 * b)
end

local function number(word)
  return word == "inf" and huge or word == "-inf" and -huge or tonumber(word) + 0.0
end

-- text -> lists of operands, values, lists of slopes
local function points(text)
  local columns
  for line in text:gmatch "[^\n]+" do
    local i = 0
    columns = columns or {}
    for word in line:gmatch "%S+" do
      i = i + 1
      columns[i] = columns[i] or {}
      table.insert(columns[i], number(word))
    end
  end
  local n = #columns // 2
  return table.move(columns, 1, n, 1, {}), table.move(columns, n + 1, #columns, 1, {})
end

local function results(op, xs, dtype)
  local leaves = {}
  for k, list in ipairs(xs) do leaves[k] = mg.Variable(mg.tensor(list, dtype)) end
  local y = (call[op] or mg[op])(table.unpack(leaves))
  y:sum():backward()
  local lists = {y:totable()}
  for k, x in ipairs(leaves) do lists[k + 1] = x.grad:totable() end
  return lists
end

-- The value and the slopes at each point
local function spread(op, xs)
  local leaves = {}
  for k, x in ipairs(xs) do leaves[k] = mg.Variable(x) end
  local y = (call[op] or mg[op])(table.unpack(leaves))
  y:sum():backward()
  local all = {y:detach()}
  for k, x in ipairs(leaves) do all[k + 1] = x.grad end
  return all
end

local EPS = {float64 = 2.0 ^ -52, float32 = 2.0 ^ -23}
local LEAST = {float64 = 2.0 ^ -1074, float32 = 2.0 ^ -149}

local function allowed(got, want, units, limit, dtype, but)
  if units <= limit then return true end
  local off = math.abs(got - want)
  return but and (units <= (but.units or 0) or off <= (but.of_1 or 0) * EPS[dtype] or
                  off <= (but.tiny or 0) * LEAST[dtype])
end

-- The worst error in units; with it what is not allowed.
local function judge(op, xs, got, wanted, k, overflowed, dtype)
  local what, limit = "value", VALUE
  if k > 1 then what, limit = "slope", SLOPE end
  local but, worst = (EXCEPTIONS[op] or {})[what], 0
  for i, y in ipairs(got) do
    local want = wanted[i]
    local units = distance(y, want, dtype)
    if k == 1 or not overflowed[i] then
      if not allowed(y, want, units, limit, dtype, but) then
        local at = {}
        for n, list in ipairs(xs) do at[n] = ("%.17g"):format(list[i]) end
        error(("%s(%s), %s, %s %d: %.17g, should be %.17g: %g units"):format(op,
          table.concat(at, ", "), dtype, what, k - 1, y, want, units))
      end
      if units <= limit or not but then worst = math.max(worst, units) end
    end
  end
  return worst
end

describe("units in the last place", function()
  helper.guard(before_each, after_each)

  local names, worst = {}, {}
  for name in pairs(values) do names[#names + 1] = name end
  table.sort(names)

  for _, op in ipairs(names) do
    it(op .. " is off by few, and so are its slopes", function()
      local line = {}
      for _, dtype in ipairs{"float64", "float32"} do
        local xs, wanted = points(values[op][dtype])
        local overflowed, most = {}, {0, 0}
        for i, y in ipairs(wanted[1]) do overflowed[i] = math.abs(y) == huge end
        for k, list in ipairs(results(op, xs, dtype)) do
          local at = math.min(k, 2)
          most[at] = math.max(most[at], judge(op, xs, list, wanted[k], k, overflowed, dtype))
        end
        line[#line + 1] = ("%d %d"):format(most[1], most[2])
      end
      worst[#worst + 1] = op .. " " .. table.concat(line, ", ")
    end)
  end

  -- Between those points float32 against float64, whose own errors are nothing beside its units.
  local n = 200017
  local dense = table.move(OTHERS, 1, #OTHERS, #names + 1, {table.unpack(names)})
  for _, op in ipairs(dense) do
    it(op .. " is off by few units in float32 at many thousand points", function()
      local operands = values[op] and #points(values[op].float32) or 1
      for _, range in ipairs{{-1e4, 1e4}, {-100, 100}, {-10, 10}, {-1, 1}, {-1e-3, 1e-3},
                             FAR[op]} do
        local x = mg.linspace(range[1], range[2], n, {dtype = "float64"}):to "float32"
        local y = x:index_select(1, (mg.range(0, n - 1):to "int64" * 123457) % n + 1)
        local xs = {x, operands == 2 and y or nil}
        local wide = {}
        for k, v in ipairs(xs) do wide[k] = v:to "float64" end
        local all, exact = spread(op, xs), spread(op, wide)
        local fits = exact[1]:abs():lt(2.0 ^ 127) -- not beside an overflow
        for k in ipairs(all) do
          local what = k == 1 and "value" or "slope"
          local but = (EXCEPTIONS[op] or {})[what] or {}
          local limit = math.max(k == 1 and VALUE or SLOPE, but.units or 0) + 0.5
          local size = exact[k]:abs()
          local unit = mg.exp2(mg.log2(size:clamp{min = 2.0 ^ -126}):floor()) * EPS.float32
          local off = (all[k]:to "float64" - exact[k]):abs()
          local bound = mg.maximum(limit * unit,
            math.max((but.of_1 or 0) * EPS.float32, (but.tiny or 0) * LEAST.float32))
          local wrong = off:le(bound):logical_not() -- of nan too, unless it should be one
          wrong = wrong:logical_and(fits):logical_and(size:lt(2.0 ^ 127))
          local count = wrong:count_nonzero():item()
          local i = mg.where(wrong, off / unit, 0):argmax():item()
          local at = x[i]:item() .. (xs[2] and ", " .. y[i]:item() or "")
          assert(count == 0, ("%s: %d %ss, of %s %g units"):format(op, count, what, at,
            (off / unit)[i]:item()))
        end
      end
    end)
  end

  it("are printed", function()
    print "\nunits in the last place, of value and slope, float64 and float32, but for exceptions:"
    for i = 1, #worst, 5 do print("  " .. table.concat(worst, "; ", i, math.min(i + 4, #worst))) end
    for op in pairs(EXCEPTIONS) do assert.is_not_nil(values[op]) end
  end)
end)
