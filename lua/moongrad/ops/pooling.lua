-- pooling.lua -- windows over the last axes, and what is the largest or the average in each.
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

  -- ---- windows that share an axis out among them ------------------------------------------------

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
end
