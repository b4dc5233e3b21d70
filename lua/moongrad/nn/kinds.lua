-- What a Variable in a module's field is: a parameter, a buffer, or nothing of the module's.

local mg = require "moongrad"
local field = require "moongrad.field"
local checked = mg.checked

-- The Variable in a field is one box for as long as it stands there, so boxes can be marked.
local kinds = setmetatable({}, { __mode = "k" })

-- A Variable and those that a module has had in its place since :to(dtype) share a table with the
-- last of them; by these the id of the one before, and of those before that.
local places = setmetatable({}, { __mode = "k" })
local former = setmetatable({}, { __mode = "k" })

local Parameter = checked("Parameter(data: any)",
  "a tracked leaf that a module owns by having it in a field, a list or a table there",
  function(data)
    local p = mg._outlive(mg.Variable(data))
    if not p.requires_grad then
      mg.raise("Parameter: gradients need floats, this is %s", p.dtype)
    end
    kinds[p] = "parameter"
    return p
  end)

local Buffer = checked("Buffer(data: any)", "untracked, but part of a module's state and files",
  function(data)
    local b = mg._outlive(mg.tensor(data))
    kinds[b] = "buffer"
    return b
  end)

local function kind(v)
  return kinds[v] or (v.requires_grad and not v.creator and "parameter") or nil
end

-- v takes the place of one of this kind, in a copy of its module or by assignment to the field.
local function adopt(v, as)
  if mg.is_variable(v) then kinds[mg._outlive(v)] = as or "parameter" end
end

-- The kind of what stands in a module's field: a tracked leaf is a parameter there from then on,
-- when it is frozen, too.
local function settled(v)
  local of = kinds[v]
  if of then return of end
  of = kind(v)
  if of then adopt(v, of) end
  return of
end

local function replace(fields, old, new)
  local place = places[old] or setmetatable({}, { __mode = "v" })
  field(fields, place, 1, new)
  field(fields, places, old, place)
  field(fields, places, new, place)
  field(fields, former, new, { id = old.id, before = former[old] })
end

-- A parameter of a list that has no grad: does that go to another, which its module has in its
-- place? `idle`: none of the list has one.
local function check_place(op, name, p, idle)
  local place = places[p]
  if not place or place[1] == p or p.grad then return end
  if idle or place[1] and place[1].grad then
    mg.raise("%s: parameter %s is its module's no more, since :to(dtype) made new ones: take " ..
      "those, or the module in place of a list", op, name)
  end
end

-- k times n as a dim: a float where no integer is so large, which is refused as one.
local function times(k, n) return n > math.maxinteger // k and k * (n + 0.0) or k * n end

return { times = times, Parameter = Parameter, Buffer = Buffer, kind = kind, settled = settled,
         adopt = adopt, check_place = check_place, former = former, replace = replace }
