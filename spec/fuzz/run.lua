-- Random trials, seeded, in this process: make fuzz [SECONDS=60] [SEED=1] [KINDS="files"] [CASE=n]
--
-- spec/fuzz/KIND.lua gives a list of {name =, start = function(folder)}; start gives step(random),
-- one trial, which raises where something is wrong. All that a trial draws comes from random, which
-- SEED and the number of the case begin: a case that fails is run again, alone, by what is printed.
-- The last case stands in build/fuzz/case, should the process die of it.

local mg = require "moongrad"

local seconds, seed, case, words = arg[1], arg[2], arg[3], arg[4]
seconds, seed, case = tonumber(seconds), math.tointeger(seed), math.tointeger(case)
local FILES = {"files", "programs", "calls", "compiled"}
os.execute "mkdir -p build/fuzz"
local log = assert(io.open("build/fuzz/case", "w"))

local function output(command)
  local pipe <close> = io.popen(command)
  return (pipe:read "a":gsub("%s+$", ""))
end

-- in memory, if it can be: saved files wait for their disk
local folder = output "mktemp -d -p /dev/shm 2>/dev/null || mktemp -d"

local function wanted(name)
  for word in words:gmatch "%S+" do
    if name == word or name:find("^" .. word .. "%.") then return true end
  end
  return words == ""
end

local kinds = {}
for _, file in ipairs(FILES) do
  for _, kind in ipairs(require("spec.fuzz." .. file)) do
    local name = file .. "." .. kind.name
    if wanted(name) then kinds[#kinds + 1] = {name = name, step = kind.start(folder)} end
  end
end
if #kinds == 0 then error("no kind is called " .. words) end

local function settle()
  collectgarbage()
  collectgarbage()
  return mg.memory().live
end

-- one may be the pipe's, not closed yet
local function open_files() return tonumber(output "ls /proc/$PPID/fd | wc -l") end

local failed = 0
local function complain(n, kind, message)
  failed = failed + 1
  print(("%s: %s\n  again: make fuzz SEED=%d CASE=%d KINDS=%s"):format(kind.name, message, seed, n,
    kind.name))
end

local function trial(n)
  local kind = kinds[n % #kinds + 1]
  math.randomseed(seed, n)
  mg.seed(n)
  log:seek "set"
  log:write(("make fuzz SEED=%d CASE=%d KINDS=%s\n"):format(seed, n, words ~= "" and words or "''"))
  log:flush()
  local ok, err = xpcall(kind.step, debug.traceback, math.random)
  if not ok then complain(n, kind, err) end
  return kind
end

local began, n = os.time(), case or 0
local live, opened = settle(), open_files()
repeat
  local kind = trial(n)
  n = n + 1
  if n % 1000 == 0 or case then
    local now, files = settle(), open_files()
    if now > live then complain(n - 1, kind, now - live .. " bytes stay alive") end
    if files > opened + 1 then complain(n - 1, kind, files - opened .. " files stay open") end
    live = now
  end
until case or os.time() - began >= seconds or failed >= 20
os.execute("rm -r " .. folder)
print(("fuzz: %d cases from seed %d, %d failed"):format(n - (case or 0), seed, failed))
os.exit(failed == 0, true)
