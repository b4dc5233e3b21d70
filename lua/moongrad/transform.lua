-- transform.lua -- functions made of functions: derivatives of f, and checks of them.
--
-- Wherever a Variable is taken so is a tree of them (see tree.lua), and what is given has its form.
-- Nothing here touches anybody's .grad. One rule says what is tracked: a result is, if backprop is
-- on and it depends on something tracked outside, be it an argument or a parameter that f captures.
-- So mg.grad(mg.grad(f)) works, and a loop x = x - 0.1 * df(x) over constants grows no graph.

local check_list = require "moongrad.list"
local tree = require "moongrad.tree"
local element = require "moongrad.element"
local only = require "moongrad.only"

return function(mg)
  local is_variable, raise = mg.is_variable, mg.raise

  local function text(shape)
    return "(" .. table.concat(shape, ", ") .. ")"
  end

  local function is_float(x)
    return x.dtype == "float64" or x.dtype == "float32"
  end

  -- body(outside, ...) run with backprop on; `outside` says whether it was on before.
  local function recording(body)
    return function(...) return mg._transform(body, mg.Config.enable_backprop, ...) end
  end

  -- "argument 1", or "argument 1: .W"
  local function place(what, form, i)
    local at = tree.place(form, i)
    return at == "" and what or what .. ": " .. at
  end

  -- Where f is differentiated: a Variable that nobody else holds, so that f(x, x) can tell its
  -- arguments apart, and one that leads back to x if results are to lead there.
  local function point(x, linked)
    if not is_variable(x) then x = mg.tensor(x) end
    return mg._point(linked and x.requires_grad and x:clone() or mg.Variable(x))
  end

  -- f(...) with the leaves of the arguments numbered in `which` replaced by points. A record: the
  -- form of each of these arguments, all points in a row, whether one leads back, f's results.
  local function trace(op, outside, f, which, ...)
    local args, t = table.pack(...), {points = {}, linked = false}
    for k, n in ipairs(which) do
      local what = "argument " .. n
      local leaves, form = tree.flatten(op, what, args[n])
      for i, x in ipairs(leaves) do
        if is_variable(x) and not is_float(x) then
          raise("%s: %s is %s; only floats have gradients", op, place(what, form, i), x.dtype)
        end
        leaves[i] = point(x, outside)
        t.points[#t.points + 1] = leaves[i]
        t.linked = t.linked or leaves[i].creator ~= nil
      end
      t[k] = {form = form, n = #leaves}
      args[n] = tree.build(form, leaves)
    end
    if #which == 0 then raise("%s: there is no argument to differentiate by", op) end
    t.results = table.pack(f(table.unpack(args, 1, math.max(args.n, table.unpack(which)))))
    return t
  end

  -- What belongs to points, as trees like the arguments that these stand in.
  local function like_arguments(t, values)
    local out, first = {}, 1
    for k, a in ipairs(t) do
      out[k] = tree.build(a.form, table.move(values, first, first + a.n - 1, 1, {}))
      first = first + a.n
    end
    return table.unpack(out)
  end

  -- f's only result: its leaves, apart if so asked, and its form.
  local function result(op, t, apart)
    if t.results.n > 1 then
      raise("%s: f returned %d results, expected one (a table of them is one)", op, t.results.n)
    end
    local y = t.results[1]
    if not is_variable(y) and type(y) ~= "table" then
      raise("%s: f must return a Variable, got %s", op, type(y))
    end
    local ys, form = tree.flatten(op, "f's result", y, apart)
    for i, v in ipairs(ys) do
      if not is_variable(v) then
        raise("%s: %s is a number, expected a Variable", op, place("f's result", form, i))
      elseif not is_float(v) then
        raise("%s: f must return floats, got %s", op, v.dtype)
      end
    end
    return ys, form
  end

  -- Gradients of the ys times gys for the points, and whether the ys depend on something tracked
  -- besides; zeros where they do not depend on a point, which is the derivative.
  local function gradients(ys, gys, points, create_graph, retain_graph)
    local gs, linked = mg._gradients(ys, gys, points, create_graph, retain_graph, true)
    for k, g in ipairs(gs) do gs[k] = g or mg.zeros_like(points[k]) end
    return gs, linked
  end

  -- The leaves of v, a tree of this form, as Variables of the shapes and dtypes of xs; and whether
  -- one is tracked.
  local function like(op, name, v, form, xs)
    local vs, tracked = tree.match(op, name, form, v), false
    for i, x in ipairs(xs) do
      local u = vs[i]
      if not is_variable(u) then u = mg.tensor(u, x.dtype) end
      if text(u.shape) ~= text(x.shape) then
        raise("%s: %s has shape %s, expected %s", op, place(name, form, i), text(u.shape),
          text(x.shape))
      end
      vs[i], tracked = u:to(x.dtype), tracked or u.requires_grad
    end
    return vs, tracked
  end

  local function settled(ys, keep)
    if keep then return ys end
    local out = {}
    for i, y in ipairs(ys) do out[i] = y:detach() end
    return out
  end

  -- What f gives beside its result: the Variables in it, in plain tables too, lose their graph,
  -- unless it is kept; points are nobody else's leaves.
  local function aside(t, keep)
    local inner, seen, out, results = {}, {}, {}, t.results
    if results.n < 2 then return end
    for _, x in ipairs(t.points) do inner[x.id] = not x.creator end
    local function untracked(v)
      if is_variable(v) then
        return (inner[v.id] or v.creator and not keep) and v:detach() or v
      end
      if type(v) ~= "table" or getmetatable(v) ~= nil then return v end
      local copy = seen[v]
      if copy then return copy end
      copy = {}
      seen[v] = copy
      for k, e in next, v do copy[k] = untracked(e) end
      return copy
    end
    for i = 2, results.n do out[i - 1] = untracked(results[i]) end
    return table.unpack(out, 1, results.n - 1)
  end

  -- ---- first order ----------------------------------------------------------------------------

  -- results, then more
  local function join(more, ...)
    local all = table.pack(...)
    table.move(more, 1, more.n, all.n + 1, all)
    return table.unpack(all, 1, all.n + more.n)
  end

  local function value_and_grad(op, f, argnum, has_aux)
    local which, given = type(argnum) == "table" and argnum or {argnum}, {}
    if #which == 0 then raise("%s: argnum is an empty table", op) end
    for _, n in ipairs(which) do
      if math.type(n) ~= "integer" or n < 1 then
        raise("%s: argnum must be an integer from 1, got %s", op, tostring(n))
      elseif given[n] then
        raise("%s: argnum %d is given twice", op, n)
      end
      given[n] = true
    end
    return recording(function(outside, ...)
      local t = trace(op, outside, f, which, ...)
      local y, n = t.results[1], t.results.n
      if n > 1 and not has_aux then
        raise("%s: f returned %d results%s", op, n, has_aux == nil and ", expected one" or
          "; {has_aux = true} passes on those after the first")
      elseif not is_variable(y) then
        raise("%s: f must return a Variable, got %s", op, type(y))
      elseif not is_float(y) then
        raise("%s: f must return floats, got %s", op, y.dtype)
      elseif y.size ~= 1 then
        raise("%s: f must return one number, got shape %s (see vjp, jacobian)", op, text(y.shape))
      end
      local gs, linked = gradients({y}, nil, t.points, outside and (t.linked or "follow"),
        outside and t.linked)
      local keep = outside and (t.linked or linked)
      local more = table.pack(aside(t, keep))
      return keep and y or y:detach(), join(more, like_arguments(t, gs))
    end)
  end

  local function grad(op, f, argnum, has_aux)
    local both = value_and_grad(op, f, argnum, has_aux)
    return function(...) return select(2, both(...)) end
  end

  mg.define("value_and_grad(f: function, argnum: int | numbers = 1, {has_aux: bool = false})",
    "a function: the result of f and its gradient by the arguments numbered; with has_aux what " ..
    "else f gives comes last",
    function(f, argnum, has_aux)
      return value_and_grad("value_and_grad", f, argnum, has_aux)
    end)

  mg.define("grad(f: function, argnum: int | numbers = 1, {has_aux: bool = false})",
    "a function: the gradient of f, which gives one number, by the arguments numbered; zeros " ..
    "for what f does not depend on; with has_aux what else f gives comes last",
    function(f, argnum, has_aux) return grad("grad", f, argnum, has_aux) end)

  -- Why is there no gradient for xs at `at`?
  local function not_connected(x, at)
    local name = x.name and (" (%q)"):format(x.name) or ""
    if not x.requires_grad then
      raise("gradients: %s%s is untracked, nothing is recorded of it; " ..
        "allow_unused = true gives nil", at, name)
    end
    raise("gradients: nothing recorded leads from y to %s%s; allow_unused = true gives nil", at,
      name)
  end

  mg.define("gradients(y: array, xs: tree, {create_graph: bool = false, retain_graph: bool?, " ..
    "allow_unused: bool = false})",
    "the gradients of y for the Variables in xs, in a table like xs; .grad is left alone and " ..
    "nothing is walked that does not lead to them; what y does not depend on is an error, or " ..
    "nil with allow_unused",
    function(y, xs, create_graph, retain_graph, allow_unused)
      local leaves, form = tree.flatten("gradients", "xs", xs)
      for i, x in ipairs(leaves) do
        if not is_variable(x) then
          raise("gradients: xs%s is a number, expected a Variable", tree.place(form, i))
        end
      end
      if not allow_unused then mg._recorded(y, "gradients") end
      if retain_graph == nil then retain_graph = create_graph end
      local gs, i = mg._gradients({y}, nil, leaves, create_graph, retain_graph, allow_unused)
      if not gs then not_connected(leaves[i], "xs" .. tree.place(form, i)) end
      for k, g in ipairs(gs) do gs[k] = g or nil end
      return tree.build(form, gs)
    end)

  local function all(...)
    local which = {}
    for i = 1, select("#", ...) do which[i] = i end
    return which
  end

  mg.define("vjp(f: function, ...)",
    "f(...), and a function: for a gradient gy of that, the gradients of the arguments",
    recording(function(outside, f, ...)
      local t = trace("vjp", outside, f, all(...), ...)
      local ys, form = result("vjp", t, true)     -- each place has a gradient of its own
      local keep = outside and (t.linked or mg._links(ys, t.points))
      local pull = recording(function(on, gy, ...)
        if select("#", ...) > 0 then raise "vjp: expected one gradient: of f's result, a tree" end
        local gys, tracked = like("vjp", "gy", gy, form, ys)
        local gs = gradients(ys, gys, t.points, on and (keep or tracked), true)
        return like_arguments(t, gs)
      end)
      return tree.build(form, settled(ys, keep)), pull
    end))

  -- The gradient of x is linear in that of y, called u here; its own gradient by u is the tangent.
  mg.define("jvp(f: function, x: tree, v: tree)", "f(x), and its tangent: the derivative along v",
    recording(function(outside, f, x, v)
      local t = trace("jvp", outside, f, {1}, x)
      local ys, form = result("jvp", t)
      local vs, tracked = like("jvp", "v", v, t[1].form, t.points)
      local keep = outside and (t.linked or mg._links(ys, t.points))
      local us = {}
      for i, y in ipairs(ys) do us[i] = mg.Variable(mg.ones_like(y)) end
      local gs = gradients(ys, us, t.points, true, true)
      local tangents = gradients(gs, vs, us, outside and (keep or tracked))
      return tree.build(form, settled(ys, keep)), tree.build(form, tangents)
    end))

  -- The derivatives of y's elements by the points: for each point y's shape, then its own.
  local function rows(y, t, keep)
    local of = {}
    for k in ipairs(t.points) do of[k] = {} end
    for i = 1, y.size do
      local seed = mg.zeros{y.size, dtype = y.dtype}
      seed[i] = 1
      if y.ndim ~= 1 then seed = seed:reshape(y.shape) end
      local gs = gradients({y}, {seed}, t.points, keep, true)
      for k, g in ipairs(gs) do of[k][i] = g end
    end
    for k, x in ipairs(t.points) do
      local shape = table.move(y.shape, 1, y.ndim, 1, {})
      table.move(x.shape, 1, x.ndim, y.ndim + 1, shape)
      of[k] = y.size == 0 and mg.zeros(shape):to(x.dtype) or mg.stack(of[k]):reshape(shape)
    end
    return of
  end

  local jacobian = recording(function(outside, op, f, ...)
    local t = trace(op, outside, f, all(...), ...)
    local ys, form = result(op, t)
    local keep = outside and (t.linked or mg._links(ys, t.points))
    local by = {}                                  -- by[k][i]: of y i by argument k
    for i, y in ipairs(ys) do
      for k, j in ipairs{like_arguments(t, rows(y, t, keep))} do
        by[k] = by[k] or {}
        by[k][i] = j
      end
    end
    for k in ipairs(t) do by[k] = tree.build(form, by[k] or {}) end
    return table.unpack(by)
  end)

  mg.define("jacobian(f: function, ...)",
    "derivatives of all elements of f(...) by all of each argument: f's shape, then the " ..
    "argument's; of trees, a tree like f's of trees like the argument",
    function(f, ...) return jacobian("jacobian", f, ...) end)

  -- ---- second order ---------------------------------------------------------------------------

  mg.define("hessian(f: function, x: tree)",
    "second derivatives of f, which returns one number: x's shape twice; of a tree, trees in " ..
    "a tree",
    function(f, x)
      return jacobian("hessian", grad("hessian", f, 1), x)
    end)

  mg.define("hvp(f: function, x: tree, v: tree)",
    "the hessian of f times v, without making the hessian",
    recording(function(outside, f, x, v)
      local t = trace("hvp", outside, grad("hvp", f, 1), {1}, x)
      local vs, tracked = like("hvp", "v", v, t[1].form, t.points)
      local gs = tree.match("hvp", "the gradient", t[1].form, t.results[1])
      local keep = outside and (t.linked or tracked or mg._links(gs, t.points))
      return (like_arguments(t, gradients(gs, vs, t.points, keep, keep)))
    end))

  -- ---- hooks ----------------------------------------------------------------------------------

  mg.define("hook(x: array, fn: function)",
    "x, whose gradient fn sees on its way back: y = y:hook(fn). What fn(gradient) gives, if " ..
    "anything, is passed on in its place",
    function(x, fn)
      if not mg.Config.enable_backprop then return x end
      if not x.requires_grad then raise "hook: nothing is recorded of x: it gets no gradient" end
      return mg.Function{
        name = "hook",
        forward = function(_, y) return y end,
        backward = function(_, gy)
          local other = only("hook: fn", fn(gy))
          if other == nil then return gy end
          return other
        end}(x)
    end)

  -- ---- trees ----------------------------------------------------------------------------------

  mg.define("tree_leaves(tree: tree)", "the Variables and numbers in a tree, as a list",
    function(t) return (tree.flatten("tree_leaves", "argument 1", t)) end)

  mg.define("tree_map(fn: function, tree: tree, ...)",
    "a tree like the first, of what fn gives for each leaf and what stands there in the others",
    function(fn, t, ...)
      local leaves, form = tree.flatten("tree_map", "argument 2", t)
      local others = table.pack(...)
      for k = 1, others.n do
        others[k] = tree.match("tree_map", "argument " .. k + 2, form, others[k])
      end
      local out = {}
      for i, x in ipairs(leaves) do
        local beside = {}
        for k = 1, others.n do beside[k] = others[k][i] end
        out[i] = only("tree_map: fn", fn(x, table.unpack(beside, 1, others.n)))
      end
      return tree.build(form, out)
    end)

  -- ---- checks ---------------------------------------------------------------------------------

  -- Central differences of number(xs) by the elements of xs[k]. Every call sees the same random
  -- numbers, and tracked Variables.
  local function differences(op, number, xs, k, eps)
    local shape, state = xs[k].shape, mg.get_rng_state()
    local flat = xs[k]:detach():to("float64"):reshape(xs[k].size):totable()
    local moved, slopes = table.move(xs, 1, #xs, 1, {}), {}
    local function at(i, v)
      local old = flat[i]
      flat[i] = v
      moved[k] = mg.Variable(mg.tensor(flat, "float64"):reshape(shape))
      mg.set_rng_state(state)
      local y = mg.enable_grad(number, moved)
      flat[i] = old
      return y
    end
    for i, v in ipairs(flat) do
      local h = eps * math.max(1, math.abs(v))
      local width = (v + h) - (v - h)
      if width == 0 or width == math.huge then
        raise("%s: eps = %g is too %s beside %g", op, eps, width == 0 and "small" or "large", v)
      end
      slopes[i] = (at(i, v + h) - at(i, v - h)) / width
    end
    return slopes
  end

  -- A sum in which every element has its own weight: no error hides where a plain sum is constant.
  local function weighed(y)
    local weights = mg.range(1, y.size, {dtype = "float64"}):sin() + 1.5
    return (y:reshape(y.size) * weights):sum()
  end

  -- The sum of `of` of the floats in f's results, Variables, numbers or trees: a Variable.
  local function total(op, of, ...)
    local sum = nil
    for i = 1, select("#", ...) do
      for _, v in ipairs((tree.flatten(op, "result " .. i .. " of f", (select(i, ...))))) do
        if not is_variable(v) then v = mg.tensor(v, "float64") end
        if is_float(v) then sum = (sum or 0) + of(v:to "float64") end
      end
    end
    if not sum then raise("%s: f gives no floats", op) end
    return sum
  end

  -- The leaves as tracked Variables, those that are no floats as they are.
  local function leaves_of(op, what, t)
    local leaves, form = tree.flatten(op, what, t)
    for i, x in ipairs(leaves) do
      if not is_variable(x) then x = mg.tensor(x, "float64") end
      leaves[i] = is_float(x) and mg._point(mg.Variable(x)) or x
    end
    return leaves, form
  end

  mg.define("numerical_grad(f: function, x: tree, {eps: number(0<..) = 1e-6})",
    "the gradient of sum(f(x)) by central differences", function(f, x, eps)
      local xs, form = leaves_of("numerical_grad", "argument 2", x)
      local function number(at)
        return total("numerical_grad", mg.sum, f(tree.build(form, at))):item()
      end
      local gs = {}
      for k, leaf in ipairs(xs) do
        if not is_float(leaf) then
          raise("numerical_grad: %s is %s; only floats have gradients",
            place("argument 2", form, k), leaf.dtype)
        end
        local slopes = differences("numerical_grad", number, xs, k, eps)
        gs[k] = mg.tensor(slopes, "float64"):reshape(leaf.shape)
      end
      return tree.build(form, gs)
    end)

  -- Are the gradients of scalar(xs) for those in `which` what differences say?
  local function check(scalar, xs, which, names, opts, what)
    local state, at = mg.get_rng_state(), {}
    for k, n in ipairs(which) do at[k] = xs[n] end
    local gs = gradients({mg.enable_grad(scalar, xs)}, nil, at, false)
    for k, n in ipairs(which) do
      mg.set_rng_state(state)
      local function number(moved) return scalar(moved):item() end
      local numeric = differences("gradcheck", number, xs, n, opts.eps)
      local analytic = gs[k]:reshape(gs[k].size):totable()
      for i, b in ipairs(numeric) do
        local a = analytic[i]
        if not (a == b or math.abs(a - b) <= opts.atol + opts.rtol * math.abs(b)) then
          return false, mg._format("gradcheck: %s of %s at %s: analytic %.10g, numeric %.10g",
            what, names[n], text(element(xs[n].shape, i)), a, b)
        end
      end
    end
    return true
  end

  mg.define("gradcheck(f: function, xs: tree, {order: int(1..2) = 1, eps: number(0<..) = 1e-6, " ..
    "rtol: number(0..) = 1e-3, atol: number(0..inf) = 1e-5}) -> bool",
    "true, or false and where the gradient of f(xs[1], xs[2], ...) is not what differences say; " ..
    "order 2: the second too",
    function(f, xs, order, eps, rtol, atol)
      if is_variable(xs) or type(xs) == "number" then xs = {xs} end
      check_list("gradcheck", "the table of inputs", xs)
      local all_leaves, forms, first, names, which = {}, {}, {}, {}, {}
      for n, x in ipairs(xs) do
        local what = "input " .. n
        local leaves, form = leaves_of("gradcheck", what, x)
        forms[n], first[n] = form, #all_leaves + 1
        for i, leaf in ipairs(leaves) do
          local k = #all_leaves + 1
          all_leaves[k], names[k] = leaf, place(what, form, i)
          if leaf.dtype == "float32" then
            raise("gradcheck: %s is float32; differences need float64", names[k])
          elseif leaf.dtype == "float64" then
            which[#which + 1] = k
          end
        end
      end
      if #which == 0 then raise("gradcheck: no input is float64") end
      first[#forms + 1] = #all_leaves + 1
      local function scalar(at)
        local args = {}
        for n, form in ipairs(forms) do
          args[n] = tree.build(form, table.move(at, first[n], first[n + 1] - 1, 1, {}))
        end
        return total("gradcheck", weighed, f(table.unpack(args)))
      end
      local opts = {eps = eps, rtol = rtol, atol = atol}
      local ok, message = check(scalar, all_leaves, which, names, opts, "gradient")
      if not ok or order == 1 then return ok, message end
      return check(function(at)
        local points = {}
        for k, n in ipairs(which) do points[k] = at[n] end
        local sum = 0
        for _, g in ipairs((gradients({scalar(at)}, nil, points, true, true))) do
          sum = sum + weighed(g)
        end
        return sum
      end, all_leaves, which, names, opts, "second derivative")
    end)
end
