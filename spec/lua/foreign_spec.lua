-- C modules of others, by src/moongrad.h alone: values borrowed, made and wrapped; gradients that
-- are final before backward ends, packed in buckets, committed together or not at all.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local counts = helper.counting(it)
local raises = helper.raises

describe("a C module", function()
  local foreign

  setup(function()
    local file = child.path ".so"
    local command = ("gcc -std=gnu11 -Wall -Werror -shared -fPIC -Isrc $(pkg-config --cflags " ..
      "lua5.4) -o %s spec/lua/foreign.c 2>&1"):format(file)
    local pipe <close> = assert(io.popen("env -u LD_PRELOAD " .. command))
    local text = pipe:read "a"
    foreign = assert(package.loadlib(file, "luaopen_foreign"), text)()
  end)

  it("reads values and makes them", function()
    local x = mg.range(1, 6, {dtype = "float32"}):reshape(2, 3)
    local head, bytes = foreign.text(x.T)
    assert.equal("1;3;2;", head)
    assert.equal(string.pack("ffffff", 1, 4, 2, 5, 3, 6), bytes)
    head, bytes = foreign.text(mg.tensor(2.5))
    assert.equal("0;", head)
    assert.equal(string.pack("d", 2.5), bytes)
    assert(helper.same(foreign.count(3, 2, 2), mg.tensor({{0, 1}, {2, 3}}, "uint8")))
    assert.equal(0x0706050403020100, foreign.count(2):item())
    assert.equal(0, foreign.count(0, 0, 5).size)
    assert(raises("dtype 9", foreign.count, 9))
    assert(raises("large", foreign.count, 0, 1 << 40, 1 << 40))
    assert(raises("text: ", foreign.text, "x"))
    assert(raises("refuse: 7 of x", foreign.refuse, "x"))
    assert(foreign.where():find("^spec/lua/foreign_spec.lua:%d+: $"))
    assert.equal(foreign.context(), coroutine.wrap(foreign.context)())
  end)

  it("lends memory, which it gets back", function()
    local x, before = foreign.wrap(1000)
    local y, z = x:reshape(10, 100), x * 2
    assert(helper.same(z, mg.full({1000}, 3.0)))
    mg.assign({x}, {x.data + 1})
    assert.equal(2.5, x[7]:item())
    x, z = nil, nil -- luacheck: ignore
    helper.settle()
    local other, now = foreign.wrap(5) -- luacheck: ignore
    assert.equal(before, now) -- y still sees it
    assert.equal(1.5, y[1][1]:item())
    y, other = nil, nil -- luacheck: ignore
    helper.settle()
    assert.equal(before + 2, select(2, foreign.wrap(1)))
  end)

  counts("whose memory there is no room for keeps it", function()
    helper.settle() -- of those before
    local first, before = foreign.wrap(1) -- luacheck: ignore first
    local made = 0
    for n = 1, 10 do
      mg._fail_at(n, 2)
      local ok, x = pcall(foreign.wrap, 3)
      mg._fail_at(0)
      assert(ok or x:find "memory")
      if ok then made = made + 1 end
    end
    helper.settle()
    assert(made > 0 and made < 10)
    assert.equal(before + made, select(2, foreign.wrap(1)))
  end)

  -- Two layers and a leaf that nothing comes to; the loss
  local function network()
    local leaves = {}
    for k, dims in ipairs{{3, 4}, {4}, {4, 2}, {2}, {5}} do
      leaves[k] = mg.Variable((mg.range(1, mg.ones(dims).size) * k):sin():reshape(dims))
    end
    local function loss(seen)
      local x = mg.range(1, 6, {dtype = "float64"}):reshape(2, 3)
      local h = mg.linear(x, leaves[1].T, leaves[2])
      if seen then h = seen(h) end
      return (mg.linear(h:tanh(), leaves[3].T, leaves[4]) ^ 2):sum()
    end
    return leaves, loss
  end

  local function gradients(leaves, loss)
    for _, v in ipairs(leaves) do v:cleargrad() end
    loss():backward()
    local t = {}
    for k, v in ipairs(leaves) do t[k] = v.grad or false end
    return t
  end

  local function check(got, want)
    for k = 1, 5 do
      if want[k] then assert(helper.same(got[k], want[k])) else assert.equal(want[k], got[k]) end
    end
  end

  it("gets gradients as soon as they are final", function()
    local leaves, loss = network()
    local want = gradients(leaves, loss)
    local steps = {}
    local w <close> = foreign.watch({leaves[4], leaves[3], leaves[2], leaves[1], leaves[5]},
      {2, 2, 1}, steps)
    assert.equal(3, #w)
    local Seen = mg.Function{name = "seen", forward = function(_, x) return x * 1 end,
      backward = function(_, gy) steps[#steps + 1] = "first layer"; return gy end}
    check(gradients(leaves, function() return loss(Seen) end), want)
    assert.same({"begin", "start 0", "first layer", "start 1", "start 2", "wait 0", "wait 1",
      "wait 2"}, steps)
    assert.same({1, 2, 3, 4, 5}, (function(t) table.sort(t) return t end)(w:order()))
    -- what does not reach them is none of its affair, nor gradients for targets
    local n = #steps
    local other = mg.Variable{1, 2}
    ;(other * other):sum():backward()
    mg.gradients(loss(), {leaves[1]})
    assert.equal(n, #steps)
    assert(raises("mg.gradients", function() loss():backward{create_graph = true} end))
    assert(raises("mg.compile", mg.compile(function() loss():backward() end)))
    assert(raises("averaged already", foreign.watch, {leaves[5]}, {1}, steps))
    assert(raises("no tracked leaf", foreign.watch, {mg.ones(2)}, {1}, steps))
    -- retained gradients of what is in between, and a graph used again
    local y = loss()
    y:backward{retain_grad = true, retain_graph = true}
    y:backward()
    check(gradients(leaves, loss), want)
    w:close()
    n = #steps
    check(gradients(leaves, loss), want)
    assert.equal(n, #steps)
    assert(raises("no more", w.order, w))
  end)

  it("that fails, or is failed, leaves everybody's gradients as they were", function()
    for _, fails in ipairs{"begin", "start", "wait", "backward"} do
      local leaves, loss = network()
      local want = gradients(leaves, loss)
      local steps = {}
      -- luacheck: ignore w
      local w <close> = foreign.watch({leaves[4], leaves[3], leaves[2], leaves[1], leaves[5]},
        {2, 2, 1}, steps, fails)
      local Fail = mg.Function{name = "fail", forward = function(_, x) return x * 1 end,
        backward = function() error "here" end}
      local text = fails == "backward" and "here" or "on purpose"
      assert(raises(text, function() loss(fails == "backward" and Fail or nil):backward() end))
      for k, v in ipairs(leaves) do
        if want[k] then assert(helper.same(v.grad, want[k])) else assert.equal(nil, v.grad) end
      end
      if fails == "backward" then -- the others are not left waiting
        assert.same({"begin", "start 0", "give up 1", "give up 2", "wait 0", "wait 1", "wait 2"},
          steps)
      end
    end
  end)

  it("is there to the end of a backward, though all forget of it, and not longer", function()
    local leaves, loss = network()
    local want = gradients(leaves, loss)
    local list = {leaves[4], leaves[3], leaves[2], leaves[1], leaves[5]}
    helper.settle() -- of those before
    local w, before = foreign.watch(list, {2, 2, 1}, {})
    local Forget = mg.Function{name = "forget", forward = function(_, x) return x * 1 end,
      backward = function(_, gy)
        w = nil
        collectgarbage()
        collectgarbage()
        return gy
      end}
    check(gradients(leaves, function() return loss(Forget) end), want)
    assert.equal(nil, w)
    assert(raises("no tracked leaf", foreign.watch, {mg.ones(2)}, {1}, {}))
    collectgarbage()
    local _, after = foreign.watch(list, {5}, {})
    assert.equal(before + 2, after)
  end)

  it("gets all or nothing where memory is short", function()
    local leaves, loss = network()
    local want = gradients(leaves, loss)
    local live = helper.settle()
    local ended
    for n = 1, 400 do
      -- luacheck: ignore w
      local w <close> = foreign.watch({leaves[4], leaves[3], leaves[2], leaves[1], leaves[5]},
        {2, 2, 1}, {})
      for _, v in ipairs(leaves) do v:cleargrad() end
      local y = loss()
      mg._fail_at(n, 2)
      local ok, text = pcall(y.backward, y)
      mg._fail_at(0)
      if ok then
        for k, v in ipairs(leaves) do check({[k] = v.grad or false}, {[k] = want[k]}) end
      else
        assert(text:find "memory", text)
        for _, v in ipairs(leaves) do assert.equal(nil, v.grad) end
      end
      ended = ended or ok and n > 60
    end
    assert(ended)
    for _, v in ipairs(leaves) do v:cleargrad() end
    assert.equal(live, helper.settle())
  end)

  it("needs the table of this version", function()
    local text = child.run [[
      local ok, message = pcall(require, "moongrad.mpi")
      print(ok, message)]]
    assert(text:find("false", 1, true), text) -- moongrad.core was not loaded
  end)
end)
