-- pooling.lua -- windows over the last axes, the largest or the average in each; other sizes.
--
-- The core pools over two axes; of one, the axis before has windows of one element.

return function(mg, args)
  local define, raise = mg.define, mg.raise
  local ONE, NONE = {1, 1}, {0, 0}
  local FORMS = {"(N, C, L) or (C, L)", "(N, C, H, W) or (C, H, W)"}

  local function check_rank(op, x, axes)
    local rank = x.ndim
    if rank ~= axes + 1 and rank ~= axes + 2 then
      raise("%s: x must be %s, got shape %s", op, FORMS[axes], args.text(x.shape))
    end
  end

  -- A whole number for one axis as the core takes it: the axis before gets `other`.
  local function pair(n, other) return {other, n} end

  -- The shape that windows of these sizes over the last two axes lead to.
  local function windows(op, x, axes, kernel, stride, padding, dilation, ceil_mode)
    check_rank(op, x, axes)
    local shape = x.shape
    for k = 3 - axes, 2 do
      local at = #shape - 2 + k
      local n, s, p, width = shape[at], stride[k], padding[k], (kernel[k] - 1) * dilation[k] + 1
      if 2 * p > kernel[k] then
        raise("%s: padding %d is more than half of kernel %d", op, p, kernel[k])
      end
      local last = (n + 2 * p - width + (ceil_mode and s - 1 or 0)) // s
      if ceil_mode and last * s >= n + p then last = last - 1 end
      if n < 1 or last < 0 then
        raise("%s: x %s is smaller than a window of %d along axis %d", op, args.text(x.shape),
          width, at)
      end
      shape[at] = last + 1
    end
    return shape
  end

  -- Options of a kind, which is pair or int
  local function max_options(kind)
    return ("stride: %s(1..) = kernel, padding: %s(0..) = 0, dilation: %s(1..) = 1, " ..
      "ceil_mode: bool = false})"):gsub("%%s", kind)
  end

  local function avg_options(kind)
    local divisor = kind == "pair" and ", divisor_override: int(1..)})" or "})"
    return ("stride: %s(1..) = kernel, padding: %s(0..) = 0, ceil_mode: bool = false, " ..
      "count_include_pad: bool = true" .. divisor):gsub("%%s", kind)
  end

  local function max_pool(op, x, axes, kernel, stride, padding, dilation, ceil_mode)
    local dims = windows(op, x, axes, kernel, stride, padding, dilation, ceil_mode)
    return mg._max_pool(x, dims, kernel, stride, padding, dilation)
  end

  local function avg_pool(op, x, axes, kernel, stride, padding, ceil_mode, count, divisor)
    if divisor and not count then
      raise("%s: count_include_pad = false is of no use beside divisor_override", op)
    end
    local dims = windows(op, x, axes, kernel, stride, padding, ONE, ceil_mode)
    return mg._avg_pool(x, dims, kernel, stride, padding, count, divisor or 0)
  end

  define("max_pool2d(x: float, kernel: pair(1..), {" .. max_options "pair",
    "the largest of each window of x (N, C, H, W); nan wins, padding never; a window that " ..
    "ceil_mode adds begins before the padding behind",
    function(x, ...) return max_pool("max_pool2d", x, 2, ...) end)

  define("max_pool1d(x: float, kernel: int(1..), {" .. max_options "int",
    "the largest of each window of x (N, C, L), as max_pool2d",
    function(x, kernel, stride, padding, dilation, ceil_mode)
      return max_pool("max_pool1d", x, 1, pair(kernel, 1), pair(stride, 1), pair(padding, 0),
        pair(dilation, 1), ceil_mode)
    end)

  define("avg_pool2d(x: float, kernel: pair(1..), {" .. avg_options "pair",
    "the average of each window of x (N, C, H, W), padding counted as zeros or not at all",
    function(x, ...) return avg_pool("avg_pool2d", x, 2, ...) end)

  define("avg_pool1d(x: float, kernel: int(1..), {" .. avg_options "int",
    "the average of each window of x (N, C, L), as avg_pool2d",
    function(x, kernel, stride, padding, ...)
      return avg_pool("avg_pool1d", x, 1, pair(kernel, 1), pair(stride, 1), pair(padding, 0), ...)
    end)

  -- ---- windows that share an axis out among them -----------------------------------------------

  local function shared_out(op, x, axes, n)
    check_rank(op, x, axes)
    local shape = x.shape
    for k = 1, axes do
      local at = #shape - axes + k
      if shape[at] < 1 then raise("%s: x has shape %s", op, args.text(shape)) end
      shape[at] = n[k]
    end
    return shape
  end

  local function adaptive_max(op, x, axes, n)
    return mg._max_pool(x, shared_out(op, x, axes, n), NONE, ONE, NONE, ONE)
  end

  local function adaptive_avg(op, x, axes, n)
    return mg._avg_pool(x, shared_out(op, x, axes, n), NONE, ONE, NONE, false, 0)
  end

  define("adaptive_max_pool2d(x: float, n: pair(1..))",
    "the largest of each of n by n windows that share x (N, C, H, W) out; n or {h, w}",
    function(x, n) return adaptive_max("adaptive_max_pool2d", x, 2, n) end)

  define("adaptive_max_pool1d(x: float, n: int(1..))",
    "the largest of each of n windows that share x (N, C, L) out",
    function(x, n) return adaptive_max("adaptive_max_pool1d", x, 1, {n}) end)

  define("adaptive_avg_pool2d(x: float, n: pair(1..))",
    "the average of each of n by n windows that share x (N, C, H, W) out; n or {h, w}",
    function(x, n) return adaptive_avg("adaptive_avg_pool2d", x, 2, n) end)

  define("adaptive_avg_pool1d(x: float, n: int(1..))",
    "the average of each of n windows that share x (N, C, L) out",
    function(x, n) return adaptive_avg("adaptive_avg_pool1d", x, 1, {n}) end)

  -- ---- three axes -----------------------------------------------------------------------------

  -- Windows of blocks are windows of planes, and then of rows of these: the largest of all is the
  -- largest of the largest, and an average counts what stands in all, axis by axis.

  local function triple(op, name, v)
    if #v ~= 1 and #v ~= 3 then
      raise("%s: %s has %d numbers, expected one or three", op, name, #v)
    end
    return #v == 3 and v or {v[1], v[1], v[1]}
  end

  -- pool(v, k) of the last two axes of x, k = 2, then of the one before, k = 1, as axis 3 of 4
  local function by_axes(op, x, pool)
    local s = x.shape
    local rank = #s
    if rank ~= 4 and rank ~= 5 then
      raise("%s: x must be (N, C, D, H, W) or (C, D, H, W), got shape %s", op, args.text(s))
    end
    local planes = args.product(s, 1, rank - 3)
    x = pool(x:reshape(planes, s[rank - 2], s[rank - 1], s[rank]), 2)
    local h, w = x.shape[3], x.shape[4]
    x = pool(x:reshape(planes, 1, s[rank - 2], h * w), 1)
    s[rank - 2], s[rank - 1], s[rank] = x.shape[3], h, w
    return x:reshape(s)
  end

  -- Two of three numbers, or the first and `other`
  local function two(v, k, other) return k == 2 and {v[2], v[3]} or {v[1], other} end

  define("max_pool3d(x: float, kernel: ints(1..), {" .. max_options "ints",
    "the largest of each window of x (N, C, D, H, W), as max_pool2d",
    function(x, kernel, stride, padding, dilation, ceil_mode)
      local op <const> = "max_pool3d"
      kernel, stride = triple(op, "kernel", kernel), triple(op, "stride", stride)
      padding, dilation = triple(op, "padding", padding), triple(op, "dilation", dilation)
      return by_axes(op, x, function(v, k)
        return max_pool(op, v, 2, two(kernel, k, 1), two(stride, k, 1), two(padding, k, 0),
          two(dilation, k, 1), ceil_mode)
      end)
    end)

  define("avg_pool3d(x: float, kernel: ints(1..), {" ..
    avg_options("ints"):gsub("}%)$", ", divisor_override: int(1..)})"),
    "the average of each window of x (N, C, D, H, W), as avg_pool2d",
    function(x, kernel, stride, padding, ceil_mode, count, divisor)
      local op <const> = "avg_pool3d"
      kernel, stride = triple(op, "kernel", kernel), triple(op, "stride", stride)
      padding = triple(op, "padding", padding)
      local y = by_axes(op, x, function(v, k)
        return avg_pool(op, v, 2, two(kernel, k, 1), two(stride, k, 1), two(padding, k, 0),
          ceil_mode, count, divisor and 1)
      end)
      return divisor and y / divisor or y
    end)

  local function adaptive3d(op, what, pool)
    define(op .. "(x: float, n: ints(1..))", "the " .. what ..
      " of each of n by n by n windows that share x (N, C, D, H, W) out; n or {d, h, w}",
      function(x, n)
        n = triple(op, "n", n)
        return by_axes(op, x, function(v, k)
          return pool(op, v, 2, two(n, k, v.shape[4]))
        end)
      end)
  end
  adaptive3d("adaptive_max_pool3d", "largest", adaptive_max)
  adaptive3d("adaptive_avg_pool3d", "average", adaptive_avg)

  -- ---- interpolation ---------------------------------------------------------------------------

  -- An axis of n elements becomes `to` of them, each the sum of a few, of which the k-th stands at
  -- at[k] and counts weight[k]; nearest needs no weights. scale: by what the axis grows, where that
  -- was said, and not `to`.
  local function taps(mode, n, to, scale, corners)
    local at, weight, count = {}, {}, mode == "nearest" and 1 or mode == "bicubic" and 4 or 2
    local i = mg.range(0, to - 1, {dtype = "float64"})
    -- As PyTorch: what stays as long, or is doubled by nearest, goes by its length
    if mode ~= "bicubic" and to == n or mode == "nearest" and to == 2 * n then scale = nil end
    local place
    if corners then
      place = to > 1 and i * (n - 1) / (to - 1) or i
    elseif mode == "nearest" then
      place = scale and i // scale or i * n // to
    else
      place = (scale and (i + 0.5) / scale or (i + 0.5) * n / to) - 0.5
      if mode ~= "bicubic" then place = place:clamp{min = 0} end
    end
    local first = place:floor()
    local t = place - first
    if count == 2 then
      weight = {1 - t, t}
    elseif count == 4 then    -- Keys, "Cubic convolution interpolation", 1981, with a = -3/4
      local function near(d) return (1.25 * d - 2.25) * d * d + 1 end
      local function far(d) return ((-0.75 * d + 3.75) * d - 6) * d + 3 end
      weight = {far(t + 1), near(t), near(1 - t), far(2 - t)}
    end
    for k = 1, count do
      local p = first + (k - (count == 4 and 1 or 0))
      at[k] = p:clamp{min = 1, max = n}:to "int64"
    end
    return at, weight
  end

  local function resampled(x, axis, mode, to, scale, corners)
    local at, weight = taps(mode, x.shape[axis], to, scale, corners)
    if mode == "nearest" then return x:index_select(axis, at[1]) end
    local dims, sum = {}, nil
    for i = axis, x.ndim do dims[#dims + 1] = i == axis and to or 1 end
    for k, places in ipairs(at) do
      local w = weight[k]:to(x.dtype):reshape(dims)
      local part = mg._mulz(w, x:index_select(axis, places)) -- 0 of inf is 0
      sum = sum and sum + part or part
    end
    return sum
  end

  local RANKS = {linear = 3, bilinear = 4, bicubic = 4}

  -- One number for each of the axes that are resampled, or the same for all
  local function for_each_axis(name, v, axes)
    if type(v) == "number" then v = {v} end
    local list = {}
    for k = 1, axes do list[k] = v[#v == 1 and 1 or k] end
    if #list ~= axes or #v > axes then
      raise("interpolate: %s has %d numbers, x has %d axes behind (N, C)", name, #v, axes)
    end
    return list
  end

  define("interpolate(x: float, {size: ints(1..), scale_factor: number(0<..) | numbers, " ..
    'mode: "nearest" | "linear" | "bilinear" | "bicubic" = "nearest", ' ..
    "align_corners: bool = false})",
    "x (N, C, L) or (N, C, H, W) with another size: the nearest elements, or what lies between " ..
    "them; align_corners: the outermost stay what they are",
    function(x, size, factor, mode, corners)
      local shape = x.shape
      local axes = #shape - 2
      if axes ~= 1 and axes ~= 2 or RANKS[mode] and RANKS[mode] ~= #shape then
        raise("interpolate: x has shape %s; nearest is of (N, C, L) and (N, C, H, W), linear of " ..
          "the first, bilinear and bicubic of the second", args.text(shape))
      end
      if (size == nil) == (factor == nil) then
        raise("interpolate: either size or scale_factor must be given")
      end
      if corners and mode == "nearest" then
        raise("interpolate: align_corners has no meaning with nearest")
      end
      local to, scale = {}, {}
      if size then
        to = for_each_axis("size", size, axes)
      else
        scale = for_each_axis("scale_factor", factor, axes)
        for k, f in ipairs(scale) do
          to[k] = math.floor(shape[k + 2] * f)
        end
      end
      for k = 1, axes do
        if shape[k + 2] < 1 or to[k] < 1 then
          raise("interpolate: x %s has nothing to give along axis %d", args.text(shape), k + 2)
        end
        if to[k] > 1 << 48 then
          raise("interpolate: %g elements along axis %d are too many", to[k], k + 2)
        end
      end
      for k = 1, axes do x = resampled(x, k + 2, mode, to[k], scale[k], corners) end
      return x
    end)
end
