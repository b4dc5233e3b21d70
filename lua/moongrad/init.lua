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
require "moongrad.transform"(mg)
require "moongrad.profile"(mg)

local function print_names(docs)
  local names = {}
  for name in pairs(docs) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  for name, value in pairs(docs == mg._docs and mg or {}) do
    if docs[value] then names[#names + 1] = name end
  end
  table.sort(names)
  print(table.concat(names, " "))
end

-- help(name): its signature and one line; help(): all names.
function mg.help(name)
  local docs = require "moongrad.docs"
  if name == nil then
    print_names(mg._docs)
    return print_names(docs)
  end
  local doc = type(name) == "string" and
    (docs[name:match "[^.]*$"] or mg._docs[name] or mg._docs[mg[name]])
  if not doc then mg.raise("help: nothing is known of %s", tostring(name)) end
  print(doc)
end

-- name -> the module it is, or the module and the field of it
local later = {
  nn = {"nn"}, optim = {"optim"}, data = {"data"},
  save = {"io", "save"}, load = {"io", "load"},
  progress = {"progress"},
  plot = {"plot", "plot"}, plot_graph = {"plot", "plot_graph"}, dot_graph = {"plot", "dot_graph"},
}

return setmetatable(mg, {
  __index = function(_, name)
    local part = later[name]
    if not part then return nil end
    local value = require("moongrad." .. part[1])
    if part[2] then value = value[part[2]] end
    mg[name] = value
    return value
  end,
})
