-- The programs that README, the sheet of promises and the guides show, compiled and not: the same
-- bits of all they give, of what they captured and changed, and of the random numbers after them.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local nn, optim = mg.nn, mg.optim

local function bits(v, out)
  out = out or {}
  if mg.is_variable(v) then
    out[#out + 1] = v.dtype .. "(" .. table.concat(v.shape, ",") .. ")"
    v = v:totable()
  end
  if type(v) == "table" then
    local names = {}
    for k in pairs(v) do names[#names + 1] = k end
    table.sort(names, function(a, b)
      if type(a) == type(b) then return a < b end
      return type(a) == "number"
    end)
    for _, k in ipairs(names) do
      if type(k) == "string" then out[#out + 1] = k end
      bits(v[k], out)
    end
  else
    out[#out + 1] = type(v) == "number" and ("%a"):format(v) or tostring(v)
  end
  return out
end

local function text(...) return table.concat(bits{...}, " ") end

-- make(seeded) gives a function of the arguments, and what it captures, tables and Variables.
local function run(make, times, compiled, ...)
  mg.seed(3)
  local f, captured = make()
  local out = {}
  if compiled then f = mg.compile(f) end
  for i = 1, times do out[i] = text(f(...)) end
  for _, c in ipairs(captured or {}) do
    if mg.is_variable(c) then out[#out + 1] = text(c, c.grad)
    else
      out[#out + 1] = text(c:state())
      for _, p in ipairs(c.named_parameters and {c:parameters()} or {}) do
        for q in p do out[#out + 1] = text(q.grad) end
      end
    end
  end
  out[#out + 1] = text(mg.rand(2))
  return table.concat(out, "\n")
end

local function goldstein(x, y)
  return (1 + (x + y + 1)^2 * (19 - 14*x + 3*x^2 - 14*y + 6*x*y + 3*y^2)) *
    (30 + (2*x - 3*y)^2 * (18 - 32*x + 12*x^2 + 48*y - 36*x*y + 27*y^2))
end

local function f(x) return (x:sin() * x):sum() end

local Swish = mg.Function{
  name = "swish",
  forward = function(_, x) return x * mg.sigmoid(x) end,
  backward = function(self, gy)
    local x = self.inputs[1]
    local s = mg.sigmoid(x)
    return gy * (s + x * s * (1 - s))
  end,
}

local Round = mg.Function{
  name = "round_through",
  forward = function(_, v) return v:round() end,
  backward = function(_, gy) return gy end,
}

local Cube = mg.Function{
  name = "cube",
  forward = function(_, x) return x * x * x end,
  backward = function(self, gy)
    local x = self.inputs[1]
    return gy * 3 * x * x
  end,
}

local function classifier(make_model, make_opt)
  return function()
    local model = make_model()
    local opt = make_opt(model)
    return function(x, t)
      local loss = mg.cross_entropy(model(x), t)
      model:cleargrads(); loss:backward(); opt:step()
      return loss
    end, {model, opt}
  end
end

local x3 = mg.tensor{0.5, 1, 2}
local images, labels = mg.rand{50, 40, dtype = "float32"}, mg.randint(1, 10, {50})
local points, arms = mg.rand(30, 2), mg.randint(1, 3, {30})

local programs = {
  {"the seed", function()
    return function(x)
      x = mg.Variable(x)
      local square = mg.square
      local y = square(square(square(x)))
      y:backward()
      local first = x.grad
      assert(y.grad == nil)
      y = square(square(square(x))); x:cleargrad(); y:backward{retain_grad = true}
      local z = mg.using_config("enable_backprop", false, function()
        local z = square(mg.Variable(2.0))
        assert(z.creator == nil and z.generation == 0)
        return z
      end)
      local ok, err = pcall(mg.no_grad, function() error{code = 7} end)
      assert(not ok and err.code == 7 and mg.Config.enable_backprop)
      local a, b = mg.no_grad(function(p, q) return q, p end, 1, 2)
      return first, x.grad, y.grad, y.data, z, a, b
    end
  end, mg.ones(3, 20, 30)},

  {"Goldstein-Price", function()
    local x, y = mg.Variable(1.0), mg.Variable(1.0)
    return function()
      x:cleargrad(); y:cleargrad()
      local z = goldstein(x, y)
      z:backward()
      return z.data, x.grad, y.grad
    end, {x, y}
  end},

  {"Newton's method by double backprop", function()
    local x = mg.Variable(2.0)
    return function()
      local y = x^4 - 2*x^2
      x:cleargrad(); y:backward{create_graph = true}
      local gx = x.grad
      x:cleargrad(); gx:backward()
      x.data = x.data - gx.data / x.grad.data
    end, {x}
  end, times = 10},

  {"linear regression", function()
    local W, b = mg.Variable(mg.zeros(1, 1)), mg.Variable(mg.zeros(1))
    return function(x)
      local t = 5 + 2*x + mg.rand(100, 1)
      local loss = mg.mean_squared_error(x:matmul(W) + b, t)
      W:cleargrad(); b:cleargrad(); loss:backward()
      W.data = W.data - 0.1 * W.grad; b.data = b.data - 0.1 * b.grad
      return loss
    end, {W, b}
  end, mg.rand(100, 1), times = 20},

  {"a network", classifier(
    function() return nn.Sequential(nn.Linear(128), mg.relu, nn.Linear(10)) end,
    function(model) return optim.Adam(model, {lr = 1e-3}) end), images, labels},

  {"accuracy in test mode", function()
    local model = nn.Sequential(nn.Linear(40, 32), mg.relu, nn.Dropout(0.5), nn.Linear(10))
    return function(x, t)
      return mg.test_mode(function() return mg.accuracy(model(x), t) end), model(x)
    end, {model}
  end, images, labels},

  {"a Function of one's own", function()
    return function(x)
      x = mg.Variable(x)
      local y = Swish(x)
      y:sum():backward()
      local slope = mg.grad(function(v) return (Round(v) ^ 2):sum() end)(x)
      local second = mg.grad(function(v)
        return mg.grad(function(u) return Cube(u):sum() end)(v):sum()
      end)(x)
      return y.data, x.grad, slope, second
    end
  end, mg.tensor{-1, 0, 1}},

  {"transforms", function()
    return function(x)
      local v, g = mg.value_and_grad(f)(x)
      local leaf = mg.Variable(x)
      local y = mg.checkpoint(function(u) return u:tanh():exp() end, leaf)
      y:sum():backward()
      return mg.grad(f)(x), v, g, mg.hessian(f, x), mg.hvp(f, x, mg.ones_like(x)), y.data,
        leaf.grad, mg.grad(function(u) return mg.grad(f)(u):sum() end)(x)
    end
  end, x3},

  -- The guides
  {"gradients of trees, vjp, jvp, jacobian", function()
    local function loss(params, inputs) return ((params.w * inputs + params.b) ^ 2):sum() end
    local function g(v) return v[1] ^ 2 * v[2] end
    return function(params, x)
      local value, slopes = mg.value_and_grad(loss)(params, x)
      local result, back = mg.vjp(mg.sin, x)
      local u, w = mg.Variable(params.w), mg.Variable(params.b)
      return value, slopes, mg.hessian(g, x), mg.hvp(g, x, mg.tensor{1, 0}),
        mg.jacobian(function(v) return mg.stack{v[1] * v[2], v[1]} end, x), result,
        back(mg.tensor{1, 1}), mg.gradients(u * w, {u, w}), mg.jvp(mg.sin, x, mg.tensor{1, 0})
    end
  end, {w = mg.tensor(2), b = mg.tensor(1)}, mg.tensor{2, 3}},

  {"higher orders", function()
    local function nth(fn, n)
      for _ = 1, n do
        local inner = fn
        fn = mg.grad(function(v) return inner(v):sum() end)
      end
      return fn
    end
    return function(x)
      local all = {}
      for n = 1, 5 do all[n] = nth(mg.tanh, n)(x) end
      return all, mg.grad(function(v) return mg.where(v:gt(0), v:sqrt(), 0):sum() end)(x)
    end
  end, mg.tensor{0, 1, 4}},

  {"indexing and updates", function()
    local W = mg.Variable(mg.zeros{3, 1, dtype = "float32"}, "W")
    return function(x, t)
      x = x:clone()
      x[{ {1, 10} }] = 0
      local loss = mg.mean_squared_error(x:matmul(W), t)
      W:cleargrad()
      loss:backward()
      mg.assign({W}, {W.data - 0.1 * W.grad})
      local h = x:exp():softmax()
      mg.eval(h)
      return loss, h, x[{ {}, -1 }], x.T
    end, {W}
  end, mg.rand{100, 3, dtype = "float32"}, mg.rand{100, 1, dtype = "float32"}},

  {"the network of the spiral", classifier(
    function() return nn.Sequential(nn.Linear(32), mg.tanh, nn.Linear(3)) end,
    function(model) return optim.Adam(model, {lr = 1e-2}) end), points, arms, times = 6},

  {"the loop of the guide to training", function()
    local model = nn.Sequential(
      nn.Sequential(nn.Linear(32), nn.LayerNorm(), mg.gelu, nn.Dropout(0.1)), nn.Linear(3))
    local opt = optim.AdamW(model, {lr = 0.01, weight_decay = 1e-3})
    opt:add_hook(optim.clip_grad(1))
    return function(x, t)
      local loss = mg.cross_entropy(model(x), t)
      model:cleargrads(); loss:backward(); opt:step()
      return loss
    end, {model, opt}
  end, points, arms},

  {"an optimizer of one's own, and a module", function()
    local Scale = nn.Module:extend "Scale"
    function Scale:init(n) self.weight = nn.Parameter(mg.ones(n)) end
    function Scale:forward(v) return v * self.weight end
    local Sign = optim.Optimizer:extend("Sign", "lr: number(0..) = 0.1", "p - lr sign(g)")
    function Sign:update(p, g) return {p}, {p - self.lr * g:sign()} end
    local model = nn.Sequential(nn.Linear(2, 3), Scale(3))
    local opt = Sign(model, {lr = 0.5})
    return function(x)
      model:cleargrads()
      local y = model(x):square():sum()
      y:backward()
      opt:step()
      return y
    end, {model, opt}
  end, points},

  {"a differential equation", function()
    local k = mg.Variable(0.5)
    local function pendulum(_, s) return {angle = s.speed, speed = -s.angle:sin()} end
    local times = {0, 0.5, 1}
    return function(angle)
      local path = mg.odeint(pendulum, {angle = angle, speed = mg.tensor(0.0)}, times,
        {method = "rk4", step = 0.1})
      local y = mg.odeint(function(_, v) return -k * v end, mg.tensor(1.0), {0, 2},
        {method = "rk4", step = 0.25, checkpoint = true})
      k:cleargrad()
      y[2]:backward()
      return path, y.data, path.speed ^ 2 / 2 - path.angle:cos()
    end, {k}
  end, mg.tensor(1.0)},

  {"distributions", function()
    local D = mg.distributions
    local mu, log_sigma = mg.Variable(0.0), mg.Variable(0.0)
    local opt = optim.Adam({mu, log_sigma}, {lr = 0.05})
    local options = {validate_args = false}
    return function(x)
      local q = D.Normal(mu, log_sigma:exp(), options)
      local loss = D.kl(q, D.Normal(1, 0.5, options)) - q:log_prob(x):mean()
      mu:cleargrad()
      log_sigma:cleargrad()
      loss:backward()
      opt:step()
      return loss, q:sample(5).data, q:entropy().data
    end, {mu, log_sigma, opt}
  end, mg.tensor{0, 1}, times = 5},

  {"a model, what trains it and their averages, made anew at each call", function()
    return function(x, t)
      local out = {}
      for _, rule in ipairs{"SGD", "Adam", "RMSprop", "Rprop"} do
        local model = nn.Sequential(nn.Linear(40, 7), nn.BatchNorm(7, {momentum = "cumulative"}),
          mg.tanh, nn.Linear(7, 10))
        local opt = optim[rule](model, rule == "SGD" and {lr = 0.1, momentum = 0.9} or {lr = 0.01})
        local schedule, ema = optim.exponential(opt, 0.5), mg.training.EMA(model)
        for _ = 1, 3 do
          local loss = mg.cross_entropy(model(x), t)
          model:cleargrads(); loss:backward(); opt:step(); schedule:step(); ema:update()
        end
        out[#out + 1] = model(x):detach()
        out[#out + 1] = ema:apply(function() return model(x):detach() end)
      end
      return table.unpack(out)
    end
  end, images, labels},

  {"parameters that outlive the call, what trains them made anew at each", function()
    local w = mg.Variable(mg.ones(3))
    return function(x)
      local opt = optim.Adam({w}, {lr = 0.1})
      for _ = 1, 3 do
        w:cleargrad()
        mg.sin(w * x):sum():backward()
        opt:step()
      end
      return w:detach() * 1
    end, {w}
  end, x3},

  {"at the edges", function()
    return function(x)
      return mg.log(x), mg.maximum(0 / 0, x), mg.tanh(x * math.huge), mg.xlogy(0, x),
        mg.grad(function(v) return mg.where(v:gt(0), v:log(), 0):sum() end)(x), mg.hypot(3e200, x),
        mg.softmax(x + 1000), mg.std(x + 1e9), mg.norm(x * 1e-200)
    end
  end, mg.tensor{0, -1, 2}},
}

describe("compiled and not,", function()
  for _, p in ipairs(programs) do
    it(p[1] .. " gives the same bits", function()
      local times = p.times or 3
      for _, dtype in ipairs{"float64", "float32"} do
        mg.using_config("dtype", dtype, function(...)
          assert.equal(run(p[2], times, false, ...), run(p[2], times, true, ...))
        end, table.unpack(p, 3))
      end
    end)
  end
end)

-- What a page's functions of functions give is compared where it is called.
local TRANSFORMS = {"grad", "value_and_grad"}
local APPLIED = {"hessian", "hvp", "jvp", "jacobian"}

describe("each transform that a page calls gives, compiled, the same bits:", function()
  local function compared(name, g, args, counts)
    local state = mg.get_rng_state()
    local want = table.pack(g(table.unpack(args, 1, args.n)))
    local after = mg.get_rng_state()
    local h = mg.compile(g)
    for i = 1, 2 do
      mg.set_rng_state(state)
      local got = table.pack(h(table.unpack(args, 1, args.n)))
      assert.equal(text(table.unpack(want, 1, want.n)), text(table.unpack(got, 1, got.n)),
        name .. ", call " .. i)
    end
    mg.set_rng_state(after)
    counts[name] = (counts[name] or 0) + 1
    return table.unpack(want, 1, want.n)
  end

  local function watched(counts)
    local depth = 0                                -- a transform within another is that one's
    local function outermost(name, g, args)
      if depth > 0 then return g(table.unpack(args, 1, args.n)) end
      depth = depth + 1
      local got = table.pack(pcall(compared, name, g, args, counts))
      depth = depth - 1
      if not got[1] then error(got[2], 0) end
      return table.unpack(got, 2, got.n)
    end
    local proxy = {}
    for _, name in ipairs(TRANSFORMS) do
      proxy[name] = function(...)
        local g = mg[name](...)
        return function(...) return outermost(name, g, table.pack(...)) end
      end
    end
    for _, name in ipairs(APPLIED) do
      proxy[name] = function(fn, ...)
        return outermost(name, function(...) return mg[name](fn, ...) end, table.pack(...))
      end
    end
    return setmetatable(proxy, {__index = mg, __newindex = mg})
  end

  for path, least in pairs{
    ["README.md"] = 0, ["lua/guides/everyday.md"] = 1, ["lua/guides/autograd.lua"] = 10,
    ["lua/guides/first_hour.lua"] = 2, ["lua/guides/functions.lua"] = 2,
    ["lua/guides/precision.lua"] = 1,
  } do
    it(path, function()
      local source, blocks, counts = child.read(path), {}, {}
      if path:find "%.lua$" then
        blocks[1] = source
      else
        for block in source:gmatch "```lua\n(.-)```" do
          if not block:find "^>" then blocks[#blocks + 1] = block end
        end
      end
      local out <close> = assert(io.open("/dev/null", "w"))
      local was = io.output()
      finally(function() io.output(was) end)
      io.output(out)                               -- profiles and help print by themselves
      for _, block in ipairs(blocks) do
        helper.settle()                            -- programs look at all memory
        local proxy = watched(counts)
        local env = setmetatable({
          print = function() end,
          require = function(name) return name == "moongrad" and proxy or require(name) end,
        }, {__index = _G})
        assert(load(block, "=" .. path, "t", env))()
      end
      local total = 0
      for _, n in pairs(counts) do total = total + n end
      assert.is_true(total >= least, path .. " has " .. total)
    end)
  end
end)
