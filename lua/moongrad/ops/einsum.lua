-- einsum.lua -- sums of products by index letters: diagonals first, then products of pairs in the
-- cheapest order, by matmul where something is summed.
--
-- An operand is {x =, labels = list}. A label is a letter, or a digit for an axis of "...", counted
-- from the last.

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function labels_of(text, ndim, k)
    local labels, dots, from = {}, nil, 1
    text = text:gsub("%s", "")
    while from <= #text do
      local letter = text:sub(from, from)
      if text:sub(from, from + 2) == "..." and not dots then
        dots, from = #labels + 1, from + 3
      elseif letter:match "%a" then
        labels[#labels + 1], from = letter, from + 1
      else
        raise("einsum: %q at %d of %q is no letter", letter, from, text)
      end
    end
    local more = (ndim or 0) - #labels
    if ndim and (more < 0 or more > 0 and not dots) then
      raise("einsum: operand %d has %d axes, %q names %s%d", k, ndim, text,
        dots and "at least " or "", #labels)
    end
    return labels, dots, more
  end

  local function put_dots(labels, dots, count)
    for i = 1, dots and count or 0 do table.insert(labels, dots, tostring(i)) end
    return labels
  end

  -- The diagonal of equal labels; its axis is the last.
  local function without_repeats(x, labels)
    local seen, i = {}, 1
    while i <= #labels do
      local label, at = labels[i], seen[labels[i]]
      if at then
        if x.shape[at] ~= x.shape[i] then
          raise("einsum: %s is %d and %d in one operand", label, x.shape[at], x.shape[i])
        end
        x = x:diagonal{axis1 = at, axis2 = i}
        table.remove(labels, i)
        table.remove(labels, at)
        labels[#labels + 1] = label
        seen, i = {}, 0
      else
        seen[label] = i
      end
      i = i + 1
    end
    return {x = x, labels = labels}
  end

  local function find(list, label)
    for i, v in ipairs(list) do if v == label then return i end end
  end

  -- Axes that no one else wants: of length 1 where another operand has more (squeezed), or summed.
  local function reduce(o, what, unwanted)
    local axes, shape = {}, o.x.shape
    for i = #o.labels, 1, -1 do
      if unwanted(o.labels[i], shape[i]) then
        axes[#axes + 1] = i
        table.remove(o.labels, i)
      end
    end
    if #axes > 0 then o.x = o.x[what](o.x, {axis = axes}) end
  end

  local function product(labels, sizes)
    local n = 1
    for _, label in ipairs(labels) do n = n * sizes[label] end
    return n
  end

  local function arranged(o, wanted)
    local order, moved = {}, false
    for i, label in ipairs(wanted) do
      order[i] = find(o.labels, label)
      moved = moved or order[i] ~= i
    end
    return moved and o.x:permute(order) or o.x
  end

  local function joined(...)
    local all = {}
    for _, list in ipairs{...} do table.move(list, 1, #list, #all + 1, all) end
    return all
  end

  -- a and b as one operand; `kept` are the labels that are still wanted.
  local function contract(a, b, kept, sizes)
    local batch, left, right, inner = {}, {}, {}, {}
    for _, label in ipairs(a.labels) do
      local list = not find(b.labels, label) and left or kept[label] and batch or inner
      list[#list + 1] = label
    end
    for _, label in ipairs(b.labels) do
      if not find(a.labels, label) then right[#right + 1] = label end
    end
    local n, m, r, k = product(batch, sizes), product(left, sizes), product(right, sizes),
      product(inner, sizes)
    local p = arranged(a, joined(batch, left, inner))
    local q, y
    if #inner > 0 and (m > 1 or r > 1) then
      q = arranged(b, joined(batch, inner, right))
      if #batch == 0 then
        y = p:reshape(m, k):matmul(q:reshape(k, r))
      else
        y = p:reshape(n, m, k):matmul(q:reshape(n, k, r))
      end
    else
      q = arranged(b, joined(batch, right, inner))
      y = p:reshape(n, m, 1, k) * q:reshape(n, 1, r, k)
      if #inner > 0 then y = y:sum(-1) end
    end
    local labels, shape = joined(batch, left, right), {}
    for i, label in ipairs(labels) do shape[i] = sizes[label] end
    return {x = y:reshape(shape), labels = labels}
  end

  -- Labels that the operands of a set show to the others: those in the output or in one outside.
  local function shown(list, set, out)
    local kept = {}
    for _, label in ipairs(out) do kept[label] = true end
    for i, o in ipairs(list) do
      if set & 1 << i - 1 == 0 then for _, label in ipairs(o.labels) do kept[label] = true end end
    end
    return kept
  end

  -- The cheapest way to multiply all of a set, by multiplications: a tree of pairs of places. What
  -- is known of smaller sets is in `best`.
  local function plan(list, set, out, sizes, best)
    if best[set] then return best[set] end
    local kept, first = shown(list, set, out), set & -set
    local all, seen = {}, {}
    for i, o in ipairs(list) do
      for _, label in ipairs(set & 1 << i - 1 ~= 0 and o.labels or {}) do
        if not seen[label] then all[#all + 1], seen[label] = label, true end
      end
    end
    local way = {cost = 0, labels = {}}
    for _, label in ipairs(all) do
      if kept[label] then way.labels[#way.labels + 1] = label end
    end
    if set == first then
      way.place = math.tointeger(math.log(first, 2)) + 1
    else
      way.cost = math.huge
      local rest = set ~ first
      local part = rest
      repeat -- every way to share out the others
        part = part - 1 & rest
        local a, b = plan(list, first | part, out, sizes, best),
          plan(list, rest ~ part, out, sizes, best)
        local union = joined(a.labels)
        for _, label in ipairs(b.labels) do
          if not find(a.labels, label) then union[#union + 1] = label end
        end
        local cost = a.cost + b.cost + product(union, sizes)
        if cost < way.cost then way.cost, way.a, way.b = cost, a, b end
      until part == 0
    end
    best[set] = way
    return way
  end

  local function follow(way, list, sizes)
    if way.place then return list[way.place] end
    local kept = {}
    for _, label in ipairs(way.labels) do kept[label] = true end
    return contract(follow(way.a, list, sizes), follow(way.b, list, sizes), kept, sizes)
  end

  local FEW = 7 -- operands, of which every order is tried; more, and two, are taken from the left

  define("einsum(spec: string, x: array, ...: array)",
    "sums of products by index letters: \"ij,jk->ik\"; without -> those that occur once, in " ..
    "order; ii: a diagonal; ...: more axes, which broadcast",
    function(spec, ...)
      local xs = table.pack(...)
      local left, right = spec:match "^(.-)%->(.*)$"
      local terms, list, sizes, counts, most = {}, {}, {}, {}, 0
      for text in ((left or spec) .. ","):gmatch "([^,]*)," do terms[#terms + 1] = text end
      if #terms ~= xs.n then raise("einsum: %q is for %d operands, got %d", spec, #terms, xs.n) end
      args.alike(xs)
      for k, text in ipairs(terms) do
        local labels, dots, more = labels_of(text, xs[k].ndim, k)
        if dots then most = math.max(most, more) end
        for _, label in ipairs(labels) do counts[label] = (counts[label] or 0) + 1 end
        list[k] = without_repeats(xs[k], put_dots(labels, dots, more))
        local shape = list[k].x.shape
        for i, label in ipairs(list[k].labels) do
          local n, was = shape[i], sizes[label]
          if was and was ~= n and was ~= 1 and n ~= 1 then
            raise("einsum: %s is %d in operand %d, and %d before", label, n, k, was)
          end
          if not was or was == 1 then sizes[label] = n end
        end
      end
      local out, dots
      if right then
        out, dots = labels_of(right)
      else
        out, dots = {}, 1
        for label, n in pairs(counts) do if n == 1 then out[#out + 1] = label end end
        table.sort(out, mg._before)
      end
      put_dots(out, dots, most)
      for i, label in ipairs(out) do
        if not sizes[label] then raise("einsum: %s of the result is in no operand", label) end
        if find(out, label) < i then raise("einsum: %s is twice in the result", label) end
      end
      for _, o in ipairs(list) do
        reduce(o, "squeeze", function(label, n) return n == 1 and sizes[label] ~= 1 end)
      end
      for k, o in ipairs(list) do
        local kept = shown(list, 1 << k - 1, out)
        reduce(o, "sum", function(label) return not kept[label] end)
      end
      local y
      if #list > 2 and #list <= FEW then
        y = follow(plan(list, (1 << #list) - 1, out, sizes, {}), list, sizes)
      else
        y = list[1]
        for k = 2, #list do y = contract(y, list[k], shown(list, (1 << k) - 1, out), sizes) end
      end
      return arranged(y, out)
    end)
end
