-- Checkpoint: a run's whole state in a folder, one file for each save, written as mg.save does: all
-- or not at all. The last few are kept, and the best. The file `index` says which there are; who
-- writes locks the folder, so that it is true where several do.
--
-- Of several processes (moongrad.dist) rank 1 writes, while the others wait; all read.

local mg = require "moongrad"
local Object = require "moongrad.class"
local number_of = require "moongrad.number"
local attempt = require "moongrad.data.attempt"
local folders = require "moongrad.io.folder"
local checked, raise = mg.checked, mg.raise

local Checkpoint = Object:extend("Checkpoint"):_seal()

local function ranks()
  local dist = package.loaded["moongrad.dist"]
  return dist and dist.size > 1 and dist or nil
end

local function check_parts(parts)
  local some = false
  for name, part in pairs(parts) do
    if type(name) ~= "string" or type(part) ~= "table" or not part.state or not part.load_state then
      raise("Checkpoint: part %s has no state() and load_state()", tostring(name))
    end
    some = true
  end
  if not some then raise("Checkpoint: no parts, such as {model = model, opt = opt}") end
end

local function file_of(self, epoch) return ("%s/%06d.safetensors"):format(self.folder, epoch) end

-- A line for each: the epoch and its metric, or "-". A file that is not one is refused: to begin
-- anew would lose a run.
local INFINITE = { inf = math.huge, ["-inf"] = -math.huge }

local function read_index(self, op)
  local list, path = {}, self.folder .. "/index"
  if not mg._exists(path) then return list end
  local file <close> = mg._open(path, op)
  if file:size() == 0 then raise("%s: %s is damaged: it is empty", op, path) end
  for line in file:read(file:size()):gmatch "[^\n]*\n?" do
    local epoch, metric = line:match "^(%d+) (%S+)\n$"
    local entry = { epoch = epoch and math.tointeger(tonumber(epoch)),
                    metric = INFINITE[metric] or tonumber(metric or "") }
    if line ~= "" then
      list[#list + 1] = entry
      if not entry.epoch or not entry.metric and metric ~= "-" then
        raise("%s: %s is damaged: line %d", op, path, #list)
      end
    end
  end
  return list
end

local function index_text(list)
  local lines = {}
  for i, e in ipairs(list) do
    lines[i] = mg._format("%d %s\n", e.epoch, e.metric and mg._format("%.17g", e.metric) or "-")
  end
  return table.concat(lines)
end

local function best_of(self, list)
  local best
  local sign = self.mode == "min" and 1 or -1
  for _, e in ipairs(list) do
    if e.metric and (not best or sign * e.metric < sign * best.metric) then best = e end
  end
  return best
end

Checkpoint.init = checked(
  "Checkpoint(self, folder: string, parts: table, {keep: int(1..) = 3, " ..
    'mode: "min" | "max" = "min"})',
  "saves and loads parts, things with state() and load_state() by name, {model = model, " ..
    "opt = opt, schedule = schedule, loader = loader}, and the random numbers; of its files the " ..
    "last `keep` and the one of the best metric stay. Between passes: a loader's place within " ..
    "one is not kept",
  function(self, folder, parts, keep, mode)
    folders.check("Checkpoint", folder)
    check_parts(parts)
    self.folder, self.parts, self.keep, self.mode = folder, {}, keep, mode
    for name, part in pairs(parts) do self.parts[name] = part end
  end)

-- The list without those that a run which was set back has left behind, and these.
local function cut(list, epoch)
  local kept, later = {}, {}
  for _, e in ipairs(list) do table.insert(e.epoch < epoch and kept or later, e) end
  return kept, later
end

local function has(self, epoch)
  for _, e in ipairs(read_index(self, "save")) do
    if e.epoch == epoch then return true end
  end
end

-- While nobody else does
local function put(self, t, epoch, metric)
  local list, later = cut(read_index(self, "save"), epoch)
  local path, gone = file_of(self, epoch), {}
  list[#list + 1] = { epoch = epoch, metric = metric == metric and metric or nil }
  local best, kept = best_of(self, list), {}
  for i, e in ipairs(list) do
    local stays = i > #list - self.keep or e == best
    table.insert(stays and kept or later, e)
  end
  for _, e in ipairs(later) do
    if e.epoch ~= epoch then gone[#gone + 1] = file_of(self, e.epoch) end
  end
  -- What can fail does so before an epoch that is saved again is replaced.
  local index <close> = mg._create(self.folder .. "/index", "save")
  index:write(index_text(kept))
  local ok, problem = pcall(function()
    mg.save(path, t)
    index:commit()
  end)
  if not ok then
    local read, there = pcall(has, self, epoch)
    if read and not there then os.remove(path) end
    error(problem, 0)
  end
  for i = 1, #gone do os.remove(gone[i]) end
end

local function write(self, epoch, metric)
  metric = metric and number_of("save", "metric", metric)
  local t = { epoch = epoch, metric = metric, rng = mg.get_rng_state(), parts = {} }
  for name, part in pairs(self.parts) do t.parts[name] = part:state() end
  folders.make("save", self.folder)
  mg._locked(self.folder, "save", put, self, t, epoch, metric)
end

Checkpoint.save = checked("save(self, epoch: int(0..), metric: number | variable?)",
  "writes everything; epoch is any count that grows",
  function(self, epoch, metric)
    local dist, ok, problem = ranks(), true, nil
    if not dist or dist.rank == 1 then ok, problem = pcall(write, self, epoch, metric) end
    local failed = dist and dist.all_reduce(mg.tensor(ok and 0 or 1), "max"):item() > 0
    if not ok then error(problem, 0) end
    if failed then raise("save: rank 1 cannot write epoch %d", epoch) end
  end)

-- Gives each part its state, and takes the random numbers from there; after an error all is as it
-- was.
local function load_all(self, states, rng, path)
  for name in pairs(self.parts) do
    if states[name] == nil then raise("load: %s has no part %s", path, name) end
  end
  local before, done = {}, {}
  for name, part in pairs(self.parts) do
    local ok, state = pcall(part.state, part)
    if ok then
      before[name] = function() part:load_state(state) end
    elseif not tostring(state):find("has no parameters yet", 1, true) then
      error(state, 0)
    elseif part._snapshot then
      before[name] = part:_snapshot()
    end
  end
  local function take_back()
    for i = #done, 1, -1 do
      local undo = before[done[i]]
      if undo then pcall(undo) end -- one that fails keeps none of the others
    end
  end
  local function take()
    local names = {}
    for name in pairs(self.parts) do names[#names + 1] = name end
    -- the model first: an optimizer wants its parameters' sizes
    table.sort(names, function(a, b)
      local m, n = self.parts[a].is_module or false, self.parts[b].is_module or false
      if m ~= n then return m end
      return a < b
    end)
    for _, name in ipairs(names) do
      done[#done + 1] = name -- first: an error, or an interruption, may come when it has taken them
      self.parts[name]:load_state(states[name])
    end
    mg.set_rng_state(rng)
  end
  -- Twice: an interruption may take the place of one take_back.
  attempt(take_back, function() attempt(take_back, take) end)
end

local function find(self, which)
  local list = read_index(self, "load")
  if which == "last" then return list[#list] end
  if which == "best" then return best_of(self, list) end
  for _, e in ipairs(list) do
    if e.epoch == which then return e end
  end
  raise("load: epoch %d is not kept in %s", which, self.folder)
end

-- What was saved, and its path; nil where nothing was. Another process may have taken away since
-- what the index said: then it says something else.
local function read(self, which)
  local entry = find(self, which)
  while entry do
    local path = file_of(self, entry.epoch)
    local ok, t = pcall(mg.load, path)
    if ok then return t, path end
    local tried = entry.epoch
    entry = find(self, which)
    if entry and entry.epoch == tried then error(t, 0) end
  end
end

Checkpoint.load = checked('load(self, which: "last" | "best" | int(0..) = "last")',
  "takes everything back from the last save, the best, or that of an epoch: gives its epoch and " ..
    "metric, or nil where none was saved: local first = (checkpoint:load() or 0) + 1",
  function(self, which)
    local t, path = read(self, which)
    if not t then return nil end
    if type(t.parts) ~= "table" or math.type(t.epoch) ~= "integer" then
      raise("load: %s is no checkpoint", path)
    end
    local dist = ranks()
    load_all(self, t.parts, dist and dist._rng_state(t.rng) or t.rng, path)
    return t.epoch, t.metric
  end)

Checkpoint.best = checked("best(self)", "the epoch of the best metric, and the metric; or nil",
  function(self)
    local entry = best_of(self, read_index(self, "best"))
    if entry then return entry.epoch, entry.metric end
  end)

function Checkpoint:__tostring()
  return ("Checkpoint(%s, %d kept)"):format(self.folder, #read_index(self, "Checkpoint"))
end

return { Checkpoint = Checkpoint }
