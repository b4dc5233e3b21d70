-- einsum.lua -- sums of products by index letters: diagonals first, then products of pairs in the
-- cheapest order, by matmul where something is summed.
--
-- Labels are a string, one character for each axis: a letter, or for an axis of "..." a digit,
-- counted from the last. An operand is {x =, labels =}.

return function(mg, args)
  local define, raise = mg.define, mg.raise

  local function has(labels, label) return labels:find(label, 1, true) end

  local function without(labels, others)
    return others == "" and labels or (labels:gsub("[" .. others .. "]", ""))
  end

  local function only(labels, others)
    return others == "" and "" or (labels:gsub("[^" .. others .. "]", ""))
  end

  -- The letters, where "..." stands among them, and how many axes it is for
  local function labels_of(text, ndim, k)
    text = text:gsub("%s", "")
    local before, after = text:match "^(%a*)%.%.%.(%a*)$"
    local labels = before and before .. after or text
    if labels:find "%A" then
      local at = #(text:match "^%a*%.%.%.%a*" or text:match "^%a*") + 1
      raise("einsum: %q at %d of %q is no letter", text:sub(at, at), at, text)
    end
    local more = (ndim or 0) - #labels
    if ndim and (more < 0 or more > 0 and not before) then
      raise("einsum: operand %d has %d axes, %q names %s%d", k, ndim, text,
        before and "at least " or "", #labels)
    end
    return labels, before and #before + 1, more
  end

  local DIGITS = "87654321" -- of as many axes as there can be

  local function put_dots(labels, dots, count)
    if not dots then return labels end
    return labels:sub(1, dots - 1) .. DIGITS:sub(#DIGITS + 1 - count) .. labels:sub(dots)
  end

  -- The diagonal of equal labels; its axis is the last.
  local function without_repeats(x, labels)
    while true do
      local at, i, label = labels:find "(%w).-%1"
      if not at then return {x = x, labels = labels} end
      if x.shape[at] ~= x.shape[i] then
        raise("einsum: %s is %d and %d in one operand", label, x.shape[at], x.shape[i])
      end
      x = x:diagonal{axis1 = at, axis2 = i}
      labels = labels:sub(1, at - 1) .. labels:sub(at + 1, i - 1) .. labels:sub(i + 1) .. label
    end
  end

  -- Axes that no one else wants: of length 1 where another operand has more (squeezed), or summed.
  local function reduce(o, what, unwanted)
    local axes, shape = {}, o.x.shape
    o.labels = o.labels:gsub("()(%w)", function(i, label)
      if unwanted(label, shape[i]) then
        axes[#axes + 1] = i
        return ""
      end
    end)
    if #axes > 0 then o.x = o.x[what](o.x, {axis = axes}) end
  end

  local function product(labels, sizes)
    local n = 1
    for label in labels:gmatch "." do n = n * sizes[label] end
    return n
  end

  local function arranged(o, wanted)
    if o.labels == wanted then return o.x end
    local order = {}
    for label in wanted:gmatch "." do order[#order + 1] = has(o.labels, label) end
    return o.x:permute(order)
  end

  -- a and b as one operand; `kept` are the labels that are still wanted.
  local function contract(a, b, kept, sizes)
    local both = only(a.labels, b.labels)
    local batch, inner = only(both, kept), without(both, kept)
    local left, right = without(a.labels, both), without(b.labels, both)
    local n, m, r, k = product(batch, sizes), product(left, sizes), product(right, sizes),
      product(inner, sizes)
    local p = arranged(a, batch .. left .. inner)
    local q, y
    if inner ~= "" and (m > 1 or r > 1) then
      q = arranged(b, batch .. inner .. right)
      if batch == "" then
        y = p:reshape(m, k):matmul(q:reshape(k, r))
      else
        y = p:reshape(n, m, k):matmul(q:reshape(n, k, r))
      end
    else
      q = arranged(b, batch .. right .. inner)
      y = p:reshape(n, m, 1, k) * q:reshape(n, 1, r, k)
      if inner ~= "" then y = y:sum(-1) end
    end
    local labels, shape = batch .. left .. right, {}
    for label in labels:gmatch "." do shape[#shape + 1] = sizes[label] end
    return {x = y:reshape(shape), labels = labels}
  end

  -- Labels that the operands of a set show to the others: those in the output or in one outside.
  local function shown(list, set, out)
    for i, o in ipairs(list) do if set & 1 << i - 1 == 0 then out = out .. o.labels end end
    return out
  end

  -- The cheapest way to multiply all of a set, by multiplications: a tree of pairs of places. What
  -- is known of smaller sets is in `best`.
  local function plan(list, set, out, sizes, best)
    if best[set] then return best[set] end
    local first, all = set & -set, ""
    for i, o in ipairs(list) do
      if set & 1 << i - 1 ~= 0 then all = all .. without(o.labels, all) end
    end
    local way = {cost = 0, labels = only(all, shown(list, set, out))}
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
        local union = a.labels .. without(b.labels, a.labels)
        local cost = a.cost + b.cost + product(union, sizes)
        if cost < way.cost then way.cost, way.a, way.b = cost, a, b end
      until part == 0
    end
    best[set] = way
    return way
  end

  local function follow(way, list, sizes)
    if way.place then return list[way.place] end
    return contract(follow(way.a, list, sizes), follow(way.b, list, sizes), way.labels, sizes)
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
        for label in labels:gmatch "." do counts[label] = (counts[label] or 0) + 1 end
        local o = without_repeats(xs[k], put_dots(labels, dots, more))
        list[k] = o
        for i, n in ipairs(o.x.shape) do
          local label = o.labels:sub(i, i)
          local was = sizes[label]
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
        local once = {}
        for label, n in pairs(counts) do if n == 1 then once[#once + 1] = label end end
        table.sort(once, mg._before)
        out, dots = table.concat(once), 1
      end
      out = put_dots(out, dots, most)
      for i = 1, #out do
        local label = out:sub(i, i)
        if not sizes[label] then raise("einsum: %s of the result is in no operand", label) end
        if has(out, label) < i then raise("einsum: %s is twice in the result", label) end
      end
      for _, o in ipairs(list) do
        reduce(o, "squeeze", function(label, n) return n == 1 and sizes[label] ~= 1 end)
      end
      for k, o in ipairs(list) do
        local kept = shown(list, 1 << k - 1, out)
        reduce(o, "sum", function(label) return not has(kept, label) end)
      end
      local y
      if #list > 2 and #list <= FEW then
        y = follow(plan(list, (1 << #list) - 1, out, sizes, {}), list, sizes)
      else
        y = list[1]
        for k = 2, #list do y = contract(y, list[k], shown(list, (1 << k) - 1, out), sizes) end
      end
      y = arranged(y, out)
      return rawequal(y, xs[1]) and y:clone() or y
    end)
end
