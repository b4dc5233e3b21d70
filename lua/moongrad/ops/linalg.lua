-- linalg.lua -- products beside the core's matmul, and what is made of its factors.

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function check_vectors(op, a, b)
    if a.ndim ~= 1 or b.ndim ~= 1 then
      raise("%s: %s and %s are not both 1-d", op, args.text(a.shape), args.text(b.shape))
    end
  end

  -- A fused pass: the product never exists as an array.
  define("dot(a: array, b: array)", "inner product of two 1-d Variables", function(a, b)
    check_vectors("dot", a, b)
    if a.size ~= b.size then
      raise("dot: %s and %s differ in length", args.text(a.shape), args.text(b.shape))
    end
    return (a * b):sum()
  end)

  define("outer(a: array, b: array)",
    "(n, m): every element of a times every element of b, both 1-d",
    function(a, b)
      check_vectors("outer", a, b)
      return a:reshape(a.size, 1) * b
    end)

  -- ---- of factors -----------------------------------------------------------------------------

  local function swapped(x) return x:swapaxes(-1, -2) end

  local function check_matrices(op, name, x, square)
    local shape = x.shape
    local n = #shape
    if n < 2 or square and shape[n] ~= shape[n - 1] then
      raise("%s: %s has shape %s, expected %smatrices", op, name, args.text(shape),
        square and "square " or "")
    end
    return shape[n - 1], shape[n]
  end

  define("cholesky_solve(b: float, L: float, {upper: bool = false})",
    "x of L L' x = b (upper: L' L x = b): L (..., n, n) triangular, b (..., n, k) or (n)",
    function(b, L, upper)
      check_matrices("cholesky_solve", "L", L, true)
      local half = b:triangular_solve(L, {upper = upper, transpose = upper})
      return half:triangular_solve(L, {upper = upper, transpose = not upper})
    end)

  -- By QR where all of the batch have full rank, which R's diagonal tells; else by pinv.
  define("lstsq(A: float, b: float, {rcond: number(0..)})",
    "x of least |A x - b|, of these the shortest; |A x - b|^2; rank: A (..., m, n), " ..
    "b (..., m, k) or (m); below rcond (max(m, n) eps) of the largest is 0",
    function(A, b, rcond)
      local m, n = check_matrices("lstsq", "A", A)
      local rows = A.shape
      rows[#rows] = nil
      local vector = b.ndim == 1 or args.text(b.shape) == args.text(rows)
      if b.ndim == 0 or b.shape[b.ndim - (vector and 0 or 1)] ~= m then
        raise("lstsq: A %s and b %s do not fit", args.text(A.shape), args.text(b.shape))
      end
      if vector then b = b:unsqueeze(-1) end
      rcond = rcond or math.max(m, n) * (A.dtype == "float32" and 2.0 ^ -23 or 2.0 ^ -52)
      local full, x = false, nil
      if A.size > 0 then
        local Q, R = mg.qr(m < n and swapped(A) or A)
        local d = R:detach():diagonal{axis1 = -2, axis2 = -1}:abs()
        full = mg._truth(d:amin(-1):le(d:amax(-1) * rcond):any():logical_not())
        if full and m < n then
          x = Q:matmul(b:triangular_solve(R, {upper = true, transpose = true}))
        elseif full then
          x = swapped(Q):matmul(b):triangular_solve(R, {upper = true})
        end
      end
      table.remove(rows)
      local rank
      if full or A.size == 0 then
        rank = mg.full(rows, full and math.min(m, n) or 0, "int64")
      else
        local _, S = A:detach():svd()
        rank = S:gt(S:amax{axis = -1, keepdims = true} * rcond):to("int64"):sum(-1)
      end
      x = x or A:pinv{rtol = rcond}:matmul(b)
      local rest = (A:matmul(x) - b):square():sum(-2)
      if vector then return x:squeeze(-1), rest:squeeze(-1), rank end
      return x, rest, rank
    end)

  define("matrix_power(x: float, n: int)",
    "x times itself, n times: x (..., m, m); of n < 0 the inverse, of 0 the identity",
    function(x, n)
      local m = check_matrices("matrix_power", "x", x, true)
      if n < 0 then x, n = x:inv(), -n end
      local power
      while n > 0 do
        if n % 2 == 1 then power = power and power:matmul(x) or x end
        n = n // 2
        if n > 0 then x = x:matmul(x) end
      end
      return power or mg.eye(m, {dtype = x.dtype}):broadcast_to(x.shape)
    end)

  define("trace(x: array)", "sum of the diagonals of matrices (..., m, n)", function(x)
    check_matrices("trace", "x", x)
    return x:diagonal{axis1 = -2, axis2 = -1}:sum(-1)
  end)

  define("kron(a: array, b: array)",
    "Kronecker product: every element of a times all of b, block by block",
    function(a, b)
      local n = math.max(a.ndim, b.ndim)
      local p, q, r = a.shape, b.shape, {}
      for _ = #p + 1, n do table.insert(p, 1, 1) end
      for _ = #q + 1, n do table.insert(q, 1, 1) end
      local wide, high = {}, {}
      for i = 1, n do
        wide[2 * i - 1], wide[2 * i] = p[i], 1
        high[2 * i - 1], high[2 * i] = 1, q[i]
        r[i] = p[i] * q[i]
      end
      if 2 * n > 8 then raise("kron: %d axes, at most 4", n) end
      return (a:reshape(wide) * b:reshape(high)):reshape(r)
    end)

  define("cdist(x: float, y: float, {p: number(0..) = 2})",
    "p-norms of the differences of rows: x (..., m, d), y (..., n, d), the result (..., m, n)",
    function(x, y, p)
      local m, d = check_matrices("cdist", "x", x)
      local n, e = check_matrices("cdist", "y", y)
      if d ~= e then
        raise("cdist: x %s and y %s differ in their last axis", args.text(x.shape),
          args.text(y.shape))
      end
      if d == 0 then x, y = mg.zeros{m, 1, dtype = x.dtype}, mg.zeros{n, 1, dtype = y.dtype} end
      return (x:unsqueeze(-2) - y:unsqueeze(-3)):norm{p = p, axis = -1}
    end)
end
