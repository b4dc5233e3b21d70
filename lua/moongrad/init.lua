-- moongrad -- `local mg = require "moongrad"`.
--
-- The table of the C core becomes `mg`. What every program may want is put into it here; the larger
-- parts are loaded when they are first named.

if _VERSION ~= "Lua 5.4" then
  error("moongrad needs Lua 5.4; this is " .. (_G.jit and _G.jit.version or _VERSION), 2)
end

local mg = require "moongrad.core"

-- Errors are reported at the script's line, so those of the files beside this one are passed over.
mg._library(debug.getinfo(1, "S").source:match "^(.*)init%.lua$")

require "moongrad.ops"(mg)
mg._group "gradients"
require "moongrad.transform"(mg)
require "moongrad.compile"(mg)
require "moongrad.profile"(mg)

mg.help = mg.checked("help(what: any?)",
  "what a name, a function, a method, a class or a module is; without one, all names",
  function(what) return require "moongrad.help".help(what) end)

-- Called with a name that Variables have not, and the table of what they have.
mg._unknown(function(...) return require "moongrad.help".unknown(...) end)

for name, doc in pairs{
  define = "define(signature, doc, fn)\nmakes mg.name, and the method where an array comes first",
  checked = "checked(signature, doc, fn)\nfn, given what the signature makes of its arguments",
  signature = "signature(text)\na function that gives its arguments back, checked and in order",
  raise = "raise(format, ...)\nan error at the script's line, past the library's own",
} do
  mg._docs[mg[name]] = doc
end

-- name -> the module it is, or the module and the field of it
local later = {
  nn = {"nn"}, models = {"models"}, optim = {"optim"}, data = {"data"}, metrics = {"metrics"},
  training = {"training"},
  dist = {"dist"},
  save = {"io", "save"}, load = {"io", "load"}, _log = {"log"},
  progress = {"progress"}, distributions = {"distributions"},
  odeint = {"solvers.odeint"}, minimize = {"solvers.minimize"}, root = {"solvers.root"},
  plot = {"plot", "plot"}, plot_graph = {"plot", "plot_graph"}, dot_graph = {"plot", "dot_graph"},
}

-- Iterates over all names that mg has, or has as soon as they are asked for.
function mg._names()
  local all = {}
  for name in next, mg do all[name] = true end
  for name in next, later do all[name] = true end
  return next, all
end

return setmetatable(mg, {
  __tostring = function() return "moongrad " .. mg.version end,
  __index = function(_, name)
    local part = later[name]
    if not part then
      return type(name) == "string" and require "moongrad.help".refuse_torch("mg", name) or nil
    end
    local value = require("moongrad." .. part[1])
    if part[2] then
      value = value[part[2]]
    elseif type(value) == "table" and not getmetatable(value) then
      setmetatable(value, {__index = function(_, key)
        return type(key) == "string" and require "moongrad.help".refuse_torch(name, key) or nil
      end})
    end
    mg[name] = value
    return value
  end,
})
