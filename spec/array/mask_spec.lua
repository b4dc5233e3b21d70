-- & | ~ of masks.

local mg = require "moongrad"
local helper = require "spec.helper"
local raises = helper.raises

describe("masks", function()
  helper.guard(before_each, after_each)

  local function mask(t) return mg.tensor(t, "bool") end

  it("are joined by & | ~, which broadcast", function()
    local a, b = mask{true, false, true}, mask{true, true, false}
    assert.same({true, false, false}, (a & b):totable())
    assert.same({true, true, true}, (a | b):totable())
    assert.same({false, true, true}, (a ~ b):totable())
    assert.same({false, true, false}, (~a):totable())
    assert.same({true, false, true}, (a & true):totable())
    assert.same({true, true, true}, (true | b):totable())
    assert.same({{true, false, false}, {false, false, false}},
      (a & b & mask{{true}, {false}}):totable())
    local x = mg.range(1, 5)
    assert.same({2, 3, 4}, x[x:gt(1) & x:lt(5)]:totable())
  end)

  it("are not numbers", function()
    local a = mask{true, false}
    assert(raises("&: operand 2 is of float64, and & is for bools",
      function() return a & mg.ones(2) end))
    assert(raises("|: operand 1 is a number, and | is for bools", function() return 3 | a end))
    assert(raises("~: operand 1 is of int64, and ~ is for bools",
      function() return ~mg.tensor({1}, "int64") end))
    for _, x in ipairs{a, a[1], mg.tensor{1, 0}:gt(0)} do
      assert(raises("neg: the operand is of bool: ~x is true where x is not", mg.neg, x))
      assert(raises("neg: the operand is of bool", function() return -x end))
    end
    assert.same({-1, 0}, (0 - a):totable())
    assert(raises("logical_and: shapes (2) and (3) do not broadcast",
      function() return a & mask{true, true, true} end))
  end)
end)
