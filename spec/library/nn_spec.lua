-- Modules: how their parameters are found, named, saved and loaded; and the layers.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local near, raises = helper.near, helper.raises
local nn = mg.nn

local function names(model)
  local list = {}
  for name in model:named_parameters() do list[#list + 1] = name end
  return list
end

describe("nn.Module", function()
  helper.guard(before_each, after_each)

  local Net = nn.Module:extend("Net")

  function Net:init(inputs, outputs)
    self.l2 = nn.Linear(4, outputs)
    self.l1 = nn.Linear(inputs, 4)
    self.scale = nn.Parameter(mg.ones(1))
  end

  function Net:forward(x) return self.l2(mg.relu(self.l1(x))) * self.scale end

  it("finds what stands in tables by name, and checks hooks and schedules", function()
    local M = nn.Module:extend("M")
    function M:init()
      self.parts = {enc = nn.Linear(2, 3), dec = nn.Linear(3, 2)}
      self.sizes = {a = 1, b = 2}
    end
    assert.same({"parts.dec.bias", "parts.dec.weight", "parts.enc.bias", "parts.enc.weight"},
      names(M()))
    local opt = mg.optim.SGD(M())
    assert(raises("add_hook: argument 1 is a number, expected a function", opt.add_hook, opt, 3))
    assert(raises("clip_grad: argument 1 is a nil, expected a number", mg.optim.clip_grad))
    assert(raises("freeze: argument 1 is a nil, expected a", mg.optim.freeze))
    assert(raises("cosine: argument 1 is a M, expected an optimizer", mg.optim.cosine, M(), 10))
  end)

  it("finds what stands beside numbers and texts, in small tables and large", function()
    for _, beside in ipairs{{name = "conv", kind = "2d", size = 3}, {0.5}, {true, "fc"}} do
      local t = table.move(beside, 1, #beside, 1, {})
      for k, v in pairs(beside) do t[k] = v end
      t[#t + 1] = nn.Linear(2, 3)
      t.last = nn.Linear(2, 3)
      local model = nn.Module:extend "Mixed"()
      model.block = t
      assert.equal(4, #model:parameters())
      local path = "block." .. #t - 1 .. ".weight"
      assert.same({3, 2}, model:state()[path].shape)
      assert.equal(4, #model:clone():parameters())
      assert.same({3, 2}, mg.grad(function(m) return m.block.last.weight:sum() end)(model)
        .block.last.weight.shape)
    end
    local model, words = nn.Module:extend "Words"(), {}
    for i = 1, 1000 do words[i] = "word" end
    model.words = words
    assert.equal(0, #model:parameters())
    words[1001] = nn.Linear(2, 3)
    assert.equal(2, #model:parameters())
  end)

  it("has a Variable of its own for a parameter, frozen too", function()
    local Own = nn.Module:extend "Own"
    function Own:init() self.w, self.parts = mg.Variable{1, 2}, {mg.Variable{3}} end
    local model = Own()
    model.w.requires_grad = false
    assert.same({"parts.0", "w"}, names(model))
    model = Own():freeze()
    assert.same({"parts.0", "w"}, names(model))
    assert.same({1, 2}, model:state().w:totable())
    assert.same({"parts.0", "w"}, names(model:clone():to "float32"))
    model:load_state{w = mg.tensor{4, 5}, ["parts.0"] = mg.tensor{6}}
    assert.same({4, 5}, model.w:totable())
    assert.is_true(model:freeze(false).parts[1].requires_grad)
  end)

  it("has layers under names and whole numbers", function()
    for key, what in pairs{[0.5] = nn.Linear(2, 2), [true] = nn.Parameter{1}} do
      local model = nn.Module:extend "Odd"()
      model.by = {[key] = what}
      assert(raises("parameters: a " .. (key == true and "parameter" or "Linear") ..
        " stands under the key " .. tostring(key), model.parameters, model))
      model.by = {[key] = {1, 2}, [3] = nn.Linear(2, 2)}
      assert.equal(2, #model:parameters())
    end
  end)

  it("has no field of no name", function()
    local layer = nn.Linear(2, 3)
    local function set(k) return function() layer[k] = 1 end end
    assert(raises("Linear: nil names no field", set(nil)))
    assert(raises("nan names no field", set(0 / 0)))
    layer = mg.data.TensorDataset(mg.ones(4, 2))
    assert(raises("TensorDataset: nil names no field", set(nil)))
    layer = mg.data.Dataset:extend "Mine"
    assert(raises("Mine: nil names no field", set(nil)))
    assert(raises("nan names no field", set(0 / 0)))
  end)

  it("is extended with init and forward, made with arguments, called", function()
    local net = Net(3, 2)
    assert.same({5, 2}, net(mg.rand(5, 3)).shape)
    assert.is_truthy(tostring(net):find("^Net"))
  end)

  it("without an init takes no arguments", function()
    local Twice = nn.Module:extend "Twice"
    function Twice.forward(_, x) return 2 * x end
    assert(near(Twice()(mg.ones(1)), {2}))
    assert(raises("Twice: takes no arguments: it has no init", Twice, 3))
    function Twice:__init() self.factor = 2 end
    assert(raises("Twice: __init is never called; it is init", Twice))
    assert(raises("Optimizer: takes no arguments", mg.optim.Optimizer, {mg.Variable(1)}))
    assert.equal("Dataset", tostring(mg.data.Dataset()))
    assert.equal("Optimizer()", tostring(mg.optim.Optimizer()))
  end)

  it("finds parameters by their fields, in order of names", function()
    assert.same({"l1.bias", "l1.weight", "l2.bias", "l2.weight", "scale"}, names(Net(3, 2)))
  end)

  it("finds them in arrays, counted from 0 as PyTorch's", function()
    local Stack = nn.Module:extend("Stack")
    function Stack:init()
      self.layers = {nn.Linear(2, 2), {nn.Linear(2, 3)}}
      self.sizes = {2, 2, 3}
      self.note = "not a parameter"
      self.constant = mg.ones(3)
    end
    assert.same({"layers.0.bias", "layers.0.weight", "layers.1.0.bias", "layers.1.0.weight"},
      names(Stack()))
  end)

  it("gives parameters as an array that can be walked", function()
    local net, n = Net(3, 2), 0
    assert.equal(5, #net:parameters())
    for p in net:parameters() do
      assert.is_true(p.requires_grad)
      n = n + 1
    end
    assert.equal(5, n)
  end)

  it("gives parameters that loops in each other walk", function()
    local list, n = Net(3, 2):parameters(), 0
    for p in list do
      for q in list do n = n + (p == q and 1 or 100) end
      for q in list do
        if q then break end
      end
    end
    assert.equal(#list + 100 * #list * (#list - 1), n)
  end)

  it("counts a shared parameter once, a frozen one still", function()
    local net = Net(4, 4)
    net.l2.weight = net.l1.weight
    net.l1.bias.requires_grad = false
    assert.same({"l1.bias", "l1.weight", "l2.bias", "scale"}, names(net))
  end)

  it("clears all gradients", function()
    local net = Net(3, 2)
    net(mg.rand(5, 3)):sum():backward()
    for p in net:parameters() do assert.is_truthy(p.grad) end
    net:cleargrads()
    for p in net:parameters() do assert.is_nil(p.grad) end
  end)

  it("has no parameters in its class, where they would not be trained", function()
    local told = "Net: %s stands in the class, not in its objects: make it in init, self.%s"
    for name, v in pairs{w = nn.Parameter{1, 2}, leaf = mg.Variable(1), late = nn.Linear(2),
                         layer = nn.Linear(2, 2), layers = {{nn.ReLU(), nn.Linear(2, 2)}}} do
      local Class = nn.Module:extend "Net"
      Class[name] = v
      assert(raises(told:format(name, name), Class))
      assert(raises(told:format(name, name), Class:extend "Other"))
      function Class:init() self[name] = nn.Linear(2, 2) end
      assert.equal(2, #Class():parameters())
    end
    local Class = nn.Module:extend "Net"
    Class.layers = {}
    function Class:init() self.layers[1] = nn.Linear(2, 2) end
    assert(raises(told:format("layers", "layers"), Class))
    Class = nn.Module:extend "Net"
    Class.act, Class.constant, Class.teacher = nn.ReLU(), mg.ones(2), nn.Linear(2, 2):freeze()
    Class.part, Class.sizes, Class.fns, Class.bases = nn.Linear, {1, {2}}, {mg.relu}, {nn.Linear}
    assert.equal(0, #Class():parameters())
    Class = nn.Module:extend "Net"
    Class.all = {}
    function Class:init()
      self.layer = nn.Linear(2, 2)
      Class.all[#Class.all + 1], Class.last = self, self
    end
    for _, class in ipairs{Class, Class:extend "Other", Class} do
      assert.equal(2, #class():parameters())
    end
  end)

  it("has nothing in its class that hides a method, or a mode of its own", function()
    for name, v in pairs{state = {}, parameters = 3, save = "model.npz", training = true,
                         requires_grad = false} do
      for _, above in ipairs{nn.Module, nn.ReLU, nn.Module:extend "Base"} do
        local Class = above:extend "Net"
        Class[name] = v
        assert(raises("Net." .. name .. ": ", Class))
        assert(raises("Net." .. name .. ": ", Class:extend "Other"))
      end
    end
    local Class = nn.Module:extend "Net"
    function Class.state() return 7 end
    function Class.training() return 8 end
    assert.equal(7, Class():state())
    assert.equal(8, Class():training())
    local Twice = mg.Function{name = "twice", forward = function(_, _, x) return x * 2 end,
      backward = function(_, gy) return gy * 2 end}
    Class.forward = Twice
    assert.equal(6, Class()(mg.tensor(3)):item())
    local object = nn.Module:extend "Other" ()
    object.forward = Twice
    assert.equal(6, object(mg.tensor(3)):item())
  end)

  it("has a state that later training leaves alone", function()
    local net = Net(3, 2)
    local state = net:state()
    local old = state.scale:item()
    net.scale.data = net.scale.data + 1
    assert.equal(old, state.scale:item())
    net:load_state(state)
    assert.equal(old, net.scale:item())
  end)

  it("includes buffers in its state, not among its parameters", function()
    local net = Net(3, 2)
    net.mean = nn.Buffer(mg.zeros(4))
    assert.equal(5, #net:parameters())
    assert.is_truthy(net:state().mean)
  end)

  it("tells all that is wrong with a state at once, and takes nothing of it", function()
    local net = Net(3, 2)
    local state = net:state()
    state["l1.bias"] = mg.ones(7)
    state["l2.bias"] = nil
    state.extra = mg.ones(1)
    state.scale = mg.full({1}, 5)
    assert(raises("load_state: extra is unexpected; l1.bias is (7), expected (4); " ..
      "l2.bias is missing", net.load_state, net, state))
    assert.equal(1, net.scale:item())
    assert(raises("load_state: argument 1 is a number, expected a table", net.load_state, net, 3))
  end)

  it("tells of a layer that waits for its first input and finds nothing in the state", function()
    local state = nn.Linear(3, 4):state()
    for made, name in pairs{
      [nn.Linear(2)] = "weight", [nn.Conv2d(2, 3)] = "weight", [nn.BatchNorm()] = "weight",
      [nn.BatchNorm{affine = false}] = "running_mean", [nn.LayerNorm()] = "weight",
      [nn.GroupNorm(1)] = "weight", [nn.LSTM(2)] = "weight_ih_l0", [nn.GRUCell(2)] = "weight_ih",
    } do
      local model = nn.Sequential(nn.Linear(4), made)
      local both = {["0.weight"] = state.weight, ["0.bias"] = state.bias}
      assert(raises("load_state: 1." .. name .. " is missing", model.load_state, model, both))
      assert.is_nil(model[1].weight)
      local _, report = model:load_state(both, {strict = false})
      assert.same({"1." .. name}, report.missing)
      assert.equal("(4, 3)", tostring(model[1].weight.shape))
    end
    local shared = nn.Linear(4)
    local twice = nn.Sequential(shared, shared)
    twice:load_state{["0.weight"] = state.weight, ["0.bias"] = state.bias}
    assert(helper.same(shared.weight, state.weight))
  end)

  it("takes what fits of a state that is not strict, and tells the rest", function()
    local net, other = Net(3, 2), Net(3, 2)
    local state = other:state()
    state["l1.bias"], state["l2.bias"], state.extra = mg.ones(7), nil, mg.ones(1)
    local bias = net.l1.bias.data
    local got, report = net:load_state(state, {strict = false})
    assert.equal(net, got)
    assert.same({missing = {"l2.bias"}, unexpected = {"extra"}, mismatched = {"l1.bias"}}, report)
    assert(helper.same(net.l1.weight.data, other.l1.weight.data))
    assert(helper.same(net.l1.bias.data, bias))
    assert(raises("load_state: unknown option strct", net.load_state, net, state, {strct = false}))
    assert(raises("load_state: option strict is a number", net.load_state, net, state,
      {strict = 0}))
    assert(raises("load_state: extra is unexpected", net.load_state, net, state, {made = "by us"}))
    local path = child.folder() .. "/net.safetensors"
    mg.save(path, state)
    assert.same({"extra"}, select(2, net:load(path, {strict = false})).unexpected)
    local head = nn.Sequential(nn.Linear(4), nn.Linear(9))    -- sizes yet unknown
    report = select(2, head:load_state(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)):state(),
      {strict = false}))
    assert.same({"1.bias", "1.weight"}, report.mismatched)
    assert.same({9, 4}, head[2].weight.shape)
  end)

  it("takes no two values for one parameter of two names", function()
    local net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[2].weight = net[1].weight
    local state = net:state()
    state["0.weight"], state["1.weight"] = mg.full({2, 2}, 3), mg.full({2, 2}, 7)
    local text = "1.weight is the same parameter as 0.weight and has another value"
    local weight = net[1].weight.data
    assert(raises("load_state: " .. text, net.load_state, net, state))
    local _, report = net:load_state(state, {strict = false})
    assert.same({"1.weight"}, report.mismatched)
    assert(helper.same(mg.full({2, 2}, 3), net[2].weight.data))
    for _, v in ipairs{2, 0 / 0} do
      state["0.weight"], state["1.weight"] = mg.full({2, 2}, v), mg.full({2, 2}, v)
      net:load_state(state)
    end
    state["0.weight"] = nil
    state["1.weight"] = weight
    net:load_state(state)
    assert(helper.same(weight, net[1].weight.data))
  end)

  it("is saved and loaded", function()
    local path = child.folder() .. "/net.safetensors"
    local a, b = Net(3, 2), Net(3, 2)
    local x = mg.rand(5, 3)
    a:save(path)
    assert.is_false(mg.allclose(a(x), b(x)))
    assert.equal(b, b:load(path))
    assert(helper.same(a(x).data, b(x).data))
  end)

  it("is loaded before its layers know their sizes", function()
    local path = child.folder() .. "/net.npz"
    local a, b = nn.MLP{4, 2}, nn.MLP{4, 2}
    local x = mg.rand(5, 3)
    a(x)
    a:save(path)
    local state = a:state()
    state.extra = mg.ones(1)
    assert(raises("load_state: extra is unexpected", b.load_state, b, state))
    assert.same({}, names(b))
    b:load(path)
    assert(helper.same(a(x).data, b(x).data))
  end)

  it("converts its floats", function()
    local net = Net(3, 2)
    assert.equal(net, net:to("float32"))
    for p in net:parameters() do assert.equal("float32", p.dtype) end
    assert.equal("float32", net(mg.rand{5, 3, dtype = "float32"}).dtype)
    assert(raises("to: dtype must be ", net.to, net, "int64"))
  end)

  it("is not made with results in its parameters' places", function()
    local Scale = nn.Module:extend "Scale"
    function Scale:init(make) self.w = make() end
    function Scale:forward(x) return x * self.w end
    local random = mg.get_rng_state()
    for op, make in pairs{
      mul = function() return 0.1 * nn.Parameter(mg.randn(3)) end,
      to = function() return mg.Variable{1, 2}:to "float32" end,
      neg = function() return -(mg.Variable(1) + mg.ones(2)) end,
    } do
      assert(raises(("Scale: w is the result of %s, not a parameter, and would not be trained")
        :format(op), Scale, make))
    end
    assert.same(random, mg.get_rng_state())
    assert.equal(1, #Scale(function() return nn.Parameter(0.1 * mg.randn(3)) end):parameters())
    assert.equal(0, #Scale(function() return 0.1 * mg.randn(3) end):parameters())
    local older = mg.Variable{1, 2}                -- a net may be of what another gave
    local g = mg.grad(function(v)
      return Scale(function() return v * 2 end)(older):sum()
    end)(mg.ones(2))
    assert.same({2, 4}, g:totable())
    assert.equal("mul", Scale(function() return older * mg.Variable(2) end).w.creator.name)
  end)

  it("takes Config.dtype for its parameters", function()
    local net = mg.using_config("dtype", "float32", Net, 3, 2)
    for p in net:parameters() do assert.equal("float32", p.dtype) end
    local late = mg.using_config("dtype", "float32", nn.Linear, 2)
    late(mg.rand{5, 3, dtype = "float32"})
    assert.equal("float32", late.weight.dtype)
  end)

  it("are not left at the size of an input that failed", function()
    for _, row in ipairs{                         -- a layer, what it cannot take, what it can
      {nn.Conv2d(2, 3), {mg.rand(1, 9, 9, 1)}, {mg.rand(1, 1, 9, 9)}},
      {nn.Conv1d(2, 3, {padding = 2, padding_mode = "reflect"}), {mg.rand(9, 1)}, {mg.rand(1, 9)}},
      {nn.ConvTranspose2d(2, 3), {mg.rand(1, 9, 9, 0)}, {mg.rand(1, 1, 9, 9)}},
      {nn.BatchNorm(), {mg.rand(1, 5)}, {mg.rand(5, 1)}},
      {nn.GRU(2), {mg.rand(3, 2, 4), mg.rand(1, 3, 2)}, {mg.rand(4, 2, 3), mg.rand(1, 2, 2)}},
      {nn.LSTM(2), {mg.rand(2, 4), mg.rand(1, 3), mg.rand(1, 3)}, {mg.rand(4, 2)}},
      {nn.RNNCell(2), {mg.rand(3, 4), mg.rand(4, 2)}, {mg.rand(4, 3), mg.rand(4, 2)}},
    } do
      local layer, wrong, right = table.unpack(row)
      local before, said = mg.get_rng_state(), tostring(layer)
      local twin, opt = layer:clone(), mg.optim.SGD(nn.Sequential(layer), {lr = 1})
      assert(not pcall(layer, table.unpack(wrong)))
      assert(not pcall(mg.compile(layer), table.unpack(wrong)))
      assert.equal(said, tostring(layer))
      assert.same({}, names(layer))
      assert.same(before, mg.get_rng_state())
      mg.seed(1)
      local y = layer(table.unpack(right))
      mg.seed(1)
      assert(helper.same(twin(table.unpack(right)), y))
      local p = layer:parameters()[1]
      local value = p.data
      y:square():sum():backward()
      opt:step()
      assert(not helper.same(value, p.data) or p.grad:abs():max():item() < 1e-9)
    end
    local half = nn.Linear:extend "Half"          -- its own forward runs once
    local calls = 0
    function half:forward(x)
      calls = calls + 1
      return nn.Linear.forward(self, x / 2)
    end
    local net = half(3)
    mg.seed(1)
    local y = net(mg.ones(1, 2))
    assert.equal(1, calls)
    assert(helper.same(y, net(mg.ones(1, 2))))
  end)

  it("is told when something else takes a parameter's place", function()
    local l = nn.Linear(2, 2)
    l.weight = l.weight * 0.1
    local told = "weight was a parameter and is the result of mul now: assign its values, " ..
      "weight.data = x, or make the new one by nn.Parameter(x)"
    assert(raises(told, l.parameters, l))
    assert(raises(told, l.state, l))
    assert(raises(told, function() mg.optim.SGD(l, {lr = 1}):step() end))
    l.weight = mg.zeros(2, 2)
    assert(raises("weight was a parameter and is a constant now", l.cleargrads, l))
    l.weight = nn.Parameter(mg.zeros(2, 2))
    assert.same({"bias", "weight"}, names(l))
    for now, values in pairs{["a number"] = 0, ["a table of numbers"] = {{1, 2}, {3, 4}}} do
      told = ("weight was a parameter and is %s now"):format(now)
      l.weight = values
      assert(raises(told, l.parameters, l))
      assert(raises(told, l.state, l))
      assert(raises(told, function() mg.optim.SGD(l, {lr = 1}):step() end))
    end
    l.weight = {nn.Parameter(mg.zeros(2)), nn.Parameter(mg.zeros(2))}
    assert.same({"bias", "weight.0", "weight.1"}, names(l))
    l.weight = nn.Parameter(mg.zeros(2, 2))
    local norm = nn.Sequential(nn.BatchNorm(2))
    norm[1].running_mean = {0, 0}
    assert(raises("0.running_mean was a buffer and is a table of numbers now", norm.state, norm))
    local net = nn.Sequential(l)
    net[1].bias = mg.zeros(2)
    assert(raises("0.bias was a parameter", net.state, net))
    l.bias = nil
    assert.same({"weight"}, names(l))
    l.bias = mg.zeros(2)
    assert.same({"weight"}, names(l))
    local list = nn.Module:extend("List")()
    list.all = {nn.Parameter(mg.ones(1))}
    assert.same({"all.0"}, names(list))
    list.all[1] = list.all[1] * 2
    assert(raises("all.0 was a parameter", names, list))
  end)

  it("is told so in copies and in layers that have just found their sizes, too", function()
    local late = nn.Linear(2)
    late(mg.ones(1, 2))
    late.weight = mg.zeros(2, 2)
    assert(raises("weight was a parameter and is a constant now", names, late))
    local copy = nn.Linear(2, 2):clone()
    copy.weight = copy.weight * 0.1
    assert(raises("weight was a parameter and is the result of mul now", names, copy))
    local norm = nn.Sequential(nn.BatchNorm(2)):clone()
    norm[1].running_mean = mg.ones(2)              -- a buffer's new value is one
    assert.equal(1, norm:state()["0.running_mean"][1]:item())
    local list = nn.Module:extend("List")()
    list.all = {nn.Parameter(mg.ones(1))}
    list = list:clone()
    list.all[1] = mg.ones(1)
    assert(raises("all.0 was a parameter", names, list))
  end)

  it("calls every hook, whichever are added and taken away meanwhile or twice", function()
    local layer, called = nn.Linear(1, 1), {}
    local function count(name) called[name] = (called[name] or 0) + 1 end
    local off
    off = layer:add_hook("forward", function()
      count "once"
      off()
      layer:add_hook("forward", function() count "later" end)
    end)
    layer:add_hook("forward", function() count "always" end)
    layer(mg.ones(1))
    assert.same({once = 1, always = 1}, called)
    layer(mg.ones(1))
    assert.same({once = 1, always = 2, later = 1}, called)
    layer, called = nn.Linear(1, 1), {}
    off = layer:add_hook("forward", function() count "first" end)
    off()
    layer:add_hook("forward", function() count "second" end)
    off()
    layer(mg.ones(1))
    assert.same({second = 1}, called)
  end)

  it("has buffers that take new values", function()
    local Count = nn.Module:extend("Count")
    function Count:init() self.n = nn.Buffer(mg.zeros(1)) end
    function Count:forward(x)
      self.n = self.n + 1
      return x
    end
    local m = Count()
    m(1)
    m(1)
    assert.equal(2, m:state().n:item())
    assert.equal(2, Count():load_state(m:state()).n:item())
    m.n = mg.Variable{1} * 2
    assert(raises("n was a buffer and is the result of mul now", m.state, m))
  end)

  it("has no mode of its own", function()
    local l = nn.Linear(2, 2)
    assert(raises("Linear.train: a module has no mode of its own; modes come from mg.Config.train",
      function() l.train = false end))
    assert(raises("Linear.requires_grad: only Variables have it; model:freeze()",
      function() l.requires_grad = false end))
    l.train = "what it is trained on"
    assert.equal("what it is trained on", l.train)
  end)

  it("is frozen and thawed", function()
    local net = nn.Sequential(nn.Linear(2, 2), mg.relu)
    assert.equal(net, net:freeze())
    assert.is_false(net(mg.ones(1, 2)).requires_grad)
    assert.equal(2, #net:parameters())
    net:freeze(false)
    assert.is_true(net(mg.ones(1, 2)).requires_grad)
  end)

  it("is cloned: its own parameters and buffers, as shared as they were", function()
    local net = nn.Sequential(nn.Linear(2, 2), mg.relu, nn.Linear(2, 2), nn.BatchNorm(2))
    net[3].weight = net[1].weight
    net[1].bias.requires_grad = false
    net[1].weight.name = "W"
    net.sizes = {2, 2}
    local copy = net:clone()
    local x = mg.rand(3, 2)
    mg.test_mode(function() assert(helper.same(net(x), copy(x))) end)
    assert.equal(copy[1].weight, copy[3].weight)
    assert.equal("W", copy[1].weight.name)
    assert.is_false(copy[1].bias.requires_grad)
    assert.equal(net.sizes, copy.sizes)
    assert.equal(#net:parameters(), #copy:parameters())
    local before = net[4].running_mean:clone()
    copy(mg.rand(3, 2))
    copy[1].weight.data = mg.zeros(2, 2)
    assert(helper.same(before, net[4].running_mean))
    assert.is_true(net[1].weight:abs():sum():item() > 0)
  end)

  it("without a forward says so", function()
    local Idle = nn.Module:extend("Idle")
    assert(raises("Idle: no forward method", Idle(), 1))
  end)
end)

describe("nn", function()
  helper.guard(before_each, after_each)

  it("Linear: x W' + b", function()
    local l = nn.Linear(3, 2)
    assert.same({2, 3}, l.weight.shape)
    assert.same({2}, l.bias.shape)
    local x = mg.rand(5, 3)
    assert(near(l(x), x:matmul(l.weight.T) + l.bias))
    assert.same({4, 5, 2}, l(mg.rand(4, 5, 3)).shape)
    assert.is_nil(nn.Linear(3, 2, {bias = false}).bias)
    assert(raises("Linear: out_features must be at least 1, got 0", nn.Linear, 3, 0))
    local late = nn.Linear(2)
    assert(raises("Linear: x must be a Variable whose last axis", late, mg.tensor(1)))
    assert(raises("Linear: x must be a Variable whose last axis", late, {1, 2}))
    assert(raises("Linear: in is 0", late, mg.ones(2, 0)))
    assert.same({2}, late(mg.ones(3)).shape)
    assert(raises("Linear: unknown option biass", nn.Linear, 3, 2, {biass = false}))
  end)

  it("Linear starts within 1/sqrt(inputs), as PyTorch's", function()
    mg.seed(0)
    local l = nn.Linear(100, 200)
    for _, p in ipairs{l.weight, l.bias} do
      assert.is_true(p:max() <= 0.1 and p:min() >= -0.1)
    end
    assert(near(l.weight.data:std(), 0.1 / math.sqrt(3), 0.02))
  end)

  it("convolutions: the op with weight and bias, sized as PyTorch's", function()
    local c = nn.Conv2d(4, 6, {3, 2}, {stride = 2, padding = {1, 0}, groups = 2})
    assert.same({6, 2, 3, 2}, c.weight.shape)
    assert.same({6}, c.bias.shape)
    local x = mg.randn(2, 4, 7, 8)
    assert(helper.same(c(x), mg.conv2d(x, c.weight, c.bias, {stride = 2, padding = {1, 0},
      groups = 2})))
    local same = nn.Conv1d(5, 3, {padding = "same", dilation = 2})
    assert.same({2, 5, 9}, same(mg.ones(2, 3, 9)).shape)
    assert.same({5, 4, 4, 4}, nn.Conv3d(3, 5, 2, {bias = false})(mg.ones(3, 5, 5, 5)).shape)
    local t = nn.ConvTranspose2d(4, 6, 3, {stride = 2, output_padding = 1, groups = 2})
    assert.same({4, 3, 3, 3}, t.weight.shape)
    assert.same({6}, t.bias.shape)
    assert(helper.same(t(x), mg.conv_transpose2d(x, t.weight, t.bias, {stride = 2,
      output_padding = 1, groups = 2})))
    assert.same({1, 2, 12}, nn.ConvTranspose1d(3, 2, 4, {stride = 2})(mg.ones(1, 3, 5)).shape)
    assert.is_nil(nn.Conv1d(2, 2, 1, {bias = false}).bias)
  end)

  it("convolutions start within 1/sqrt(fan_in), as PyTorch's", function()
    mg.seed(0)
    for _, case in ipairs{{nn.Conv2d(4, 200, 5), 100}, {nn.ConvTranspose1d(50, 4, 25), 100},
      {nn.Conv1d(8, 100, 10, {groups = 4}), 20}} do
      local bound = 1 / math.sqrt(case[2])
      assert.is_true(case[1].weight:abs():max():item() <= bound)
      assert.is_true(case[1].bias:abs():max():item() <= bound)
      assert(near(case[1].weight.data:std(), bound / math.sqrt(3), 0.03))
    end
  end)

  it("convolutions find their channels, from an input or a file", function()
    local path = child.path ".safetensors"
    for _, case in ipairs{{nn.Conv2d, {2, 3, 5, 5}}, {nn.ConvTranspose2d, {3, 4, 4}},
      {nn.Conv1d, {6, 9}}} do
      local late, x = case[1](6, 3), mg.randn(case[2])
      assert.equal(0, #late:parameters())
      assert.is_truthy(tostring(late):find("(?, 6, {3", 1, true))
      local y = late(x)
      assert.equal(2, #late:parameters())
      late:save(path)
      local other = case[1](6, 3)
      other:load(path)
      assert(helper.same(other(x), y))
    end
    local grouped = nn.Conv2d(6, 3, {groups = 3})
    grouped:load_state{weight = mg.ones(6, 2, 3, 3), bias = mg.ones(6)}
    assert.same({6, 3, 3}, grouped(mg.ones(6, 5, 5)).shape)
  end)

  it("convolutions say what does not fit", function()
    assert(raises("Conv2d: groups 2 does not divide out_channels 3", nn.Conv2d, 4, 3, 3,
      {groups = 2}))
    assert(raises("Conv2d: groups 2 does not divide in_channels 3", nn.Conv2d, 3, 4, 3,
      {groups = 2}))
    assert(raises("Conv2d: kernel_size has 3 numbers, expected one or one for each of 2 axes",
      nn.Conv2d, 3, 4, {3, 3, 3}))
    assert(raises("Conv2d: x has 2 axes, expected 3, or 4 with a batch", nn.Conv2d(4, 3),
      mg.ones(5, 5)))
    assert(raises("Conv1d: kernel_size", nn.Conv1d, 3, 4, 0))
    assert(raises("ConvTranspose1d: unknown option paddings", nn.ConvTranspose1d, 4, 3,
      {paddings = 1}))
  end)

  it("layers that find their sizes in a checkpoint are as if they had known them", function()
    local ways = {
      function(net, x) return mg.checkpoint(net, x) end,
      function(net, x)
        return mg.checkpoint(function(v)
          return mg.checkpoint(net[2], mg.checkpoint(net[1], v)) * 1
        end, x)
      end,
      function(net, x) return mg.checkpoint(function() return net[2](net[1](x)) end) end,
    }
    for _, way in ipairs(ways) do
      local drawn = {}
      for _, compile in ipairs{false, true} do
        mg.seed(3)
        local first = nn.Sequential(nn.BatchNorm(), nn.Dropout(0.5))
        local net = nn.Sequential(first, nn.Sequential(nn.Linear(40), nn.Dropout(0.5)))
        local known, x = nn.BatchNorm(4), mg.randn(3, 4)
        known.weight.data = known.weight.data * 2
        local function step(v)
          local y = way(net, mg.Variable(v))
          y:sum():backward()
          return y:detach()
        end
        if compile then step = mg.compile(step) end
        for n = 1, 3 do
          known(x)
          local y = step(x)
          assert(near((2 * y:ne(0):sum(1)):to "float64", net[2][1].bias.grad))
          assert(near(known.running_mean, first[1].running_mean))
          assert(near(known.running_var, first[1].running_var))
          assert.equal(n, first[1].num_batches_tracked:item())
          drawn[n] = drawn[n] or y
          assert(mg.equal(drawn[n], y))                         -- compiled, too
          net:cleargrads()
        end
      end
    end
  end)

  it("that wait for an input do not go untrained for a list without theirs", function()
    local net = nn.Sequential(nn.Linear(3, 4), mg.relu, nn.Linear(2))
    local some = net:parameters()
    assert.equal(2, #some)
    local text = "SGD: the list is that of a model whose layers have not all seen an input: " ..
      "give the model itself"
    assert(raises(text, mg.optim.SGD, some))
    assert(raises("SGD: group 1: the list is that", mg.optim.SGD, {{params = some}}))
    assert(raises("LBFGS: the list is that of a model", mg.optim.LBFGS, some))
    local whole = mg.optim.SGD(net, {lr = 1})
    mg.optim.clip_grad_norm(net, 1)
    net:cleargrads()
    net(mg.rand(5, 3)):sum():backward()
    whole:step()
    assert(raises(text, mg.optim.SGD, some))
    assert.equal(4, #net:parameters())
    mg.optim.SGD(net:parameters())
    assert.same({"0.bias", "0.weight", "2.bias", "2.weight"}, names(net))
  end)

  it("are not classes where layers stand", function()
    assert(raises("Sequential: argument 2 is the class Dropout, expected a function or a module" ..
      ": Dropout(...) makes one", nn.Sequential, nn.Linear(3, 2), nn.Dropout))
    assert(raises("Sequential: argument 1 is a table, expected a function or a module",
      nn.Sequential, {nn.Linear(3, 2)}))
    local net = nn.Sequential(nn.Linear(3, 2))
    assert(raises("a module has no add; here it is model[#model + 1] = layer",
      function() net:add(mg.relu) end))
    assert(raises("a module has no backward; here it is loss:backward()",
      function() net:backward() end))
    assert(raises("Sequential: got the class Dropout, expected a module or a function: Dropout() ",
      function() net[2] = nn.Dropout end))
    assert.equal(1, #net)
    net[2] = nn.Dropout()
    assert(raises("MLP: option activation is the class Tanh, expected a function or a module",
      nn.MLP, {2, 1}, {activation = nn.Tanh}))
    assert(raises("Transformer: option activation is the class GELU", nn.Transformer, 4, 2,
      {activation = nn.GELU}))
    assert(raises("Sequential: there is no member 0, the first is 1", function()
      net[0] = mg.relu
    end))
    net[1] = nil
    assert(raises("Sequential: member 1 is a nil: table.remove takes one away", net, mg.ones(1, 3)))
    net[2] = nil
    assert.same({1, 3}, net(mg.ones(1, 3)).shape)
  end)

  it("Linear finds the size of its input", function()
    local l = nn.Linear(2)
    assert.same({}, names(l))
    assert.same({5, 2}, l(mg.rand(5, 7)).shape)
    assert.same({2, 7}, l.weight.shape)
    assert.is_truthy(l.weight.requires_grad)
  end)

  it("Linear made inside no_grad is trained all the same", function()
    local l = nn.Linear(2)
    mg.no_grad(l, mg.rand(5, 7))
    l(mg.rand(5, 7)):sum():backward()
    assert.is_truthy(l.weight.grad)
  end)

  it("Sequential: modules and functions in a row", function()
    local net = nn.Sequential(nn.Linear(3, 4), mg.relu, nn.Linear(4, 2))
    local x = mg.rand(5, 3)
    assert(near(net(x), net[3](mg.relu(net[1](x)))))
    assert.same({"0.bias", "0.weight", "2.bias", "2.weight"}, names(net))
    net[#net + 1] = mg.softmax
    assert(near(net(x):sum(2), mg.ones(5)))
    assert(raises("Sequential: argument 2 is a number", nn.Sequential, mg.relu, 3))
  end)

  it("MLP: Linear layers with an activation between them", function()
    local net = nn.MLP({4, 2}, {activation = mg.tanh})
    local x = mg.rand(5, 3)
    local y = net(x)
    assert(near(y, net.layers[2](net.layers[1](x):tanh())))
    assert.same({"layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"},
      names(net))
  end)

  it("Embedding: rows of its weight", function()
    local e = nn.Embedding(10, 3)
    local y = e(mg.tensor({{1, 10}, {2, 2}}, "int64"))
    assert.same({2, 2, 3}, y.shape)
    assert(near(y[{1, 2}], e.weight[10]))
    y:sum():backward()
    assert(near(e.weight.grad:sum(2), {3, 6, 0, 0, 0, 0, 0, 0, 0, 3}))
    assert(raises("embedding: index 11", e, mg.tensor({11}, "int64")))
  end)

  it("LayerNorm: mean 0 and variance 1 along the last axis", function()
    local l = nn.LayerNorm()
    local y = l(mg.rand(5, 8) * 100 + 3)
    assert(near(y:mean(2), mg.zeros(5), 0, 1e-9))
    assert(near(y:var{axis = 2, correction = 0}, mg.ones(5), 1e-4))
    assert.same({8}, l.weight.shape)
    assert.same({"bias", "weight"}, names(nn.LayerNorm({2, 3})))
    assert.same({}, names(nn.LayerNorm(3, {elementwise_affine = false})))
  end)

  it("refuse options and arguments that they do not have", function()
    assert(raises("Embedding: unknown option padding", nn.Embedding, 3, 2, {padding = 1}))
    assert(raises("Dropout: unknown option inplace", nn.Dropout, 0.5, {inplace = true}))
    assert(raises("MLP: option activation is a string, expected a function", nn.MLP, {3, 2},
      {activation = "tanh"}))
    assert(raises("Linear: argument 3 is a number, expected a table", nn.Linear, 3, 2, 1))
    assert(raises("Linear: argument 2, a number, is one too many", nn.Linear(3, 2), mg.ones(3), 1))
    assert(raises("parameters: argument 1, a number, is one too many",
      function() nn.Linear(3, 2):parameters(1) end))
    assert.equal(2, nn.Linear{in_features = 3, out_features = 2}.weight.shape[1])
    for text, layer in pairs{
      ["Conv2d(3, 8, {3, 3})"] = nn.Conv2d(3, 8, {kernel_size = 3}),
      ["Conv2d(4, 8, {2, 2})"] = nn.Conv2d(4, {out_channels = 8, kernel_size = 2}),
      ["Conv2d(?, 8, {1, 1})"] = nn.Conv2d(8, {kernel_size = 1}),
      ["Conv2d(5, 8, {3, 3})"] = nn.Conv2d(8, 3, {in_channels = 5}),
      ["Linear(3, 2)"] = nn.Linear(3, {out_features = 2}),
      ["LSTM(3, 4)"] = nn.LSTM(3, {hidden_size = 4}),
    } do assert.equal(text, tostring(layer)) end
    assert(raises("Conv2d: kernel_size is given twice", nn.Conv2d, 1, 2, 3, {kernel_size = 3}))
  end)

  it("have no state before they have parameters", function()
    local net = nn.Sequential(nn.Linear(2, 3), nn.Linear(4))
    assert(raises("state: Linear has no parameters yet (1)", net.state, net))
    assert(raises("state: Linear has no parameters yet: it has not seen an input",
      nn.Linear(3).save, nn.Linear(3), "never.safetensors"))
    assert(raises("state: LayerNorm has no parameters yet", function() nn.LayerNorm():state() end))
    net(mg.ones(1, 2))
    assert(net:state()["1.weight"])
  end)

  it("say what PyTorch's names are here", function()
    local net = nn.Linear(2, 3)
    assert(raises("a module has no state_dict; here it is state", function() net:state_dict() end))
    assert(raises("a module has no eval; here it is mg.test_mode", function() net:eval() end))
    assert.is_nil(net.whatever)
  end)

  it("Dropout: in training alone", function()
    mg.seed(0)
    local d, x = nn.Dropout(0.25), mg.ones(10000)
    assert(near(d(x):ne(0):to("float64"):mean(), 0.75, 0.03))
    assert(near(d(x):max(), 1 / 0.75))
    assert(helper.same(mg.test_mode(d, x), x))
    assert(raises("Dropout: p must be a number in 0..1, got 2", nn.Dropout, 2))
  end)

  it("Flatten: all but the first axis", function()
    assert.same({2, 12}, nn.Flatten()(mg.rand(2, 3, 4)).shape)
    assert.same({6, 4}, nn.Flatten(1, 2)(mg.rand(2, 3, 4)).shape)
  end)

  it("a network learns", function()
    mg.seed(0)
    local x = mg.tensor{{0, 0}, {0, 1}, {1, 0}, {1, 1}}
    local t = mg.tensor({1, 2, 2, 1}, "int64")
    local net = nn.MLP({8, 2}, {activation = mg.tanh})
    local opt = mg.optim.Adam(net, {lr = 0.05})
    for _ = 1, 200 do
      local loss = mg.cross_entropy(net(x), t)
      net:cleargrads()
      loss:backward()
      opt:step()
    end
    assert.equal(1, mg.accuracy(net(x), t):item())
  end)

  it("pads convolutions by what is there, to PyTorch's numbers", function()
    local function sines(...) return (mg.range(1, mg.ones(...).size) * 1.3):sin():reshape(...) end
    local function of(padding, mode)
      local conv = nn.Conv2d(2, 2, {3, 4}, {padding = padding, padding_mode = mode})
      conv.weight.data, conv.bias.data = sines(2, 2, 3, 4), sines(2)
      return conv(sines(1, 2, 4, 5)), conv
    end
    for mode, want in pairs{
      reflect = {55.14408890283566, 43.761969553740805, 0.883914234983721, 1.65309275474136},
      replicate = {53.16388782995405, 47.51048546628462, -0.0179074885498338, 1.43094470190618},
      circular = {20.50165343921391, 29.394728788311227, -1.38434206243622, 2.88834479567584},
    } do
      local y, conv = of({1, 2}, mode)
      assert.same({1, 2, 4, 6}, y.shape)
      assert(near({y:sum():item(), of("same", mode):sum():item(), y[{1, 2, 1, 1}]:item(),
                   y[{1, 2, 1, 2}]:item()}, want, 1e-11))
      assert.equal("Conv2d(2, 2, {3, 4}, padding = {1, 2}, padding_mode = " .. mode .. ")",
        tostring(conv))
      local one = nn.Conv1d(1, 1, 3, {padding = 2, dilation = 2, padding_mode = mode})
      assert.same({1, 1, 7}, one(sines(1, 1, 7)).shape)
    end
    local conv = nn.Conv2d(1, 1, 3, {stride = 2, padding = "same", padding_mode = "reflect"})
    assert(raises('Conv2d: padding "same" is for stride 1 alone, got 2', conv, mg.ones(1, 1, 5, 5)))
  end)

  it("print options that are not what they are by themselves", function()
    for want, layer in pairs{
      ["Linear(2, 3, bias = false)"] = nn.Linear(2, 3, {bias = false}),
      ["Conv2d(2, 4, {3, 3}, stride = {2, 1}, dilation = {2, 2}, groups = 2)"] =
        nn.Conv2d(2, 4, 3, {stride = {2, 1}, dilation = 2, groups = 2}),
      ["ConvTranspose2d(2, 4, {3, 3}, stride = {2, 2}, output_padding = {1, 1})"] =
        nn.ConvTranspose2d(2, 4, 3, {stride = 2, output_padding = 1}),
      ["MaxPool2d({3, 3}, stride = {2, 2}, ceil_mode = true)"] =
        nn.MaxPool2d(3, {stride = 2, ceil_mode = true}),
      ["AvgPool1d(2, count_include_pad = false)"] = nn.AvgPool1d(2, {count_include_pad = false}),
      ["Upsample(2, bilinear, align_corners = true)"] =
        nn.Upsample{scale_factor = 2, mode = "bilinear", align_corners = true},
      ["BatchNorm(3, momentum = cumulative)"] = nn.BatchNorm(3, {momentum = "cumulative"}),
      ["InstanceNorm(3, affine = true)"] = nn.InstanceNorm(3, {affine = true}),
      ["LayerNorm(3, eps = 1e-06, bias = false)"] = nn.LayerNorm(3, {eps = 1e-6, bias = false}),
      ["RMSNorm(3, eps = 0.1)"] = nn.RMSNorm(3, {eps = 0.1}),
      ["GRU(2, 3, num_layers = 2, batch_first = true, dropout = 0.5)"] =
        nn.GRU(2, 3, {num_layers = 2, batch_first = true, dropout = 0.5}),
      ["RNNCell(2, 3, nonlinearity = relu)"] = nn.RNNCell(2, 3, {nonlinearity = "relu"}),
      ["LSTMCell(2, 3, bias = false)"] = nn.LSTMCell(2, 3, {bias = false}),
      ["Flatten(last = 3)"] = nn.Flatten(2, 3), ["Flatten"] = nn.Flatten(),
      ["GELU(approximate = tanh)"] = nn.GELU{approximate = "tanh"}, ["GELU"] = nn.GELU(),
      ["Softplus(beta = 2)"] = nn.Softplus{beta = 2}, ["Hardtanh(min = 0)"] = nn.Hardtanh{min = 0},
      ["LeakyReLU(0.2)"] = nn.LeakyReLU(0.2), ["PReLU(3)"] = nn.PReLU(3),
      ["Unflatten(2, {2, 3})"] = nn.Unflatten(2, {2, 3}), ["Dropout2d(0.1)"] = nn.Dropout2d(0.1),
      ["LocalResponseNorm(5, k = 2)"] = nn.LocalResponseNorm(5, {k = 2}),
      ["Bilinear(2, 3, 4)"] = nn.Bilinear(2, 3, 4),
    } do
      assert.equal(want, tostring(layer):match "^[^\n]*")
    end
    assert(tostring(nn.MultiHeadAttention(4, 2, {dropout = 0.1, batch_first = true, kdim = 3}))
      :find("^MultiHeadAttention%(4, 2, dropout = 0.1, kdim = 3, batch_first = true%)"))
  end)
end)
