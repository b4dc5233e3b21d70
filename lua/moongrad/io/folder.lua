-- folder.lua -- folders that things are written into: their names, and that they are there.

local mg = require "moongrad.core"
local raise = mg.raise

local folder = {}

function folder.check(op, path)
  if path == "" or path:find "\0" then raise("%s: the path %q is none", op, path) end
end

-- Makes it, and those that it lies in.
function folder.make(op, path)
  local made, why = mg._make_folder(path)
  if not made then raise("%s: cannot make %s: %s", op, path, why) end
end

return folder
