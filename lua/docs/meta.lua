-- meta.lua -- what editors read: LuaCATS annotations of all public names, out of their signatures.
-- The file is never run.

local catalog = require "docs.catalog"

local meta = {}

-- ---- types ------------------------------------------------------------------------------------

local TYPES = {
  array = "moongrad.Array", float = "moongrad.Array", float64 = "moongrad.Array",
  float32 = "moongrad.Array", int64 = "moongrad.Array", uint8 = "moongrad.Array",
  variable = "moongrad.Variable", list = "moongrad.Variable[]", int = "integer",
  number = "number", bool = "boolean", string = "string", dtype = "moongrad.dtype",
  ["function"] = "function", table = "table", tree = "moongrad.Tree", any = "any",
  axis = "integer", new_axis = "integer", axes = "integer|integer[]", ints = "integer|integer[]",
  shape = "integer|integer[]", pair = "integer|integer[]", numbers = "number[]",
  strings = "string[]",
  module = "moongrad.nn.Module", optimizer = "moongrad.optim.Optimizer",
  schedule = "moongrad.Schedule", sampler = "moongrad.data.Sampler",
  tokenizer = "moongrad.data.Tokenizer",
}

-- "int(1..) | \"same\"" as LuaCATS writes it
function meta.type_of(text)
  local parts, seen = {}, {}
  text = text:gsub("bool array", "array"):gsub("%b()", "")
  for one in text:gmatch "[^|]+" do
    one = one:match "^%s*(.-)%s*$"
    local words = one:sub(1, 1) == '"' and one or TYPES[one] or "table"
    for word in words:gmatch "[^|]+" do
      if not seen[word] then parts[#parts + 1] = word end
      seen[word] = true
    end
  end
  return table.concat(parts, "|")
end

-- Results by name: a type's word is one of it, "none" is nothing, another a Variable.
local function results(e)
  local gives = e.call and e.call.gives
  if e.kind == "class" then return {e.class} end
  if not gives and e.doc and e.doc:find "^several results" then
    return {"moongrad.Variable ..."}
  end
  if not gives then return {e.variables and "moongrad.Variable" or "any"} end
  local list = {}
  for name in gives:gmatch "[%w_]+" do
    if name ~= "none" then list[#list + 1] = TYPES[name] or "moongrad.Variable " .. name end
  end
  return list
end

-- ---- one function -----------------------------------------------------------------------------

local KEYWORDS = {}
for word in ("and break do else elseif end false for function goto if in local nil not or " ..
             "repeat return then true until while"):gmatch "%a+" do
  KEYWORDS[word] = true
end

local function safe(name) return KEYWORDS[name] and name .. "_" or name end

-- How an argument's type is followed: "= 1", "1..3"
local function remark(p)
  local bounds = p.type:match "%((.-)%)"
  local words = {}
  if bounds == ".." then words[#words + 1] = "finite"
  elseif bounds then words[#words + 1] = "in " .. bounds end
  if p.default then words[#words + 1] = "default " .. p.default end
  return #words > 0 and " # " .. table.concat(words, ", ") or ""
end

-- Appends the class of its options, if it has some.
local function options_class(out, e, class)
  if not e.call or #e.call.options == 0 then return nil end
  local name = class .. ".options"
  out[#out + 1] = "---@class " .. name
  for _, p in ipairs(e.call.options) do
    out[#out + 1] = ("---@field %s? %s%s"):format(safe(p.name), meta.type_of(p.type), remark(p))
  end
  out[#out + 1] = ""
  return name
end

-- The parts of "fun(a: integer, b?: number)" without the arguments that may be left out
local function overload(e, options, result)
  local parts, skipped = {}, false
  for _, p in ipairs(e.call) do
    if p.skip then skipped = true
    elseif not p.spread then
      parts[#parts + 1] = ("%s%s: %s"):format(safe(p.name),
        (p.optional or p.default) and "?" or "", meta.type_of(p.type))
    end
  end
  if options then parts[#parts + 1] = "options?: " .. options end
  return skipped and ("---@overload fun(%s): %s"):format(table.concat(parts, ", "), result) or nil
end

-- Appends what stands above a function, and gives its arguments' names.
local function annotate(out, e, options, from)
  local names = {}
  if e.doc then out[#out + 1] = "---" .. e.doc:gsub("\n", "\n---") end
  out[#out + 1] = "---`" .. e.text .. "`"
  if not e.call then
    out[#out + 1] = "---@param ... any"
    return {"..."}
  end
  for i = from, #e.call do
    local p = e.call[i]
    local name = p.spread and "..." or safe(p.name)
    out[#out + 1] = ("---@param %s%s %s%s"):format(name,
      not p.spread and (p.optional or p.default) and "?" or "", meta.type_of(p.type), remark(p))
    names[#names + 1] = name
  end
  if e.call.rest then
    out[#out + 1] = "---@param ... " .. meta.type_of(e.call.rest)
    names[#names + 1] = "..."
  end
  if options then -- behind ... nothing can be named: there they are among the values
    if names[#names] == "..." then
      local last = out[#out]
      out[#out] = last:gsub("( #.*)$", "|" .. options .. "%1")
      if out[#out] == last then out[#out] = last .. "|" .. options end
    else
      out[#out + 1] = "---@param options? " .. options
      names[#names + 1] = "options"
    end
  end
  return names
end

local function add_returns(out, e)
  for _, r in ipairs(results(e)) do out[#out + 1] = "---@return " .. r end
end

-- owner: what the function is a field of; from: the first argument that is not self
local function add_function(out, e, owner, separator, class, from)
  local options = options_class(out, e, class)
  local names = annotate(out, e, options, from)
  local over = from == 1 and e.call and overload(e, options, results(e)[1] or "nil")
  if over then out[#out + 1] = over end
  add_returns(out, e)
  local name = owner .. separator .. e.name
  if KEYWORDS[e.name] then name = ("%s[%q]"):format(owner, e.name) end
  if name:find "%[" then
    out[#out + 1] = ("%s = function(%s) end"):format(name, table.concat(names, ", "))
  else
    out[#out + 1] = ("function %s(%s) end"):format(name, table.concat(names, ", "))
  end
  out[#out + 1] = ""
end

-- ---- classes ----------------------------------------------------------------------------------

-- Its methods, and what a call of the class takes and makes.
local function add_class(out, e, module, classes)
  local parent = e.parent and classes[e.parent]
  local options = options_class(out, e, e.class)
  local held, parts = module and module .. "." .. e.name or e.name, {}
  if e.doc then out[#out + 1] = "---" .. e.doc:gsub("\n", "\n---") end
  out[#out + 1] = "---`" .. e.text .. "`"
  out[#out + 1] = "---@class " .. e.class .. (parent and ": " .. parent or "")
  for _, p in ipairs(e.call or {}) do
    if not p.spread then
      parts[#parts + 1] = ("%s%s: %s"):format(safe(p.name),
        (p.optional or p.default) and "?" or "", meta.type_of(p.type))
    else parts[#parts + 1] = "...: " .. meta.type_of(p.type) end
  end
  if e.call and e.call.rest then parts[#parts + 1] = "...: " .. meta.type_of(e.call.rest) end
  if options then parts[#parts + 1] = "options?: " .. options end
  if module then
    out[#out + 1] = ("---@overload fun(%s): %s"):format(table.concat(parts, ", "), e.class)
    local short = e.call and overload(e, options, e.class)
    if short then out[#out + 1] = short end
  end
  for _, m in ipairs(e.members) do
    if m.name == "forward" and m.call then
      local taken = {}
      for _, p in ipairs(m.call) do taken[#taken + 1] = meta.type_of(p.type) end
      out[#out + 1] = ("---@operator call(%s): %s"):format(taken[1] or "any", "moongrad.Variable")
    end
  end
  out[#out + 1] = (module and "" or "local ") .. held .. " = {}"
  out[#out + 1] = ""
  for _, m in ipairs(e.members) do
    if m.name ~= "forward" then
      add_function(out, m, held, ":", e.class .. "." .. m.name, 1)
    end
  end
end

-- ---- the file ---------------------------------------------------------------------------------

local HEAD = [[
---@meta moongrad

-- Made by `make meta` out of moongrad's signatures: for editors, not to be run.

---@alias moongrad.dtype "float64"|"float32"|"int64"|"uint8"|"bool"
---@alias moongrad.Array moongrad.Variable|number|boolean|table
---@alias moongrad.Tree moongrad.Variable|number|table

---@class moongrad
---@field version string
---@field newaxis any
local mg = {}

---@class moongrad.Config
---@field enable_backprop boolean
---@field train boolean
---@field dtype "float64"|"float32"
---@field lean boolean
---@field debug boolean
mg.Config = {}
]]

local PROPERTY_TYPES = {
  data = "moongrad.Variable", grad = "moongrad.Variable?", creator = "moongrad.Creator?",
  generation = "integer", id = "integer", name = "string?", requires_grad = "boolean",
  shape = "integer[]", ndim = "integer", size = "integer", dtype = "moongrad.dtype",
  T = "moongrad.Variable",
}

local function add_variable(out, groups)
  out[#out + 1] = [[
---@class moongrad.Creator
---@field name string
---@field inputs moongrad.Variable[]
---@field outputs moongrad.Variable[]
---@field generation integer
---@field id integer

---@class moongrad.Variable]]
  for _, p in ipairs(catalog.properties()) do
    out[#out + 1] = ("---@field %s %s %s"):format(p.name, PROPERTY_TYPES[p.name], p.doc)
  end
  for _, operator in ipairs{"add", "sub", "mul", "div", "mod", "pow", "idiv"} do
    out[#out + 1] = ("---@operator %s(moongrad.Array): moongrad.Variable"):format(operator)
  end
  out[#out + 1] = "---@operator unm: moongrad.Variable"
  out[#out + 1] = "---@operator len: integer"
  out[#out + 1] = "---@operator concat(any): string"
  out[#out + 1] = "---@field [integer|table|moongrad.Variable] moongrad.Variable"
  out[#out + 1] = "local Variable = {}\n"
  for _, group in ipairs(groups) do
    for _, e in ipairs(group.entries) do
      if e.method or e.kind == "method" then
        add_function(out, e, "Variable", ":", "moongrad.Variable." .. e.name, 2)
      end
    end
  end
end

-- Groups whose functions give one Variable where their signature does not say what they give
local VARIABLES = {}
for _, title in ipairs{"elementwise", "reductions", "shape and order", "new arrays", "sampling",
                       "statistics", "linear algebra", "pooling", "normalization", "networks"} do
  VARIABLES[title] = true
end

-- All of it as one string
function meta.text()
  local groups, out, classes = catalog.groups(), {HEAD}, {}
  for _, group in ipairs(groups) do
    for _, e in ipairs(group.entries) do
      e.variables = VARIABLES[group.title]
      if e.kind == "class" then
        e.class = "moongrad." .. (group.module and group.title .. "." or "") .. e.name
        classes[e.name] = e.class
      end
    end
  end
  add_variable(out, groups)
  for _, group in ipairs(groups) do
    if group.module then out[#out + 1] = ("mg.%s = {}\n"):format(group.title) end
    local owner = group.module and "mg." .. group.title or "mg"
    for _, e in ipairs(group.entries) do
      if e.kind == "class" then
        add_class(out, e, group.title ~= "objects" and owner, classes)
      elseif e.kind == "table" and e.members then
        if e.name ~= "Config" then out[#out + 1] = ("%s = {}\n"):format(e.path) end
        for _, m in ipairs(e.members) do
          m.variables, m.class = true, m.path:gsub("^mg", "moongrad")
          if m.kind == "class" then add_class(out, m, e.path, classes)
          else add_function(out, m, e.path, ".", m.class, 1) end
        end
      elseif e.kind ~= "method" then
        add_function(out, e, owner, ".", e.path:gsub("^mg", "moongrad"), 1)
      end
    end
  end
  out[#out + 1] = "return mg\n"
  return table.concat(out, "\n")
end

return meta
