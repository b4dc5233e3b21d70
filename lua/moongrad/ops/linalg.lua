-- linalg.lua -- products beside the core's matmul, and what is made of its factors.

local check_list = require "moongrad.list"

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where

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

  -- Each element of the product is of the two that follow, round the end.
  define("cross(a: array, b: array, {axis: int = -1})",
    "cross product along an axis of 3; the others broadcast",
    function(a, b, axis)
      local function turned(x, k)
        local at = axis < 0 and axis + x.ndim + 1 or axis
        if (x.shape[at] or 0) ~= 3 then
          raise("cross: axis %d of shape %s has not 3 elements", axis, args.text(x.shape))
        end
        return x:roll(-k, axis)
      end
      return turned(a, 1) * turned(b, 2) - turned(a, 2) * turned(b, 1)
    end)

  -- Rows less their means, twice: what is left as the first was rounded is a constant to gradients.
  local function centred(x)
    local off = x - x:mean{axis = 2, keepdims = true}
    return off - off:detach():mean{axis = 2, keepdims = true}
  end

  define("cov(x: float, {correction: number(..) = 1})",
    "(D, D): covariances of the rows of x (D, N), by N - correction; of a 1-d x the variance",
    function(x, correction)
      if x.ndim < 1 or x.ndim > 2 then
        raise("cov: x must be (D, N) or (N), got shape %s", args.text(x.shape))
      end
      local single, n = x.ndim == 1, x.shape[x.ndim]
      if single then x = x:unsqueeze(1) end
      local off = centred(x)
      local c = off:matmul(off.T) / math.max(n - correction, 0)
      return single and c:reshape{} or c
    end)

  -- By lengths, not by variances, which might overflow
  define("corrcoef(x: float)", "(D, D): correlations of the rows of x (D, N), in -1..1",
    function(x)
      if x.ndim ~= 2 then raise("corrcoef: x must be (D, N), got shape %s", args.text(x.shape)) end
      local off = centred(x)
      local unit = off / off:norm{axis = 2, keepdims = true}
      local r = unit:matmul(unit.T)
      return r - (r - r:clamp{min = -1, max = 1}):detach() -- what is rounded beyond has slopes
    end)

  define("tensordot(a: array, b: array, axes: int(0..) | table = 2)",
    "sums over the last axes of a and the first of b, so many, or over {of a, of b}, lists of axes",
    function(a, b, axes)
      local of_a, of_b = {}, {}
      local function read(list, x, name, to)
        if type(list) == "table" then check_list("tensordot", "the axes of " .. name, list) end
        for i, v in ipairs(type(list) == "table" and list or {list}) do
          local at = math.tointeger(v)
          at = at and at < 0 and at + x.ndim + 1 or at
          if not at or at < 1 or at > x.ndim then
            raise("tensordot: axis %s is out of range for %s %s",
              type(v) == "number" and tostring(v) or "a " .. type(v), name, args.text(x.shape))
          end
          to[i] = at
        end
      end
      if type(axes) == "number" then
        if axes > a.ndim or axes > b.ndim then
          raise("tensordot: a %s and b %s have no %d axes", args.text(a.shape), args.text(b.shape),
            axes)
        end
        for i = 1, axes do of_a[i], of_b[i] = a.ndim - axes + i, i end
      else
        if check_list("tensordot", "the table of axes", axes) ~= 2 then
          raise "tensordot: axes must be a number or {of a, of b}"
        end
        read(axes[1], a, "a", of_a)
        read(axes[2], b, "b", of_b)
      end
      local s, t = a.shape, b.shape
      for i = 1, math.max(#of_a, #of_b) do
        if s[of_a[i]] ~= t[of_b[i]] or not of_a[i] or not of_b[i] then
          raise("tensordot: a %s and b %s do not fit along axes %s and %s", args.text(s),
            args.text(t), args.text(of_a), args.text(of_b))
        end
      end
      -- the axes that are kept and their sizes
      local function kept(shape, summed)
        local is, axis, size = {}, {}, {}
        for _, k in ipairs(summed) do is[k] = true end
        for k, d in ipairs(shape) do
          if not is[k] then axis[#axis + 1], size[#size + 1] = k, d end
        end
        return axis, size
      end
      local rows, m = kept(s, of_a)
      local columns, n = kept(t, of_b)
      local inner = 1
      for _, k in ipairs(of_a) do inner = inner * s[k] end
      table.move(of_a, 1, #of_a, #rows + 1, rows)
      table.move(columns, 1, #columns, #of_b + 1, of_b)
      if a.ndim > 0 then a = a:permute(rows) end
      if b.ndim > 0 then b = b:permute(of_b) end
      local c = a:reshape(args.product(m), inner):matmul(b:reshape(inner, args.product(n)))
      return c:reshape(table.move(n, 1, #n, #m + 1, m))
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
    "x of L L' x = b (upper: L' L x = b): L (..., n, n) triangular, b as of solve",
    function(b, L, upper)
      check_matrices("cholesky_solve", "L", L, true)
      local half = b:triangular_solve(L, {upper = upper, transpose = upper})
      return half:triangular_solve(L, {upper = upper, transpose = not upper})
    end)

  -- By QR where all of the batch have full rank, else by pinv. R's diagonal and a bound by its
  -- inverse spare the singular values where they tell.
  define("lstsq(A: float, b: float, {rcond: number(0..)})",
    "x of least |A x - b|, of these the shortest; |A x - b|^2; rank: A (..., m, n), " ..
    "b (..., m, k), or vectors, (m) or of A's shape without its last axis; below rcond " ..
    "(max(m, n) eps) of the largest is 0",
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
      A, b = table.unpack(args.alike{A, b})
      local k, full, x, rank = math.min(m, n), false, nil, nil
      table.remove(rows)
      if A.size > 0 then
        local Q, R = mg.qr(m < n and swapped(A) or A)
        local r, both = R:detach(), {-2, -1}
        local d = r:diagonal{axis1 = -2, axis2 = -1}:abs()
        full = mg._truth(d:amin(-1):le(d:amax(-1) * rcond):any():logical_not())
        local sure = full
        if full then                               -- the least singular value may be below all of d
          local inverse = mg.eye(k, {dtype = r.dtype}):expand(r.shape)
            :triangular_solve(r, {upper = true})
          local bound = r:abs():sum(both) * inverse:abs():sum(both)
          sure = not mg._truth((bound * rcond):ge(1):any())
        end
        if not sure then
          local _, S = A:detach():svd()
          rank = S:gt(S:amax{axis = -1, keepdims = true} * rcond):to("int64"):sum(-1)
          full = full and mg._truth(rank:eq(k):all())
        end
        if full and m < n then
          x = Q:matmul(b:triangular_solve(R, {upper = true, transpose = true}))
        elseif full then
          x = swapped(Q):matmul(b):triangular_solve(R, {upper = true})
        end
      end
      rank = rank or mg.full(rows, full and k or 0, "int64")
      x = x or A:pinv{rtol = rcond}:matmul(b)
      local rest = (A:matmul(x) - b):square():sum(-2)
      if vector then return x:squeeze(-1), rest:squeeze(-1), rank end
      return x, rest, rank
    end)

  define("matrix_power(x: float, n: int)",
    "x times itself, n times: x (..., m, m); of n < 0 the inverse, of 0 the identity",
    function(x, n)
      local m = check_matrices("matrix_power", "x", x, true)
      if n == 1 then return args.own(x) end
      local power
      if n == math.mininteger then                -- there is no -n
        x = x:inv()
        x, n = x:matmul(x), -(n // 2)
      elseif n < 0 then
        x, n = x:inv(), -n
      end
      while n > 0 do
        if n % 2 == 1 then power = power and power:matmul(x) or x end
        n = n // 2
        if n > 0 then x = x:matmul(x) end
      end
      return power or mg.eye(m, {dtype = x.dtype}):broadcast_to(x.shape)
    end)

  -- Al-Mohy and Higham, "A new scaling and squaring algorithm for the matrix exponential", 2010:
  -- Pade's approximant of degree 13 where the 1-norm is below 5.37, then squared.
  local PADE = {64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800,
                129060195264000, 10559470521600, 670442572800, 33522128640, 1323241920, 40840800,
                960960, 16380, 182, 1}

  define("matrix_exp(x: float)", "the exponential of matrices (..., n, n)", function(x)
    local n = check_matrices("matrix_exp", "x", x, true)
    if x.size == 0 then return x * 1 end
    local norm = x:detach():abs():sum(-2):amax{axis = -1, keepdims = true}:unsqueeze(-1)
    local largest, finite = norm:max():item(), nil
    if largest ~= largest or largest == math.huge then -- nan, but not for the others
      finite = norm:lt(math.huge)
      x, norm = where(finite, x, 0), where(finite, norm, 0)
      largest = norm:max():item()
    end
    local most = largest > 5.37 and math.ceil(math.log(largest / 5.37, 2)) or 0
    local squarings = most                        -- of each: too many cost digits
    if x.ndim > 2 and most > 0 then squarings = (norm / 5.37):log2():ceil():clamp{min = 0} end
    local one, a = mg.eye(n, {dtype = x.dtype}), x
    if most > 0 then a = x * 2.0 ^ -squarings end
    local a2 = a:matmul(a)
    local a4 = a2:matmul(a2)
    local a6 = a4:matmul(a2)
    local odd = a6:matmul(a6 * PADE[14] + a4 * PADE[12] + a2 * PADE[10]) + a6 * PADE[8] +
      a4 * PADE[6] + a2 * PADE[4] + one * PADE[2]
    local u = a:matmul(odd)
    local v = a6:matmul(a6 * PADE[13] + a4 * PADE[11] + a2 * PADE[9]) + a6 * PADE[7] +
      a4 * PADE[5] + a2 * PADE[3] + one * PADE[1]
    local e = mg.solve(v - u, v + u)
    for i = 1, most do
      local squared = e:matmul(e)
      e = squarings == most and squared or where(squarings:ge(i), squared, e)
    end
    return finite and where(finite, e, 0 / 0) or e
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

  define("cdist(x: float, y: float, {p: number(0..inf) = 2})",
    "p-norms of the differences of rows: x (..., m, d), y (..., n, d), the result (..., m, n)",
    function(x, y, p)
      local _, d = check_matrices("cdist", "x", x)
      local _, e = check_matrices("cdist", "y", y)
      if d ~= e then
        raise("cdist: x %s and y %s differ in their last axis", args.text(x.shape),
          args.text(y.shape))
      end
      if d == 0 then                               -- one column of sums of nothing
        x, y = x:sum{axis = -1, keepdims = true}, y:sum{axis = -1, keepdims = true}
      end
      if p == 2 and d > 0 then
        local wide = mg._distance(x:to "float64", y:to("float64"):swapaxes(-1, -2))
        return x.dtype == y.dtype and wide:to(x.dtype) or wide
      end
      return (x:unsqueeze(-2) - y:unsqueeze(-3)):norm{p = p, axis = -1}
    end)
end
