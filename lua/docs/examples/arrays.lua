-- What is shown of new arrays, shapes, order, Variables and linear algebra: sessions by name.

return {
  Variable = [[
x = mg.Variable({{1, 2}, {3, 4}}, "x")
x.requires_grad, x.name, x.dtype
(x ^ 2):sum():backward()
x.grad
!mg.Variable{{1, 2}, {3}}]],
  tensor = [[
x = mg.tensor({1, 2}, "int64")
x.requires_grad, x.dtype]],
  zeros = [[
mg.zeros(2, 3)
mg.zeros{2, dtype = "int64"}.dtype]],
  ones = [[mg.ones{2, 2, dtype = "float32"}]],
  empty = "mg.empty(2, 3).shape",
  full = "mg.full({2, 2}, 7)",
  range = [[
mg.range(1, 5)
mg.range(1, 0, -0.5)]],
  randperm = "mg.randperm(6)",
  rand = [[
mg.rand(3)
mg.seed(1)
mg.rand(3)                 -- the same again]],
  randn = "mg.randn(2, 2)",
  randint = "mg.randint(1, 6, {8})",
  bernoulli = "mg.bernoulli(0.5, {8})",
  zeros_like = "mg.zeros_like(mg.rand(2, 3)).shape",
  ones_like = "mg.ones_like({1, 2, 3})",
  rand_like = "mg.rand_like(mg.zeros(2))",
  randn_like = "mg.randn_like(mg.zeros(2))",
  eye = [[
mg.eye(2)
mg.eye(2, 3)]],
  linspace = "mg.linspace(0, 1, 5)",
  as_variable = [[
x = mg.tensor{1}
mg.as_variable(x) == x
mg.as_variable(3)]],
  set_printoptions = [[
was = mg.set_printoptions{precision = 3}
mg.tensor{1 / 3, 2 / 3}
mg.set_printoptions(was)]],
  totable = [=[
t = mg.tensor{{1, 2}, {3, 4}}:totable()
t[2][1]]=],
  to = [[mg.tensor{1.7, -1.7}:to "int64"]],

  reshape = [[
mg.range(1, 6):reshape(2, 3)
mg.range(1, 6):reshape(3, -1).shape
!mg.range(1, 6):reshape(4, 2)]],
  permute = "mg.zeros(2, 3, 4):permute(3, 1, 2).shape",
  transpose = [[
mg.tensor{{1, 2}, {3, 4}}:transpose()
mg.zeros(2, 3, 4):transpose(2, 1, 3).shape]],
  broadcast_to = "mg.tensor{1, 2}:broadcast_to(2, 2)",
  sum_to = "mg.ones(4, 3):sum_to(1, 3)",
  cat = [[
mg.cat{mg.tensor{1, 2}, mg.tensor{3}}
mg.cat({mg.ones(2, 1), mg.zeros(2, 2)}, 2)]],
  index_select = "mg.tensor{10, 20, 30}:index_select(1, {3, 1})",
  index_add = "mg.zeros(3):index_add(1, {1, 3, 1}, {1, 2, 3})",
  gather = "mg.tensor{{1, 2}, {3, 4}}:gather(2, {{2}, {1}})",
  scatter_add = "mg.zeros(3):scatter_add(1, {1, 3, 1}, {1, 2, 3})",
  scatter = "mg.zeros(3):scatter(1, {3, 1}, {5, 6})",
  nonzero = "mg.nonzero{{0, 1}, {2, 0}}",
  searchsorted = [[
mg.searchsorted({10, 20, 30}, {5, 20, 99})
mg.searchsorted({10, 20, 30}, {5, 20, 99}, {right = true})]],
  cumsum = "mg.cumsum({1, 2, 3}, 1)",
  cumprod = "mg.cumprod({1, 2, 3}, 1)",
  cummax = "mg.cummax({1, 3, 2, 3}, 1)",
  cummin = "mg.cummin({3, 1, 2}, 1)",
  logcumsumexp = "mg.logcumsumexp({0, 0, 1000}, 1)",
  argsort = [[
mg.argsort{30, 10, 20}
mg.argsort({30, 10, 20}, {descending = true})]],
  sort = "mg.sort{30, 10, 20}",
  topk = "mg.topk({30, 10, 20}, 2)",
  slice = [=[
x = mg.range(1, 12):reshape(3, 4)
x:slice(2)                -- as x[2]
x:slice({1, 2}, -1)       -- as x[{ {1, 2}, -1 }]]=],
  flip = "mg.flip({1, 2, 3}, 1)",
  swapaxes = "mg.zeros(2, 3, 4):swapaxes(1, 3).shape",
  squeeze = [[
mg.zeros(1, 3, 1):squeeze().shape
mg.zeros(1, 3, 1):squeeze(1).shape]],
  unsqueeze = "mg.tensor{1, 2}:unsqueeze(2)",
  flatten = "mg.zeros(2, 3, 4):flatten(2).shape",
  expand = "mg.tensor{{1}, {2}}:expand(-1, 3)",
  movedim = "mg.zeros(2, 3, 4):movedim(1, 3).shape",
  rot90 = "mg.rot90{{1, 2}, {3, 4}}",
  stack = "mg.stack{mg.tensor{1, 2}, mg.tensor{3, 4}}",
  hstack = "mg.hstack{mg.tensor{1, 2}, mg.tensor{3}}",
  vstack = "mg.vstack{mg.tensor{1, 2}, mg.tensor{3, 4}}",
  meshgrid = [[
x, y = mg.meshgrid({1, 2}, {10, 20, 30})
x
y]],
  split = [[
a, b = mg.split({1, 2, 3, 4, 5}, 3)
a
b]],
  chunk = "mg.chunk({1, 2, 3, 4}, 2)",
  unbind = "mg.unbind{{1, 2}, {3, 4}}",
  roll = "mg.roll({1, 2, 3, 4}, 1)",
  pad = [[
mg.pad({1, 2}, {1, 2})
mg.pad({{1, 2}}, {0, 1, 1, 0}, {value = 9})]],
  tril = "mg.ones(3, 3):tril()",
  triu = "mg.ones(3, 3):triu(1)",
  diag = [[
mg.diag{{1, 2}, {3, 4}}
mg.diag{1, 2}]],
  diagonal = "mg.diagonal(mg.range(1, 9):reshape(3, 3), {offset = 1})",
  repeat_interleave = [[
mg.repeat_interleave({1, 2}, 3)
mg.repeat_interleave({1, 2}, {1, 3})]],
  tile = [[
mg.tile({1, 2}, 3)
mg.tile({1, 2}, 2, 1)]],
  masked_fill = "mg.masked_fill({1, -2, 3}, {false, true, false}, 0)",
  one_hot = "mg.one_hot({1, 3}, 3)",
  take_along = [[
x = mg.tensor{{3, 1, 2}}
x:take_along(x:argsort(2), 2)]],
  im2col = "mg.im2col(mg.range(1, 9):reshape(1, 3, 3), 2)",
  col2im = [[
cols = mg.im2col(mg.range(1, 9):reshape(1, 3, 3), 2)
mg.col2im(cols, {3, 3}, 2)]],
  unfold = "mg.range(1, 6):unfold(1, 3, 1)",

  conv1d = "mg.conv1d({{1, 2, 3, 4}}, {{{1, -1}}})",
  conv2d = [[
x, w = mg.ones(1, 1, 4, 4), mg.ones(1, 1, 3, 3)
mg.conv2d(x, w)
mg.conv2d(x, w, {padding = "same"}).shape
mg.conv2d(x, w, mg.tensor{10}, {stride = 2})]],
  conv3d = "mg.conv3d(mg.ones(1, 1, 4, 4, 4), mg.ones(2, 1, 3, 3, 3)).shape",
  conv_transpose1d = "mg.conv_transpose1d({{1, 2}}, {{{1, 1, 1}}}, {stride = 2})",
  conv_transpose3d = "mg.conv_transpose3d(mg.ones(1, 1, 2, 2, 2), mg.ones(1, 1, 2, 2, 2)).shape",
  max_pool3d = "mg.max_pool3d(mg.range(1, 64):reshape(1, 4, 4, 4), 2):squeeze()",
  avg_pool3d = "mg.avg_pool3d(mg.range(1, 64):reshape(1, 4, 4, 4), 2):squeeze()",
  adaptive_max_pool3d = "mg.adaptive_max_pool3d(mg.rand(2, 5, 6, 7), {2, 2, 1}).shape",
  adaptive_avg_pool3d = "mg.adaptive_avg_pool3d(mg.rand(2, 5, 6, 7), 1).shape",
  conv_transpose2d = "mg.conv_transpose2d(mg.ones(1, 1, 2, 2), mg.ones(1, 1, 2, 2)):squeeze()",

  ["x.data"] = [[
x = mg.Variable{1, 2}
x.data = x.data * 10
x
!x.data = {1, 2, 3}]],
  ["x.grad"] = [[
x = mg.Variable{1, 2}
(x ^ 2):sum():backward()
x.grad
x.grad = nil]],
  ["x.creator"] = [[
x = mg.Variable{1, 2}
x.creator
(x * 3).creator.inputs[1] == x]],
  ["x.generation"] = [[
x = mg.Variable(1)
x.generation, x:exp().generation]],
  ["x.id"] = [=[
x, seen = mg.ones(1), {}
seen[x.id] = true
seen[x.id]]=],
  ["x.name"] = [[
x = mg.Variable(1, "x")
x.name]],
  ["x.requires_grad"] = [[
x = mg.tensor(1)
x.requires_grad
x.requires_grad = true]],
  ["x.shape"] = [[
x = mg.zeros(2, 3)
x.shape, x.shape[2], x.shape == mg.ones(2, 3).shape]],
  ["x.ndim"] = "mg.zeros(2, 3).ndim",
  ["x.size"] = "mg.zeros(2, 3).size",
  ["x.dtype"] = [[mg.zeros(2).dtype, mg.tensor({1}, "int64").dtype]],
  ["x.T"] = "mg.tensor{{1, 2}, {3, 4}}.T",
  free = [[
x = mg.ones(1000)
x:free()
!x:sum()]],
  item = [[
mg.tensor{1, 2}:sum():item() + 1
!mg.tensor{1, 2}:item()]],
  detach = [[
x = mg.Variable{1, 2}
(x * x).creator
(x * x):detach().creator]],
  clone = [[
x = mg.Variable{1, 2}
x:clone():sum():backward()
x.grad]],
  cleargrad = [[
x = mg.Variable(3)
(x ^ 2):backward()
(x ^ 2):backward()
x.grad
x:cleargrad()
x.grad]],
  set_creator = [[
x = mg.Variable{1, 2}
y = x:exp()
y.creator
z = mg.tensor{0, 0}
z:set_creator(y.creator)
z.creator]],
  unchain = [[
x = mg.Variable(2)
y = x * x
y:unchain()
y.creator]],
  unchain_backward = [[
h = mg.Variable(1)
for t = 1, 10 do h = (h * 0.5):tanh() end
h.creator.inputs[1].creator
h:unchain_backward()
h.creator.inputs[1].creator]],
  is_variable = [[
mg.is_variable(mg.ones(1))
mg.is_variable(1)]],
  frombytes = [[mg.frombytes("\0\0\x80\x3f\0\0\0\x40", "float32", {2})]],
  tobytes = [[
#mg.tensor{1, 2, 3}:tobytes()
#mg.tensor{1, 2, 3}:tobytes "float16"]],

  matmul = [[
A, x = mg.tensor{{1, 2}, {3, 4}}, mg.tensor{1, 1}
A:matmul(A)
A:matmul(x)
!mg.ones(2, 3):matmul(mg.ones(4, 5))]],
  solve = [[
A, b = mg.tensor{{2, 0}, {0, 4}}, mg.tensor{2, 2}
mg.solve(A, b)]],
  inv = "mg.inv{{2, 0}, {0, 4}}",
  det = "mg.det{{1, 2}, {3, 4}}",
  slogdet = "mg.slogdet{{1, 2}, {3, 4}}",
  cholesky = "mg.cholesky{{4, 2}, {2, 5}}",
  triangular_solve = "mg.triangular_solve({{2}, {3}}, {{2, 0}, {1, 1}})",
  qr = [[
Q, R = mg.qr(mg.tensor{{3, 1}, {4, 2}})
Q:matmul(R)]],
  eigh = [[
values, vectors = mg.eigh(mg.tensor{{2, 0}, {0, 1}})
values
vectors]],
  svd = [[
U, S, Vh = mg.svd(mg.tensor{{3, 0}, {0, -2}})
S
(U * S):matmul(Vh)]],
  pinv = "mg.pinv{{2, 0}, {0, 0}}",
  dot = "mg.dot({1, 2, 3}, {4, 5, 6})",
  outer = "mg.outer({1, 2}, {1, 10})",
  cholesky_solve = [[
A = mg.tensor{{4, 2}, {2, 5}}
x = mg.cholesky_solve({1, 2}, A:cholesky())
A:matmul(x)]],
  lstsq = [[
A = mg.tensor{{1, 1}, {1, 2}, {1, 3}}
x, residual, rank = mg.lstsq(A, {1, 2, 2})
x
rank]],
  matrix_power = "mg.matrix_power({{1, 1}, {1, 0}}, 10)     -- Fibonacci's numbers",
  trace = "mg.trace{{1, 2}, {3, 4}}",
  kron = "mg.kron({{1, 2}}, {{1, 1}})",
  cdist = "mg.cdist({{0, 0}}, {{3, 4}, {1, 0}})",
  einsum = [[
A = mg.tensor{{1, 2}, {3, 4}}
mg.einsum("ij,jk->ik", A, A)
mg.einsum("ii", A)]],

  unflatten = "mg.range(1, 6):unflatten(1, {2, -1})",
  diag_embed = "mg.diag_embed{1, 2}\nmg.diag_embed({1, 2}, {offset = 1})",
  logspace = "mg.logspace(0, 3, 4)",
  cross = "mg.cross({1, 0, 0}, {0, 1, 0})",
  cov = "mg.cov{{1, 2, 3}, {3, 2, 1}}",
  corrcoef = "mg.corrcoef{{1, 2, 3}, {3, 2, 1}}",
  tensordot = [[
a, b = mg.ones(2, 3, 4), mg.ones(4, 3, 5)
mg.tensordot(a, b, {{2, 3}, {2, 1}}).shape
mg.tensordot(a, b, 1).shape]],
  matrix_exp = "mg.matrix_exp{{0, -math.pi / 2}, {math.pi / 2, 0}}     -- a quarter turn",
}
