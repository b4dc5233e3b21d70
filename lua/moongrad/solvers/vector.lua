-- A tree as one vector: what solvers work on, whatever shape the unknowns have.
--
--   local v = vector("root", "argument 2", x0)
--   v.start             all leaves in a row, untracked, of their widest dtype
--   v.tree(x)           the tree that a vector is, made of views: recorded where x is

local mg = require "moongrad"
local tree = require "moongrad.tree"

local function is_float(x) return x.dtype == "float64" or x.dtype == "float32" end

return function(op, what, t)
  local leaves, form = tree.flatten(op, what, t)
  local parts, shapes, dtypes, ends, at = {}, {}, {}, {}, 0
  for i, x in ipairs(leaves) do
    if not mg.is_variable(x) then x = mg.tensor(x) end
    if not is_float(x) then
      local place = tree.place(form, i)
      mg.raise("%s: %s%s is %s, expected floats", op, what, place == "" and "" or ": " .. place,
        x.dtype)
    end
    parts[i], shapes[i], dtypes[i] = x:detach():reshape(x.size), x.shape, x.dtype
    at = at + x.size
    ends[i] = at
  end
  if at == 0 then mg.raise("%s: %s has no elements", op, what) end
  local v = {start = #parts == 1 and parts[1] or mg.cat(parts, 1), size = at}

  function v.tree(x)
    if form == 1 then return x:reshape(shapes[1]) end
    local values = {}
    for i, last in ipairs(ends) do
      values[i] = x[{ {(ends[i - 1] or 0) + 1, last} }]:reshape(shapes[i]):to(dtypes[i])
    end
    return tree.build(form, values)
  end

  return v
end
