-- Linear algebra: factors that give the matrix back, solutions, their first and second derivatives,
-- what is singular, repeated or empty, and what is refused.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises
local differentiable = helper.differentiable

local huge, nan = math.huge, 0 / 0

-- Far from singular
local function regular(...)
  local shape = {...}
  local n = shape[#shape]
  return mg.rand(...) - 0.5 + 1.5 * mg.eye(n)
end

local function symmetric(x) return (x + x:swapaxes(-1, -2)) / 2 end

local function positive(...)
  local x = regular(...)
  return x:matmul(x:swapaxes(-1, -2)) + 0.5 * mg.eye(x.shape[x.ndim])
end

-- On symmetric matrices
local function of_symmetric(f)
  return function(x, ...) return f(symmetric(x), ...) end
end

local function diagonal(d)
  return d:unsqueeze(-1) * mg.eye(d.shape[d.ndim]):to(d.dtype)
end

local function second(f)
  return function(...) return (select(2, f(...))) end
end

-- x made anew as every other row and column of something, and as a transpose
local function laid_out_otherwise(x)
  local n = x.ndim
  local turned = x:swapaxes(-1, -2):clone():swapaxes(-1, -2)
  local wide = mg.stack({x, x * 0 - 7}, n + 1):flatten(n, n + 1)
  local index = {}
  for i = 1, n - 1 do index[i] = {} end
  index[n] = {1, 2 * x.shape[n], 2}
  return turned, wide[index]
end

describe("solve and inv", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(1) end)

  it("undo products, for matrices, vectors and batches", function()
    for _, dtype in ipairs{"float64", "float32"} do
      local tol = dtype == "float64" and 1e-12 or 2e-5
      for _, n in ipairs{1, 2, 7, 40} do
        local A = regular(3, 2, n, n):to(dtype)
        for _, b in ipairs{mg.randn(3, 2, n, 5), mg.randn(3, 2, n, 1), mg.randn(3, 2, n)} do
          b = b:to(dtype)
          local x = A:solve(b)
          assert.same(b.shape, x.shape)
          assert.equal(dtype, x.dtype)
          local back = b.ndim == 4 and A:matmul(x) or (A:matmul(x:unsqueeze(-1))):squeeze(-1)
          assert(near(back, b, tol))
        end
        assert(near(A:matmul(A:inv()), mg.eye(n):expand(3, 2, n, n):to(dtype), tol))
      end
    end
  end)

  it("give what is known", function()
    assert(exact(mg.solve({{0, 2}, {4, 0}}, {6, 8}), {2, 3}, 1))
    assert(exact(mg.solve({{0, 1, 0}, {0, 0, 2}, {3, 0, 0}}, {{1}, {4}, {9}}), {{3}, {1}, {2}}, 1))
    assert(exact(mg.inv{{0, 1, 0}, {0, 0, 2}, {4, 0, 0}}, {{0, 0, 0.25}, {1, 0, 0}, {0, 0.5, 0}},
      1))
  end)

  it("broadcast the leading axes", function()
    local A, b = regular(4, 1, 3, 3), mg.randn(5, 3, 2)
    local x = A:solve(b)
    assert.same({4, 5, 3, 2}, x.shape)
    for i = 1, 4 do
      for j = 1, 5 do assert(same(x[{i, j}], A[{i, 1}]:solve(b[j]))) end
    end
    assert(near(A:solve(mg.tensor{1, 2, 3})[{2, 1}], A[{2, 1}]:solve{1, 2, 3}))
    assert.same({3, 2}, A[{1, 1}]:solve(mg.randn(3, 2)).shape)
    assert.same({7, 3, 2}, A[{1, 1}]:solve(mg.randn(7, 3, 2)).shape)
    assert.same({7, 2, 3}, regular(7, 2, 3, 3):solve(mg.randn(7, 2, 3)).shape)   -- vectors
  end)

  it("read any strides", function()
    local A, b = regular(3, 6, 6), mg.randn(3, 6, 4)
    local want = A:solve(b)
    for _, p in ipairs{laid_out_otherwise(A)} do
      for _, q in ipairs{laid_out_otherwise(b)} do assert(same(p:solve(q), want)) end
      assert(same(p:inv(), A:inv()))
    end
    assert(near(mg.full({1, 2}, 3):expand(2, 2):tril():solve(mg.ones(2, 3)),
      {{1 / 3, 1 / 3, 1 / 3}, {0, 0, 0}}))
  end)

  it("have their derivatives", function()
    assert(differentiable(mg.solve, {regular(3, 3), mg.randn(3, 2)}))
    assert(differentiable(mg.solve, {regular(3, 3), mg.randn(3)}))
    assert(differentiable(mg.solve, {regular(2, 1, 2, 2), mg.randn(3, 2, 2)}))
    assert(differentiable(mg.solve, {regular(2, 2), mg.randn(3, 2, 1)}))
    assert(differentiable(mg.inv, {regular(2, 3, 3)}))
    assert(differentiable(function(A) return A:inv():inv() end, {regular(2, 2)}))
  end)

  it("refuse singular matrices, and name the first", function()
    local A = mg.eye(3):expand(2, 2, 3, 3):clone()
    A[{2, 1, 3, 3}] = 0
    A[{2, 2, 2, 2}] = 0
    assert(raises("solve: matrix 3 of A (2, 2, 3, 3) is singular: pivot 3 of its LU factors is 0",
      mg.solve, A, mg.ones(3)))
    assert(raises("inv: x (2, 2) is singular: pivot 2", mg.inv, {{1, 2}, {2, 4}}))
    assert(raises("inv: x (1, 1) is singular", mg.inv, {{0}}))
  end)

  it("refuse what does not fit", function()
    assert(raises("solve: A has shape (2, 3), expected square matrices (..., n, n)", mg.solve,
      mg.ones(2, 3), mg.ones(2)))
    assert(raises("solve: A (3, 3) and b (2, 3) do not fit: 3 and 2 differ", mg.solve,
      mg.eye(3), mg.ones(2, 3)))
    assert(raises("solve: A (2, 3, 3) and b (4, 3, 1): the leading axes do not broadcast",
      mg.solve, mg.ones(2, 3, 3), mg.ones(4, 3, 1)))
    assert(raises("solve: b has shape ()", mg.solve, mg.eye(2), mg.tensor(1)))
    assert(raises("inv: x has shape (3), expected square matrices", mg.inv, mg.ones(3)))
    assert(raises("inv: x must be float, got int64", mg.inv, mg.ones{2, 2, dtype = "int64"}))
  end)

  it("pass nan on, and take empty matrices", function()
    assert.is_true(mg.solve({{1, nan}, {0, 1}}, {1, 1}):isnan():any():item())
    assert.same({0, 0}, mg.zeros(0, 0):inv().shape)
    assert.same({0, 3}, mg.zeros(0, 0):solve(mg.zeros(0, 3)).shape)
    assert.same({2, 0}, mg.eye(2):solve(mg.zeros(2, 0)).shape)
    assert.same({0, 2, 1}, mg.zeros(0, 2, 2):solve(mg.zeros(2, 1)).shape)
  end)
end)

describe("det and slogdet", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(2) end)

  it("give what is known", function()
    assert(exact(mg.det{{1, 2}, {3, 4}}, -2, 2))
    assert(exact(mg.det{{0, 1, 0}, {0, 0, 1}, {1, 0, 0}}, 1))
    assert(exact(mg.det{{{2, 0}, {0, 3}}, {{0, 2}, {3, 0}}}, {6, -6}))
    assert(exact(mg.det{{1, 2}, {2, 4}}, 0))
    local sign, log = mg.slogdet{{0, 2}, {3, 0}}
    assert(exact(sign, -1))
    assert(exact(log, math.log(6), 2))
    sign, log = mg.slogdet{{1, 2}, {2, 4}}
    assert(exact(sign, 0))
    assert(exact(log, -huge))
    assert(exact(second(mg.slogdet){{1 + 2 ^ -30, 0}, {0, 1}}, 2.0 ^ -30 - 2.0 ^ -61, 1))
  end)

  it("do not overflow on the way", function()
    local d = mg.tensor{1e200, 1e200, 1e-200, 1e-200, 3}
    assert(exact(mg.det(diagonal(d)), 3, 8))
    assert(exact(second(mg.slogdet)(diagonal(d)), math.log(3), 8))
    assert(exact(mg.det(diagonal(mg.tensor{1e200, 1e200})), huge))
    assert(exact(mg.grad(mg.det)(diagonal(mg.tensor{1e200, 1e100})), {{1e100, 0}, {0, 1e200}}, 4))
  end)

  it("of nothing are 1, and 1 and 0", function()
    assert(exact(mg.det(mg.zeros(0, 0)), 1))
    local sign, log = mg.slogdet(mg.zeros(3, 0, 0))
    assert(exact(sign, {1, 1, 1}))
    assert(exact(log, {0, 0, 0}))
    assert.same({0}, mg.det(mg.zeros(0, 2, 2)).shape)
  end)

  it("have their derivatives", function()
    assert(differentiable(mg.det, {regular(3, 3)}))
    assert(differentiable(mg.det, {regular(2, 2, 4, 4)}))
    assert(differentiable(second(mg.slogdet), {regular(3, 3)}))
    assert(differentiable(second(mg.slogdet), {-regular(2, 3, 3)}))
    assert(exact(mg.grad(function(x) return (x:slogdet()) end)(regular(2, 2)), mg.zeros(2, 2)))
  end)

  it("have those of singular matrices: cofactors", function()
    assert(near(mg.grad(mg.det)(mg.tensor{{1, 2}, {2, 4}}), {{4, -2}, {-2, 1}}, 1e-14))
    assert(near(mg.grad(mg.det)(mg.tensor{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}),
      {{-3, 6, -3}, {6, -12, 6}, {-3, 6, -3}}, 1e-13))
    assert(exact(mg.grad(mg.det)(mg.zeros(1, 1)), {{1}}))
    assert(exact(mg.grad(mg.det)(mg.zeros(3, 3)), mg.zeros(3, 3)))
    local ones = mg.ones(2, 1)
    for _, x in ipairs{ones:matmul(ones.T), mg.zeros(2, 2), mg.ones(3, 3), mg.zeros(3, 3),
                       mg.tensor{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}, diagonal(mg.tensor{2, 2, 0, 1}),
                       mg.stack{mg.eye(3), mg.ones(3, 3), mg.eye(3) * mg.tensor{1, 0, 2}}} do
      assert(differentiable(mg.det, {x}, 1e-6))
    end
  end)

  it("count for nothing where their gradient is 0", function()
    local x = mg.Variable(mg.ones(2, 2))
    local y = mg.where(mg.tensor(true), x:sum(), second(mg.slogdet)(x))
    y:backward()
    assert(exact(x.grad, mg.ones(2, 2)))
  end)

  it("hand on nan", function()
    local x = mg.tensor{{1, nan}, {0, 1}}
    assert.is_true(mg.det(x):isnan():item())
    assert.is_true(mg.grad(mg.det)(x):isnan():all():item())
    assert(raises("det: x has shape (2, 3), expected square matrices", mg.det, mg.ones(2, 3)))
  end)
end)

describe("cholesky and triangular_solve", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(3) end)

  it("give the lower factor", function()
    for _, n in ipairs{1, 3, 20, 150} do
      for _, dtype in ipairs{"float64", "float32"} do
        local x = positive(2, n, n):to(dtype)
        local L = x:cholesky()
        assert(near(L:matmul(L:swapaxes(-1, -2)), x, dtype == "float64" and 1e-12 or 1e-4))
        assert(exact(L, L:tril()))
        for _, y in ipairs{laid_out_otherwise(x)} do assert(same(y:cholesky(), L)) end
        assert(same((x:tril() - 5 * mg.ones(n, n):to(dtype):triu(1)):cholesky(), L))
      end
    end
    assert.same({0, 0}, mg.zeros(0, 0):cholesky().shape)
  end)

  it("solve with any triangle", function()
    for _, n in ipairs{1, 2, 9, 70} do
      local A, b = regular(2, n, n) / n + mg.eye(n), mg.randn(2, n, 130)
      for k = 0, 7 do
        local upper, transpose, unit = k & 1 > 0, k & 2 > 0, k & 4 > 0
        local M = upper and A:triu() or A:tril()
        if unit then M = mg.where(mg.eye(n):gt(0), 1, M) end
        if transpose then M = M:swapaxes(-1, -2) end
        for _, a in ipairs{A, laid_out_otherwise(A)} do
          local how = {upper = upper, transpose = transpose, unitriangular = unit}
          local x = b:triangular_solve(a, how)
          assert(near(M:matmul(x), b, 1e-10))
          local first = b[{{}, {}, 1}]:triangular_solve(a, how)
          assert(near(first, x[{{}, {}, 1}], 1e-10))
        end
      end
    end
    assert.same({3, 4, 2}, mg.ones(4, 2):triangular_solve(mg.eye(4):expand(3, 4, 4)).shape)
    assert(exact(mg.triangular_solve({2, 5}, {{2, 9}, {1, 4}}), {1, 1}))
  end)

  it("have their derivatives", function()
    assert(differentiable(of_symmetric(mg.cholesky), {positive(3, 3)}))
    assert(differentiable(of_symmetric(mg.cholesky), {positive(2, 4, 4)}))
    local g = mg.grad(function(x) return x:cholesky():sum() end)(positive(4, 4))
    assert(exact(g, g.T))
    for _, n in ipairs{5, 48, 49, 130} do -- in blocks, and as ops
      local x, weights = mg.Variable(positive(2, n, n)), mg.randn(2, n, n)
      local y = (x:cholesky() * weights):sum()
      y:backward{retain_graph = true}
      local blocks = x.grad
      x:cleargrad()
      y:backward{create_graph = true}
      assert(near(blocks, x.grad, 1e-9, 1e-10))
    end
    local A, b = regular(3, 3), mg.randn(3, 2)
    for k = 0, 7 do
      assert(differentiable(function(p, q)
        return p:triangular_solve(q, {upper = k & 1 > 0, transpose = k & 2 > 0,
          unitriangular = k & 4 > 0})
      end, {b, A}))
    end
    assert(differentiable(mg.triangular_solve, {mg.randn(3), A}))
    assert(differentiable(mg.triangular_solve, {mg.randn(2, 3, 1), regular(4, 1, 3, 3)}))
  end)

  it("refuse what will not do", function()
    assert(raises("cholesky: x (2, 2) is not positive definite: its leading minor 2 is not above 0",
      mg.cholesky, {{1, 2}, {2, 1}}))
    assert(raises("cholesky: matrix 2 of x (3, 1, 1) is not positive definite: its leading minor 1",
      mg.cholesky, mg.tensor{{{1}}, {{0}}, {{-1}}}))
    assert(raises("cholesky: x (2, 2) is not positive definite: its leading minor 1", mg.cholesky,
      {{nan, 0}, {0, 1}}))
    assert(raises("triangular_solve: matrix 2 of A (2, 2, 2) is singular: element (2, 2) is 0",
      mg.triangular_solve, mg.ones(2, 1), mg.tensor{{{1, 0}, {0, 1}}, {{1, 0}, {0, 0}}}))
    assert(raises("triangular_solve: A (2, 2) and b (3, 1) do not fit", mg.triangular_solve,
      mg.ones(3, 1), mg.eye(2)))
  end)
end)

describe("qr", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(5) end)

  it("gives orthonormal columns and an upper triangle", function()
    for _, s in ipairs{{1, 1}, {4, 4}, {7, 3}, {3, 7}, {100, 60}, {1, 5}, {5, 1}} do
      for _, dtype in ipairs{"float64", "float32"} do
        local tol = dtype == "float64" and 1e-13 or 1e-5
        local x = mg.randn(2, s[1], s[2]):to(dtype)
        local Q, R = x:qr()
        local k = math.min(s[1], s[2])
        assert.same({2, s[1], k}, Q.shape)
        assert.same({2, k, s[2]}, R.shape)
        assert(near(Q:matmul(R), x, 10 * tol))
        assert(near(Q:swapaxes(-1, -2):matmul(Q), mg.eye(k):expand(2, k, k):to(dtype), tol, tol))
        assert(exact(R, R:triu()))
      end
    end
    local Q, R = mg.zeros(3, 0):qr()
    assert.same({3, 0}, Q.shape)
    assert.same({0, 0}, R.shape)
    Q, R = mg.zeros(0, 3):qr()
    assert.same({0, 0}, Q.shape)
    assert.same({0, 3}, R.shape)
  end)

  it("has its derivatives, tall, square and wide", function()
    for _, s in ipairs{{3, 3}, {2, 4, 2}, {2, 4}, {1, 3}, {3, 1}} do
      local x = mg.randn(s)
      assert(differentiable(mg.qr, {x}, 1e-6))
      assert(differentiable(second(mg.qr), {x}, 1e-6))
      assert(differentiable(function(a)
        local Q, R = a:qr()
        return Q:matmul(R)
      end, {x}, 1e-6))
    end
    assert(raises("qr: x has shape (3), expected matrices", mg.qr, mg.ones(3)))
  end)
end)

describe("eigh", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(6) end)

  local function with_values(values)
    local Q = mg.qr(mg.randn(#values, #values))
    return symmetric((Q * mg.tensor(values)):matmul(Q.T))
  end

  it("gives values in order, and vectors", function()
    for _, n in ipairs{1, 2, 5, 60} do
      for _, dtype in ipairs{"float64", "float32"} do
        local tol = dtype == "float64" and 1e-12 or 1e-4
        local x = symmetric(mg.randn(2, n, n)):to(dtype)
        local l, V = x:eigh()
        assert(near(x:matmul(V), V * l:unsqueeze(-2), tol, tol))
        assert(near(V:swapaxes(-1, -2):matmul(V), mg.eye(n):expand(2, n, n):to(dtype), tol, tol))
        assert(same(l, (l:sort())))
        local other = mg.where(mg.ones(n, n):triu(1):gt(0), nan, x:to("float64")):to(dtype)
        assert(same(other:eigh(), l))       -- the upper triangle is not read
      end
    end
    assert(near(mg.eigh{{2, 1}, {1, 2}}, {1, 3}, 1e-15))
    local l, V = mg.zeros(0, 0):eigh()
    assert.same({0}, l.shape)
    assert.same({0, 0}, V.shape)
  end)

  it("has its derivatives", function()
    for _, values in ipairs{{1, 2, 4}, {-1, 0, 3}, {1, 1.001, 3}} do
      local x = with_values(values)
      local tol = values[2] == 1.001 and 1e-3 or 1e-6
      assert(differentiable(of_symmetric(mg.eigh), {x}, tol))
      assert(differentiable(of_symmetric(function(a)
        local V = select(2, a:eigh())
        return V[{{}, {1, 2}}]:matmul(V[{{}, {1, 2}}].T)
      end), {x}, tol))
    end
    local V = second(mg.eigh)
    assert(differentiable(of_symmetric(V), {mg.stack{with_values{1, 2, 4}, with_values{5, 3, 1}}},
      1e-5))
  end)

  it("has those of repeated values, where they exist", function()
    local function trace_of_square(a) return a:eigh():square():sum() end
    local function projector(a) -- on the space of the two smallest
      local V = select(2, a:eigh())
      V = V[{{}, {1, 2}}]
      return V:matmul(V.T)
    end
    for _, x in ipairs{mg.eye(3), mg.zeros(3, 3), with_values{2, 2, 5}, with_values{2, 2, 2},
                       diagonal(mg.tensor{3, 3, 1})} do
      assert(near(mg.grad(trace_of_square)(x), 2 * x, 1e-10))
    end
    local x = with_values{2, 2, 5}
    local want = helper.differences(function(at)
      return (projector(symmetric(at[1])) * mg.range(1, 9):reshape(3, 3)):sum():item()
    end, {x}, 1)
    local g = mg.grad(function(a)
      return (projector(symmetric(a)) * mg.range(1, 9):reshape(3, 3)):sum()
    end)(x)
    assert(near(g:reshape(9), want, 1e-6))
    assert.is_true(mg.hessian(function(a) return a:eigh():sum() end, mg.eye(2)):abs():max():item()
      < 1e-12)
  end)

  it("refuses nan and infinities", function()
    assert(raises("eigh: x (2, 2) holds nan or infinities", mg.eigh, {{1, 0}, {nan, 1}}))
    assert(raises("eigh: matrix 2 of x (2, 1, 1) holds nan", mg.eigh, mg.tensor{{{1}}, {{huge}}}))
    assert(raises("eigh: x has shape (2, 3), expected square matrices", mg.eigh, mg.ones(2, 3)))
  end)
end)

describe("svd and pinv", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(7) end)

  local function with_values(m, n, values)
    local k = math.min(m, n)
    local U, V = mg.qr(mg.randn(m, k)), mg.qr(mg.randn(n, k))
    return (U * mg.tensor(values)):matmul(V.T)
  end

  it("give the matrix back", function()
    for _, s in ipairs{{1, 1}, {3, 3}, {7, 4}, {4, 7}, {70, 30}, {1, 4}} do
      for _, dtype in ipairs{"float64", "float32"} do
        local tol = dtype == "float64" and 1e-12 or 1e-4
        local m, n, k = s[1], s[2], math.min(s[1], s[2])
        local x = mg.randn(2, m, n):to(dtype)
        local U, S, Vh = x:svd()
        assert.same({2, m, k}, U.shape)
        assert.same({2, k, n}, Vh.shape)
        assert(near((U * S:unsqueeze(-2)):matmul(Vh), x, tol, tol))
        assert(same(S, (S:sort{descending = true})))
        local W, T, Z = x:svd{full_matrices = true}
        assert(near(T, S, tol))
        assert(near(W:matmul(W:swapaxes(-1, -2)), mg.eye(m):expand(2, m, m):to(dtype), tol, tol))
        assert(near(Z:matmul(Z:swapaxes(-1, -2)), mg.eye(n):expand(2, n, n):to(dtype), tol, tol))
        local p = x:pinv()
        assert(near(x:matmul(p):matmul(x), x, tol, tol))
        assert(near(p:matmul(x):matmul(p), p, tol, tol))
      end
    end
    for full, shapes in pairs{[true] = {{3, 3}, {0}, {0, 0}}, [false] = {{3, 0}, {0}, {0, 0}}} do
      local f = {mg.zeros(3, 0):svd{full_matrices = full}}
      for i, shape in ipairs(shapes) do assert.same(shape, f[i].shape) end
      if full then assert(exact(f[1], mg.eye(3))) end
    end
    assert.same({0, 3}, mg.zeros(3, 0):pinv().shape)
    assert(near(mg.pinv{{1, 2}, {2, 4}}, {{0.04, 0.08}, {0.08, 0.16}}, 1e-14))
    assert(exact(mg.pinv(mg.zeros(2, 3)), mg.zeros(3, 2)))
    assert(near(mg.pinv({{1, 0}, {0, 0.1}}, {rtol = 0.2}), {{1, 0}, {0, 0}}, 1e-14))
  end)

  it("have their derivatives, tall, square and wide", function()
    for _, s in ipairs{{3, 3}, {4, 2}, {2, 4}, {1, 3}} do
      local x = with_values(s[1], s[2], math.min(s[1], s[2]) == 3 and {5, 2, 1} or
        math.min(s[1], s[2]) == 2 and {3, 1} or {2})
      assert(differentiable(second(mg.svd), {x}, 1e-6))
      assert(differentiable(function(a) return (a:svd()) end, {x}, 1e-5))
      assert(differentiable(function(a) return (select(3, a:svd())) end, {x}, 1e-5))
      assert(differentiable(mg.pinv, {x}, 1e-6))
    end
    assert(differentiable(second(mg.svd), {mg.randn(2, 3, 2)}, 1e-5))
    assert(differentiable(mg.pinv, {mg.randn(2, 2, 3)}, 1e-5))
  end)

  it("have those of repeated and of no singular values, where they exist", function()
    local function norm(x) return (x:svd() * 0):sum() + select(2, x:svd()):square():sum() end
    for _, x in ipairs{mg.eye(3), mg.zeros(2, 3), with_values(4, 2, {1, 1}),
                       with_values(3, 3, {2, 0, 0})} do
      assert(near(mg.grad(norm)(x), 2 * x, 1e-10, 1e-12))
    end
    -- U Vh, the nearest orthogonal matrix, is smooth where singular values meet, but not at 0
    local function nearest(x)
      local U, _, Vh = x:svd()
      return U:matmul(Vh)
    end
    assert(differentiable(nearest, {with_values(3, 3, {3, 2, 1})}, 1e-6))
    local x = with_values(3, 2, {2, 2})
    local weights = mg.range(1, 6):reshape(3, 2)
    local want = helper.differences(function(at)
      return (nearest(at[1]) * weights):sum():item()
    end, {x}, 1)
    local g = mg.grad(function(a) return (nearest(a) * weights):sum() end)(x)
    assert(near(g:reshape(6), want, 1e-6))
    assert(differentiable(function(v) -- of rank 1 all the way
      return (v:unsqueeze(-1) * v):pinv()
    end, {mg.tensor{1, 2, -1}}, 1e-5))
  end)

  it("with full matrices have a gradient of S alone", function()
    local x = mg.Variable(mg.randn(4, 2))
    local want = mg.grad(function(a) return second(mg.svd)(a):sum() end)(x)
    local _, S = x:svd{full_matrices = true}
    S:sum():backward()
    assert(near(x.grad, want))
    local U = x:svd{full_matrices = true}
    assert(raises("svd: U and Vh have no gradient with full_matrices = true", function()
      U:sum():backward()
    end))
  end)

  it("refuse nan and infinities", function()
    assert(raises("svd: x (1, 2) holds nan or infinities", mg.svd, {{nan, 1}}))
    assert(raises("pinv: x (1, 2) holds nan or infinities", mg.pinv, {{1, -huge}}))
  end)
end)

describe("what is made of factors", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(8) end)

  it("cholesky_solve", function()
    local A, b = positive(2, 4, 4), mg.randn(2, 4, 3)
    local L = A:cholesky()
    local x = A:solve(b)
    assert(near(b:cholesky_solve(L), x, 1e-10))
    assert(near(b:cholesky_solve(L:swapaxes(-1, -2), {upper = true}), x, 1e-10))
    assert(near(b[{1, {}, 1}]:cholesky_solve(L[1]), x[{1, {}, 1}], 1e-10))
    assert(differentiable(mg.cholesky_solve, {mg.randn(3, 1), regular(3, 3)}))
    assert(differentiable(function(v, w) return v:cholesky_solve(w, {upper = true}) end,
      {mg.randn(2), regular(2, 2)}))
    assert(raises("cholesky_solve: L has shape (2, 3)", mg.cholesky_solve, mg.ones(2),
      mg.ones(2, 3)))
  end)

  it("lstsq, of full rank and not, tall and wide", function()
    local x, rest, rank = mg.lstsq({{1, 0}, {1, 1}, {1, 2}}, {1, 2, 4})
    assert(near(x, {5 / 6, 1.5}, 1e-14))
    assert(near(rest, 1 / 6, 1e-13))
    assert(exact(rank, 2))
    assert(near(mg.lstsq({{1, 1}}, {2}), {1, 1}, 1e-14))
    x, rest, rank = mg.lstsq({{1, 1}, {1, 1}}, {{1, 2}, {3, 2}})
    assert(near(x, {{1, 1}, {1, 1}}, 1e-13))
    assert(near(rest, {2, 0}, 1e-13))
    assert(exact(rank, 1))
    for _, s in ipairs{{5, 3}, {3, 5}, {4, 4}} do
      local A, b = mg.randn(2, s[1], s[2]), mg.randn(2, s[1], 2)
      assert(near(A:lstsq(b), A:pinv():matmul(b), 1e-9))
      assert.same({2, s[2]}, A:lstsq(b[{{}, {}, 1}]).shape)
      assert(differentiable(function(p, q) return (p:lstsq(q)) end, {A, b}, 1e-5))
      assert(differentiable(function(p, q) return (select(2, p:lstsq(q))) end, {A, b}, 1e-5))
    end
    local narrow = mg.rand{4, 2, dtype = "float32"}
    for _, A in ipairs{narrow, narrow:swapaxes(1, 2), narrow[{{}, {1, 1, 1}}]} do
      local b = mg.randn(A.shape[1])
      assert(near(A:lstsq(b), A:to("float64"):lstsq(b), 1e-13))
    end
    -- singular values count, not R's diagonal, which may be all 1
    local _
    local flat = mg.eye(60) - mg.triu(mg.ones(60, 60), 1)
    x, _, rank = flat:lstsq(mg.ones(60))
    assert(near(x, flat:pinv{rtol = 60 * 2 ^ -52}:matmul(mg.ones(60)), 1e-9))
    assert.equal(59, rank:item())
    for _, y in ipairs{1, 0.1} do
      local a = mg.tensor{{1, 1}, {0, y}}
      x, _, rank = a:lstsq({1, 1}, {rcond = 0.09})
      assert(near(x, a:pinv{rtol = 0.09}:matmul{1, 1}, 1e-12))
      assert.equal(y == 1 and 2 or 1, rank:item())
    end
    assert.same({0}, mg.lstsq(mg.zeros(3, 0), {1, 2, 3}).shape)
    assert(exact(mg.lstsq(mg.zeros(0, 2), mg.zeros(0)), {0, 0}))
    assert(raises("lstsq: A (2, 3) and b (3) do not fit", mg.lstsq, mg.ones(2, 3), {1, 2, 3}))
  end)

  it("matrix_power, trace and kron", function()
    local x = mg.tensor{{1, 1}, {1, 0}}
    assert(exact(x:matrix_power(10), {{89, 55}, {55, 34}}))
    assert(exact(x:matrix_power(-2), {{1, -1}, {-1, 2}}, 4))
    assert(exact(mg.stack{x, x}:matrix_power(0), {{{1, 0}, {0, 1}}, {{1, 0}, {0, 1}}}))
    for _, n in ipairs{-2, 1, 3, 6} do
      assert(differentiable(function(a) return a:matrix_power(n) end, {regular(2, 2)}, 1e-6))
    end
    assert(exact(mg.trace{{1, 2, 3}, {4, 5, 6}}, 6))
    assert(exact(mg.trace(mg.stack{x, 2 * x}), {1, 2}))
    assert(differentiable(mg.trace, {mg.randn(2, 3, 3)}))
    assert(exact(mg.kron({{1, 2}, {3, 4}}, {{0, 1}, {1, 0}}),
      {{0, 1, 0, 2}, {1, 0, 2, 0}, {0, 3, 0, 4}, {3, 0, 4, 0}}))
    assert(exact(mg.kron({1, 2}, {{1, 10}}), {{1, 10, 2, 20}}))
    assert(differentiable(mg.kron, {mg.randn(2, 1), mg.randn(2, 3)}))
  end)

  it("cdist", function()
    local x, y = mg.tensor{{0, 0}, {3, 4}}, mg.tensor{{0, 0}, {6, 8}, {3, 3}}
    assert(exact(x:cdist(y), {{0, 10, math.sqrt(18)}, {5, 5, 1}}, 2))
    assert(exact(x:cdist(y, {p = 1}), {{0, 14, 6}, {7, 7, 1}}))
    assert(exact(x:cdist(y, {p = huge}), {{0, 8, 3}, {4, 4, 1}}))
    assert(exact(x:cdist(y, {p = 0}), {{0, 2, 2}, {2, 2, 1}}))
    assert.same({5, 4, 3}, mg.randn(5, 4, 2):cdist(mg.randn(3, 2)).shape)
    assert(exact(mg.zeros(2, 0):cdist(mg.zeros(1, 0)), {{0}, {0}}))
    local none = mg.Variable(mg.zeros(4, 2, 0))    -- batch axes and the graph stay
    local apart = none:cdist(mg.zeros(1, 3, 0), {p = huge})
    assert.same({4, 2, 3}, apart.shape)
    apart:sum():backward()
    assert.same({4, 2, 0}, none.grad.shape)
    local same_row = mg.Variable(x)
    same_row:cdist(same_row):sum():backward()
    assert(near(same_row.grad, {{-1.2, -1.6}, {1.2, 1.6}}, 1e-14))
    for _, p in ipairs{1, 2, 3} do
      assert(differentiable(function(a, b) return a:cdist(b, {p = p}) end,
        {mg.randn(2, 3), mg.randn(2, 4, 3)}, 1e-5))
    end
    for _, n in ipairs{{3, 9, 19}, {18, 5, 300}, {6, 33, 1}} do
      local a, b = mg.randn(n[1], n[3]), mg.randn(n[2], n[3])
      local v, w = mg.Variable(a), mg.Variable(b)
      local length = (a:unsqueeze(-2) - b:unsqueeze(-3)):norm{axis = -1}
      local far = v:cdist(w)
      assert(near(far, length, 1e-12))
      far:sum():backward()
      local pull = (a:unsqueeze(-2) - b:unsqueeze(-3)) / length:unsqueeze(-1)
      assert(near(v.grad, pull:sum(-2), 1e-12))
      assert(near(w.grad, -pull:sum(-3), 1e-12))
    end
    -- by sums of squares where they are in range, else exact too
    for _, size in ipairs{1, 1e-200, 1e-309, 1e200, 0x1p1021} do
      local far = mg.cdist({{3 * size, 0}}, {{0, -4 * size}, {3 * size, 0}})
      assert(near(far / size, {{5, 0}}, 1e-14))
    end
    assert(exact(mg.cdist({{huge, 0}, {0, 1}}, {{0, 1}, {-huge, 0}, {0 / 0, 1}}),
      {{huge, huge, 0 / 0}, {0, huge, 0 / 0}}))
    local wide = mg.tensor({{3e30, 0}, {1e-30, 0}}, "float32")
    assert(near(wide:cdist({{0, 4e30}, {0, 0}}):to "float64" / {{1e30, 1e30}, {1e30, 1e-30}},
      {{5, 3}, {4, 1}}, 1e-6))
    -- what is infinitely far does not pull, nor what is as near as the least numbers
    local points, origin = mg.Variable{{3, 4}, {-huge, 0}, {0, 1e-305}, {0, 0}}, mg.Variable{{0, 0}}
    points:cdist(origin):sum():backward()
    assert(near(points.grad, {{0.6, 0.8}, {0, 0}, {0, 0}, {0, 0}}, 1e-15))
    assert(near(origin.grad, {{-0.6, -0.8}}, 1e-15))
    -- nor do no points at all, whatever was in memory before
    local many = mg.Variable(mg.randn(40, 50))
    local before = many + 1
    mg.eval(many, before)
    before:free()
    many:cdist(mg.zeros(0, 50)):sum():backward()
    assert(exact(many.grad, mg.zeros(40, 50)))
    -- where a point is not known neither are gradients
    local from, to = mg.Variable{{0 / 0, 1}, {2, 3}}, mg.Variable{{5, 7}}
    from:cdist(to):sum():backward()
    assert(exact(from.grad, {{0 / 0, 0 / 0}, {-0.6, -0.8}}, 2))
    assert(exact(to.grad, {{0 / 0, 0 / 0}}))
    assert(raises("cdist: x (2, 2) and y (1, 3) differ in their last axis", mg.cdist, x,
      mg.ones(1, 3)))
  end)
end)

describe("linear algebra", function()
  helper.guard(before_each, after_each)

  it("gives the same bits for any number of threads", function()
    mg.seed(4)
    local small, large, b = positive(300, 8, 8), positive(250, 250), mg.randn(250, 300)
    local function all()
      local list = {}
      for _, x in ipairs{small, large, small:to("float32")} do
        list[#list + 1] = x:cholesky()
        list[#list + 1] = x:inv()
        list[#list + 1] = x:det()
        for _, f in ipairs{mg.qr, mg.eigh, mg.svd} do
          for _, y in ipairs{f(x)} do list[#list + 1] = y end
        end
      end
      list[#list + 1] = large:solve(b)
      list[#list + 1] = b:triangular_solve(large)
      list[#list + 1] = large:solve(b[{{}, 1}])
      return list
    end
    local threads = mg.num_threads()
    finally(function() mg.set_num_threads(threads) end)
    mg.set_num_threads(1)
    local want = all()
    for _, n in ipairs{2, 5} do
      mg.set_num_threads(n)
      for i, y in ipairs(all()) do assert(same(y, want[i])) end
    end
  end)

  it("without memory fails as a whole, and leaves nothing", function()
    mg.seed(9)
    local x, b = positive(2, 3, 3), mg.randn(2, 3, 2)
    local function all(a)
      local l, V = a:eigh()
      local U, _, Vh = a:svd()
      local Q, R = a:qr()
      return a:cholesky():sum() + a:solve(b):sum() + a:inv():sum() + a:det():sum() +
        second(mg.slogdet)(a):sum() + (l:unsqueeze(-2) * V * V):sum() + (Q * R):sum() +
        (U:matmul(Vh)):sum() + a:pinv():sum() + a:lstsq(b):sum() + b:triangular_solve(a):sum()
    end
    local function run() return mg.grad(function(a) return mg.grad(all)(a):sum() end)(x) end
    local want = run()
    local n = 0
    while true do
      n = n + 1 + n // 12
      local before = helper.settle()
      mg._fail_at(n, 1 << 60)
      local ok, y = pcall(run)
      mg._fail_at(0)
      if ok then
        assert(same(y, want))
        break
      end
      assert.is_truthy(tostring(y):find "memory")
      assert.equal(before, helper.settle())
    end
    assert.is_true(n > 500)
  end)
end)

-- Up to 16 x 16 factors and triangles need no call of LAPACK.
describe("small matrices", function()
  helper.guard(before_each, after_each)

  -- A and an identity along the diagonal
  local function widened(A)
    local n = A.shape[1]
    local x = mg.eye(n + 20):to(A.dtype)
    x[{{1, n}, {1, n}}] = A
    return x
  end

  for _, dtype in ipairs{"float64", "float32"} do
    it("are factored and solved as large ones are, in " .. dtype, function()
      mg.seed(5)
      local tol = dtype == "float64" and 1e-12 or 2e-5
      for _, n in ipairs{1, 2, 3, 5, 8, 13, 16} do
        local function part(x) return x[{{1, n}, {1, n}}] end
        local A = regular(n, n):flip(1):to(dtype) -- the largest are not on the diagonal
        local P = positive(n, n):to(dtype)
        local b = mg.randn(n + 20, 3):to(dtype)
        local W = widened(A)
        assert(near(P:cholesky(), part(widened(P):cholesky()), tol, tol))
        assert(near(A:det(), W:det(), tol, tol))
        local Q, R = A:qr()
        local Q2, R2 = W:qr()
        assert(near(Q, part(Q2), tol, tol) and near(R, part(R2), tol, tol))
        assert(near(A:inv(), part(W:inv()), tol, tol))
        assert(near(A:solve(b[{{1, n}}]), W:solve(b)[{{1, n}}], tol, tol))
        local L = P:cholesky()
        for _, way in ipairs{{upper = false}, {upper = false, transpose = true},
                             {upper = true}, {upper = true, transpose = true},
                             {upper = false, unitriangular = true}} do
          local T = way.upper and L.T or L
          assert(near(b[{{1, n}}]:triangular_solve(T, way),
                      b:triangular_solve(widened(T), way)[{{1, n}}], tol, tol))
        end
      end
    end)
  end

  it("have orthogonal factors of every shape, small and large numbers, and zeros", function()
    mg.seed(6)
    for m = 1, 9 do
      for n = 1, m do
        for _, scale in ipairs{1, 1e-300, 1e300, 0} do
          local A = (mg.rand(2, m, n) - 0.5) * scale
          local Q, R = A:qr()
          assert(near(Q:swapaxes(-1, -2):matmul(Q), mg.eye(n):expand(2, n, n), 1e-14, 1e-14))
          assert(near(Q:matmul(R / (scale + 1e-320)) * scale, A, 1e-14, 1e-14 * scale))
          assert(same(R, R:triu()))
        end
      end
    end
    local Q, R = mg.qr{{1, 2}, {nan, 3}}
    assert.is_true(Q:isnan():any():item() and R:isnan():any():item())
  end)
end)

-- A library of `source` in dir
local function library(dir, name, source, more)
  local path = ("%s/%s"):format(dir, name)
  child.write(path .. ".c", source)
  assert(os.execute(("cc -w -shared -fPIC -o %s %s.c %s"):format(path, path, more or "")))
  return path
end

local names = [[
  void cblas_sgemm(void) {}
  void cblas_dgemm(void) {}
  void sgesdd_(void) {}
  void dgesdd_(void) {}
]]

local batch = [[
  local mg = require "moongrad"
  mg.set_num_threads(4)
  mg.eval(mg.cholesky(mg.eye(40):expand(64, 40, 40)))
  print "done"
]]

describe("an OpenBLAS", function()
  it("built for a single thread is called by one at a time", function()
    local dir = child.folder()
    library(dir, "libopenblas.so.0", names .. [[
      #include <unistd.h>
      static int under_way;
      int openblas_get_parallel(void) { return 0; }
      void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info) {
        if (__atomic_add_fetch(&under_way, 1, __ATOMIC_RELAXED) > 1) write(1, "two\n", 4);
        usleep(1000);
        __atomic_sub_fetch(&under_way, 1, __ATOMIC_RELAXED);
        *info = 0;
      }
    ]])
    local text, ok = child.run(batch, nil, "LD_LIBRARY_PATH=" .. dir)
    assert.is_true(ok, text)
    assert.equal("done\n", text)
  end)

  it("whose OpenMP is the host's is kept to a thread there", function()
    local dir = child.folder()
    local openmp = [[
      static _Thread_local int threads = 8;
      int omp_get_max_threads(void) { return threads; }
      void omp_set_num_threads(int n) { threads = n; }
    ]]
    library(dir, "libgomp-like.so", openmp)
    local host = library(dir, "libomp-like.so", openmp)
    library(dir, "libopenblas.so.0", names .. [[
      #include <unistd.h>
      extern int omp_get_max_threads(void);
      int openblas_get_parallel(void) { return 2; }
      void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info) {
        if (omp_get_max_threads() != 1) write(1, "many\n", 5);
        *info = 0;
      }
    ]], ("-L%s -l:libgomp-like.so"):format(dir))
    for _, first in ipairs{"", host} do
      local text, ok = child.run(batch, nil,
        ('LD_LIBRARY_PATH=%s LD_PRELOAD="$LD_PRELOAD %s"'):format(dir, first))
      assert.is_true(ok, text)
      assert.equal("done\n", text)
    end
  end)

  it("whose integers have 64 bits is not called", function()
    local dir = child.folder()
    library(dir, "libopenblas.so.0", names .. [[
      const char *openblas_get_config(void) { return "OpenBLAS 0.3.21  USE64BITINT Haswell"; }
      void dpotrf_(const char *uplo, const long *n, double *a, const long *lda, long *info) {
        *info = 0;
      }
    ]])
    local text = child.run(batch, nil, "LD_LIBRARY_PATH=" .. dir)
    assert(text:find("cholesky: needs LAPACK.*integers of 64 bits"), text)
  end)
end)
