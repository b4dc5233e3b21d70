-- All or nothing: what fails, for memory or in a function of the user's, has changed nothing, and a
-- second try does what a first would have done.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local nn, optim = mg.nn, mg.optim
local sethook = debug.sethook       -- globals are looked up by many instructions in busted

-- Everything that counts, as text: Variables by their bits, tables by what is in them. Numbers that
-- are keys give the order alone: optimizers keep things by ids.
local function image(v, seen)
  seen = seen or {}
  if mg.is_variable(v) then
    return ("%s %s %s %s %s"):format(v.dtype, table.concat(v.shape, ","), v:tobytes(),
                                     tostring(v.requires_grad), v.grad and image(v.grad) or "")
  elseif type(v) ~= "table" then
    return ("%q"):format(type(v) == "function" and "function" or v)
  elseif seen[v] then
    return "seen"
  end
  seen[v] = true
  local keys, parts = {}, {}
  for k in pairs(v) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == "number"
  end)
  for i, k in ipairs(keys) do
    parts[i] = (type(k) == "number" and "" or k .. " = ") .. image(v[k], seen)
  end
  return "{" .. table.concat(parts, "; ") .. "}"
end

-- make() gives what is looked at and changed, and act(it) changes it. However it fails, it is as
-- before, and the second try gives what one without failures gives.
local function whole(make, act)
  local function new()
    mg.seed(7)
    local it = make()
    image(it)                                 -- nothing is pending
    return it
  end
  local usual = new()
  act(usual)
  local want = image(usual)
  local function try(it, arm, disarm)
    local before, rng = image(it), mg.get_rng_state()
    arm()
    local ok, err = pcall(act, it)
    disarm()
    if ok then
      assert.is_true(want == image(it))
      return true
    end
    assert(tostring(err):find "out of memory" or tostring(err):find "refused", tostring(err))
    assert.is_true(before == image(it))
    assert.same(rng, mg.get_rng_state())
    act(it)
    assert.is_true(want == image(it))
  end
  local failed, done, n = 0, false, 0
  while n < 20000 do                          -- from the n-th allocation on
    n = n + 1 + n // 16
    local it = new()
    done = try(it, function() mg._fail_at(n, 1 << 60) end, function() mg._fail_at(0) end)
    if done then break end
    failed = failed + 1
  end
  assert(done and failed > 0)
  for room = 0, 1 << 24, 12000 do             -- with so many bytes
    local it = new()
    collectgarbage()
    mg.trim()
    if try(it, function() mg.memory_limit(mg.memory().live + room) end,
           function() mg.memory_limit(0) end) then break end
  end
end

-- Large enough for programs, of several shapes; one is small and one a number.
local function parameters(dtype)
  local list = {}
  for i, dims in ipairs{{600}, {20, 30}, {600}, {5}, {}} do
    local p = mg.Variable((mg.rand(dims) + i):to(dtype or "float64"))
    p.grad = (mg.rand(dims) - 0.5):to(dtype or "float64")
    list[i] = p
  end
  return list
end

describe("all or nothing:", function()
  helper.guard(before_each, after_each)

  for _, case in ipairs{{"SGD"}, {"SGD", {momentum = 0.9, nesterov = true, lr = 0.1}}, {"Adam"},
                        {"AdamW"}, {"RMSprop", {centered = true, momentum = 0.5}}, {"AdaGrad"},
                        {"AdaDelta"}, {"Adam", {amsgrad = true}}, {"NAdam"}, {"Adamax"},
                        {"Lion"}, {"RAdam"}, {"Rprop"}} do
    local name, opts = table.unpack(case)
    it("a first and a second step of " .. name .. (opts and " with more" or ""), function()
      local function make()
        local params = parameters()
        return {params = params, opt = optim[name](params, opts)}
      end
      local function step(it) it.opt:step() end
      whole(make, step)
      whole(function()
        local it = make()
        it.opt:step()
        return it
      end, step)
    end)
  end

  -- What draws random numbers, and may fail when it has
  local data, D = mg.data, mg.distributions
  local items = data.TensorDataset(mg.rand(20, 3), mg.randint(1, 3, {20}))
  local gpt = mg.models.GPT(5, {block_size = 4, n_layer = 1, n_head = 1, n_embd = 8})
  for name, draw in pairs{
    randn = function() return mg.randn(30, 4) end,
    randint = function() return mg.randint(1, 9, {30, 4}) end,
    bernoulli = function(x) return mg.bernoulli(x) end,
    normal = function(x) return mg.normal(x, x + 1) end,
    uniform = function(x) return mg.uniform(x, x + 1) end,
    exponential = function(x) return mg.exponential(x + 1) end,
    gamma = function(x) return mg.gamma(x + 1, 2) end,
    beta = function(x) return mg.beta(x + 1, x + 2) end,
    poisson = function(x) return mg.poisson(x * 3) end,
    categorical = function(x) return mg.categorical(x, 5) end,
    shuffle = function(x) return mg.shuffle(x) end,
    dropout = function(x) return mg.dropout(x, 0.4) end,
    dropout1d = function(x) return mg.dropout1d(x:reshape(3, 10, 4), 0.4) end,
    alpha_dropout = function(x) return mg.alpha_dropout(x, 0.4) end,
    gumbel_softmax = function(x) return mg.gumbel_softmax(x, {hard = true}) end,
    ["attention's dropout"] = function(x)
      local q = x:reshape(2, 3, 5, 4)
      return mg.scaled_dot_product_attention(q, q, q, {dropout_p = 0.3, enable_gqa = true})
    end,
    ["nn.init.uniform"] = function(x) return nn.init.uniform(mg.Variable(x)) end,
    ["nn.init.trunc_normal"] = function(x) return nn.init.trunc_normal(mg.Variable(x)) end,
    ["nn.init.kaiming_normal"] = function(x) return nn.init.kaiming_normal(mg.Variable(x)) end,
    ["nn.init.orthogonal"] = function(x) return nn.init.orthogonal(mg.Variable(x)) end,
    ["a layer's parameters"] = function() return nn.LSTM(5, 7) end,
    ["a transformer's parameters"] = function() return nn.TransformerEncoderLayer(4, 2) end,
    ["Dirichlet's sample"] = function(x) return D.Dirichlet(x + 1):sample(2) end,
    ["Laplace's rsample"] = function(x) return D.Laplace(x, x + 1):rsample(2) end,
    ["a random sampler's pass"] = function()
      return data.DataLoader(items, {batch_size = 20, sampler = data.RandomSampler(items)})()
    end,
    ["a weighted sampler's pass"] = function()
      local sampler = data.WeightedRandomSampler(mg.range(1, 20), 20)
      return data.DataLoader(items, {batch_size = 20, sampler = sampler})()
    end,
    ["that of one without replacement"] = function()
      local sampler = data.WeightedRandomSampler(mg.range(1, 20), 20, {replacement = false})
      return data.DataLoader(items, {batch_size = 20, sampler = sampler})()
    end,
    ["a GPT's tokens"] = function() return gpt:generate(mg.tensor({1, 2}, "int64"), 3) end,
    ["random_split"] = function() return {data.random_split(items, {12, 8})} end,
    RandomCrop = function(x) return data.RandomCrop(3)(x:reshape(2, 3, 4, 5)) end,
    ColorJitter = function(x)
      return data.ColorJitter{brightness = 0.3, hue = 0.1}(x:reshape(2, 3, 4, 5))
    end,
    RandomHorizontalFlip = function(x)
      return data.RandomHorizontalFlip()(x:reshape(2, 3, 4, 5))
    end,
    RandomRotation = function(x) return data.RandomRotation(20)(x:reshape(2, 3, 4, 5)) end,
    RandomAffine = function(x) return data.RandomAffine(20)(x:reshape(2, 3, 4, 5)) end,
    RandomErasing = function(x) return data.RandomErasing(1)(x:reshape(2, 3, 4, 5)) end,
    RandomResizedCrop = function(x) return data.RandomResizedCrop(3)(x:reshape(2, 3, 4, 5)) end,
    MixUp = function(x)
      return {data.MixUp{classes = 3}(x:reshape(2, 3, 4, 5), mg.tensor({1, 2}, "int64"))}
    end,
    CutMix = function(x)
      return {data.CutMix{classes = 3}(x:reshape(2, 3, 4, 5), mg.tensor({1, 2}, "int64"))}
    end,
  } do
    it("what a second try draws: " .. name, function()
      whole(function() return {x = mg.rand(30, 4)} end, function(it) it.y = draw(it.x) end)
    end)
  end

  it("a pass whose first batch fails has not begun", function()
    local function noisy(x) return x + mg.rand_like(x) end
    for _, opts in ipairs{{shuffle = true}, {}, {shuffle = true, seed = 3}, {transform = noisy}} do
      opts.batch_size = 4
      whole(function() return {loader = data.DataLoader(items, opts)} end, function(it)
        local x, t = it.loader()
        it.batch = {x, t}
      end)
    end
  end)

  it("in a coroutine too, whatever is thrown, and is not taken back when that is closed", function()
    local fails = false
    local function transform(x)
      if fails then error() end
      return x + mg.rand_like(x)
    end
    for _, opts in ipairs{{shuffle = true}, {shuffle = true, seed = 3}} do
      opts.batch_size, opts.transform = 4, transform
      local loader = data.DataLoader(items, opts)
      local function first() return loader() end
      local before = mg.get_rng_state()
      fails = true
      assert.is_false(pcall(first))
      local co = coroutine.create(first)
      assert.is_false(coroutine.resume(co))
      fails = false
      assert.equal(0, loader:state().pass)
      assert.same(before, mg.get_rng_state())
      first()
      coroutine.close(co)
      assert.equal(1, loader:state().pass)
    end
  end)

  -- Either the same batch comes next, with the same numbers, or it is said that this one is gone.
  it("a batch, interrupted anywhere", function()
    local ds = data.TensorDataset(mg.rand(6, 2))
    local function noisy(x) return x + mg.rand_like(x) end
    for _, make in ipairs{
      function() return data.DataLoader(ds, {batch_size = 2, shuffle = true}) end,
      function() return data.DataLoader(ds:map(noisy), {batch_size = 2}) end,
      function() return data.SequenceLoader(ds:map(noisy), {batch_size = 2, length = 1}) end,
    } do
      local function begun()
        mg.seed(7)
        local loader = make()
        return loader, (loader())
      end
      local function rest(loader, x)
        local list = {}
        while x do
          list[#list + 1] = x:tobytes()
          x = loader(nil, x)
        end
        return image{list, mg.get_rng_state()}
      end
      local want = rest(begun())
      local usual, first = begun()
      usual(nil, first)
      local after = mg.get_rng_state()
      local n, given, again, gone = 0, nil, 0, 0
      while not given do
        n = n + 1
        local loader, x = begun()
        local count = 0
        pcall(function()
          sethook(function()
            count = count + 1
            if count == n then error "refused" end
          end, "cr", 1)
          given = loader(nil, x)
          sethook()
        end)
        sethook()
        local now = mg.get_rng_state()
        local ok, got = pcall(rest, loader, x)
        if ok then
          assert.is_true(got == want)
          again = again + 1
        else
          assert(got:find "this batch was not the last of a pass", got)
          assert.same(after, now)
          gone = gone + 1
        end
      end
      assert(again > 100 and gone > 0)
    end
  end)

  it("a batch of which another is asked for again", function()
    whole(function()
      local next_batch = data.DataLoader(items, {batch_size = 4, shuffle = true,
        transform = function(x) return x + mg.rand_like(x) * mg.rand_like(x) end}):batches()
      next_batch()
      return {next_batch = next_batch}
    end, function(it) it.batch = {it.next_batch()} end)
  end)

  it("and one whose items draw, or what makes a batch of them does", function()
    local failing
    local function draws(x)
      local y = x + mg.rand_like(x)
      if failing then error "refused" end
      return y
    end
    local function collate(list) return draws(mg.stack{list[1][1], list[4][1]}) end
    local xs = data.TensorDataset(mg.rand(12, 3))
    for _, loader in ipairs{
      data.DataLoader(xs:map(draws), {batch_size = 4}),
      data.DataLoader(xs:map(draws, {batched = true}), {batch_size = 4, shuffle = true}),
      data.DataLoader(xs, {batch_size = 4, collate = collate}),
      data.SequenceLoader(xs:map(draws), {batch_size = 2, length = 2}),
    } do
      for n = 0, 2 do
        local next_batch = loader:batches()
        for _ = 1, n do next_batch() end
        local before = mg.get_rng_state()
        failing = true
        assert.is_false(pcall(next_batch))
        assert.is_false(coroutine.resume(coroutine.create(next_batch)))
        failing = false
        assert.same(before, mg.get_rng_state())
      end
    end
  end)

  it("a step of groups", function()
    whole(function()
      local p = parameters()
      return {p, optim.SGD({{params = {p[1], p[2]}, momentum = 0.9},
                            {params = {p[3], p[4], p[5]}, lr = 0.5}}, {lr = 0.1})}
    end, function(it) it[2]:step() end)
  end)

  it("a step of LBFGS", function()
    whole(function()
      local params = table.move(parameters(), 3, 5, 1, {})
      local opt = optim.LBFGS(params, {max_iter = 2, line_search = "strong_wolfe"})
      params[2].requires_grad = false             -- its grad is cleared all the same
      return {params, opt}
    end, function(it)
      it[2]:step(function()
        local loss = mg.tensor(0.0)
        for _, p in ipairs(it[1]) do
          p:cleargrad()
          loss = loss + (p ^ 4):sum() + p:sum()
        end
        loss:backward()
        return loss
      end)
    end)
  end)

  it("what never began is not undone later, by the collector", function()
    local p = mg.Variable(mg.rand(3) * 2)      -- its value is computed, and fails, before the step
    local q = mg.Variable(3.0)
    local function closure()
      local loss = (q - 1) ^ 2 + (p ^ 2):sum()
      p:cleargrad()
      q:cleargrad()
      loss:backward()
      return loss
    end
    local opt = optim.LBFGS({q, p}, {max_iter = 1, lr = 0.1})
    mg.eval(p)
    for n = 1, 60 do
      local was = q:item()
      q.grad = mg.tensor(7.0)
      mg._fail_at(n, 1 << 60)
      local ok = pcall(opt.step, opt, closure)
      mg._fail_at(0)
      if not ok then
        assert.equal(was, q:item())
        q.data = was + 1
        q.grad = mg.tensor(5.0)
        collectgarbage()
        assert.equal(was + 1, q:item())
        assert.equal(5, q.grad:item())
      end
    end
  end)

  it("a step with hooks, which change grads and draw numbers", function()
    whole(function()
      local params = parameters "float32"
      local opt = optim.Adam(params)
      opt:add_hook(optim.weight_decay(0.1))
      opt:add_hook(optim.clip_grad(1))
      opt:add_hook(function(ps)
        for _, p in ipairs(ps) do p.grad = p.grad + mg.rand_like(p) end
      end)
      opt:add_hook(optim.freeze{params[2]})
      return {params = params, opt = opt}
    end, function(it) it.opt:step() end)
  end)

  it("a step with a hook that fails", function()
    local refuses = true
    local params = parameters()
    local opt = optim.SGD(params, {momentum = 0.9})
    opt:add_hook(optim.weight_decay(0.1))
    opt:add_hook(function() if refuses then error "refused" end end)
    local it = {params, opt}
    local before = image(it)
    assert.is_false(pcall(opt.step, opt))
    assert.is_true(before == image(it))
    coroutine.wrap(function() assert.is_false(pcall(opt.step, opt)) end)()
    assert.is_true(before == image(it))
    refuses = false
    opt:step()
    assert.is_false(before == image(it))
  end)

  it("clip_grad_norm and clip_grad_value", function()
    whole(parameters, function(params) optim.clip_grad_norm(params, 0.1) end)
    whole(parameters, function(params) optim.clip_grad_value(params, 0.1) end)
  end)

  it("an optimizer's load_state", function()
    local params = parameters()
    local other = optim.Adam(params, {lr = 0.5})
    other:step()
    local state = other:state()
    whole(function() return optim.Adam(params, {lr = 0.25}) end,
          function(opt) opt:load_state(state) end)
  end)

  it("a module's load_state, with layers that wait for their size", function()
    local function make()
      local net = nn.Sequential(nn.Linear(40, 20), mg.tanh, nn.Linear(7), nn.LayerNorm())
      net.scale = nn.Buffer(mg.rand(600))
      return net
    end
    local full = make()
    full(mg.rand(2, 40))
    local state = full:state()
    whole(make, function(net) net:load_state(state) end)
  end)

  -- last: so many of the moments at the end are enough, where all is done but the way back
  local function interrupted(of, act, last)
    local function make()
      mg.seed(7)
      return of()
    end
    local function all(it) return image{it, mg.get_rng_state()} end
    local usual, moments
    for _ = 1, 3 do                                 -- the first have more to do
      usual, moments = make(), 0
      sethook(function() moments = moments + 1 end, "crl", 1)
      act(usual)
      sethook()
    end
    local want, done, n = all(usual), false, last and moments - last or 0
    while not done do
      n = n + 1
      local it, count = make(), 0
      local before = all(it)
      local ok, problem = pcall(function()
        sethook(function()
          count = count + 1
          if count == n then error "refused" end
        end, "crl", 1)
        act(it)
        done = true
        sethook()
      end)
      sethook()
      assert(ok or done or problem:find "refused", problem)
      local now = all(it)
      assert.is_true(now == before or now == want)
    end
  end

  it("a schedule's step, and an optimizer's, interrupted anywhere", function()
    local function small()
      local p = {mg.Variable{1, 2}, mg.Variable(3.0)}
      for _, v in ipairs(p) do v.grad = v * 0.5 end
      return p
    end
    interrupted(function()
      local p = small()
      local opt = optim.SGD({{params = {p[1]}, lr = 0.2}, {params = {p[2]}, momentum = 0.5}},
                            {lr = 0.1, momentum = 0.9})
      return {opt, optim.one_cycle(opt, 1, 10)}
    end, function(it) it[2]:step() end)
    interrupted(function()
      local p = small()
      return {p, optim.Adam(p)}
    end, function(it) it[2]:step() end)
    local stopping = mg.training.EarlyStopping
    interrupted(function()
      local stop = stopping(0)
      stop:step(1)
      return stop
    end, function(stop) stop:step(2) end)
    interrupted(function() return stopping(0) end,
      function(stop) stop:load_state{best = 1.0, bad = 1} end)
  end)

  it("what all parameters of a model become, interrupted anywhere", function()
    local function make()
      local model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
      for _, p in model:named_parameters() do p.grad = p * 0.5 end
      return {model, optim.SGD{{params = model[1]}, {params = model[2]}}}
    end
    interrupted(make, function(it) it[1]:cleargrads() end)
    interrupted(make, function(it) it[2]:cleargrads() end)
    interrupted(make, function(it) it[1]:freeze() end)
  end)

  it("what has committed, interrupted on its way back", function()
    interrupted(function()
      local p = parameters()
      local opt = optim.Adam(p)
      opt:add_hook(function() p[1].grad = p[1].grad + mg.rand_like(p[1]) end)
      return {p, opt}
    end, function(it) it[2]:step() end, 60)
    interrupted(function()
      local p = {mg.Variable{1, 2}}
      return {p, optim.LBFGS(p, {max_iter = 2})}
    end, function(it)
      it[2]:step(function()
        it[1][1]:cleargrad()
        local loss = ((it[1][1] - 5) ^ 4):sum()
        loss:backward()
        return loss
      end)
    end, 60)
    for _, name in ipairs{"normal", "uniform", "trunc_normal", "orthogonal"} do
      interrupted(function() return mg.zeros(3, 2) end, nn.init[name], 60)
    end
    local x = mg.ones(1, 3)
    interrupted(function() return {nn.Linear(2)} end, function(it) it[1](x) end, 60)
    local state = nn.Sequential(nn.Linear(3, 2)):state()
    interrupted(function() return nn.Sequential(nn.Linear(2)) end,
                function(model) model:load_state(state) end, 60)
    interrupted(function() return {cache = {}} end, function(it)
      mg.no_grad(gpt, mg.tensor({{1, 2}}, "int64"), {cache = it.cache})
    end, 60)
    for _, tokenizer in ipairs{data.BPETokenizer("the cat, the", 260), data.CharTokenizer "ab"} do
      local class, learned = getmetatable(tokenizer), tokenizer:state()
      interrupted(function() return class("", class == data.BPETokenizer and 256 or nil) end,
                  function(new) new:load_state(learned) end, 60)
    end
  end)

  it("Module:to, after which a step that was compiled trains the new parameters", function()
    for n = 0, 40 do                                -- of the moments, from the last
      local net, other, moments = nn.Linear(2, 1), nn.Linear(2, 1), 0
      sethook(function() moments = moments + 1 end, "crl", 1)
      other:to "float32"
      sethook()
      local step = mg.compile(function() mg.assign({net.weight}, {net.weight + 1}) end)
      step()
      pcall(function()
        sethook(function()
          moments = moments - 1
          if moments == n then error "refused" end
        end, "crl", 1)
        net:to "float32"
        sethook()
      end)
      sethook()
      local before = net.weight:totable()
      step()
      assert.is_false(before[1][1] == net.weight[{1, 1}]:item())
    end
  end)

  it("a checkpoint's load, where a part fails that has taken its state", function()
    local refuses = false
    local part = {value = 1}
    function part:state() return {value = self.value} end
    function part:load_state(t)
      self.value = t.value
      if refuses then error "refused" end
    end
    local dir = child.folder()
    local model = nn.Linear(2, 1)
    local saved = mg.training.Checkpoint(dir, {part = part, model = model})
    saved:save(1)
    mg.assign({model.weight}, {model.weight + 1})
    part.value, refuses = 2, true
    local before = image(model)
    assert.is_false(pcall(saved.load, saved))
    assert.equal(2, part.value)
    assert.equal(before, image(model))
  end)

  it("a checkpoint's load, interrupted once more while it is taken back", function()
    local last = {state = function() return {1} end, load_state = function() end}
    local model = nn.Sequential(nn.Linear(2, 3), nn.Linear(1))
    local saved = mg.training.Checkpoint(child.folder(), {model = model, z = last})
    model(mg.rand(1, 2))
    saved:save(1)
    mg.assign({model[1].weight}, {model[1].weight + 1})
    local before, want = image(model), mg.get_rng_state()
    local n, again = 0, true
    while again do
      n, again = n + 1 + n // 16, false
      function last.load_state()
        local left = n
        function last.load_state() end
        sethook(function()
          left = left - 1
          if left == 0 then
            again = true
            error "refused"
          end
        end, "cr", 1)
        error "refused"
      end
      pcall(function()
        pcall(saved.load, saved)
        sethook()
      end)
      sethook()
      assert.equal(before, image(model))
      assert.same(want, mg.get_rng_state())
    end
    assert(n > 100)
  end)

  it("a replay's updates and what counts them, interrupted anywhere", function()
    interrupted(function()
      local p = mg.Variable{1, 2}
      local opt, average = optim.Adam{p}, mg.training.EMA(nn.Sequential(nn.Linear(2, 1)))
      local schedule = optim.one_cycle(opt, 0.1, 9)
      average:update()
      local step = mg.compile(function()
        for _ = 1, 2 do
          p:cleargrad()
          ;(p ^ 2):sum():backward()
          opt:step()
          average:update()
        end
        schedule:step()
      end)
      step()
      return {p = p, opt = opt, average = average, schedule = schedule, step = step}
    end, function(it) it.step() end)
  end)

  it("a recording, interrupted anywhere, leaves nothing alive", function()
    interrupted(function()
      local p = mg.Variable{1, 2}
      return {p = p, step = mg.compile(function()
        p:cleargrad()
        ;(p ^ 2):sum():backward()
      end)}
    end, function(it) it.step() end)
  end)

  it("a batch that running statistics take in", function()
    for _, momentum in ipairs{0.1, "cumulative"} do
      whole(function()
        return {nn.BatchNorm(4, {momentum = momentum}), mg.Variable(mg.rand(30, 4, 15))}
      end, function(it) it[1](it[2]) end)
    end
    whole(function()
      local layer = nn.InstanceNorm(4, {affine = true, track_running_stats = true})
      return {layer, mg.Variable(mg.rand(30, 4, 15))}
    end, function(it) it[1](it[2]) end)
  end)

  it("averages of parameters, some of them new", function()
    for _, name in ipairs{"EMA", "SWA"} do
      whole(function()
        local model = nn.Sequential(nn.Linear(4, 30), nn.Linear(5))
        local average = mg.training[name](model)
        average:update()
        model[1].weight.data = model[1].weight * 2
        model(mg.rand(2, 4))
        return {model, average}
      end, function(it) it[2]:update() end)
    end
  end)

  it("what a layer gets when it is sized, random numbers among it", function()
    for layer, n in pairs{[nn.Linear(7)] = 40, [nn.Conv2d(30, 3)] = 20, [nn.BatchNorm()] = 600} do
      whole(function() return layer:clone() end, function(new)
        new:_sized(new.build, n, function() end)
      end)
    end
  end)

  it("a layer whose first input is refused without a word", function()
    local layer = nn.Linear(3)
    local function forward() error() end
    assert.is_false(pcall(layer._sized, layer, layer.build, 5, forward))
    assert.is_nil(layer.weight)
  end)

  it("a layer that is sized by what comes", function()
    local x = mg.rand(2, 40)
    for n = 1, 1000, 3 do                         -- half a layer would stay one
      local net = nn.Sequential(nn.Linear(30), nn.LayerNorm())
      mg._fail_at(n, 1 << 60)
      local ok = pcall(net, x)
      mg._fail_at(0)
      net(x)
      assert.equal(4, #net:parameters())
      if ok then break end
    end
  end)

  it("Module:to", function()
    whole(function()
      local net = nn.Sequential(nn.Linear(40, 20), nn.LayerNorm(20))
      net.scale = nn.Buffer(mg.rand(600))
      return net
    end, function(net) net:to "float32" end)
  end)

  it("a schedule", function()
    local refuses = false
    local opt = optim.SGD{mg.Variable(1.0)}
    local after = optim.step(opt, 1)
    function after.rate(t)
      if refuses then error "refused" end
      return t
    end
    local schedule = optim.warmup(opt, 2, {after = after})
    schedule:step()
    refuses = true
    local before = image{schedule, opt}
    assert.is_false(pcall(schedule.step, schedule))
    assert.equal(before, image{schedule, opt})
    assert.equal(1, schedule.t)
    refuses = false
    schedule:step()
    assert.same({2, 0}, {schedule.t, opt.lr})
  end)

  for name, key in pairs{
    ["indices apart"] = {mg.randint(1, 20, {40}), {2, 9}, mg.randint(1, 4, {40})},
    ["a mask"] = {{}, mg.rand(30, 4):gt(0.5)},
    ["an index of one axis"] = {{3, 15}, mg.randint(-30, 30, {50}):clamp{min = 1}},
  } do
    it("x[...] and x[...] = v by " .. name, function()
      local function make() return {x = mg.rand(20, 30, 4)} end
      whole(make, function(it) it.x[key] = it.x[key] + 1 end)
      whole(make, function(it) it.y = it.x[key] * 2 end)
    end)
  end

  it("an assignment of many, which share and exchange values", function()
    whole(parameters, function(ps)
      local both = ps[1] * ps[3]
      mg.assign({ps[1], ps[2], ps[3], ps[4], ps[5]},
                {both + 1, ps[2]:softmax() * 2, both - ps[1], ps[4] + ps[1]:mean(), ps[2]:sum()})
    end)
    local a, b = mg.Variable(mg.rand(600)), mg.Variable(mg.rand(600))
    local u, v = a:totable(), b:totable()
    mg.assign({a, b}, {b * 1, a * 1})
    assert.same(v, a:totable())
    assert.same(u, b:totable())
  end)

  it("and in place: nothing of the parameters' size is taken", function()
    local params = {}
    for i = 1, 20 do
      params[i] = mg.Variable(mg.rand(50000 + i % 3) + 0)
      params[i].grad = mg.rand_like(params[i]) + 0
      mg.eval(params[i], params[i].grad)
    end
    local opt = optim.Adam(params)
    opt:step()
    opt:step()
    helper.settle()
    mg.reset_peak()
    local before = mg.memory().live
    opt:step()
    assert.is_true(mg.memory().peak - before < 5e5)
  end)
end)

describe("assign", function()
  helper.guard(before_each, after_each)

  it("gives what separate assignments give, where one new value is made of another", function()
    local function deep(t)
      for i = 1, 6 do t = t * 2 + i end
      return t
    end
    mg.no_grad(function()
      local m, g, p = mg.Variable(mg.rand(2000)), mg.rand(2000), mg.Variable(mg.rand(2000))
      mg.eval(m, g, p)
      local m0, p0 = m.data * 1, p.data * 1
      mg.eval(m0, p0)
      local wanted = m0 * 0.9 + g * 0.1
      mg.eval(wanted)
      local after = p0 - deep(wanted)
      local m2 = m * 0.9 + g * 0.1
      local p2 = p - deep(m2)
      collectgarbage()
      mg.assign({m, p}, {m2, p2})
      assert(helper.same(m, wanted))
      assert(helper.same(p, after))
    end)
  end)

  it("gives a target that is there twice its last value, which is its own", function()
    local p, q = mg.Variable(mg.rand(2000)), mg.Variable(mg.rand(2000))
    local a, b = mg.rand(2000), mg.rand(2000)
    mg.eval(p, q, a, b)
    mg.no_grad(function() mg.assign({p, q, p}, {a * 2, b + a, b * 3}) end)
    local others = {}
    for i = 1, 4 do
      others[i] = mg.rand(2000)
      mg.eval(others[i])
    end
    assert(helper.same(p, b * 3))
    assert(helper.same(q, b + a))
    mg.assign({p, p}, {p * 2, p + 1})
    assert(helper.same(p, b * 3 + 1))
  end)
end)
