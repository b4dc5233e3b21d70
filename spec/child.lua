-- Other Lua processes, which find modules where this one does, and folders that go away again.

local child = {}

local function quote(s)
  return "'" .. s:gsub("'", "'\\''") .. "'"
end

local function output(command)
  local pipe <close> = assert(io.popen(command))
  return pipe:read "a"
end

local here = output "pwd":gsub("%s+$", "")

local function absolute(paths)
  return ((";" .. paths):gsub(";%./", ";" .. here .. "/"):sub(2))
end

-- All that specs write lies in this folder, which goes when Lua ends.
local folder, count = nil, 0
child.last = setmetatable({}, {__gc = function()
  if folder then os.execute("rm -rf " .. quote(folder)) end
end})

-- A new name with this ending
function child.path(ending)
  folder = folder or output "mktemp -d":gsub("%s+$", "")
  count = count + 1
  return ("%s/%d%s"):format(folder, count, ending)
end

-- A new folder
function child.folder()
  local path = child.path ""
  assert(os.execute("mkdir " .. path))
  return path
end

function child.read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

function child.write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

-- Where other processes find modules, for the shell
function child.environment()
  return ("LUA_PATH_5_4=%s LUA_CPATH_5_4=%s"):format(quote(absolute(package.path)),
    quote(absolute(package.cpath)))
end

-- What lua5.4 with these arguments, a string for the shell, writes to stdout and stderr, and
-- whether it ended well. `dir` is where it runs, `input` its stdin, `before` what the shell does
-- before, such as "ulimit -v 100000;" or "NAME=value".
function child.lua(arguments, dir, input, before)
  local command = ("cd %s && %s %s TERM=dumb COLUMNS=1000 lua5.4 %s 2>&1")
    :format(quote(dir or here), before or "", child.environment(), arguments)
  local file = input and child.path("") or "/dev/null"
  if input then child.write(file, input) end
  local pipe = assert(io.popen(("(%s) <%s"):format(command, file)))
  local text = pipe:read "a"
  local ok = pipe:close()
  if input then os.remove(file) end
  return text, ok or false
end

-- The same, of a program.
function child.run(program, dir, before)
  return child.lua("-e " .. quote(program), dir, nil, before)
end

-- A program in n processes under mpirun, one thread each: what they write, and the exit status of
-- all. It is main.lua in the folder that they run in.
function child.job(n, program, dir, arguments)
  child.write(dir .. "/main.lua", program)
  local command = ("cd %s && LUA_PATH_5_4=%s LUA_CPATH_5_4=%s TERM=dumb OMP_NUM_THREADS=1 " ..
    "OMPI_MCA_btl_base_warn_component_unused=0 timeout -k 5 60 mpirun --allow-run-as-root " ..
    "--oversubscribe -n %d lua5.4 main.lua %s 2>&1 </dev/null"):format(quote(dir),
    quote(absolute(package.path)), quote(absolute(package.cpath)), n, arguments or "")
  local pipe = assert(io.popen(command))
  local text = pipe:read "a"
  local _, _, status = pipe:close()
  return text, status
end

child.here = here

return child
