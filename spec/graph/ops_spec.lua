-- Every row of the op table with its sample: what it gives, its derivatives, what it refuses.

local mg = require "moongrad"
local helper = require "spec.helper"
local samples = require "spec.samples"
local near, exact, raises = helper.near, helper.exact, helper.raises

-- An op whose name begins with _ is no method and not in mg.help; its errors leave the _ out.
local function is_private(op) return op.name:sub(1, 1) == "_" end
local function plain(name) return name:match "[^_].*" end

local function each(f, x)
  if type(x) ~= "table" then return f(x) end
  local t = {}
  for i, v in ipairs(x) do t[i] = each(f, v) end
  return t
end

-- A sample's numbers as they are in a dtype.
local as = {
  float64 = function(v) return v end,
  float32 = function(v) return (string.unpack("f", string.pack("f", v))) end,
  int64 = function(v) return math.floor(v) end,
  uint8 = function(v) return math.floor(math.abs(v)) end,
  bool = function(v) return v ~= 0 and 1 or 0 end,
}

local function is_true(v) return v ~= 0 and v ~= false end

-- Sample, dtype -> the operands, and the same as plain tables. Booleans stay what they are.
local function operands(op, sample, dtype)
  local xs, tables = {}, {}
  for k, input in ipairs(sample.inputs) do
    if type(input[1]) == "boolean" then
      xs[k], tables[k] = mg.tensor(input), input
    else
      tables[k] = each(as[dtype], input)
      xs[k] = mg.tensor(tables[k], dtype)
    end
    if op.kind == "elementwise" then xs[k] = xs[k]:reshape(2, 3) end
  end
  return xs, tables
end

local function expected(op, sample, tables)
  if op.kind == "other" then return sample.expected end
  if op.kind == "reduce" then return sample.expected(tables[1]) end
  local rows = {{}, {}}
  for i = 1, 6 do
    local at = {}
    for k, t in ipairs(tables) do at[k] = t[i] end
    rows[(i + 2) // 3][(i - 1) % 3 + 1] = sample.expected(table.unpack(at))
  end
  return rows
end

local function holds_booleans(t)
  while type(t) == "table" do t = t[1] end
  return type(t) == "boolean"
end

local function gives_what_lua_gives(op, sample, dtype)
  local xs, tables = operands(op, sample, dtype)
  local want = expected(op, sample, tables)
  local gives = sample.gives or holds_booleans(want) and "bool" or dtype
  if gives == "bool" then want = each(is_true, want) end
  for _, fn in ipairs{mg[op.name], not is_private(op) and mg.ones(1)[op.name] or nil} do
    local y = sample.call(fn, table.unpack(xs))
    assert.equal(gives, y.dtype)
    if dtype == "float32" then
      assert(near(y, want, 2e-6, 2e-7))
    else
      assert(exact(y, want, 8))
    end
  end
end

-- The op as a function of its float operands, and these.
local function of_floats(op, sample)
  local xs, floats, places = operands(op, sample, "float64"), {}, {}
  for k, x in ipairs(xs) do
    if x.dtype == "float64" then
      floats[#floats + 1] = x
      places[#places + 1] = k
    end
  end
  return function(...)
    for i, k in ipairs(places) do xs[k] = select(i, ...) end
    return (sample.call(mg[op.name], table.unpack(xs)))
  end, floats
end

local function has_its_derivatives(op, sample)
  local f, floats = of_floats(op, sample)
  local leaves = {}
  for i, x in ipairs(floats) do leaves[i] = mg.Variable(x) end
  local y = f(table.unpack(leaves))
  if y.dtype ~= "float64" then
    assert.is_nil(y.creator)
    assert.is_false(y.requires_grad)
    return
  end
  if sample.refuses then
    assert(raises(plain(op.name) .. ": this operand has no gradient", y.backward, y))
    return
  end
  assert(helper.differentiable(f, floats))
  if sample.flat then
    for i, g in ipairs(helper.gradients(f, floats)) do
      assert(helper.same(g, mg.zeros_like(floats[i])))
    end
  end
end

local function refuses_what_is_wrong(op, sample)
  local call, x = mg[op.name], mg.ones(2, 3)
  local name = plain(op.name) .. ": "
  local rest = {}
  for k = 2, #sample.inputs do rest[k - 1] = x end
  local wrong = op.name == "log" and print or "text" -- mg.log(path) begins a log
  assert(raises((" is a %s, expected a Variable"):format(type(wrong)), function()
    sample.call(call, wrong, table.unpack(rest))
  end))
  if op.kind ~= "other" then
    assert(raises(name .. "argument ", function() call(x, x, x, x) end))
  end
  if op.kind == "elementwise" and #sample.inputs > 1 then
    assert(raises(name .. "shapes (2, 3) and (4) do not broadcast", function()
      call(x, mg.ones(4), #sample.inputs > 2 and x or nil)
    end))
  elseif op.kind == "reduce" then
    for text, arg in pairs{
      ["axis 3 is out of range for shape (2, 3)"] = 3,
      ["axis 0 is out of range for shape (2, 3)"] = 0,
      ["axis -3 is out of range for shape (2, 3)"] = {axis = -3},
      ["axis 2 is given twice"] = {axis = {2, -1}},
      ["axis must be a whole number"] = {axis = 1.5},
      ["unknown option axes"] = {axes = 1},
      ["option keepdims is a number"] = {keepdims = 1},
    } do
      assert(raises(name .. text, function() call(x, arg) end))
    end
  end
end

local function refuses_its_bad_sample(op, sample)
  local bad, xs = sample.bad, operands(op, sample, "float64")
  if bad == false then return end
  assert.is_not_nil(bad)
  local call = type(bad) == "function" and bad or function(f, ...)
    local given = {...}
    f(table.unpack(table.move(bad, 1, #bad, #given + 1, given)))
  end
  assert(raises((sample.says or plain(op.name)) .. ": ", call, mg[op.name], table.unpack(xs)))
end

describe("ops", function()
  helper.guard(before_each, after_each)

  for _, op in ipairs(mg._ops()) do
    local sample = samples[op.name]

    it(op.name .. " has a sample and two lines of doc", function()
      assert.is_not_nil(sample)
      assert.equal(op.name .. "(", op.doc:match("^[%w_]+%("))
      assert.is_truthy(op.doc:match("^[^\n]+\n[^\n]+$"))
    end)

    if sample and not sample.random then
      for _, dtype in ipairs(sample.dtypes) do
        it(op.name .. " gives what plain Lua gives, in " .. dtype, function()
          gives_what_lua_gives(op, sample, dtype)
        end)
      end

      it(op.name .. " has first and second derivatives, or says so", function()
        has_its_derivatives(op, sample)
      end)

      it(op.name .. " refuses what is wrong", function()
        refuses_what_is_wrong(op, sample)
      end)
    end

    if op.kind == "other" and sample then
      it(op.name .. " refuses its bad sample", function()
        refuses_its_bad_sample(op, sample)
      end)
    end
  end

  it("that only other ops use are nobody else's", function()
    local private = 0
    for _, op in ipairs(mg._ops()) do
      if is_private(op) then
        private = private + 1
        assert(raises("no property or method", function() return mg.ones(1)[op.name] end))
        assert(raises("nothing is known of " .. op.name, mg.help, op.name))
      end
    end
    assert.is_true(private > 0)
  end)

  it("have no sample without an op", function()
    local names = {}
    for _, op in ipairs(mg._ops()) do names[op.name] = true end
    for name in pairs(samples) do assert.is_true(names[name]) end
  end)

  it("that compute with floats take the default float for integers", function()
    for _, op in ipairs(mg._ops()) do
      local sample = samples[op.name]
      if op.kind ~= "other" and sample.dtypes[#sample.dtypes] == "float32" then
        local xs, floats = operands(op, sample, "int64"), {}
        for k, x in ipairs(xs) do floats[k] = x:to("float64") end
        local want = sample.call(mg[op.name], table.unpack(floats))
        assert(helper.same(sample.call(mg[op.name], table.unpack(xs)), want))
      end
    end
  end)
end)
