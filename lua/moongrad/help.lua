-- help.lua -- mg.help: what a name, function, method, class or module is; and hints where a name is
-- not there: those that PyTorch has and we spell otherwise, and those that are nearly right.

local mg = require "moongrad.core"

local WIDTH = 80
local MODULES = {"nn", "models", "optim", "data", "metrics", "training", "distributions",
                 "dist"}

local help = {}

-- ---- names ------------------------------------------------------------------------------------

-- PyTorch's name = ours.
local TORCH = {
  arange = "mg.range", as_tensor = "mg.tensor", from_numpy = "mg.tensor", Tensor = "mg.Variable",
  FloatTensor = "mg.Variable", is_tensor = "mg.is_variable", manual_seed = "mg.seed",
  set_grad_enabled = "mg.using_config", concat = "cat", concatenate = "cat",
  view = "reshape", view_as = "reshape", reshape_as = "reshape", dim = "ndim", ndimension = "ndim",
  keepdim = "keepdims", multinomial = "categorical", moveaxis = "movedim", L1Loss = "mg.l1_loss",
  SmoothL1Loss = "mg.smooth_l1_loss", KLDivLoss = "mg.kl_div", numel = "size",
  nelement = "size", tolist = "totable", numpy = "totable", t = "T", mT = "T",
  ["repeat"] = "tile", swapdims = "swapaxes", swapaxis = "swapaxes", masked_select = "x[mask]",
  clip = "clamp", absolute = "abs", negative = "neg", multiply = "mul", divide = "div",
  true_divide = "div", subtract = "sub", remainder = "mod", fmod = "mod",
  floor_divide = "floor_div", arctan2 = "atan2", arcsin = "asin", arccos = "acos", arctan = "atan",
  mm = "matmul", bmm = "matmul", mv = "matmul", greater = "gt", less = "lt",
  greater_equal = "ge", less_equal = "le",
  not_equal = "ne", take_along_dim = "take_along", nan_to_num_ = "nan_to_num", ger = "outer",
  mse_loss = "mean_squared_error", grad_fn = "creator", is_leaf = "creator == nil",
  type = "to", type_as = "to", float = 'to "float32"', double = 'to "float64"', long = 'to "int64"',
  half = 'to "float32"', int = 'to "int64"', zero_grad = "cleargrads (a Variable: cleargrad)",
  state_dict = "state", load_state_dict = "load_state", named_modules = "pairs", children = "pairs",
  train = "Config.train", training = "Config.train", eval = "mg.test_mode",
  register_buffer = "nn.Buffer", register_parameter = "nn.Parameter",
  requires_grad_ = "requires_grad = true (of a module: freeze())", unfreeze = "freeze(false)",
  retain_grad = "backward{retain_grad = true}", contiguous = "clone", cpu = "nothing: all is there",
  cuda = "nothing: all is on the CPU", clip_grad_norm_ = "optim.clip_grad_norm",
  ModuleList = "a table of modules", ModuleDict = "a table of modules",
  MultiheadAttention = "nn.MultiHeadAttention", Adagrad = "optim.AdaGrad",
  Adadelta = "optim.AdaDelta", CrossEntropyLoss = "mg.cross_entropy", NLLLoss = "mg.nll_loss",
  MSELoss = "mg.mean_squared_error", HuberLoss = "mg.huber_loss",
  BCELoss = "mg.binary_cross_entropy",
  BCEWithLogitsLoss = "mg.binary_cross_entropy_with_logits", CosineAnnealingLR = "optim.cosine",
  StepLR = "optim.step", MultiStepLR = "optim.multistep", ExponentialLR = "optim.exponential",
  PolynomialLR = "optim.polynomial", LambdaLR = "optim.lambda", OneCycleLR = "optim.one_cycle",
  CosineAnnealingWarmRestarts = "optim.warm_restarts", ReduceLROnPlateau = "optim.plateau",
  ChainedScheduler = "optim.chained", SequentialLR = "optim.sequential",
  clip_grad_value_ = "optim.clip_grad_value", param_groups = "an optimizer's groups",
  add_param_group = "an optimizer's add_group", ConcatDataset = "data.Concat",
  AveragedModel = "training.EMA or training.SWA", LinearLR = "optim.linear_lr, optim.warmup",
  lr_scheduler = "optim", functional = "mg", utils = "data and optim", BatchNorm1d = "nn.BatchNorm",
  BatchNorm2d = "nn.BatchNorm", BatchNorm3d = "nn.BatchNorm",
  InstanceNorm1d = "nn.InstanceNorm", InstanceNorm2d = "nn.InstanceNorm",
  get_last_lr = "opt.lr", Compose = "a list of transforms: DataLoader(ds, {transform = {f, g}})",
  num_parameters = "model:summary()", register_forward_hook = "add_hook",
  register_hook = "hook: y = y:hook(fn)",
  register_full_backward_hook = "add_hook", append = "model[#model + 1] = layer",
  deepcopy = "model:clone()", modules = "pairs", apply = "pairs, or nn.init for its weights",
  save_for_backward = "self.inputs, or a field of self", sampler = "data.RandomSampler and its kin",
  Transforms = "data", transforms = "data", Dataloader = "data.DataLoader",
  MarginRankingLoss = "mg.margin_ranking_loss", HingeEmbeddingLoss = "mg.hinge_embedding_loss",
  SoftMarginLoss = "mg.soft_margin_loss", CosineEmbeddingLoss = "mg.cosine_embedding_loss",
  TripletMarginLoss = "mg.triplet_margin_loss", MultiMarginLoss = "mg.multi_margin_loss",
  MultiLabelSoftMarginLoss = "mg.multilabel_soft_margin_loss",
  PoissonNLLLoss = "mg.poisson_nll_loss", GaussianNLLLoss = "mg.gaussian_nll_loss",
  CTCLoss = "mg.ctc_loss", CosineSimilarity = "mg.cosine_similarity",
  PairwiseDistance = "mg.pairwise_distance", Softmax2d = "nn.Softmax(2)",
  Softsign = "x / (1 + x:abs())", softsign = "x / (1 + x:abs())", Tanhshrink = "x - x:tanh()",
  tanhshrink = "x - x:tanh()", RReLU = "nn.LeakyReLU", rrelu = "leaky_relu",
  ZeroPad2d = "pad", ConstantPad2d = "pad", ReflectionPad2d = 'pad with {mode = "reflect"}',
  ReplicationPad2d = 'pad with {mode = "replicate"}',
  CircularPad2d = 'pad with {mode = "circular"}',
  add_scalar = "a log's scalar", add_scalars = "a log's scalars", add_image = "a log's image",
  add_text = "a log's text", add_histogram = "a log's histogram", SummaryWriter = "mg.log",
  Unfold = "mg.im2col", Fold = "mg.col2im", UpsamplingNearest2d = "nn.Upsample",
  UpsamplingBilinear2d = "nn.Upsample", LazyLinear = "nn.Linear(out)",
  LazyConv2d = "nn.Conv2d(out, size)", EmbeddingBag = "nn.Embedding, and mean or sum",
  embedding_bag = "embedding, and mean or sum", from_pretrained = "layer.weight.data = W",
  SyncBatchNorm = "nn.BatchNorm(n, {sync = true})", ParameterList = "a table of nn.Parameter",
  ParameterDict = "a table of nn.Parameter", DataParallel = "mg.dist.DataParallel",
  generate_square_subsequent_mask = "is_causal = true",
  pack_padded_sequence = "lstm(x, {lengths = n})", pad_packed_sequence = "lstm(x, {lengths = n})",
  addmm = "x + a:matmul(b)", baddbmm = "x + a:matmul(b)", addcmul = "x + a * b",
  addcdiv = "x + a / b", vdot = "dot", logdet = "slogdet", eigvalsh = "eigh", svdvals = "svd",
  std_mean = "std and mean", var_mean = "var and mean", aminmax = "amin and amax",
  argwhere = "nonzero", bucketize = "searchsorted", histc = "histogram", kthvalue = "sort",
  fliplr = "flip(2)", flipud = "flip(1)", ravel = "flatten", tril_indices = "nonzero of tril",
  triu_indices = "nonzero of triu", vector_norm = "norm", fmax = "maximum", fmin = "minimum",
  inference_mode = "no_grad", set_detect_anomaly = "Config.debug = true",
  affine_grid_generator = "affine_grid", ConstantLR = "optim.lambda",
  MultiplicativeLR = "optim.lambda", GaussianNoise = "x + mg.randn_like(x)",
  evaluate = "mg.test_mode", zeroGradParameters = "cleargrads", getParameters = "parameters",
  updateParameters = "an optimizer's step", -- these are torch7's
}

-- Likewise, of mg, its modules and Variables: a class of one's own may have fields of these names.
local MORE = {
  int32 = '"int64"', int16 = '"int64"', int8 = '"int64"', float16 = '"float32"',
  bfloat16 = '"float32"', set_default_dtype = 'Config.dtype = "float32"',
  get_default_dtype = "Config.dtype", device = "nothing: all is on the CPU", pi = "math.pi",
  inf = "math.huge", nan = "0 / 0", array = "mg.tensor", asarray = "mg.tensor",
  full_like = "mg.full(x.shape, v)", empty_like = "zeros_like",
  is_grad_enabled = "Config.enable_backprop", power = "pow", average = "mean",
  percentile = "quantile", dstack = "stack", jacrev = "jacobian", jacfwd = "jacobian",
  linalg = "mg", random = "mg", special = "mg", autograd = "mg", astype = "to", copy = "clone",
  fill = "x[{}] = v", fill_ = "x[{}] = v", zero_ = "x[{}] = 0", copy_ = "x.data = v",
  expand_dims = "unsqueeze", trapz = "trapezoid", array_equal = "equal", array_split = "chunk",
  permutation = "randperm", identity = "eye", digitize = "searchsorted", inner = "dot",
  rint = "round", fix = "trunc", sgn = "sign", arctanh = "atanh", arcsinh = "asinh",
  arccosh = "acosh", savez = "save", savetxt = "save", loadtxt = "load", genfromtxt = "load",
  stop_gradient = "detach", PRNGKey = "mg.seed",
  jit = "compile", vmap = "ops on one axis more", at = "x[i] = v, scatter or index_add",
  shape = "x.shape", ndim = "x.ndim", size = "x.size", dtype = "x.dtype", inverse = "inv",
  pinverse = "pinv", clamp_min = "clamp{min = v}", clamp_max = "clamp{max = v}", fabs = "abs",
  expand_as = "expand(y.shape)", new_zeros = "mg.zeros", new_ones = "mg.ones",
  new_full = "mg.full", new_tensor = "mg.tensor", split_with_sizes = "split",
  tensor_split = "chunk or split", vsplit = "chunk", hsplit = "chunk(x, n, 2)", unstack = "unbind",
  row_stack = "vstack", column_stack = "hstack, or of one axis stack(xs, 2)", msort = "sort(1)",
  index_put = "x[i] = v", index_fill = "x[i] = v", index_copy = "x[i] = v", copyto = "x[{}] = v",
  take_along_axis = "take_along", put_along_axis = "scatter", permute_dims = "permute",
  cumulative_sum = "cumsum", cumulative_prod = "cumprod", flatnonzero = "nonzero",
  bitwise_and = "logical_and, or &", bitwise_or = "logical_or, or |", bitwise_not = "logical_not",
  bitwise_xor = "logical_xor", invert = "logical_not, or ~", get_num_threads = "mg.num_threads",
  kl_divergence = "mg.distributions.kl", ndarray = "mg.Variable", savez_compressed = "save",
  default_collate = "data.collate", SequentialSampler = "the order without shuffle",
  SubsetRandomSampler = "data.Subset, and shuffle = true", DistributedSampler = "shard = mg.dist",
  zero = "x[{}] = 0", narrow = "x[{ {first, last} }]", select = "x[{ {}, i }]", cmul = "mul",
  cdiv = "div", nDimension = "ndim", nElement = "size", DoubleTensor = "mg.Variable",
  LongTensor = 'mg.tensor(data, "int64")', MSECriterion = "mg.mean_squared_error",
  ClassNLLCriterion = "mg.nll_loss", CrossEntropyCriterion = "mg.cross_entropy",
  BCECriterion = "mg.binary_cross_entropy", AbsCriterion = "mg.l1_loss",
  SpatialConvolution = "nn.Conv2d", SpatialMaxPooling = "nn.MaxPool2d",
  SpatialAveragePooling = "nn.AvgPool2d", SpatialBatchNormalization = "nn.BatchNorm",
  BatchNormalization = "nn.BatchNorm", LookupTable = "nn.Embedding", View = "nn.Unflatten",
  Reshape = "nn.Unflatten",                                   -- from zero on torch7's
  Dense = "nn.Linear", get_rank = "mg.dist.rank, from 1", get_world_size = "mg.dist.size",
  world_size = "mg.dist.size", init_process_group = "nothing: require is enough",
  DistributedDataParallel = "mg.dist.DataParallel",
}
for _, dtype in ipairs{"float64", "float32", "int64", "uint8", "bool"} do
  MORE[dtype] = ('the string "%s", as in x:to "%s"'):format(dtype, dtype)
end

-- Other names of members, of objects that have these
local MEMBERS = {
  pdf = "log_prob(x):exp()", logpdf = "log_prob", pmf = "log_prob(x):exp()", logpmf = "log_prob",
  rvs = "sample", var = "variance", std = "stddev", dataset = "ds", lr = "opt.lr",
  learning_rate = "lr", early_stop = "stopped", should_stop = "stopped", update = "step",
  step = "update", last_epoch = "t", vocab = "tokens", tokenize = "encode", iter = "batches",
  next = "batches",
}

-- Of modules alone, torch7's; elsewhere they are ops
local MODULE = {add = "model[#model + 1] = layer", backward = "loss:backward()"}

-- Raises where name is one of PyTorch's that `what` has under another.
function help.refuse_torch(what, name)
  local ours = TORCH[name] or what == "a module" and MODULE[name]
  if ours then mg.raise("%s has no %s; here it is %s", what, name, ours) end
end

-- Raises: an object of class `kind` that has these members has no such one.
function help.refuse_member(kind, name, names)
  for _, others in ipairs{MEMBERS, TORCH} do
    local ours = others[name]
    for _, known in ipairs(names) do
      if ours and ours:match "^[%w_]+" == known then
        mg.raise("%s has no %s; here it is %s", kind, name, ours)
      end
    end
  end
end

-- A name that mg, or the module `what` of it, does not have: nil, or an error where it is
-- PyTorch's, has letters of another case, or stands in mg.
function help.missing(what, name)
  help.refuse_torch(what, name)
  local found = { MORE[name] }
  if what ~= "mg" then
    local function compare(known)
      if known:lower() == name:lower() then found[#found + 1] = what .. "." .. known end
    end
    local lists = require "moongrad.parts".lists[what] or {}
    for _, names in pairs(lists) do names:gsub("%S+", compare) end
    if #found == 0 then table.concat(help.members(mg[what]), " "):gsub("%S+", compare) end
    for known in mg._names() do
      if known == name and name:sub(1, 1) ~= "_" then found[#found + 1] = "mg." .. name end
    end
  end
  if #found > 0 then
    mg.raise("%s has no %s; here it is %s", what, name, table.concat(found, " or "))
  end
end

-- " did you mean ...?" or nothing
function help.hint(name, names)
  local near = mg._near(name, names)
  return near and ("; did you mean %s?"):format(near) or ""
end

-- A Variable has no such property or method.
function help.unknown(name, methods)
  for known in mg._names() do
    if known == name and type(mg[name]) == "function" and name:sub(1, 1) ~= "_" then
      mg.raise("a Variable has no method %s; it is mg.%s", name, name)
    end
  end
  help.refuse_torch("a Variable", name)
  if MORE[name] then mg.raise("a Variable has no %s; here it is %s", name, MORE[name]) end
  local inside = name:match "^(%a[%w_]*)_$"
  if inside and methods[inside] then
    mg.raise("a Variable has no %s: ops change nothing in place; x.data = x:%s(...) gives x new " ..
      "values", name, inside)
  end
  local names = {}
  for known in pairs(methods) do names[#names + 1] = known end
  mg.raise('a Variable has no property or method "%s"%s', name, help.hint(name, names))
end

-- ---- lists ------------------------------------------------------------------------------------

local function wrapped(title, names)
  table.sort(names)
  local lines, line = {title}, " "
  for _, name in ipairs(names) do
    if #line + #name + 1 > WIDTH then
      lines[#lines + 1] = line
      line = " "
    end
    line = line .. " " .. name
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

-- The public names in a table
function help.members(module)
  local names = {}
  for name in pairs(module) do
    if type(name) == "string" and name:sub(1, 1) ~= "_" then names[#names + 1] = name end
  end
  return names
end

-- Rows of the op table whose kind, neither elementwise nor a reduction, says too little.
local PLACE = {}
for title, names in pairs{
  ["new arrays"] = "to rand",
  ["linear algebra"] = "matmul solve inv det slogdet cholesky triangular_solve qr eigh svd pinv",
  convolution = "conv1d conv2d conv3d conv_transpose1d conv_transpose2d im2col col2im unfold",
} do
  for name in names:gmatch "%S+" do PLACE[name] = title end
end

-- All names, in groups of {title = ...}; those of a module have its name for a title.
function help.groups()
  mg._all()
  local all, by_title, seen = {}, {}, {}
  local function group_of(title)
    if not by_title[title] then
      by_title[title] = {title = title}
      all[#all + 1] = by_title[title]
    end
    return by_title[title]
  end
  for _, group in ipairs(mg._docs.groups) do
    group_of(group.title)
    for _, name in ipairs(group) do
      if not seen[name] then table.insert(group_of(PLACE[name] or group.title), name) end
      seen[name] = true
    end
  end
  all[#all + 1] = {title = "solvers", "odeint", "minimize", "root"}
  all[#all + 1] = {title = "files and pictures", "save", "load", "plot", "plot_graph", "dot_graph",
                   "progress"}
  for _, name in ipairs(MODULES) do
    local names = help.members(mg[name])
    names.title = name
    all[#all + 1] = names
  end
  return all
end

local function all_text()
  local lists = {}
  for _, group in ipairs(help.groups()) do lists[#lists + 1] = wrapped(group.title, group) end
  return table.concat(lists, "\n")
end

-- Properties of Variables
help.properties = {
  {"data", "the same values, untracked and frozen; assigned: new ones, nothing recorded"},
  {"grad", "the gradient that backward left here, or nil; assigned: nil or values of x's shape"},
  {"creator", "the Function that x came from, or nil: its name, inputs, outputs, generation, id"},
  {"generation", "0 of a leaf; of a result one more than the largest of its inputs"},
  {"id", "a whole number, the same as long as x lives: a key for tables"},
  {"name", "a string or nil; assigned: shown in messages, graphs and mg.memory{by = \"name\"}"},
  {"requires_grad", "true where gradients come; of a leaf it can be assigned"},
  {"shape", "a table of whole numbers, which prints as (2, 3) and is compared by value"},
  {"ndim", "how many axes there are"},
  {"size", "how many elements there are"},
  {"dtype", "\"float64\", \"float32\", \"int64\", \"uint8\" or \"bool\""},
  {"T", "x with its last two axes exchanged"},
}

-- What has methods and is no class to be named: name, doc, how one is made.
help.objects = {
  {"Schedule", "what the schedules of mg.optim give", function()
    return mg.optim.cosine(mg.optim.SGD({mg.Variable(1)}, {lr = 1}), 2)
  end},
  {"Plateau", "what mg.optim.plateau gives", function()
    return mg.optim.plateau(mg.optim.SGD({mg.Variable(1)}, {lr = 1}))
  end},
  {"Log", "what mg.log gives of a path", function() return mg._Log end},
  {"Live", "what mg.plot gives with live = true", function()
    return require "moongrad.plot.live"
  end},
  {"Bar", "what mg.progress gives, being its own iterator", function() return mg.progress(0) end},
}

-- The class of one of help.objects
function help.class_of(object)
  local value = object[3]()
  local class = rawget(value, "__index") and value or getmetatable(value).__index
  return type(class) == "table" and class or getmetatable(value)
end

-- A class that has no place in a module, though those that are made from it or by its functions do;
-- and what it is.
local function unplaced(name)
  for _, object in ipairs(help.objects) do
    if object[1] == name then return help.class_of(object), object[2] end
  end
  for _, module in ipairs(MODULES) do
    local names = help.members(mg[module])
    table.sort(names)
    for _, of in ipairs(names) do
      local meta = type(mg[module][of]) == "table" and getmetatable(mg[module][of])
      local above = meta and meta.__index
      if type(above) == "table" and rawget(above, "__name") == name then
        return above, ("what mg.%s.%s and the like have"):format(module, of)
      end
    end
  end
end

-- ---- one thing --------------------------------------------------------------------------------

-- The value of a name such as "softmax", "nn.Linear", "Linear", "Module:parameters" or "x:sum".
local function find(path)
  mg._all()
  local method = path:match "^x[.:]([%w_]+)$" or path:match "^Variable[.:]([%w_]+)$"
  if method then return mg._docs.methods[method] end
  local value
  for name in path:gmatch "[^.:]+" do
    local from = value
    if from == nil and name ~= "mg" then
      value = rawget(mg, name) or mg[name]
      for _, module in ipairs(MODULES) do
        if value == nil then
          pairs(mg[module])                        -- reads all of it
          value = rawget(mg[module], name)
        end
      end
      if value == nil then value = unplaced(name) end
    else
      value = type(from) == "table" and from[name] or nil
    end
    if value == nil and name ~= "mg" then return nil end
  end
  return value
end

function help.doc_of(value)
  if mg.is_variable(value) then value = mg.Variable end
  if type(value) ~= "table" then return mg._docs[value] end
  local class = rawget(value, "init") and value or getmetatable(value)
  return mg._docs[value] or type(class) == "table" and class.init and mg._docs[class.init]
end

-- What a module of this class, or this one, is called with: its forward's doc
local function call_of(value)
  local class = type(value) == "table" and (rawget(value, "__index") and value or
    getmetatable(value))
  local forward = type(class) == "table" and class.is_module and rawget(class, "forward")
  local takes, says = (forward and mg._docs[forward] or ""):match "^[^(]*(%b())\n(.*)$"
  return takes and ("\ncalled with\n  %s: %s"):format(takes, says) or ""
end

-- The names of the documented methods of a class, or of what is one's; nil: it is none.
function help.methods(value)
  local class = type(value) == "table" and
    (rawget(value, "__index") and value or getmetatable(value))
  if type(class) ~= "table" or not rawget(class, "__name") then return nil end
  local names, seen = {}, {}
  while type(class) == "table" do
    for name, fn in next, class do
      if type(fn) == "function" and mg._docs[fn] and name ~= "init" and name ~= "forward" and
         not seen[name] and name:sub(1, 1) ~= "_" then
        seen[name] = true
        names[#names + 1] = name
      end
    end
    local meta = getmetatable(class)
    class = meta and meta.__index
  end
  return #names > 0 and names or nil
end

-- The name of a class that has no doc, and what it is, if one of help.objects is of it or above it
local function class_doc(value)
  local name = getmetatable(value).__name
  local class = getmetatable(value)
  while type(class) == "table" do
    for _, object in ipairs(help.objects) do
      if help.class_of(object) == class then return name .. "\n" .. object[2] end
    end
    class = (getmetatable(class) or {}).__index
  end
  return name
end

local function nothing_known(what)
  local names = {}
  for _, group in ipairs(help.groups()) do table.move(group, 1, #group, #names + 1, names) end
  if type(what) == "string" then
    help.refuse_torch("moongrad", what)
    mg.raise("help: nothing is known of %s%s", what, help.hint(what:match "[^.:]*$", names))
  end
  mg.raise("help: nothing is known of %s", tostring(what))
end

function help.text(what)
  if what == nil or what == mg or what == "mg" then return all_text() end
  local value = what
  if type(what) == "string" then
    for _, p in ipairs(help.properties) do
      if what == "x." .. p[1] or what == "Variable." .. p[1] then
        return ("x.%s\n%s"):format(p[1], p[2])
      end
    end
    value = find(what)
    local class, doc = unplaced(what)
    if class and class == value and not help.doc_of(class) then
      local methods = help.methods(class)
      return what .. "\n" .. doc .. (methods and "\n" .. wrapped("methods", methods) or "")
    end
  end
  for _, name in ipairs(MODULES) do
    if value ~= nil and value == (rawget(mg, name) or package.loaded["moongrad." .. name]) then
      return wrapped(name, help.members(value))
    end
  end
  local methods = help.methods(value)
  local doc = value ~= nil and help.doc_of(value) or methods and class_doc(value) or
    nothing_known(what)
  return methods and doc .. "\n" .. wrapped("methods", methods) .. call_of(value) or doc
end

function help.help(what) print(help.text(what)) end

return help
