-- What goes around the loop: checkpoints, early stopping, averages of parameters; and metrics.

local mg = require "moongrad"
local helper = require "spec.helper"
local counts = helper.counting(it)
local child = require "spec.child"
local near, raises = helper.near, helper.raises
local nn, optim, data, training, metrics = mg.nn, mg.optim, mg.data, mg.training, mg.metrics

describe("a Checkpoint", function()
  helper.guard(before_each, after_each)

  local function start()
    local run = {model = nn.Sequential(nn.Linear(3, 4), mg.tanh, nn.Dropout(0.2), nn.Linear(1))}
    run.opt = optim.Adam(run.model, {lr = 0.05})
    run.schedule = optim.cosine(run.opt, 10)
    local x = mg.linspace(0, 1, 24):reshape(8, 3)
    run.loader = data.DataLoader(data.TensorDataset(x, x:sum(2)), {batch_size = 3, shuffle = true,
                                                                   seed = 4})
    return run
  end

  local function epoch(run)
    for x, t in run.loader do
      local loss = mg.mean_squared_error(run.model(x):squeeze(2), t)
      run.model:cleargrads()
      loss:backward()
      run.opt:step()
    end
    run.schedule:step()
  end

  it("makes its folder itself: who interrupts a save is heard", function()
    local folder, execute = child.folder() .. "/a/b", os.execute
    local checkpoint = training.Checkpoint(folder, {model = nn.Linear(1, 1)})
    rawset(os, "execute", function() error "a shell would not hear of it" end)
    local ok, problem = pcall(checkpoint.save, checkpoint, 1)
    rawset(os, "execute", execute)
    assert(ok, problem)
    assert.equal(1, (checkpoint:load()))
  end)

  it("refuses to load where a part cannot say what it is, and changes nothing", function()
    local folder, refuses = child.folder(), false
    local model = nn.Linear(1, 1)
    local part = {load_state = function() end, state = function()
      if refuses then error("refused", 0) end
      return {}
    end}
    local checkpoint = training.Checkpoint(folder, {model = model, part = part})
    checkpoint:save(1)
    model.weight.data = {{5}}
    refuses = true
    local ok, problem = pcall(checkpoint.load, checkpoint)
    assert.same({false, "refused"}, {ok, problem})
    assert.same({{5}}, model.weight:totable())
  end)

  it("resumes a run with the same bits", function()
    local folder = child.folder() .. "/a run's"
    mg.seed(3)
    local run = start()
    local checkpoint = training.Checkpoint(folder, run)
    assert.is_nil(checkpoint:load())
    for e = 1, 2 do
      epoch(run)
      checkpoint:save(e, 1 / e)
    end
    epoch(run)
    mg.seed(99)
    local again = start()
    local at, metric = training.Checkpoint(folder, again):load()
    assert.same({2, 0.5}, {at, metric})
    epoch(again)
    for name, want in pairs(run.model:state()) do
      assert(helper.same(again.model:state()[name], want))
    end
    assert.equal(run.opt.lr, again.opt.lr)
  end)

  it("keeps the last few and the best", function()
    local folder = child.folder()
    local run = {model = nn.Linear(1, 1)}
    local checkpoint = training.Checkpoint(folder, run, {keep = 2})
    for e, loss in ipairs{5, 1, 3, 0 / 0, 4} do
      run.model.bias.data = {e}
      checkpoint:save(e, mg.tensor(loss))
    end
    checkpoint:save(6)
    assert.same({2, 1}, {checkpoint:best()})
    local files = assert(io.popen("ls " .. folder)):read "a"
    assert.equal("000002.safetensors\n000005.safetensors\n000006.safetensors\nindex\n", files)
    assert.equal(6, checkpoint:load())
    assert.equal(2, checkpoint:load "best")
    assert.equal(2, run.model.bias:item())
    assert.equal(5, checkpoint:load(5))
    assert(raises("load: epoch 1 is not kept", checkpoint.load, checkpoint, 1))
    checkpoint:save(3, 0.5)                       -- set back: what came after is of another run
    assert.equal(3, checkpoint:load())
    files = assert(io.popen("ls " .. folder)):read "a"
    assert.equal("000002.safetensors\n000003.safetensors\nindex\n", files)
  end)

  it("that cannot write its index leaves nothing", function()
    local folder = child.folder()
    local checkpoint = training.Checkpoint(folder, {model = nn.Linear(1, 1)})
    assert(os.execute(("ln -s nowhere/index %s/index"):format(folder)))
    assert(raises("save: cannot write", checkpoint.save, checkpoint, 1))
    assert.equal("index\n", assert(io.popen("ls " .. folder)):read "a")
    assert(os.execute(("mkdir %s/nowhere"):format(folder)))
    checkpoint:save(1)
    assert(os.execute(("rm -r %s/nowhere; ln -sf /dev/full %s/index"):format(folder, folder)))
    assert(raises("save: ", checkpoint.save, checkpoint, 1))
    local files = assert(io.popen("ls " .. folder)):read "a"
    assert.equal("000001.safetensors\nindex\n", files)
  end)

  it("that cannot write its index leaves an epoch that is saved again as it was", function()
    local folder = child.folder()
    local model = nn.Linear(1, 1)
    local checkpoint = training.Checkpoint(folder, {model = model})
    checkpoint:save(1, 0.5)
    local bytes = child.read(folder .. "/000001.safetensors")
    model.weight.data = model.weight.data + 1
    assert(os.execute(("ln -sf /proc/none %s/index"):format(folder))) -- where nobody can write
    assert(raises("save: cannot write", checkpoint.save, checkpoint, 1, 0.25))
    assert.equal(bytes, child.read(folder .. "/000001.safetensors"))
  end)

  it("with an empty index, or of no epoch, is refused: to begin anew would lose a run", function()
    local folder = child.folder()
    local model = nn.Linear(1, 1)
    local checkpoint = training.Checkpoint(folder, {model = model})
    checkpoint:save(1)
    child.write(folder .. "/index", "")
    for _, f in ipairs{checkpoint.load, checkpoint.best} do
      assert(raises("index is damaged: it is empty", f, checkpoint))
    end
    assert(raises("save: " .. folder .. "/index is damaged", checkpoint.save, checkpoint, 1))
    child.write(folder .. "/index", "1 -\n")
    mg.save(folder .. "/000001.safetensors", {parts = {model = model:state()},
      rng = mg.get_rng_state()})
    assert(raises("000001.safetensors is no checkpoint", checkpoint.load, checkpoint))
  end)

  it("may be several processes', and be read meanwhile", function()
    local folder = child.folder()
    child.write(folder .. "/p.lua", [[
      local mg = require "moongrad"
      local run = mg.training.Checkpoint(arg[1], {model = mg.nn.Linear(50, 50)}, {keep = 1})
      for epoch = 1, 100 do run:save(epoch, epoch * 7919 % 101) end]])
    local command = ("%s lua5.4 %s/p.lua %s/kept & "):format(child.environment(), folder, folder)
    local writers <close> = io.popen("(" .. command:rep(2) .. "wait) 2>&1; echo done")
    local checkpoint = training.Checkpoint(folder .. "/kept", {model = nn.Linear(50, 50)})
    local stop = os.time() + 20
    repeat until checkpoint:load() == 100 or os.time() > stop
    assert.equal("done\n", writers:read "a")
    assert.equal(100, checkpoint:load())
    local files = assert(io.popen("ls " .. folder .. "/kept")):read "a"
    local expected = {}
    for kept in child.read(folder .. "/kept/index"):gmatch "(%d+) %d+\n" do
      expected[#expected + 1] = ("%06d.safetensors\n"):format(kept)
    end
    assert.equal(table.concat(expected) .. "index\n", files)
  end)

  it("lets its folder go however a save ends, and waits for none that it interrupts", function()
    local folder = child.folder()
    local checkpoint = training.Checkpoint(folder, {model = nn.Linear(1, 1)})
    local sethook, free = debug.sethook, ("flock -n %s true"):format(folder)
    local function save(at, what)
      local n = 0
      sethook(function()
        n = n + 1
        if n == at then what() end
      end, "cr")
      checkpoint:save(1)
      sethook()
      return n
    end
    save()
    local last = save()
    collectgarbage "stop"                     -- what is lost is not to be found again
    for at = last - 60, last do
      local function refused() return save(at, function() error("refused", 0) end) end
      if at % 2 == 0 then pcall(refused) else coroutine.resume(coroutine.create(refused)) end
      sethook()
      assert(os.execute(free), at)
    end
    local ok, problem
    save(last - 60, function() ok, problem = pcall(checkpoint.save, checkpoint, 1) end)
    collectgarbage "restart"
    assert(not ok and problem:find("save: " .. folder .. " is being written to", 1, true), problem)
    assert.equal(1, checkpoint:load())
  end)

  it("does not begin anew where it cannot tell what was saved", function()
    local folder = child.folder()
    local checkpoint = training.Checkpoint(folder, {model = nn.Linear(1, 1)}, {mode = "max"})
    for e, metric in ipairs{1, math.huge, -math.huge} do checkpoint:save(e, metric) end
    assert.same({2, math.huge}, {checkpoint:best()})
    local index = child.read(folder .. "/index")
    for line, text in ipairs{"junk\n", "1 0.5\n2 0", "1 0.5\n2 1\n3 \n", "1 1\n2 2\n3 3\n\n",
                             ("9"):rep(30) .. " 1\n"} do
      child.write(folder .. "/index", text)
      line = ({1, 2, 3, 4, 1})[line]
      for _, op in ipairs{"load", "best"} do
        assert(raises(("%s: %s/index is damaged: line %d"):format(op, folder, line), checkpoint[op],
          checkpoint))
      end
      assert(raises("save: ", checkpoint.save, checkpoint, 4))
      assert.equal(text, child.read(folder .. "/index"))
    end
    child.write(folder .. "/index", index)
    assert.equal(3, checkpoint:load())
    os.remove(folder .. "/index")
    for command, why in pairs{mkdir = "it is a directory", mkfifo = "it is no regular file"} do
      assert(os.execute(("%s %s/index"):format(command, folder)))
      assert(raises(why, checkpoint.load, checkpoint))
      assert(raises(why, checkpoint.save, checkpoint, 4))
      assert(os.execute(("rm -r %s/index"):format(folder)))
    end
    checkpoint = training.Checkpoint(folder .. "/" .. ("x"):rep(300), {model = nn.Linear(1, 1)})
    assert(raises("load: cannot open", checkpoint.load, checkpoint))   -- nobody can look there
  end)

  it("takes nothing of what does not fit", function()
    local folder = child.folder()
    local a, b = nn.Linear(2, 2), nn.Linear(3, 3)
    training.Checkpoint(folder, {model = a, other = b}):save(1)
    local c, d = nn.Linear(2, 2), nn.Linear(3, 4)
    local before = c.weight.data
    local bad = training.Checkpoint(folder, {model = c, other = d})
    assert.is_false(pcall(bad.load, bad))
    assert(helper.same(c.weight.data, before))
    mg.save(folder .. "/000001.safetensors", {epoch = 1, parts = {model = a:state()}, rng = {1}})
    bad = training.Checkpoint(folder, {model = c})
    assert(raises("set_rng_state: expected what get_rng_state gave", bad.load, bad))
    assert(helper.same(c.weight.data, before))
    assert(raises("has no part opt", training.Checkpoint(folder, {opt = optim.SGD(a)}).load,
      training.Checkpoint(folder, {opt = optim.SGD(a)})))
    assert(raises("Checkpoint: part model has no state()", training.Checkpoint, folder,
      {model = 3}))
    assert(raises("Checkpoint: no parts", training.Checkpoint, folder, {}))
  end)

  it("takes nothing into layers that wait for an input, nor any random numbers, either", function()
    local folder = child.folder()
    local whole = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3))
    local opt = optim.Adam(whole, {lr = 1})
    whole(mg.rand(4, 2)):sum():backward()
    opt:step()
    training.Checkpoint(folder, {model = whole, opt = opt}):save(1)
    for _, sizes in ipairs{{3}, {2, 3}} do
      for _, rule in ipairs{"SGD", "LBFGS"} do
        local first = nn.Linear(table.unpack(sizes))
        local model = nn.Sequential(first, nn.BatchNorm())
        local other = optim[rule](model)
        local weight, random = first.weight and first.weight:totable(), mg.get_rng_state()
        local checkpoint = training.Checkpoint(folder, {model = model, opt = other})
        assert(raises("load: load_state: this is the state of Adam", checkpoint.load, checkpoint))
        assert.same(weight, first.weight and first.weight:totable())
        assert.same(random, mg.get_rng_state())
        assert(raises("BatchNorm has no parameters yet", nn.Sequential(model[2]).state,
          nn.Sequential(model[2])))
        assert.equal(1, training.Checkpoint(folder, {model = model}):load())
        assert(helper.same(whole[1].weight.data, first.weight.data))
      end
    end
  end)
end)

describe("EarlyStopping", function()
  it("stops when nothing was better for long", function()
    local function when(stopping, list)
      for i, v in ipairs(list) do
        if stopping:step(v) then return i end
      end
    end
    assert.equal(5, when(training.EarlyStopping(1), {3, 2, 1, 2, 2, 0}))
    assert.is_nil(when(training.EarlyStopping(1), {3, 4, 2, 3, 1}))
    assert.equal(3, when(training.EarlyStopping(0, {mode = "max", min_delta = 0.5}), {1, 2, 2.4}))
    assert.equal(2, when(training.EarlyStopping(1), {0 / 0, 0 / 0, 1}))
    local metric = training.EarlyStopping(1)
    for _, v in ipairs{mg.tensor(true), mg.tensor{0.5}} do assert.is_false(metric:step(v)) end
    assert.equal(0.5, metric.best)
    assert(helper.raises("step: metric has shape (2), expected one element", metric.step, metric,
      mg.ones(2)))
    local plateau = mg.optim.plateau(mg.optim.SGD({mg.Variable(1)}, {lr = 1}))
    plateau:step(mg.tensor(true))
    assert(helper.raises("step: metric has shape (2), expected one element", plateau.step,
      plateau, mg.ones(2)))
    local keeper = training.Checkpoint(child.folder() .. "/kept", {plateau = plateau})
    keeper:save(1, mg.tensor(true))
    assert(helper.raises("save: metric has shape (2), expected one element", keeper.save, keeper,
      2, mg.ones(2)))
    local stopping = training.EarlyStopping(1)
    when(stopping, {3, 4})
    local other = training.EarlyStopping(1):load_state(stopping:state())
    assert.is_true(other:step(mg.tensor(3.5)))
    assert.equal("EarlyStopping(best = 3, 2 of 1 epochs ago)", tostring(other))
  end)
end)

describe("averages of parameters", function()
  helper.guard(before_each, after_each)

  local function series(make, values)
    local model = nn.Linear(1, 1)
    local average = make(model)
    for _, v in ipairs(values) do
      model.weight.data = {{v}}
      average:update()
    end
    return average, model
  end

  it("EMA and SWA", function()
    local function value(average, model)
      return average:apply(function() return model.weight:item() end)
    end
    assert(near(value(series(training.SWA, {1, 2, 6})), 3))
    assert(near(value(series(function(m) return training.EMA(m, {decay = 0.5, warmup = false}) end,
      {1, 2, 6})), (1 * 0.5 + 2 * 0.5) * 0.5 + 6 * 0.5))
    local d = 2 / 11
    assert(near(value(series(training.EMA, {1, 2})), d * 1 + (1 - d) * 2))
  end)

  it("say that a layer has become one of another shape", function()
    for _, kind in ipairs{"EMA", "SWA"} do
      local model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
      local average = training[kind](model)
      average:update()
      model[2] = nn.Linear(3, 1)                    -- would broadcast
      local before = average:state()
      assert(raises("update: 1.bias is (1) now, its average (4)", average.update, average))
      assert.equal(1, average.count)
      assert(helper.same(average:state().values["0.weight"], before.values["0.weight"]))
    end
  end)

  it("survive what somebody writes into their fields", function()
    local average = training.SWA(nn.Linear(1, 1))
    average.values = "x"
    assert(raises("update: assign: there is a string in place of a table of what is kept",
      average.update, average))
    local opt = mg.optim.SGD({nn.Parameter{1}}, {momentum = 0.9})
    opt.slots, opt.target[1].grad = "x", mg.ones(1)
    assert(raises("step: assign: there is a string in place of a table", opt.step, opt))
  end)

  it("are of some parameters at least", function()
    for _, make in pairs{EMA = training.EMA, SWA = training.SWA} do
      for _, model in ipairs{nn.Identity(), nn.Linear(2)} do
        local average = make(model)
        assert(raises("update: " .. getmetatable(model).__name .. " has no parameters",
          average.update, average))
        assert(raises("apply: there are no averages yet", average.apply, average, model))
      end
    end
  end)

  it("go on where mg.compile recorded their update", function()
    for _, kind in ipairs{"EMA", "SWA"} do
      local function run(compiled)
        local model = nn.Linear(1, 1, {bias = false})
        local average, seen = training[kind](model), {}
        model.weight.data = {{0.5}}
        average:update()
        local function steps(x)
          mg.assign({model.weight}, {x + model.weight})
          average:update()
          mg.assign({model.weight}, {x * 2})
          average:update()
        end
        local f = compiled and mg.compile(steps) or steps
        for i = 1, 4 do
          if i == 3 then average:update() end
          f(mg.tensor{{i}})
          local state = average:state()
          seen[#seen + 1], seen[#seen + 2] = state.count, state.values.weight:item()
        end
        return seen
      end
      assert.same(run(false), run(true))
    end
    local average = training.SWA(nn.Linear(1, 1))
    assert(raises("update: bias has no average yet", mg.compile(function() average:update() end)))
    assert.equal(0, average.count)
  end)

  counts("come back without memory at any place", function()
    local model = nn.Linear(4, 3)
    local average = training.SWA(model)
    average:update()
    model.weight.data = model.weight + 1
    local own, n, failures = model.weight:totable(), 1, 0
    repeat
      collectgarbage()
      mg._fail_at(n, 3)
      local ok = pcall(average.apply, average, function() return model(mg.ones(1, 4)):totable() end)
      mg._fail_at(0)
      n, failures = n + 1, failures + (ok and 0 or 1)
      assert.same(own, model.weight:totable())
    until ok
    assert.is_true(failures > 10)
  end)

  it("stand in for a call, and come back from it and from errors", function()
    local average, model = series(training.SWA, {1, 3})
    assert.is_false(pcall(average.apply, average, function()
      assert.equal(2, model.weight:item())
      error "no"
    end))
    assert.equal(3, model.weight:item())
    local co = coroutine.create(function() average:apply(coroutine.yield) end)
    assert.is_false(coroutine.resume(co))          -- they would stay while it waits
    assert.equal(3, model.weight:item())
    average:copy()
    assert.equal(2, model.weight:item())
    assert.is_true(model.weight.requires_grad)
    local other = training.SWA(model):load_state(average:state())
    model.weight.data = {{8}}
    other:update()
    other:copy()
    assert(near(model.weight, {{4}}))
    local none = training.EMA(model)
    assert(raises("apply: there are no averages yet", none.apply, none, print))
    assert(raises("load_state: this is no state of averages", none.load_state, none, {}))
    assert.equal("SWA(3 updates)", tostring(other))
  end)
end)

describe("metrics", function()
  helper.guard(before_each, after_each)

  local predicted, labels = {1, 2, 2, 3, 3, 3, 1}, {1, 2, 3, 3, 3, 1, 2}

  -- sklearn's numbers
  it("of labels and of scores", function()
    local c = metrics.confusion_matrix(predicted, labels)
    assert.same({{1, 0, 1}, {1, 1, 0}, {0, 1, 2}}, c:totable())
    assert.equal("int64", c.dtype)
    local scores = mg.one_hot(mg.tensor(predicted, "int64"), 3):to "float64"
    assert(helper.same(metrics.confusion_matrix(scores, labels), c))
    assert.same({4, 4}, metrics.confusion_matrix(predicted, labels, {classes = 4}).shape)
    assert(near(metrics.precision(predicted, labels, {average = "none"}), {1 / 2, 1 / 2, 2 / 3}))
    assert(near(metrics.recall(predicted, labels), (1 / 2 + 1 / 2 + 2 / 3) / 3))
    assert(near(metrics.f1(predicted, labels, {average = "micro"}), 4 / 7))
    assert(near(metrics.f1(predicted, labels, {average = "weighted"}),
      (2 * 0.5 + 2 * 0.5 + 3 * 2 / 3) / 7))
    assert(near(metrics.precision({1, 1}, {1, 2}, {average = "none"}), {1 / 2, 0}))
    assert(raises("confusion_matrix: label 4 is not in 1..3", metrics.confusion_matrix, {4}, {1},
      {classes = 3}))
    assert(raises("f1: predictions (2) for labels (1)", metrics.f1, {1, 2}, {1}))
  end)

  it("auc, with equals, and r2", function()
    assert(near(metrics.auc({0.1, 0.4, 0.35, 0.8}, {0, 0, 1, 1}), 0.75))
    assert(near(metrics.auc({1, 1, 2, 2}, {0, 1, 0, 1}), 0.5))
    local s, t = mg.randint(1, 9, {60}), mg.bernoulli(0.4, {60})
    local wins, pairs_ = 0, 0
    for i = 1, 60 do
      for k = 1, 60 do
        if t[i]:item() == 1 and t[k]:item() == 0 then
          local a, b = s[i]:item(), s[k]:item()
          wins, pairs_ = wins + (a > b and 1 or a == b and 0.5 or 0), pairs_ + 1
        end
      end
    end
    assert(near(metrics.auc(s, t), wins / pairs_))
    assert(raises("auc: needs positives and negatives", metrics.auc, {1, 2}, {1, 1}))
    assert(near(metrics.r2({2.5, 0, 2, 8}, {3, -0.5, 2, 7}), 0.9486081370449679))
    for _, scale in ipairs{1e-200, 1e200} do
      assert(near(metrics.r2({scale, 2 * scale}, {scale, 2.5 * scale}), 7 / 9))
    end
    assert(raises("r2: the targets are all the same", metrics.r2, {1, 2}, {3, 3}))
    assert(raises("r2: the targets are all the same", metrics.r2, mg.zeros(10), mg.full({10}, 0.1)))
  end)
end)
