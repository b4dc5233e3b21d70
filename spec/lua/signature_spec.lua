-- A signature is the parser: what functions take, and how they refuse the rest.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local raises = helper.raises

-- The values that signature makes of the arguments; tables of numbers as text.
local function values(signature, ...)
  local t = table.pack(mg.signature(signature)(...))
  for i = 1, t.n do
    local v = t[i]
    if type(v) == "table" and type(v[1]) ~= "userdata" then t[i] = table.concat(v, ",") end
  end
  return table.unpack(t, 1, t.n)
end

describe("a signature", function()
  local x = mg.ones(2, 3)
  local SUM = "sum(x: array, axis: axes?, {keepdims: bool = false})"
  local SOFTMAX = "softmax(x: array, axis: axis = -1)"
  local ZEROS = "zeros(dims: shape..., {dtype: dtype})"
  local LINEAR = "Linear([in: int(1..),] out: int(1..), {bias: bool = true})"
  local NORM = "norm(x: array, [shape: ints,] w: array?, b: array?, {eps: number(0..) = 1e-5})"
  local POOL = 'pool(x: array, kernel: pair, {stride: pair = kernel, padding: pair | "same" = 0})'

  it("gives arguments, then options, checked and with defaults", function()
    assert.same({x, 2}, {values(SOFTMAX, x)})
    assert.same({x, 1}, {values(SOFTMAX, x, -2)})
    assert.same({x, nil, false}, {values(SUM, x)})
    assert.same({x, "2,1", true}, {values(SUM, x, {2, 1}, {keepdims = true})})
    assert.same({x, "2", false}, {values(SUM, x, -1)})
    assert.same({"4"}, {values("f(n: ints)", 4)})
    assert.same({4, "integer"}, {values("f(n: int)", 4.0), math.type(values("f(n: int)", 4.0))})
    assert.same({"2,2", "same"}, {select(3, values(POOL, x, 2, {padding = "same"}))})
    assert.same({"1,2", "1,2", "0,0"}, {select(2, values(POOL, x, {1, 2}))})
    assert.same({"0.9,0.999"}, {values("f({betas: numbers = {0.9, 0.999}})")})
    assert.same({"a", "b"}, {values('f({how: "a" | "b" = "a", mode: string = "b"})')})
  end)

  it("takes names for arguments, and options beside numbers", function()
    assert.same({x, 1}, {values(SOFTMAX, x, {axis = 1})})
    assert.same({x, "1,2", true}, {values(SUM, x, {axis = {1, 2}, keepdims = true})})
    assert.same({x, "1,2", true}, {values(SUM, x, {1, 2, keepdims = true})})
    for _, given in ipairs{{2, 3}, {{2, 3}}} do
      assert.same({"2,3", nil}, {values(ZEROS, table.unpack(given))})
      table.insert(given, {dtype = "float32"})
      assert.same({"2,3", "float32"}, {values(ZEROS, table.unpack(given))})
    end
    assert.same({"2,3", "float32"}, {values(ZEROS, {2, 3, dtype = "float32"})})
    assert.same({"", "float32"}, {values(ZEROS, {dtype = "float32"})})
    assert.same({""}, {values(ZEROS)})
  end)

  it("tells of what stands in brackets where a value fits neither it nor what comes after",
    function()
      assert(raises("norm: argument 2 is a string, expected a table of whole numbers (shape)",
        values, NORM, x, "", x, x))
      assert(raises("Linear: argument 1 is a string, expected a whole number (in)", values, LINEAR,
        "", 4))
    end)

  it("tells of methods that are called without their object", function()
    local colon = " is no object; methods are called by a colon, object:name(...)"
    local d, opt = mg.distributions.Normal(0, 1), mg.optim.SGD({mg.Variable(1)}, {lr = 1})
    assert(raises("log_prob: a number" .. colon, d.log_prob, 0.5))
    assert(raises("log_prob: a Variable" .. colon, d.log_prob, x))
    assert(raises("step: a nil" .. colon, opt.step))
    assert(raises("load: a string" .. colon, mg.nn.Linear(2, 2).load, "x.npz"))
    assert(raises("step: a table" .. colon, opt.step, {}))
    assert(raises("Linear: a table" .. colon, mg.nn.Linear.forward, {}, x))
    local class = " is a class; methods are called of its objects"
    assert(raises("step: SGD" .. class, function() mg.optim.SGD:step() end))
    assert(raises("parameters: Linear" .. class, function() mg.nn.Linear:parameters() end))
    assert(raises("batches: DataLoader" .. class, function() mg.data.DataLoader:batches() end))
    for _, object in ipairs{mg.nn.Linear(2, 2), opt, mg.data.Spiral(), d} do
      local text = "extend: this " .. getmetatable(object).__name .. " is an object, expected a"
      assert(raises(text, function() object:extend "Own" end))
    end
  end)

  it("tells of methods of Variables that are called by a dot", function()
    local v = mg.Variable{{1, 2}, {3, 4}}
    local function dot(name)
      return " is no Variable; methods are called by a colon, x:" .. name .. "(...)"
    end
    for _, name in ipairs{"sum", "max", "norm", "cumsum", "softmax", "leaky_relu", "round"} do
      assert(raises(name .. ": a number" .. dot(name), function() return v[name](1) end))
    end
    assert(raises("reshape: a number" .. dot "reshape", function() return v.reshape(-1) end))
    assert(raises("sum: a table" .. dot "sum", function() return v.sum{1, 2} end))
    assert(raises("backward: a nil" .. dot "backward", function() v.backward() end))
    assert(raises("to: a string" .. dot "to", function() v.to "float32" end))
    assert.equal(10, v.sum(v):item())
    assert.equal(3, mg.sum{1, 2}:item())
    mg.define("of_a_spec(x: array, k: int = 1)", "x k", function(a, k) return a * k end)
    assert(raises("of_a_spec: a number" .. dot "of_a_spec", function() v.of_a_spec(3) end))
    assert.equal(3, mg.of_a_spec(3):item())
    mg.of_a_spec = nil
  end)

  it("refuses dims that are nil", function()
    local none = ": a dim must be a whole number, not a nil"
    assert(raises("randn" .. none, mg.randn, nil))
    assert(raises("zeros" .. none, mg.zeros, nil, nil))
    assert(raises("rand" .. none, mg.rand, 2, nil, nil))
    local form = ': a dim must be a whole number; an option says the dtype: {dtype = "float32"}'
    assert(raises("zeros" .. form, mg.zeros, 2, "float32"))
    assert(raises("rand" .. form, mg.rand, {2, "float32"}))
    assert(raises("randn: a dim must be a whole number, not a string", mg.randn, 2, "float16"))
    assert(raises("reshape: ", function() mg.ones(6):reshape(6, nil) end))
    assert(raises("tile: ", function() mg.ones(6):tile(nil) end))
    assert(raises("permute: ", function() mg.ones(6):permute(1, nil) end))
    assert.equal(2, mg.zeros(2, 3, nil).ndim)
    assert.equal(0, mg.zeros().ndim)
    assert.equal(2, mg.ones(2, 3):transpose(nil).ndim)
  end)

  it("tells of objects that have no such method", function()
    local none = " has no such method; methods are called by a colon, object:name(...)"
    local opt, layer = mg.optim.SGD({mg.Variable(1)}, {lr = 1}), mg.nn.Linear(2, 2)
    local ds = mg.data.TensorDataset(x)
    assert(raises("step: a Linear" .. none, opt.step, layer))
    assert(raises("save: an SGD" .. none, layer.save, opt, child.folder() .. "/a.npz"))
    assert(raises("freeze: an SGD" .. none, layer.freeze, opt))
    assert(raises("parameters: a TensorDataset" .. none, layer.parameters, ds))
    assert(raises("Conv2d: a Linear" .. none, mg.nn.Conv2d(1, 1, 1).forward, layer, x))
    assert(raises("map: a userdata" .. none, ds.map, io.stdout, print))
    assert(raises("is an LSTM,", mg.one_hot, {1}, mg.nn.LSTM(1, 1)))
    assert(raises("is an Upsample,", mg.one_hot, {1}, mg.nn.Upsample(2)))
    assert(raises("is an ELU,", mg.one_hot, {1}, mg.nn.ELU()))
    assert(raises("is a GRU,", mg.one_hot, {1}, mg.nn.GRU(1, 1)))
    assert(raises("is a Uniform,", mg.one_hot, {1}, mg.distributions.Uniform(0, 1)))
    assert(raises("load_state: a userdata" .. none, layer.load_state, io.stdout, {}))
    assert(raises("extend: a userdata" .. none, mg.optim.SGD.extend, io.stdout, "X"))
    local ring = {}
    ring.__index = ring
    assert(raises("freeze: a table" .. none, layer.freeze, setmetatable(ring, ring)))
    assert(raises("freeze: a table" .. none, layer.freeze, setmetatable({}, {})))
  end)

  it("finds methods in classes above, in other names, and behind __index", function()
    local Base = mg.nn.Linear:extend "Base"
    function Base:init() mg.nn.Linear.init(self, 2, 2) end
    function Base:forward(v) return mg.nn.Linear.forward(self, v) end
    Base.count = mg.nn.Module.parameters
    local model = Base:extend "Net"()
    assert.same({1, 2}, model(mg.ones(1, 2)).shape)
    assert.equal(2, #model:count())
    for _, index in ipairs{model, function(_, k) return model[k] end} do
      local proxy = setmetatable({}, {__index = index, __name = type(index) == "table" and "Mine"})
      assert.same({1, 2}, proxy:forward(mg.ones(1, 2)).shape)
      assert.equal(proxy, proxy:freeze())
    end
  end)

  it("tells of classes that stand for what is made of them", function()
    local nn, data = mg.nn, mg.data
    local ds = data.TensorDataset(x)
    assert(raises("SGD: argument 1 is the class Linear, expected a table or a module (target): " ..
      "Linear(...) makes one", mg.optim.SGD, nn.Linear))
    assert(raises("EMA: argument 1 is the class Linear, expected a module", mg.training.EMA,
      nn.Linear))
    assert(raises("cosine: argument 1 is the class SGD, expected an optimizer", mg.optim.cosine,
      mg.optim.SGD, 5))
    assert(raises("DataLoader: option sampler is the class RandomSampler, expected a sampler",
      data.DataLoader, ds, {sampler = data.RandomSampler}))
    assert(raises("TransformerEncoder: option norm is the class LayerNorm", nn.TransformerEncoder,
      nn.TransformerEncoderLayer(4, 2), 1, {norm = nn.LayerNorm}))
  end)

  it("lets what stands in brackets be left out", function()
    assert.same({nil, 4, true}, {values(LINEAR, 4)})
    assert.same({nil, 4, false}, {values(LINEAR, 4, {bias = false})})
    assert.same({nil, 4, true}, {values(LINEAR, nil, 4)})
    assert.same({3, 4, false}, {values(LINEAR, 3, 4, {bias = false})})
    assert.same({x, nil, x, x, 1e-5}, {values(NORM, x, x, x)})
    assert.same({x, "3", x, x, 1e-5}, {values(NORM, x, {3}, x, x)})
    assert.same({x, nil, nil, nil, 1}, {values(NORM, x, nil, nil, {eps = 1})})
  end)

  it("makes constants of numbers and tables", function()
    local y = values(SOFTMAX, {1, 2})
    assert(mg.equal(y, mg.tensor{1, 2}))
    assert.equal("int64", values("f(labels: int64)", {1, 2}).dtype)
    local list = mg.signature("f(xs: list)")({x, 3, {1, 2}})
    assert.equal(3, #list)
    assert(list[1] == x and list[2]:item() == 3 and mg.equal(list[3], mg.tensor{1, 2}))
  end)

  it("passes on what follows", function()
    local rest = table.pack(values("f(fn: function, ...)", print, nil, 2, nil))
    assert.same({4, print, nil, 2}, {rest.n, rest[1], rest[2], rest[3]})
    assert.same({"xy", x, x}, {values('f(...: array, {how: "ij" | "xy"})', x, x, {how = "xy"})})
    assert(raises("argument 2 is a string", values, "f(...: array)", x, "a"))
  end)

  it("knows objects and what can be called", function()
    local opt, callable = {is_optimizer = true}, setmetatable({}, {__call = print})
    assert.equal(opt, (mg.signature("f(o: optimizer)")(opt)))
    assert.equal(callable, (mg.signature("f(fn: function)")(callable)))
    assert(raises("f: argument 1 is a table, expected an optimizer (o)", values, "f(o: optimizer)",
      {}))
  end)

  it("refuses, naming function and argument, and shows itself", function()
    local function refuses(text, signature, ...)
      assert(raises(text, values, signature, ...))
      local ok, err = pcall(values, signature, ...)
      assert(not ok and err:find("\n  " .. signature, 1, true), err)
    end
    refuses("softmax: argument 1 is a nil, expected a Variable (x)", SOFTMAX)
    refuses("softmax: argument 2 is a string, expected an axis (axis)", SOFTMAX, x, "a")
    refuses("softmax: argument 3, a number, is one too many", SOFTMAX, x, 1, 2)
    refuses("softmax: argument 3, a table, is one too many", SOFTMAX, x, 1, {})
    refuses("clamp: argument 2 is a list, expected a table of options by name",
      "clamp(x: array, {min: number, max: number})", x, {0, 1})
    refuses("softmax: axis is given twice", SOFTMAX, x, 1, {axis = 1})
    refuses("softmax: unknown option axs; did you mean axis?", SOFTMAX, x, {axs = 1})
    refuses("softmax: unknown option dim; did you mean axis?", SOFTMAX, x, {dim = 1})
    assert(raises("leaky_relu: unknown option negative_slope; did you mean slope?", mg.leaky_relu,
      x, {negative_slope = 0.1}))
    assert(raises("LeakyReLU: unknown option slope; did you mean negative_slope?",
      mg.nn.LeakyReLU, {slope = 0.1}))
    refuses("var: unknown option ddof; did you mean correction?",
      "var(x: array, {correction: number = 1})", x, {ddof = 0})
    refuses("SGD: unknown option learning_rate; did you mean lr?",
      "SGD(x: array, {momentum: number = 0, lr: number = 1})", x, {learning_rate = 1})
    refuses("f: unknown option requires_grad; mg.Variable(x) is tracked",
      "f(x: array, {dtype: dtype})", x, {requires_grad = true})
    refuses("softmax: unknown option inplace\n", SOFTMAX, x, {inplace = true})
    refuses("softmax: unknown option axis", SOFTMAX, x, {["axis\0x"] = 1})
    refuses("sum: argument 3 is a boolean, expected a table of options", SUM, x, 1, true)
    refuses("sum: option keepdims is a number, expected true or false", SUM, x, {keepdims = 1})
    refuses("sum: unknown option 3", SUM, x, {[3] = 1, keepdims = true})
    refuses("g: unknown option keep", "g(a: ints, b: ints, {keep: bool = true})",
      {1, 2, keep = false}, {1})
    refuses("zeros: argument 2 is a string, expected a table of options", ZEROS, {2}, "float32")
    refuses("zeros: unknown option dtyp; did you mean dtype?", ZEROS, {2, dtyp = "float32"})
    refuses("Linear: in must be at least 1, got 0", LINEAR, 0, 2)
    refuses("norm: eps must be at least 0, got nan", NORM, x, {eps = 0 / 0})
    refuses("norm: eps = -1 is negative", NORM, x, {eps = -1})
    refuses('pool: padding must be a whole number or a table of two or "same", got "sme"', POOL, x,
      2, {padding = "sme"})
    refuses("f: labels must be int64, got float64; say x:to \"int64\"", "f(labels: int64)", x)
    assert(raises("softmax: axis 3 is out of range for shape (2, 3)", values, SOFTMAX, x, 3))
    assert(raises("sum: the table of axes is empty", values, SUM, x, {axis = {}}))
    assert(raises("sum: axis 1 is given twice", values, SUM, x, {1, -2}))
    assert(raises("f: input 2 is a string", values, "f(xs: list)", {x, "x"}))
    assert(raises('zeros: no dtype "float32', values, ZEROS, {2, dtype = "float32\0x"}))
  end)

  it("counts a method's arguments after its object", function()
    local function second(_, n) return n end
    local object = {method = mg.checked("method(x: table, n: int)", "", second),
                    own = mg.checked("own(self, n: int)", "", second)}
    assert.equal(3, object:method(3))
    assert(raises("method: argument 1 is a string", function() object:method "a" end))
    assert(raises("method: argument 2 is a string", function() object.method(object, "a") end))
    assert(raises("own: argument 1 is a string", function() object:own "a" end))
    assert(raises("own: argument 1 is a string", function() object.own(object, "a") end))
    assert(raises("\n  own(n: int)", object.own, object, "a"))
  end)

  it("that makes no sense is an error", function()
    for _, text in ipairs{"f(x: )", "f(x: array", "f(x array)", "f({n: int = })", "f(a: axis)",
                          "f(n: int = m)", "f(n: number(1)", 'f(s: "a)', "f(x) y"} do
      assert.is_false(pcall(mg.signature(text)), text)
    end
  end)
end)

describe("every public function", function()
  -- name, function and doc of all that mg.help knows
  local function each(visit)
    for name, value in pairs(mg) do
      if mg._docs[value] then visit(name, value, mg._docs[value]) end
    end
    for _, part in ipairs{"nn", "optim", "data"} do
      for name, value in pairs(mg[part]) do
        local fn = type(value) == "table" and rawget(value, "init") or value
        if mg._docs[fn] then visit(part .. "." .. name, value, mg._docs[fn]) end
      end
    end
  end

  -- Files take what their formats say, plot one table; these make signatures.
  local OTHERS = {save = true, load = true, plot = true, define = true, checked = true,
                  raise = true, signature = true, Config = true, ["nn.Module"] = true,
                  ["nn.init"] = true,
                  ["data.Dataset"] = true, ["data.Sampler"] = true,
                  ["data.Tokenizer"] = true, ["optim.Optimizer"] = true}

  it("has a signature that can be read", function()
    local count = 0
    each(function(name, _, doc)
      if OTHERS[name] then return end
      count = count + 1
      local ok, err = pcall(mg.signature(doc:match "^%C+"))
      assert(ok or not err:find "^signature" and not err:find " at \"", err)
    end)
    assert(count > 150)
  end)

  it("refuses more arguments than it has, and shows it", function()
    local x = mg.ones(2, 2)
    each(function(name, fn, doc)
      local signature = doc:match "^%C+"
      if OTHERS[name] or signature:find("...", 1, true) then return end
      local ok, err = pcall(fn, x, x, x, x, x, x, x, x, x, x)
      assert(not ok, name)
      local called = signature:match "^[^(]*"
      assert(err:find("spec/lua/signature_spec.lua:%d+: " .. called .. ": "), err)
      assert(err:find("\n  " .. signature, 1, true) or err:find "is not an array", err)
    end)
  end)
end)
