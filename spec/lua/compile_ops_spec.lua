-- Every sample of the op table, compiled and not: the same bits of values and gradients.

local mg = require "moongrad"
local samples = require "spec.samples"

local as = {
  float64 = function(v) return v end,
  float32 = function(v) return v end,
  int64 = function(v) return math.floor(v) end,
  uint8 = function(v) return math.floor(math.abs(v)) end,
  bool = function(v) return v ~= 0 and 1 or 0 end,
}

local function each(f, x)
  if type(x) ~= "table" then return f(x) end
  local t = {}
  for i, v in ipairs(x) do t[i] = each(f, v) end
  return t
end

local function operands(op, sample, dtype)
  local xs = {}
  for k, input in ipairs(sample.inputs) do
    if type(input[1]) == "boolean" then
      xs[k] = mg.tensor(input)
    else
      xs[k] = mg.tensor(each(as[dtype], input), dtype)
    end
    if op.kind == "elementwise" then xs[k] = xs[k]:reshape(2, 3) end
  end
  return xs
end

local function bits(v)
  if mg.is_variable(v) then
    local t = {}
    local function add(x)
      if type(x) == "table" then
        for _, e in ipairs(x) do add(e) end
      else
        t[#t + 1] = type(x) == "number" and ("%a"):format(x) or tostring(x)
      end
    end
    add(v:totable())
    return v.dtype .. tostring(v.shape) .. table.concat(t, " ")
  elseif type(v) == "table" then
    local t = {}
    for i, e in ipairs(v) do t[i] = bits(e) end
    return table.concat(t, "; ")
  end
  return tostring(v)
end

-- f, and its gradient by all float operands
local function with_gradient(f, xs)
  local which = {}
  for i, x in ipairs(xs) do
    if x.dtype:find "float" then which[#which + 1] = i end
  end
  return function(...)
    local args, leaves = table.pack(...), {}
    for k, i in ipairs(which) do
      args[i] = mg.Variable(args[i])
      leaves[k] = args[i]
    end
    local ys, total, weight = table.pack(f(table.unpack(args, 1, args.n))), nil, 0
    for i = 1, ys.n do
      if mg.is_variable(ys[i]) and ys[i].requires_grad then
        weight = weight + 0.75
        local part = (ys[i] * weight):sum()
        total = total and total + part or part
      end
    end
    local gs = total and mg.gradients(total, leaves, {allow_unused = true}) or {}
    for i = 1, ys.n do ys[i] = mg.is_variable(ys[i]) and ys[i]:detach() or ys[i] end
    return ys, gs
  end
end

local function compare(f, xs)
  local g = mg.compile(f)
  mg.seed(5)
  local want = {}
  for i = 1, 3 do want[i] = bits{f(table.unpack(xs))} end
  mg.seed(5)
  for i = 1, 3 do assert.equal(want[i], bits{g(table.unpack(xs))}) end
end

-- The operands' elements, one by one: the first replay computes numbers op by op, others by machine
-- code.
local function each_number(op, xs, f)
  if op.kind ~= "elementwise" then return end
  for i = 1, xs[1].size do
    local ys = {}
    for k, x in ipairs(xs) do ys[k] = x:reshape(x.size)[i] end
    f(ys)
  end
end

-- The shape of the result, or the sample itself, needs a value: these raise.
local reads_values = {nonzero = true, _lu_solve = true}

describe("compiled", function()
  for _, op in ipairs(mg._ops()) do
    local sample = samples[op.name]
    for _, dtype in ipairs(sample and not reads_values[op.name] and sample.dtypes or {}) do
      it(op.name .. " of " .. dtype, function()
        local xs = operands(op, sample, dtype)
        local f = function(...) return sample.call(mg[op.name], ...) end
        if not pcall(f, table.unpack(xs)) then return end -- not of this dtype
        compare(f, xs)
        if dtype:find "float" and not sample.refuses then compare(with_gradient(f, xs), xs) end
        each_number(op, xs, function(ys)
          compare(f, ys)
          if dtype:find "float" and not sample.refuses then compare(with_gradient(f, ys), ys) end
        end)
      end)
    end
  end
end)
