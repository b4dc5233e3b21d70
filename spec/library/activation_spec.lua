-- Elementwise functions written in Lua, and the options of the core's.

local mg = require "moongrad"
local helper = require "spec.helper"
local exact, near, raises = helper.exact, helper.near, helper.raises
local huge, nan = math.huge, 0 / 0

describe("activations", function()
  helper.guard(before_each, after_each)

  it("give what their definitions say", function()
    local x = mg.tensor{-7, -3, -1.5, 0, 2, 3, 8}
    assert(exact(x:hardswish(), {0, 0, -0.375, 0, 5 / 3, 3, 8}, 4))
    assert(exact(x:logsigmoid(), mg.log(x:sigmoid()), 8))
    assert(exact(x:softplus{beta = 2}, mg.log1p(mg.exp(x * 2)) / 2, 16))
    assert(exact(x:softplus(), x:softplus{beta = 1}))
    local selu = mg.where(x:gt(0), x, 1.6732632423543772 * x:expm1()) * 1.0507009873554805
    assert(near(x:selu(), selu))
    assert(exact(mg.glu{1, 2, 0, 0}, {0.5, 1}))
    assert(exact(mg.glu(mg.tensor{{2, 3}, {0, 0}}, 1), {{1, 1.5}}))
    assert(raises("glu: axis 1 has 3 elements", mg.glu, {1, 2, 3}))
  end)

  it("stay what they are far out", function()
    local far = mg.tensor{-huge, huge, nan}
    assert(exact(far:hardswish(), {0, huge, nan}))
    assert(exact(far:logsigmoid(), {-huge, 0, nan}))
    assert(near(far:selu(), {-1.7580993408473766, huge, nan}))
    assert(exact(mg.logsigmoid{-800, 40}, {-800, -math.exp(-40)}, 4))
    for _, op in ipairs{"silu", "gelu", "mish"} do
      assert(exact(mg[op](far), {0, huge, nan}))
      local x = mg.Variable{-huge, huge}
      mg[op](x):sum():backward()
      assert(exact(x.grad, {0, 1}))
    end
    assert(exact(mg.gelu({-huge, huge}, {approximate = "tanh"}), {0, huge}))
  end)

  it("have their derivatives", function()
    local x = mg.tensor{-4, -2.2, -1.3, -0.4, 0.6, 1.7, 4}
    for _, f in ipairs{mg.hardswish, mg.logsigmoid, mg.selu, mg.glu,
                       function(v) return v:softplus{beta = 0.5} end,
                       function(v) return v:nan_to_num{nan = 3} end} do
      assert(helper.differentiable(f, {f == mg.glu and x[{ {1, 6} }]:clone() or x}))
    end
    local y = mg.Variable{-3, -2, 0, 6, 3}
    y:relu6():sum():backward()
    assert.same({0, 0, 0, 0, 1}, y.grad:totable())
  end)

  it("nan_to_num takes what to put there", function()
    local x = mg.Variable{nan, huge, -huge, 2}
    local y = x:nan_to_num{nan = 1, posinf = 2, neginf = -2}
    assert(exact(y, {1, 2, -2, 2}))
    assert(exact(x:nan_to_num{posinf = 7}, {0, 7, -0x1.fffffffffffffp1023, 2}))
    y:sum():backward()
    assert.same({0, 0, 0, 1}, x.grad:totable())
  end)

  it("clamp gives its bounds the gradient that x has not", function()
    local x, low = mg.Variable{-2, 0, 3, 1}, mg.Variable{-1, -1, -1, 5}
    local high = mg.Variable{2, 2, 2, 2}
    mg.clamp(x, {min = low, max = high}):sum():backward()
    assert.same({0, 1, 0, 0}, x.grad:totable())
    assert.same({1, 0, 0, 0}, low.grad:totable())
    assert.same({0, 0, 1, 1}, high.grad:totable())
  end)

  it("whole numbers stay whole, and exact", function()
    local big = 9007199254740993
    for _, op in ipairs{"floor", "ceil", "round", "trunc", "nan_to_num", "relu6"} do
      for _, dtype in ipairs{"int64", "uint8", "bool"} do
        local y = mg[op](mg.tensor({1, 0}, dtype == "bool" and "uint8" or dtype):to(dtype))
        assert.equal("int64", y.dtype)
        assert.same({1, 0}, y:totable())
      end
    end
    for _, op in ipairs{"floor", "ceil", "round", "trunc", "nan_to_num"} do
      for _, n in ipairs{1, 3000} do
        local y = mg[op](mg.full({n}, big, "int64"))
        assert.equal(big, y[n]:item())
        assert.equal(math.mininteger, mg[op](mg.full({n}, math.mininteger, "int64"))[n]:item())
      end
    end
  end)
end)
