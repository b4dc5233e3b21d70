-- run.lua -- drives the bench: lua5.4 spec/bench/run.lua [quick] [check] [row ...]
--
-- `*` in a row's name stands for anything; no names, all rows. For each row moongrad, the limit and
-- the peers that are installed make their inputs in processes of their own; what they computed is
-- compared; then they are timed in turn, a round at a time, while the others sleep on their stdin.
-- All have two processors. `quick` makes fewer rounds. `check` ends with an error where a bound is
-- missed by more than the noise explains. At the end it writes build/bench.md and build/bench.svg.

package.path = "./spec/bench/?.lua;" .. package.path
local report = require "report"
local rows = require "rows"
local gettime = require "socket".gettime

local BUILD, PYTHON = "build/bench", "build/peers/bin/python"
local POOL = BUILD .. "/pool"
local PATIENCE = 20        -- seconds a row may take of one contestant; after that it sits out
local NOISE = 1.15         -- what `check` forgives
local TOLERANCE = {f32 = 1e-4, f64 = 1e-8}

local quick, check, wanted = false, false, {}
for _, word in ipairs(arg) do
  if word == "quick" then quick = true
  elseif word == "check" then check = true
  else wanted[#wanted + 1] = "^" .. word:gsub("%*", ".*") .. "$" end
end
local ROUNDS = quick and 5 or 15

local function is_wanted(row)
  for _, pattern in ipairs(wanted) do
    if row[1]:find(pattern) then return true end
  end
  return #wanted == 0
end

-- ---- contestants ------------------------------------------------------------------------------

local function read(path)
  local file <close> = io.open(path)
  return file and file:read "a"
end

-- libgomp's threads look for work for 10,000 turns, then sleep: they do not disturb the next one.
-- OpenBLAS does not know newer processors; moongrad tells it by itself.
local ENV = "env GOMP_SPINCOUNT=10000 OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 PYTHONWARNINGS=ignore "
local CORE = read "/proc/cpuinfo":find "avx512f" and "SkylakeX" or "Haswell"
local PIN = os.execute "taskset -c 0,1 true 2>/dev/null" and "taskset -c 0,1 " or ""

local PROGRAM = {
  moongrad = "lua5.4 spec/bench/moongrad.lua",
  limit = "env OPENBLAS_CORETYPE=" .. CORE .. " " .. BUILD .. "/limit_",   -- dtype to follow
  torch = PYTHON .. " spec/bench/peers.py torch",
  compile = PYTHON .. " spec/bench/peers.py compile",
  jax = PYTHON .. " spec/bench/peers.py jax",
  casadi = PYTHON .. " spec/bench/peers.py casadi",
}

local PEERS = {}
for _, pair in ipairs {{"torch", "torch"}, {"compile", "torch"}, {"jax", "jax"},
                        {"casadi", "casadi"}} do
  local module = ("%s -c 'import %s' 2>/dev/null"):format(PYTHON, pair[2])
  if os.execute(module) then
    PEERS[#PEERS + 1] = pair[1]
  else
    print(pair[1] .. " is skipped: no " .. pair[2] .. " in build/peers (make bench-peers)")
  end
end

local Contestant = {}
Contestant.__index = Contestant

-- A process with its inputs made; or nil and why not.
local function enter(name, row, words, threads)
  local program = PROGRAM[name]
  if name == "limit" then program = program .. words:match "^%S+ (%S+)" end
  local fifo = BUILD .. "/" .. name .. ".fifo"
  os.execute(("rm -f %s && mkfifo %s"):format(fifo, fifo))
  local to = io.popen(("exec %s%s%s %s %s %d %d %s >%s 2>>%s/log"):format(PIN, ENV, program, POOL,
    row.memory and "memory" or "time", threads, row.times or 1, words, fifo, BUILD), "w")
  to:setvbuf "line"
  local from = io.open(fifo)
  local line = from:read() or "skip died, see " .. BUILD .. "/log"
  local self = setmetatable({name = name, to = to, from = from, times = {}, spent = 0}, Contestant)
  if line:find "^skip" then
    self:leave()
    return nil, line:sub(6)
  end
  self.prints = {}
  for word in line:sub(6):gmatch "%S+" do self.prints[#self.prints + 1] = word end
  return self
end

function Contestant:leave()
  self.to:close()
  self.from:close()
end

function Contestant:round()
  if self.spent > PATIENCE then return end
  local began = gettime()
  self.to:write "go\n"
  self.times[#self.times + 1] = assert(tonumber(self.from:read()), self.name .. " died")
  self.spent = self.spent + gettime() - began
end

-- Both prints are "norm:weighted sum", or "-" where there is nothing to compare.
local function compare(row, words, a, b)
  for i = 1, math.min(#a.prints, #b.prints) do
    local norm, sum = a.prints[i]:match "(.*):(.*)"
    local norm2, sum2 = b.prints[i]:match "(.*):(.*)"
    if norm and norm2 then
      local apart = math.max(math.abs(norm - norm2), math.abs(sum - sum2))
      if apart ~= apart or apart > TOLERANCE[words:match "^%S+ (%S+)"] * math.max(norm, norm2) then
        error(("%s: result %d of %s and %s differ: %s, %s"):format(row[1], i, a.name, b.name,
          a.prints[i], b.prints[i]))
      end
    end
  end
end

-- Times, by name of contestant, of one row at one size.
local function measure(row, words, entries)
  local all, missing = {}, {}
  for _, entry in ipairs(entries) do
    local one, why = enter(entry.name, row, entry.words or words, entry.threads)
    if one then
      one.key = entry.key or entry.name
      if all[1] then compare(row, words, all[1], one) end
      all[#all + 1] = one
    else
      missing[entry.name] = why
    end
  end
  for n = 1, ROUNDS do
    for i = 1, #all do all[(n + i) % #all + 1]:round() end
  end
  local times = {}
  for _, one in ipairs(all) do
    times[one.key] = one.times
    one:leave()
  end
  return times, missing
end

-- ---- rows -------------------------------------------------------------------------------------

local UNIT = {s = 1, ms = 1e3, us = 1e6, ns = 1e9, MB = 1e-6}

local function scaled(row, times, per)
  local unit = UNIT[row.memory and "MB" or row.unit or "ms"] / per
  for _, list in pairs(times) do
    for i, v in ipairs(list) do list[i] = v * unit end
  end
  return times
end

-- f(...) while another process has one of the two processors. Should nobody be left to end it, it
-- ends by itself.
local function beside_neighbour(f, ...)
  local pin = PIN ~= "" and "taskset -c 1 " or ""
  local busy = io.popen(("echo $$; exec %slua5.4 -e 'while os.clock() < 300 do end'"):format(pin))
  local pid = busy:read()
  local results = table.pack(pcall(f, ...))
  os.execute("kill " .. pid)
  busy:close()
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

local function run(row)
  local plain = {{name = "moongrad", threads = 2}, {name = "limit", threads = 2}}
  if row.first then
    plain[2] = {name = "moongrad", key = "limit", threads = 2, words = row[3]:match "(.*) first$"}
    return report.plain(row, scaled(row, measure(row, row[3], plain), row.per or 1))
  end
  if row.neighbour then plain[2] = {name = "moongrad", key = "limit", threads = 1} end
  if row.sizes then
    local series = {}
    for _, size in ipairs(row.sizes) do
      local words = row[3]:format(size)
      series[#series + 1] = scaled(row, measure(row, words, plain), size)
    end
    return report.growth(row, series)
  elseif row.threads then
    local entries = {}
    for _, one in ipairs(plain) do
      for _, n in ipairs(row.threads) do
        entries[#entries + 1] = {name = one.name, key = one.name .. n, threads = n}
      end
    end
    return report.threads(row, scaled(row, measure(row, row[3], entries), 1))
  end
  for _, name in ipairs(PEERS) do
    if not row.memory or name == "torch" then plain[#plain + 1] = {name = name, threads = 2} end
  end
  local around = row.neighbour and beside_neighbour or function(f, ...) return f(...) end
  local times, missing = around(measure, row, row[3], plain)
  if missing.moongrad then return {row = row, skipped = missing.moongrad} end
  return report.plain(row, scaled(row, times, row.per or 1))
end

os.execute("mkdir -p " .. BUILD)
os.remove(BUILD .. "/log")
if not io.open(POOL) then assert(os.execute(BUILD .. "/limit_f32 " .. POOL)) end

local load = tonumber(read "/proc/loadavg":match "%S+")
if load > 0.5 then print(("The machine is not quiet: load average %.2f"):format(load)) end

local results, group = {}, nil
report.begin(print)
for _, row in ipairs(rows) do
  if row.group then
    group = row.group
  elseif is_wanted(row) then
    local ok, result = pcall(run, row)
    if not ok then result = {row = row, failed = true, skipped = result} end
    result.group = group
    results[#results + 1] = result
    print(report.line(result))
  end
end
report.write(results, "build/bench", PEERS, ROUNDS)

local missed = {}
for _, r in ipairs(results) do
  if r.failed or r.excess and r.excess > (check and NOISE or 1) then
    missed[#missed + 1] = r.row[1]
  end
end
print(#missed == 0 and "\nEvery bound is kept." or "\nPast their bounds" ..
  (check and ", the noise allowed for: " or ": ") .. table.concat(missed, " "))
if check and #missed > 0 then os.exit(1) end
