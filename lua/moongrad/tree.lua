-- tree.lua -- trees: a Variable or a number, or a table of trees, by place, by name or both; a
-- Module is one too, of its parameters.
--
-- A Variable or a table that stands in several places of a tree is one leaf, one table, in the
-- first of them: what is tied stays tied. A form is what a tree is without its leaves: the number
-- of a leaf, or the table, its keys and a form for each.

local mg = require "moongrad.core"
local is_variable, raise = mg.is_variable, mg.raise

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

local function before(a, b)
  if math.type(a) ~= math.type(b) then return math.type(a) == "integer" end
  return a < b
end

-- The keys of t: its places, then the others in order. The first that is none is told to `bad`.
local function keys(t, bad)
  local list, n, sorted = {}, 0, true
  for k in next, t do
    if math.type(k) ~= "integer" and type(k) ~= "string" then bad(k) end
    n = n + 1
    list[n] = k
    sorted = sorted and k == n
  end
  if not sorted then table.sort(list, before) end
  return list
end

-- argument 1: .W, or argument 1
local function where(what, path)
  local at = path_text(path)
  return at == "" and what or what .. ": " .. at
end

local function kind(v) return is_variable(v) and "Variable" or type(v) end

-- Refuses v, where `path` leads in what op calls `what`.
local function refuse(op, what, path, v, more)
  raise("%s: %s is a %s%s", op, where(what, path), kind(v), more)
end

-- The leaves of t in order, and its form.
function tree.flatten(op, what, t)
  local leaves, n, path, seen = {}, 0, {}, {}
  local function visit(v, owner)
    local shared = is_variable(v)
    if shared or type(v) == "number" then
      local k = shared and seen[v.id]
      if k then return k end
      n = n + 1
      leaves[n] = v
      if shared then seen[v.id] = n end
      return n
    elseif type(v) ~= "table" then
      refuse(op, what, path, v, ", expected a Variable")
    end
    local form = seen[v]
    if form and (form.done or form.owner) then return form end
    if form then refuse(op, what, path, v, " that stands in itself") end
    form = {of = v, owner = owner or is_module(v) and v}
    seen[v] = form
    if form.owner then
      form.keys = form.owner._keys(v)
      if not form.keys then
        refuse(op, what, path, v, " without parameters yet: call the module once")
      end
    else
      form.keys = keys(v, function(k)
        refuse(op, what, path, v, (" with a %s as key"):format(math.type(k) or type(k)))
      end)
    end
    for i, k in ipairs(form.keys) do
      path[#path + 1] = k
      form[i] = visit(v[k], form.owner)
      path[#path] = nil
    end
    form.done = true
    return form
  end
  return leaves, visit(t)
end

-- The tree of this form with values[i] for leaf i. A module is copied, with all else that it has.
function tree.build(form, values)
  local made = {}
  local function build(f, owner)
    if math.type(f) then
      if owner then owner._adopt(values[f]) end
      return values[f]
    end
    local t = made[f]
    if t then return t end
    t = {}
    made[f] = t
    if f.owner then
      for k, v in next, f.of do t[k] = v end
      setmetatable(t, getmetatable(f.of))
    end
    for i, k in ipairs(f.keys) do t[k] = build(f[i], f.owner) end
    return t
  end
  return build(form)
end

-- Where leaf i stands: .W
function tree.place(form, i)
  local path, inside = {}, {}
  local function find(f)
    if f == i then return path_text(path) end
    if math.type(f) or inside[f] then return nil end
    inside[f] = true
    for j, k in ipairs(f.keys) do
      path[#path + 1] = k
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
    for i, k in ipairs(f.keys) do
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
