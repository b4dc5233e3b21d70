-- args.lua -- small helpers that the groups of ops share. Arguments are read by signatures.

return function(mg)
  local raise, where = mg.raise, mg.where
  local args = {}

  -- A shape as the core writes it: "(2, 3)".
  function args.text(shape)
    return "(" .. table.concat(shape, ", ") .. ")"
  end

  -- The row of V that pads; -1 is the last.
  function args.padding(op, row, V)
    local at = row < 0 and row + V + 1 or row
    if at < 1 or at > V then raise("%s: padding_idx %d is not among %d rows", op, row, V) end
    return at
  end

  -- A positive number for ops on x, in whose dtype it might be 0 or infinite: the nearest that is
  -- neither.
  local LEAST = {float32 = 0x1p-149, float64 = 0x1p-1074}
  local MOST = {float32 = 0x1.fffffep127, float64 = 0x1.fffffffffffffp1023}
  function args.positive(v, x)
    local dtype = LEAST[x.dtype] and x.dtype or mg.Config.dtype
    return math.max(LEAST[dtype], math.min(v, MOST[dtype]))
  end

  -- x as floats: sums of whole numbers wrap.
  function args.float(x)
    return LEAST[x.dtype] and x or x:to(mg.Config.dtype)
  end

  -- Will an op on x be recorded?
  function args.is_tracked(x)
    return mg.Config.enable_backprop and x.requires_grad
  end

  -- The axes (a list, or nil for all) of a shape, in order.
  function args.axes(axes, shape)
    local list = {}
    for i = 1, axes and #axes or #shape do list[i] = axes and axes[i] or i end
    table.sort(list)
    return list
  end

  -- shape after a reduction of axes, an ordered list.
  function args.reduced(shape, axes, keepdims)
    for k = #axes, 1, -1 do
      if not keepdims then
        table.remove(shape, axes[k])
      elseif shape[axes[k]] then
        shape[axes[k]] = 1
      end
    end
    return shape
  end

  function args.product(shape, first, last)
    local n = 1
    for i = first or 1, last or #shape do n = n * shape[i] end
    return n
  end

  -- first..last of an axis.
  function args.narrow(x, axis, first, last)
    local index = {}
    for i = 1, axis - 1 do index[i] = {} end
    index[axis] = {first, last}
    return x[index]
  end

  -- x seen as (outer, n, inner) around an axis.
  function args.around(x, axis)
    local shape = x.shape
    return args.product(shape, 1, axis - 1), shape[axis], args.product(shape, axis + 1)
  end

  -- 1..n as int64, whatever the default dtype can hold.
  function args.count(n)
    return mg.range(1, n, {dtype = "int64"})
  end

  -- Do two shapes broadcast?
  function args.fit(a, b)
    for i = 0, math.min(#a, #b) - 1 do
      local m, n = a[#a - i], b[#b - i]
      if m ~= n and m ~= 1 and n ~= 1 then return false end
    end
    return true
  end

  -- A number or an array as x's dtype. Floats are rounded; what whole numbers or bools cannot hold
  -- is refused.
  function args.held(op, value, x)
    local dtype = x.dtype
    local y, fits
    if mg.is_variable(value) then
      y = value:to(dtype)
      fits = dtype:find "^float" or value.dtype == dtype or mg._truth(y:eq(value):all())
    elseif dtype:find "^float" then
      y, fits = value, true
    else
      local most = dtype == "bool" and 1 or dtype == "uint8" and 255 or math.maxinteger
      y = math.tointeger(value)
      fits = y and y <= most and (y >= 0 or dtype == "int64")
    end
    if not fits then raise("%s: a value that %s cannot hold", op, dtype) end
    return y
  end

  -- x as a Variable of its own, where an op finds nothing to do: what is written into a result, or
  -- frees it, leaves the argument as it is.
  function args.own(x) return x:reshape(x.shape) end

  function args.same_shape(op, name_a, a, name_b, b)
    local s, t = args.text(a.shape), args.text(b.shape)
    if s ~= t then
      raise("%s: %s %s and %s %s have different shapes", op, name_a, s, name_b, t)
    end
  end

  args.REDUCTION = 'reduction: "mean" | "sum" | "none" = "mean"'

  function args.reduce_loss(loss, how)
    return how == "mean" and loss:mean() or how == "sum" and loss:sum() or loss
  end

  -- x and y; whole numbers of the other's width where that is float, as operators take them
  function args.beside(x, y)
    local float = x.dtype:find "^float"
    if float == y.dtype:find "^float" then return x, y end
    if float then return x, y:to(x.dtype) end
    return x:to(y.dtype), y
  end

  -- A list of arrays; where one is float all of the widest float among them, so that the digits of
  -- a result do not depend on which of them an op takes together first.
  function args.alike(xs)
    local dtype
    for _, x in ipairs(xs) do
      if x.dtype == "float64" or x.dtype == "float32" and not dtype then dtype = x.dtype end
    end
    for i, x in ipairs(xs) do xs[i] = dtype and x:to(dtype) or x end
    return xs
  end

  -- (N, 1) beside (N) would quietly make an (N, N) loss: shapes must agree, a 0-d one fits all.
  function args.check_pair(op, name_a, a, name_b, b)
    if a.ndim > 0 and b.ndim > 0 then args.same_shape(op, name_a, a, name_b, b) end
  end

  -- logsumexp(x) - top, and top, the largest along these axes, which are kept: shifted by it no exp
  -- overflows, and what is subtracted from the logarithm loses no digits to a large top.
  function args.log_sum(x, along)
    local top = x:detach():amax(along)
    return mg._subz(x, top):exp():sum(along):log(), top
  end

  -- Labels or indices as int64, every one within 1..n. Where one may also be `ignored`, it becomes
  -- 1, and which are not follows; nil where all are not.
  function args.labels(op, name, t, n, ignored)
    local kept
    if t.size > 0 and mg._recording() then
      local function inside() return t:ge(1):logical_and(t:le(n)):all() end
      if ignored and (ignored >= 1 and ignored <= n or not mg._choose(inside())) then
        kept = t:ne(ignored)
        t = where(kept, t, 1)
      end
      if kept or not ignored then mg._truth(inside()) end -- else f is called, and raises
    elseif t.size > 0 then
      local low, high = t:min():item(), t:max():item()
      if ignored and (low < 1 or high > n or ignored >= 1 and ignored <= n) then
        kept = t:ne(ignored)
        t = where(kept, t, 1)
        low, high = t:min():item(), t:max():item()
      end
      if low < 1 or high > n then
        for i, v in ipairs(t:reshape(t.size):totable()) do
          if v < 1 or v > n then
            raise("%s: %s %d at position %d is %s", op, name, v, i,
              n == math.maxinteger and "below 1" or "not in 1.." .. n)
          end
        end
      end
    end
    return t:to("int64"), kept
  end

  return args
end
