-- docs.lua -- what mg.help knows of the parts written in Lua: layers, optimizers, data, files.
-- A name, as it stands in its table, and its doc: a signature and a line, as the core's ops have.

return {
  -- nn
  Module = "Module:extend(name)\n" ..
    "a class: init(self, ...) makes fields, forward(self, x) uses them; M(...) makes one, " ..
    "model(x) calls it",
  Parameter = "Parameter(data)\n" ..
    "a tracked leaf that a module owns by having it in a field, a list or a table there",
  Buffer = "Buffer(data)\n" ..
    "untracked, but part of a module's state and files",
  Linear = "Linear([inputs,] outputs [, {bias = true}])\n" ..
    "x W' + b; inputs left out are found at the first call",
  Embedding = "Embedding(n, dim)\n" ..
    "row i of weight (n, dim) for each index i in 1..n",
  LayerNorm = "LayerNorm([shape] [, {eps = 1e-5, elementwise_affine = true, bias = true}])\n" ..
    "layer_norm over the last axes, those of shape",
  Dropout = "Dropout([p = 0.5])\n" ..
    "in training each element is 0 with probability p, else divided by 1 - p",
  Flatten = "Flatten([first = 2 [, last = -1]])\n" ..
    "axes first..last made one",
  Sequential = "Sequential(...)\n" ..
    "layers and functions, one after the other",
  MLP = "MLP({n1, n2, ...} [, {activation = mg.relu}])\n" ..
    "Linear layers with so many outputs each, the activation between them",
  -- optim
  SGD = "SGD(module or params [, {lr = 1e-3, momentum, dampening, nesterov, weight_decay}])\n" ..
    "p - lr g, with momentum if any; opt:step() updates",
  Adam = "Adam(module or params [, {lr = 1e-3, betas = {0.9, 0.999}, eps, weight_decay}])\n" ..
    "steps by running means of g and g^2; opt:step() updates",
  AdamW = "AdamW(module or params [, {lr = 1e-3, betas, eps, weight_decay = 1e-2}])\n" ..
    "Adam whose decay acts on the parameter alone",
  RMSprop = "RMSprop(module or params [, {lr = 1e-2, alpha, eps, weight_decay, momentum, " ..
    "centered}])\n" ..
    "g by the root of its mean square",
  AdaGrad = "AdaGrad(module or params [, {lr = 1e-2, lr_decay, weight_decay, eps}])\n" ..
    "g by the root of the sum of its squares",
  AdaDelta = "AdaDelta(module or params [, {lr = 1, rho, eps, weight_decay}])\n" ..
    "steps as large as the last ones were",
  cosine = "cosine(opt, t_max [, {eta_min = 0}])\n" ..
    "a schedule: lr along half a cosine; schedule:step() once a batch or epoch",
  step = "step(opt, size [, {gamma = 0.1}])\n" ..
    "a schedule: lr times gamma every size steps",
  warmup = "warmup(opt, n [, {start_factor = 1 / 3, after = schedule}])\n" ..
    "a schedule: up to lr in n steps, then after",
  clip_grad_norm = "clip_grad_norm(module or params, max)\n" ..
    "scales all grads down where their common norm is above max; gives the norm",
  clip_grad = "clip_grad(max)\n" ..
    "for opt:add_hook: clip_grad_norm before each update",
  weight_decay = "weight_decay(rate)\n" ..
    "for opt:add_hook: adds rate * p to each grad",
  freeze = "freeze(module or params)\n" ..
    "for opt:add_hook: these are not updated",
  -- data
  DataLoader = "DataLoader(ds [, {batch_size = 1, shuffle, drop_last, seed}])\n" ..
    "for x, t in loader:batches() do; ds has # and :get(i)",
  collate = "collate(ds, positions)\n" ..
    "ds:get(i) of these positions, stacked to a batch",
  TensorDataset = "TensorDataset(x, t, ...)\n" ..
    "the rows of Variables; ds:get(i), ds:batch(i, j), ds:map(fn)",
  FashionMNIST = "FashionMNIST([{split = \"train\", root}])\n" ..
    "70,000 pictures of clothes (784 in 0..1) with labels 1..10",
  MNIST = "MNIST([{split = \"train\", root}])\n" ..
    "the same of digits",
  CSV = "CSV(path [, {target, features, header, delimiter, missing, dtype}])\n" ..
    "the rows of a table as text: x, the features, and t, the target",
  Spiral = "Spiral([{split = \"train\", seed}])\n" ..
    "points of three arms, with labels 1..3",
  SinCurve = "SinCurve([{split = \"train\", seed}])\n" ..
    "a sine, each value with the next as its target",
  -- files, pictures
  save = "save(path, x or {name = x} [, {dtype, metadata = {name = \"text\"}}])\n" ..
    "by ending .safetensors, .npz or .npy; tables may be nested and hold numbers, strings and " ..
    "booleans; dtype: floats are stored as a float dtype (bfloat16, float16 ...), whole numbers " ..
    "as another (int8 ... uint64), which raises where it cannot hold one; .csv, .tsv: columns of " ..
    "a table, or a 2-d Variable, {columns = {names in order}, header, delimiter}",
  load = "load(path [, {\"name\", ..., list = true}])\n" ..
    "what save or others wrote, all or the names given, and the metadata if there are any; " ..
    "list: name -> {dtype, shape}, unread; also .idx, idx3-ubyte.gz, and .csv, .tsv, " ..
    "whose columns become Variables or lists of strings, {header, delimiter, missing, dtype}",
  plot = "plot{...}\n" ..
    "curves and pictures through gnuplot",
  plot_graph = "plot_graph(y, path)\n" ..
    "the graph that made y, drawn by graphviz: .svg, .png or .dot",
  dot_graph = "dot_graph(y)\n" ..
    "the same as text",
  progress = "progress(iterator or n, text)\n" ..
    "a bar on a terminal's stderr while one iterates, plain lines else",
}
