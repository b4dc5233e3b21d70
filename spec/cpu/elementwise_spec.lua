-- Elementwise ops on arrays of every kind: broadcast, strided, empty, of infinities, large and
-- small. The bits of an element depend on nothing but its operands.

local mg = require "moongrad"
local helper = require "spec.helper"
local samples = require "spec.samples"
local exact = helper.exact
local huge, nan = math.huge, 0 / 0

local ops = {}
for _, op in ipairs(mg._ops()) do
  local sample = samples[op.name]
  if op.kind == "elementwise" and sample then
    ops[#ops + 1] = {name = op.name, sample = sample, call = function(...)
      return sample.call(mg[op.name], ...)
    end}
  end
end

local function is_boolean(input) return type(input[1]) == "boolean" end

-- ---- infinities and the like ------------------------------------------------------------------

local SPECIAL = {0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, huge, -huge, nan}

-- Every pair (k = 1, 2) or triple of special numbers, one list for each operand.
local function specials(sample)
  local lists, n = {}, #SPECIAL
  for k, input in ipairs(sample.inputs) do
    local list = {}
    for i = 0, n ^ #sample.inputs - 1 do
      local v = SPECIAL[i // n ^ (k - 1) % n + 1]
      if is_boolean(input) then v = v > 0 end
      list[#list + 1] = v
    end
    lists[k] = list
  end
  return lists
end

local function column(lists, i)
  local at = {}
  for k, list in ipairs(lists) do at[k] = list[i] end
  return table.unpack(at)
end

describe("elementwise ops", function()
  helper.guard(before_each, after_each)

  for _, op in ipairs(ops) do
    it(op.name .. " gives what plain Lua gives for infinities, zeros and nan", function()
      local lists, xs, want = specials(op.sample), {}, {}
      for i = 1, #lists[1] do want[i] = op.sample.expected(column(lists, i)) end
      for k, list in ipairs(lists) do xs[k] = mg.tensor(list) end
      local y = op.call(table.unpack(xs))
      if y.dtype == "bool" and type(want[1]) ~= "boolean" then
        for i, v in ipairs(want) do want[i] = v ~= 0 end
      end
      assert(helper.near(y, want, 1e-13))
    end)
  end

  -- ---- broadcasting ---------------------------------------------------------------------------

  -- One operand's six numbers as something smaller, and which of them element i then sees.
  local forms = {
    row = function(list)
      return mg.tensor{list[1], list[2], list[3]}, function(i) return list[(i - 1) % 3 + 1] end
    end,
    column = function(list)
      return mg.tensor{{list[1]}, {list[2]}}, function(i) return list[(i + 2) // 3] end
    end,
    scalar = function(list) return mg.tensor(list[1]), function() return list[1] end end,
    number = function() return 1.7, function() return 1.7 end end,
  }

  local function whole(list)
    return mg.tensor(list):reshape(2, 3), function(i) return list[i] end
  end

  -- Operand k in the form, the others whole.
  local function broadcasts(op, k, form)
    local xs, at, want = {}, {}, {{}, {}}
    for j, input in ipairs(op.sample.inputs) do
      xs[j], at[j] = (j == k and forms[form] or whole)(input)
    end
    for i = 1, 6 do
      local v = {}
      for j, f in ipairs(at) do v[j] = f(i) end
      want[(i + 2) // 3][(i - 1) % 3 + 1] = op.sample.expected(table.unpack(v))
    end
    local y = op.call(table.unpack(xs))
    assert(exact(y, want, 8))
    if y.dtype == "bool" then return end
    local tracked, places = {}, {}
    for j, x in ipairs(xs) do
      if mg.is_variable(x) and x.dtype == "float64" then
        tracked[#tracked + 1] = x
        places[#places + 1] = j
      end
    end
    assert(helper.differentiable(function(...)
      local given = table.move(xs, 1, #xs, 1, {})
      for i, j in ipairs(places) do given[j] = select(i, ...) end
      return op.call(table.unpack(given))
    end, tracked))
  end

  for _, op in ipairs(ops) do
    for k, input in ipairs(op.sample.inputs) do
      for form in pairs(#op.sample.inputs > 1 and forms or {}) do
        if not (form == "number" and is_boolean(input)) then
          it(("%s broadcasts operand %d as a %s"):format(op.name, k, form), function()
            broadcasts(op, k, form)
          end)
        end
      end
    end
  end

  it("broadcast both operands", function()
    local x, y = mg.Variable{{1}, {2}}, mg.Variable{10, 20, 30}
    assert(exact(x + y, {{11, 21, 31}, {12, 22, 32}}))
    assert(helper.differentiable(mg.mul, {x:detach(), y:detach()}))
    assert.same({2, 1, 4, 3}, (mg.ones(2, 1, 1, 3) + mg.ones(4, 1)).shape)
  end)

  it("make a 0-d Variable of numbers alone", function()
    assert.same({}, mg.add(1, 2).shape)
    assert.equal(3, mg.add(1, 2):item())
    assert.equal(math.exp(2), mg.exp(2):item())
  end)

  it("take tables", function()
    assert(exact(mg.add({1, 2}, {3, 4}), {4, 6}))
    assert(exact(mg.sqrt{{4, 9}}, {{2, 3}}))
  end)

  -- ---- what vanishes -------------------------------------------------------------------------

  it("that vanish keep the sign of what they are too little to be", function()
    local sign = {exp = 1, exp2 = 1, sigmoid = 1, softplus = 1, silu = -1, mish = -1, gelu = -1,
                  _gelu_tanh = -1, _silu_slope = -1, _mish_slope = -1, _gelu_slope = -1}
    for name, s in pairs(sign) do
      for _, dtype in ipairs{"float32", "float64"} do
        for _, v in ipairs{-2000, -1e30, -math.huge} do
          local x = mg.full({9}, v, {dtype = dtype})
          for _, y in ipairs(mg[name](x):totable()) do
            assert(1 / y == s * math.huge, ("%s of %s %s: %s"):format(name, dtype, v, y))
          end
        end
      end
    end
  end)

  -- ---- empty arrays ---------------------------------------------------------------------------

  it("of empty arrays are empty", function()
    for _, op in ipairs(ops) do
      for _, shape in ipairs{{0}, {0, 3}, {2, 0, 4}} do
        local xs = {}
        for k = 1, #op.sample.inputs do xs[k] = mg.Variable(mg.zeros(shape)) end
        local y = op.call(table.unpack(xs))
        assert.same(shape, y.shape)
        if y.creator and not op.sample.refuses then
          y:backward()
          for _, x in ipairs(xs) do
            if x.grad then assert.same(shape, x.grad.shape) end
          end
        end
      end
    end
  end)

  it("broadcast empty arrays", function()
    assert.same({0, 3}, (mg.zeros(0, 3) + mg.ones(3)).shape)
    assert.same({0, 3}, (mg.zeros(0, 1) * mg.ones(1, 3)).shape)
    local row = mg.Variable{1, 2, 3}
    local y = mg.zeros(0, 3) * row
    y:backward()
    assert(exact(row.grad, {0, 0, 0}))
  end)
end)
