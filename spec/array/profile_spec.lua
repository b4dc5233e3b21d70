-- mg.profile, and mg.memory by op and by name. Times are compared, never taken at their word.

local mg = require "moongrad"
local helper = require "spec.helper"
local it = helper.counting(it)
local near, raises, settle, ready = helper.near, helper.raises, helper.settle, helper.ready

-- What profile(fn, ...) prints, and what it returns.
local function profiled(fn, ...)
  local got = table.pack(helper.printed(mg.profile, fn, ...))
  return got[1][#got[1]], table.unpack(got, 2, got.n)
end

-- The rows of profile(fn, ...) by op, and its table.
local function rows_of(fn, ...)
  local _, t = profiled(fn, ...)
  local rows = {}
  for _, row in ipairs(t) do
    assert.is_nil(rows[row.op])
    rows[row.op] = row
  end
  return rows, t
end

-- The calls and bytes of all rows: op -> {calls, bytes}.
local function counts(fn, ...)
  local t = {}
  for op, row in pairs(rows_of(fn, ...)) do t[op] = {row.calls, row.bytes} end
  return t
end

describe("profile", function()
  helper.guard(before_each, after_each)

  it("gives a table, then what the function gives", function()
    local function all(...) return select("#", ...), ... end
    local got = table.pack(select(3, profiled(all, 1, nil, 3, nil)))
    assert.same({n = 5, 4, 1, nil, 3}, got)
    assert.equal(2, select("#", profiled(function() end)))
    assert.equal(302, select("#", profiled(table.unpack, {}, 1, 300)))
    local callable = setmetatable({}, {__call = function(_, x) return x + 1 end})
    assert.equal(8, (select(3, profiled(callable, 7))))
  end)

  it("gives rows and prints them lined up, the longest time first", function()
    local x = ready(300, 300)
    local text, t = profiled(function()
      x:matmul(x)
      mg.eval(x:exp():sum())
      mg.tensor{1, 2}:sin()
    end)
    assert.equal(3, #t)
    local lines, sum = {}, 0
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    local column = lines[1]:find "op$"
    assert.equal(#t + 2, #lines)
    assert.equal("calls seconds bytes op", (lines[1]:gsub(" +", " "):gsub("^ ", "")))
    for i, row in ipairs(t) do
      assert.is_true(i == 1 or t[i - 1].time >= row.time)
      assert.same({"integer", "float", "integer"},
        {math.type(row.calls), math.type(row.time), math.type(row.bytes)})
      assert.equal(row.op, lines[i + 1]:sub(column))
      assert.equal(("%d %.6f %d"):format(row.calls, row.time, row.bytes),
        (lines[i + 1]:sub(1, column - 3):gsub(" +", " "):gsub("^ ", "")))
      sum = sum + row.time
    end
    assert.equal(("of %.6f"):format(t.time), lines[#lines]:sub(column))
    assert.equal(("%.6f"):format(sum), lines[#lines]:sub(1, column - 1):match "^ *(%S*) *$")
    assert.is_true(sum > 0 and sum <= t.time)
  end)

  it("knows no time twice", function()
    local x = ready(1e6)
    local rows, t = rows_of(function()
      local y = x
      for _ = 1, 10 do y = y:sin():exp():log() end
      return y:index_select(1, mg.tensor({1, 2}, "int64"))
    end)
    local program = rows["fused: sin exp log (30 ops)"]
    assert.is_true(program.time > rows.index_select.time)
    assert.is_true(program.time + rows.index_select.time <= t.time)
  end)

  it("counts what is computed when called, by op", function()
    local x, y, i = ready(100, 50), ready(50, 20), mg.tensor({3, 1, 2}, "int64")
    local at, row = mg.tensor({{1, 2}, {2, 1}}, "int64"), ready(3, 50)
    local mask, few = mg.tensor({true, false, true}, "bool"), mg.tensor{{1, 2}, {3, 4}}
    assert.same({
      matmul = {2, 2 * 100 * 20 * 8},
      index_select = {2, 3 * 50 * 8 + (8 + 50 * 8) * 2},
      gather = {1, 4 * 8},
      cat = {1, 2 * 100 * 50 * 8},
      cumsum = {1, 100 * 50 * 8},
      argsort = {1, 100 * 50 * 8},
      index_add = {1, 100 * 50 * 8},
      scatter_add = {1, 50 * 20 * 8},
      reshape = {1, 100 * 50 * 8},
      slice = {1, 20 * 8},
      slice_grad = {1, 60 * 20 * 8},
      rand = {1, 10 * 8},
      exp = {2, 20 * 8},
      gt = {1, 10},
      sum = {1, 8},
      to = {1, 10 * 4},
    }, counts(function()
      x:matmul(y)
      x:matmul(y)
      x:index_select(1, i)
      local _ = row[mask]
      y:gather(1, at)
      mg.cat({x, x}, 1)
      x:cumsum(1)
      x:argsort(2)
      x:index_add(1, i, row)
      y:scatter_add(1, at, few)
      x.T:reshape(-1)
      _ = y[1]
      mg._slice_grad(y, {60, 20}, {1, 1}, {1, 1})
      _ = mg.rand(10)
      _:exp():exp():gt(0.5)
      _:sum()
      _:to "float32"
    end))
  end)

  it("counts numbers too, which take no bytes", function()
    local x = mg.Variable(0.5)
    assert.same({mul = {100, 0}, add = {100, 0}, square = {1, 0}, powi = {1, 0}}, counts(function()
      for _ = 1, 100 do x = x * 0.5 + 1 end
      return x ^ 2, x ^ 3
    end))
    assert.same({mul = {100, 0}}, counts(function() x:backward() end))
  end)

  it("does not count what computes nothing", function()
    local x = ready(100, 100)
    assert.same({}, counts(function()
      local y = x:exp() * 2 + mg.ones(100, 100) * 3
      return x.T, x:reshape(-1), x[{{2, 90}}], x:detach(), y:sum(), mg.zeros(5) + 1
    end))
  end)

  it("names a program by its ops, each once; those alike share a row", function()
    local x, y = ready(40, 50), ready(30, 30)
    assert.same({
      ["fused: mul add tanh sum"] = {3, 3 * 8},
      ["fused: mul add tanh (4 ops)"] = {1, 30 * 30 * 8},
      ["fused: add mul"] = {1, 40 * 50 * 8},
      ["fused: add mul (3 ops)"] = {1, 40 * 50 * 8},
      ["fused: rand sub sum"] = {1, 8},
      ["fused: exp sum"] = {1, 40 * 50 * 8 + 8},
      sum = {1, 8},
      exp = {2, 40 * 50 * 8 + 16},
    }, counts(function()
      for i = 1, 3 do mg.eval((x * i + 1):tanh():sum()) end
      mg.eval((y * y + 1):tanh():tanh(), (x + 1) * x)
      mg.eval((x + 1) * x * x)
      mg.eval((mg.rand(1000) - 0.5):sum())
      mg.eval(x:exp(), x:sum())
      mg.eval(x:sum())
      mg.eval(x:exp())
      mg.tensor{1, 2}:exp()
    end))
    local z = x
    for op in ("sin cos exp log1p sqrt tan abs neg ceil sinh"):gmatch "%S+" do z = z[op](z) end
    assert.same({["fused: sin cos exp log1p sqrt tan abs neg (10 ops)"] = {1, 40 * 50 * 8}},
      counts(mg.eval, z))
  end)

  it("has no bytes for a buffer taken over", function()
    local x = ready(1000)
    x = x + 1
    mg.eval(x)
    assert.same({["fused: mul exp"] = {1, 0}}, counts(function()
      x = (x * 2):exp()
      collectgarbage()
      mg.eval(x)
    end))
  end)

  it("tells many programs apart, and has room for all others in one row", function()
    local x = ready(600)
    local names =
      "neg abs sign square sqrt exp log1p sin cos tan atan sinh cosh tanh erf ceil floor"
    local n, all = 0, 0
    local rows, t = rows_of(function()
      for a in names:gmatch "%S+" do
        for b in names:gmatch "%S+" do
          if a ~= b then mg.eval(mg[b](mg[a](x))) end
          n = n + (a ~= b and 1 or 0)
        end
      end
    end)
    for _, row in ipairs(t) do all = all + row.calls end
    assert.equal(n, all)
    assert.equal(256 + 1, #t)
    assert.equal(1, rows["fused: abs tanh"].calls)
    local others = rows["fused: others"]
    assert.same({n - 256, (n - 256) * 4800}, {others.calls, others.bytes})
  end)

  it("counts what backward does", function()
    local W, E = mg.Variable(ready(50, 20)), mg.Variable(ready(1000, 20))
    local i, x = mg.tensor({1, 2, 1}, "int64"), mg.Variable(ready(3, 50))
    local rows = counts(function()
      local loss = (x:matmul(W) * E:index_select(1, i)):sum() + E[{{1, 3}}]:sum()
      loss:backward()
    end)
    assert.same({3, (60 + 150 + 1000) * 8}, rows.matmul)
    assert.same({1, 3 * 20 * 8}, rows.index_select)
    assert.same(1, rows.index_add[1])
    assert.same(1, rows.slice_grad[1])
    assert.is_true(rows.index_add[2] + rows.slice_grad[2] >= 1000 * 20 * 8)
  end)

  it("changes no result", function()
    local x = mg.Variable(ready(100, 30))
    local function run()
      x:cleargrad()
      local y = (x:matmul(x.T):tanh() ^ 2 + x[1][2]):mean()
      y:backward()
      return y:item(), x.grad
    end
    local a, p = run()
    local _, _, b, q = profiled(run)
    assert.equal(a, b)
    assert(helper.same(p, q))
  end)

  it("hands errors on as they are, and is over then", function()
    local err = {code = 7}
    local ok, got = pcall(mg.profile, function() mg.profile(error, err) end)
    assert.is_false(ok)
    assert.is_truthy(tostring(got):find "profile: one is running already")
    ok, got = pcall(mg.profile, error, err)
    assert.is_false(ok)
    assert.is_true(rawequal(err, got))
    local x = ready(100, 100)
    assert.is_false(pcall(mg.profile, function() return x:matmul(mg.ones(7)) end))
    assert.same({}, counts(function() end))
    local line
    local function fails()
      line = debug.getinfo(1, "l").currentline + 1
      error "deep"
    end
    local _, trace = xpcall(mg.profile, debug.traceback, fails)
    assert.is_truthy(trace:find("profile_spec.lua:" .. line .. ": in", 1, true))
  end)

  it("is one at a time; the one that runs is not disturbed", function()
    local x = ready(10)
    assert.same({exp = {2, 160}}, counts(function()
      x:exp()
      assert(raises("profile: one is running already", mg.profile, print))
      x:exp()
    end))
    assert(raises("profile: argument 1 is a number, expected a function", mg.profile, 5))
    assert(raises("profile: argument 1 is a nil, expected a function", mg.profile))
  end)

  it("works in a coroutine, and cannot be carried out of it", function()
    local x = ready(10)
    assert.same({exp = {1, 80}}, coroutine.wrap(counts)(function() x:exp() end))
    local co = coroutine.create(function() mg.profile(coroutine.yield) end)
    assert.is_false(coroutine.resume(co))
    co = coroutine.create(function() mg.profile(error, "dead") end)
    assert.is_false(coroutine.resume(co))
    assert.same({}, counts(function() end))
  end)

  it("survives any allocation that fails", function()
    local x = mg.Variable(ready(40, 50))
    local function program()
      local y = (x:exp() * 2):sum() + x:matmul(x.T):tanh():mean() + x:index_select(1,
        mg.tensor({1, 2}, "int64")):sum()
      x:cleargrad()
      y:backward()
      return x.grad:sum():item()
    end
    local expected, failures = program(), 0
    for n = 1, 400 do
      mg._fail_at(n)
      local got = table.pack(pcall(profiled, program))
      mg._fail_at(0)
      if got[1] then assert.equal(expected, got[4])
      else
        failures = failures + 1
        assert(got[2]:find "out of memory", got[2])
      end
    end
    assert.is_true(failures > 0)
    assert.same({exp = {1, 16}}, counts(function() mg.tensor{1, 2}:exp() end))
  end)
end)

describe("memory by", function()
  helper.guard(before_each, after_each)

  -- What mg.memory{by = by} has more after `before`; and it adds up to all that is live.
  local function more(by, before)
    settle()
    collectgarbage "stop"
    local t, live, sum = mg.memory{by = by}, mg.memory().live, 0
    collectgarbage "restart"
    local d = {}
    for label, bytes in pairs(t) do
      assert.equal("integer", math.type(bytes))
      sum = sum + bytes
      if before and bytes ~= before[label] then d[label] = bytes - (before[label] or 0) end
    end
    assert.equal(live, sum)
    return before and d or t
  end

  local function is(expected, got)
    for label in pairs(got) do assert(expected[label], "there is " .. label) end
    for label, bytes in pairs(expected) do assert(near(bytes, got[label], 0.15)) end
  end

  it("op: each value is the op's that made it, recorded or not", function()
    local before = more "op"
    local x, W = ready(500, 400), mg.Variable(ready(400, 300))
    local h = x:matmul(W)
    local y = mg.no_grad(function() return x:matmul(x.T), x:cumsum(1), mg.cat({x, x}, 1) end)
    is({rand = 500 * 400 * 8, leaf = 400 * 300 * 8, matmul = (500 * 300 + 500 * 500) * 8},
       more("op", before))
    assert.is_truthy(h and y)
  end)

  it("op: data is what no op made, and leaves are leaves after an assignment", function()
    local before = more "op"
    local data = mg.frombytes(("x"):rep(80000), "float64", {10000})
    local range, W = mg.range(1, 20000), mg.Variable(ready(30000))
    is({data = 240000, leaf = 240000}, more("op", before))
    W.data = W.data * 2 + 1
    W[5] = 3
    is({data = 240000, leaf = 240000}, more("op", before))
    assert.is_truthy(data and range)
  end)

  it("op: a program's results are their last op's", function()
    local before = more "op"
    local x = ready(10000)
    local y, z = (x * 2 + 1):tanh(), (x:reshape(100, 100) * 2):sum(1)
    is({rand = 80000}, more("op", before))
    mg.eval(y, z)
    is({rand = 80000, tanh = 80000, sum = 800}, more("op", before))
    x = nil
    is({tanh = 80000, sum = 800}, more("op", before))
    assert.is_truthy(not x and y and z)
  end)

  it("op: a buffer counts once, in full, whoever sees it", function()
    local before = more "op"
    local x = ready(1000, 100)
    local t = {x.T, x[{{1, 500}}], x.data, mg.Variable(x)}
    is({leaf = 800000}, more("op", before))
    t[4] = nil
    is({rand = 800000}, more("op", before))
    x, t = nil, t[2]
    is({rand = 800000}, more("op", before))
    assert.is_truthy(not x and t)
  end)

  it("op: what waits to be computed keeps what it is made of", function()
    local before = more "op"
    local x = ready(10000)
    local y = mg.Variable(x * 2 + mg.Variable(x):exp(), "y")
    x = nil
    is({rand = 80000}, more("op", before))
    mg.eval(y)
    is({leaf = 80000}, more("op", before))
    assert.is_nil(x)
  end)

  it("op: what gradients will read counts, until it is let go", function()
    local before = more "op"
    local x = mg.Variable(ready(10000))
    local loss = (x:cumsum(1) ^ 2):sum() + x:exp():sum()
    mg.eval(loss)
    local d = more("op", before)
    d.sum = nil
    is({leaf = 80000, cumsum = 80000, exp = 80000}, d)
    loss:backward()
    loss = nil
    is({leaf = 80000, add = 80000}, more("op", before))
    assert.is_nil(loss)
  end)

  it("name: values, saved ones too, and gradients are their Variable's", function()
    local before = more "name"
    local W, b = mg.Variable(ready(200, 100), "W"), mg.Variable(mg.zeros(100), "b")
    local x = ready(50, 200)
    x.name = "x"
    is({W = 160000, x = 80000}, more("name", before))
    local h = x:matmul(W) + b
    h.name = "h"
    local y = h:exp()
    local loss = y:square():sum()
    mg.eval(loss, y, h)
    h, y = nil, nil
    is({W = 160000, x = 80000, [""] = 40000}, more("name", before))
    loss:backward()
    loss = nil
    is({W = 160000, ["W.grad"] = 160000, ["b.grad"] = 864, x = 80000}, more("name", before))
    W.grad.name = "dW"
    is({W = 160000, dW = 160000, ["b.grad"] = 864, x = 80000}, more("name", before))
    assert.is_nil(h or y or loss)
  end)

  it("name: a shared buffer is of the one that has a name", function()
    local before = more "name"
    local x = ready(1000)
    local y, z = x[{{2, 900}}], x:reshape(10, 100)
    is({[""] = 8192}, more("name", before))
    y.name = "y"
    is({y = 8192}, more("name", before))
    assert.is_truthy(x and z)
  end)

  it("leaves the collector as it was, and the plain table as it is", function()
    assert.same(mg.memory(), mg.memory{})
    assert.is_nil(mg.memory().op)
    for _, by in ipairs{"op", "name"} do
      mg.memory{by = by}
      assert.is_true(collectgarbage "isrunning")
      collectgarbage "stop"
      mg.memory{by = by}
      local runs = collectgarbage "isrunning"
      collectgarbage "restart"
      assert.is_false(runs)
    end
  end)

  it("knows no other option", function()
    assert(raises("memory: unknown option per", mg.memory, {per = "op"}))
    assert(raises("memory: by must be \"op\" or \"name\"", mg.memory, {by = "line"}))
    assert(raises("memory: option by is a number, expected", mg.memory, {by = 1}))
    assert(raises("memory: argument 1 is a string, expected a table", mg.memory, "op"))
  end)
end)
