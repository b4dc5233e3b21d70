-- tree.lua -- trees: a Variable or a number, or a table of trees, by place, by name or both; a
-- Module is one too, of its parameters.
--
-- A Variable or a table that stands in several places of a tree is one leaf, one table, in the
-- first of them: what is tied stays tied. A form is what a tree is without its leaves: the number
-- of a leaf, or the table, its keys and a form for each.

local mg = require "moongrad.core"
local is_variable, raise = mg.is_variable, mg.raise

local DEEPEST = 10000 -- tables in tables: fewer than Lua has room for calls

local tree = {}

-- .layers[2].name, from the keys that lead there
local function path_text(path)
  local parts = {}
  for i, k in ipairs(path) do
    local word = type(k) == "string" and k:match "^[%a_][%w_]*$"
    parts[i] = word and "." .. word or (type(k) == "string" and "[%q]" or "[%s]"):format(k)
  end
  return table.concat(parts)
end

local function is_module(t)
  local class = getmetatable(t)
  return type(class) == "table" and class.is_module == true
end

-- The keys of t: its places, then the others in order; or nil and one that is none.
local function keys(t)
  local list, n = {}, 0
  for k in next, t do
    if math.type(k) ~= "integer" and type(k) ~= "string" then return nil, k end
    n = n + 1
    list[n] = k
  end
  table.sort(list, mg._before)
  return list
end

-- Are they 1, 2 ... alone?
local function is_list(t)
  local n = 0
  for k in next, t do
    n = n + 1
    if k ~= n then return false end
  end
  return true
end

-- argument 1: .W, or argument 1
local function where(what, path)
  local at = path_text(path)
  return at == "" and what or what .. ": " .. at
end

local function kind(v) return is_variable(v) and "Variable" or type(v) end

-- Raises what is wrong with v, which stands at `path`. seen: true for the tables that it stands in,
-- false for those in which all is well.
local function explain(op, what, v, owner, path, seen)
  local function refuse(more)
    raise("%s: %s is a %s%s", op, where(what, path), kind(v), more)
  end
  if is_variable(v) or type(v) == "number" then return end
  if #path > DEEPEST then raise("%s: %s nests more than %d deep", op, what, DEEPEST) end
  if type(v) ~= "table" then refuse ", expected a Variable" end
  if seen[v] ~= nil then
    if seen[v] and not owner then refuse " that stands in itself" end
    return
  end
  owner = owner or is_module(v) and v
  local list, other
  if owner then list = owner._keys(v) else list, other = keys(v) end
  if other ~= nil then refuse((" with a %s as key"):format(math.type(other) or type(other))) end
  if not list then refuse " without parameters yet: call the module once" end
  if not owner and #list == 0 and getmetatable(v) then
    refuse " with a metatable and nothing of its own"
  end
  seen[v] = true
  for _, k in ipairs(list) do
    path[#path + 1] = k
    explain(op, what, v[k], owner, path, seen)
    path[#path] = nil
  end
  seen[v] = false
end

-- The form of v, which stands in the module `owner`, if in any, so many tables deep; its leaves are
-- added. nil: it is no tree. apart: what stands in several places, but not of a module, is several.
local function form_of(v, owner, leaves, seen, depth, apart)
  local shared = is_variable(v)
  if shared or type(v) == "number" then
    local id = shared and (owner or not apart) and v.id
    if id and seen[id] then return seen[id] end
    local n = #leaves + 1
    leaves[n] = v
    if id then seen[id] = n end
    return n
  end
  local form = seen[v]
  if form and (form.owner or not (form.done and apart)) then
    return (form.done or form.owner) and form or nil
  end
  if type(v) ~= "table" or depth > DEEPEST then return nil end
  owner = owner or is_module(v) and v
  form = {of = v, owner = owner}
  seen[v] = form
  local list = false                               -- false: a list
  if owner then list = owner._keys(v) elseif not is_list(v) then list = keys(v) end
  if list == nil then return nil end
  form.keys = list
  for i = 1, list and #list or #v do
    local f = form_of(v[list and list[i] or i], owner, leaves, seen, depth + 1, apart)
    if not f then return nil end
    form[i] = f
  end
  if #form == 0 and not owner and getmetatable(v) then return nil end
  form.done = true
  return form
end

-- The leaves of t in order, and its form. Errors are op's, about `what`, which t is. apart: nothing
-- is tied but what a module ties.
function tree.flatten(op, what, t, apart)
  if is_variable(t) then return {t}, 1 end
  local leaves = {}
  local form = form_of(t, nil, leaves, {}, 0, apart)
  if not form then explain(op, what, t, nil, {}, {}) end
  return leaves, form
end

-- Have all of a module's leaves the shapes of its parameters?
local function fits(f, values, seen)
  seen[f] = true
  for i, part in ipairs(f) do
    local v, of = values[part], f.of[f.keys[i]]
    if math.type(part) then
      if not is_variable(v) or v.shape ~= of.shape then return false end
    elseif not seen[part] and not fits(part, values, seen) then
      return false
    end
  end
  return true
end

local function build(f, values, made, owner)
  if math.type(f) then
    if owner then owner._adopt(values[f]) end
    return values[f]
  end
  local t = made[f]
  if t then return t end
  t = {}
  made[f] = t
  if f.owner and f.owner == f.of then owner = fits(f, values, {}) and f.owner end
  if owner then
    for k, v in next, f.of do t[k] = v end
    setmetatable(t, getmetatable(f.of))
  end
  local names = f.keys
  for i = 1, #f do t[names and names[i] or i] = build(f[i], values, made, owner) end
  return t
end

-- The tree of this form with values[i] for leaf i. A module is copied, with all else that it has,
-- if they can be its parameters; else its place takes a table of them by name.
function tree.build(form, values)
  if form == 1 then return values[1] end
  return build(form, values, {})
end

-- Where leaf i stands: .W
function tree.place(form, i)
  local path, inside = {}, {}
  local function find(f)
    if f == i then return path_text(path) end
    if math.type(f) or inside[f] then return nil end
    inside[f] = true
    for j = 1, #f do
      path[#path + 1] = f.keys and f.keys[j] or j
      local found = find(f[j])
      if found then return found end
      path[#path] = nil
    end
    return nil
  end
  return find(form)
end

-- What stands in t where a tree of this form has its leaves, in their order.
function tree.match(op, what, form, t)
  local values, path, seen = {}, {}, {}
  local function wrong(text) raise("%s: %s %s", op, where(what, path), text) end
  local function visit(f, v)
    if math.type(f) then
      if v == nil then wrong "is missing" end
      if values[f] ~= nil and values[f] ~= v then
        wrong "differs from what stands elsewhere for the same leaf"
      end
      values[f] = v
      return
    elseif v == nil then
      wrong "is missing"
    elseif type(v) ~= "table" then
      wrong("is a " .. kind(v) .. ", expected a table")
    elseif seen[f] == v then
      return
    end
    seen[f] = v
    local known = {}
    for i = 1, #f do
      local k = f.keys and f.keys[i] or i
      known[k] = true
      path[#path + 1] = k
      visit(f[i], v[k])
      path[#path] = nil
    end
    if f.owner or is_module(v) then return end
    for k in next, v do
      if not known[k] then
        path[#path + 1] = k
        wrong "is one too many"
      end
    end
  end
  visit(form, t)
  return values
end

return tree
