-- globals.lua -- the global names of the library's files: the standard ones as they were when it
-- was loaded. What a script calls type or table is no concern of theirs; print stays the script's,
-- as do names that are not standard.
--
-- A file that a script may name itself begins with local _ENV = require "moongrad.globals"(); the
-- files that it requires get the same. A table would lend its name to all of them in tracebacks.

local own = setmetatable({}, {__index = _G})
for name in ([[assert collectgarbage coroutine debug error getmetatable io ipairs load loadfile
  math next os package pairs pcall rawequal rawget rawlen rawset select setmetatable string table
  tonumber tostring type utf8 xpcall]]):gmatch "%S+" do
  own[name] = _G[name]
end

local loaded, preload, searchpath = package.loaded, package.preload, package.searchpath
local package, require, loadfile = package, require, loadfile

-- The core, and files that were bundled, come as always.
function own.require(name)
  if loaded[name] ~= nil then return loaded[name] end
  local path = name:find "^moongrad%." and not preload[name] and searchpath(name, package.path)
  local chunk = path and loadfile(path, "t", own)
  if not chunk then return require(name) end
  local value = chunk(name, path)
  if value ~= nil then loaded[name] = value end
  if loaded[name] == nil then loaded[name] = true end
  return loaded[name]
end

return function() return own end
