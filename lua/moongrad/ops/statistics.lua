-- statistics.lua -- what stands where in order, and how often.

return function(mg, args)
  local define, raise, where = mg.define, mg.raise, mg.where
  local FEW = 64 -- elements that are sorted as soon as chosen from

  -- x, an axis of it, its length, and a function of k and m: where the k-th to the m-th element
  -- stand in order along it; without an axis x is made flat. A nan that is there stands in all
  -- places. many: it will be asked for several k.
  local function in_order(op, x, axis, many)
    if not axis or x.ndim == 0 then x, axis = x:reshape(x.size), 1 end
    local n = x.shape[axis]
    if n == 0 then raise("%s: nothing to choose from in shape %s", op, args.text(x.shape)) end
    local order = (many or n <= FEW) and x:argsort(axis)
    local first_nan, is_nan
    if x.dtype == "float64" or x.dtype == "float32" then
      first_nan = x:argmax{axis = axis, keepdims = true}
      is_nan = x:gather(axis, first_nan):isnan()
    end
    return x, axis, n, function(k, m)
      local at = order and args.narrow(order, axis, k, m) or mg._ranks(x, axis, k, m - k + 1)
      return is_nan and where(is_nan, first_nan, at) or at
    end
  end

  -- y in the shape that x has without the axis, or with one of 1.
  local function reduced(y, x, axis, keepdims)
    local shape = x.shape
    return y:reshape(args.reduced(shape, args.axes(axis and {axis}, shape), keepdims))
  end

  define("median(x: array, axis: axis?, {keepdims: bool = false})",
    "the lower of the middle two; with an axis: values, indices; nan wins",
    function(x, axis, keepdims)
      local line, along, n, places = in_order("median", x, axis)
      local middle = places((n + 1) // 2, (n + 1) // 2)
      local values = reduced(line:gather(along, middle), x, axis, keepdims)
      if axis then return values, reduced(middle, x, axis, keepdims) end
      return values
    end)

  -- Between two elements in proportion; one alone where the place is its own, or both are the same.
  local function between(below, above, share)
    if share == 0 then return below end
    return where(below:eq(above), below, below * (1 - share) + mg._mulz(share, above))
  end

  define("quantile(x: array, q: number(0..1) | float, axis: axis?, {keepdims: bool = false})",
    "what a part q of the elements lies below; of a 1-d q a first axis of them; nan wins",
    function(x, q, axis, keepdims)
      x = args.float(x)
      local many = type(q) ~= "number" and q.ndim > 0
      local line, along, n, places = in_order("quantile", x, axis, many)
      -- At part q, a number; given: q as it was, if it is tracked
      local function one(part, given)
        if not (part >= 0 and part <= 1) then raise("quantile: q is %s, not in 0..1", part) end
        local at = 1 + part * (n - 1)
        local k = math.floor(at)
        local m = math.min(k + 1, n)
        local two = line:gather(along, places(k, m))
        local function nth(i) return args.narrow(two, along, i, i) end
        local below, above = nth(1), nth(m - k + 1)
        local y = between(below, above, at - k)
        if given then
          local off = (given - given:detach()):to(x.dtype) * (n - 1)
          y = y + mg._mulz(off, where(below:eq(above), 0, above - below))
        end
        return reduced(y, x, axis, keepdims)
      end
      if type(q) == "number" then return one(q) end
      local tracked = args.is_tracked(q)
      if q.ndim == 0 then return one(q:item(), tracked and q) end
      if q.ndim > 1 then raise("quantile: q has shape %s, expected 1-d", args.text(q.shape)) end
      local all = {}
      for i, part in ipairs(q:totable()) do all[i] = one(part, tracked and q[i]) end
      if #all == 0 then return args.narrow(one(0):unsqueeze(1), 1, 1, 0) end
      return mg.stack(all, 1)
    end)

  define("unique(x: array, {return_inverse: bool = false, return_counts: bool = false})",
    "the different elements, sorted; then where each of x stands among them, how often each is",
    function(x, return_inverse, return_counts)
      local n = x.size
      local sorted, at = x:reshape(n):sort()
      local first = mg.ones(math.min(n, 1), {dtype = "bool"})
      if n > 1 then first = mg.cat{first, sorted[{{2, n}}]:ne(sorted[{{1, n - 1}}])} end
      local results = {sorted[first]}
      if return_inverse or return_counts then
        local rank = first:to("int64"):cumsum(1)
        if return_inverse then
          results[2] = mg.zeros_like(at):scatter(1, at, rank):reshape(x.shape)
        end
        if return_counts then results[#results + 1] = mg.bincount(rank) end
      end
      return table.unpack(results)
    end)

  -- Sums of weights (nil: ones) at places 1..n, x of any shape.
  local function counted(x, weights, n)
    local at = x:reshape(x.size):to("int64")
    if not weights then return mg.zeros{n, dtype = "int64"}:index_add(1, at, mg.ones_like(at)) end
    if weights.dtype == "uint8" or weights.dtype == "bool" then weights = weights:to("int64") end
    return mg.zeros{n, dtype = weights.dtype}:index_add(1, at, weights:reshape(weights.size))
  end

  define("bincount(x: int64 | uint8, {weights: array, minlength: int(0..) = 0})",
    "int64: at place i how often i >= 1 is in x; with weights, the sum of theirs",
    function(x, weights, minlength)
      if weights then args.same_shape("bincount", "weights", weights, "x", x) end
      if x.size == 0 then return counted(x, weights, minlength) end
      args.labels("bincount", "value", x, math.maxinteger)
      return counted(x, weights, math.max(minlength, x:max():item()))
    end)

  define("histogram(x: float | int64 | uint8, bins: int(1..) | array = 10, " ..
    "{range: numbers, weights: array})",
    "how many elements lie in each bin, and the edges of bins; the last has its upper edge",
    function(x, bins, range, weights)
      if weights then args.same_shape("histogram", "weights", weights, "x", x) end
      local edges = bins
      if range and type(bins) ~= "number" then
        raise "histogram: range is of no use beside the edges of bins"
      end
      if type(bins) == "number" then
        local low, high = 0, 1
        if range then
          low, high = range[1], range[2]
          local fits = #range == 2 and low <= high
          if not fits then raise("histogram: range must be {low, high}") end
        elseif x.size > 0 then
          low, high = x:min():item(), x:max():item()
        end
        if low == high then low, high = low - 0.5, high + 0.5 end
        local span = high - low
        if span ~= span or span == math.huge then
          raise("histogram: x spreads from %s to %s; say range = {low, high}", low, high)
        end
        if bins == math.maxinteger then raise("histogram: %d bins are too many", bins) end
        edges = mg.linspace(low, high, bins + 1,
          {dtype = x.dtype == "float32" and "float32" or "float64"})
      elseif bins.ndim ~= 1 or bins.size < 2 then
        raise("histogram: edges have shape %s, expected 1-d, 2 or more", args.text(bins.shape))
      elseif not mg._truth(bins[{{2, -1}}]:ge(bins[{{1, -2}}]):all()) then
        raise "histogram: the edges must rise"
      end
      local n = edges.size - 1
      local low, high = edges[1], edges[-1]
      local place = edges:searchsorted(x, {right = true}) - 1
      place = where(x:eq(high), n, place)
      local inside = x:ge(low):logical_and(x:le(high))
      local counts = counted(where(inside, place, n + 1), weights, n + 1)
      return counts[{{1, n}}], edges
    end)
end
