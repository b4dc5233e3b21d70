-- args.lua -- small helpers that the groups of ops share. Arguments are read by signatures.

return function(mg)
  local raise = mg.raise
  local args = {}

  -- A shape as the core writes it: "(2, 3)".
  function args.text(shape)
    return "(" .. table.concat(shape, ", ") .. ")"
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

  -- Labels or indices as int64, every one within 1..n.
  function args.labels(op, name, t, n)
    if t.size > 0 and (t:min():item() < 1 or t:max():item() > n) then
      for i, v in ipairs(t:reshape(t.size):totable()) do
        if v < 1 or v > n then
          raise("%s: %s %d at position %d is %s", op, name, v, i,
            n == math.maxinteger and "below 1" or "not in 1.." .. n)
        end
      end
    end
    return t:to("int64")
  end

  return args
end
