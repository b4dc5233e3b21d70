-- folder.lua -- folders that things are written into: their names, and that they are there.

local raise = require "moongrad.core".raise

local folder = {}

function folder.check(op, path)
  if path == "" or path:find "\0" then raise("%s: the path %q is none", op, path) end
end

-- Makes it, and those that it lies in.
function folder.make(op, path)
  local quoted = "'" .. path:gsub("'", "'\\''") .. "'"
  if not os.execute("mkdir -p -- " .. quoted .. " 2>/dev/null") then
    raise("%s: cannot make %s", op, path)
  end
end

return folder
