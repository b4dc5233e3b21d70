-- Several processes: what they exchange, gradients in common, data dealt out, and that no error of
-- one leaves the others waiting. Each job is a real one, under mpirun.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"

-- What the programs of the jobs begin with: same(a, b) and near(a, b) assert.
local HEAD = [[
local mg = require "moongrad"
local dist = require "moongrad.dist"
local helper = require "spec.helper"
local nn, optim, data = mg.nn, mg.optim, mg.data
local rank, size = dist.rank, dist.size
local function same(a, b) assert(helper.same(a, b)) end
local function near(a, b, tol) assert(helper.near(a, b, tol or 1e-12)) end
local function message(fn, ...)
  local ok, text = pcall(fn, ...)
  assert(not ok, "no error")
  return tostring(text)
end
local function shows(text, ...)
  for _, part in ipairs{...} do assert(text:find(part, 1, true), text) end
end
]]

-- Runs a program in n processes; it must end well, on all of them.
local function job(n, folder, program, arguments)
  local text, status = child.job(n, HEAD .. program .. '\nprint("rank " .. rank .. " is well")',
    folder, arguments)
  assert.equal(0, status, text)
  assert.equal(n, select(2, text:gsub("rank %d+ is well", "")), text)
  return text
end

describe("one process", function()
  it("is refused under the mpirun of another MPI, where each would run alone", function()
    local text, ok = child.run('require "moongrad.dist"', nil, "PMI_RANK=0 PMI_SIZE=2")
    assert.is_false(ok)
    assert.truthy(text:find("moongrad.dist: this is not Open MPI's mpirun", 1, true), text)
    assert.is_true(select(2, child.run('require "moongrad.dist"', nil, "PMI_RANK=0 PMI_SIZE=1")))
  end)

  it("does without MPI", function()
    local text, ok = child.run([[
      local mg = require "moongrad"
      local dist = require "moongrad.dist"
      assert(dist == mg.dist and dist.rank == 1 and dist.size == 1)
      local x = mg.Variable{1, 2}
      local y = dist.all_reduce(x, "mean") + dist.broadcast(x) + dist.all_gather(x)[1]
      dist.barrier()
      y:sum():backward()
      assert(mg.equal(x.grad, mg.tensor{3, 3}))
      assert(not pcall(dist.broadcast, x, 2))
      local model = dist.DataParallel(mg.nn.Linear(2))
      local opt = mg.optim.SGD(model, {lr = 1})
      local loader = mg.data.DataLoader(mg.data.TensorDataset(mg.ones(5, 2), mg.ones(5, 2)),
        {batch_size = 2, shuffle = true, shard = dist})
      assert(#loader == 3)
      for x, t in loader do
        mg.mean_squared_error(model(x), t):backward()
        opt:step()
        model:cleargrads()
      end
      local norm = mg.nn.BatchNorm(3, {sync = true})
      assert(not pcall(norm, mg.ones(1, 3)) and mg.equal(norm.running_var, mg.ones(3)))
      assert(package.loaded["moongrad.mpi"] == nil)
      for line in io.lines "/proc/self/maps" do assert(not line:find "libmpi", line) end
      print "well"]])
    assert(ok and text == "well\n", text)
  end)
end)

describe("four processes", function()
  it("exchange arrays", function()
    job(4, child.folder(), [[
      local ranks = mg.range(1, 4, {dtype = "float64"})
      for _, dtype in ipairs{"float64", "float32", "int64"} do
        local x = (mg.range(1, 6):reshape(2, 3) * rank):to(dtype)
        for _, exact in ipairs{false, true} do
          local one = mg.range(1, 6):reshape(2, 3):to(dtype)
          same(dist.all_reduce(x, "sum", {exact = exact}), one * 10)
          same(dist.all_reduce(x.T, "max", {exact = exact}), (one * 4).T)
          same(dist.all_reduce(x[{{}, 2}], "min", {exact = exact}), mg.tensor({2, 5}, dtype))
          if dtype ~= "int64" then
            same(dist.all_reduce(x[{{1, -1, 1}, {3, 3}}], "mean", {exact = exact}),
                 mg.tensor({{7.5}, {15}}, dtype))
          end
          same(dist.all_reduce(mg.zeros{0, 3, dtype = dtype}, "sum", {exact = exact}),
               mg.zeros{0, 3, dtype = dtype})
        end
      end
      same(dist.all_reduce(rank, "sum"), mg.tensor(10, mg.tensor(rank).dtype))
      assert(dist.all_reduce(mg.tensor(0.5 * rank), "max"):item() == 2)
      assert(dist.all_reduce(mg.tensor(rank):to "int64", "min", {exact = true}):item() == 1)
      for _, exact in ipairs{false, true} do
        local y = dist.all_reduce(mg.tensor{rank == 3 and 0/0 or 1, rank}, "max", {exact = exact})
        assert(y[1]:item() ~= y[1]:item() and y[2]:item() == 4)
      end
      for root = 1, 4 do
        for _, dtype in ipairs{"float64", "float32", "int64", "uint8", "bool"} do
          local x = mg.tensor({{0, rank, 1}}, "int64"):to(dtype)
          same(dist.broadcast(x, root), mg.tensor({{0, root, 1}}, "int64"):to(dtype))
          same(dist.all_gather(x)[root], mg.tensor({{0, root, 1}}, "int64"):to(dtype))
        end
      end
      same(dist.all_gather(mg.tensor(1.0 * rank)), ranks)
      same(dist.broadcast(mg.tensor(1.5 * rank), 2), mg.tensor(3.0))
      -- exact: by pairs, in order of ranks
      mg.seed(7)
      local x = mg.randn{1000, dtype = "float32"}
      local all = dist.all_gather(x)
      same(dist.all_reduce(x, "sum", {exact = true}), (all[1] + all[2]) + (all[3] + all[4]))
      same(dist.all_reduce(x, "mean", {exact = true}), ((all[1] + all[2]) + (all[3] + all[4])) / 4)
      -- streams: rank 1's is that of one process, no two are the same
      for a = 1, 4 do
        for b = a + 1, 4 do assert(not mg.equal(all[a], all[b])) end
      end
      mg.set_rng_state{7, 0}
      same(mg.randn{1000, dtype = "float32"}, all[1])
      -- gradients
      local v = mg.Variable(mg.tensor{1, 2} * rank)
      local y = dist.all_reduce(v * v, "sum", {exact = true})
      ;(y * y * rank):sum():backward()         -- y is 30, 120
      near(v.grad, mg.tensor{30, 120} * 2 * 10 * 2 * rank * mg.tensor{1, 2})
      v:cleargrad()
      dist.all_reduce(v, "mean"):sum():backward()
      near(v.grad, {1, 1})
      v:cleargrad()
      ;(dist.all_gather(v) * rank):sum():backward()
      near(v.grad, {10, 10})
      v:cleargrad()
      ;(dist.broadcast(v, 3) * rank):sum():backward()
      near(v.grad, rank == 3 and {10, 10} or {0, 0})
      local recorded = mg.compile(function(v) return dist.all_reduce(v * 2, "sum") end)
      shows(message(recorded, x), "mg.compile")
      assert(mg.dist == dist and mg.num_threads() == 1)
      dist.barrier()]])
  end)

  it("say what does not fit, and go on", function()
    job(4, child.folder(), [[
      local text = message(dist.all_reduce, mg.ones(rank == 3 and 2 or 3, 2), "sum")
      shows(text, "main.lua:", "all_reduce: rank 1 came to all_reduce (sum) of float64 (3, 2)",
        "rank 3 to all_reduce (sum) of float64 (2, 2)")
      local dtype = rank == 2 and "float32" or "float64"
      text = message(dist.all_reduce, mg.ones{3, dtype = dtype}, "sum")
      shows(text, "of float64 (3)", "rank 2 to all_reduce (sum) of float32 (3)")
      shows(message(dist.all_reduce, mg.ones(3), rank == 4 and "max" or "sum"),
        "rank 4 to all_reduce (max)")
      text = rank == 2 and message(dist.barrier) or message(dist.broadcast, mg.ones(1))
      shows(text, "rank 1 came to broadcast from rank 1 of float64 (1)", "rank 2 to barrier")
      shows(message(dist.broadcast, mg.ones(3), rank), "broadcast: rank 1")
      shows(message(dist.broadcast, mg.ones(3), 5), "no rank 5, there are 4")
      shows(message(dist.all_reduce, mg.tensor({1}, "uint8"), "sum"), "x is uint8")
      shows(message(dist.all_reduce, mg.tensor({1}, "int64"), "mean"), "mean of int64")
      shows(message(dist.all_reduce, mg.Variable{1}, "max"), "max has no gradient")
      shows(message(dist.all_gather, mg.ones(1, 1, 1, 1, 1, 1, 1, 1)), "8 axes")
      same(dist.all_reduce(mg.ones(2), "sum"), mg.ones(2) * 4)
      -- one is at its end, the others are not
      if rank < 4 then
        shows(message(dist.barrier), "rank 4 to its end")
        shows(message(dist.all_reduce, mg.ones(2), "sum"), "rank 4 to its end")
      end]])
  end)
end)

-- ---- gradients ----------------------------------------------------------------------------------

-- A model, its data of 64 items and 50 steps: step(model, x, t) makes a gradient. The data are in a
-- file, and so are the parameters after.
local TRAIN = [[
local function network()
  mg.seed(3)
  return nn.Sequential(nn.Conv2d(1, 3, 3), mg.relu, nn.Flatten(), nn.Linear(12), mg.tanh,
    nn.Linear(4))
end
local function train(model, name, step)
  local all = mg.load "data.npz"
  local opt = optim.SGD(model, {lr = 0.1, momentum = 0.9})
  for i = 1, 50 do
    model:cleargrads()
    step(all.x, all.t)
    opt:step()
  end
  if rank == 1 then mg.save(name .. ".npz", (model.module or model):state()) end
end
local function part(x, k, n)
  local m = #x // n
  return x[{{(k - 1) * m + 1, k * m}}]
end
]]

local function largest_difference(a, b)
  local most = 0
  for name, v in pairs(a) do
    most = math.max(most, mg.max(mg.abs(v - b[name])):item())
  end
  return most
end

describe("parameters in common", function()
  -- The same program in this process
  local function alone(folder, program)
    local text, ok = child.run(HEAD .. TRAIN .. program, folder)
    assert(ok, text)
  end

  it("are those of one process, to the last bit of one that adds up parts of a batch", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local folder = child.folder()
      mg.seed(3)
      mg.save(folder .. "/data.npz", {x = mg.randn{64, 1, 6, 6, dtype = dtype},
        t = mg.randint(1, 4, {64})})
      local config = ("mg.Config.dtype = %q\n"):format(dtype)
      alone(folder, config .. [[
        local model = network()
        train(model, "whole", function(x, t) mg.cross_entropy(model(x), t):backward() end)
        for _, n in ipairs{2, 4} do
          local m = network()
          train(m, "pairs" .. n, function(x, t)
            local g = {}
            for k = 1, n do
              m:cleargrads()
              mg.cross_entropy(m(part(x, k, n)), part(t, k, n)):backward()
              g[k] = {}
              for name, p in m:named_parameters() do g[k][name] = p.grad end
            end
            for name, p in m:named_parameters() do
              local sum = g[1][name] + g[2][name]
              if n == 4 then sum = sum + (g[3][name] + g[4][name]) end
              p.grad = sum / n
            end
          end)
        end]])
      for _, n in ipairs{2, 4} do
        job(n, folder, config .. TRAIN .. [[
          for _, exact in ipairs{false, true} do
            for _, bytes in ipairs{200, 1 << 20} do
              local model = dist.DataParallel(network(), {bucket = bytes, exact = exact})
              train(model, exact and "exact" .. bytes or "fast" .. bytes, function(x, t)
                mg.cross_entropy(model(part(x, rank, size)), part(t, rank, size)):backward()
              end)
              for _, p in model:named_parameters() do
                for r = 1, size do same(dist.all_gather(p.data)[r], p.data) end
              end
            end
          end]])
        local function result(name) return mg.load(folder .. "/" .. name .. ".npz") end
        for _, bytes in ipairs{200, 1 << 20} do
          assert(largest_difference(result("fast" .. bytes), result "whole") < 1e-6)
          for name, v in pairs(result("pairs" .. n)) do
            assert(helper.same(result("exact" .. bytes)[name], v))
          end
        end
      end
    end
  end)

  it("are averaged where a checkpoint holds the model, sized in it or not", function()
    job(2, child.folder(), [[
      local Shift = nn.Module:extend "Shift"       -- reads a buffer: rank 1's is everybody's
      function Shift:init() self.seen = nn.Buffer(mg.zeros()) end
      function Shift:forward(x)
        mg.assign({self.seen}, {self.seen.data + rank})
        return x * (1 + self.seen.data)
      end
      for _, first in ipairs{nn.Linear(3, 4), nn.Linear(4)} do
        local states = {}
        for k, call in ipairs{function(model, x) return model(x) end, mg.checkpoint} do
          mg.seed(1)
          local model = dist.DataParallel(nn.Sequential(first:clone(), mg.tanh, Shift(),
            nn.Dropout(0.3), nn.Linear(4, 1)), {exact = true})
          local opt = optim.Adam(model)
          for _ = 1, 3 do
            call(model, mg.randn(5, 3)):sum():backward()
            for p in model:parameters() do same(dist.all_gather(p.grad)[1], p.grad) end
            opt:step()
            opt:cleargrads()
          end
          for p in model:parameters() do same(dist.all_gather(p.data)[1], p.data) end
          states[k] = model:state()
        end
        for name, v in pairs(states[1]) do same(states[2][name], v) end
      end]])
  end)

  it("are those of copies of a model, too, and of layers that it gets later", function()
    job(2, child.folder(), [[
      local function new()
        return dist.DataParallel(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3), nn.Linear(3, 1)))
      end
      local function alike(m, f)
        for _ = 1, 2 do
          m:cleargrads()
          f(mg.randn(4, 2)):sum():backward()
          for p in m:parameters() do
            same(dist.all_gather(p.grad)[1], p.grad)
            same(dist.all_gather(p.data)[1], p.data)
          end
        end
      end
      local m = new()
      local copy = m:clone()
      if rank == 1 then mg.test_mode(mg.no_grad, copy, mg.randn(3, 2)) end
      alike(copy, copy)
      alike(m, m)
      m.module[4] = nn.Linear(1, 1)
      alike(m, m)
      m.module = nn.Linear(2)
      alike(m, m)
      m = new()
      alike(m, function(x)
        local gs = mg.gradients(m(x):sum(), m, {create_graph = true})
        return mg.tree_map(function(p, g) return p - 0.1 * g end, m, gs)(x) ^ 2
      end)]])
  end)

  it("take part in what backward has of leaves, sums and errors", function()
    job(2, child.folder(), [[
      local Net = nn.Module:extend "Net"
      function Net:init()
        self.a, self.b, self.c, self.unused, self.scale = nn.Linear(3, 3), nn.Linear(3, 3),
          nn.Linear(3, 2), nn.Linear(3, 3), nn.Parameter(mg.tensor(2.0))
        self.c.bias.requires_grad = false
      end
      local seen
      local Watch = mg.Function{name = "watch",
        forward = function(_, x) return x * 1 end,
        backward = function(_, gy)
          seen = (seen or 0) + dist._times().buckets
          if Net.fails then error "on purpose" end
          return gy
        end}
      function Net:forward(x)
        local h = self.a(x)
        if x.requires_grad or Net.watched then h = Watch(h) end
        h = mg.checkpoint(function(v) return self.b(v):tanh() end, h)
        h = self.b(h):tanh()                                      -- b twice
        return self.c(h) * self.scale
      end
      mg.seed(5)
      local net = Net()
      local model = dist.DataParallel(net, {bucket = 8})
      local function grads()
        local t = {}
        for name, p in model:named_parameters() do t[name] = p.grad or false end
        return t
      end
      local xs = dist.all_gather(mg.randn(4, 3))
      local function loss(r, m) return (m(xs[r]) ^ 2):mean() end
      -- what one process would have: the mean over ranks of each one's gradient
      local function expected()
        local plain = Net()
        plain:load_state(net:state())
        plain.c.bias.requires_grad = false
        for r = 1, size do (loss(r, plain) / size):backward() end
        return plain
      end
      for step = 1, 3 do
        Net.watched = true
        seen = nil
        dist._times()
        model:cleargrads()
        loss(rank, model):backward()
        assert(step == 1 or seen > 0, "no bucket was on its way when it came to the first layer")
        Net.watched = false
        local plain = expected()
        for name, p in plain:named_parameters() do
          local g = grads()["module." .. name]
          if p.grad then near(g, p.grad) else assert(g == false, name) end
        end
        assert(net.unused.weight.grad == nil and net.c.bias.grad == nil)
        -- gradients add up
        local before = net.b.weight.grad
        loss(rank, model):backward()
        near(net.b.weight.grad, before * 2)
      end
      -- a gradient on one rank only
      model:cleargrads()
      local y = loss(rank, model)
      if rank == 2 then y = y + net.unused(xs[1]):sum() end
      y:backward()
      near(net.unused.bias.grad, {2, 2, 2})
      -- an error on one of them: nobody's gradient changes, and on they go
      model:cleargrads()
      loss(rank, model):backward()
      local before = grads()
      Net.watched, Net.fails = true, rank == 2
      local text = message(function() loss(rank, model):backward() end)
      shows(text, rank == 2 and "on purpose" or "backward: it failed in another process")
      for name, g in pairs(grads()) do assert(g == before[name] or mg.equal(g, before[name])) end
      Net.watched, Net.fails = false, false
      model:cleargrads()
      loss(rank, model):backward()
      near(net.b.weight.grad, expected().b.weight.grad)
      -- for targets: each rank's own
      local g = mg.gradients(loss(rank, model), {net.a.weight})[1]
      near(g, mg.gradients(loss(rank, net), {net.a.weight})[1])
      shows(message(function() loss(rank, model):backward{create_graph = true} end), "mg.gradients")
      shows(message(mg.compile(function() loss(rank, model):backward() end)), "mg.compile")
      local buffers = dist.DataParallel(nn.BatchNorm(3))
      local recorded = mg.compile(function(x) return buffers(x) end)
      shows(message(recorded, mg.ones(2, 3)), "DataParallel: mg.compile cannot record", "test_mode")
      assert(mg.equal(mg.test_mode(recorded, mg.ones(2, 3)), mg.test_mode(buffers, mg.ones(2, 3))))
      -- one goes another way
      text = message(rank == 1 and function() loss(1, model):backward() end or dist.barrier)
      shows(text, "rank 1 came to the backward of a DataParallel model with", "rank 2 to barrier")
      -- parameters that are made late, frozen, or come anew
      mg.seed(rank)
      local late = nn.Sequential(nn.Linear(5), mg.relu, nn.Linear(2))
      local m = dist.DataParallel(late)
      m(xs[rank]):sum():backward()
      for _, p in m:named_parameters() do same(dist.broadcast(p.data), p.data) end
      late[1].bias.requires_grad = false
      late[4] = nn.Linear(2, 2)
      for _, p in m:named_parameters() do p:cleargrad() end
      m(xs[rank]):sum():backward()
      assert(late[1].bias.grad == nil)
      same(dist.broadcast(late[4].bias.grad), late[4].bias.grad)
      local twice = dist.DataParallel(nn.Sequential(late[1]))
      for _ = 1, 2 do shows(message(twice, xs[rank]), "averaged already") end]])
  end)

  it("averages gradients though a forward failed before it was known which", function()
    job(2, child.folder(), [[
      local mpi = package.loaded["moongrad.mpi"]
      local watch = mpi.watch
      mg.seed(3)
      local net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
      local model = dist.DataParallel(net, {bucket = 8})
      local xs = dist.all_gather(mg.full({4, 3}, rank))
      local function failing()                    -- where ranks agree on what they average
        function mpi.watch() mpi.watch = watch error "no memory" end
        shows(message(model, xs[rank]), "no memory")
        assert(mpi.watch == watch)
      end
      local function check()
        model:cleargrads()
        ;(model(xs[rank]) ^ 2):sum():backward()
        for _, p in model:named_parameters() do
          same(p.grad, dist.all_reduce(p.grad, "mean"))
          assert(rank == 1 or not mg.equal(p.grad, mg.gradients((net(xs[rank]) ^ 2):sum(), {p})[1]))
        end
      end
      failing()
      check()
      failing()                                   -- their order is known now
      check()
      check()
    ]])
  end)

  -- The order in which they come differs between the ranks: of a layer that one of them alone uses
  -- the others know at the end only that it has no gradient there.
  it("are told from those of other models, and from what is exchanged within backward", function()
    job(2, child.folder(), [[
      local xs, alone = dist.broadcast(mg.randn(2, 5, 6)), false
      local Meet = mg.Function{name = "meet",
        forward = function(_, x) return x * 1 end,
        backward = function(_, gy)
          if alone then return gy end -- one process stands for all
          local sum = dist.all_reduce(mg.ones(6), "sum", {exact = true})
          same(sum, mg.ones(6) * 2)
          return gy * sum:mean() / 2
        end}
      local Net = nn.Module:extend "Net"
      function Net:init()
        self.a, self.b, self.z = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
      end
      function Net:forward(x, also)
        x = Meet(self.a(x):tanh())
        return also and self.b(x) + self.z(x) or self.b(x)
      end
      local function loss(r, f, g)
        local h = f(xs[r], r == 1)
        return (g(h:tanh(), r == 2) ^ 2):mean() + (h ^ 3):mean()
      end
      for _, exact in ipairs{false, true} do
        for _, bytes in ipairs{1, 1 << 20} do
          mg.set_rng_state{3, 0}
          local nets, plain = {Net(), Net()}, {}
          for k, net in ipairs(nets) do plain[k] = net:clone() end
          alone = true
          for r = 1, size do (loss(r, plain[1], plain[2]) / size):backward() end
          alone = false
          local f = dist.DataParallel(nets[1], {bucket = bytes, exact = exact})
          local g = dist.DataParallel(nets[2], {bucket = bytes, exact = exact})
          for _ = 1, 20 do
            f:cleargrads()
            g:cleargrads()
            loss(rank, f, g):backward()
            for k, net in ipairs(nets) do
              local want = {}
              for name, p in plain[k]:named_parameters() do want[name] = p.grad end
              for name, p in net:named_parameters() do near(p.grad, want[name]) end
            end
          end
        end
      end]])
  end)

  it("are not mixed with those of a model, or of parameters, of the same shapes", function()
    job(2, child.folder(), [[
      local pair, x = {}, mg.eye(2, 3) * rank
      for k = 1, 2 do pair[k] = dist.DataParallel(nn.Linear(3, 4)) end
      local two = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
      local model = dist.DataParallel(two)
      local function fails(y, ...)
        shows(message(function() y:sum():backward() end), "rank 1 came to the backward of a ",
          "rank 2 to the backward of a ")
        for _, m in ipairs{...} do
          for p in m:parameters() do assert(p.grad == nil) end
        end
      end
      for _ = 1, 3 do
        local y = {pair[1](x), pair[2](x)}
        fails(y[rank], pair[1], pair[2])
        y = {pair[1](x), pair[2](x)}
        y[1]:sum():backward()
        near(pair[1].module.bias.grad, {2, 2, 2, 2})
        pair[1]:cleargrads()
      end
      -- all go on from the same place
      local all = {1, 2, 3}
      for _, used in ipairs{{{2}, {1, 2}}, {all, {2}}, {{2, 3}, all}, {{1, 3}, {2, 3}}} do
        local y, sum = {pair[1](x), pair[2](x), model(x)}, 0
        for _, k in ipairs(used[rank]) do sum = sum + y[k]:sum() end
        message(function() sum:backward() end)
        for _, m in ipairs{pair[1], pair[2], model} do
          for p in m:parameters() do assert(p.grad == nil) end
        end
        same(dist.all_reduce(mg.ones(2), "sum"), mg.ones(2) * 2)
      end
      for p in two[rank]:parameters() do p.requires_grad = false end
      fails(model(x), model)]])
  end)

  it("fail everywhere where a sum within backward is asked for by one rank alone", function()
    job(2, child.folder(), [[
      local Twice = mg.Function{name = "twice",
        forward = function(_, x) return x * 1 end,
        backward = function(_, gy) return dist.all_reduce(gy, "sum") end}
      local Fail = mg.Function{name = "fail",
        forward = function(_, x) return x * 1 end,
        backward = function() error "on purpose" end}
      local norm = nn.BatchNorm(4, {sync = true})
      local plain = dist.DataParallel(nn.Linear(3, 4), {bucket = 1})
      local model = dist.DataParallel(nn.Sequential(nn.Linear(3, 4), norm, nn.Linear(4, 2)))
      local x = mg.eye(2, 3) * rank
      local function fails(model, wrap, here, there)
        local y = rank == 2 and wrap(model(x)) or model(x)
        shows(message(function() y:sum():backward() end), rank == 2 and here or there)
        for p in model:parameters() do assert(p.grad == nil) end
      end
      fails(plain, Twice,
        "all_reduce: rank 1 came to the end of its backward, rank 2 to all_reduce (sum) of float64",
        "backward: it failed in another process")
      fails(model, Fail, "on purpose", "rank 2 to the end of its backward")
      -- and where all it had to give was on its way before
      local y = plain(rank == 2 and Fail(mg.Variable(x)) or x)
      shows(message(function() y:sum():backward() end),
        rank == 2 and "on purpose" or "backward: it failed in another process")
      for p in plain:parameters() do assert(p.grad == nil) end
      model(x):sum():backward()
      same(dist.all_gather(norm.weight.grad)[1], norm.weight.grad)]])
  end)

  it("are refused where backward comes to sums in another order on another rank", function()
    job(2, child.folder(), [[
      local x = mg.Variable{1, 2}
      local function deep(v, by) return by == 1 and v or (v * 1):exp():log() end
      local function loss(a, b)
        return (deep(dist.all_reduce(deep(x, a), "sum"), b) * 3):sum() +
          (deep(dist.all_reduce(deep(x, b) * 2, "sum"), a) * 5):sum()
      end
      loss(1, 2):backward()
      near(x.grad, {26, 26})
      x:cleargrad()
      local text = message(function() loss(rank, 3 - rank):backward() end)
      shows(text, "rank 1 came to all_reduce (sum) of float64 (2), the gradient of exchange ")
      assert(x.grad == nil)]])
  end)

  it("are normalized by their own batches, or by all of them", function()
    job(4, child.folder(), [[
      local x = dist.broadcast(mg.randn(12, 3, 2) * 3 + 1)
      local own = x[{{3 * rank - 2, 3 * rank}}]
      local w = dist.broadcast(mg.randn(12, 3, 2))
      local function layer(sync)
        local bn = nn.BatchNorm(3, {sync = sync})
        bn.weight.data, bn.bias.data = mg.tensor{1, 2, 3}, mg.tensor{4, 5, 6}
        return bn
      end
      local one, all = layer(false), dist.DataParallel(layer(true))
      local whole, mine = mg.Variable(x), mg.Variable(own)
      local y, z = one(whole), all(mine)
      near(z, y[{{3 * rank - 2, 3 * rank}}])
      ;(y * w):sum():backward()
      ;(z * w[{{3 * rank - 2, 3 * rank}}]):sum():backward()
      near(mine.grad, whole.grad[{{3 * rank - 2, 3 * rank}}], 1e-10)
      near(all.module.weight.grad * 4, one.weight.grad)
      near(all.module.running_mean, one.running_mean)
      near(all.module.running_var, one.running_var)
      assert(all.module.num_batches_tracked:item() == 1)
      mg.test_mode(function() near(all(own), one(own)) end)
      -- none, and one of all, leave no nan behind
      local few = layer(true)
      few(mg.zeros(0, 3))
      few(mg.ones(rank - 1, 3) + (rank > 3 and 1 or 0))
      shows(message(few, mg.ones(rank // 4, 3)), "of which there is no variance")
      assert(few.running_var:isfinite():all():item() and few.num_batches_tracked:item() == 2)
      shows(message(few, mg.ones(3)), "BatchNorm: x must be (N, 3, ...), got shape (3)")
      shows(message(few, mg.ones(2, 4)), "BatchNorm: x must be (N, 3, ...), got shape (2, 4)")
      -- local: each by its own, and rank 1's running means for all at the next forward
      local bn = dist.DataParallel(layer(false))
      near(bn(own), layer(false)(own))
      bn(own)
      local plain = layer(false)
      plain(x[{{1, 3}}])
      plain(own)
      near(bn.module.running_mean, plain.running_mean)]])
  end)
end)

describe("data and files", function()
  it("are dealt out", function()
    job(4, child.folder(), [[
      local n = 47
      local ds = data.TensorDataset(mg.range(1, n), mg.range(1, n))
      for _, opts in ipairs{{shuffle = true, seed = 9}, {shuffle = true}, {}, {drop_last = true},
                            {sampler = data.RandomSampler(ds)}} do
        opts.batch_size, opts.shard = 3, dist
        local loader = data.DataLoader(ds, opts)
        local last
        for pass = 1, 2 do
          local count, got, batches = {}, {}, 0
          for x, t in loader do
            assert(mg.equal(x, t))
            batches = batches + 1
            local all = dist.all_gather(x):flatten():totable()
            if batches == 1 then got = all end
            for _, i in ipairs(all) do
              assert(not count[i], "twice")
              count[i] = true
              count.n = (count.n or 0) + 1
            end
          end
          assert(batches == #loader and #loader == (opts.drop_last and 3 or 4))
          assert(count.n == (opts.drop_last and 36 or 44))
          if not (opts.shuffle or opts.sampler) then
            for i = 1, 12 do assert(got[i] == i) end
          else
            assert(table.concat(got, " ") ~= table.concat(last or {}, " "))
            last = got
          end
        end
      end
      -- the order is that of one process with batches as large
      local loader = data.DataLoader(ds, {batch_size = 3, shuffle = true, seed = 9, shard = dist})
      local plain = data.DataLoader(ds, {batch_size = 12, shuffle = true, seed = 9})
      local next_batch = plain:batches()
      for x in loader do
        local all = dist.all_gather(x):flatten()
        same(all, next_batch()[{{1, #all}}])
      end]])
  end)

  it("are written by rank 1; another number of processes goes on from them", function()
    local folder = child.folder()
    local program = [[
      local net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3))
      local model = dist.DataParallel(net)
      local opt = optim.Adam(model, {lr = 0.1})
      local x = mg.range(1, 24, {dtype = "float64"}):reshape(12, 2)
      local loader = data.DataLoader(data.TensorDataset(x, mg.zeros(12, 3)),
        {batch_size = 12 // size, shuffle = true, seed = 4, shard = dist})
      local keeper = mg.training.Checkpoint("kept", {model = model, opt = opt, loader = loader})
      local first = (keeper:load() or 0) + 1
      print("from " .. first)
      assert(first == tonumber(arg[1]))
      if first > 1 then
        local r = dist.all_gather(mg.rand(4))
        for k = 2, size do assert(not mg.equal(r[1], r[k])) end
      end
      for epoch = first, first + 1 do
        for x, t in loader do
          model:cleargrads()
          mg.mean_squared_error(model(x), t):backward()
          opt:step()
        end
        keeper:save(epoch)
      end
      for _, p in model:named_parameters() do same(dist.broadcast(p.data), p.data) end]]
    job(2, folder, program, "1")
    job(1, folder, program, "3")
    job(4, folder, program, "5")
    local text = child.read(folder .. "/kept/index")
    assert(text:find("6 -\n", 1, true), text)
  end)

  it("go on in the order that was drawn, whatever the seed of the second run", function()
    local folder = child.folder()
    local program = [[
      mg.seed(tonumber(arg[1]))
      local ds = data.TensorDataset(mg.range(1, 24))
      local loader = data.DataLoader(ds, {batch_size = 24 // size, shuffle = true, shard = dist})
      local keeper = mg.training.Checkpoint("drawn", {loader = loader})
      local function pass()
        for x in loader do return dist.all_gather(x):flatten() end
      end
      if arg[1] == "1" then
        keeper:save(1)
        mg.save("order.npz", {first = pass(), second = pass()})
      else
        keeper:load()
        local order = mg.load "order.npz"
        same(pass(), order.first)
        same(pass(), order.second)
      end]]
    job(2, folder, program, "1")
    job(2, folder, program, "2")
    job(1, folder, program, "3")
  end)

  it("tell every rank where rank 1 cannot write", function()
    job(2, child.folder(), [[
      local keeper = mg.training.Checkpoint("/dev/null/kept", {model = nn.Linear(1, 1)})
      local ok, message = pcall(keeper.save, keeper, 1)
      local why = rank == 1 and "save: cannot make" or "save: rank 1 cannot write epoch 1"
      assert(not ok and message:find(why), message)]])
  end)
end)

describe("the example", function()
  it("runs in two processes", function()
    local path = ("dofile %q"):format(child.here .. "/lua/examples/distributed.lua")
    local text, status = child.job(2, path, child.folder(), "quick")
    assert.equal(0, status, text)
    assert(text:find("2 processes of 1 thread, 64 pictures in each batch of 128\nepoch 1: loss ",
      1, true), text)
  end)
end)

-- ---- faults ------------------------------------------------------------------------------------

describe("a job ends", function()
  -- Its processes write their ids into files; none of them is there afterwards.
  local function fails(n, program)
    local folder = child.folder()
    local began = os.time()
    local text, status = child.job(n, HEAD .. [[
      local stat = io.open "/proc/self/stat"
      local pid = stat:read "n"
      local file = io.open("pid" .. rank, "w")
      file:write(pid)
      file:close()
      dist.barrier()
    ]] .. program, folder)
    assert(status ~= 0 and status ~= 124, status .. text) -- 124: it had to be ended
    assert(os.time() - began < 20, "it took too long")
    for r = 1, n do
      local path = "/proc/" .. child.read(folder .. "/pid" .. r) .. "/stat"
      for tries = 50, 0, -1 do
        local file = io.open(path)
        local state = file and file:read "a":match "%) (%a)"
        if file then file:close() end
        if not state or state == "Z" then break end -- Z: nobody has asked for its exit status
        assert(tries > 0, "rank " .. r .. " is still there")
        os.execute "sleep 0.1"
      end
    end
    return text
  end

  it("with the error of one of them", function()
    local text = fails(2, [[
      if rank == 2 then
        local x = mg.ones(2, 3):matmul(mg.ones(2, 3))
      end
      dist.all_reduce(mg.ones(3), "sum")
      while true do dist.barrier() end]])
    assert(text:find("main%.lua:%d+: matmul: "), text)
    text = fails(2, [[
      local model = dist.DataParallel(nn.Linear(3, 2))
      while true do
        model:cleargrads()
        local y = model(mg.ones(2, 3))
        if rank == 1 then y = y:sum():foo() end
        y:sum():backward()
      end]])
    assert(text:find("main%.lua:%d+: .*foo"), text)
  end)

  it("with os.exit of one of them, and with the signal that ends one", function()
    fails(2, 'if rank == 1 then os.exit(3) end while true do dist.barrier() end')
    local text = fails(2, [[
      local model = dist.DataParallel(nn.Linear(3, 2))
      local leave = mg.Function{name = "leave", forward = function(self, y) return y * 1 end,
        backward = function(self, gy)
          if rank == 2 then os.exit(0) end
          return gy
        end}
      leave(model(mg.ones(2, 3))):sum():backward()]])
    assert(text:find("rank 2 ended within a backward", 1, true), text)
    for _, signal in ipairs{"TERM", "KILL"} do
      fails(2, ([[
        if rank == 2 then os.execute("kill -%s " .. pid) end
        while true do dist.all_reduce(mg.ones(3), "sum") end]]):format(signal))
    end
  end)
end)
