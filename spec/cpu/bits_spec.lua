-- The same bits late, at once, one element at a time, and for any number of threads.

local mg = require "moongrad"
local helper = require "spec.helper"
local samples = require "spec.samples"
local same = helper.same

local LARGE, SMALL, ONES = 5000, 250, 300

local SPECIAL = {0.0, -0.0, math.huge, -math.huge, 0 / 0, 1e-310, -1e300, 1e300, 710.5, -745.0,
  1.0, -1.0, 0.5, 2.0, -3.0, 1e15 + 0.5}

-- Numbers for operand k: all pairs of special ones first, then random ones.
local function numbers(input, k, dtype)
  local list, n = {}, #SPECIAL
  for i = 1, LARGE do
    local u = math.random()
    if type(input[1]) == "boolean" then
      list[i] = u < 0.5
    elseif dtype == "int64" then
      list[i] = 2 * math.random(-50, 50) + 1       -- never 0: // and % refuse it
    elseif i <= n * n then
      list[i] = SPECIAL[(k == 1 and i - 1 or (i - 1) // n) % n + 1]
    else
      list[i] = (u - 0.5) * 10
    end
  end
  return list
end

local function each_op(f)
  for _, op in ipairs(mg._ops()) do
    local sample = samples[op.name]
    if op.kind == "elementwise" and sample then
      f(op.name, sample, function(...) return (sample.call(mg[op.name], ...)) end)
    end
  end
end

local function operands(sample, dtype)
  local xs = {}
  for k, input in ipairs(sample.inputs) do
    local boolean = type(input[1]) == "boolean"
    xs[k] = mg.tensor(numbers(input, k, dtype), boolean and "bool" or dtype)
  end
  return xs
end

local function part(xs, first, last) return table.unpack(helper.parts(xs, first, last)) end

describe("the bits of", function()
  helper.guard(before_each, after_each)

  each_op(function(name, sample, call)
    it(name .. " are the same late, at once and one at a time", function()
      math.randomseed(1)
      for _, dtype in ipairs(sample.dtypes) do
        if dtype == "uint8" or dtype == "bool" then break end
        local xs = operands(sample, dtype)
        local y, small, ones = call(table.unpack(xs)), {}, {}
        for i = 1, LARGE // SMALL do
          small[i] = call(part(xs, (i - 1) * SMALL + 1, i * SMALL))
        end
        assert(same(mg.cat(small), y))
        for i = 1, ONES do
          local one = {}
          for k, x in ipairs(xs) do one[k] = x[i] end
          ones[i] = call(table.unpack(one))
        end
        assert(same(mg.stack(ones), y[{{1, ONES}}]))
      end
    end)

    it(name .. " are the same whatever the strides", function()
      math.randomseed(2)
      for _, dtype in ipairs(sample.dtypes) do
        local xs = operands(sample, dtype == "uint8" and "int64" or dtype)
        local want = call(table.unpack(xs))
        local reversed, crossed, spread = {}, {}, {}
        for k, x in ipairs(xs) do
          local shape = k % 2 == 1 and {50, 100} or {100, 50}
          reversed[k] = mg.flip(x, 1):clone():flip(1)
          crossed[k] = k % 2 == 1 and x:reshape(shape) or x:reshape(50, 100).T:clone().T
          spread[k] = mg.stack({x, x}, 2)[{{}, k % 2 + 1}]
        end
        assert(same(call(table.unpack(reversed)), want))
        assert(same(call(table.unpack(crossed)):reshape(LARGE), want))
        assert(same(call(table.unpack(spread)), want))
      end
    end)
  end)

  it("gradients are the same late and at once", function()
    math.randomseed(3)
    each_op(function(_, sample, call)
      if sample.refuses then return end
      local xs = operands(sample, "float64")
      local function gradients(...)
        local leaves = {...}
        for k, x in ipairs(leaves) do
          if x.dtype == "float64" then leaves[k] = mg.Variable(x) end
        end
        local y = call(table.unpack(leaves))
        if y.creator then y:backward() end
        local grads = {}
        for k, x in ipairs(leaves) do grads[k] = x.grad end
        return grads
      end
      local large = gradients(table.unpack(xs))
      local pieces = {}
      for k in pairs(large) do pieces[k] = {} end
      for i = 1, LARGE // SMALL do
        for k, g in pairs(gradients(part(xs, (i - 1) * SMALL + 1, i * SMALL))) do
          pieces[k][i] = g
        end
      end
      for k, g in pairs(large) do assert(same(mg.cat(pieces[k]), g)) end
    end)
  end)

  -- ---- threads --------------------------------------------------------------------------------

  -- f() with 1, 2 and 4 threads
  local function with_any_threads(f)
    local threads = mg.num_threads()
    finally(function() mg.set_num_threads(threads) end)
    mg.set_num_threads(1)
    local want = {f()}
    for _, n in ipairs{2, 4} do
      mg.set_num_threads(n)
      for i, y in ipairs{f()} do assert(same(y, want[i])) end
    end
  end

  -- Over all sorts of axes
  local function reduced(call, x)
    return call(x), (call(x, 1)), (call(x, 2)), (call(x, 3)), call(x, {axis = {1, 2}}),
      call(x, {axis = {2, 3}}), call(x, {axis = {1, 3}})
  end

  it("all elementwise ops are the same for any number of threads", function()
    mg.seed(4)
    local u, v = mg.rand(200, 1000) * 8 - 4, mg.rand(200, 1000) * 8 - 4
    each_op(function(_, sample, call)
      for _, dtype in ipairs(sample.dtypes) do
        local xs = {u:to(dtype), v:to(dtype)}
        if dtype == "int64" then xs[2] = xs[2] * 2 + 1 end
        if #sample.inputs == 3 then xs = {u:gt(0), u:to(dtype), v:to(dtype)} end
        xs = table.move(xs, 1, #sample.inputs, 1, {})
        with_any_threads(function() return call(table.unpack(xs)) end)
      end
    end)
  end)

  it("all reductions are the same for any number of threads", function()
    mg.seed(5)
    local x = mg.rand(20, 100, 100) - 0.5
    for _, op in ipairs(mg._ops()) do
      for _, dtype in ipairs(op.kind == "reduce" and samples[op.name].dtypes or {}) do
        local a = (x * 100):to(dtype)
        mg.eval(a)
        with_any_threads(function() return reduced(mg[op.name], a) end)
      end
    end
  end)

  it("reductions are the same when their operand was computed before", function()
    mg.seed(7)
    local x = mg.rand(20, 100, 100) - 0.5
    for _, op in ipairs(mg._ops()) do
      for _, dtype in ipairs(op.kind == "reduce" and samples[op.name].dtypes or {}) do
        local function pending() return (x * 100):to(dtype) end
        local a = pending()
        mg.eval(a)
        local want = {reduced(mg[op.name], a)}
        local late = {reduced(function(_, axis) return (mg[op.name](pending(), axis)) end)}
        for i, y in ipairs(late) do assert(same(y, want[i])) end
      end
    end
  end)

  -- Shapes of columns, one for each way in which they are added up (schedule.c)
  local COLUMNS = {{300, 1}, {70, 7}, {100000, 3}, {9000, 70}, {20, 900, 40}, {5000, 600},
    {3000, 1500}, {2, 300, 2000}, {40, 5000}, {300, 5000}, {70, 33000}}

  it("float32 sums of columns are the same late, at once, by kernels, for any number of threads",
    function()
      mg.seed(8)
      finally(function() mg._code{off = false} end)
      for _, shape in ipairs(COLUMNS) do
        local x, axis = mg.rand(shape):to "float32", #shape - 1
        local function both(y)
          return y:sum(axis), y:mean(axis), (y * 0.5):var(axis), y:square():sum(axis)
        end
        local two = x * 2
        mg.eval(two)
        local want = {both(two)}
        for i, y in ipairs{both(x * 2)} do assert(same(y, want[i])) end
        mg._code{off = true}
        for i, y in ipairs{both(x * 2)} do assert(same(y, want[i])) end
        mg._code{off = false}
        with_any_threads(function() return both(x * 2) end)
      end
    end)

  it("products, sums of rows and sorting are the same for any number of threads", function()
    mg.seed(6)
    local x, y = mg.randn(300, 500), mg.randn(500, 400)
    local at, v, wide = mg.randint(1, 300, {2000}), mg.randn(4000), mg.randn(4000, 1501)
    local narrow, more = mg.zeros(300, 500):to "float32", mg.randn(2000, 500):to "float32"
    local few = mg.randint(1, 5, {300, 500})
    with_any_threads(function()
      return v:matmul(wide), wide.T:matmul(v), v:to("float32"):matmul(wide:to("float32")),
        x:matmul(y), x:to("float32"):matmul(y:to("float32")), x:cumsum(1), x:cumsum(2),
        x:argsort(1), x:argsort(2), x:index_select(1, at),
        mg.zeros(300, 500):index_add(1, at, mg.cat({x, x, x, x, x, x, x})[{{1, 2000}}]),
        mg.zeros(300, 500):scatter_add(1, (x.T.T * 40):to("int64"):clamp{min = 1, max = 300}, x),
        narrow:index_add(1, at, more), narrow:scatter_add(1, few, x:to "float32"),
        narrow:scatter_add(2, few, x:to "float32")
    end)
  end)
end)
