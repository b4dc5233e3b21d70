-- parts.lua -- modules of several files, such as mg.nn: each is read when one of the names that it
-- gives is first asked for.

local _ENV = require "moongrad.globals"()
require "moongrad"         -- a script may begin with require "moongrad.nn"

local parts = {lists = {}} -- by module: names by file

-- The module `what` of mg, with the names that `all` has already.
function parts.join(what, files, all)
  all, parts.lists[what] = all or {}, files
  local place = {}
  for file, names in pairs(files) do
    for name in names:gmatch "%S+" do place[name] = file end
  end
  local function read(name)
    local value = require(("moongrad.%s.%s"):format(what, place[name]))[name]
    all[name] = value
    return value
  end
  return setmetatable(all, {
    __index = function(_, name)
      if place[name] then return read(name) end
      return type(name) == "string" and require "moongrad.help".missing(what, name) or nil
    end,
    __pairs = function()
      for name in next, place do read(name) end
      return next, all
    end,
    __tostring = function() return require "moongrad.help".text(what) end,
  })
end

return parts
