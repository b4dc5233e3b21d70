-- options.lua -- how options_spec.lua calls every public function that has options, or arguments
-- that may be left out.
--
-- cases[path] is a list of variants, of which one is enough to tell the difference. Each has
-- run(f, options), which calls f and gives what is looked at: Variables, numbers, tables, strings.
-- Besides there are in cases[path]
--
--   values   name -> a value that is not the default, or several(...), beside cases.values; a
--            boolean has its other value, a choice of strings its others
--   idle     name -> why it makes no difference; or a table of that by the names of the options
--            beside which it makes none, or "alone"
--   refuses  a pattern of errors that name none of the options
--
-- Or it is true: why stands beside it.

local mg = require "moongrad"

local cases = {values = {}}

-- ---- values ------------------------------------------------------------------------------------

local function several(...) return table.pack(...) end

-- A value of its own for each call
cases.Fresh = {}
local function fresh(make) return setmetatable({make = make}, cases.Fresh) end

-- Numbers that are no multiples of each other, of any shape
local function wave(seed, ...)
  local dims = {...}
  local n = 1
  for _, d in ipairs(dims) do n = n * d end
  local t = {}
  for i = 1, n do t[i] = math.sin(i * 1.7 + seed) * 1.3 end
  return mg.tensor(t):reshape(dims)
end

local function tracked(...) return mg.Variable(wave(...)) end
local function int(t) return mg.tensor(t, "int64") end

-- The results; and the gradients, of a sum of floats among them, by all that is tracked in args
local function looked_at(args, ...)
  local results = table.pack(...)
  local sum
  for i = 1, results.n do
    local y = results[i]
    if mg.is_variable(y) and y.requires_grad and y.creator then
      local part = (y * wave(i, y.size):reshape(y.shape)):sum()
      sum = sum and sum + part or part
    end
  end
  if sum then sum:backward() end
  local grads = {}
  for i, x in ipairs(args) do
    if mg.is_variable(x) and x.requires_grad then grads[i] = x.grad or false end
  end
  results.n = nil
  return results, grads
end

local function add(paths, case)
  for path in paths:gmatch "%S+" do
    local variants = cases[path] or {values = case.values or {}, idle = case.idle or {},
                                     refuses = case.refuses}
    cases[path] = variants
    variants[#variants + 1] = case
  end
end

-- Ops: args() gives what comes first
local function op(paths, args, values, idle, refuses)
  add(paths, {values = values, idle = idle, refuses = refuses, run = function(f, options)
    local list = args(options)
    if next(options) then list[#list + 1] = options end
    return looked_at(list, f(table.unpack(list)))
  end})
end

local v = cases.values
v.dtype = "float32"
v.axis = 1
v.correction = 0
v.eps = 0.3
v.layer_norm_eps = 0.3

-- ---- ops ---------------------------------------------------------------------------------------

local function matrix() return {tracked(1, 2, 3)} end
local function vector() return {tracked(1, 6)} end

op("mg.gelu", vector)
op("mg.softplus", vector, {beta = 2})
op("mg.nan_to_num", function() return {mg.tensor{0 / 0, 1 / 0, -1 / 0, 1}} end,
  {nan = 2, posinf = 3, neginf = 4})
op("mg.clamp", function(options)
  options.min = options.min or -0.6             -- it needs one
  return {tracked(1, 6)}
end, {min = -0.5, max = several(0.5, mg.tensor(0.25))})
op("mg.hardtanh", vector, {min = -0.5, max = 0.5})
op("mg.leaky_relu", vector, {slope = 0.3})
op("mg.elu mg.celu", vector, {alpha = 0.3})
op("mg.hardshrink mg.softshrink", vector, {lambda = 0.2})
op("mg.glu", function() return {tracked(1, 4, 2)} end)
op([[mg.sum mg.mean mg.max mg.min mg.amax mg.amin mg.prod mg.var mg.std mg.logsumexp mg.nansum
  mg.nanmean mg.count_nonzero mg.argmax mg.argmin mg.median]], matrix)
op("mg.all mg.any", function() return {mg.tensor{{true, false}, {true, true}}} end)
op("mg.norm", matrix, {p = several(1, 3, 1 / 0)})
op("mg.quantile", function() return {tracked(1, 2, 3), 0.3} end)
op("mg.diff", function() return {tracked(1, 3, 4)} end, {n = several(0, 2)},
  {axis = {n = "no difference is taken"}})
op("mg.trapezoid", function() return {tracked(1, 3, 3)} end, {x = mg.tensor{0, 1, 3}, dx = 2})
op("mg.isclose", function()
  return {mg.tensor{0 / 0, 1, 1e-3, 3}, mg.tensor{0 / 0, 1.45, 0.2, 3.5}}
end, {rtol = 0.2, atol = 0.3})
cases["mg.allclose"] = true                       -- all of isclose
op("mg.searchsorted", function() return {mg.tensor{1, 2, 3}, mg.tensor{2, 2.5}} end)
op("mg.argsort mg.sort", matrix)
op("mg.topk", function() return {tracked(1, 3, 3), 1} end)
op("mg.meshgrid", function() return {tracked(1, 2), tracked(2, 3)} end)
op("mg.pad", function() return {tracked(1, 4), {1, 2}} end, {value = 2})
op("mg.diag_embed", matrix, {offset = 1})
op("mg.diagonal", function() return {tracked(1, 2, 3, 4)} end,
  {offset = 1, axis1 = 3, axis2 = 3}, nil, "two axes")
op("mg.rand mg.zeros mg.ones mg.randn", function() return {2, 3} end)
op("mg.range", function() return {1, 4} end, {step = 2})
op("mg.zeros_like mg.ones_like mg.rand_like mg.randn_like", matrix)
op("mg.eye", function() return {3} end, {m = 2})
op("mg.linspace", function() return {1, 2, 3} end)
op("mg.logspace", function() return {1, 2, 3} end, {base = 2})
op("mg.flatten", function() return {tracked(1, 2, 3, 4)} end, {first = 2, last = 2})
op("mg.rot90", function() return {tracked(1, 2, 3, 4)} end, {k = 2, axes = {1, 3}})
op("mg.squeeze", function() return {tracked(1, 1, 2, 1)} end)
op("mg.cat mg.stack", function() return {{tracked(1, 2, 2), tracked(2, 2, 2)}} end, {axis = 2})
op("mg.split", function() return {tracked(1, 2, 4), 1} end, {axis = 2})
op("mg.chunk", function() return {tracked(1, 2, 4), 2} end, {axis = 2})
op("mg.unbind mg.shuffle", function() return {tracked(1, 3, 4)} end, {axis = 2})
op("mg.roll", function() return {tracked(1, 2, 3), 1} end)
op("mg.tril mg.triu mg.diag", function() return {tracked(1, 3, 3)} end, {k = 1})
op("mg.repeat_interleave", function() return {tracked(1, 2, 2), 2} end)
op("mg.one_hot", function() return {int{1, 2}} end, {n = 3})
op("mg.take_along", function() return {tracked(1, 2, 2), int{{1, 2}}} end)
add("mg.Variable", {values = {name = "x"}, run = function(f, options)
  return f(1, options.name).name
end})
op("mg.tensor", function() return {1.5} end)
op("mg.full", function() return {{2}, 1} end)
op("mg.randint", function() return {1, 100} end, {dims = {2}})
op("mg.bernoulli", function() return {0.5} end, {dims = {20}})
op("mg.poisson", function() return {3} end, {dims = {20}})
add("mg.tensordot", {values = {axes = 1}, run = function(f, options)
  return f(wave(1, 3, 3), wave(2, 3, 3), options.axes)
end})
op("mg.transpose", function() return {tracked(1, 2, 3, 4)} end, {axes = {1, 3, 2}})
op("mg.softmax mg.softmin mg.log_softmax", function() return {tracked(1, 2, 3)} end)
op("mg.dropout mg.dropout1d mg.alpha_dropout", function() return {tracked(1, 5, 8)} end, {p = 0.2})
op("mg.dropout2d", function() return {tracked(1, 5, 8, 1)} end, {p = 0.2})
op("mg.dropout3d", function() return {tracked(1, 5, 8, 1, 1)} end, {p = 0.2})
op("mg.linear", function() return {tracked(1, 2, 3), tracked(2, 4, 3)} end, {b = wave(3, 4)})
op("mg.bilinear", function() return {tracked(1, 2, 3), tracked(2, 2, 4), tracked(3, 5, 3, 4)} end,
  {b = wave(3, 5)})
op("mg.categorical", function() return {wave(1, 5, 4)} end, {n = 2})
op("mg.tobytes", function() return {wave(1, 5)} end)

local function lower() return mg.tensor{{2, 0.5}, {0.3, 1.5}} end
op("mg.triangular_solve", function() return {tracked(1, 2, 2), lower()} end)
op("mg.svd", function() return {wave(1, 3, 2)} end)
op("mg.pinv", function() return {mg.tensor{{1, 0}, {0, 0.2}}} end, {rtol = 0.5})
op("mg.cross", function() return {tracked(1, 3, 3), tracked(2, 3, 3)} end)
op("mg.cov", matrix)
op("mg.cholesky_solve", function() return {tracked(1, 2, 2), lower()} end)
op("mg.lstsq", function() return {mg.tensor{{1, 0}, {0, 0.2}}, wave(1, 2)} end, {rcond = 0.5})
op("mg.cdist", function() return {tracked(1, 2, 3), tracked(2, 2, 3)} end, {p = 1})

-- Pictures (N, channels, ...) and kernels (out, into, ...) of n axes
local function picture(channels, n)
  return tracked(1, n == 3 and 1 or 2, channels, table.unpack({5, 5, 7}, 4 - n))
end
local function kernel(out, into, n)
  return tracked(2, out, into, table.unpack({2, 3, 2}, 1, n))
end

local nothing_padded = {}
for _, beside in ipairs{"alone", "stride", "ceil_mode"} do
  nothing_padded[beside] = "nothing is padded"
end

for n = 1, 3 do
  op(("mg.conv%dd"):format(n), function(options)
    return {picture(2, n), kernel(2, 2 // (options.groups or 1), n)}
  end, {stride = 2, padding = several(1, "same"), dilation = 2, groups = 2, bias = wave(1, 2)})
  op(("mg.conv_transpose%dd"):format(n), function(options)
    return {picture(2, n), kernel(2, 2 // (options.groups or 1), n)}
  end, {stride = 3, padding = 1, output_padding = 2, groups = 2, dilation = 2, bias = wave(1, 2)})
  local pools = ("mg.max_pool%dd mg.avg_pool%dd"):format(n, n)
  for size = 2, 5 do
    op(pools, function() return {wave(1, 1, 2, table.unpack({7, 8, 9}, 1, n)), size} end,
      {stride = several(2, 3), padding = 1, dilation = 2, divisor_override = 3})
  end
  cases[("mg.avg_pool%dd"):format(n)].idle.count_include_pad = nothing_padded
end
op("mg.im2col", function() return {picture(2, 2), 2} end, {stride = 2, padding = 1, dilation = 2})
op("mg.col2im", function(options)
  local cols = mg.im2col(picture(2, 2), 2, options)
  return {mg.Variable(cols), {5, 7}, 2}
end, {stride = 2, padding = 1, dilation = 2})
op("mg.interpolate", function(options)
  if not options.scale_factor then options.size = options.size or 4 end
  local n = (options.mode or ""):find "^bi" and 2 or 1
  return {picture(2, n)}
end, {size = 9, scale_factor = 1.7})
local function means() return wave(2, 2) end
local function variances() return wave(3, 2):exp() end
for n = 1, 3, 2 do
  op("mg.batch_norm mg.instance_norm", function()
    return {table.unpack({tracked(1, 3, 2, 4), means(), variances()}, 1, n)}
  end, {mean = fresh(means), var = fresh(variances), w = wave(4, 2), b = wave(5, 2),
      momentum = 0.5})
end
op("mg.group_norm", function() return {tracked(1, 3, 4, 2), 2} end,
  {w = wave(2, 4), b = wave(3, 4)})
op("mg.layer_norm mg.rms_norm", function() return {tracked(1, 3, 4)} end,
  {w = wave(2, 4), b = wave(3, 4)})
op("mg.gumbel_softmax", matrix, {tau = 2})
op("mg.embedding", function() return {int{1, 2, 2}, tracked(1, 3, 2)} end, {padding_idx = 2})

local function two() return {tracked(1, 3, 4), tracked(2, 3, 4)} end
op("mg.mean_squared_error mg.l1_loss", two)
op("mg.huber_loss", two, {delta = 0.5})
op("mg.smooth_l1_loss", two, {beta = 0.5})
op("mg.kl_div", function() return {tracked(1, 3, 4), wave(2, 3, 4):exp()} end)
op("mg.binary_cross_entropy", function()
  return {mg.Variable(wave(1, 3, 4):sigmoid()), wave(2, 3, 4):sigmoid()}
end, {weight = wave(3, 4):exp()})
op("mg.binary_cross_entropy_with_logits", function()
  return {tracked(1, 3, 4), wave(2, 3, 4):sigmoid()}
end, {weight = wave(3, 4):exp(), pos_weight = wave(5, 4):exp()})
op("mg.cross_entropy mg.nll_loss", function() return {tracked(1, 3, 4), int{1, 2, 4}} end,
  {weight = wave(3, 4):exp(), ignore_index = 2, label_smoothing = 0.2})
for _, scale in ipairs{0.5, 5} do
  op("mg.normalize", function() return {mg.Variable(wave(1, 2, 3) * scale)} end, {p = 1, eps = 2})
end
op("mg.cosine_similarity", two, {eps = 10})
op("mg.pairwise_distance", two, {p = 1})
local signs = mg.tensor{1, -1, 1}
op("mg.margin_ranking_loss", function()
  return {tracked(1, 3), tracked(2, 3), signs}
end, {margin = 0.4})
op("mg.hinge_embedding_loss", function() return {tracked(1, 3), signs} end, {margin = 3})
op("mg.soft_margin_loss", function() return {tracked(1, 3), signs} end)
op("mg.cosine_embedding_loss", function()
  return {tracked(1, 3, 4), tracked(1.2, 3, 4), signs}
end, {margin = 0.4})
op("mg.triplet_margin_loss", function()
  return {tracked(1, 3, 4), tracked(4, 3, 4), tracked(3, 3, 4)}
end, {margin = 5, p = 1})
op("mg.multi_margin_loss", function() return {tracked(1, 3, 4), int{1, 2, 4}} end,
  {margin = 2, p = 2, weight = wave(3, 4):exp()})
op("mg.multilabel_soft_margin_loss", function()
  return {tracked(1, 3, 4), wave(2, 3, 4):gt(0):to "float64"}
end, {weight = wave(3, 4):exp()})
op("mg.poisson_nll_loss", function() return {mg.Variable{1, 2.5, 0.5}, mg.tensor{1, 2, 4}} end)
op("mg.gaussian_nll_loss", function()
  return {tracked(1, 3), wave(2, 3), mg.Variable(wave(3, 3):exp())}
end, {eps = 1})
op("mg.ctc_loss", function()
  return {mg.Variable(wave(1, 4, 2, 3):log_softmax()), int{{2, 3, 2}, {3, 3, 3}}, int{4, 4},
    int{3, 3}}
end, {blank = 2})
op("mg.ctc_loss", function()
  return {mg.Variable(wave(1, 4, 1, 3):log_softmax()), int{{3, 3}}, int{4}, int{2}}
end)
op("mg.local_response_norm", function() return {tracked(1, 2, 4, 3), 3} end,
  {alpha = 0.5, beta = 0.5, k = 2})
op("mg.affine_grid", function() return {tracked(1, 2, 2, 3), {2, 1, 3, 4}} end)
op("mg.grid_sample", function()
  return {tracked(1, 2, 2, 3, 4), mg.Variable(wave(2, 2, 3, 3, 2) * 1.1)}
end)
op("mg.scaled_dot_product_attention", function(options)
  local heads = options.enable_gqa and 1 or 2
  return {tracked(1, 2, 2, 3, 4), tracked(2, 2, heads, 3, 4), tracked(3, 2, heads, 3, 4)}
end, {attn_mask = several(wave(1, 3, 3), mg.tensor{{true, false, true}, {true, true, false},
  {false, true, true}}), dropout_p = 0.3, scale = 0.2})
op("mg.normal mg.uniform", function() return {0, 1} end, {dims = {2}})
op("mg.gamma mg.beta", function() return {1, 2} end, {dims = {2}})
op("mg.exponential", function() return {1} end, {dims = {2}})
op("mg.unique", function() return {mg.tensor{3, 1, 3, 2}} end)
op("mg.bincount", function() return {int{1, 3, 3}} end,
  {weights = mg.tensor{1, 2, 3}, minlength = 5})
op("mg.histogram", function() return {mg.tensor{1, 3, 3, 4}} end,
  {weights = mg.tensor{1, 2, 3, 4}, range = {0, 5}, bins = several(3, mg.tensor{0, 1, 3, 5})})

-- ---- the graph, files, printing ----------------------------------------------------------------

cases["mg.empty"] = true                          -- values to come: as zeros
cases["mg.is_variable"] = true                    -- one argument, nil too
cases["mg.help"] = true                           -- likewise
cases["mg.memory_limit"] = true                   -- likewise
cases["mg.softmax_cross_entropy"] = true          -- cross_entropy
cases["mg.compile"] = true                        -- max: how many records stay, no other result
cases["mg.Function"] = true                       -- none may be left out

add("mg.set_printoptions", {
  values = {precision = 2, threshold = 3, linewidth = 20},
  run = function(f, options)
    local before = f(options)
    local shown = tostring(mg.range(1, 30) / 7)
    f(before)
    return shown
  end,
})
add("mg.backward", {
  idle = {retain_graph = {create_graph = "kept for it anyway"}},
  run = function(f, options)
    local x = tracked(1, 3)
    local z = x:exp()
    local y = (z * z):sum()
    f(y, options)
    return z.grad, x.grad.requires_grad, (pcall(f, y))
  end,
})
local function cubes(a, b) return (a * a * a):sum() + (b and (b * b):sum() or 0), "beside" end
add("mg.grad mg.value_and_grad", {
  values = {argnum = several(2, {1, 2})},
  run = function(f, options)
    local first = options.argnum and 1 or 0
    local given = first == 1 and {options.argnum, {has_aux = options.has_aux}} or {options}
    local fn = f(function(...)
      local y, aux = cubes(...)
      if options.has_aux then return y, aux end
      return y
    end, table.unpack(given))
    return fn(wave(1, 3), wave(2, 3))
  end,
})
for n = 1, 2 do
  add("mg.gradients", {
    run = function(f, options)
      local x, z = tracked(1, 3), tracked(2, 3)
      local y = (x * x):sum()
      local ok, grads = pcall(f, y, n == 1 and {x} or {x, z}, options)
      return ok, grads, ok and grads[1].requires_grad, (pcall(f, y, {x}))
    end,
    idle = {retain_graph = {create_graph = "kept for it anyway"}},
  })
end
add("mg.numerical_grad", {
  values = {eps = 1e-2},
  run = function(f, options)
    return f(function(x) return (cubes(x)) end, wave(1, 3), options)
  end,
})
for _, off in ipairs{0, 0.09, 0.2, 0.35} do -- a derivative that is wrong by so much
  add("mg.gradcheck", {
    values = {order = 2, eps = 0.3, rtol = 0.2, atol = 0.3},
    run = function(f, options)
      local cube = mg.Function{name = "cube", forward = function(_, x) return x ^ 3 end,
        backward = function(self, gy) return gy * (self.inputs[1] ^ 2 * 3 + off) end}
      local count = 0
      local ok, problem = pcall(f, function(x)
        count = count + 1
        return cube(x):sum()
      end, {mg.tensor{0.9, -0.5, 0.7}}, options)
      return ok, problem, count
    end,
  })
end
add("mg.memory", {run = function(f, options)
  local t = f(options)
  return {t.live ~= nil, t.leaf ~= nil, t.data ~= nil, next(t) ~= nil}
end})

local function shrinks(_, y) return -y end
for _, problem in ipairs{1, 2} do
  add("mg.odeint", {
    values = {rtol = 1e-2, atol = 1e-2, step = 0.3, max_steps = 2},
    idle = {checkpoint = "the same, in less memory"},
    run = function(f, options)
      local y = tracked(1, 2)
      return pcall(f, shrinks, problem == 1 and y or y * 100, {0, 2}, options)
    end,
  })
end
for _, start in ipairs{-1.2, 3} do
  add("mg.minimize", {
    values = {tol = 8, max_iter = 5, history = 1, callback = function(_, _, i) return i < 4 end},
    idle = {max_iter = {callback = "it stops before"}},
    run = function(f, options)
      return f(function(x)
        return (1 - x[1]) ^ 2 + 100 * (x[2] - x[1] ^ 2) ^ 2
      end, mg.tensor{start, 1}, options)
    end,
  })
end
for _, start in ipairs{2, 3} do
  add("mg.root", {values = {tol = 0.1, max_iter = 2}, run = function(f, options)
    return pcall(f, function(x) return x * x - 2 end, start, options)
  end})
end
cases["mg.plot_graph"] = true                     -- without a path only in a notebook
cases["mg.progress"] = true                       -- what it writes has a spec

-- ---- layers ------------------------------------------------------------------------------------

-- What a layer gives in both modes, its gradients, and all that it holds
local function used(layer, inputs)
  local results, grads = looked_at(inputs, layer(table.unpack(inputs)))
  local of_parameters = {}
  for name, p in layer:named_parameters() do of_parameters[name] = p.grad or false end
  return results, grads, of_parameters, layer:state(), mg.test_mode(function()
    return {layer(table.unpack(inputs))}
  end)
end

local function layer(paths, args, inputs, values, idle, refuses)
  add(paths, {values = values, idle = idle, refuses = refuses, run = function(class, options)
    local list = table.move(args, 1, #args, 1, {})
    if next(options) then list[#list + 1] = options end
    local made = class(table.unpack(list))
    return used(made, inputs(options))
  end})
end

local function row() return {tracked(1, 3, 4)} end

layer("mg.nn.CELU mg.nn.ELU", {}, row, {alpha = 0.3})
layer("mg.nn.GELU mg.nn.GLU mg.nn.Softmax mg.nn.Softmin mg.nn.LogSoftmax", {},
  function() return {tracked(1, 4, 4)} end)
layer("mg.nn.Softplus", {}, row, {beta = 2})
layer("mg.nn.Hardtanh", {}, row, {min = -0.5, max = 0.5})
layer("mg.nn.Hardshrink mg.nn.Softshrink", {}, row, {lambda = 0.2})
layer("mg.nn.LeakyReLU", {}, row, {negative_slope = 0.3})
layer("mg.nn.PReLU", {}, row, {num_parameters = 4, init = 0.5})
layer("mg.nn.Dropout mg.nn.Dropout1d mg.nn.AlphaDropout", {}, function()
  return {tracked(1, 5, 8)}
end, {p = 0.2})
layer("mg.nn.Dropout2d", {}, function() return {tracked(1, 5, 8, 1)} end, {p = 0.2})
layer("mg.nn.Dropout3d", {}, function() return {tracked(1, 5, 8, 1, 1)} end, {p = 0.2})
layer("mg.nn.Flatten", {}, function() return {tracked(1, 2, 3, 4, 2)} end, {first = 3, last = 3})
layer("mg.nn.Linear", {4, 3}, row)
layer("mg.nn.Bilinear", {4, 4, 2}, function() return {tracked(1, 3, 4), tracked(2, 3, 4)} end)
layer("mg.nn.MLP", {{4, 3, 2}}, row, {activation = mg.tanh})
layer("mg.nn.Embedding", {4, 3}, function() return {int{1, 2, 2}} end, {padding_idx = 2})
layer("mg.nn.BatchNorm", {}, row, {momentum = several(0.5, "cumulative"), num_features = 4},
  {num_features = "as the input says", sync = "there is one process"})
layer("mg.nn.InstanceNorm", {}, function() return {tracked(1, 2, 3, 4)} end,
  {momentum = several(0.5, "cumulative"), num_features = 3}, {num_features = "as the input says"})
layer("mg.nn.GroupNorm", {2}, row, {num_channels = 4}, {num_channels = "as the input says"})
layer("mg.nn.LayerNorm", {}, row, {shape = {3, 4}}, {bias = {elementwise_affine = "there is none"}})
layer("mg.nn.RMSNorm", {}, row, {shape = {3, 4}})
layer("mg.nn.LocalResponseNorm", {3}, function() return {tracked(1, 2, 4, 3)} end,
  {alpha = 0.5, beta = 0.5, k = 2})
add("mg.nn.Upsample", {
  values = {size = 9, scale_factor = 1.7},
  run = function(class, options)
    if not options.scale_factor then options.size = options.size or 4 end
    local n = (options.mode or ""):find "^bi" and 2 or 1
    return used(class(options), {picture(2, n)})
  end,
})
for n = 1, 3 do
  layer(("mg.nn.Conv%dd"):format(n), {2, 2, 3}, function() return {picture(2, n)} end,
    {stride = 2, padding = several(1, "same"), dilation = 2, groups = 2})
  layer(("mg.nn.ConvTranspose%dd"):format(n), {2, 2, 2}, function() return {picture(2, n)} end,
    {stride = 3, padding = 1, output_padding = 2, groups = 2, dilation = 2})
  local pools = ("mg.nn.MaxPool%dd mg.nn.AvgPool%dd"):format(n, n)
  for size = 2, 5 do
    layer(pools, {size}, function() return {wave(1, 1, 2, table.unpack({7, 8, 9}, 1, n))} end,
      {stride = several(2, 3), padding = 1, dilation = 2, divisor_override = 3})
  end
  cases[("mg.nn.AvgPool%dd"):format(n)].idle.count_include_pad = nothing_padded
end

-- ---- recurrent, attention ----------------------------------------------------------------------

local function steps() return {tracked(1, 3, 3, 4)} end
layer("mg.nn.RNN mg.nn.LSTM mg.nn.GRU", {4, 3}, steps, {num_layers = 2, dropout = 0.4})
layer("mg.nn.RNNCell mg.nn.LSTMCell mg.nn.GRUCell", {4, 3}, row)

-- The call of a layer: what it is given by name
local function forward(path, args, inputs, values, idle)
  local class = mg
  for name in path:match "^mg%.(.*)$":gmatch "[^.]+" do class = class[name] end
  add(path .. ":forward", {values = values, idle = idle, run = function(f, options)
    local made = class(table.unpack(args))
    local list = inputs(options)
    if next(options) then list[#list + 1] = options end
    local results, grads = looked_at(list, f(made, table.unpack(list)))
    local of_parameters = {}
    for name, p in made:named_parameters() do of_parameters[name] = p.grad or false end
    return results, grads, of_parameters
  end})
end

for name in ("RNN LSTM GRU"):gmatch "%u+" do
  forward("mg.nn." .. name, {4, 3}, steps,
    {h = wave(5, 1, 3, 3), c = wave(6, 1, 3, 3), lengths = int{3, 1, 2}})
  forward("mg.nn." .. name .. "Cell", {4, 3}, row, {h = wave(5, 3, 3), c = wave(6, 3, 3)})
end
local square_mask = wave(9, 3, 3)
local shown = mg.tensor{{true, false, true}, {true, true, false}, {false, true, true}}
layer("mg.nn.MultiHeadAttention", {4, 2}, function(options)
  return {tracked(1, 3, 3, 4), tracked(2, 3, 3, options.kdim or 4),
          tracked(3, 3, 3, options.vdim or 4)}
end, {dropout = 0.4, kdim = 5, vdim = 5})
forward("mg.nn.MultiHeadAttention", {4, 2}, steps,
  {key = wave(2, 3, 3, 4), value = wave(3, 3, 3, 4), attn_mask = several(square_mask, shown),
   key_padding_mask = mg.tensor{{true, false, false}, {false, true, false}, {false, false, true}}})
local function pair() return {tracked(1, 3, 3, 4), tracked(2, 3, 3, 4)} end
add("mg.nn.Transformer", {
  values = {d_model = 8, nhead = 2, num_encoder_layers = 2, num_decoder_layers = 2,
            dim_feedforward = 5, dropout = 0.4, activation = mg.tanh},
  run = function(class, options)
    for name, value in pairs{d_model = 4, nhead = 1, num_encoder_layers = 1, num_decoder_layers = 1,
                             dim_feedforward = 3} do
      options[name] = options[name] or value
    end
    local n = options.d_model
    return used(class(options), {tracked(1, 2, 3, n), tracked(2, 2, 3, n)})
  end,
})

local small = {dim_feedforward = 3, dropout = 0}
local masks = {}
for name in ([[src_mask tgt_mask memory_mask mask]]):gmatch "%S+" do masks[name] = square_mask end
for name in ([[src_key_padding_mask tgt_key_padding_mask memory_key_padding_mask]]):gmatch "%S+" do
  masks[name] = mg.tensor{{true, false, false}, {false, true, false}, {false, false, true}}
end
for name, inputs in pairs{Encoder = steps, Decoder = pair} do
  local one = "mg.nn.Transformer" .. name .. "Layer"
  local Layer = mg.nn["Transformer" .. name .. "Layer"]
  add(one, {
    values = {dim_feedforward = 5, dropout = 0.4, activation = mg.tanh},
    run = function(class, options)
      options.dim_feedforward = options.dim_feedforward or 3
      return used(class(4, 2, options), inputs())
    end,
  })
  forward(one, {4, 2, small}, inputs, masks)
  add("mg.nn.Transformer" .. name, {
    values = {norm = fresh(function() return mg.nn.LayerNorm(4) end)},
    run = function(class, options) return used(class(Layer(4, 2, small), 2, options), inputs()) end,
  })
  forward("mg.nn.Transformer" .. name, {Layer(4, 2, small), 2}, inputs, masks)
end
forward("mg.nn.Transformer", {4, 2, {num_encoder_layers = 1, num_decoder_layers = 1,
  dim_feedforward = 3, dropout = 0}}, pair, masks)

-- ---- first values ------------------------------------------------------------------------------

local function first_values(paths, shape, values, idle)
  add("mg.nn.init." .. paths:gsub(" ", " mg.nn.init."), {values = values, idle = idle,
    run = function(f, options)
      local p = mg.nn.Parameter(mg.zeros(shape))
      if next(options) then f(p, options) else f(p) end
      return p.data
    end})
end
add("mg.nn.init.calculate_gain", {values = {slope = 1}, run = function(f, options)
  return f("leaky_relu", options)
end})
first_values("kaiming_normal kaiming_uniform", {3, 5},
  {a = 0.3, nonlinearity = several("linear", "tanh", "selu")}) -- of slope 0 leaky_relu is relu
first_values("orthogonal xavier_normal xavier_uniform", {3, 5}, {gain = 2})
first_values("normal", {3, 5}, {mean = 1, std = 2})
first_values("uniform", {3, 5}, {low = 0.5, high = 2})
first_values("trunc_normal", {3, 50}, {mean = 1, std = 3, a = -0.5, b = 0.5})

-- ---- models, optimizers, schedules -------------------------------------------------------------

local function tokens() return int{{1, 2, 3}, {3, 1, 2}} end
local gpt = {block_size = 4, n_layer = 1, n_head = 1, n_embd = 4}
add("mg.models.GPT", {
  values = {block_size = 3, n_layer = 2, n_head = 2, n_embd = 6, dropout = 0.3},
  run = function(class, options)
    for name, value in pairs(gpt) do options[name] = options[name] or value end
    return used(class(3, options), {tokens()})
  end,
})
forward("mg.models.GPT", {3, gpt}, function() return {tokens()} end, {cache = fresh(function()
  local model = mg.models.GPT(3, gpt)
  local cache = {}
  mg.no_grad(model, tokens()[{{}, {1, 1}}], {cache = cache})
  return cache
end)})
add("GPT:generate", {values = {temperature = several(0, 5), top_k = 1}, run = function(f, options)
  mg.seed(3)
  return f(mg.models.GPT(30, gpt), tokens(), 40, options)
end, idle = {temperature = {top_k = "of one token there is one choice"}}})
local function model(paths, size, values)
  add(paths, {values = values, run = function(class, options)
    local made = class(options)
    local shapes = {}
    for name, p in made:named_parameters() do shapes[name] = p.shape end
    local x = wave(1, 2, options.in_channels or size[1], size[2], size[2])
    return shapes, size[2] < 40 and mg.no_grad(made, x)
  end})
end
model("mg.models.LeNet", {1, 28}, {num_classes = 3, in_channels = 2})

-- Some steps of an optimizer with these options; gradients that change and turn
local function trained(class, options)
  local p, q = mg.Variable(wave(1, 4)), mg.Variable(wave(2, 3))
  local opt = next(options) and class({p, q}, options) or class{p, q}
  for i = 1, 8 do
    p.grad, q.grad = wave(i * 2, 4), wave(i, 3) * (9 - i)
    opt:step()
  end
  return p.data, q.data
end
for name in ([[AdaDelta AdaGrad Adam AdamW Adamax Lion NAdam RAdam RMSprop Rprop
               SGD]]):gmatch "%a+" do
  add("mg.optim." .. name, {
    values = {lr = 0.5, rho = 0.5, weight_decay = 0.3, lr_decay = 0.3, betas = {0.5, 0.9},
              momentum_decay = 0.3, alpha = 0.5, momentum = 0.7, dampening = 0.3,
              etas = {0.3, 1.7}, step_sizes = {0.008, 0.012}},
    run = trained,
  })
end
for _, scale in ipairs{1, 30} do
  add("mg.optim.LBFGS", {
    values = {lr = 0.3, max_iter = 3, max_eval = 5, tolerance_grad = 3, tolerance_change = 0.3,
              history_size = 1},
    run = function(class, options)
      local x = mg.Variable{-1.2, 1}
      local opt, count = class({x}, options), 0
      local losses = {}
      for i = 1, 3 do
        losses[i] = opt:step(function()
          count = count + 1
          x:cleargrad()
          local loss = (1 - x[1]) ^ 2 + scale * (x[2] - x[1] ^ 2) ^ 2
          loss:backward()
          return loss
        end)
      end
      return x.data, losses, count
    end,
  })
end

local function schedule(name, args, values, idle, lr, first, metric)
  add("mg.optim." .. name, {values = values, idle = idle, run = function(f, options)
    local opt = mg.optim.SGD({tracked(1, 1)}, {lr = lr or 0.4, momentum = 0.5})
    local list = table.move(args, 1, #args, 2, {opt})
    if options.after then options.after = mg.optim.step(opt, 1) end
    if next(options) then list[#list + 1] = options end
    local s = f(table.unpack(list))
    s.t = first or 0
    local gone = {}
    for i = 1, metric and 60 or 16 do
      gone[i] = {opt.lr, opt.momentum}
      s:step(metric and metric(i) or nil)
    end
    return gone
  end})
end
schedule("cosine", {5}, {eta_min = 0.1})
for _, first in ipairs{0, 4500} do
  schedule("cyclic", {0.1, 0.3}, {up = 3, down = 2, gamma = 0.5}, nil, nil, first)
  cases["mg.optim.cyclic"].refuses = "exp_range needs gamma"
end
schedule("linear_lr", {5}, {start_factor = 0.7, end_factor = 0.5})
schedule("multistep", {{2, 4}}, {gamma = 0.3})
schedule("one_cycle", {0.5, 12}, {pct_start = 0.4, base_momentum = 0.3, max_momentum = 0.7,
  div_factor = 5, final_div_factor = 10})
for _, metric in ipairs{
  function(i) return 3 - i / 30 + math.sin(math.sqrt(i) * 3) / 2 end, -- each time lower than before
  function(i) return 3 - i * 2e-5 end,
  function(i) return 3 - i * 1e-4 end,
  function() return 2 end,
  function(i) return i * 2e-5 - 3 end,
} do
  for _, lr in ipairs{0.4, 20} do
    schedule("plateau", {}, {factor = 0.5, patience = 1, threshold = 0.2, cooldown = 2,
      min_lr = 0.15, eps = 0.1}, nil, lr, 0, metric)
  end
end
schedule("polynomial", {5}, {power = 2})
schedule("step", {2}, {gamma = 0.3})
schedule("warm_restarts", {3}, {t_mult = 2, eta_min = 0.1})
schedule("warmup", {4}, {start_factor = 0.7, after = true})

-- ---- data --------------------------------------------------------------------------------------

local function pictures() return wave(1, 4, 3, 9, 8):sigmoid() end
local function transform(names, args, values, idle, refuses)
  for name in names:gmatch "%S+" do
    add("mg.data." .. name, {values = values, idle = idle, refuses = refuses,
      run = function(f, options)
        local list = table.move(args, 1, #args, 1, {})
        if next(options) then list[#list + 1] = options end
        return f(table.unpack(list))(pictures())
      end})
  end
end
transform("ColorJitter", {}, {brightness = several(0.4, {0.5, 0.9}),
  contrast = several(0.4, {2, 3}), saturation = several(0.4, {0.5, 0.7}), hue = 0.3})
transform("Grayscale", {}, {channels = 3})
transform("RandomGrayscale", {}, {p = 0.9})
transform("RandomHorizontalFlip RandomVerticalFlip", {}, {p = 0})
transform("RandomAffine", {20}, {translate = {0.2, 0.3}, scale = {0.5, 2}, shear = 20})
transform("RandomCrop", {4}, {padding = several(2, {0, 1}), value = 2})
transform("RandomErasing", {}, {p = 1, scale = {0.2, 0.5}, ratio = {0.2, 0.4}, value = 2})
transform("RandomResizedCrop", {4}, {scale = {0.2, 0.5}, ratio = {0.2, 0.4}})
for _, labels in ipairs{mg.tensor({1, 2, 3, 1}, "int64"), wave(2, 4, 3):softmax()} do
  add("mg.data.MixUp mg.data.CutMix", {values = {alpha = 0.1, classes = several(3, 4)},
    run = function(f, options)
      if labels.ndim == 1 then options.classes = options.classes or 5 end
      local mixed = f(options)
      return {mixed(pictures(), labels)}, {mixed(pictures(), labels)}
    end})
end

local function items(n) return mg.data.TensorDataset(wave(1, n, 2), mg.range(1, n)) end
local function passes(loader)
  local list = {}
  for _ = 1, 2 do
    for x, t in loader:batches() do list[#list + 1] = {x, t} end
  end
  return list
end
add("mg.data.DataLoader", {
  values = {
    batch_size = 2, seed = 5, shard = fresh(function() return mg.dist end),
    sampler = fresh(function() return mg.data.RandomSampler(items(7)) end),
    collate = function(list) return mg.tensor(#list), mg.stack{list[1][2]} end,
    transform = several(function(x) return x * 2 end, {mg.neg, mg.exp}),
  },
  idle = {shard = "there is one process", seed = {
    alone = "nothing is random", batch_size = "nothing is random", drop_last = "nothing is random",
    collate = "nothing is random", transform = "nothing is random", shard = "nothing is random"},
    drop_last = {alone = "every batch is whole", shuffle = "every batch is whole",
                 seed = "every batch is whole", collate = "every batch is whole",
                 sampler = "every batch is whole", transform = "every batch is whole",
                 shard = "every batch is whole"}},
  run = function(class, options) return passes(class(items(7), options)) end,
})
add("Dataset:map", {run = function(f, options)
  return f(items(3), function(x, t) return x:sum(), t end, options):batch(1, 3)
end})
add("mg.data.SequenceLoader", {values = {batch_size = 2, length = 2}, run = function(class, options)
  options.length = options.length or 3
  return passes(class(items(11), options))
end})
add("mg.data.SinCurve mg.data.Spiral", {values = {seed = 5}, run = function(class, options)
  return class(options):batch(1, 9)
end, refuses = "no use to the test split"})
add("mg.data.RandomSampler", {values = {num_samples = 3}, run = function(class, options)
  return class(items(7), options):positions()
end})
add("mg.data.WeightedRandomSampler", {run = function(class, options)
  return class(mg.range(1, 20), 12, options):positions()
end})
add("mg.data.grid", {values = {columns = 3, padding = 1}, run = function(f, options)
  return f(wave(1, 4, 3, 2), options)
end})
add("mg.data.pad_sequence", {values = {value = 2}, run = function(f, options)
  return f({wave(1, 3), wave(2, 2)}, options)
end})
for n = 1, 2 do
  add("mg.data.random_split", {values = {seed = 5}, run = function(f, options)
    local a, b = f(items(9), n == 1 and {0.5, 0.5} or {3, 6}, options)
    return a:batch(1, #a), b:batch(1, #b)
  end})
end
local function file(ending, text)
  local path = os.tmpname()
  os.remove(path)
  path = path .. ending
  local out <close> = assert(io.open(path, "wb"))
  out:write(text)
  return path
end
for _, text in ipairs{"1,2,5\n3,4,6\n", "a,b,c\n1,2,5\n3,4,6\n", "1;2\n3;4\n",
                      "1,2,-\n3,4,6\n", "-,2\n3,4\n", "-;2\n3;4\n", "a,b\n-,1\n2,3\n"} do
  add("mg.data.CSV", {
    values = {target = several(1, "b"), features = several({1}, {"a"}),
      header = several(true, false, {"a", "b", "c"}), delimiter = ";", missing = {"-"}},
    idle = {header = {features = "a header with that name is found without", target = "likewise"}},
    run = function(class, options)
      local path = file(".csv", text)
      local ok, ds = pcall(class, path, options)
      os.remove(path)
      return ok, ok and {ds.features, ds:batch(1, #ds)} or ds:gsub("^.-%.csv", "")
    end,
  })
end
local of_all = {test_fraction = "refused: there is no test part"}
add("mg.data.Text", {
  values = {length = 5, stride = 3, test_fraction = 0.3, text = ("abcdefghij"):rep(9),
            path = fresh(function() return file(".txt", ("klmnopqrst"):rep(8)) end),
            tokenizer = fresh(function() return mg.data.ByteTokenizer() end)},
  run = function(class, options)
    if not options.path then options.text = options.text or ("the quick brown fox"):rep(9) end
    options.length = options.length or 4
    local ok, ds = pcall(class, options)
    if type(options.path) == "string" then os.remove(options.path) end
    return ok, ok and {#ds, ds:batch(1, math.min(2, #ds))} or ds
  end,
  idle = {length = of_all, stride = of_all, text = of_all, path = of_all, tokenizer = of_all},
})

-- ---- metrics, training -------------------------------------------------------------------------

for name in ("confusion_matrix f1 precision recall"):gmatch "%S+" do
  local idle = {classes = {average = "micro and weighted count labels"}}
  add("mg.metrics." .. name, {
    values = {classes = 5}, idle = name ~= "confusion_matrix" and idle or nil,
    run = function(f, options) return f(int{1, 2, 3, 1, 1}, int{1, 2, 2, 3, 1}, options) end,
  })
end
add("mg.training.EMA", {values = {decay = 0.19}, run = function(class, options)
  local net = mg.nn.Linear(2, 2)
  local ema = class(net, options)
  for i = 1, 4 do
    net.weight.data = wave(i, 2, 2)
    ema:update()
  end
  return ema:state()
end})
add("mg.training.EarlyStopping", {values = {min_delta = 0.3}, run = function(class, options)
  local stop, said = class(1, options), {}
  for i, metric in ipairs{3, 2.9, 2.8, 2.7, 3.5, 3.6, 3.7, 4.5} do said[i] = stop:step(metric) end
  return said, stop:state()
end})

-- ---- modules, states, logs ---------------------------------------------------------------------

-- Calls fn with a path that is free, and removes what is there after
local function with_path(ending, fn)
  local path = os.tmpname()
  os.remove(path)
  local results = table.pack(pcall(fn, path .. ending))
  os.remove(path .. ending)
  return table.unpack(results, 1, results.n)
end

add("Module:freeze", {run = function(f, options)
  local net = mg.nn.Linear(2, 2)
  net:freeze()
  f(net, options.on)
  return net.weight.requires_grad
end})
add("Module:save", {
  values = {dtype = "float16", metadata = {a = "b"}},
  run = function(f, options)
    return with_path(".safetensors", function(path)
      f(mg.nn.Linear(2, 2), path, options)
      local t, metadata = mg.load(path)
      return t, metadata, mg.load(path, {list = true})
    end)
  end,
})
add("Module:load", {run = function(f, options)
  return with_path(".npz", function(path)
    mg.save(path, {weight = wave(1, 2, 2)})
    local net = mg.nn.Linear(2, 2)
    local ok, _, left = pcall(f, net, path, options)
    return ok, net:state(), left
  end)
end})
add("Module:load_state", {values = {options = {strict = false}}, run = function(f, options)
  local net = mg.nn.Linear(2, 2)
  local ok, _, left = pcall(f, net, {weight = wave(1, 2, 2)}, options.options)
  return ok, net:state(), left
end})
cases["Optimizer:load_state"] = true              -- metadata of a file are passed over
cases["LBFGS:load_state"] = true                  -- likewise
add("Optimizer:extend", {values = {options = "{lr: number = 2}", doc = "a rule"},
  run = function(f, options)
    local class = f(mg.optim.Optimizer, "Rule", options.options, options.doc)
    local ok, opt = pcall(class, {mg.Variable(1)})
    return ok and opt.lr, require "moongrad.help".text(class)
  end})
add("Checkpoint:load", {values = {which = several("best", 2)}, run = function(f, options)
  return with_path("", function(folder)
    local net = mg.nn.Linear(2, 2)
    local c = mg.training.Checkpoint(folder, {net = net})
    for epoch, metric in ipairs{1, 2, 3} do
      net.weight.data = wave(epoch, 2, 2)
      c:save(epoch, metric)
    end
    local epoch = f(c, options.which)
    os.execute("rm -r " .. folder)
    return epoch, net:state()
  end)
end})
cases["mg.training.Checkpoint"] = true            -- training_spec: which files stay
cases["Checkpoint:save"] = true                   -- likewise
cases["mg.dist.DataParallel"] = true              -- in one process nothing is exchanged: dist_spec
cases["mg.dist.all_reduce"] = true                -- likewise
cases["mg.dist.broadcast"] = true                 -- likewise
for name in ("CIFAR10 MNIST FashionMNIST"):gmatch "%S+" do
  cases["mg.data." .. name] = true                -- datasets_spec: they need files
end
for name in ("MobileNetV2 ResNet18 ResNet50 VGG16"):gmatch "%S+" do
  cases["mg.models." .. name] = true              -- models_spec: they take seconds
end

-- ---- distributions -----------------------------------------------------------------------------

-- good: arguments to draw by; bad(options): others, which are not checked where nobody wants it
local function distribution(name, good, bad, values)
  add("mg.distributions." .. name, {values = values, run = function(class, options)
    local list = table.move(good, 1, #good, 1, {})
    if next(options) then list[#list + 1] = options end
    local ok, drawn = pcall(function() return class(table.unpack(list)):sample(4) end)
    local other = type(bad) == "function" and bad(options) or table.move(bad, 1, #bad, 1, {})
    other[#other + 1] = options
    return ok, drawn, (pcall(class, table.unpack(other)))
  end})
end
local function wrong_chances(options)
  if options.probs then options.probs = mg.tensor{-1, 2} end
  if options.logits then options.logits = 0 / 0 * mg.ones(2) end
  return not (options.probs or options.logits) and {mg.tensor{-1, 2}} or {}
end
distribution("Bernoulli", {}, wrong_chances, {probs = 0.3, logits = 2})
distribution("Beta", {1, 2}, {-1, 2})
distribution("Categorical", {}, wrong_chances, {probs = mg.tensor{0.3, 0.7},
  logits = mg.tensor{0.4, 3}})
distribution("Dirichlet", {mg.tensor{1, 2}}, {mg.tensor{-1, 2}})
distribution("Exponential", {2}, {-2})
distribution("Gamma", {1, 2}, {-1, 2})
distribution("Laplace", {1, 2}, {1, -2})
distribution("MultivariateNormal", {mg.tensor{1, 2}}, function(options)
  local wrong = mg.tensor{{2, 1}, {0, 2}}
  if options.covariance_matrix then options.covariance_matrix = wrong end
  if options.scale_tril then options.scale_tril = wrong end
  return {mg.tensor{1, 2}, not (options.covariance_matrix or options.scale_tril) and wrong or nil}
end, {covariance_matrix = mg.tensor{{2, 1}, {1, 2}}, scale_tril = mg.tensor{{2, 0}, {1, 1}}})
distribution("Normal", {1, 2}, {1, -2})
distribution("Poisson", {2}, {-2})
distribution("Uniform", {1, 2}, {3, 2})

-- What is written, without the times
local function logged(name, args, values)
  add("Log:" .. name, {values = values, run = function(f, options)
    return with_path("", function(folder)
      local log = mg.log(folder)
      local list = table.move(args, 1, #args, 1, {})
      if next(options) then list[#list + 1] = options end
      f(log, table.unpack(list))
      log:close()
      local pipe <close> = io.popen("cat " .. folder .. "/* && rm -r " .. folder)
      return #pipe:read "a"
    end)
  end})
end
logged("histogram", {"a", wave(1, 9)}, {bins = 3, step = 1000})
logged("image", {"a", wave(1, 6, 1, 2, 3):sigmoid()}, {columns = 6, step = 1000})
logged("scalar", {"a", 1}, {step = 1000})
logged("scalars", {{a = 1}}, {step = 1000})
logged("text", {"a", "b"}, {step = 1000})
return cases
