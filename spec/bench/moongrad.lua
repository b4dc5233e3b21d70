-- moongrad.lua -- the bench's cases as a user writes them. run.lua starts it, once a row:
--   moongrad.lua POOL time|memory THREADS TIMES case dtype ...
--
-- A case is a function of its arguments that makes its inputs and returns one step: a function
-- that runs it all, values and gradients computed, and returns the results. The inputs come from
-- POOL, a file of normally distributed float32, in the order they are asked for, so that every
-- contestant has the same. What is said and heard on stdin and stdout:
--   "ready" and the results' prints, or "skip" and why
--   each "go" is answered by the seconds one step took, or the bytes TIMES steps added

local gettime = require "socket".gettime

local POOL, SIZE = arg[1], 2 ^ 24 // 1
local case = {}

-- Before the library is there: this one starts others.
function case.start()
  local program = [[local mg = require "moongrad"; local x = mg.Variable(2.0)
    local y = x^4 - 2*x^2; y:backward(); assert(x.grad:item() == 24)]]
  return function() assert(os.execute("exec lua5.4 -e '" .. program .. "'")) end
end

local mg = arg[5] ~= "start" and require "moongrad"
local DTYPE = {f32 = "float32", f64 = "float64"}

-- ---- inputs and results -----------------------------------------------------------------------

local at = 0

local function input(dtype, ...)
  local n = 1
  for _, d in ipairs {...} do n = n * d end
  if at + n > SIZE then at = 0 end
  local file <close> = assert(io.open(POOL, "rb"))
  file:seek("set", 4 * at)
  local bytes = file:read(4 * math.min(n, SIZE))
  at = at + n
  if n > SIZE then bytes = bytes:rep(n // SIZE + 1):sub(1, 4 * n) end
  local x = mg.frombytes(bytes, "float32", {...}):to(DTYPE[dtype])
  mg.eval(x)
  return x
end

local leaves = {}

local function leaf(x)
  leaves[#leaves + 1] = mg.Variable(x)
  return leaves[#leaves]
end

local function variable(...) return leaf(input(...)) end

-- Integers 1..n made of the same numbers.
local function labels(n, ...)
  local x = (input("f64", ...):abs() * 2 ^ 20):floor() % n
  return (x + 1):to("int64")
end

-- The norm of a result's first million values, and the sum of them weighted by cosines.
local function print_of(r)
  local n = math.min(r.size, 2 ^ 20 // 1)
  r = (r.dtype == "int64" and r - 1 or r):detach():reshape(r.size)[{ {1, n} }]:to("float64")
  return ("%.17g:%.17g"):format((r * r):sum():item() ^ 0.5,
    (r * mg.range(0, n - 1):cos()):sum():item())
end

-- A step that gives f() and the gradients of xs, all computed. seed: y.grad to start from.
local function gradient(xs, f, seed)
  local n = #xs
  return function()
    for i = 1, n do xs[i]:cleargrad() end
    local y = f()
    if seed then y.grad = seed end
    y:backward()
    if n == 1 then
      local g = xs[1].grad
      mg.eval(y, g)
      return y, g
    end
    local grads = {}
    for i = 1, n do grads[i] = xs[i].grad end
    mg.eval(y, table.unpack(grads))
    return y, table.unpack(grads)
  end
end

local function free(f)
  local function run()
    local y = f()
    mg.eval(y)
    return y
  end
  return function() return mg.no_grad(run) end
end

-- ---- the cases --------------------------------------------------------------------------------

function case.square(dtype, n)
  local x = variable(dtype, n)
  return free(function() return x:square():square():square() end)
end

function case.square_grad(dtype, n)
  local x = variable(dtype, n)
  return gradient({x}, function() return x:square():square():square() end)
end

function case.mse(dtype, n)
  local x, t = variable(dtype, n), input(dtype, n)
  return gradient({x}, function() return ((x - t) ^ 2):mean() end)
end

function case.mixed(dtype, n)
  local x = variable(dtype, n)
  return gradient({x}, function() return (x:tanh() * x:sigmoid() + (-x ^ 2):exp()):sum() end)
end

function case.tanh(dtype, n, times, lean)
  mg.Config.lean = lean == "lean"
  local x = variable(dtype, n)
  return gradient({x}, function()
    local y = x
    for _ = 1, times do y = y:tanh() end
    return y
  end)
end

function case.affine(dtype, n, times)
  local x = variable(dtype, n)
  return gradient({x}, function()
    local y = x
    for _ = 1, times do y = y * 1.01 + 0.5 end
    return y
  end, input(dtype, n))
end

function case.cross_entropy(dtype, n, classes)
  local x, t = variable(dtype, n, classes), labels(classes, n)
  return gradient({x}, function() return mg.cross_entropy(x, t) end)
end

function case.layer_norm(dtype, n, width)
  local x, w, b = variable(dtype, n, width), variable(dtype, width), variable(dtype, width)
  return gradient({x, w, b}, function() return mg.layer_norm(x, w, b) end, input(dtype, n, width))
end

function case.batch_norm(dtype, n, c, h, w)
  local x, weight, bias = variable(dtype, n, c, h, w), variable(dtype, c), variable(dtype, c)
  local mean, var = input(dtype, c):clone(), input(dtype, c):square()
  return gradient({x, weight, bias}, function()
    return mg.batch_norm(x, mean, var, weight, bias)
  end, input(dtype, n, c, h, w))
end

function case.max_pool(dtype, n, c, h, w)
  local x = variable(dtype, n, c, h, w)
  return gradient({x}, function() return mg.max_pool2d(x, 2) end,
    input(dtype, n, c, h // 2, w // 2))
end

-- n images of c channels, size x size, through f kernels k x k, padded by p
function case.conv(dtype, n, c, size, f, k, p)
  local x, w, b = input(dtype, n, c, size, size), input(dtype, f, c, k, k), input(dtype, f)
  return free(function() return mg.conv2d(x, w, b, {padding = p}) end)
end

function case.conv_grad(dtype, n, c, size, f, k, p)
  local x, w, b = variable(dtype, n, c, size, size), variable(dtype, f, c, k, k), variable(dtype, f)
  local out = size + 2 * p - k + 1
  return gradient({x, w, b}, function() return mg.conv2d(x, w, b, {padding = p}) end,
    input(dtype, n, f, out, out))
end

function case.im2col(dtype, n, c, size, k, p)
  local x = input(dtype, n, c, size, size)
  return free(function() return mg.im2col(x, k, {padding = p}) end)
end

function case.sum(dtype, n, m, way)
  local x = input(dtype, n, m)
  local axis = ({columns = 1, rows = 2, transposed = 1})[way]
  return free(function() return (way == "transposed" and x.T or x):sum(axis) end)
end

function case.var(dtype, n, m)
  local x = input(dtype, n, m)
  return free(function() return x:var(2) end)
end

function case.norm(dtype, n, m)
  local x = variable(dtype, n, m)
  return gradient({x}, function() return x:norm{axis = 2} end, input(dtype, n))
end

-- Scores under a mask: whose exp is nothing
function case.vanish(dtype, n)
  local x = input(dtype, n) * 50 - 1000
  mg.eval(x)
  return free(function() return x:exp() end)
end

function case.cdist(dtype, n, m)
  local x, y = variable(dtype, n, m), variable(dtype, n, m)
  return gradient({x, y}, function() return x:cdist(y) end, input(dtype, n, n))
end

function case.argmax(dtype, n, m)
  local x = input(dtype, n, m)
  return free(function() return x:argmax(2) end)
end

function case.add(dtype, n, m, way)
  local x = variable(dtype, n, m)
  local r = way == "row" and variable(dtype, m) or variable(dtype, n, 1)
  return gradient({x, r}, function() return x + r end, input(dtype, n, m))
end

function case.slices(dtype, times, n, m)
  local x = variable(dtype, times, n, m)
  return gradient({x}, function()
    local h = x[1]:square()
    for t = 2, times do h = h * 0.9 + x[t]:square() end
    return h
  end, input(dtype, n, m))
end

function case.gather(dtype, rows, width, n)
  local W, index = variable(dtype, rows, width), labels(rows, n)
  return gradient({W}, function() return W:index_select(1, index) end, input(dtype, n, width))
end

function case.scatter(dtype, n, m)
  local x, index, source = input(dtype, n, m), labels(n, n, m), input(dtype, n, m)
  return free(function() return x:scatter_add(1, index, source) end)
end

-- One op with a number and one with a Variable, in turn.
local function chain(n)
  local x = mg.Variable(0.5)
  return x, function()
    local y = x
    for _ = 1, n // 2 do y = y * 0.9 + x end
    return y
  end
end

function case.scalar(_, n)
  local x, f = chain(n)
  return gradient({x}, f)
end

function case.scalar_free(_, n)
  local _, f = chain(n)
  return free(f)
end

function case.vector(dtype, n)
  local x, a, b = variable(dtype, n), variable(dtype, n), variable(dtype, n)
  return gradient({x, a, b}, function()
    local y = x
    for _ = 1, 5 do y = (y * a + b):sin() * y end
    return y
  end)
end

function case.goldstein()
  local x, y = mg.Variable(1.0), mg.Variable(1.0)
  return gradient({x, y}, function()
    return (1 + (x + y + 1)^2 * (19 - 14*x + 3*x^2 - 14*y + 6*x*y + 3*y^2)) *
           (30 + (2*x - 3*y)^2 * (18 - 32*x + 12*x^2 + 48*y - 36*x*y + 27*y^2))
  end)
end

-- x, a number or so many points, then sin and mul in turn: n ops
function case.chain(dtype, n, points)
  local x = points and variable(dtype, points) or mg.Variable(0.5)
  return gradient({x}, function()
    local y = x
    for _ = 1, n // 2 do y = (y * 1.1):sin() end
    return y
  end)
end

-- Weights and biases of a network of these sizes
local function network(dtype, sizes)
  local p = {}
  for i = 1, #sizes - 1 do
    p[2*i - 1] = leaf(input(dtype, sizes[i + 1], sizes[i]) / sizes[i] ^ 0.5)
    p[2*i] = leaf(mg.zeros {sizes[i + 1], dtype = DTYPE[dtype]})
  end
  return p
end

local function apply(p, x)
  for i = 1, #p, 2 do
    x = mg.linear(x, p[i], p[i + 1])
    if i + 1 < #p then x = x:tanh() end
  end
  return x
end

-- Burgers' equation in n points: u_t + u u_x = 0.01 u_xx
function case.pinn(dtype, n)
  local p, x, t = network(dtype, {2, 32, 32, 1}), variable(dtype, n, 1), variable(dtype, n, 1)
  local opt = mg.optim.Adam(p, {lr = 1e-3})
  return function()
    local u = apply(p, mg.cat({x, t}, 2))
    local u_x, u_t = table.unpack(mg.gradients(u:sum(), {x, t}, {create_graph = true}))
    local u_xx = mg.gradients(u_x:sum(), x, {create_graph = true})
    local loss = (u_t + u * u_x - 0.01 * u_xx):square():mean()
    for i, g in ipairs(mg.gradients(loss, p, {allow_unused = true})) do p[i].grad = g end
    opt:step()
    mg.eval(loss, table.unpack(p))
    return loss, p[1]
  end
end

-- y' = network(y) by RK4 in so many steps, and the gradients of the sum of squares at the end
function case.ode(dtype, batch, steps)
  local p, start = network(dtype, {2, 32, 2}), input(dtype, batch, 2)
  local h = 1 / steps
  return gradient(p, function()
    local y = start
    for _ = 1, steps do
      local a = apply(p, y)
      local b = apply(p, y + a * (h / 2))
      local c = apply(p, y + b * (h / 2))
      local d = apply(p, y + c * h)
      y = y + (a + 2 * b + 2 * c + d) * (h / 6)
    end
    return y:square():sum()
  end)
end

function case.derivative(dtype, n, order)
  local x = variable(dtype, n)
  return function()
    local y = x:tanh()
    for i = 1, order do
      x:cleargrad()
      y:backward {create_graph = i < order}
      y = x.grad
    end
    x:cleargrad()
    mg.eval(y)
    return y
  end
end

function case.matmul(dtype, batch, n, m, k)
  local a, b
  if batch == 1 then
    a, b = input(dtype, n, k), input(dtype, k, m)
  else
    a, b = input(dtype, batch, n, k), input(dtype, batch, k, m)
  end
  return free(function() return a:matmul(b) end)
end

-- Symmetric matrices, far from singular; the first result, and of eigh and svd the values alone
function case.linalg(dtype, name, batch, n)
  local x = batch == 1 and input(dtype, n, n) or input(dtype, batch, n, n)
  local A = x:matmul(x:swapaxes(-1, -2)) / n + mg.eye(n, {dtype = x.dtype})
  mg.eval(A)
  if name == "solve" then return free(function() return A:solve(x) end) end
  if name == "svd" then return free(function() return (select(2, A:svd())) end) end
  return free(function() return (A[name](A)) end)
end

-- Lengths, a scale and the noise, as logarithms, are learned.
function case.gaussian(dtype, n)
  local x, y, p = input(dtype, n, 3), input(dtype, n), leaf(input(dtype, 5) / 10)
  return gradient({p}, function()
    local z = x / p[{ {1, 3} }]:exp()
    local squares = z:square():sum(2)
    local d = (squares:reshape(n, 1) + squares - 2 * z:matmul(z.T)):clamp {min = 0}
    local L = (p[4]:exp() * (-0.5 * d):exp() + p[5]:exp() * mg.eye(n, {dtype = x.dtype})):cholesky()
    return 0.5 * y:dot(y:cholesky_solve(L)) + L:diagonal():log():sum()
  end)
end

function case.mlp(dtype, batch, activation, rule)
  local sizes, p = {784, 1000, 1000, 10}, {}
  for i = 1, 3 do
    p[2*i - 1] = leaf(input(dtype, sizes[i + 1], sizes[i]) / sizes[i] ^ 0.5)
    p[2*i] = leaf(mg.zeros {sizes[i + 1], dtype = DTYPE[dtype]})
  end
  local x, t, act = input(dtype, batch, 784), labels(10, batch), mg[activation]
  local opt = mg.optim[rule](p, {lr = 1e-3})
  return function()
    local h = act(mg.linear(x, p[1], p[2]))
    local loss = mg.cross_entropy(mg.linear(act(mg.linear(h, p[3], p[4])), p[5], p[6]), t)
    for i = 1, 6 do p[i]:cleargrad() end
    loss:backward()
    opt:step()
    mg.eval(loss, table.unpack(p))
    return loss, p[1]
  end
end

function case.lenet(dtype, batch)
  local sizes, p = {{20, 1, 5, 5}, {50, 20, 5, 5}, {500, 800}, {10, 500}}, {}
  for i, s in ipairs(sizes) do
    local fan_in = s[2] * (s[3] or 1) * (s[4] or 1)
    p[2*i - 1] = leaf(input(dtype, table.unpack(s)) / fan_in ^ 0.5)
    p[2*i] = leaf(mg.zeros {s[1], dtype = DTYPE[dtype]})
  end
  local x, t = input(dtype, batch, 1, 28, 28), labels(10, batch)
  local opt = mg.optim.SGD(p, {lr = 1e-3, momentum = 0.9})
  return function()
    local h = mg.max_pool2d(mg.relu(mg.conv2d(x, p[1], p[2])), 2)
    h = mg.max_pool2d(mg.relu(mg.conv2d(h, p[3], p[4])), 2):flatten(2)
    local loss = mg.cross_entropy(mg.linear(mg.relu(mg.linear(h, p[5], p[6])), p[7], p[8]), t)
    for i = 1, 8 do p[i]:cleargrad() end
    loss:backward()
    opt:step()
    mg.eval(loss, table.unpack(p))
    return loss, p[1]
  end
end

function case.residual(dtype, blocks, c, size, n)
  local p, kept = {}, {}
  for i = 1, 2 * blocks do
    p[3*i - 2] = leaf(input(dtype, c, c, 3, 3) / (9 * c) ^ 0.5)
    p[3*i - 1] = leaf(mg.ones {c, dtype = DTYPE[dtype]})
    p[3*i] = leaf(mg.zeros {c, dtype = DTYPE[dtype]})
    kept[i] = {mg.zeros {c, dtype = DTYPE[dtype]}, mg.ones {c, dtype = DTYPE[dtype]}}
  end
  local images = input(dtype, n, c, size, size)
  local opt = mg.optim.SGD(p, {lr = 1e-3, momentum = 0.9})
  local function normed(i, x)
    return mg.batch_norm(mg.conv2d(x, p[3*i - 2], nil, {padding = 1}), kept[i][1], kept[i][2],
      p[3*i - 1], p[3*i])
  end
  return function()
    local x = images
    for i = 1, 2 * blocks, 2 do x = mg.relu(x + normed(i + 1, mg.relu(normed(i, x)))) end
    local loss = (x * x):mean()
    for i = 1, #p do p[i]:cleargrad() end
    loss:backward()
    opt:step()
    mg.eval(loss, table.unpack(p))
    return loss, p[1]
  end
end

function case.adam(dtype, arrays, n)
  local p = {}
  for i = 1, arrays do p[i] = variable(dtype, n) end
  for i = 1, arrays do p[i].grad = input(dtype, n) end
  local opt = mg.optim.Adam(p, {lr = 1e-3})
  return function()
    opt:step()
    mg.eval(table.unpack(p))
    return p[1]
  end
end

function case.attention(dtype, batch, heads, length, width, causal)
  local q, k, v = variable(dtype, batch, heads, length, width),
    variable(dtype, batch, heads, length, width), variable(dtype, batch, heads, length, width)
  return gradient({q, k, v}, function()
    return mg.scaled_dot_product_attention(q, k, v, {is_causal = causal == "causal"})
  end)
end

-- Parameters of a model in order of their names: from the pool, scaled
local function fill(model, dtype, scale)
  local names, p = {}, {}
  for name, q in model:named_parameters() do
    names[#names + 1] = name
    p[name] = q
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local q = p[name]
    q.data = q.ndim > 1 and input(dtype, table.unpack(q.shape)) * scale or mg.zeros_like(q)
  end
  return p, names
end

-- A step of training by a loss; the results are this and one parameter.
local function training(model, opt, loss_of, p)
  local all = model:parameters()
  return function()
    local loss = loss_of()
    model:cleargrads()
    loss:backward()
    opt:step()
    mg.eval(loss, table.unpack(all))
    return loss, p
  end
end

function case.lstm(dtype, steps, batch, hidden, vocabulary)
  mg.Config.dtype = DTYPE[dtype]
  local nn = mg.nn
  local model = nn.Sequential(nn.Embedding(vocabulary, hidden), nn.LSTM(hidden, hidden),
    nn.Linear(hidden, vocabulary))
  local p = fill(model, dtype, 0.05)
  local x, t = labels(vocabulary, steps, batch), labels(vocabulary, steps * batch)
  local opt = mg.optim.SGD(model, {lr = 0.1})
  return training(model, opt, function()
    local y = model(x)
    return mg.cross_entropy(y:reshape(steps * batch, vocabulary), t)
  end, p["1.weight_hh_l0"])
end

function case.gpt(dtype, layers, width, heads, length, batch, vocabulary)
  mg.Config.dtype = DTYPE[dtype]
  local model = mg.models.GPT(vocabulary,
    {n_layer = layers, n_embd = width, n_head = heads, block_size = length})
  local p = fill(model, dtype, 0.02)
  local x, t = labels(vocabulary, batch, length), labels(vocabulary, batch * length)
  local opt = mg.optim.AdamW(model, {lr = 1e-3})
  return training(model, opt, function()
    return mg.cross_entropy(model(x):reshape(batch * length, vocabulary), t)
  end, p["transformer.wpe.weight"])
end

function case.fashion(dtype)
  mg.Config.dtype = DTYPE[dtype]
  return function()
    local train = mg.data.FashionMNIST {split = "train"}
    local loader = mg.data.DataLoader(train, {batch_size = 100, shuffle = true})
    local model = mg.nn.MLP {256, 128, 10}
    local opt, sum = mg.optim.Adam(model, {lr = 3e-3}), 0
    for x, t in loader:batches() do
      local loss = mg.cross_entropy(model(x), t)
      model:cleargrads()
      loss:backward()
      opt:step()
      sum = sum + loss:item()
    end
    assert(sum / #loader < 0.7)
  end
end

-- ---- time and memory --------------------------------------------------------------------------

-- Steps enough for 30 ms, after one that warms the caches again; seconds a step.
local count

local function seconds(step)
  local began = gettime()
  step()
  local once = gettime() - began
  if not count then
    if once < 1 then
      step()
      began = gettime()
      step()
      once = gettime() - began
    end
    count = math.max(1, math.min(20000, math.ceil(0.03 / once)))
  end
  if once > 1 then return once end
  began = gettime()
  for _ = 1, count do step() end
  return (gettime() - began) / count
end

local function status(key)
  local file <close> = assert(io.open("/proc/self/status"))
  return file:read("a"):match(key .. ":%s*(%d+)") * 1024
end

-- What `times` steps add to the most this process ever held, once all code is loaded and all
-- caches are given back.
local function bytes(step, times)
  for _, x in ipairs(leaves) do x:cleargrad() end
  collectgarbage()
  collectgarbage()
  mg.trim()
  local file = assert(io.open("/proc/self/clear_refs", "w"))
  file:write "5"
  file:close()
  local before = status "VmRSS"
  local kept
  for _ = 1, times do kept = step() end   -- the last result lives while the next is made
  return status "VmHWM" - before, kept
end

local words, prints = {}, {}
for i = 6, #arg do words[#words + 1] = math.tointeger(arg[i]) or arg[i] end
local memory, threads, times = arg[2] == "memory", math.tointeger(arg[3]), math.tointeger(arg[4])
if mg then mg.set_num_threads(threads) end
local way = (words[#words] == "compiled" or words[#words] == "first") and table.remove(words)
local step = case[arg[5]](table.unpack(words))
if way == "compiled" then step = mg.compile(step) end
if way == "first" then
  local f = step
  step = function()                                -- nothing of it is planned
    mg._code {off = true}
    mg._code {off = false}
    return mg.compile(f)()
  end
end
for _, r in ipairs {step()} do prints[#prints + 1] = print_of(r) end
io.stdout:setvbuf "line"
print("ready " .. table.concat(prints, " "))
for _ in io.lines() do
  print(("%.9g"):format(memory and bytes(step, times) or seconds(step)))
end
