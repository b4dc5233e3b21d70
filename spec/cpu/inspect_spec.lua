-- What goes down to the machine: launches, programs, schedules kept, and machine code.

local mg = require "moongrad"
local helper = require "spec.helper"
local it = helper.counting(it)
local child = require "spec.child"
local same, raises, ready = helper.same, helper.raises, helper.ready

-- The lines that mg.launches prints of fn(...), and what it gives after them.
local function launches(fn, ...)
  local got = table.pack(helper.printed(mg.launches, fn, ...))
  local lines, printed = {}, got[1]
  for line in got[2]:gmatch "[^\n]+" do lines[#lines + 1] = line:gsub("^ *%d+  ", "") end
  assert.equal(got[2], #lines == 0 and "" or printed[1] .. "\n")
  return lines, table.unpack(got, 3, got.n)
end

describe("launches", function()
  helper.guard(before_each, after_each)

  it("are a line each, with ops, shapes and bytes, then come the results", function()
    local x = ready(1000, 100)
    local lines, a, b = launches(function(k)
      mg.eval((x * k + 1):tanh():sum())
      x:matmul(x.T)
      return mg.tensor{1, 2}:sin()[1]:item(), "b"
    end, 3)
    assert.same({
      "mul add tanh sum (4 ops), 100000 elements, 1 in, 1 out, 800008 bytes, #1 -> #2",
      "matmul float64 (1000, 100), float64 (100, 1000) -> float64 (1000, 1000), 9600000 bytes, " ..
        "#1 #1 -> #3",
      "sin, 2 elements",
    }, {table.unpack(lines, 1, 3)})
    assert.is_true(math.abs(a - math.sin(1)) < 1e-15)
    assert.equal("b", b)
  end)

  it("of a function of mg.compile have places in one block", function()
    local g = mg.compile(function(x)
      local y = x:matmul(x.T) * 2
      return (y:matmul(y) + 1):cumsum(1):sum()
    end)
    local x = ready(20, 20)
    g(x)
    local lines = launches(g, x)
    local bytes, apart = lines[1]:match "a block of (%d+) bytes, (%d+) if nothing shared its place"
    assert.is_true(tonumber(bytes) < tonumber(apart))
    assert.truthy(lines[2]:find "^matmul.*, #1 #1 %-> @%d+$")
    assert.truthy(lines[#lines]:find "^sum.* @%d+ %-> #%d+$")
  end)

  it("read x once for the sum of two losses and its gradient", function()
    for _, weight in ipairs{0.1, 1} do
      local x, t = mg.Variable(ready(100, 50)), ready(100, 50)
      local function losses() return ((x - t) ^ 2):mean(), (x ^ 2):mean() * weight end
      local loss
      local lines = launches(function()
        local a, b = losses()
        loss = a + b
        loss:backward()
        mg.eval(loss)
      end)
      local programs = 0
      for _, line in ipairs(lines) do
        if line:find "elements, %d+ in" then programs = programs + 1 end
      end
      assert.equal(1, programs)
      local grad, a, b = x.grad, losses()
      assert.equal(loss:item(), a:item() + b:item())
      x:cleargrad()
      a:backward()
      b:backward()
      assert(helper.near(grad, x.grad, 1e-14))
    end
  end)

  it("keep sums of numbers apart from what folds rows of one length", function()
    local x, y = ready(3, 2800), ready(2800)
    local function sum() return (x * 2):sum(), (y - y:mean()):square():sum() end
    local a, b = sum()
    local late = (a + b):reshape(1) * 3
    local p, q = sum()
    mg.eval(p)
    mg.eval(q)
    assert(same(late, ((p + q) * 3):reshape(1)))
    assert(same((a + b):broadcast_to{5}, mg.full({5}, p:item() + q:item())))
  end)

  it("do not keep what many losses reduce", function()
    mg.trim()
    mg.reset_peak()
    local before, total = mg.memory().live, 0
    for _ = 1, 40 do
      total = total + (ready(50000) ^ 2):mean()
      collectgarbage()
    end
    assert.is_true(mg.memory().peak - before < 12 * 400000)
    assert.is_true(math.abs(total:item() / 40 - 1 / 3) < 0.01)
  end)

  it("end with an error, and one is watched at a time", function()
    local err = {}
    local ok, got = pcall(launches, error, err)
    assert.is_false(ok)
    assert.equal(err, got)
    assert(raises("launches: a profile is running, or another launches", function()
      launches(function() mg.launches(print) end)
    end))
    assert(raises("profile: one is running already", function()
      launches(function() mg.profile(print) end)
    end))
    assert.same({}, (launches(function() end)))
  end)
end)

describe("a program", function()
  helper.guard(before_each, after_each)

  it("is plain data, and is shown as text; nothing is computed by that", function()
    local x, w = ready(500, 20), ready(20, 500)
    local y = (x * 2 - w.T):square():sum(2)
    local text = "program of 10000 elements, rows of 20\n" ..
      "  v1 = input 1 : float64\n  v2 = number 2 : float64\n  v3 = mul v1, v2 : float64\n" ..
      "  v4 = input 3 of 500 step 1 20 step 500 : float64\n  v5 = sub v3, v4 : float64\n" ..
      "  v6 = square v5 : float64\n  v7 = sum v6 : float64 a row\n  store v7 : float64\n"
    assert.equal(text, mg._program(y))
    assert.equal(text, mg._program(y))
    mg.eval(y)
    assert.is_nil(mg._program(y))
  end)

  it("reads what two of its arrays see alike once", function()
    local x, m, other, square = ready(200, 80), ready(200, 1), ready(200, 1), ready(200, 200)
    local function inputs(y)
      local most = 0
      for k in mg._program(y):gmatch "input (%d+)" do most = math.max(most, tonumber(k)) end
      return most
    end
    assert.equal(2, inputs((x - m) * m))
    assert.equal(3, inputs((x - m) * other))
    assert.equal(3, inputs((square.T - square) * square[{{}, 1}]))
    local y, z = (x - m) * m, x - m
    mg.eval(z)
    assert.equal(0, mg.abs(y - z * m):max():item())
  end)

  it("is planned once, and found again whatever its numbers, addresses and seeds are", function()
    local function step(x, k)
      mg.eval((x * k + mg.rand(3000)):exp():sum(), x - k)
    end
    local x, y = ready(3000), ready(3000)
    step(x, 1)
    local before = mg._code()
    for k = 2, 20 do step(k % 2 == 0 and x or y, k / 7) end
    local after = mg._code()
    assert.equal(before.planned, after.planned)
    assert.equal(before.found + 19, after.found)
  end)

  it("is forgotten with many others, and planned again", function()
    local x = ready(700)
    local function run(i)
      local y = x
      for bit = 0, 11 do y = i >> bit & 1 == 1 and y * 0.5 or y + x end
      mg.eval(y)
      return y
    end
    local first = run(1)
    for i = 2, 1500 do run(i) end
    assert.is_true(mg._code().schedules <= 1024)
    assert(same(first, run(1)))
  end)

  it("counts its visits past 2^32", function()
    mg._mark((1 << 32) - 3)
    local x = ready(600)
    for _ = 1, 8 do
      local y = (x * 2 + x):exp() * x
      assert(same(y - y, x - x))
    end
  end)
end)

describe("machine code", function()
  helper.guard(before_each, after_each)

  -- What runs in a process that has MOONGRAD_CODE set so, or here.
  local function random_program(seed, dtype)
    math.randomseed(seed)
    mg.seed(seed)
    local v = {mg.rand{2500, dtype = dtype} * 4 - 2, mg.rand{2500, dtype = dtype} + 0.5}
    for _, op in ipairs(mg._ops()) do
      if op.kind == "elementwise" and not op.name:find "clamp" then
        local args = {}
        for i = 1, op.arity do args[i] = v[math.random(#v)] end
        if op.name == "where" then args[1] = args[1]:gt(0) end
        if op.name == "_powi" then args[2] = 3 end
        local ok, r = pcall(mg[op.name], table.unpack(args))
        if ok then v[#v + 1] = r:to(dtype) end
      end
    end
    local sum = v[1]
    for i = 2, #v do sum = mg.where(v[i]:isnan(), sum, sum + v[i] * 0.125) end
    return sum, v
  end

  it("runs where it can be had, and every op of the table has its bits without", function()
    local on = mg._code()
    for _, dtype in ipairs{"float32", "float64"} do
      for seed = 1, 6 do
        local with, values = random_program(seed, dtype)
        mg.eval(with, table.unpack(values))
        local state = mg._code{off = true}
        assert.is_false(state.on)
        local without, others = random_program(seed, dtype)
        mg.eval(without, table.unpack(others))
        assert.equal(state.runs, mg._code().runs)
        mg._code{off = false}
        assert(same(with, without))
        for i = 1, #values do assert(same(values[i], others[i])) end
      end
    end
    if on.on then
      assert.is_true(mg._code().runs > on.runs)
      assert.is_true(mg._code().pieces > 0 and #mg._code().code == mg._code().bytes)
    end
  end)

  it("is had on every processor with AVX2", function()
    local info = io.open "/proc/cpuinfo"
    local text = info and info:read "a" or ""
    if info then info:close() end
    local has = not mg._code().plain and text:find "avx2" and text:find " fma" and text:find " bmi2"
    if has then assert.is_true(mg._code().on) end
  end)

  it("can be switched off from outside", function()
    local program = [[
      local mg = require "moongrad"
      local x = mg.rand(5000)
      mg.eval(x * 2 + 1)
      local c = mg._code()
      print(c.on, c.runs, c.pieces)]]
    assert.equal("false\t0\t0\n", (child.run(program, nil, "MOONGRAD_CODE=off")))
  end)

  it("survives any allocation that fails while it is planned and written", function()
    local x, t = mg.Variable(ready(40, 100)), ready(40, 100)
    local function program()
      mg._code{off = true}
      mg._code{off = false}
      x:cleargrad()
      local y = (((x - t) ^ 2):mean(2) + x:softmax():max(2)):sum()
      y:backward()
      return y:item(), x.grad
    end
    local value, grad = program()
    local failures = 0
    for n = 1, 200 do
      mg._fail_at(n)
      local ok, a, g = pcall(program)
      mg._fail_at(0)
      if ok then
        assert.equal(value, a)
        assert(same(grad, g))
      else
        failures = failures + 1
        assert(tostring(a):find "out of memory")
      end
    end
    assert.is_true(failures > 10)
    local again, same_grad = program()
    assert.equal(value, again)
    assert(same(grad, same_grad))
  end)

  it("is made anew when there is no more room for it, and values stay what they were", function()
    local x, pieces, restarts = ready(2100), 0, 0
    local function run(i)
      local y = x
      for k = 1, 200 do
        y = (i >> k % 10) % 2 == 0 and y + x or (i * k) % 5 < 3 and y * 0.75 or x - y
      end
      mg.eval(y)
      return y
    end
    local wanted = {}
    mg._code{off = true}
    for i = 1, 600, 6 do wanted[i] = run(i) end
    mg._code{off = false}
    for _ = 1, 2 do
      for i = 1, 600 do
        local y = run(i)
        if wanted[i] then assert(same(wanted[i], y)) end
        local now = mg._code().pieces
        if now < pieces then restarts = restarts + 1 end
        pieces = now
      end
    end
    assert.is_true(not mg._code().on or restarts > 0)
  end)
end)
