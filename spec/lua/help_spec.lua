-- mg.help and the docs behind it; hints where a name is not there.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises

describe("help", function()
  -- What mg.help prints.
  local function help(...)
    return table.concat(helper.printed(mg.help, ...), "\n")
  end

  -- The groups of names that mg.help() lists, by title.
  local function listed()
    local groups, title = {}, nil
    for line in help():gmatch "%C+" do
      assert(#line <= 80, line)
      if line:sub(1, 1) ~= " " then title = line; groups[title] = groups[title] or {}
      else for name in line:gmatch "%S+" do table.insert(groups[title], name) end end
    end
    return groups
  end

  it("knows what is in a module by its name alone, though nothing of it was read", function()
    for _, name in ipairs{"DataLoader", "Linear", "Adam", "f1", "EarlyStopping", "GPT", "Normal"} do
      local said = child.lua(([[-e 'require "moongrad".help "%s"']]):format(name), child.folder())
      assert.is_truthy(said:find("^" .. name .. "%("), said)
    end
  end)

  it("prints an op's signature and one line on it", function()
    assert.equal("softmax(x: array, axis: axis = -1)\nexp(x) / sum(exp(x)) along an axis",
      help "softmax")
    assert.is_truthy(help("matmul"):find("^matmul%(.-%)\n%C+$"))
    assert.is_truthy(help("Config"):find("^Config{.*debug}\n.*errors"))
    assert.is_truthy(help("no_grad"):find("^no_grad%(fn"))
  end)

  it("takes objects of all classes", function()
    local opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
    local live = mg.plot{live = true}
    local log <close> = mg.log(child.path ".jsonl")
    for what, methods in pairs{
      [log] = "what mg.log gives of a path\nmethods\n  close histogram image scalar scalars",
      [live] = "with live = true\nmethods\n  add close", [mg.progress(0)] = "methods\n  set",
      [mg.optim.cosine(opt, 2)] = "the schedules of mg.optim", [mg.optim.plateau(opt)] = "step",
      [mg.data.Spiral():map(print)] = "Mapped\nmethods\n  ",
    } do
      assert(help(what):find(methods, 1, true), help(what))
    end
  end)

  it("takes functions, methods, classes, objects and modules", function()
    assert.equal(help "softmax", help(mg.softmax))
    assert.equal(help "softmax", help(mg.ones(2).softmax))
    assert.equal(help "softmax", help "x:softmax")
    assert.equal(help(mg.ones(2).item), help "Variable:item")
    assert.equal(help "Config", help(mg.Config))
    local linear = mg.nn.Linear(2, 3)
    assert.equal(help "nn.Linear", help(mg.nn.Linear))
    assert.equal(help "nn.Linear", help(linear))
    assert.equal(help "Module:parameters", help(linear.parameters))
    assert(help(linear.parameters):find "^parameters%(%)\n")
    assert.equal(help "nn", help(mg.nn))
    assert(help("nn"):find "%f[%w]LayerNorm%f[^%w_]")
    assert.equal(help(), help(mg))
  end)

  it("knows the parts written in Lua, with their table's name or without", function()
    for _, part in ipairs{"nn", "optim", "data", "metrics", "training"} do
      for name in pairs(mg[part]) do
        local doc = help(part .. "." .. name):gsub("\nmethods\n.*", "")
        assert(doc:find("^" .. name .. "[(:].*%)[^\n]*\n%C+$"), part .. "." .. name)
        if not mg[name] then                              -- exponential is an op as well
          assert.equal(help(part .. "." .. name), help(name))
        end
      end
    end
    for _, name in ipairs{"save", "load", "plot", "plot_graph", "dot_graph", "progress"} do
      assert.is_truthy(help(name):find("^" .. name .. "[({]"))
    end
  end)

  it("lists all functions in groups; each doc is a signature and a line", function()
    local documented, alias, groups = {}, {}, listed()
    local count = 0
    for title, names in pairs(groups) do
      local sorted = table.move(names, 1, #names, 1, {})
      table.sort(sorted)
      assert.same(sorted, names)
      for _, name in ipairs(names) do
        count = count + 1
        assert(name:sub(1, 1) ~= "_")
        local path = type(mg[title]) == "table" and title .. "." .. name or name
        local doc = help(path):gsub("\nmethods\n.*", "")
        assert(doc:find("^" .. name .. "[(:{].*[)}][^\n]*\n%C+$"), doc)
        assert.is_nil(documented[path])
        documented[path] = true
        if mg[path] then documented[mg[path]] = name end
      end
    end
    assert(count > 150)
    assert(groups.nn and groups.optim and groups.elementwise and groups.networks)
    for name, value in pairs(mg) do
      if type(value) == "function" and name:sub(1, 1) ~= "_" and documented[value] ~= name then
        alias[#alias + 1] = name
        assert(mg._docs[value])
      end
    end
    table.sort(alias)
    assert.same({"checked", "define", "help", "raise", "signature", "softmax_cross_entropy"}, alias)
  end)

  it("knows all that methods do", function()
    for _, name in ipairs{"backward", "cleargrad", "detach", "clone", "to", "item", "totable",
                          "free", "unchain", "unchain_backward", "set_creator", "reshape"} do
      assert.is_truthy(help(name):find("^" .. name .. "%("))
    end
  end)

  it("names the methods of a class", function()
    local function text(what)
      return table.concat((helper.printed(mg.help, what)), "\n")
    end
    assert.truthy(text "Checkpoint":find("\nmethods\n  best extend load save$"))
    assert.truthy(text "nn.Linear":find("named_parameters", 1, true))
    assert.truthy(text(mg.optim.SGD)
      :find "\nmethods\n  add_group add_hook cleargrads extend load_state ")
    assert.falsy(text "softmax":find("methods", 1, true))
  end)

  it("tells what a module is called with", function()
    local function text(what)
      return table.concat((helper.printed(mg.help, what)), "\n")
    end
    for _, what in ipairs{"LSTM", mg.nn.LSTM, mg.nn.LSTM(2, 3)} do
      assert.truthy(text(what):find("\ncalled with\n  (x: float, h: variable | list?, c: " ..
        "variable?, {lengths: float | int64 | uint8?}): all outputs", 1, true))
    end
    local Own = mg.nn.Module:extend "Own"
    Own.init = mg.checked("Own(self)", "of one's own", function() end)
    assert.falsy(text(Own):find "called with")
  end)

  it("says when it knows nothing, and what is near", function()
    assert(raises("help: nothing is known of no_such_op", mg.help, "no_such_op"))
    assert(raises("help: nothing is known of 3", mg.help, 3))
    assert(raises("help: nothing is known of softmx; did you mean softmax?", mg.help, "softmx"))
    assert(raises("nothing is known of nn.Liner; did you mean Linear?", mg.help, "nn.Liner"))
    assert(raises("here it is mean_squared_error", mg.help, "mse_loss"))
    assert(raises("help: argument 2, a number, is one too many", mg.help, "softmax", 1))
  end)
end)

describe("a name that is not there", function()
  it("is nil in mg, and an error in a Variable that says what is near", function()
    assert.is_nil(mg.no_such_op)
    for _, name in ipairs{"eval", "save", "einsum"} do
      assert(raises(("a Variable has no method %s; it is mg.%s"):format(name, name),
        function() return mg.ones(2)[name] end))
    end
    assert(raises('a Variable has no property or method "shap"; did you mean shape?',
      function() return mg.ones(2).shap end))
  end)

  it("and is PyTorch's, says ours", function()
    local x, net = mg.ones(2), mg.nn.Linear(2, 3)
    for name, ours in pairs{view = "reshape", numel = "size", tolist = "totable", dim = "ndim",
                            grad_fn = "creator", clip = "clamp", nDimension = "ndim"} do
      assert(raises(("a Variable has no %s; here it is %s"):format(name, ours),
        function() return x[name] end))
    end
    assert(raises("nn has no BatchNorm2d; here it is nn.BatchNorm",
      function() return mg.nn.BatchNorm2d end))
    assert(raises("optim has no StepLR; here it is optim.step",
      function() return mg.optim.StepLR end))
    assert(raises("data has no Compose; here it is a list of transforms",
      function() return mg.data.Compose end))
    assert(raises("nn has no SpatialConvolution; here it is nn.Conv2d",
      function() return mg.nn.SpatialConvolution end))
    assert(raises("dist has no get_rank; here it is mg.dist.rank, from 1",
      function() return mg.dist.get_rank end))
    assert.is_nil(mg.dist.no_such_thing)
    assert.is_nil(mg.nn.no_such_layer)
    for name, ours in pairs{mse_loss = "mean_squared_error", concat = "cat", arange = "mg.range",
                            hsplit = "chunk(x, n, 2)", manual_seed = "mg.seed", clip = "clamp"} do
      assert(raises(("mg has no %s; here it is %s"):format(name, ours),
        function() return mg[name] end))
    end
    for name, ours in pairs{zero_grad = "cleargrads", state_dict = "state", eval = "mg.test_mode",
                            train = "Config.train", load_state_dict = "load_state",
                            training = "Config.train", getParameters = "parameters",
                            unfreeze = "freeze(false)",
                            requires_grad_ = "requires_grad = true (of a module: freeze())"} do
      assert(raises(("a module has no %s; here it is %s"):format(name, ours),
        function() return net[name] end))
    end
    net.train = 3
    assert.equal(3, net.train)
    assert(raises('mg has no float32; here it is the string "float32", as in x:to "float32"',
      function() return mg.zeros{3, dtype = mg.float32} end))
    assert(raises("mg has no array; here it is mg.tensor", function() return mg.array{1} end))
    assert(raises("a Variable has no astype; here it is to", function() return x:astype "bool" end))
    assert(raises("a Variable has no add_: ops change nothing in place; x.data = x:add(...) gives",
      function() return x:add_(1) end))
    assert(raises('no property or method "foo_"', function() return x:foo_() end))
    assert.is_nil(net.copy)                         -- a class of one's own may have such a field
  end)

  it("names nothing that is not there", function()
    local help, y = require "moongrad.help", mg.Variable{1}:exp()
    local places = {mg, y, mg.nn.Linear(1, 1), _G, {keepdims = true, lstm = true}}
    local roots = {mg = mg, nn = mg.nn, optim = mg.optim, data = mg.data, math = math,
                   training = mg.training, Config = mg.Config, x = y, y = y}
    local function is_in(place, name)
      local ok, v = pcall(function() return place[name] end)
      if ok then return v end
    end
    local function is_there(word)
      local found = roots[word] ~= nil
      for _, place in ipairs(places) do found = found or is_in(place, word) ~= nil end
      return found
    end
    local count = 0
    for fn, rows in pairs{[help.refuse_torch] = "TORCH", [help.missing] = "MORE"} do
      local i = 1
      while assert(debug.getupvalue(fn, i)) ~= rows do i = i + 1 end
      for name, ours in pairs(select(2, debug.getupvalue(fn, i))) do
        count = count + 1
        local word = ours:match "^[%w_]+$" or ours:match "^([%w_]+)[({]"
        assert(not word or is_there(word), name .. ": " .. ours)
        for root, rest in ours:gmatch "%f[%w_]([%a_]+)%.([%w_.]+)" do
          local v = roots[root]
          for part in rest:gmatch "[%w_]+" do v = v and is_in(v, part) end
          assert(v ~= nil or not roots[root], name .. ": " .. ours)
        end
      end
    end
    assert(count > 300)
  end)

  it("and stands elsewhere, or is written otherwise, says where it is", function()
    for text, name in pairs{["nn.ReLU or mg.relu"] = "relu", ["nn.Tanh or mg.tanh"] = "tanh",
                            ["mg.where"] = "where", ["nn.ReLU"] = "Relu"} do
      assert(raises(("nn has no %s; here it is %s"):format(name, text),
        function() return mg.nn.MLP({3, 1}, {activation = mg.nn[name]}) end))
    end
    assert(raises("optim has no adam; here it is optim.Adam", function() mg.optim.adam({}) end))
    assert(raises("metrics has no accuracy; here it is mg.accuracy",
      function() return mg.metrics.accuracy end))
    assert.is_nil(mg.nn._names)
    assert.is_nil(mg.Relu)
  end)
end)
