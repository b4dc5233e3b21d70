-- moongrad -- `local mg = require "moongrad"`.
--
-- The table of the C core becomes `mg`. What every program may want is put into it here; the larger
-- parts are loaded when they are first named.

if _VERSION ~= "Lua 5.4" then
  error("moongrad needs Lua 5.4; this is " .. (_G.jit and _G.jit.version or _VERSION), 2)
end

local mg = require "moongrad.core"
local globals = require "moongrad.globals"
local _ENV = globals()

-- Errors are reported at the script's line, so those of the files beside this one are passed over.
mg._library(globals)

mg.help = mg.checked("help(what: any?)",
  "what a name, a function, a method, a class or a module is; without one, all names",
  function(what) return require "moongrad.help".help(what) end)

for name, doc in pairs{
  define = "define(signature, doc, fn)\nmakes mg.name, and the method where an array comes first",
  checked = "checked(signature, doc, fn)\nfn, given what the signature makes of its arguments",
  signature = "signature(text)\na function that gives its arguments back, checked and in order",
  raise = "raise(format, ...)\nan error at the script's line, past the library's own",
} do
  mg._docs[mg[name]] = doc
end

-- name -> {the module it is}, {the module, the field of it}, or a group of ops.lua, whose file
-- defines the name
local later = {
  nn = {"nn"}, models = {"models"}, optim = {"optim"}, data = {"data"}, metrics = {"metrics"},
  training = {"training"},
  dist = {"dist"},
  save = {"io", "save"}, load = {"io", "load"}, _log = {"log", "log"},
  _Log = {"log", "Log"},
  progress = {"progress"}, distributions = {"distributions"},
  odeint = {"solvers.odeint"}, minimize = {"solvers.minimize"}, root = {"solvers.root"},
  plot = {"plot", "plot"}, plot_graph = {"plot", "plot_graph"}, dot_graph = {"plot", "dot_graph"},
}

-- ---- groups of ops ----------------------------------------------------------------------------

local groups, resting = require "moongrad.ops", "memory and threads"
local methods, args = mg._docs.methods, nil
local current = resting                            -- the title that definitions belong to

-- Two of the core's that have options besides: what stands in ops/ takes their place.
local core = {softplus = mg.softplus, nan_to_num = mg.nan_to_num}
for name in pairs(core) do mg[name], methods[name] = nil, nil end

for _, group in ipairs(groups) do
  mg._group(group[2])                              -- so they stand in this order
  for name in group[3]:gmatch "%S+" do later[name] = group end
end
mg._group(resting)

-- Reads the file of a group; after an error, whatever it was and wherever it came, who asks next
-- reads it again. In the middle of it a name that comes later is not there yet.
local function read(group)
  if group.state then return end
  local before = current
  local ok, problem = pcall(function()
    group.state, current = "begun", group[2]
    mg._group(current)
    if not args then
      local new = require "moongrad.ops.args"(mg)
      new.core = core
      args = new
    end
    require("moongrad." .. group[1])(mg, args)
    group.state = "done"
  end)
  if group.state == "begun" then group.state = nil end
  current = before
  mg._group(before)
  if not ok then error(problem, 0) end
end

-- Reads all of them, for those who list names.
function mg._all()
  for _, group in ipairs(groups) do read(group) end
end

-- Called with a name that no Variable has, as yet: gives the method, or raises.
mg._unknown(function(name)
  local group = later[name]
  if group and group[3] then
    read(group)
    if methods[name] then return methods[name] end
  end
  mg._all()
  require "moongrad.help".unknown(name, methods)
end)

-- Iterates over all names that mg has, or has as soon as they are asked for.
function mg._names()
  local all = {}
  for name in next, mg do all[name] = true end
  for name in next, later do all[name] = true end
  return next, all
end

return setmetatable(mg, {
  __tostring = function() return "moongrad " .. mg.version end,
  __pairs = function()
    mg._all()
    return next, mg
  end,
  __index = function(_, name)
    local part = later[name]
    if not part then
      return type(name) == "string" and require "moongrad.help".missing("mg", name) or nil
    elseif part[3] then
      read(part)
      return rawget(mg, name)
    end
    local value = require("moongrad." .. part[1])
    if part[2] then
      value = value[part[2]]
    elseif type(value) == "table" and not getmetatable(value) then
      require "moongrad.parts".join(name, {}, value)
    end
    mg[name] = value
    return value
  end,
})
