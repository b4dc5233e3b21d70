-- transform.lua -- functions made of functions: derivatives of f, and checks of them.
--
-- Nothing here touches anybody's .grad. One rule says what is tracked: a result is, if backprop is
-- on and it depends on something tracked outside, be it an argument or a parameter that f captures.
-- So mg.grad(mg.grad(f)) works, and a loop x = x - 0.1 * df(x) over constants grows no graph.

local options = require "moongrad.options"

return function(mg)
  local is_variable, raise = mg.is_variable, mg.raise

  local function define(name, f, doc)
    mg.define(name, f, doc, false)
  end

  local function text(shape)
    return "(" .. table.concat(shape, ", ") .. ")"
  end

  -- body(outside, ...) run with backprop on; `outside` says whether it was on before.
  local function recording(body)
    return function(...) return mg.enable_grad(body, mg.Config.enable_backprop, ...) end
  end

  -- Where f is differentiated: a Variable that nobody else holds, so that f(x, x) can tell its
  -- arguments apart, and one that leads back to x if results are to lead there.
  local function point(op, x, n, linked)
    if type(x) == "number" or type(x) == "table" then x = mg.tensor(x) end
    if not is_variable(x) then
      raise("%s: argument %d must be a Variable or a number, got %s", op, n, type(x))
    elseif x.dtype ~= "float64" and x.dtype ~= "float32" then
      raise("%s: argument %d is %s; only floats have gradients", op, n, x.dtype)
    end
    return linked and x.requires_grad and x:clone() or mg.Variable(x)
  end

  -- Does y depend on a tracked leaf that is not among points?
  local function captures(y, points)
    local seen, stack = {}, {y}
    for _, p in ipairs(points) do seen[p.id] = true end
    while #stack > 0 do
      local x = table.remove(stack)
      if not seen[x.id] then
        seen[x.id] = true
        local f = x.creator
        if f then
          table.move(f.inputs, 1, #f.inputs, #stack + 1, stack)
        elseif x.requires_grad then
          return true
        end
      end
    end
    return false
  end

  local function check_function(op, f)
    if type(f) ~= "function" and not (getmetatable(f) or {}).__call then
      raise("%s: f must be a function, got %s", op, type(f))
    end
  end

  -- y = f(...) with the arguments numbered in `which` replaced by points, the points, and whether
  -- what is derived from them stays tracked.
  local function trace(op, outside, f, which, ...)
    check_function(op, f)
    local args, points, keep = table.pack(...), {}, false
    for k, n in ipairs(which) do
      points[k] = point(op, args[n], n, outside)
      keep = keep or points[k].creator ~= nil
      args[n] = points[k]
    end
    local y = f(table.unpack(args, 1, math.max(args.n, table.unpack(which))))
    if not is_variable(y) then raise("%s: f must return a Variable, got %s", op, type(y)) end
    if y.dtype ~= "float64" and y.dtype ~= "float32" then
      raise("%s: f must return floats, got %s", op, y.dtype)
    end
    return y, points, outside and (keep or captures(y, points))
  end

  -- Gradients of the sum of y; zeros where y does not depend on an x.
  local function gradients(y, xs, opts)
    if y.requires_grad then return mg.gradients(y, xs, opts) end
    local zeros = {}
    for k, x in ipairs(xs) do zeros[k] = mg.zeros_like(x) end
    return zeros
  end

  -- v as a constant or Variable of x's shape.
  local function like(op, name, v, x)
    if not is_variable(v) then v = mg.tensor(v) end
    if text(v.shape) ~= text(x.shape) then
      raise("%s: %s has shape %s, expected %s", op, name, text(v.shape), text(x.shape))
    end
    return v
  end

  local function settled(y, keep)
    return keep and y or y:detach()
  end

  -- ---- first order ----------------------------------------------------------------------------

  local function value_and_grad(op, f, argnum)
    check_function(op, f)
    local which = type(argnum) == "table" and argnum or {argnum or 1}
    for _, n in ipairs(which) do
      if math.type(n) ~= "integer" or n < 1 then
        raise("%s: argnum must be an integer from 1, got %s", op, tostring(n))
      end
    end
    return recording(function(outside, ...)
      local y, points, keep = trace(op, outside, f, which, ...)
      if y.size ~= 1 then
        raise("%s: f must return one number, got shape %s (see vjp, jacobian)", op, text(y.shape))
      end
      return settled(y, keep), table.unpack(gradients(y, points, {create_graph = keep}))
    end)
  end

  local function grad(op, f, argnum)
    local both = value_and_grad(op, f, argnum)
    return function(...) return select(2, both(...)) end
  end

  define("value_and_grad", function(f, argnum)
    return value_and_grad("value_and_grad", f, argnum)
  end, "value_and_grad(f [, argnum = 1 | {argnums}])\na function: the result of f and its gradient")

  define("grad", function(f, argnum)
    return grad("grad", f, argnum)
  end, "grad(f [, argnum = 1 | {argnums}])\na function: the gradient of f, which gives one number")

  define("vjp", recording(function(outside, f, x)
    local y, points, keep = trace("vjp", outside, f, {1}, x)
    local pull = recording(function(on, gy)
      gy = like("vjp", "gy", gy, y)
      local create = on and (keep or gy.requires_grad)
      return gradients((y * gy):sum(), points, {create_graph = create, retain_graph = true})[1]
    end)
    return settled(y, keep), pull
  end), "vjp(f, x)\ny = f(x), and a function: the gradient of x for a gradient gy of y")

  -- The gradient of x is linear in that of y, called u here; its own gradient by u is the tangent.
  define("jvp", recording(function(outside, f, x, v)
    local y, points, keep = trace("jvp", outside, f, {1}, x)
    v = like("jvp", "v", v, points[1])
    local u = mg.Variable(mg.ones_like(y))
    local g = gradients((y * u):sum(), points, {create_graph = true})[1]
    local create = outside and (keep or v.requires_grad)
    return settled(y, keep), gradients((g * v):sum(), {u}, {create_graph = create})[1]
  end), "jvp(f, x, v)\ny = f(x), and its tangent: the derivative of y along v")

  local jacobian = recording(function(outside, op, f, x)
    local y, points, keep = trace(op, outside, f, {1}, x)
    local flat, rows, shape = y:reshape(y.size), {}, y.shape
    for i = 1, y.size do
      rows[i] = gradients(flat[i], points, {create_graph = keep, retain_graph = true})[1]
    end
    table.move(points[1].shape, 1, points[1].ndim, #shape + 1, shape)
    if y.size == 0 then return mg.zeros(shape):to(points[1].dtype) end
    return mg.stack(rows):reshape(shape)
  end)

  define("jacobian", function(f, x)
    return jacobian("jacobian", f, x)
  end, "jacobian(f, x)\nderivatives of all elements of f(x) by all of x: y's shape, then x's")

  -- ---- second order ---------------------------------------------------------------------------

  define("hessian", function(f, x)
    return jacobian("hessian", grad("hessian", f), x)
  end, "hessian(f, x)\nsecond derivatives of f, which returns one number: x's shape twice")

  define("hvp", recording(function(outside, f, x, v)
    local g, points, keep = trace("hvp", outside, grad("hvp", f), {1}, x)
    v = like("hvp", "v", v, points[1])
    local create = outside and (keep or v.requires_grad)
    return gradients((g * v):sum(), points, {create_graph = create})[1]
  end), "hvp(f, x, v)\nthe hessian of f times v, without making the hessian")

  -- ---- checks ---------------------------------------------------------------------------------

  -- Central differences of the sum of f(x). Every call of f sees the same random numbers.
  local function differences(f, x, eps)
    local shape, state = x.shape, mg.get_rng_state()
    local values = x:detach():to("float64"):reshape(x.size):totable()
    local function at(i, v)
      local old = values[i]
      values[i] = v
      mg.set_rng_state(state)
      local y = mg.no_grad(f, mg.tensor(values, "float64"):reshape(shape))
      values[i] = old
      return is_variable(y) and y:to("float64"):sum():item() or y
    end
    local slopes = {}
    for i, v in ipairs(values) do
      local h = eps * math.max(1, math.abs(v))
      slopes[i] = (at(i, v + h) - at(i, v - h)) / ((v + h) - (v - h))
    end
    return slopes
  end

  define("numerical_grad", function(f, x, opts)
    opts = options("numerical_grad", opts, {eps = 1e-6})
    if not is_variable(x) then x = mg.tensor(x) end
    return mg.tensor(differences(f, x, opts.eps), "float64"):reshape(x.shape)
  end, "numerical_grad(f, x [, {eps = 1e-6}])\nthe gradient of sum(f(x)) by central differences")

  -- The place of element i of an array, as its indices.
  local function place(shape, i)
    local index = {}
    i = i - 1
    for axis = #shape, 1, -1 do
      index[axis], i = i % shape[axis] + 1, i // shape[axis]
    end
    return text(index)
  end

  -- A sum in which every element has its own weight: no error hides where a plain sum is constant.
  local function weighed(y)
    local weights = mg.range(1, y.size, {dtype = "float64"}):sin() + 1.5
    return (y:reshape(y.size) * weights):sum()
  end

  local CHECK = {eps = 1e-6, rtol = 1e-3, atol = 1e-5, order = 1}

  local function check(f, xs, which, opts, what)
    local function scalar(...) return weighed(f(...)) end
    local state = mg.get_rng_state()
    local gs = {grad("gradcheck", scalar, which)(table.unpack(xs))}
    for k, n in ipairs(which) do
      local args = table.move(xs, 1, #xs, 1, {})
      mg.set_rng_state(state)
      local numeric = differences(function(x)
        args[n] = x
        return scalar(table.unpack(args))
      end, xs[n], opts.eps)
      local analytic = gs[k]:reshape(gs[k].size):totable()
      for i, b in ipairs(numeric) do
        local a = analytic[i]
        if not (a == b or math.abs(a - b) <= opts.atol + opts.rtol * math.abs(b)) then
          return false, mg._format(
            "gradcheck: %s of input %d at %s: analytic %.10g, numeric %.10g", what, n, place(xs[n].shape, i), a, b)
        end
      end
    end
    return true
  end

  define("gradcheck", function(f, xs, opts)
    opts = options("gradcheck", opts, CHECK)
    if is_variable(xs) then xs = {xs} end
    local which = {}
    for n, x in ipairs(xs) do
      if not is_variable(x) then
        raise("gradcheck: input %d must be a Variable, got %s", n, type(x))
      elseif x.dtype == "float32" then
        raise("gradcheck: input %d is float32; differences need float64", n)
      elseif x.dtype == "float64" then
        which[#which + 1] = n
      end
    end
    if #which == 0 then raise("gradcheck: no input is float64") end
    local ok, message = check(f, xs, which, opts, "gradient")
    if not ok or opts.order == 1 then return ok, message end
    local first = grad("gradcheck", function(...) return weighed(f(...)) end, which)
    return check(function(...)
      local sum = 0
      for _, g in ipairs{first(...)} do sum = sum + weighed(g) end
      return sum
    end, xs, which, opts, "second derivative")
  end, "gradcheck(f, {xs} [, {order = 1, eps = 1e-6, rtol = 1e-3, atol = 1e-5}])\n" ..
       "true, or false and where f's gradient is not what differences say; order 2: the second too")
end
