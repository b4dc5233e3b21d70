-- What is shown of gradients, modes, memory, threads, pooling, normalization and networks, and of
-- the module itself: sessions by name.

return {
  backward = [[
x = mg.Variable{1, 2}
y = (x ^ 2):sum()
y:backward()
x.grad
!y:backward()
!mg.tensor(1):backward()]],
  Function = [[
Cube = mg.Function{name = "cube",
  forward = function(self, x) return x * x * x end,
  backward = function(self, gy) local x = self.inputs[1]; return 3 * x * x * gy end}
x = mg.Variable{1, 2}
Cube(x):sum():backward()
x.grad
mg.gradcheck(Cube, {x}, {order = 2})]],
  checkpoint = [[
x = mg.Variable{0.5, 1}
y = mg.checkpoint(function(v) return v:tanh():exp() end, x)
y:sum():backward()         -- tanh and exp are computed again
x.grad]],
  value_and_grad = [[
f = function(x) return (x ^ 2):sum() end
mg.value_and_grad(f)(mg.tensor{1, 2})]],
  grad = [[
f = function(x) return (x ^ 3):sum() end
mg.grad(f)(mg.tensor{1, 2})
mg.grad(function(x) return mg.grad(f)(x):sum() end)(mg.tensor{1, 2})
loss = function(p, x) return ((p.w * x + p.b) ^ 2):sum() end
g = mg.grad(loss)({w = mg.tensor(2), b = mg.tensor(1)}, mg.tensor{1, 2})
g.w, g.b]],
  gradients = [[
x = mg.Variable{1, 2}
y = (x ^ 2):sum()
mg.gradients(y, {x})[1]
x.grad]],
  vjp = [[
y, back = mg.vjp(function(x) return x ^ 2 end, mg.tensor{1, 2})
y
back(mg.tensor{1, 10})]],
  jvp = "mg.jvp(function(x) return x ^ 2 end, mg.tensor{1, 2}, mg.tensor{1, 0})",
  jacobian = "mg.jacobian(function(x) return mg.stack{x[1] * x[2], x[1]} end, mg.tensor{2, 3})",
  hessian = "mg.hessian(function(x) return x[1] ^ 2 * x[2] end, mg.tensor{2, 3})",
  hook = [[
x = mg.Variable{1, 2}
y = (x ^ 2):hook(function(g) return g * 10 end)
y:sum():backward()
x.grad]],
  hvp = "mg.hvp(function(x) return (x ^ 3):sum() end, mg.tensor{1, 2}, mg.tensor{1, 1})",
  tree_leaves = "#mg.tree_leaves{W = mg.ones(2), layers = {mg.ones(1), 3}}",
  tree_map = [=[
t = mg.tree_map(function(x) return x * 2 end, {a = mg.ones(2), b = {3}})
t.a
t.b[1]]=],
  numerical_grad = "mg.numerical_grad(function(x) return x:sin() end, mg.tensor{0, 1})",
  gradcheck = [[
mg.gradcheck(function(x) return x:sin() end, {mg.tensor{0.5, 1}})
Wrong = mg.Function{forward = function(self, x) return x * x end,
                    backward = function(self, gy) return gy end}
mg.gradcheck(Wrong, {mg.tensor{2}})]],

  using_config = [[mg.using_config("dtype", "float32", function() return mg.zeros(1).dtype end)]],
  no_grad = [[
x = mg.Variable(3)
mg.no_grad(function() return (x * x).creator end)]],
  enable_grad = [[
x = mg.Variable(3)
mg.no_grad(function() return mg.enable_grad(function() return (x * x).creator end) end)]],
  test_mode = [[
mg.test_mode(mg.dropout, mg.ones(4))
mg.dropout(mg.ones(4))]],

  assign = [[
w, m = mg.Variable{1, 2}, mg.tensor{0, 0}
mg.assign({w, m}, {w.data - m, w.data * 2})
w
m]],
  tidy = [[
x = mg.tidy(function() return mg.rand(1000):exp():sum() end)
x.shape]],
  memory = [[
m = mg.memory()
m.live <= m.peak
x = mg.Variable(mg.rand(1000), "x")
mg.eval(x)
mg.memory{by = "name"}.x]],
  memory_limit = [[
mg.memory_limit(64 << 20)
!mg.eval(mg.rand(1 << 30))
mg.memory_limit()]],
  reset_peak = [[
mg.reset_peak()
mg.memory().peak == mg.memory().live]],
  trim = [[
mg.trim()
mg.memory().cached]],
  set_num_threads = [[
n = mg.num_threads()
mg.set_num_threads(1)
mg.num_threads()
mg.set_num_threads(n)]],
  num_threads = "mg.num_threads() >= 1",
  seed = [[
mg.seed(7)
mg.rand(2)
mg.seed(7)
mg.rand(2)]],
  get_rng_state = [[
state = mg.get_rng_state()
mg.rand(2)
mg.set_rng_state(state)
mg.rand(2)]],
  set_rng_state = [[
state = mg.get_rng_state()
a = mg.rand(2)
mg.set_rng_state(state)
mg.equal(a, mg.rand(2))]],
  eval = [[
x = mg.rand(1000, 1000)
y = x:exp():log()         -- nothing is computed yet
mg.eval(y)                -- now it is]],
  profile = [[
rows = mg.profile(function() return mg.rand(300, 300):matmul(mg.rand(300, 300)) end)
rows[1].calls >= 1]],
  compile = [[
calls = 0
f = mg.compile(function(x) calls = calls + 1; return (x * 2):sum() end)
f(mg.tensor{1, 2}):item() == 6
f(mg.tensor{3, 4}):item() == 14
calls == 1                -- the second was replayed]],
  dynamic = [[
k = 2
f = mg.compile(function(x) return x * mg.dynamic(function() return k end) end)
f(mg.tensor(3.0)):item() == 6
k = 5
f(mg.tensor(3.0)):item() == 15]],
  launches = "text = mg.launches(function() return (mg.rand(1000) ^ 2):mean():item() end)",

  max_pool2d = "mg.max_pool2d(mg.range(1, 16):reshape(1, 1, 4, 4), 2)",
  max_pool1d = "mg.max_pool1d({{{1, 5, 2, 3}}}, 2)",
  avg_pool2d = "mg.avg_pool2d(mg.range(1, 16):reshape(1, 1, 4, 4), 2)",
  avg_pool1d = "mg.avg_pool1d({{{1, 5, 2, 3}}}, 2)",
  adaptive_max_pool2d = "mg.adaptive_max_pool2d(mg.range(1, 16):reshape(1, 1, 4, 4), 1)",
  adaptive_max_pool1d = "mg.adaptive_max_pool1d({{{1, 5, 2, 3}}}, 2)",
  adaptive_avg_pool2d = "mg.adaptive_avg_pool2d(mg.range(1, 16):reshape(1, 1, 4, 4), 1)",
  adaptive_avg_pool1d = "mg.adaptive_avg_pool1d({{{1, 5, 2, 3}}}, 2)",
  interpolate = [[
mg.interpolate(mg.tensor{{{1, 2}}}, {scale_factor = 2})
mg.interpolate(mg.tensor{{{1, 2}}}, {size = 3, mode = "linear", align_corners = true})]],

  batch_norm = [[
x = mg.tensor{{1, 10}, {3, 30}}
mean, var = mg.zeros(2), mg.ones(2)
mg.batch_norm(x, mean, var)
mean                       -- 0.1 of the way to {2, 20}]],
  instance_norm = "mg.instance_norm(mg.tensor{{{1, 2, 3}, {10, 20, 30}}})",
  group_norm = "mg.group_norm(mg.tensor{{1, 3, 10, 30}}, 2)",
  layer_norm = "mg.layer_norm(mg.tensor{{1, 2, 3}, {10, 20, 30}})",
  rms_norm = "mg.rms_norm(mg.tensor{{3, 4}, {30, 40}})",

  linear = "mg.linear({{1, 2}}, {{1, 0}, {0, 1}, {1, 1}}, {0, 0, 10})",
  softmax = [[
mg.softmax{1, 2, 3}
mg.softmax({{0, 0}, {0, 100}}, 1)
!mg.softmax({1, 2}, 2)]],
  log_softmax = "mg.log_softmax{1, 2, 3}",
  dropout = "mg.dropout(mg.ones(8), 0.25)",
  embedding = "mg.embedding({1, 3}, {{1, 1}, {2, 2}, {3, 3}})",
  mean_squared_error = [[
mg.mean_squared_error({1, 2, 3}, {1, 2, 6})
mg.mean_squared_error({1, 2, 3}, {1, 2, 6}, {reduction = "none"})]],
  l1_loss = "mg.l1_loss({1, 2, 3}, {1, 2, 6})",
  huber_loss = [[mg.huber_loss({0, 0}, {0.5, 10}, {reduction = "none"})]],
  smooth_l1_loss = [[mg.smooth_l1_loss({0, 0}, {0.5, 10}, {reduction = "none"})]],
  kl_div = [[mg.kl_div(mg.log{0.5, 0.5}, {0.9, 0.1}, {reduction = "sum"})]],
  binary_cross_entropy = "mg.binary_cross_entropy({0.9, 0.2}, {1, 0})",
  binary_cross_entropy_with_logits = "mg.binary_cross_entropy_with_logits({2, -1}, {1, 0})",
  cross_entropy = [[
logits = mg.tensor{{2, 0, 0}, {0, 3, 0}}
mg.cross_entropy(logits, {1, 2})
mg.cross_entropy(logits, {{0.9, 0.1, 0}, {0, 1, 0}})     -- probabilities as targets
!mg.cross_entropy(logits, {0, 1})]],
  nll_loss = "mg.nll_loss(mg.log_softmax{{2, 0, 0}, {0, 3, 0}}, {1, 2})",
  accuracy = "mg.accuracy({{2, 0}, {0, 3}, {1, 0}}, {1, 2, 2})",
  scaled_dot_product_attention = [[
q = mg.rand(1, 2, 3, 4)     -- batch, heads, time, size
mg.scaled_dot_product_attention(q, q, q, {is_causal = true}).shape]],

  save = [[
mg.save("a.safetensors", {W = mg.ones(2, 3), step = 7})
t = mg.load("a.safetensors")
t.W.shape, t.step]],
  load = [[
mg.save("b.npz", {x = mg.ones(2), y = mg.zeros(3)})
mg.load("b.npz").y
mg.load("b.npz", {"x"}).y
mg.load("b.npz", {list = true}).x.dtype]],
  plot = [[
x = mg.linspace(0, 6, 50)
mg.plot{x:sin(), x:cos(), x = x, path = "curves.svg"}]],
  plot_graph = [[
y = mg.tanh(mg.Variable(1))
mg.plot_graph(y, "graph.svg")]],
  dot_graph = [[print(mg.dot_graph(mg.tanh(mg.Variable(1, "x"))):match("^[^\n]*"))]],
  progress = [[for i in mg.progress(3, "fit") do print(i) end]],

  Config = [[
mg.Config.train
mg.Config.dtype
!mg.Config.fast = true]],
  help = [[
mg.help "softmax"
!mg.help "softmx"]],
  define = [[
mg.define("twice(x: array, {plus: number = 0})", "2 x + plus",
  function(x, plus) return 2 * x + plus end)
mg.twice({1, 2}, {plus = 1})
mg.tensor{1, 2}:twice()
!mg.twice(1, {minus = 1})
mg.twice = nil]],
  checked = [[
f = mg.checked('f(n: int(1..), name: string = "x")', "a doc",
  function(n, name) return name:rep(n) end)
f(3)
!f(0)]],
  signature = [[
read = mg.signature("area({width: number(0..), height: number = width})")
read{width = 3}
!read{widht = 3}]],
  raise = [[!mg.raise("%s is not here", "it")]],
  softmax_cross_entropy = "mg.softmax_cross_entropy == mg.cross_entropy",

  detect_anomaly = [[
!mg.detect_anomaly(function(x) return (x - 1):sqrt() end, mg.tensor{0, 2})]],
  softmin = "mg.softmin{1, 2, 3}",
  dropout1d = "mg.dropout1d(mg.ones(1, 3, 4))",
  dropout2d = "mg.dropout2d(mg.ones(1, 3, 2, 2), 0.5):sum({3, 4})     -- whole channels",
  dropout3d = "mg.dropout3d(mg.ones(1, 3, 2, 2, 2)):sum({3, 4, 5})",
  alpha_dropout = "mg.alpha_dropout(mg.randn(1000)):std():item() < 1.2",
  gumbel_softmax = "mg.gumbel_softmax({0, 1, 2}, {hard = true}):sum()",
  bilinear = "mg.bilinear({{1, 2}}, {{3, 4}}, {{{1, 0}, {0, 1}}})",
  normalize = "mg.normalize{{3, 4}, {0, 2}}",
  cosine_similarity = "mg.cosine_similarity({{1, 0}, {1, 1}}, {{2, 2}, {3, 3}})",
  pairwise_distance = "mg.pairwise_distance({{0, 0}, {1, 1}}, {{3, 4}, {1, 1}})",
  margin_ranking_loss = "mg.margin_ranking_loss({1, 2}, {2, 1}, {1, 1})",
  hinge_embedding_loss = "mg.hinge_embedding_loss({0.2, 0.2}, {1, -1}, {reduction = \"none\"})",
  soft_margin_loss = "mg.soft_margin_loss({3, 3}, {1, -1}, {reduction = \"none\"})",
  cosine_embedding_loss = "mg.cosine_embedding_loss({{1, 0}}, {{1, 1}}, {1})",
  triplet_margin_loss = "mg.triplet_margin_loss({{0, 0}}, {{0, 1}}, {{0, 1.5}})",
  multi_margin_loss = "mg.multi_margin_loss({{2, 1.5, 0}}, mg.tensor({1}, \"int64\"))",
  multilabel_soft_margin_loss = "mg.multilabel_soft_margin_loss({{2, -1}}, {{1, 0}})",
  poisson_nll_loss = "mg.poisson_nll_loss({0, 1}, {1, 3})",
  gaussian_nll_loss = "mg.gaussian_nll_loss({1, 2}, {1, 4}, {1, 2})",
  ctc_loss = [[
x = mg.randn(6, 2, 4):log_softmax()                 -- steps, batch, classes
labels = mg.tensor({{2, 3}, {4, 1}}, "int64")       -- 1 is the blank
mg.ctc_loss(x, labels, {6, 5}, {2, 1}):item() > 0]],
  pixel_shuffle = "mg.range(1, 4):reshape(4, 1, 1):pixel_shuffle(2)",
  pixel_unshuffle = "mg.range(1, 4):reshape(1, 2, 2):pixel_unshuffle(2).shape",
  channel_shuffle = "mg.range(1, 4):reshape(1, 4, 1):channel_shuffle(2):flatten()",
  local_response_norm = "mg.local_response_norm(mg.ones(1, 4, 2), 2).shape",
  affine_grid = "mg.affine_grid({{{1, 0, 0}, {0, 1, 0}}}, {1, 1, 2, 2})",
  grid_sample = [[
x = mg.range(1, 4):reshape(1, 1, 2, 2)
half = mg.affine_grid({{{0.5, 0, 0}, {0, 0.5, 0}}}, {1, 1, 2, 2})
mg.grid_sample(x, half)]],
}
