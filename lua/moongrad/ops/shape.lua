-- shape.lua -- rearranging elements: every op here moves them and computes none.

local options = require "moongrad.options"

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function filled(n, value)
    local list = {}
    for i = 1, n do list[i] = value end
    return list
  end

  -- ---- axes -----------------------------------------------------------------------------------

  define("swapaxes", function(x, a, b)
    x = args.variable("swapaxes", x)
    local perm = x.shape
    a, b = args.axis("swapaxes", a, perm), args.axis("swapaxes", b, perm)
    for i = 1, #perm do perm[i] = i end
    perm[a], perm[b] = b, a
    return x:permute(perm)
  end, "swapaxes(x, a, b)\naxes a and b exchanged")

  define("squeeze", function(x, axis)
    x = args.variable("squeeze", x)
    local shape = x.shape
    local axes = args.axes("squeeze", axis, shape)
    for k = #axes, 1, -1 do
      if shape[axes[k]] == 1 then table.remove(shape, axes[k]) end
    end
    return x:reshape(shape)
  end, "squeeze(x [, axis | {axes}])\nwithout the axes of length 1, of all or of those named")

  define("unsqueeze", function(x, axis)
    x = args.variable("unsqueeze", x)
    local shape = x.shape
    table.insert(shape, args.axis("unsqueeze", axis, shape, 1), 1)
    return x:reshape(shape)
  end, "unsqueeze(x, axis)\na new axis of length 1, which becomes axis `axis`")

  define("flatten", function(x, first, last)
    x = args.variable("flatten", x)
    local shape = x.shape
    if #shape == 0 then return x:reshape(1) end
    first = args.axis("flatten", first or 1, shape)
    last = args.axis("flatten", last or -1, shape)
    if first > last then
      raise("flatten: first axis %d stands after last axis %d of shape %s", first, last,
        args.text(shape))
    end
    local merged = table.move(shape, 1, first - 1, 1, {})
    merged[first] = args.product(shape, first, last)
    return x:reshape(table.move(shape, last + 1, #shape, first + 1, merged))
  end, "flatten(x [, first = 1 [, last = -1]])\naxes first..last made into one")

  define("expand", function(x, ...)
    x = args.variable("expand", x)
    local shape, sizes = x.shape, args.sizes("expand", {}, -1, ...)
    local new = #sizes - #shape
    for i = math.min(new + 1, 1), #sizes do
      local have, want = shape[i - new], sizes[i]
      if want == -1 and have then
        sizes[i] = have
      elseif not want or want == -1 or (have and have ~= 1 and have ~= want) then
        raise("expand: %s does not expand to %s", args.text(shape), args.text(sizes))
      end
    end
    return x:broadcast_to(sizes)
  end, "expand(x, ...)\naxes of length 1, and new ones in front, repeated uncopied; -1 keeps one")

  -- ---- joining and parting --------------------------------------------------------------------

  define("stack", function(xs, axis)
    if type(xs) ~= "table" or #xs == 0 then raise("stack: needs a table of Variables") end
    local first = args.variable("stack", xs[1], "input 1")
    local shape = first.shape
    local text = args.text(shape)
    axis = args.axis("stack", axis or 1, shape, 1)
    table.insert(shape, axis, 1)
    local rows = {first:reshape(shape)}
    for i = 2, #xs do
      local x = args.variable("stack", xs[i], "input " .. i)
      if args.text(x.shape) ~= text then
        raise("stack: input %d has shape %s, input 1 %s", i, args.text(x.shape), text)
      end
      rows[i] = x:reshape(shape)
    end
    return mg.cat(rows, axis)
  end, "stack({xs} [, axis = 1])\njoined along a new axis")

  local function parts(x, axis, sizes)
    local pieces, first = {}, 1
    for i, n in ipairs(sizes) do
      pieces[i] = args.narrow(x, axis, first, first + n - 1)
      first = first + n
    end
    return table.unpack(pieces)
  end

  -- Pieces of one size; what is left over makes the last one.
  local function equal_parts(x, axis, size)
    local n, sizes = x.shape[axis], {}
    repeat
      sizes[#sizes + 1] = math.min(size, n)
      n = n - size
    until n <= 0
    return parts(x, axis, sizes)
  end

  define("split", function(x, sizes, axis)
    x = args.variable("split", x)
    local shape = x.shape
    axis = args.axis("split", axis or 1, shape)
    if type(sizes) ~= "table" then
      return equal_parts(x, axis, args.integer("split", sizes, "size", 1))
    end
    sizes = args.sizes("split", {}, 0, sizes)
    local sum = 0
    for _, n in ipairs(sizes) do sum = sum + n end
    if sum ~= shape[axis] then
      raise("split: sizes %s add up to %d, but axis %d of shape %s has %d", args.text(sizes), sum,
        axis, args.text(shape), shape[axis])
    end
    return parts(x, axis, sizes)
  end, "split(x, size | {sizes} [, axis = 1])\nseveral results: pieces of an axis")

  define("chunk", function(x, n, axis)
    x = args.variable("chunk", x)
    n = args.integer("chunk", n, "n", 1)
    axis = args.axis("chunk", axis or 1, x.shape)
    return equal_parts(x, axis, math.max((x.shape[axis] + n - 1) // n, 1))
  end, "chunk(x, n [, axis = 1])\nseveral results: n equal pieces of an axis; the last may be less")

  define("roll", function(x, shift, axis)
    x = args.variable("roll", x)
    local shape = x.shape
    if axis == nil then
      return mg.roll(x:reshape(x.size), shift, 1):reshape(shape)
    end
    local shifts = type(shift) == "table" and shift or {shift}
    local axes = type(axis) == "table" and axis or {axis}
    if #shifts ~= #axes then raise("roll: %d shifts for %d axes", #shifts, #axes) end
    for i, a in ipairs(axes) do
      a = args.axis("roll", a, shape)
      local n = shape[a]
      local by = args.integer("roll", shifts[i], "shift") % math.max(n, 1)
      if by > 0 then
        x = mg.cat({args.narrow(x, a, n - by + 1, n), args.narrow(x, a, 1, n - by)}, a)
      end
    end
    return x
  end, "roll(x, shift [, axis])\nmoved along an axis or {axes}, round the end; else as if flat")

  -- A negative width cuts away. The others are written into zeros; another value goes around them.
  define("pad", function(x, widths, opts)
    x = args.variable("pad", x)
    local value = options("pad", opts, {value = 0}).value
    local dims = x.shape
    if type(widths) ~= "table" or #widths % 2 == 1 or #widths > 2 * #dims then
      raise("pad: widths must be {before, after} of the last axis, and so on inwards; shape is %s",
        args.text(dims))
    end
    local first, step = filled(#dims, 1), filled(#dims, 1)
    for i = 1, #widths, 2 do
      local axis = #dims - i // 2
      local before = args.integer("pad", widths[i], "width " .. i)
      local after = args.integer("pad", widths[i + 1], "width " .. i + 1)
      local from, to = 1 + math.max(-before, 0), dims[axis] - math.max(-after, 0)
      if to < from - 1 then
        raise("pad: widths %d and %d cut more than axis %d of shape %s has", before, after, axis,
          args.text(x.shape))
      end
      if to - from + 1 < dims[axis] then x = args.narrow(x, axis, from, to) end
      first[axis] = 1 + math.max(before, 0)
      dims[axis] = dims[axis] + before + after
    end
    local y = mg._slice_grad(x, dims, first, step)
    if value == 0 then return y end
    local inside = mg._slice_grad(mg.ones_like(x, {dtype = "bool"}), dims, first, step)
    return mg.where(inside, y, value):to(x.dtype)
  end, "pad(x, {before, after, ...} [, {value = 0}])\na border of value, the last axis first")

  -- ---- matrices -------------------------------------------------------------------------------

  local function triangle(op, compare)
    define(op, function(x, k)
      x = args.variable(op, x)
      local shape = x.shape
      if #shape < 2 then raise("%s: needs 2 axes or more, got shape %s", op, args.text(shape)) end
      k = args.integer(op, k or 0, "k")
      local n = shape[#shape - 1]
      local row, column = args.count(n):reshape(n, 1), args.count(shape[#shape])
      return mg.where(mg[compare](column, row + k), x, 0):to(x.dtype)
    end, ("%s(x [, k = 0])\nmatrices with zeros %s diagonal k"):format(op,
      compare == "le" and "above" or "below"))
  end
  triangle("tril", "le")
  triangle("triu", "ge")

  -- Diagonal k of an (n, m) matrix is every (m + 1)-th of its elements, read as one row.
  define("diag", function(x, k)
    x = args.variable("diag", x)
    k = args.integer("diag", k or 0, "k")
    local shape = x.shape
    local n, m = shape[1], shape[2]
    if #shape == 1 then
      n = n + math.abs(k)
      local first = 1 + (k >= 0 and k or -k * n)
      return mg._slice_grad(x, {n * n}, {first}, {n + 1}):reshape(n, n)
    elseif #shape ~= 2 then
      raise("diag: needs 1 or 2 axes, got shape %s", args.text(shape))
    end
    local count = math.min(n + math.min(k, 0), m - math.max(k, 0))
    if count < 1 then raise("diag: shape %s has no diagonal %d", args.text(shape), k) end
    local first = 1 + (k >= 0 and k or -k * m)
    return x:reshape(n * m)[{{first, first + (count - 1) * (m + 1), m + 1}}]
  end, "diag(x [, k = 0])\ndiagonal k of a matrix; of a 1-d x the matrix that has it there")

  -- ---- repeating ------------------------------------------------------------------------------

  -- Each run of `inner` elements `times` times over.
  local function repeated(x, outer, times, inner, shape)
    return x:reshape(outer, 1, inner):broadcast_to{outer, times, inner}:reshape(shape)
  end

  define("repeat_interleave", function(x, n, axis)
    x = args.variable("repeat_interleave", x)
    if axis == nil then x, axis = x:reshape(x.size), 1 end
    local shape = x.shape
    axis = args.axis("repeat_interleave", axis, shape)
    local outer, length, inner = args.around(x, axis)
    if type(n) == "number" then
      n = args.integer("repeat_interleave", n, "n", 0)
      shape[axis] = length * n
      return repeated(x, outer * length, n, inner, shape)
    end
    local counts = mg.is_variable(n) and n:totable() or n
    if type(counts) ~= "table" or #counts ~= length then
      raise("repeat_interleave: n must be a number or %d numbers, for axis %d of shape %s", length,
        axis, args.text(shape))
    end
    local index = {}
    for i, count in ipairs(counts) do
      for _ = 1, args.integer("repeat_interleave", count, "n " .. i, 0) do index[#index + 1] = i end
    end
    return x:index_select(axis, mg.tensor(index, "int64"))
  end, "repeat_interleave(x, n | {ns} [, axis])\n" ..
       "each element n times in a row, along an axis or as if flat")

  define("tile", function(x, ...)
    x = args.variable("tile", x)
    local shape, times = x.shape, args.sizes("tile", {}, 0, ...)
    while #times < #shape do table.insert(times, 1, 1) end
    while #shape < #times do table.insert(shape, 1, 1) end
    x = x:reshape(shape)
    for axis = #shape, 1, -1 do
      local n = times[axis]
      if n ~= 1 then
        local outer, length, inner = args.around(x, axis)
        shape[axis] = length * n
        x = repeated(x, outer, n, length * inner, shape)
      end
    end
    return x
  end, "tile(x, ...)\nthe whole array repeated along its axes; the numbers belong to the last ones")

  -- ---- picking --------------------------------------------------------------------------------

  define("one_hot", function(labels, n)
    n = n and args.integer("one_hot", n, "n", 1)
    local t = args.labels("one_hot", "label", labels, n or math.maxinteger)
    n = n or t:max():item()
    local shape = t.shape
    shape[#shape + 1] = 1
    return t:reshape(shape):eq(args.count(n)):to("int64")
  end, "one_hot(labels [, n])\nint64: a last axis of n, 1 at the label (1..n) and 0 elsewhere")

  define("take_along", function(x, index, axis)
    x, index = args.variable("take_along", x), args.variable("take_along", index, "index")
    if axis == nil then
      return mg.gather(x:reshape(x.size), 1, index:reshape(index.size))
    end
    local from, to = x.shape, index.shape
    axis = args.axis("take_along", axis, from)
    local fits = #from == #to
    for i = 1, fits and #from or 0 do
      if i ~= axis then
        fits = fits and (from[i] == to[i] or from[i] == 1 or to[i] == 1)
        local n = from[i] == 1 and to[i] or from[i]
        from[i], to[i] = n, n
      end
    end
    if not fits then
      raise("take_along: x %s and index %s do not fit along axis %d", args.text(x.shape),
        args.text(index.shape), axis)
    end
    return mg.gather(x:broadcast_to(from), axis, index:broadcast_to(to))
  end, "take_along(x, index [, axis])\n" ..
       "gather with index last, the other axes broadcast; without axis as flat")

  define("sort", function(x, v)
    x = args.variable("sort", x)
    local opts = args.by_axis("sort", v, {axis = -1, descending = false})
    local axis = args.axis("sort", opts.axis, x.shape)
    local index = x:argsort{axis = axis, descending = opts.descending}
    return x:gather(axis, index), index
  end, "sort(x [, axis = -1 | {axis =, descending = false}])\nvalues, indices; stable")

  define("topk", function(x, k, v)
    x = args.variable("topk", x)
    local opts = args.by_axis("topk", v, {axis = -1, largest = true})
    local axis = args.axis("topk", opts.axis, x.shape)
    k = args.integer("topk", k, "k", 0)
    if k > x.shape[axis] then
      raise("topk: k %d is more than axis %d of shape %s has", k, axis, args.text(x.shape))
    end
    local index = x:argsort{axis = axis, descending = opts.largest}
    index = args.narrow(index, axis, 1, k)
    return x:gather(axis, index), index
  end, "topk(x, k [, axis = -1 | {axis =, largest = true}])\n" ..
       "values, indices: the k largest, in order")
end
