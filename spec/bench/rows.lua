-- rows.lua -- what the bench measures: one row a case, with the bound it has to keep.
--
-- A row is {name, title, run, ...}. `run` are the words every contestant is given: the case's name
-- and its arguments, sizes among them. The rest:
--   unit, per      how times are shown (ms if nothing is said), and what one run is divided by
--   threads        {n, ...}: instead of the peers, moongrad and the limit with each of them
--   sizes          run holds a %d, and the row is run for each of these
--   first          a fresh mg.compile(step) is called once; the limit is step, called plainly
--   neighbour      a busy process has one of the processors; the limit is moongrad on one thread
--   memory         not time but bytes: how far the process's high-water mark rises; `times` runs
-- and the bound, of which a row has one:
--   limit, peer    at most this many times the limit's figure, the best peer's
--   pytorch, eager, casadi, jax   the same, of PyTorch eager or compiled, of PyTorch eager, of
--                  CasADi, of JAX
--   most           at most this much, in the row's unit; `least` is the least possible
--   flat           no size costs this many times what a smaller one costs per unit
--   speedup        the last number of threads is at least so many times faster than the first

local rows = {}

local function row(t) rows[#rows + 1] = t end

local function group(name) rows[#rows + 1] = {group = name} end

group "Element-wise, fused with what follows"
row {"square", "square three times, 10^6 f64, no_grad", "square f64 1000000", limit = 1.3}
row {"square_grad", "same, y and x.grad", "square_grad f64 1000000", limit = 1.5}
row {"mse", "((x-t)^2):mean(), 10^6 f32, gradient", "mse f32 1000000", limit = 1.5}
row {"mixed", "(tanh*sigmoid + exp(-x^2)):sum(), 10^6 f32, gradient", "mixed f32 1000000",
     limit = 1.5}
row {"tanh50", "50 tanh in a row, 10^6 f32, gradient", "tanh f32 1000000 50", pytorch = 1}
row {"tanh50_lean", "same, lean mode", "tanh f32 1000000 50 lean", pytorch = 1}
row {"cross_entropy", "cross_entropy 4096x1000 f32, gradient", "cross_entropy f32 4096 1000",
     limit = 1.5}
row {"layer_norm", "layer_norm 4096x768 f32, gradients", "layer_norm f32 4096 768", limit = 2}

row {"vanish", "exp of masked scores, about -1000, 10^6 f32", "vanish f32 1000000", eager = 1}

group "Reductions and broadcasts"
for _, dtype in ipairs {"f32", "f64"} do
  for _, way in ipairs {"columns", "rows", "all"} do
    row {"sum_" .. way .. "_" .. dtype, "sum of " .. way .. ", 4096x1000 " .. dtype,
         ("sum %s 4096 1000 %s"):format(dtype, way), limit = 1.3}
  end
end
row {"sum_transposed", "x.T:sum(1), 4096x1000 f32", "sum f32 4096 1000 transposed", limit = 1.3}
row {"var", "var of rows, 4096x1000 f32", "var f32 4096 1000", limit = 1.3}
-- PyTorch takes those of many points from a product of matrices, which loses digits
row {"cdist", "distances, 500 by 500 points of 64, f32, gradients", "cdist f32 500 64", eager = 3}
row {"norm", "norm of rows, 4096x1000 f32, gradient", "norm f32 4096 1000", eager = 1}
row {"argmax", "argmax of rows, 4096x1000 f32", "argmax f32 4096 1000", limit = 1.3}
row {"add_row", "x + a row, 4096x1000 f32, gradients", "add f32 4096 1000 row", limit = 1.5}
row {"add_column", "x + a column, 4096x1000 f32, gradients", "add f32 4096 1000 column",
     limit = 1.5}
for _, m in ipairs {8, 48} do
  local n = 10^6 // m // 4 * 4
  local function short(name, title, run, way)
    row {name .. m, ("%s, f32, %d rows of %d"):format(title, n, m),
         ("%s f32 %d %d%s"):format(run, n, m, way and " " .. way or ""), eager = 1}
  end
  short("sum_rows", "sum of rows", "sum", "rows")
  short("sum_columns", "sum of columns", "sum", "columns")
  short("add_row", "x + a row, gradients", "add", "row")
  short("add_column", "x + a column, gradients", "add", "column")
  short("layer_norm", "layer_norm, gradients", "layer_norm")
  short("norm", "norm of rows, gradient", "norm")
end

group "Indexing"
row {"slices", "100 slices x[t] of (100, 64, 256) f32, gradient", "slices f32 100 64 256", peer = 1}
row {"gather", "10^5 rows out of 20000x64 f32, gradient", "gather f32 20000 64 100000", peer = 1}
row {"scatter", "scatter_add of 1000x1000 f32", "scatter f32 1000 1000", peer = 1}

-- The limit of a scalar op is a userdata made by C, with a number in it, and its __gc.
group "Small things"
row {"scalar", "scalar op, recorded, forward and backward", "scalar f64 1000", per = 1000,
     unit = "us", limit = 2.9}
row {"scalar_free", "scalar op, no_grad", "scalar_free f64 1000", per = 1000, unit = "us",
     limit = 1.4}
for _, n in ipairs {4, 64, 1024} do
  row {"vector" .. n, ("20 ops on %d f32, gradients, per op"):format(n), "vector f32 " .. n,
       per = 20, unit = "us", eager = 0.2}
end
row {"goldstein", "Goldstein-Price, value and gradient", "goldstein f64", unit = "us", jax = 1.1}
row {"tanh5", "fifth derivative of tanh, 200 points f64", "derivative f64 200 5", unit = "us",
     jax = 1.3}
row {"goldstein_compiled", "Goldstein-Price, value and gradient, mg.compile",
     "goldstein f64 compiled", unit = "us", casadi = 1}
row {"tanh5_compiled", "fifth derivative of tanh, 200 points f64, mg.compile",
     "derivative f64 200 5 compiled", unit = "us", peer = 1}
row {"chain_compiled", "1,000 scalar sin and mul, value and gradient, mg.compile, per op",
     "chain f64 1000 compiled", per = 1000, unit = "us", casadi = 1}
row {"points_compiled", "the same over 1,000 points f64, per op and point",
     "chain f64 1000 1000 compiled", per = 1e6, unit = "us", casadi = 0.25}
for _, case in ipairs {
  {"pinn", "PINN 2-32-32-1 tanh, 256 points f32, second derivatives, Adam", "pinn f32 256"},
  {"ode", "neural ODE 2-32-2, RK4, 50 steps, batch 32 f32, gradients", "ode f32 32 50"},
} do
  local name, title, run = table.unpack(case)
  row {name, title, run, unit = "us", eager = 0.33}
  row {name .. "_compiled", "same, mg.compile", run .. " compiled", unit = "us", peer = 1}
end
for _, case in ipairs {
  {"goldstein", "Goldstein-Price, value and gradient", "goldstein f64"},
  {"pinn", "PINN step above", "pinn f32 256"},
} do
  local name, title, run = table.unpack(case)
  row {name .. "_first", title .. ", mg.compile's first call (limit: a plain one)", run .. " first",
       unit = "us", first = true, limit = 3}
end
row {"start", "start, load, first gradient, end", "start f64", most = 10}

group "Products, networks, optimizers"
row {"matmul_f32", "1024 x 1024 x 1024 f32", "matmul f32 1 1024 1024 1024", limit = 1.1}
row {"matmul_f64", "1024 x 1024 x 1024 f64", "matmul f64 1 1024 1024 1024", limit = 1.1}
row {"matmul_batch", "64 times 64 x 64 x 64 f32", "matmul f32 64 64 64 64", unit = "us",
     limit = 1.1}
for _, dtype in ipairs {"f32", "f64"} do
  for _, n in ipairs {16, 32, 48} do
    row {("matmul%d_%s"):format(n, dtype), ("%d x %d x %d %s"):format(n, n, n, dtype),
         ("matmul %s 1 %d %d %d"):format(dtype, n, n, n), unit = "us", pytorch = 1}
    row {("matmul%d_batch_%s"):format(n, dtype), ("256 times %dx%dx%d %s"):format(n, n, n, dtype),
         ("matmul %s 256 %d %d %d"):format(dtype, n, n, n), unit = "us", pytorch = 1}
  end
end
row {"matmul_odd", "37 x 37 x 37 f32", "matmul f32 1 37 37 37", unit = "us", pytorch = 1}
row {"matmul_narrow", "100 x 1000 by 1000 x 10 f32", "matmul f32 1 100 10 1000", unit = "us",
     pytorch = 1}
row {"matmul_row", "1 x 4096 x 4096 f32", "matmul f32 1 1 4096 4096", limit = 1.1}
row {"mlp_sgd", "MLP 784-1000-1000-10, batch 100, f32, sigmoid, SGD step (limit: its 8 products)",
     "mlp f32 100 sigmoid SGD", limit = 1.2}
row {"mlp_adam", "same, relu, Adam", "mlp f32 100 relu Adam", pytorch = 1}
row {"mlp_sgd_compiled", "MLP step, SGD, mg.compile (limit: its 8 products)",
     "mlp f32 100 sigmoid SGD compiled", limit = 1.05}
row {"mlp_adam_compiled", "MLP step, relu, Adam, mg.compile", "mlp f32 100 relu Adam compiled",
     peer = 1}
row {"neighbour", "MLP step, SGD, beside a busy process (limit: on one thread)",
     "mlp f32 100 sigmoid SGD", neighbour = true, limit = 1.1}
row {"adam", "Adam alone, 10^7 f32 in 20 arrays", "adam f32 20 500000", limit = 1.15}
row {"fashion", "Fashion-MNIST, an epoch of the demo, files read too", "fashion f32", unit = "s",
     pytorch = 1}

row {"batch_norm", "batch_norm in training, 32x64x32x32 f32, gradients",
     "batch_norm f32 32 64 32 32", peer = 1}
row {"max_pool", "max_pool2d 2x2 of 64x20x24x24 f32, gradient", "max_pool f32 64 20 24 24",
     peer = 1}

group "Linear algebra"
for _, case in ipairs {"cholesky", "solve", "eigh", "svd"} do
  for _, size in ipairs {{1, 64, "us"}, {1, 500, "ms"}, {256, 8, "us"}} do
    local batch, n, unit = table.unpack(size)
    local times = batch > 1 and batch .. " times " or ""
    row {case .. n, ("%s of %s%d x %d f64"):format(case, times, n, n),
         ("linalg f64 %s %d %d"):format(case, batch, n), unit = unit, pytorch = 1}
  end
end
row {"gaussian", "marginal likelihood of a Gaussian process, 500 points f64, gradient",
     "gaussian f64 500", pytorch = 1}

group "Sequences"
for _, s in ipairs {{12, 4, 64, 32}, {4, 8, 512, 64}, {1, 8, 2048, 64}} do
  row {"attention" .. s[3],
       ("attention, causal, %dx%dx%dx%d f32, gradients"):format(table.unpack(s)),
       ("attention f32 %d %d %d %d causal"):format(table.unpack(s)), peer = 1}
end
row {"lstm", "LSTM 64 steps, batch 32, hidden 256, vocabulary 128, f32, SGD step",
     "lstm f32 64 32 256 128", pytorch = 1}
row {"gpt", "GPT 4 layers, 128 wide, 4 heads, 64 long, batch 12, f32, AdamW step",
     "gpt f32 4 128 4 64 12 65", pytorch = 1}

group "Convolutions"
row {"conv", "conv2d 64 -> 64, 3x3, of 32x64x32x32 f32, no_grad", "conv f32 32 64 32 64 3 1",
     peer = 1}
row {"conv_grad", "same, gradients of x, weight and bias", "conv_grad f32 32 64 32 64 3 1",
     peer = 1}
row {"conv_first", "conv2d 1 -> 20, 5x5, of 64x1x28x28 f32, gradients",
     "conv_grad f32 64 1 28 20 5 0", peer = 1}
row {"conv_second", "conv2d 20 -> 50, 5x5, of 64x20x12x12 f32, gradients",
     "conv_grad f32 64 20 12 50 5 0", peer = 1}
row {"im2col", "im2col 3x3 of 32x64x32x32 f32", "im2col f32 32 64 32 3 1", peer = 1}
row {"lenet", "LeNet 20-50-500, batch 64, f32, momentum step", "lenet f32 64", peer = 1}
row {"residual", "two residual blocks, 64 channels, 32x32, batch 32, f32, momentum step",
     "residual f32 2 64 32 32", peer = 1}

group "Growth and threads"
row {"growth_nodes", "10^3..10^6 scalar ops, gradient, per op", "scalar f64 %d", unit = "us",
     sizes = {1000, 10000, 100000, 1000000}, flat = 1.5}
row {"growth_elements", "square three times, 10^2..10^8 f32, gradient, per element",
     "square_grad f32 %d", unit = "ns", flat = 1.5,
     sizes = {100, 1000, 10000, 100000, 1000000, 10000000, 100000000}}
for _, case in ipairs {{"square", "square f64 1000000"}, {"mixed", "mixed f32 1000000"},
                       {"tanh50", "tanh f32 1000000 50"},
                       {"matmul_f32", "matmul f32 1 1024 1024 1024"},
                       {"matmul_f64", "matmul f64 1 1024 1024 1024"}} do
  row {"threads_" .. case[1], case[1] .. ", 1 and 2 threads", case[2], threads = {1, 2},
       speedup = 1.7}
end

group "Memory at the peak, beyond the inputs"
row {"mem_square", "square three times 10^6 f64, y and x.grad", "square_grad f64 1000000",
     memory = true, least = 16, most = 26}
row {"mem_square_free", "same, no_grad, three times over", "square f64 1000000", memory = true,
     times = 3, least = 16, most = 18}
row {"mem_tanh50", "50 tanh, 10^6 f32, gradient", "tanh f32 1000000 50", memory = true,
     least = 204, most = 216}
row {"mem_tanh50_lean", "same, lean mode", "tanh f32 1000000 50 lean", memory = true, least = 8,
     most = 14}
row {"mem_affine50", "50 times y*1.01 + 0.5, 10^6 f32, gradient", "affine f32 1000000 50",
     memory = true, least = 8, most = 12}
-- Gradients of 1,796,010 parameters, two hidden layers and the logits kept, the gradient of one
-- hidden layer: 4 (1796010 + 2 * 100 * 1000 + 2 * 100 * 10 + 100 * 1000) bytes.
row {"mem_mlp", "MLP step above, beyond parameters and inputs", "mlp f32 100 sigmoid SGD",
     memory = true, least = 8.4, most = 8.4 * 1.1}
row {"mem_attention2048", "attention above, 2048 long", "attention f32 1 8 2048 64 causal",
     memory = true, pytorch = 0.5}
row {"mem_lstm", "LSTM step above", "lstm f32 64 32 256 128", memory = true, pytorch = 0.5}
row {"mem_gpt", "GPT step above", "gpt f32 4 128 4 64 12 65", memory = true, pytorch = 0.5}
row {"mem_derivative", "fifth derivative of tanh, 1000 times, kept at the end",
     "derivative f64 200 5", memory = true, times = 1000, least = 0, most = 0.5}

return rows
