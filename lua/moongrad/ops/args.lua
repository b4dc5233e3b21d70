-- args.lua -- checks of arguments, and small helpers, that the groups of ops share.
--
-- Refusals go through mg.raise, so that they stand at the script's line: "op: what is wrong".

local options = require "moongrad.options"

return function(mg)
  local raise = mg.raise
  local args = {}

  -- A shape as the core writes it: "(2, 3)".
  function args.text(shape)
    return "(" .. table.concat(shape, ", ") .. ")"
  end

  -- x as a Variable; numbers and tables become constants.
  function args.variable(op, x, name)
    if mg.is_variable(x) then return x end
    if type(x) ~= "number" and type(x) ~= "table" then
      raise("%s: %s must be a Variable, a number or a table, got %s", op, name or "x", type(x))
    end
    return mg.tensor(x)
  end

  -- A float dtype; the default one where none is given.
  function args.float_dtype(op, dtype)
    dtype = dtype or mg.Config.dtype
    if dtype ~= "float64" and dtype ~= "float32" then
      raise("%s: dtype must be float64 or float32, got %s", op, tostring(dtype))
    end
    return dtype
  end

  -- Will an op on x be recorded?
  function args.is_tracked(x)
    return mg.Config.enable_backprop and x.requires_grad
  end

  function args.integer(op, n, name, least)
    local i = type(n) == "number" and math.tointeger(n)
    if not i then raise("%s: %s must be an integer, got %s", op, name, tostring(n)) end
    if least and i < least then raise("%s: %s must be at least %d, got %d", op, name, least, i) end
    return i
  end

  -- The argument (axis | {axis =, ...}) as options.
  function args.by_axis(op, v, defaults)
    if type(v) == "number" then v = {axis = v} end
    return options(op, v, defaults)
  end

  -- An axis of shape, counted from 1; a negative one counts from the end. `extra` more are let in.
  function args.axis(op, axis, shape, extra)
    local n = #shape + (extra or 0)
    local i = args.integer(op, axis, "axis")
    if i < 0 then i = i + n + 1 end
    if i < 1 or i > n then
      raise("%s: axis %d is out of range for shape %s", op, axis, args.text(shape))
    end
    return i
  end

  -- A set of axes (number, list, or nothing for all) as an ordered list.
  function args.axes(op, axis, shape)
    local list, chosen = {}, {}
    if not axis then
      for i = 1, #shape do list[i] = i end
      return list
    end
    for _, a in ipairs(type(axis) == "table" and axis or {axis}) do
      local i = args.axis(op, a, shape)
      if chosen[i] then
        raise("%s: axis %d is given twice for shape %s", op, a, args.text(shape))
      end
      chosen[i] = true
      list[#list + 1] = i
    end
    table.sort(list)
    return list
  end

  -- shape after a reduction of axes, an ordered list.
  function args.reduced(shape, axes, keepdims)
    for k = #axes, 1, -1 do
      if keepdims then shape[axes[k]] = 1 else table.remove(shape, axes[k]) end
    end
    return shape
  end

  function args.product(shape, first, last)
    local n = 1
    for i = first or 1, last or #shape do n = n * shape[i] end
    return n
  end

  -- Integers given as numbers or as one table, which may also carry the options allowed.
  function args.sizes(op, allowed, least, ...)
    local given = ...
    if type(given) ~= "table" then given = {...} end
    local sizes = {}
    for i, n in ipairs(given) do sizes[i] = args.integer(op, n, "size " .. i, least) end
    for name, value in pairs(given) do
      if allowed[name] then
        sizes[name] = value
      elseif sizes[name] == nil then
        raise("%s: unknown option %s", op, tostring(name))
      end
    end
    return sizes
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
    if type(t) == "table" or type(t) == "number" then t = mg.tensor(t, "int64") end
    t = args.variable(op, t, name .. "s")
    if t.dtype ~= "int64" and t.dtype ~= "uint8" then
      raise("%s: %ss must be int64, got %s", op, name, t.dtype)
    end
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
