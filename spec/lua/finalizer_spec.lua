-- Finalizers that come at the worst moments: whatever they free or change, nothing is read that is
-- gone, and nobody gets a value that is another's.
--
-- mg._hostile(fn) calls fn at any moment at which the core's callers have looked something up, or
-- are about to. In the child processes the collector itself runs at every allocation.

local mg = require "moongrad"
local helper = require "spec.helper"
local samples = require "spec.samples"
local child = require "spec.child"

-- fn(...) while act(...) is called at the n-th of its moments: whether there was one, and how fn
-- ended. Variables made in passing, which take the places of those that went, keep their values.
local function hostile(n, act, fn, ...)
  local args, count, others = table.pack(...), 0, {}
  mg._hostile(function()
    count = count + 1
    if count ~= n then return end
    act(table.unpack(args, 1, args.n))
    for i = 1, 8 do others[i] = mg.Variable{7, 8, i} end
  end)
  local got = table.pack(pcall(fn, ...))
  mg._hostile(nil)
  for i, x in ipairs(others) do assert.same({7, 8, i}, x:totable()) end
  return count >= n, table.unpack(got, 1, got.n)
end

local acts = {
  ["frees its operands"] = function(...)
    for _, x in ipairs{...} do x:free() end
  end,
  ["changes their values and grads"] = function(...)
    for _, x in ipairs{...} do
      if not x.creator then x.data = x:clone() end
      x.grad = nil
    end
  end,
  ["collects and makes others"] = function()
    collectgarbage()
    local x = mg.Variable(mg.ones(3))
    local y = (x:exp() * x):sum()
    y:backward()
    mg.tidy(function() return x + 1 end)
  end,
}

-- make() gives operands for fn. At each moment of fn: a clear error or a result, and with memory
-- failing at any time too.
local function survives(make, fn)
  for _, act in pairs(acts) do
    for fail = 0, 2 do
      for n = 1, 1000 do
        local xs = table.pack(make())
        mg._fail_at(fail)
        local more, ok, err = hostile(n, act, fn, table.unpack(xs, 1, xs.n))
        mg._fail_at(0)
        if not ok then
          err = tostring(err)
          assert(err:find "was freed" or err:find "was given a new value since" or
                 fail > 0 and err:find "out of memory", err)
        end
        if not more then break end
      end
    end
  end
end

describe("a finalizer", function()
  helper.guard(before_each, after_each)

  for _, op in ipairs(mg._ops()) do
    local sample = samples[op.name]
    if sample and not sample.random and mg[op.name] then
      it("in the midst of " .. op.name, function()
        survives(function()
          local xs = {}
          for k, input in ipairs(sample.inputs) do
            local boolean = type(input[1]) == "boolean"
            local x = boolean and mg.tensor(input) or mg.tensor(input, sample.dtypes[1])
            xs[k] = x.dtype:find "float" and mg.Variable(x) or x
          end
          return table.unpack(xs)
        end, function(...) return sample.call(mg[op.name], ...) end)
      end)
    end
  end

  local function leaf()
    local x = mg.Variable({{1, 2}, {3, 4}}, "x")
    x.grad = mg.ones(2, 2)
    return x
  end
  local function made()
    local x = leaf()
    return x:exp(), x
  end

  local Twice = mg.Function{
    name = "twice",
    forward = function(_, x, y) return x * 2, y + 1 end,
    backward = function(self, gx, gy) return gx * 2 + self.inputs[1] * 0, gy end,
  }

  it("that is older than a Function finds it freed, and says so", function()
    local problem
    do
      local older = setmetatable({}, {__gc = function(o)
        problem = select(2, pcall(function() return o.creator.inputs end))
      end})
      older.creator = made().creator
    end
    collectgarbage()
    collectgarbage()
    assert.equal("index: this Function was freed", tostring(problem):match "%d+: (.*)")
  end)

  local moments = {
    ["x.data"] = {leaf, function(x) return x.data end},
    ["x.grad"] = {leaf, function(x)
      local g = x.grad
      assert(g == nil or g.ndim == 2, "was freed: another's")
    end},
    ["x.creator and its like"] = {made, function(y)
      local f = y.creator
      return f.inputs, f.outputs, f.name, y.T, y.shape, y.name
    end},
    ["assigning x.data"] = {leaf, function(x) x.data = {{5, 6}, {7, 8}} end},
    ["assigning x.data a Variable"] = {function() return leaf(), leaf() end,
                                       function(x, y) x.data = y * 2 end},
    ["assigning x.grad"] = {function() return leaf(), mg.ones(2, 2):to "float32" end,
                            function(x, g) x.grad = g end},
    ["names and creators"] = {made, function(y, x)
      x.name = "other"
      local z = mg.ones(2, 2)
      z:set_creator(y.creator)
      y:unchain_backward()
    end},
    ["comparing"] = {function() return mg.Variable(1.0), mg.tensor{2.0} end,
                     function(x, y) return x < y, x == y end},
    ["reading"] = {leaf, function(x)
      return x[{1, 2}]:item(), x:totable(), tostring(x), x:tobytes()
    end},
    ["indexing"] = {function()
      return leaf(), mg.tensor({2, 1}, "int64"), mg.tensor{true, false}
    end, function(x, i, m) return x[i], x[m], x[{{}, {1, 2}}] end},
    ["indexing by a 0-d one"] = {function() return leaf(), mg.tensor(1, "int64") end,
                                 function(x, i) return x[i] end},
    ["writing"] = {function() return leaf(), mg.tensor({2, 1}, "int64"), mg.ones(2) end,
                   function(x, i, v) x[1] = v; x[i] = v; x[{1, 1}] = 3 end},
    ["copying"] = {leaf, function(x)
      return x:clone(), x:detach(), mg.Variable(x), mg.tensor(x)
    end},
    ["assign"] = {function() return leaf(), mg.Variable(2.0) end,
                  function(x, y) mg.assign({x, y}, {x * 2, 3}) end},
    ["eval"] = {made, mg.eval},
    ["cat and stack"] = {made, function(x, y) return mg.cat({x, y}, 1), mg.stack{x, y} end},
    ["max and sort"] = {leaf, function(x) return mg.max(x, 1), mg.sort(x) end},
    ["backward"] = {made, function(y) y:backward{create_graph = true} end},
    ["gradients"] = {made, function(y, x) return mg.gradients(y, {x, y}) end},
    ["a Function"] = {made, function(x, y)
      local u, v = Twice(x, y)
      ;(u * v):backward()
    end},
    ["a checkpoint"] = {made, function(x, y)
      mg.checkpoint(function(a, b) return a * b, b:sum() end, x, y):backward()
    end},
  }
  for name, moment in pairs(moments) do
    it("in the midst of " .. name, function() survives(table.unpack(moment)) end)
  end

end)

describe("the collector at every allocation", function()
  local PRELUDE = [[
      local mg = require "moongrad"
      local act, n, count = nil, 0, 0
      local function arm()
        setmetatable({}, {__gc = function()
          count = count + 1
          if act and count == n then act() end
          arm()
        end})
      end
      arm()
      collectgarbage("incremental", 1, 1000, 63)
      collectgarbage()
      -- fn(make()) with act at each of its allocations
      function try(make, fn, what)
        for k = 1, 1000 do
          local xs, others = table.pack(make()), {}
          act = function()
            what(table.unpack(xs, 1, xs.n))
            for i = 1, 4 do others[i] = mg.Variable{7, 8, i} end
          end
          n, count = k, 0
          local ok, err = pcall(fn, table.unpack(xs, 1, xs.n))
          act = nil
          assert(ok or tostring(err):find "was freed", err)
          for i, x in ipairs(others) do assert(#x == 3 and x[3]:item() == i, "another's") end
          if count < k then break end
        end
      end
      function free(...) for _, x in ipairs{...} do x:free() end end
  ]]

  local function ends_well(program)
    local text, ok = child.run(program)
    assert(ok, text)
    assert.equal("", text)
  end

  it("lets properties be what they were, or are", function()
    ends_well(PRELUDE .. [[
      try(function()
        local x = mg.Variable{1, 2}
        x.grad = mg.tensor{3, 4}
        return x
      end, function(x)
        local g = x.grad
        assert(g == nil or #g == 2, "another's grad")
      end, function(x) x.grad = nil end)
      try(function() return mg.Variable{1, 2}:exp() end,
          function(y) return y.creator, y.T, y.data, y.shape end,
          function(y) y:unchain(); y:free() end)
    ]])
  end)

  it("frees operands of ops, and of backward", function()
    ends_well(PRELUDE .. [[
      local function two() return mg.Variable{{1, 2}, {3, 4}}, mg.Variable{{5, 6}, {7, 8}} end
      try(two, function(x, y) return x * y + 1, x:matmul(y), x:sum(1), x[1] end, free)
      try(two, function(x, y) return mg.cat({x, y}, 1), mg.where(x:gt(y), x, y) end, free)
      try(two, function(x, y)
        mg.assign({x, y}, {y * 1, x * 1})
        return tostring(x), y:totable()
      end, free)
      try(two, function(x, y) (x * y):sum():backward(); return x.grad, y.grad end, free)
      try(two, function(x, y) return mg.gradients((x * y):sum(), {x, y}) end, free)
    ]])
  end)

  it("comes when memory is short", function()
    ends_well [[
      local mg = require "moongrad"
      for i = 1, 40 do
        local x, y, other = mg.Variable(mg.rand(200, 200)), mg.rand(200, 200), nil
        mg.eval(x, y)
        setmetatable({}, {__gc = function()
          pcall(function() x:free(); other = mg.Variable{1, 2, 3} end)
        end})
        mg.memory_limit(mg.memory().live + 1000)
        pcall(function() x.data = y * 2 end)
        mg.memory_limit(1 << 50)
        assert(other == nil or #other == 3, "other holds x's values")
        collectgarbage()
      end
    ]]
  end)
end)
