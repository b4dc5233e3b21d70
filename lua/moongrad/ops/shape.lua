-- shape.lua -- rearranging elements: every op here moves them and computes none.

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function filled(n, value)
    local list = {}
    for i = 1, n do list[i] = value end
    return list
  end

  -- ---- axes -----------------------------------------------------------------------------------

  define("swapaxes(x: array, a: axis, b: axis)", "axes a and b exchanged", function(x, a, b)
    local perm = x.shape
    for i = 1, #perm do perm[i] = i end
    perm[a], perm[b] = perm[b], perm[a]
    return x:permute(perm)
  end)

  define("squeeze(x: array, axis: axes?)",
    "without the axes of length 1, of all or of those named",
    function(x, axes)
      local shape = x.shape
      axes = args.axes(axes, shape)
      for k = #axes, 1, -1 do
        if shape[axes[k]] == 1 then table.remove(shape, axes[k]) end
      end
      return x:reshape(shape)
    end)

  define("unsqueeze(x: array, axis: new_axis)", "a new axis of length 1, which becomes axis `axis`",
    function(x, axis)
      local shape = x.shape
      table.insert(shape, axis, 1)
      return x:reshape(shape)
    end)

  define("flatten(x: array, first: axis = 1, last: axis = -1)", "axes first..last made into one",
    function(x, first, last)
      local shape = x.shape
      if #shape == 0 then return x:reshape(1) end
      if first > last then
        raise("flatten: first axis %d stands after last axis %d of shape %s", first, last,
          args.text(shape))
      end
      local merged = table.move(shape, 1, first - 1, 1, {})
      merged[first] = args.product(shape, first, last)
      return x:reshape(table.move(shape, last + 1, #shape, first + 1, merged))
    end)

  define("unflatten(x: array, axis: axis, dims: ints(-1..))",
    "an axis made into several, which have dims; one may be -1",
    function(x, axis, dims)
      local shape, n, open = x.shape, 1, nil
      if #shape == 0 then raise "unflatten: a 0-d Variable has no axes" end
      for i, d in ipairs(dims) do
        if d >= 0 then n = n * d
        elseif open then raise("unflatten: dims %s: only one can be -1", args.text(dims))
        else open = i end
      end
      local size = table.remove(shape, axis)
      if open and n > 0 and size % n == 0 then dims[open] = size // n end
      if open and dims[open] < 0 or not open and n ~= size then
        raise("unflatten: axis %d of %s has %d elements, which dims %s do not make", axis,
          args.text(x.shape), size, args.text(dims))
      end
      for i = #dims, 1, -1 do table.insert(shape, axis, dims[i]) end
      return x:reshape(shape)
    end)

  define("expand(x: array, dims: ints(-1..)...)",
    "axes of length 1, and new ones in front, repeated uncopied; -1 keeps one",
    function(x, dims)
      local shape = x.shape
      local new = #dims - #shape
      for i = math.min(new + 1, 1), #dims do
        local have, want = shape[i - new], dims[i]
        if want == -1 and have then
          dims[i] = have
        elseif not want or want == -1 or (have and have ~= 1 and have ~= want) then
          raise("expand: %s does not expand to %s", args.text(shape), args.text(dims))
        end
      end
      return x:broadcast_to(dims)
    end)

  define("movedim(x: array, from: axes, to: axes)",
    "axes moved to other places, the rest in their order",
    function(x, from, to)
      if #from ~= #to then raise("movedim: %d axes to %d places", #from, #to) end
      if x.ndim == 0 then return args.own(x) end
      local perm, moved = {}, {}
      for i, axis in ipairs(from) do perm[to[i]], moved[axis] = axis, true end
      local next = 1
      for i = 1, x.ndim do
        while moved[next] do next = next + 1 end
        if not perm[i] then perm[i], next = next, next + 1 end
      end
      return x:permute(perm)
    end)

  define("rot90(x: array, k: int = 1, axes: axes = {1, 2})",
    "k quarter turns in the plane of two axes, from the first to the second",
    function(x, k, axes)
      if #axes ~= 2 then raise("rot90: needs two axes, got %d", #axes) end
      local a, b = axes[1], axes[2]
      k = k % 4
      if k == 0 then return args.own(x) end
      if k == 2 then return x:flip{a, b} end
      return x:swapaxes(a, b):flip(k == 1 and a or b)
    end)

  -- ---- joining and parting --------------------------------------------------------------------

  define("stack(xs: list, axis: new_axis = 1)", "joined along a new axis", function(xs, axis)
    if #xs == 0 then raise("stack: needs a table of Variables") end
    local shape = xs[1].shape
    local text = args.text(shape)
    table.insert(shape, axis, 1)
    for i, x in ipairs(xs) do
      if args.text(x.shape) ~= text then
        raise("stack: input %d has shape %s, input 1 %s", i, args.text(x.shape), text)
      end
      xs[i] = x:reshape(shape)
    end
    return mg.cat(xs, axis)
  end)

  -- Each of xs with n axes or more: others are made rows.
  local function at_least(n, op, xs)
    if #xs == 0 then raise("%s: needs a table of Variables", op) end
    for i, x in ipairs(xs) do
      if x.ndim < n then xs[i] = x:reshape(n == 2 and {1, x.size} or {x.size}) end
    end
    return xs
  end

  -- cat under another name, which its errors have
  local function join(op, xs, axis)
    local first = xs[1].shape
    for k = 2, #xs do
      local shape = xs[k].shape
      local fits = #shape == #first
      for i in ipairs(first) do fits = fits and (i == axis or shape[i] == first[i]) end
      if not fits then
        raise("%s: input %d has shape %s, input 1 %s; only axis %d may differ", op, k,
          args.text(shape), args.text(first), axis)
      end
    end
    return mg.cat(xs, axis)
  end

  define("hstack(xs: list)", "joined along axis 2, 1-d ones along axis 1", function(xs)
    xs = at_least(1, "hstack", xs)
    return join("hstack", xs, xs[1].ndim == 1 and 1 or 2)
  end)

  define("vstack(xs: list)", "joined along axis 1; 1-d ones are rows",
    function(xs) return join("vstack", at_least(2, "vstack", xs), 1) end)

  define("meshgrid(x: array, ...: array, {indexing: \"ij\" | \"xy\" = \"ij\"})",
    "several results: each 1-d Variable along an axis of its own, spread over the others' axes",
    function(first, indexing, ...)
      local xs, dims, grids = {first, ...}, {}, {}
      for i, x in ipairs(xs) do
        if x.ndim > 1 then
          raise("meshgrid: input %d has shape %s, expected 1-d", i, args.text(x.shape))
        end
        dims[i] = x.size
      end
      for i, x in ipairs(xs) do
        local own = filled(#xs, 1)
        own[i] = x.size
        local grid = x:reshape(own):broadcast_to(dims)
        grids[i] = indexing == "xy" and #xs > 1 and grid:swapaxes(1, 2) or grid
      end
      return table.unpack(grids)
    end)

  -- Lua's stack ends at a million values, and takes results twice on their way.
  local function check_results(op, n)
    if n > 400000 then raise("%s: %d results are more than a call can give", op, n) end
  end

  local function parts(op, x, axis, sizes)
    check_results(op, #sizes)
    local pieces, first = {}, 1
    for i, n in ipairs(sizes) do
      pieces[i] = args.narrow(x, axis, first, first + n - 1)
      first = first + n
    end
    return table.unpack(pieces)
  end

  -- Pieces of one size; what is left over makes the last one.
  local function equal_parts(op, x, axis, size)
    local n, sizes = x.shape[axis], {}
    check_results(op, (n - 1) // size + 1)
    repeat
      sizes[#sizes + 1] = math.min(size, n)
      n = n - size
    until n <= 0
    return parts(op, x, axis, sizes)
  end

  define("split(x: array, size: int(0..) | ints(0..), axis: axis = 1)",
    "several results: pieces of an axis",
    function(x, sizes, axis)
      local shape = x.shape
      if #shape == 0 then raise("split: a 0-d Variable has no parts") end
      if type(sizes) == "number" then
        if sizes == 0 then raise("split: size must be at least 1, got 0") end
        return equal_parts("split", x, axis, sizes)
      end
      local sum = 0
      for _, n in ipairs(sizes) do sum = sum + n end
      if sum ~= shape[axis] then
        raise("split: sizes %s add up to %d, but axis %d of shape %s has %d", args.text(sizes), sum,
          axis, args.text(shape), shape[axis])
      end
      return parts("split", x, axis, sizes)
    end)

  define("chunk(x: array, n: int(1..), axis: axis = 1)",
    "several results: n equal pieces of an axis; the last may be less",
    function(x, n, axis)
      if x.ndim == 0 then raise("chunk: a 0-d Variable has no parts") end
      return equal_parts("chunk", x, axis, math.max((x.shape[axis] + n - 1) // n, 1))
    end)

  define("unbind(x: array, axis: axis = 1)",
    "several results: what stands along an axis, without it",
    function(x, axis)
      if x.ndim == 0 then raise("unbind: a 0-d Variable has no parts") end
      check_results("unbind", x.shape[axis])
      local pieces, index = {}, filled(axis, {})
      for i = 1, x.shape[axis] do
        index[axis] = i
        pieces[i] = x[index]
      end
      return table.unpack(pieces)
    end)

  define("roll(x: array, shift: int | ints, axis: axes?)",
    "moved along an axis or {axes}, round the end; else as if flat",
    function(x, shift, axes)
      local shape = x.shape
      local shifts = type(shift) == "table" and shift or {shift}
      if not axes then
        if #shifts ~= 1 then raise("roll: %d shifts without axes", #shifts) end
        return mg.roll(x:reshape(x.size), shifts[1], 1):reshape(shape)
      end
      if #shifts ~= #axes then raise("roll: %d shifts for %d axes", #shifts, #axes) end
      local given = x
      for i, a in ipairs(axes) do
        local n = shape[a] or 1
        local by = shifts[i] % math.max(n, 1)
        if by > 0 then
          x = mg.cat({args.narrow(x, a, n - by + 1, n), args.narrow(x, a, 1, n - by)}, a)
        end
      end
      return x == given and args.own(x) or x
    end)

  -- Which of 1..n stand in a border of these widths and what is within it
  local BORDER = {
    reflect = function(i, n)
      if n == 1 then return 1 end
      i = (i - 1) % (2 * n - 2)
      return 1 + (i < n and i or 2 * n - 2 - i)
    end,
    replicate = function(i, n) return math.max(1, math.min(i, n)) end,
    circular = function(i, n) return (i - 1) % n + 1 end,
  }

  local function bordered(x, axis, before, after, mode)
    local n, places = x.shape[axis], {}
    local most = mode == "reflect" and n - 1 or mode == "circular" and n or math.maxinteger
    if before > most or after > most or n == 0 then
      raise("pad: %s of %d and %d is more than axis %d of shape %s has", mode, before, after, axis,
        args.text(x.shape))
    end
    for i = 1 - before, n + after do places[#places + 1] = BORDER[mode](i, n) end
    return x:index_select(axis, places)
  end

  -- A negative width cuts away. The others are written into zeros; another value goes around them.
  define("pad(x: array, widths: ints, {value: number = 0, " ..
    'mode: "constant" | "reflect" | "replicate" | "circular" = "constant"})',
    "a border of value, or of what is there: mirrored at the edge, its outermost, or the other " ..
    "end; widths are {before, after, ...}, the last axis first",
    function(x, widths, value, mode)
      if mode ~= "constant" and value ~= 0 then
        raise("pad: value %g is of no use to %s", value, mode)
      end
      local dims = x.shape
      if #widths % 2 == 1 or #widths > 2 * #dims then
        raise("pad: widths must be {before, after} of the last axis, and so on inwards; " ..
          "shape is %s", args.text(dims))
      end
      local first, step = filled(#dims, 1), filled(#dims, 1)
      for i = 1, #widths, 2 do
        local axis, before, after = #dims - i // 2, widths[i], widths[i + 1]
        if mode ~= "constant" and (before > 0 or after > 0) then
          x = bordered(x, axis, math.max(before, 0), math.max(after, 0), mode)
          before, after = math.min(before, 0), math.min(after, 0)
          dims[axis] = x.shape[axis]
        end
        local from, to = 1 + math.max(-before, 0), dims[axis] - math.max(-after, 0)
        if to < from - 1 or math.min(before, after) < -dims[axis] then
          raise("pad: widths %d and %d cut more than axis %d of shape %s has", before, after, axis,
            args.text(x.shape))
        end
        if to - from + 1 < dims[axis] then x = args.narrow(x, axis, from, to) end
        if 0.0 + dims[axis] + before + after > 2 ^ 62 then
          raise("pad: widths %d and %d are too large", before, after)
        end
        first[axis] = 1 + math.max(before, 0)
        dims[axis] = dims[axis] + before + after
      end
      local y = mg._slice_grad(x, dims, first, step)
      if value == 0 then return y end
      value = args.held("pad", value, x)
      local inside = mg._slice_grad(mg.ones_like(x, {dtype = "bool"}), dims, first, step)
      return mg.where(inside, y, value):to(x.dtype)
    end)

  -- ---- matrices -------------------------------------------------------------------------------

  local function triangle(op, compare, side)
    define(op .. "(x: array, k: int = 0)", ("matrices with zeros %s diagonal k"):format(side),
      function(x, k)
        local shape = x.shape
        if #shape < 2 then
          raise("%s: needs 2 axes or more, got shape %s", op, args.text(shape))
        end
        local n, most = shape[#shape - 1], shape[#shape - 1] + shape[#shape]
        k = math.max(-most, math.min(k, most))
        local row, column = args.count(n):reshape(n, 1), args.count(shape[#shape])
        return mg.where(mg[compare](column, row + k), x, 0):to(x.dtype)
      end)
  end
  triangle("tril", "le", "above")
  triangle("triu", "ge", "below")

  -- Rows of the square matrix with n elements on diagonal k; their square is an integer still.
  local function rows_with(op, n, k)
    if n + math.abs(k + 0.0) > 2 ^ 31 then raise("%s: diagonal %d is too far out", op, k) end
    return n + math.abs(k)
  end

  -- Diagonal k of an (n, m) matrix is every (m + 1)-th of its elements, read as one row.
  define("diag(x: array, k: int = 0)",
    "diagonal k of a matrix; of a 1-d x the matrix that has it there",
    function(x, k)
      local shape = x.shape
      local n, m = shape[1], shape[2]
      if #shape == 1 then
        n = rows_with("diag", n, k)
        local first = 1 + (k >= 0 and k or -k * n)
        return mg._slice_grad(x, {n * n}, {first}, {n + 1}):reshape(n, n)
      elseif #shape ~= 2 then
        raise("diag: needs 1 or 2 axes, got shape %s", args.text(shape))
      end
      local count = math.min(n + math.min(k, 0), m - math.max(k, 0))
      if count < 1 then raise("diag: shape %s has no diagonal %d", args.text(shape), k) end
      local first = 1 + (k >= 0 and k or -k * m)
      return x:reshape(n * m)[{{first, first + (count - 1) * (m + 1), m + 1}}]
    end)

  define("diag_embed(x: array, {offset: int = 0})",
    "matrices with the last axis of x on diagonal `offset`, zeros elsewhere",
    function(x, k)
      if x.ndim == 0 then raise "diag_embed: a 0-d Variable has no axis" end
      local n = rows_with("diag_embed", x.shape[x.ndim], k)
      local on = args.count(n):eq(args.count(n):reshape(n, 1) + k)
      x = x:pad{0, math.abs(k)}:unsqueeze(k >= 0 and -1 or -2)     -- by rows, or by columns
      return mg.where(on, x, 0):to(x.dtype)
    end)

  -- The two axes last and made one, of which a diagonal is every (m + 1)-th element.
  define("diagonal(x: array, {offset: int = 0, axis1: axis = 1, axis2: axis = 2})",
    "the diagonals of two axes, as a last axis in their place",
    function(x, offset, axis1, axis2)
      local shape, order, index = x.shape, {}, {}
      if #shape < 2 or axis1 == axis2 then
        raise("diagonal: needs two axes, got %d and %d of shape %s", axis1, axis2, args.text(shape))
      end
      for i = 1, #shape do
        if i ~= axis1 and i ~= axis2 then order[#order + 1], index[#index + 1] = i, {} end
      end
      local n, m = shape[axis1], shape[axis2]
      local count = math.min(n + math.min(offset, 0), m - math.max(offset, 0))
      local dims = {}
      for i, axis in ipairs(order) do dims[i] = shape[axis] end
      dims[#dims + 1] = n * m
      order[#order + 1], order[#order + 2] = axis1, axis2
      local first = 1 + (offset >= 0 and offset or -offset * m)
      index[#index + 1] = count > 0 and {first, first + (count - 1) * (m + 1), m + 1} or {1, 0}
      return x:permute(order):reshape(dims)[index]
    end)

  -- ---- repeating ------------------------------------------------------------------------------

  -- Each run of `inner` elements `times` times over.
  local function repeated(x, outer, times, inner, shape)
    return x:reshape(outer, 1, inner):broadcast_to{outer, times, inner}:reshape(shape)
  end

  define("repeat_interleave(x: array, n: int(0..) | ints(0..) | int64, axis: axis?)",
    "each element n times in a row, along an axis or as if flat",
    function(x, n, axis)
      if axis == nil or x.ndim == 0 then x, axis = x:reshape(x.size), 1 end
      local shape = x.shape
      local outer, length, inner = args.around(x, axis)
      if type(n) == "number" then
        shape[axis] = length * n
        return repeated(x, outer * length, n, inner, shape)
      end
      local counts = mg.is_variable(n) and n:reshape(n.size):totable() or n
      if #counts ~= length then
        raise("repeat_interleave: n must be a number or %d numbers, for axis %d of shape %s",
          length, axis, args.text(shape))
      end
      local index = {}
      for i, count in ipairs(counts) do
        if count < 0 or count > 1 << 32 then
          raise("repeat_interleave: n %d must be at least 0, and no more than memory holds, got %d",
            i, count)
        end
        for _ = 1, count do index[#index + 1] = i end
      end
      return x:index_select(axis, mg.tensor(index, "int64"))
    end)

  define("tile(x: array, n: ints(0..)...)",
    "the whole array repeated along its axes; the numbers belong to the last ones",
    function(x, times)
      local shape = x.shape
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
    end)

  -- ---- picking --------------------------------------------------------------------------------

  define("masked_fill(x: array, mask: bool array, value: number | array)",
    "value where mask, which broadcasts to x, is true, x elsewhere",
    function(x, mask, value)
      value = args.held("masked_fill", value, x)
      local y = args.fit(mask.shape, x.shape) and mg.where(mask, value, x)
      if not y or args.text(y.shape) ~= args.text(x.shape) then
        raise("masked_fill: mask %s does not broadcast to x %s", args.text(mask.shape),
          args.text(x.shape))
      end
      return y:to(x.dtype)
    end)

  define("one_hot(labels: int64 | uint8, n: int(1..)?)",
    "int64: a last axis of n, 1 at the label (1..n) and 0 elsewhere",
    function(t, n)
      t = args.labels("one_hot", "label", t, n or math.maxinteger)
      n = n or t:max():item()
      local shape = t.shape
      shape[#shape + 1] = 1
      return t:reshape(shape):eq(args.count(n)):to("int64")
    end)

  define("take_along(x: array, index: int64, axis: axis?)",
    "gather with index last, the other axes broadcast; without axis as flat",
    function(x, index, axis)
      if axis == nil then
        return mg.gather(x:reshape(x.size), 1, index:reshape(index.size))
      end
      local from, to = x.shape, index.shape
      local fits = #from == #to and #from > 0
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
    end)

  define("sort(x: array, axis: axis = -1, {descending: bool = false}) -> values, indices",
    "in order, and where each stood; stable; nan is the largest",
    function(x, axis, descending)
      if x.ndim == 0 then return x:clone(), mg.ones{dtype = "int64"} end
      local index = x:argsort{axis = axis, descending = descending}
      return x:gather(axis, index), index
    end)

  define("topk(x: array, k: int(0..), axis: axis = -1, {largest: bool = true}) -> values, indices",
    "the k largest, in order, and where they stand",
    function(x, k, axis, largest)
      local n = x.shape[axis] or 1
      if k > n then
        raise("topk: k %d is more than axis %d of shape %s has", k, axis, args.text(x.shape))
      end
      if x.ndim == 0 and k == 1 then return mg.sort(x) end
      local index = mg._ranks(x, axis, 1, k, {descending = largest})
      return x:gather(axis, index), index
    end)
end
