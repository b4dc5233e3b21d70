-- catalog.lua -- every public name of moongrad, with its signature taken apart: what the reference,
-- the man page and the editors' annotations are made from. The facts are those of mg.help.
--
-- catalog.groups() gives a list of {title =, entries = {...}}. An entry is
--
--   name      "softmax", "Linear", "parameters"
--   path      what stands before the bracket of a call: "mg.softmax", "mg.nn.Linear", "x:backward"
--   kind      "function", "class", "method" (of Variables alone), "table" or "property"
--   value     the function or the table itself
--   doc       one line; text: the signature as it was written
--   call      the signature, taken apart by mg._parameters; nil where it is no call
--   method    a function: x:name(...) is the same
--   parent    the name of the class that a class inherits from
--   members   entries of a class: its own methods; of a table its functions

local mg = require "moongrad"
local help = require "moongrad.help"

local catalog = {}

local function split(text)
  local first, doc = text:match "^([^\n]*)\n(.*)$"
  return first, doc
end

-- "MAKING: doc" has more than a signature before the line break.
local function taken_apart(signature)
  local ok, call = pcall(mg._parameters, signature)
  return ok and call or nil
end

local function is_class(value)
  return type(value) == "table" and rawget(value, "__name") ~= nil
end

local function sorted_names(t)
  local names = help.members(t)
  table.sort(names)
  return names
end

local function entry(name, path, kind, value, text)
  local signature, doc = split(text)
  return {name = name, path = path, kind = kind, value = value, text = signature, doc = doc,
          call = taken_apart(signature)}
end

-- The methods of a class that are its own, and said what they do.
local function methods(class, owner)
  local list = {}
  for _, name in ipairs(sorted_names(class)) do
    local value = rawget(class, name)
    local text = type(value) == "function" and name ~= "init" and mg._docs[value]
    local path = name == "forward" and "layer" or owner .. ":" .. name
    if text then list[#list + 1] = entry(name, path, "method", value, text) end
  end
  return list
end

local function class_entry(name, path, class)
  local e = entry(name, path, "class", class, help.doc_of(class))
  local above = getmetatable(class)
  local parent = above and type(above.__index) == "table" and above.__index.__name
  e.parent = parent ~= "Object" and parent or nil
  e.members = methods(class, name)
  return e
end

local any_entry

local function table_entry(name, path, value)
  local e = entry(name, path, "table", value, help.doc_of(value))
  e.members = {}
  for _, field in ipairs(sorted_names(value)) do
    local is = value[field]
    if is_class(is) or mg._docs[is] then
      e.members[#e.members + 1] = any_entry(field, path .. "." .. field, is)
    end
  end
  return e
end

function any_entry(name, path, value)
  if is_class(value) then return class_entry(name, path, value) end
  if type(value) == "table" and mg._docs[value] then
    return table_entry(name, path, value)
  end
  return entry(name, path, "function", value, help.doc_of(value))
end

-- Parents that no module shows, but which have methods
local function parents(groups)
  local shown, list = {}, {}
  for _, group in ipairs(groups) do
    for _, e in ipairs(group.entries) do shown[e.value or false] = true end
  end
  for _, group in ipairs(groups) do
    for _, e in ipairs(group.entries) do
      local above = e.parent and getmetatable(e.value).__index
      if above and not shown[above] then
        shown[above] = true
        local found = methods(above, e.parent)
        if #found > 0 then
          list[#list + 1] = {name = e.parent, path = e.parent, kind = "class", value = above,
                             doc = ("what %s and the like have"):format(e.path), text = e.parent,
                             members = found}
        end
      end
    end
  end
  return list
end

local function object_entries(groups)
  local list = parents(groups)
  for _, object in ipairs(help.objects) do
    local name, doc = object[1], object[2]
    local class = help.class_of(object)
    list[#list + 1] = {name = name, path = name, kind = "class", value = class, doc = doc,
                       text = name, members = methods(class, name)}
  end
  return list
end

-- ---- Variables --------------------------------------------------------------------------------

function catalog.properties()
  local list = {}
  for i, p in ipairs(help.properties) do
    list[i] = {name = p[1], path = "x." .. p[1], kind = "property", text = p[1], doc = p[2]}
  end
  return list
end

-- ---- all of it --------------------------------------------------------------------------------


local function function_group(group, sample)
  local entries = {}
  for _, name in ipairs(group) do
    local value, method = rawget(mg, name) or mg[name], nil
    pcall(function() method = sample[name] end)
    local e = any_entry(name, value and "mg." .. name or "x:" .. name, value or method)
    if not value then e.kind = "method" end
    e.method = value ~= nil and method == value
    entries[#entries + 1] = e
  end
  return {title = group.title, entries = entries}
end

-- What mg has besides: what functions are made with, and mg.Config.
local function others(groups)
  local known, list = {}, {}
  for _, group in ipairs(groups) do
    for _, e in ipairs(group.entries) do known[e.path] = true end
  end
  for _, name in ipairs(sorted_names(mg)) do
    local value = mg[name]
    if not known["mg." .. name] and mg._docs[value] then
      list[#list + 1] = any_entry(name, "mg." .. name, value)
    end
  end
  return list
end

function catalog.groups()
  local sample, groups = mg.ones(1), {}
  for _, group in ipairs(help.groups()) do
    local module = mg[group.title]
    if type(module) == "table" and not mg._docs[module] then
      local entries = {}
      table.sort(group)
      for _, name in ipairs(group) do
        entries[#entries + 1] =
          any_entry(name, ("mg.%s.%s"):format(group.title, name), module[name])
      end
      groups[#groups + 1] = {title = group.title, module = true, entries = entries}
    else
      groups[#groups + 1] = function_group(group, sample)
    end
  end
  groups[#groups + 1] = {title = "objects", entries = object_entries(groups)}
  groups[#groups + 1] = {title = "the module itself", entries = others(groups)}
  return groups
end

return catalog
