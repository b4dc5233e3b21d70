-- What is a mistake is an error that says so, in the name of the function that was called: nothing
-- is taken for something else, cut, wrapped around, or passed over.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local raises = helper.raises
local nan, inf = 0 / 0, math.huge

local function int(t) return mg.tensor(t, "int64") end
local function refuses(text, fn, ...) assert(raises(text, fn, ...)) end

describe("an error of a function that others do the work for", function()
  it("begins with its name", function()
    refuses("bernoulli: lt: shapes (8) and (3) do not broadcast", mg.bernoulli, mg.ones(3), {8})
    refuses("histogram: ", mg.histogram, mg.ones(3), math.maxinteger)
    refuses("Normal: add: shapes (3) and (2)", mg.distributions.Normal, mg.ones(3), mg.ones(2))
    refuses("Linear: linear: x (4) does not fit", mg.nn.Linear(3, 2), mg.ones(4))
    refuses("Sequential: linear: x (4)", mg.nn.Sequential(mg.nn.Linear(3, 2)), mg.ones(4))
    local ok, message = pcall(mg.softmax, mg.ones(3), 2)
    assert(not ok and message:find ": softmax: axis 2 is out of range", message)
  end)

  it("is a function's of the script where that calls", function()
    refuses("mul: shapes (3) and (4) do not broadcast", function()
      mg.grad(function(x) return (x * mg.ones(4)):sum() end)(mg.ones(3))
    end)
    local _, message = pcall(mg.grad(function(x) return (x * mg.ones(4)):sum() end), mg.ones(3))
    assert(message:find ":%d+: mul: shapes", message)
  end)
end)

describe("whole numbers", function()
  it("are not made of others where an op asks for them", function()
    for _, bad in ipairs{1.5, nan, inf} do
      local text = "element 1 is " .. (bad ~= bad and "nan" or bad) .. ", expected a whole number"
      refuses("embedding: " .. text, mg.embedding, {bad}, mg.ones(3, 2))
      refuses("gather: " .. text, mg.gather, mg.ones(3), 1, {bad})
      refuses("one_hot: " .. text, mg.one_hot, {bad}, 3)
      refuses("bincount: " .. text, mg.bincount, {bad})
      refuses("cross_entropy: " .. text, mg.cross_entropy, mg.ones(2, 3), {bad, 1})
      refuses("nll_loss: " .. text, mg.nll_loss, mg.ones(2, 3), {bad, 1})
    end
    refuses("element 1 is a boolean", mg.embedding, {true}, mg.ones(3, 2))
    refuses("must be a whole number, not 1.5", mg.embedding, 1.5, mg.ones(3, 2))
    assert.same({{1, 1}}, mg.embedding({1.0}, mg.ones(3, 2)):totable())
  end)

  it("do not wrap around", function()
    local most, least = math.maxinteger, math.mininteger
    assert.equal(0, mg.linspace(least, most, 3)[2]:item())
    local a = mg.tensor{{1, 0}, {0, 2}}
    assert.same({{1, 0}, {0, 0}}, mg.matrix_power(a, least):totable())
    local p = mg.nn.init.uniform(mg.Variable{1, 2}, -1, most)
    assert(p:min():item() >= -1)
    refuses("bins are too many", mg.histogram, mg.ones(3), most)
    for _, layer in ipairs{"LSTM", "GRU", "LSTMCell"} do
      refuses(layer .. ": rand: a dim must be a whole number", mg.nn[layer], 2, most)
    end
    refuses("a dim must be a whole number", mg.nn.MultiHeadAttention, most, 1)
    refuses("GPT: ", mg.models.GPT, 2, {n_embd = most, n_head = 1})
    for _, k in ipairs{most, most - 1, 1 << 62} do
      assert(helper.same(a, mg.tril(a, k)))
      assert(helper.same(mg.zeros(2, 2), mg.triu(a, k)))
      assert(helper.same(a, mg.triu(a, -k - 1)))
      assert(helper.same(mg.zeros(2, 2), mg.tril(a, -k - 1)))
    end
    refuses("cut more than axis 2 of shape (2, 2) has", mg.pad, a, {least, 0})
    refuses("cut more than axis 2 of shape (2, 2) has", mg.pad, a, {least, most})
    for _, records in ipairs{most, 1 << 32, (1 << 32) + 1} do
      local double = mg.compile(function(x) return x * 2 end, {max = records})
      for n = 1, 3 do assert.same({2}, double(mg.ones(n, 1))[n]:totable()) end
    end
  end)
end)

describe("numbers", function()
  it("that cannot be meant are refused", function()
    refuses("clamp: min is nan", mg.clamp, {1, 2}, {min = nan})
    refuses("hardtanh: min is nan", mg.hardtanh, {1, 2}, {min = nan})
    refuses("Hardtanh: max is nan", mg.nn.Hardtanh, {max = nan})
    refuses("trunc_normal: a is nan", mg.nn.init.trunc_normal, mg.Variable{1}, {a = nan})
    refuses("uniform: low must be no more than high", mg.nn.init.uniform, mg.Variable{1}, 5, 1)
    refuses("dampening must be", mg.optim.SGD, {mg.Variable{1}}, {dampening = nan})
    refuses("rate = -1 is negative", mg.optim.weight_decay, -1)
    refuses("histogram: the edges must rise", mg.histogram, {1, 2}, {1, 3, 2})
    refuses("progress: a number must be whole and not negative", mg.progress, -1)
    refuses("progress: got a string", mg.progress, "3")
  end)

  it("of which nothing but nan would come are refused", function()
    local W, init = mg.Variable{1, 2}, mg.nn.init
    for _, row in ipairs{
      {"celu", mg.celu, "alpha", {1, 2}}, {"softplus", mg.softplus, "beta", {1, 2}},
      {"elu", mg.elu, "alpha", {1, 2}}, {"leaky_relu", mg.leaky_relu, "slope", {1, 2}},
      {"var", mg.var, "correction", {1, 2}}, {"cov", mg.cov, "correction", {{1, 2}, {2, 4}}},
      {"trapezoid", mg.trapezoid, "dx", {1, 2}}, {"isclose", mg.isclose, "rtol", {0}, {0}},
      {"numerical_grad", mg.numerical_grad, "eps", mg.sin, mg.ones(1)},
      {"pairwise_distance", mg.pairwise_distance, "eps", {{1}}, {{2}}},
      {"hinge_embedding_loss", mg.hinge_embedding_loss, "margin", {1}, {1}},
      {"local_response_norm", mg.local_response_norm, "k", mg.ones(1, 2, 2), 2},
      {"gumbel_softmax", mg.gumbel_softmax, "tau", {1, 2}},
      {"scaled_dot_product_attention", mg.scaled_dot_product_attention, "scale", {{1}}, {{1}},
        {{1}}},
      {"trunc_normal", init.trunc_normal, "mean", W}, {"trunc_normal", init.trunc_normal, "std", W},
      {"orthogonal", init.orthogonal, "gain", mg.Variable{{1}}},
      {"SGD", mg.optim.SGD, "lr", {W}}, {"Adam", mg.optim.Adam, "weight_decay", {W}},
      {"cosine", mg.optim.cosine, "eta_min", mg.optim.SGD{W}, 3},
    } do
      local name, f, option = table.unpack(row, 1, 3)
      local args = table.move(row, 4, #row, 1, {})
      for _, v in ipairs{inf, -inf, nan} do
        args[#row - 2] = {[option] = v}
        refuses(("%s: %s"):format(name, option), f, table.unpack(args))
      end
      args[#row - 2] = {[option] = inf}
      refuses(("%s: %s must be finite, got inf"):format(name, option), f, table.unpack(args))
    end
    refuses("linspace: b must be finite, got inf", mg.linspace, 1, inf, 3)
    refuses("range: step is nan", mg.range, 1, 4, nan)
    refuses("normal: mean must be finite, got nan", mg.normal, nan, 1)
    refuses("Normalize: mean[2] must be finite, got nan", mg.data.Normalize, {0, nan}, {1, 1})
  end)

  it("without end are taken where they mean something", function()
    assert.same({0, 0}, mg.softshrink({1, 2}, inf):totable())
    assert.equal(2, mg.huber_loss({2}, {0}, {delta = inf}):item())
    assert(mg.allclose({1}, {9}, {atol = inf}))
    local w = mg.Variable{3, 4}
    mg.sum(w * w):backward()
    assert.equal(10, mg.optim.clip_grad_norm({w}, inf))
    assert.same({6, 8}, w.grad:totable())
    mg.optim.plateau(mg.optim.SGD{w}, {patience = inf, cooldown = inf})
  end)

  it("that take the place of others stay what they are", function()
    local y = mg.nan_to_num({nan, inf, -inf}, {nan = inf})
    assert.same({inf, mg.nan_to_num(mg.tensor(inf)):item()}, y[{{1, 2}}]:totable())
    assert.equal(inf, mg.nan_to_num(mg.tensor(inf), {posinf = inf}):item())
    y = mg.nan_to_num(mg.tensor(-inf), {neginf = nan}):item()
    assert(y ~= y)
    assert.same({1}, mg.range(1, 5, inf):totable())
  end)
end)

describe("arguments", function()
  it("of transpose that would exchange two axes elsewhere, and nothing here", function()
    local text = "transpose: axes %d, %d in this order leave shape (2, 3) as it is; swapaxes " ..
      "exchanges two"
    for _, axes in ipairs{{1, 2}, {-2, -1}, {1, -1}, {-2, 2}} do
      refuses(text:format(table.unpack(axes)), mg.transpose, mg.ones(2, 3), table.unpack(axes))
      refuses(text:format(table.unpack(axes)), mg.transpose, mg.ones(2, 3), axes)
    end
    refuses("transpose: 2 axes given for shape (2, 3, 4); swapaxes exchanges two", mg.transpose,
      mg.ones(2, 3, 4), 2, 3)
    assert.equal(3, #mg.ones(2, 3):transpose(2, 1))
    assert.equal(2, #mg.ones(2, 3):permute(1, 2))
  end)

  it("behind a nil are not passed over", function()
    refuses("transpose: axes[1] must be a whole number, not a nil", mg.transpose, mg.ones(2, 3),
      nil, 5)
    refuses("Concat: the dataset is a nil", mg.data.Concat, mg.data.Spiral(), nil,
      mg.data.Spiral())
  end)

  it("that are nil are not those that may be left out in front", function()
    local nn = mg.nn
    for _, name in ipairs{"Linear", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"} do
      refuses(name .. ": argument 2 is a nil, expected a whole number", nn[name], 3, nil)
      refuses(name .. ": argument 2 is a nil, expected a whole number", nn[name], 3, nil, nil)
      assert.equal(tostring(nn[name](3)), tostring(nn[name](nil, 3)))
      assert.equal(tostring(nn[name](3, {bias = false})),
        tostring(nn[name](3, {bias = false}, nil)))
    end
    for _, name in ipairs{"Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"} do
      refuses(name .. ": argument 3 is a nil", nn[name], 3, 16, nil)
      assert.equal(tostring(nn[name](3, 2)), tostring(nn[name](nil, 3, 2)))
    end
  end)

  it("that are one too many are counted", function()
    local path = child.folder() .. "/a.npz"
    mg.save(path, {a = mg.ones(1)})
    refuses("load: argument 3, a number, is one too many", mg.load, path, {list = true}, 3)
  end)

  it("and names have no NULs", function()
    refuses("the name a... has a NUL", mg.Variable, {1}, "a\0b")
    refuses("the name a... has a NUL", function() mg.Variable{1}.name = "a\0b" end)
    refuses("Function: the name f... has a NUL", mg.Function,
      {name = "f\0", forward = print, backward = print})
    refuses("the path", mg.training.Checkpoint, "a\0b", {model = mg.nn.Linear(1, 1)})
    refuses("the path", mg.training.Checkpoint, "", {model = mg.nn.Linear(1, 1)})
  end)

  it("that == gave are no arrays", function()
    local x, mask = mg.tensor{1, 2}, mg.tensor{true, false}
    local told = "is a boolean, expected a Variable"
    refuses("mean: argument 1 " .. told .. " (x); == asks whether both are one Variable, mg.eq",
      mg.mean, x == mg.tensor{1, 2})
    for _, name in ipairs{"sum", "all", "any", "count_nonzero", "nonzero", "exp", "logical_not"} do
      refuses(name .. ": argument 1 " .. told, mg[name], x == 1)
    end
    refuses("where: argument 1 " .. told .. "; == asks whether", mg.where, x == 1, 1, 0)
    refuses("masked_fill: argument 2 " .. told, mg.masked_fill, x, x == 1, 0)
    refuses("mul: argument 1 " .. told, function() return (x == 1) * x end)
    refuses("add: argument 2 " .. told, function() return x + true end)
    refuses("logical_and: argument 1 " .. told, mg.logical_and, x == 1, x == 2)
    refuses("index: a boolean, expected a number, a table or a Variable; == asks whether",
      function() return x[x == 1] end)
    refuses("accuracy: argument 2 " .. told, mg.accuracy, mg.ones(2, 2), x == 1)
    refuses("Normal: argument 2 is a boolean", mg.distributions.Normal, 0, true)
    refuses("einsum: argument 2 " .. told, mg.einsum, "i->", x == 1)
    refuses("meshgrid: argument 1 " .. told, mg.meshgrid, x == 1, x)
    assert.same({true, false}, mask:eq(true):totable())       -- beside bools they are what they say
    assert.same({true, true}, mask:logical_or(true):totable())
    assert.same({false, true}, mg.where(mask, false, true):totable())
    assert.same({true, false}, (mask & true):totable())
    assert.same({true, true}, mask:scatter(1, mg.tensor({2}, "int64"), true):totable())
    assert.same({false, false}, mask:masked_fill(mask, false):totable())
    assert.same({true, true}, mg.full({2}, true):totable())
  end)

  it("that are objects say of what", function()
    local model, ds = mg.nn.Linear(2, 1), mg.data.Spiral()
    refuses("mean_squared_error: an object of Linear is not read as data", mg.mean_squared_error,
      model, mg.ones(2))
    refuses("sum: an object of Spiral is not read as data", mg.sum, ds)
    refuses("Linear: linear: an object of Linear is not read as data", model, model)
  end)

  it("that are tables of Variables say what makes one", function()
    local x = mg.ones(2)
    for _, t in ipairs{{x, x}, {1, x}, {{1, 2}, x}} do
      refuses("is a Variable, expected a number: mg.stack makes one of several", mg.tensor, t)
    end
    local h = mg.ones(1, 1, 2)
    refuses("LSTM: the state has 3 values, expected h and c", mg.nn.LSTM(2, 2), mg.ones(1, 1, 2),
      {h, h, h})
    refuses("LSTMCell: the state has 3 values, expected h and c", mg.nn.LSTMCell(2, 2),
      mg.ones(1, 2), {h[1], h[1], h[1]})
    refuses("mg.stack makes one of several", mg.nn.GRU(2, 2), mg.ones(1, 2), {x})
  end)

  it("of no dtype are none", function()
    refuses("frombytes: no dtype", mg.frombytes, "", "float32\0", {0})
    refuses("index_add: uint8 values cannot be added up", mg.index_add,
      mg.ones{2, dtype = "uint8"}, 1, {1}, {1})
  end)

  it("in lists are all read", function()
    local function decay(_, y) return -y end
    refuses("odeint: tensor: element 2 is a nil", mg.odeint, decay, 1.0, {0, nil, 1})
    refuses("a table of data has the key x", mg.odeint, decay, 1.0, {0, 1, x = 2})
    local strings = mg.signature "f(names: strings)"
    assert.same({"a", "b"}, (strings{"a", "b"}))
    refuses("names[2] is a number, expected a string", strings, {"a", 1})
    refuses("names[2] is a nil, expected a string", strings, {"a", nil, "b"})
    refuses("unknown option x", strings, {"a", x = "b"})
    refuses("has a NUL", strings, {"a\0"})
  end)
end)

describe("data", function()
  local data = mg.data
  local pairs_of = data.TensorDataset(mg.range(1, 6), mg.range(1, 6))
  local text = data.Text{text = ("abc "):rep(50), length = 5}
  local twice = pairs_of:map(function(x, t) return 2 * x, t end)

  it("are objects, whose methods are called by a colon", function()
    local ds = data.TensorDataset(mg.ones(3))
    for _, of in ipairs{ds, data.Spiral(), ds:map(mg.relu), data.Concat(ds, ds)} do
      refuses("get: a number is no dataset; methods are called by a colon", of.get, 1)
      refuses("batch: a number is no ", of.batch, 1, 2)
    end
    for name, class in pairs{TensorDataset = data.TensorDataset, Spiral = data.Spiral} do
      refuses("get: " .. name .. " is a class; methods are called by a colon", class.get, class, 1)
      refuses("batch: " .. name .. " is a class; methods are", class.batch, class, 1, 2)
      local got = (": got the class %s, expected a dataset: %s(...) makes one"):format(name, name)
      refuses("DataLoader" .. got, data.DataLoader, class)
      refuses("random_split" .. got, data.random_split, class, {1})
    end
    refuses("SequenceLoader: got the class Text, expected", data.SequenceLoader, data.Text,
      {length = 2})
  end)

  it("have items 1..n, and -1 is the last", function()
    for _, ds in ipairs{pairs_of, text, twice, data.Subset(pairs_of, {1, 3}),
                        data.Concat(pairs_of, pairs_of)} do
      local n = #ds
      refuses("there is no [1]: its items come by get(i), from 1 on", function() return ds[1] end)
      refuses("there is no [1]", function() ipairs(ds)(ds, 0) end)
      assert(mg.equal((ds:get(-1)), (ds:get(n))))
      assert(mg.equal((ds:batch(1, -1)), (ds:batch(1, n))))
      for _, i in ipairs{0, n + 1, -n - 1} do
        refuses(("get: item %d is not in 1..%d"):format(i, n), ds.get, ds, i)
        refuses(("batch: item %d is not in 1..%d"):format(i, n), ds.batch, ds, 1, i)
      end
      refuses("batch: there are no items from 2 to 1", ds.batch, ds, 2, 1)
    end
  end)

  it("that have no get say so", function()
    local Half = data.Dataset:extend "Half"
    function Half.__len() return 3 end
    local ds = Half()
    refuses("batch: the dataset is a table, expected one with # and :get(i)", ds.batch, ds, 1, 2)
    refuses("map: the dataset is a table, expected one with # and :get(i)", ds.map, ds, print)
  end)

  it("come in batches of one size until a pass is over", function()
    local n = 6
    local ds = setmetatable({get = function(_, i) return i end}, {__len = function() return n end})
    for _, sizes in ipairs{{1, 2}, {2, 1}, {4, 3}} do
      n = 6
      local loader = mg.data.DataLoader(ds, {batch_size = sizes[1]})
      for pass = 1, 2 do
        local items = {}
        for x in loader do
          for _, i in ipairs(x:totable()) do items[#items + 1] = i end
          loader.batch_size = sizes[2]
          n = 7
        end
        assert.same(pass == 1 and {1, 2, 3, 4, 5, 6} or {1, 2, 3, 4, 5, 6, 7}, items)
      end
    end
    n = 12
    local loader = mg.data.SequenceLoader(ds, {batch_size = 2, length = 2})
    for _, shapes in ipairs{{"(2, 2)", "(2, 2)", "(2, 2)"}, {"(3, 3)", "(1, 3)"}} do
      local got = {}
      for x in loader do
        got[#got + 1] = tostring(x.shape)
        loader.batch_size, loader.length = 3, 3
        if #shapes == 3 then assert.equal(2, #loader) end
      end
      assert.same(shapes, got)
    end
  end)

  it("are gone through by what can be", function()
    refuses("RandomSampler: the dataset is a number", data.RandomSampler, 3)
    local halve = setmetatable({}, {__call = function(_, x) return x / 2 end})
    for x in data.DataLoader(pairs_of, {batch_size = 6, transform = halve}) do
      assert.equal(3, x[6]:item())
    end
    refuses("the list of transforms has the key foo", data.DataLoader, pairs_of,
      {transform = {halve, foo = halve}})
  end)

  it("are changed by sizes and numbers that can be", function()
    for _, size in ipairs{0, -3} do
      for _, name in ipairs{"RandomCrop", "CenterCrop", "Resize"} do
        refuses(name .. ": size must be at least 1", data[name], size)
      end
    end
    refuses("padding = -1 is negative", data.RandomCrop, 2, {padding = -1})
    refuses("std must be positive", data.Normalize, 0, 0)
    refuses("must be finite", data.Normalize, nan, 1)
  end)
end)

describe("a state", function()
  it("holds what state() gives, and nothing that cannot be", function()
    local model = mg.nn.Linear(2, 1)
    local opt = mg.optim.SGD(model)
    refuses("load_state: argument 1 is a Linear, expected a table", model.load_state, model, model)
    refuses("load_state: argument 1 is the class Linear", model.load_state, model, mg.nn.Linear)
    refuses("load_state: argument 1 is an SGD, expected a table", opt.load_state, opt, opt)
    refuses("Checkpoint: argument 2 is a Linear", mg.training.Checkpoint, "no", model)
    local ema = mg.training.EMA(model)
    ema:update()
    for _, object in ipairs{
      mg.data.DataLoader(mg.data.Spiral()), mg.training.EarlyStopping(3), ema,
      mg.optim.cosine(opt, 10), mg.optim.plateau(opt), mg.data.ByteTokenizer(),
      mg.data.CharTokenizer "abc", mg.data.BPETokenizer("abab", 258),
    } do
      local state = object:state()
      object:load_state(state)
      refuses("load_state: argument 1 is a", object.load_state, object, object)
      state.foo = 1
      refuses("foo", object.load_state, object, state)
      state.foo = nil
      for name, value in pairs(state) do
        local counts = name == "pass" or name == "bad" or name == "count" or name == "t"
        if math.type(value) == "integer" and counts and not state.rest then
          state[name] = -1
          assert.is_false((pcall(object.load_state, object, state)), name)
          state[name] = value
        end
      end
      object:load_state(state)
    end
  end)
end)

describe("tables as text", function()
  it("are written so that they can be read", function()
    local path = child.folder() .. "/a.csv"
    for delimiter in (".1-+eN\0"):gmatch "." do
      refuses("the delimiter is", mg.save, path, mg.ones(2, 2), {delimiter = delimiter})
    end
    refuses("has a NUL", mg.save, path, {["a\0b"] = {1}})
    refuses("two columns are called a", mg.save, path, mg.ones(2, 2), {columns = {"a", "a"}})
    refuses("columns[2] is a nil", mg.save, path, {a = {1}, b = {2}}, {columns = {"a", nil, "b"}})
    refuses("column a has the key x", mg.save, path, {a = {1, x = 2}})
    refuses("a boolean is no name", mg.save, path, {[true] = {1}})
  end)

  it("have rows that end with CR, too", function()
    local path = child.folder() .. "/a.csv"
    child.write(path, 'a,b\r1,"x\ry"\r\r2,z\r')
    local t = mg.load(path)
    assert.same({{1, 2}, {"x\ry", "z"}}, {t.a:totable(), t.b})
  end)

  it("are read by names that are names", function()
    local path = child.folder() .. "/a.csv"
    mg.save(path, {a = {1, 2}})
    refuses("unknown option x", mg.load, path, {missing = {x = "?"}})
    refuses("header[1] is a number", mg.load, path, {header = {5}})
    refuses("unknown option -1", mg.load, path, {[-1] = "a"})
  end)
end)

describe("a log", function()
  it("has names that its file does not have", function()
    local folder = child.folder()
    for _, ending in ipairs{"csv", "jsonl"} do
      local log <close> = mg.log(folder .. "/a." .. ending)
      refuses("the name step is taken", log.scalar, log, "step", 1)
      refuses("the name time is taken", log.scalars, log, {time = 1})
      refuses("scalars: loss is a string, expected a number", log.scalars, log, {loss = "x"})
      refuses("scalars: loss has shape (2)", log.scalars, log, {loss = mg.ones(2)})
    end
    refuses("two columns are called a", mg.log, folder .. "/b.csv", {columns = {"a", "a"}})
  end)

  it("goes on behind what was written, columns and all", function()
    local folder = child.folder()
    local log = mg.log(folder .. "/a.csv", {columns = {"a", "b"}})
    log:scalar("a", 1)
    log:close()
    refuses("has the columns a, b", mg.log, folder .. "/a.csv", {append = true, columns = {"b"}})
    child.write(folder .. "/a.jsonl", '{"step":1,"los')
    log = mg.log(folder .. "/a.jsonl", {append = true})
    log:scalar("loss", 1, 2)
    log:close()
    assert(child.read(folder .. "/a.jsonl"):find '^{"step":1,"los\n{"step":2,[^\n]*}\n$')
  end)
end)

describe("a plot", function()
  it("draws all that it is given, or says why not", function()
    local path = child.folder() .. "/a.svg"
    local function no(text, t)
      t.path = path
      refuses("plot: " .. text, mg.plot, t)
    end
    no("layers: a list is expected, of its 3 values some are nil", {{1, 2}, nil, {3, 4}})
    no("layers: a list is expected, it has the key 0", {{1, 2}, [0] = {1, 2}})
    no("plots: a list is expected, it has the key a", {plots = {a = {{1, 2}}}})
    no("labels: a list is expected, it has the key a", {{1, 2}, labels = {a = "b"}})
    no("there are 3 labels for 1 layers", {{1, 2}, labels = {"a", "b", "c"}})
    no("labels[1] is a table", {{1, 2}, labels = {{}}})
    no("xticks[1] is a table", {{1, 2}, xticks = {{}}})
    no("xticks[1] is nan", {{1, 2}, xticks = {nan}})
    no("hlines[1] is inf", {{1, 2}, hlines = {inf}})
    no("xlim is {from, to}", {{1, 2}, xlim = {nan, 1}})
    no("extent must be finite", {image = mg.ones(2, 2), extent = {0, nan, 0, 1}})
    no("levels[1] is nan", {contour = mg.rand(3, 3), levels = {nan}})
    no("columns are those of several plots", {{1, 2}, columns = 3})
    no("xlabel is that of each of the plots", {plots = {{{1, 2}}}, xlabel = "x"})
    no("clim is of no use where no values are shown as colours", {{1, 2}, clim = {0, 1}})
    no("palette is of no use where no values are", {image = mg.rand(3, 2, 2), palette = "gray"})
    no("style is that of curves, and there are none", {bars = {1, 2}, style = "points"})
    no("size is {width, height}, from {40, 10}", {{1, 2}, size = {30, 10}})
    no("layer 1: a live plot begins without points", {{1, 2}, live = true})
  end)
end)

describe("a picture", function()
  it("alone has no grid's options", function()
    local path = child.folder() .. "/a.png"
    refuses("so is padding", mg.save, path, mg.ones(2, 2), {padding = 1})
    refuses("so is padding", mg.save, path, mg.ones(2, 2), {columns = 1})
  end)
end)

describe("a cache of a GPT", function()
  it("is its own", function()
    local gpt = mg.models.GPT(10, {block_size = 8, n_layer = 2, n_head = 2, n_embd = 4})
    local tokens = mg.tensor({{1, 2, 3}}, "int64")
    for _, cache in ipairs{{1}, {x = 1}, {{}, {}}, {length = 2}} do
      refuses("GPT: cache must be an empty table", gpt, tokens, {cache = cache})
    end
    local cache = {}
    gpt(tokens, {cache = cache})
    refuses("GPT: ", gpt, mg.tensor({{11}}, "int64"), {cache = cache})
    assert.equal(3, cache.length)
    local y = gpt(mg.tensor({{4}}, "int64"), {cache = cache})
    assert(mg.allclose(y[{{}, 1}], gpt(mg.tensor({{1, 2, 3, 4}}, "int64"))[{{}, 4}]))
  end)
end)

describe("a distribution", function()
  local D = mg.distributions

  it("has parameters that are its own", function()
    refuses("Normal: loc must be finite", D.Normal, nan, 1)
    refuses("Laplace: loc must be finite", D.Laplace, nan, 1)
    refuses("Bernoulli: logits must be a number", D.Bernoulli, nil, {logits = nan})
    refuses("Categorical: probs must be finite, and some above 0", D.Categorical, {0, 0})
    refuses("Categorical: probs must be 0 or more and finite", D.Categorical, {inf, 1})
    refuses("Categorical: there are no labels", D.Categorical, mg.zeros(0))
    local function normal(...) return D.MultivariateNormal({0, 0}, ...) end
    refuses("loc must be finite", D.MultivariateNormal, {nan, 0}, mg.eye(2))
    refuses("the covariance must be symmetric", normal, {{1, 0.5}, {0, 1}})
    refuses("scale_tril must be lower triangular", normal, nil, {scale_tril = {{1, 5}, {0, 1}}})
    refuses("the covariance must be finite", normal, {{1 / 0, 0}, {0, 1}})
    refuses("the covariance must be finite", normal, {{1, 0 / 0}, {0 / 0, 1}})
    refuses("scale_tril must be finite", normal, nil, {scale_tril = {{1, 0}, {0 / 0, 1}}})
    refuses("the diagonal of scale_tril must be positive", normal, nil,
      {scale_tril = {{-1, 0}, {0, 1}}})
  end)

  it("of labels, and metrics, know whole numbers alone", function()
    local d = D.Categorical{0.5, 0.5}
    refuses("log_prob: labels must be whole numbers", d.log_prob, d, {1.5})
    assert.equal(math.log(0.5), d:log_prob({1.0})[1]:item())
    local matrix = mg.metrics.confusion_matrix
    refuses("confusion_matrix: labels must be whole numbers", matrix, {1.5, 2}, {1, 2})
    refuses("confusion_matrix: labels must be whole numbers", matrix, {1, 2}, {1, nan})
    refuses("classes are too many", matrix, {1, 2}, {1, 2}, {classes = math.maxinteger})
  end)
end)

describe("a solver", function()
  local function decay(_, y) return -y end

  it("takes what it uses", function()
    refuses("odeint: rk4 takes steps of one length, and no rtol", mg.odeint, decay, 1.0, {0, 1},
      {method = "rk4", rtol = 1e-3})
    refuses("odeint: step = ", mg.odeint, decay, 1.0, {0, 1}, {method = "rk4", step = 1e-320})
    refuses("root: f gave a nil", mg.root, function() end, mg.ones(2))
  end)
end)

describe("an optimizer", function()
  local optim = mg.optim

  it("and its like take all of a list", function()
    local p, q = mg.Variable{1, 2}, mg.Variable{1}
    for _, list in ipairs{{p, nil, q}, {p, x = q}} do
      refuses("SGD: the table of parameters has the key", optim.SGD, list)
      refuses("clip_grad_norm: the table of parameters has the key", optim.clip_grad_norm, list, 1)
    end
    local opt = optim.SGD{p}
    local schedule = optim.cosine(opt, 3)
    refuses("chained: the list of schedules has the key x", optim.chained, {schedule, x = 1})
    refuses("sequential: the list of schedules has the key 3", optim.sequential,
      {schedule, nil, schedule}, {1})
    refuses("milestones[1] must be", optim.multistep, opt, {nan})
  end)

  it("has options that fit together, whenever they are assigned", function()
    local opt = optim.Adam{mg.Variable{1, 2}}
    refuses("betas has 1 numbers, expected 2", function() opt.betas = {0.5} end)
    assert.same({0.9, 0.999}, opt.betas)
    local sgd = optim.SGD({mg.Variable{1}}, {momentum = 0.9, nesterov = true})
    refuses("nesterov needs momentum", function() sgd.momentum = 0 end)
    assert.equal(0.9, sgd.momentum)
  end)

  it("without an update says so", function()
    local p = mg.Variable{1}
    local opt = optim.Optimizer:extend("Lazy", "lr: number = 1"){p}
    p.grad = mg.ones(1)
    refuses("Lazy: no update method", opt.step, opt)
  end)
end)

describe("what a function that was handed over gives", function()
  local x = mg.Variable{1, 2}

  it("is one result, where no second one is passed on", function()
    local function two() return x, x end
    refuses("odeint: f gave 2 results, expected one", mg.odeint, two, x, {0, 1})
    refuses("minimize: f gave 2 results, expected one", mg.minimize, two, x)
    refuses("root: f gave 2 results, expected one", mg.root, two, x)
    refuses("tree_map: fn gave 2 results, expected one", mg.tree_map, two, {x})
    refuses("hessian: f returned 2 results, expected one", mg.hessian, two, x)
    refuses("hvp: f returned 2 results, expected one", mg.hvp, two, x, x)
    refuses("hook: fn gave 2 results, expected one", function()
      (x * 2):hook(function(g) return g, g end):sum():backward()
    end)
    local layer = mg.nn.Linear(2, 1)
    layer:add_hook("backward", function(_, g, k) return g, k end)
    refuses("hook: fn gave 2 results, expected one", function() layer(x):sum():backward() end)
    local opt = mg.optim.LBFGS({mg.Variable{1}})
    refuses("step: the closure gave 2 results", opt.step, opt, function() return 1, 2 end)
    refuses("lambda: the function gave 2 results", mg.optim.lambda, opt,
      function() return 1, 2 end)
    local _, pull = mg.vjp(mg.sin, x)
    refuses("vjp: expected one gradient", pull, mg.ones(2), mg.ones(2))
  end)

  it("is a gradient, if LBFGS is to go by it", function()
    local p = mg.Variable{1}
    local opt = mg.optim.LBFGS({p})
    refuses("step: the closure left no gradients: it calls backward", opt.step, opt,
      function() return (p * p):sum() end)
  end)
end)

describe("a schedule", function()
  it("has fields of its own alone, and a t that counts steps", function()
    local opt = mg.optim.SGD({mg.Variable{1}}, {lr = 1})
    for _, schedule in ipairs{mg.optim.step(opt, 2), mg.optim.plateau(opt)} do
      refuses(schedule.kind .. ": there is no field gama", function() schedule.gama = 0.5 end)
      for _, t in ipairs{"x", -1, 1.5, false} do
        schedule.t = t
        assert(tostring(schedule):find(tostring(t), 1, true))
        refuses("step: t is " .. tostring(t) .. ", expected a number of steps", schedule.step,
          schedule, schedule.kind == "plateau" and 1 or nil)
      end
      schedule.t = 4
      schedule:step(schedule.kind == "plateau" and 1 or nil)
      assert.equal(5, schedule.t)
    end
  end)

  it("is of an optimizer that has a rate", function()
    local Plain = mg.optim.Optimizer:extend "Plain"
    function Plain:update(p, g) return {p}, {p - g} end -- luacheck: no self
    local p = mg.Variable{1}
    local opt = Plain{p}
    p.grad = mg.ones(1)
    opt:step()
    refuses("step: Plain has no lr", mg.optim.step, opt, 2)
    local state = opt:state()
    assert.is_nil(state.lr)
    assert.equal(opt, opt:load_state(state))
    state.lr = mg.tensor(1)
    refuses("load_state: lr is unexpected", opt.load_state, opt, state)
  end)
end)

describe("a rule", function()
  it("has options that can be read when it is made", function()
    refuses('extend: signature Odd({lr number}): "}" expected', mg.optim.Optimizer.extend,
      mg.optim.Optimizer, "Odd", "lr number")
    refuses("Rprop: step_sizes must be {least, most}", mg.optim.Rprop, {mg.Variable{1}},
      {step_sizes = {50, 1e-6}})
    local p = mg.Variable{1}
    refuses("SGD: the list of groups has the key x", mg.optim.SGD, {{params = {p}}, x = 1})
    local opt = mg.optim.SGD{p}
    opt.groups[2] = {params = {mg.Variable{2}}}
    refuses("step: group 2 was not made by add_group", opt.step, opt)
    refuses("clip_grad_norm: parameters 1 and 2 are the same", mg.optim.clip_grad_norm, {p, p}, 1)
  end)
end)

describe("a table that was given", function()
  it("may be changed later, and nothing else is", function()
    local p, q = mg.Variable{1}, mg.Variable{1}
    p.grad, q.grad = mg.ones(1), mg.ones(1)
    local list, group = {p}, {p}
    local opt, of_groups = mg.optim.SGD(list, {lr = 1}), mg.optim.SGD({{params = group}}, {lr = 1})
    list[1], group[1] = q, "x"
    opt:step()
    of_groups:step()
    assert.same({-1, 1}, {p:item(), q:item()})
    local transforms = {mg.square}
    local loader = mg.data.DataLoader(mg.data.TensorDataset(mg.tensor{3}), {transform = transforms})
    transforms[1] = 5
    for x in loader do assert.equal(9, x:item()) end
    local parts = {model = mg.nn.Linear(1, 1)}
    local checkpoint = mg.training.Checkpoint(child.folder(), parts)
    parts.more = 5
    checkpoint:save(1)
    assert.equal(1, checkpoint:load())
  end)
end)

describe("averages", function()
  it("take a state of their own kind, of their own parameters", function()
    local model = mg.nn.Linear(1, 1)
    local ema, swa = mg.training.EMA(model), mg.training.SWA(model)
    refuses("copy: there are no averages yet", ema.copy, ema)
    ema:update()
    refuses("load_state: this is the state of EMA, not of SWA", swa.load_state, swa, ema:state())
    local state = ema:state()
    state.values.more = mg.tensor(1)
    refuses("load_state: more is unexpected", ema.load_state, ema, state)
    assert.equal(ema, ema:load_state(ema:state()))
  end)
end)

describe("a model", function()
  local nn = mg.nn

  it("has members that can be called, without a hole", function()
    local model = nn.Sequential(nn.ReLU())
    refuses("Sequential: there is no member 2 for member 3 to follow", function()
      model[3] = nn.ReLU()
    end)
    model[2] = "relu"
    refuses("Sequential: member 2 is a string, expected a module or a function", model, mg.ones(1))
    model[2] = mg.tanh
    assert.near(1 - 2 / (math.exp(2) + 1), model(mg.ones(1)):item(), 1e-12)
  end)

  it("has one parameter of a name", function()
    local Own = nn.Module:extend "Own"
    function Own:init()
      self["a.b"] = nn.Parameter{1}
      self.a = {b = nn.Parameter{2}}
    end
    local model = Own()
    refuses("state: two parameters or buffers are called a.b", model.state, model)
  end)

  it("is not frozen before it has parameters", function()
    local model = nn.Sequential(nn.Linear(3, 2), nn.Linear(1))
    refuses("freeze: Linear has no parameters yet (1): it has not seen an input", model.freeze,
      model)
    assert.is_true(model[1].weight.requires_grad)
    model(mg.ones(1, 3))
    model:freeze()
    for p in model:parameters() do assert.is_false(p.requires_grad) end
  end)

  it("gives its parameters once it has them all, to hooks as to optimizers", function()
    local optim = mg.optim
    local model = nn.Sequential(nn.Linear(3), nn.Linear(3, 1))
    local early, frozen = model:parameters(), optim.freeze(model:parameters())
    model(mg.ones(1, 2)):sum():backward()
    local norm = optim.clip_grad_norm(model, math.huge)
    for name, f in pairs{clip_grad_norm = optim.clip_grad_norm, freeze = optim.freeze,
                         clip_grad_value = optim.clip_grad_value} do
      local max = name ~= "freeze" and 1e-3 or nil
      refuses(name .. ": the list of parameters was made before all layers", f, early, max)
      refuses(name .. ": the table of parameters is empty", f, {}, max)
    end
    refuses("freeze: the list of parameters was made before all layers", frozen)
    refuses("clip_grad_norm: ReLU has no parameters", optim.clip_grad_norm, nn.ReLU(), 1)
    refuses("clip_grad_value: ReLU has no parameters", optim.clip_grad_value, nn.ReLU(), 1)
    refuses("freeze: Sequential has no parameters", optim.freeze, nn.Sequential(nn.ReLU()))
    local Own = nn.Module:extend "Own"
    function Own:parameters() return {} end          -- luacheck: no self
    refuses("clip_grad_norm: Own has no parameters", optim.clip_grad_norm, Own(), 1)
    function Own:parameters() return self:named_parameters() end
    refuses("clip_grad_norm: the method parameters of Own gave a function, expected a list",
      optim.clip_grad_norm, Own(), 1)
    optim.freeze(nn.Linear(5))                       -- will have them
    assert.equal(norm, optim.clip_grad_norm(model:parameters(), math.huge))
    model[3] = nn.Linear(5)                          -- waits still: what there is is all
    assert.equal(norm, optim.clip_grad_norm(model:parameters(), math.huge))
  end)

  it("is given to hooks that are called by hand", function()
    local optim, layer = mg.optim, nn.Linear(2, 1, {bias = false})
    layer.weight.data = {{3, 4}}
    layer.weight.grad = layer.weight.data
    for _, params in ipairs{layer, nn.Sequential(layer), layer:parameters(), {layer.weight}} do
      optim.weight_decay(1)(params)
      assert.same({{6, 8}}, layer.weight.grad:totable())
      optim.clip_value(4)(params)
      assert.same({{4, 4}}, layer.weight.grad:totable())
      optim.clip_grad(1)(params)
      assert.is_true(mg.allclose(layer.weight.grad:norm(), 1, {rtol = 1e-6}))
      layer.weight.grad = layer.weight.data
    end
    for name, f in pairs{weight_decay = optim.weight_decay, clip_value = optim.clip_value,
                         clip_grad = optim.clip_grad} do
      refuses(name .. ": a hook takes parameters, a list or a module, not a nil", f(1))
    end
  end)

  it("has parameters that can have gradients", function()
    refuses("Parameter: gradients need floats, this is int64", nn.Parameter, int{1})
  end)
end)

describe("a copy", function()
  it("is given no values, which would be lost", function()
    local x, lost = mg.zeros(2, 3), "assign: target 1 is a copy that x[...] gave"
    refuses(lost, mg.assign, {x[1]}, {mg.ones(3)})
    refuses(lost, mg.assign, {x.T}, {mg.ones(3, 2)})
    refuses("batch_norm: " .. lost, mg.batch_norm, mg.rand(4, 3), x[1], mg.ones(3))
    refuses("constant: " .. lost, mg.nn.init.constant, x[{ {}, {1, 2} }], 1)
    local layer = mg.nn.Linear(2, 1)
    refuses("zeros: assign: target 1 is frozen", mg.nn.init.zeros, layer.weight.data)
    refuses("zeros: assign: target 1 has a creator", mg.nn.init.zeros, layer.weight[1])
    assert.same({{0, 0, 0}, {0, 0, 0}}, x:totable())
    local w = mg.ones(2, 3)[1]
    w.requires_grad = true
    mg.assign({w}, {mg.zeros(3)})
    assert.same({0, 0, 0}, w:totable())
  end)
end)

describe("attention", function()
  it("is of as many sequences as it is given", function()
    for axis, first in ipairs{true, false} do
      local layer = mg.nn.MultiHeadAttention(4, 2, {batch_first = first})
      local function of(n) return axis == 1 and mg.rand(n, 3, 4) or mg.rand(3, n, 4) end
      refuses("MultiHeadAttention: query " .. (first and "(2, 3, 4)" or "(3, 2, 4)"), layer, of(2),
        of(1))
      refuses("with one N", layer, of(2), of(2), of(1))
      assert.same(of(2).shape, layer(of(2), of(2)).shape)
    end
  end)

  it("has masks of bools or floats, by their names", function()
    local layer, x = mg.nn.MultiHeadAttention(4, 2), mg.rand(2, 1, 4)
    refuses("MultiHeadAttention: key_padding_mask is int64, expected bool or floats", layer, x, nil,
      nil, {key_padding_mask = int{{0, 1}}, attn_mask = mg.zeros(2, 2)})
    refuses("MultiHeadAttention: attn_mask is uint8, expected bool or floats", layer, x, nil, nil,
      {attn_mask = mg.zeros{2, 2, dtype = "uint8"}, key_padding_mask = {{true, false}}})
  end)
end)

describe("a sampler", function()
  local ds = mg.data.TensorDataset(mg.ones(3))

  local function loader(positions)
    local Own = mg.data.Sampler:extend "Own"
    function Own:__len() return 3 end -- luacheck: no self
    if positions then function Own:positions() return positions end end -- luacheck: no self
    return mg.data.DataLoader(ds, {sampler = Own()})
  end

  it("chooses of as many items as there are", function()
    local data = mg.data
    for _, sampler in ipairs{data.WeightedRandomSampler({1, 2}, 3),   -- of classes, say
                             data.WeightedRandomSampler({1, 2, 3, 4}, 3),
                             data.RandomSampler(data.TensorDataset(mg.ones(2)))} do
      local loads = data.DataLoader(ds, {sampler = sampler})
      refuses("DataLoader: the sampler chooses of", loads.batches, loads)
    end
    local Buffer = data.Dataset:extend "Buffer"
    function Buffer:__len() return self.n end
    function Buffer:get(i) return mg.full({1}, i) end -- luacheck: no self
    local buffer, sum, n = Buffer(), 0, 0
    buffer.n = 2
    local all = data.DataLoader(buffer, {sampler = data.RandomSampler(buffer)})
    local two = data.RandomSampler(buffer, {num_samples = 2})
    buffer.n = 5                                       -- it grows
    for x in all do sum, n = sum + x:item(), n + 1 end
    assert.same({5, 15, 5}, {n, sum, #all})
    assert.equal(2, #two:positions())
    buffer.n = 1
    refuses("RandomSampler: num_samples = 2 of 1 items needs replacement", two.positions, two)
  end)

  it("that extends one of ours may choose as it likes", function()
    local data, all = mg.data, mg.data.TensorDataset(mg.range(1, 3))
    local places = int{1, 3}
    for _, class in ipairs{data.RandomSampler, data.WeightedRandomSampler} do
      local Own = class:extend "Own"
      function Own:init() end -- luacheck: no self
      function Own:__len() return 2 end -- luacheck: no self
      function Own:positions() return places end -- luacheck: no self
      for x in data.DataLoader(all, {sampler = Own(), batch_size = 2}) do
        assert.same({1, 3}, x:totable())
      end
    end
    local Among = data.RandomSampler:extend "Among"
    function Among:init() data.RandomSampler.init(self, data.TensorDataset(mg.ones(2))) end
    function Among:positions() return places[data.RandomSampler.positions(self)] end
    local sum = 0
    for x in data.DataLoader(all, {sampler = Among()}) do sum = sum + x:item() end
    assert.equal(4, sum)
  end)

  it("gives as many positions as it says", function()
    refuses("Own has no positions: function Own:positions()", loader(), nil, nil)
    for _, bad in ipairs{int{1, 2}, int{1, 2, 3, 3}, int{{1, 2, 3}}, mg.ones(3)} do
      refuses("DataLoader: the sampler gave positions of " .. bad.dtype, loader(bad), nil, nil)
    end
    local n = 0
    for _ in loader{3, 2, 1} do n = n + 1 end
    assert.equal(3, n)
  end)

  it("and other data are lists", function()
    refuses("tensordot: the table of axes has the key x", mg.tensordot, {1}, {1},
      {{1}, {1}, x = 1})
    refuses("tensordot: the axes of b has the key x", mg.tensordot, {1}, {1}, {{1}, {1, x = 2}})
    refuses("Concat: the list of datasets has the key x", mg.data.Concat, {ds, x = ds})
    refuses("Text: the list of paths has the key a", mg.data.Text, {path = {a = "b"}})
    local path = child.path ".csv"
    mg.save(path, {a = {1, 2}, b = {3, 4}})
    refuses("CSV: the list of features has the key x", mg.data.CSV, path, {features = {x = "a"}})
  end)
end)

describe("a class of one's own", function()
  it("has its own get, whoever asks", function()
    local Own = mg.data.TensorDataset:extend "Own"
    function Own:get(i) return 10 * mg.data.TensorDataset.get(self, i) end
    local ds = Own(mg.tensor{1, 2, 3})
    local changed = mg.data.TensorDataset(mg.tensor{1, 2, 3})
    function changed:get(i) return 10 * mg.data.TensorDataset.get(self, i) end
    for _, set in ipairs{ds, changed, Own:extend "More" (mg.tensor{1, 2, 3})} do
      assert.same({10, 20, 30}, set:batch(1, -1):totable())
      assert.same({30, 10}, mg.data.Subset(set, {3, 1}):batch(1, 2):totable())
      assert.same({11, 21, 31}, set:map(function(x) return x + 1 end):batch(1, 3):totable())
      assert.same({30, 10}, mg.data.Concat(set, set):batch(3, 4):totable())
      for _, shuffle in ipairs{true, false} do
        local sum = 0
        for x in mg.data.DataLoader(set, {batch_size = 2, shuffle = shuffle}) do
          sum = sum + x:sum():item()
        end
        assert.equal(60, sum)
      end
    end
    function Own:take(index) return -self:raw()[index] end
    assert.same({-1, -2, -3}, ds:batch(1, 3):totable())
  end)

  it("has fields and methods of its own by names that no part of ours goes by", function()
    local data = mg.data
    local Own = data.Dataset:extend "Own"
    function Own:init() self.steps = 3 end
    function Own:__len() return 4 end -- luacheck: no self
    function Own:get(i) return i end -- luacheck: no self
    local sum = 0
    for x in data.SequenceLoader(Own(), {batch_size = 2, length = 2}) do sum = sum + x:sum() end
    assert.equal(10, sum:item())
    function Own:init() self.get = 3 end
    refuses("DataLoader: the dataset's get is a number, and is called as a method",
      data.DataLoader, Own())
    local layer = mg.nn.Module:extend "Own"()
    layer.dtype = "int8"
    layer:to "float32"
    assert.equal("int8", layer.dtype)
  end)

  it("has an init that can be called", function()
    local Own = mg.data.Dataset:extend "Own"
    function Own:__index(i) return "item" .. i end -- luacheck: no self
    refuses("Own: its init is a string, expected a function", Own)
    Own = mg.nn.Module:extend "Own"
    Own.init = {3}
    refuses("Own: its init is a table, expected a function", Own)
  end)

  it("has a name, and a class that it extends", function()
    local data = mg.data
    for _, class in ipairs{data.Dataset, data.Sampler, data.Tokenizer, data.TensorDataset,
                           data.DataLoader, mg.training.EMA, mg.nn.Module, mg.optim.SGD} do
      refuses("extend: a string is no object; methods are called by a colon", class.extend, "Own")
      refuses("extend: argument 1 is a nil, expected a string (name)", class.extend, class)
      refuses("extend: argument 1 is a number, expected a string (name)", class.extend, class, 1)
      refuses("one too many", class.extend, class, "Own", nil, nil, 1)
      assert.equal("class Own", tostring(class:extend "Own"))
    end
  end)

  it("of tokenizers has both its methods, and whole numbers", function()
    local Own = mg.data.Tokenizer:extend "Own"
    function Own:__len() return 3 end -- luacheck: no self
    refuses("encode: Own has no method ids(text)", Own().encode, Own(), "a")
    refuses("decode: Own has no method token(id)", Own().decode, Own(), int{1})
    function Own:ids() return {1.5} end -- luacheck: no self
    refuses("encode: element 1 is 1.5, expected a whole number", Own().encode, Own(), "a")
    function Own:ids() return {} end -- luacheck: no self
    assert.same({0}, Own():encode("").shape)
  end)
end)

describe("shares that do not add up to 1", function()
  it("have no density", function()
    local p = mg.distributions.Dirichlet{1, 2}:log_prob{{0.5, 0.6}, {0.4, 0.6}, {40, 60}}
    assert.same({-inf, -inf}, {p[1]:item(), p[3]:item()})
    assert(p[2]:item() > 0)
  end)
end)

describe("assert.allclose", function()
  it("compares all leaves of trees, and finds their end", function()
    local a = require "moongrad.luassert"
    a.allclose({n = "x", v = {1, 2}}, {n = "x", v = mg.tensor{1, 2}})
    a.is_not.allclose({n = "x"}, {n = "y"})
    local ring = {}
    ring.ring = ring
    local ok, message = pcall(a.allclose, ring, ring)
    assert(not ok and tostring(message):find "nests too deep", message)
  end)
end)
