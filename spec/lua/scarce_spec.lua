-- Where Lua itself finds no memory: what was begun is done wholly or not at all, modes are as
-- before, random numbers too, and nothing stays alive.

local child = require "spec.child"

describe("where Lua finds no memory", function()
  local dir

  setup(function()
    local file <close> = io.popen "mktemp -d"
    dir = file:read "l"
    assert(os.execute(("cc -shared -fPIC -Wl,-z,nodelete $(pkg-config --cflags lua5.4) " ..
      "-o %s/scarce.so spec/lua/scarce.c"):format(dir)))
  end)

  teardown(function() os.execute("rm -r " .. dir) end)

  -- whole(make, act): make() gives tables and Variables, which act(it) changes. Where a request
  -- fails, twice, as Lua collects and tries again, they are as before, and then act does all.
  local PRELUDE = [[
    local mg = require "moongrad"
    local scarce = require "scarce"
    local nn, optim, training, data = mg.nn, mg.optim, mg.training, mg.data

    local function image(v, seen)
      if mg.is_variable(v) then
        return v:tobytes() .. (v.grad and v.grad:tobytes() or "") .. tostring(v.requires_grad)
      elseif type(v) ~= "table" then return type(v) == "function" and "" or ("%q"):format(v)
      elseif seen[v] then return "seen" end
      seen[v] = true
      local keys, parts = {}, {}
      for k in next, v do keys[#keys + 1] = k end
      table.sort(keys, function(a, b)
        if type(a) == type(b) then return a < b end
        return type(a) == "number"
      end)
      for i, k in ipairs(keys) do
        parts[i] = (type(k) == "number" and "" or k) .. "=" .. image(v[k], seen)
      end
      return table.concat(parts, ";")
    end

    local function all(it)
      return image(it, {}) .. table.concat(mg.get_rng_state(), ",") .. tostring(mg.Config)
    end

    local function new(make)
      mg.seed(7)
      local it = make()
      all(it)
      return it
    end

    local function settle()
      for _ = 1, 3 do collectgarbage() end
      return mg.memory().live
    end

    local function whole(make, act)
      local want, live
      for round = 1, 2 do
        local it = new(make)
        act(it)
        want = all(it)
        it = nil
        live = settle()
      end
      local n, done = 0, false
      while not done do
        n = n + 1
        local it = new(make)
        local before = all(it)
        scarce.arm(n, 2)
        local ok, problem = pcall(act, it)
        done = scarce.count() < n
        scarce.arm(0)
        if not ok then
          assert(tostring(problem):find "not enough memory", problem)
          assert(all(it) == before, "request " .. n .. " changed something")
          act(it)
        end
        assert(all(it) == want, "another result at request " .. n)
        it = nil
        assert(settle() <= live, "bytes stay alive after request " .. n)
      end
      assert(n > 10)
    end

    local function parameters()
      local list = {}
      for i, dims in ipairs{{600}, {20, 30}, {5}, {}} do
        list[i] = mg.Variable(mg.rand(dims) + i)
        list[i].grad = mg.rand(dims) - 0.5
      end
      return list
    end
  ]]

  local programs = {
    ["first steps of optimizers"] = [[
      for _, name in ipairs{"SGD", "Adam", "RMSprop", "NAdam"} do
        whole(function()
          local p = parameters()
          return {p = p, opt = optim[name](p)}
        end, function(it) it.opt:step() end)
      end
      whole(function()
        local p = parameters()
        return {p = p, opt = optim.LBFGS(p, {max_iter = 2})}
      end, function(it)
        it.opt:step(function()
          local loss = 0
          for _, p in ipairs(it.p) do
            p:cleargrad()
            loss = loss + (p ^ 2):sum()
          end
          loss:backward()
          return loss
        end)
      end)
    ]],
    ["garbage that is collected where there is no memory at all"] = [[
      local x
      local function waits() mg.eval(x + 1) end
      local live = settle()
      for n = 0, 79 do
        x = nil
        settle()
        for _ = 1, 5 do
          x = mg.rand(64)
          mg.eval(x)
        end
        scarce.arm(1 + n % 10, 1 << 40)
        mg._fail_at(1 + n // 10, 1 << 60)
        pcall(waits)
        mg._fail_at(0)
        scarce.arm(0)
        x = nil
        assert(settle() <= live, n)
      end
    ]],
    ["schedules of groups"] = [[
      local function make(schedule)
        return function()
          local p = parameters()
          local opt = optim.SGD({{params = {p[1]}, lr = 0.2, momentum = 0.5},
                                 {params = {p[2], p[3]}}, {params = {p[4]}, lr = 0.3}},
                                {lr = 0.1, momentum = 0.9})
          return {opt = opt, schedule = schedule and schedule(opt)}
        end
      end
      whole(make(function(opt) return optim.one_cycle(opt, 1, 10) end),
        function(it) it.schedule:step() end)
      whole(make(function(opt) return optim.plateau(opt, {patience = 0}) end),
        function(it) it.schedule:step(0 / 0) end)
      whole(make(), function(it) it.schedule = optim.one_cycle(it.opt, 1, 10) end)
    ]],
    ["averages of parameters, some of them new"] = [[
      for _, name in ipairs{"EMA", "SWA"} do
        whole(function()
          local model = nn.Sequential(nn.Linear(4, 30), nn.Linear(5))
          local average = training[name](model)
          average:update()
          mg.assign({model[1].weight}, {model[1].weight * 2})
          model(mg.rand(2, 4))
          return {model = model, average = average}
        end, function(it) it.average:update() end)
      end
    ]],
    ["layers sized by their first input"] = [[
      for _, layer in ipairs{nn.Linear(7), nn.Conv2d(4, 3)} do
        whole(function() return {layer = layer:clone()} end,
          function(it) it.layer:_sized(it.layer.build, 5, function() end) end)
      end
    ]],
    ["batches of a loader with a seed"] = [[
      local ds = data.TensorDataset(mg.rand(20, 3))
      whole(function() return {} end, function(it)
        local loader = data.DataLoader(ds, {batch_size = 4, shuffle = true, seed = 3,
          transform = function(x) return x + mg.rand_like(x) end})
        local out = {}
        for x in loader do out[#out + 1] = x end
        it.out = out
      end)
    ]],
  }

  for name, program in pairs(programs) do
    it(name, function()
      local text, ok = child.run(("package.cpath = %q .. package.cpath\n"):format(dir ..
        "/?.so;") .. PRELUDE .. program)
      assert(ok, text)
      assert.equal("", text)
    end)
  end
end)
