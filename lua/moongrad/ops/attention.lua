-- attention.lua -- softmax(q k') v, with what may not be seen left out.
--
-- Vaswani et al., "Attention is all you need", 2017.

return function(mg, args)
  local define, raise, drawing = mg.define, mg.raise, mg._drawing

  local function shape_error(what, q, k, v)
    raise("scaled_dot_product_attention: q %s, k %s, v %s: %s", args.text(q), args.text(k),
      args.text(v), what)
  end

  -- The leading axes of a and b together, or nil
  local function joint(a, b)
    local r = {}
    for i = 1, math.max(#a, #b) do
      local m, n = a[#a + 1 - i] or 1, b[#b + 1 - i] or 1
      if m ~= n and m ~= 1 and n ~= 1 then return nil end
      r[i] = m == 1 and n or m
    end
    for i = 1, #r // 2 do r[i], r[#r + 1 - i] = r[#r + 1 - i], r[i] end
    return r
  end

  local function leading(shape) return table.move(shape, 1, #shape - 2, 1, {}) end

  -- x broadcast to these leading axes, so many rows, and the columns it has, if nothing is said
  local function as(x, lead, rows, columns)
    local have, want = x.shape, table.move(lead, 1, #lead, 1, {})
    want[#want + 1], want[#want + 2] = rows, columns or have[#have]
    return args.text(have) == args.text(want) and x or x:broadcast_to(want)
  end

  define("scaled_dot_product_attention(q: float, k: float, v: float, {attn_mask: array?, " ..
    "dropout_p: number(0..1) = 0, is_causal: bool = false, scale: number(..)?, " ..
    "enable_gqa: bool = false})",
    "softmax(scale q k' + mask) v: q (..., T, D), k (..., S, D), v (..., S, E); " ..
    "masks (..., T, S): bool keeps where true, float is added; a row that keeps nothing gives 0",
    drawing(function(q, k, v, mask, p, causal, scale, grouped)
      local a, b, c = q.shape, k.shape, v.shape
      if #a < 2 or #b < 2 or #c < 2 then
        shape_error("expected (..., T, D), (..., S, D), (..., S, E)", a, b, c)
      elseif a[#a] ~= b[#b] then
        shape_error("the last axes of q and k differ", a, b, c)
      elseif b[#b - 1] ~= c[#c - 1] then
        shape_error("k and v differ in length", a, b, c)
      end
      scale = scale or 1 / math.sqrt(math.max(a[#a], 1))
      local heads
      if grouped then           -- (.., heads of k, heads of q for each, T, D) against (.., 1, ...)
        local n, m = #a > 2 and a[#a - 2] or 0, #b > 2 and b[#b - 2] or 0
        if n == 0 or m == 0 or n % m ~= 0 or m ~= (c[#c - 2] or 0) then
          shape_error("the heads of q are no multiple of those of k and v", a, b, c)
        end
        heads = a
        local function split(x, shape, one, many)
          local s = table.move(shape, 1, #shape - 3, 1, {})
          s[#s + 1], s[#s + 2] = one, many
          return x:reshape(table.move(shape, #shape - 1, #shape, #s + 1, s))
        end
        q, k, v = split(q, a, m, n // m), split(k, b, m, 1), split(v, c, m, 1)
        if mask and mask.ndim > 2 then
          local s = mask.shape
          if s[#s - 2] == n then mask = split(mask, s, m, n // m)
          else mask = mask:unsqueeze(mask.ndim - 2) end
        end
      end
      local lead = joint(leading(q.shape), leading(k.shape))
      lead = lead and joint(lead, leading(v.shape))
      if not lead then shape_error("the leading axes do not broadcast", a, b, c) end
      local T, S = a[#a - 1], b[#b - 1]
      if mask then
        local s = mask.shape
        local want = table.move(lead, 1, #lead, 1, {})
        want[#want + 1], want[#want + 2] = T, S
        local fits = joint(s, want)
        if not fits or #s > #lead + 2 or args.text(fits) ~= args.text(want) then
          raise("scaled_dot_product_attention: attn_mask %s does not fit %s: (..., T, S)",
            args.text(s), args.text(want))
        elseif mask.dtype == "int64" or mask.dtype == "uint8" then
          raise("scaled_dot_product_attention: attn_mask is %s, expected bool or float", mask.dtype)
        end
      end
      if mask then mask = as(mask, lead, T, S) end
      local y = mg._attention(as(q, lead, T), as(k, lead, S), as(v, lead, S), mask,
        {causal = causal, scale = scale, p = mg.Config.train and p or 0})
      if not heads then return y end
      heads[#heads] = c[#c]
      local full = table.move(lead, 1, #lead - 2, 1, {})
      return y:reshape(table.move(heads, #heads - 2, #heads, #full + 1, full))
    end))
end
