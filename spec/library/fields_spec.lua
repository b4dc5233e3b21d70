-- What is assigned to an object is read, or refused: objects of the library's classes have their
-- own fields and no others, and nothing else is read of them; classes that extend them may have
-- what they like.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local raises = helper.raises
local data, optim = mg.data, mg.optim

local function assign(object, name, value)
  return function() object[name] = value end
end

-- Calls use(name, an object that init has not seen) for each class but those there to be extended.
local function each_class(use)
  local free, count = {Dataset = true, Sampler = true, Tokenizer = true, Optimizer = true}, 0
  for _, part in ipairs{"data", "training", "distributions", "optim"} do
    for name, class in pairs(mg[part]) do
      if type(class) == "table" and rawget(class, "__name") and not free[name] then
        count = count + 1
        use(name, setmetatable({}, class))
      end
    end
  end
  assert(count > 40)
end

describe("fields", function()
  helper.guard(before_each, after_each)

  it("of every class but modules are those that its init makes", function()
    each_class(function(name, object)
      assert(raises(": there is no field such", assign(object, "such", 1)), name)
    end)
  end)

  local function call(object, name) return function() return object[name](object, 1) end end

  it("and methods that are not there are told of where they are read", function()
    each_class(function(name, object)
      assert(raises(name .. ": there is no field or method such", call(object, "such")))
    end)
    local ds, p = data.TensorDataset(mg.ones(4, 2)), mg.Variable{1}
    local opt = optim.SGD({p}, {lr = 1})
    local normal, cosine = mg.distributions.Normal(0, 1), optim.cosine(opt, 3)
    for text, read in pairs{
      ["Normal has no pdf; here it is log_prob(x):exp()"] = call(normal, "pdf"),
      ["Normal: there is no field or method log_porb; did you mean log_prob?"] =
        call(normal, "log_porb"),
      ["Normal: there is no field or method meen; did you mean mean?"] = call(normal, "meen"),
      ["DataLoader: there is no field or method batchsize; did you mean batch_size?"] =
        call(data.DataLoader(ds), "batchsize"),
      ["EarlyStopping has no should_stop; here it is stopped"] =
        call(mg.training.EarlyStopping(3), "should_stop"),
      ["EMA has no step; here it is update"] = call(mg.training.EMA(mg.nn.Linear(2, 2)), "step"),
      ["Schedule has no lr; here it is opt.lr"] = call(cosine, "lr"),
      ["Schedule: there is no field or method such"] = call(optim.plateau(opt), "such"),
      ["SGD: there is no field or method nestrov; did you mean nesterov?"] = call(opt, "nestrov"),
      ["SGD has no learning_rate; here it is lr"] =
        call(optim.SGD({{params = {p}}}, {lr = 1}).groups[1], "learning_rate"),
      ["Schedule has no last_epoch; here it is t"] = call(cosine, "last_epoch"),
      ["Normal: there is no field or method extent"] = call(normal, "extent"),
      ["Bar: there is no field or method udpate"] = call(mg.progress(3), "udpate"),
      ["Live: there is no field or method push"] = call(mg.plot{{}, live = true}, "push"),
      ["CharTokenizer has no tokenize; here it is encode"] =
        call(data.CharTokenizer "ab", "tokenize"),
      ["TensorDataset: there is no field or method type"] = call(ds, "type"),
      ["CharTokenizer: there is no field or method train"] =
        call(data.CharTokenizer "ab", "train"),
      ["EMA has no state_dict; here it is state"] =
        call(mg.training.EMA(mg.nn.Linear(2, 2)), "state_dict"),
      ["Schedule has no get_last_lr; here it is opt.lr"] = call(cosine, "get_last_lr"),
    } do
      assert(raises(text, read))
      local _, message = pcall(read)
      assert(text:find "did you mean" or not message:find "did you mean", message)
    end
  end)

  it("that may be there, or are asked of anything, are nil", function()
    local ds = data.TensorDataset(mg.ones(4, 2))
    local loader, opt = data.DataLoader(ds), optim.SGD{mg.Variable(1)}
    for _, name in ipairs{"collate", "sampler", "get", "take", "is_module", "_such", 1.5} do
      assert.is_nil(loader[name])
    end
    assert(raises("DataLoader: there is no field collate", assign(loader, "collate", 3)))
    assert(raises("SGD: parameter 1 is a table, expected a Variable", optim.SGD, {loader}))
    for _, name in ipairs{"betas", "parameters"} do assert.is_nil(opt[name]) end
    assert.is_nil(mg.nn.Module:extend "Own"().new)   -- a gate may be called so
    for _, base in ipairs{data.TensorDataset, data.Dataset, optim.SGD, mg.nn.Module} do
      local Mine = base:extend "Mine"
      for _, name in ipairs{"such", "strict", "seal"} do
        assert.is_nil(setmetatable({}, Mine)[name])
      end
    end
  end)

  it("that are misspelt are told of", function()
    local ds = data.TensorDataset(mg.ones(4, 2))
    assert(raises("DataLoader: there is no field batchsize; did you mean batch_size?",
      assign(data.DataLoader(ds), "batchsize", 3)))
    assert(raises("EMA: there is no field dekay; did you mean decay?",
      assign(mg.training.EMA(mg.nn.Linear(2, 2)), "dekay", 0.5)))
    assert(raises("Subset: nil names no field", function() data.Subset(ds, {1})[nil] = 1 end))
  end)

  it("of datasets may be a get of one's own", function()
    local ds = data.TensorDataset(mg.ones(4, 2))
    ds.get = function(_, i) return mg.tensor(i) end
    assert(mg.equal(mg.tensor{1, 2}, (ds:batch(1, 2))))
  end)

  it("may be what takes a method's place, a spy say, and is called for it", function()
    local path, count = child.path ".jsonl", 0
    do
      local log <close> = mg.log(path)
      local scalar = log.scalar
      function log.scalar(...)
        count = count + 1
        return scalar(...)
      end
      log:scalar("loss", 3)
      assert(raises("Log: there is no field scalars", assign(log, "scalars", 3)))
      assert(raises("Log: there is no field such", assign(log, "such", print)))
      assert(raises("Log: there is no field init", assign(log, "init", print)))
    end
    assert(os.remove(path))
    local average = mg.training.EMA(mg.nn.Linear(2, 2))
    average.update = setmetatable({}, {__call = function() count = count + 1 end})
    average:update()
    assert.equal(2, count)
  end)

  it("that are options are checked again where they are used", function()
    local ds = data.TensorDataset(mg.range(1, 6))
    local function pass(loader) for _ in loader do end end
    local function step(stopping) stopping:step(1) end
    local function update(ema) ema:update() end
    for text, case in pairs{
      ["DataLoader: batch_size must be at least 1, got -1"] = {data.DataLoader(ds), pass,
        "batch_size", -1},
      ["DataLoader: option shuffle is a number"] = {data.DataLoader(ds), pass, "shuffle", 0},
      ["DataLoader: option drop_last is a string"] = {data.DataLoader(ds), pass, "drop_last", "no"},
      ["DataLoader: seed must be a whole number, not 0.5"] = {data.DataLoader(ds), pass, "seed",
        0.5},
      ["SequenceLoader: length must be at least 1, got 0"] = {
        data.SequenceLoader(ds, {length = 2}), pass, "length", 0},
      ["SequenceLoader: batch_size must be at least 1, got -2"] = {
        data.SequenceLoader(ds, {length = 2}), pass, "batch_size", -2},
      ["SequenceLoader: option drop_last is a number"] = {
        data.SequenceLoader(ds, {length = 2}), pass, "drop_last", 0},
      ["EMA: decay must be a number in 0..<1, got 5"] = {mg.training.EMA(mg.nn.Linear(2, 2)),
        update, "decay", 5},
      ["EMA: option warmup is a number"] = {mg.training.EMA(mg.nn.Linear(2, 2)), update, "warmup",
        0},
      ['EarlyStopping: mode must be "min" or "max", got "most"'] = {mg.training.EarlyStopping(3),
        step, "mode", "most"},
      ["EarlyStopping: patience = -1 is negative"] = {mg.training.EarlyStopping(3), step,
        "patience", -1},
      ["EarlyStopping: min_delta = -1 is negative"] = {mg.training.EarlyStopping(3), step,
        "min_delta", -1},
    } do
      local object, use, name, value = table.unpack(case)
      local before = object[name]
      use(object)
      object[name] = value
      assert(raises(text, use, object))
      object[name] = before
      use(object)
    end
    local loader = data.DataLoader(ds)
    loader.batch_size = 6 / 2
    assert.equal("2", tostring(#loader))
  end)

  it("of one's own classes are one's own affair", function()
    local Mine = data.TensorDataset:extend "Mine"
    function Mine:init(x)
      data.TensorDataset.init(self, x)
      self.note = "a"
    end
    local ds = Mine(mg.ones(4, 2))
    ds.other = 3
    assert.equal("a3", ds.note .. ds.other)
    local Once = data.RandomSampler:extend "Once"
    local sampler = Once(ds)
    sampler.passes = 1
    assert.equal(1, sampler.passes)
    local Shifted = mg.distributions.Normal:extend "Shifted"
    local d = Shifted(2, 3)
    d.shift = 5
    assert.equal(10, d.mean:item() + d.stddev:item() + d.shift)
    assert(helper.same(mg.distributions.Normal(2, 3):log_prob(1), d:log_prob(1)))
    Shifted.mean, Shifted.variance = mg.tensor(7), mg.tensor(16)
    assert.same({7, 16, 3}, {d.mean:item(), d.variance:item(), d.stddev:item()})
  end)

  it("that are lists of numbers are checked again when a place was assigned", function()
    local function adam()
      local p = mg.Variable{1, 2}
      p.grad = mg.ones(2)
      return optim.Adam({{params = {p}, betas = {0.5, 0.6}}, {params = {mg.Variable(1)}}}), p
    end
    for text, change in pairs{
      ["betas[1] must be a number in 0..<1, got 5"] = function(o) o.betas[1] = 5 end,
      ["betas[2] must be a number in 0..<1, got nan"] = function(o)
        o.groups[1].betas[2] = 0 / 0
      end,
      ["betas has 3 numbers, expected 2"] = function(o) o.betas[3] = 0.5 end,
    } do
      local opt, p = adam()
      change(opt)
      assert(raises("step: Adam: " .. text, opt.step, opt))
      assert(mg.equal(p, mg.tensor{1, 2}))
    end
    local opt = optim.Rprop{mg.Variable(1)}
    opt.etas[1] = 1.5
    assert(raises("Rprop: etas must be two numbers", opt.step, opt))
  end)

  it("that are lists of numbers are seen by a compiled step, too", function()
    local ps, steps, opts = {}, {}, {}
    for k = 1, 2 do
      ps[k] = mg.Variable{1, 2}
      opts[k] = optim.Adam({ps[k]}, {lr = 0.1})
      steps[k] = function(g)
        ps[k].grad = g * ps[k]
        opts[k]:step()
      end
    end
    steps[1] = mg.compile(steps[1])
    for i = 1, 6 do
      for k = 1, 2 do
        if i == 4 then opts[k].betas[1] = 0.3 end
        steps[k](mg.tensor(i))
      end
    end
    assert(helper.same(ps[1].data, ps[2].data))
  end)

  it("of one's own classes may have any name but a method's", function()
    local nn, path = mg.nn, os.tmpname()
    local Net = nn.Module:extend "Net"
    function Net:init()
      self.head, self.late, self.build, self.find = nn.Linear(2, 3), nn.Linear(2), 1, "a"
    end
    function Net:forward(x) return self.late(self.head(x)) end
    function Net:infer(x) return mg.test_mode(self, x):argmax(2) end
    function Net:is_waiting() error(self) end
    function Net:describe() error(self) end
    local net, other = Net(), Net()
    net:infer(mg.ones(1, 2))
    os.remove(path)
    net:save(path .. ".npz")
    other:load(path .. ".npz")
    os.remove(path .. ".npz")
    assert(mg.equal(net.late.weight, other.late.weight))
    assert.equal("Net\n  head: Linear(2, 3)\n  late: Linear(3, 2)", tostring(other))
    local Encoder = nn.Module:extend "Encoder"
    function Encoder:init() self.infer, self.describe = nn.Linear(2, 2), "text" end
    local encoder = Encoder()
    encoder:load_state(encoder:state())
    assert.equal("Encoder\n  infer: Linear(2, 2)", tostring(encoder))
    for _, name in ipairs{"state", "save", "forward", "parameters", "to"} do
      assert(raises(("Net.%s: every module has a method of this name"):format(name),
        assign(net, name, mg.ones(2))))
    end
    net.forward = function(_, x) return x end
    assert.equal(3, net(3))
  end)

  it("of one's own datasets, too", function()
    local Series = data.Dataset:extend "Series"
    function Series:init(name, value) self[name] = value end
    function Series:__len() return 6 end -- luacheck: ignore self
    function Series:get(i) return i, i + self.ahead end
    for _, shuffle in ipairs{false, true} do
      local sum = 0
      for _, t in data.DataLoader(Series("ahead", 3), {batch_size = 2, shuffle = shuffle}) do
        sum = sum + t:sum():item()
      end
      assert.equal(39, sum)
      for _, name in ipairs{"batch", "take"} do
        local text = "DataLoader: the dataset's %s is a number, and is called as a method"
        assert(raises(text:format(name), data.DataLoader, Series(name, 3), {shuffle = shuffle}))
      end
    end
  end)
end)
