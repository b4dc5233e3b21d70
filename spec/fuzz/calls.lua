-- Calls of every function and method with arguments of every sort: they give something, or raise an
-- error of ours, at the line of the call.

local mg = require "moongrad"

local HUGE = math.maxinteger
local LIMIT = 256 << 20

-- ---- arguments --------------------------------------------------------------------------------

local function same(...) return ... end
local function fail() error("theirs", 0) end

local VALUES = {
  function() return nil end,
  function(random) return random(-2, 4) end,
  function(random) return ({HUGE, -HUGE, math.mininteger, 1 << 40, 1 << 31})[random(5)] end,
  function(random) return ({0.5, 3.5, -1e300, 0 / 0, 1 / 0})[random(5)] end,
  function(random) return ({"float32", "int64", "mean", "", "a\0b", "float32\0"})[random(6)] end,
  function(random) return random(2) == 1 end,
  function(random) return ({{}, {1}, {1, 2}, {2, 2, 1}, {1, "x"}, {[0] = 1}, {0.5}})[random(7)] end,
  function(random) return ({{axis = 1}, {axis = {1, 2}}, {keepdims = true}, {dtype = "float32"},
                            {1, dtype = "int64"}, {a = {b = 1}}, {p = 1}})[random(7)] end,
  function() return {{1, 2}, {3, 4}} end,
  function() return mg.Variable{1, 2, 3} end,
  function() return mg.Variable{{1, 2}, {3, 4}} end,
  function(random) return mg.ones(table.unpack({2, 2, 3}, 1, random(0, 3))) end,
  function() return mg.tensor({1, 2}, "int64") end,
  function() return mg.tensor{true, false, true} end,
  function() return mg.zeros(0, 3) end,
  function() return mg.ones{2, dtype = "uint8"} end,
  function() return mg.rand{3, 2, dtype = "float32"} end,
  function() return {mg.ones(2), mg.ones(2)} end,
  function() return same end,
  function() return fail end,
  function() return setmetatable({}, {__index = fail}) end,
  function() return setmetatable({}, {__call = same}) end,
  function() return io.stdout end,
  function() return coroutine.create(same) end,
  function() return mg.nn.Linear(2, 3) end,
  function() return mg.Config end,
}

local function arguments(random)
  local args = {n = random(0, 5)}
  for k = 1, args.n do args[k] = VALUES[random(#VALUES)](random) end
  return args
end

local function text(v)
  local plain = type(v) == "table" and not getmetatable(v)
  if not plain then return mg.is_variable(v) and v.dtype .. v.shape or tostring(v) end
  local parts = {}
  for k, w in pairs(v) do parts[#parts + 1] = tostring(k) .. "=" .. text(w) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

-- ---- what may come of it ----------------------------------------------------------------------

local function judge(name, args, ok, err)
  if ok then return end
  err = tostring(err)
  local ours = err:find "^[^\n]-spec/fuzz/calls%.lua:%d+: " or err:find "^theirs" or
    err:find "memory"
  if ours and not err:find "attempt to" and not err:find "bad argument" then return end
  local list = {}
  for k = 1, args.n do list[k] = text(args[k]) end
  error(("%s(%s): %s"):format(name, table.concat(list, ", "), err), 0)
end

-- With room for little; what is pending is computed now and then.
local function call(random, name, fn, args)
  local state, silent = mg.get_rng_state(), print
  mg.memory_limit(mg.memory().live + LIMIT)
  _G.print = function() end
  local results = table.pack(pcall(fn, table.unpack(args, 1, args.n)))
  if results[1] and mg.is_variable(results[2]) and random(3) == 1 then
    results = table.pack(pcall(mg.eval, results[2]))
  end
  _G.print = silent
  mg.memory_limit(0)
  mg.set_num_threads(2)
  mg.set_rng_state(state)
  judge(name, args, results[1], results[2])
end

-- ---- kinds ------------------------------------------------------------------------------------

-- What writes files, or ends what runs here
local OTHERS = {save = true, load = true, log = true, plot = true, plot_graph = true, raise = true,
                memory_limit = true, help = true, define = true, checked = true}

local function add(list, prefix, from, documented)
  for name, value in pairs(from) do
    local fn = type(value) == "table" and rawget(value, "init") or value
    if type(name) == "string" and not OTHERS[name] and not name:find "^_" and
      (not documented or mg._docs[fn]) and (type(value) == "function" or fn ~= value) then
      list[#list + 1] = {name = prefix .. name, call = value}
    end
  end
end

local function by_name(a, b) return a.name < b.name end

local function functions()
  local list = {}
  add(list, "mg.", mg)
  for _, part in ipairs{"nn", "optim", "data"} do add(list, part .. ".", mg[part]) end
  table.sort(list, by_name)
  return function(random)
    local f = list[random(#list)]
    call(random, f.name, f.call, arguments(random))
  end
end

local OBJECTS = {
  function() return mg.Variable{{1, 2}, {3, 4}} end,
  function() return mg.Variable(2.0) end,
  function() return mg.tensor({1, 2}, "int64") end,
  function() return mg.nn.Sequential(mg.nn.Linear(2, 3), mg.relu, mg.nn.Dropout(0.5)) end,
  function() return mg.nn.LayerNorm() end,
  function() return mg.nn.MLP{3, 2} end,
  function() return mg.nn.Embedding(3, 2) end,
  function() return mg.optim.Adam({mg.Variable{1, 2}}, {lr = 0.1}) end,
  function() return mg.optim.cosine(mg.optim.SGD{mg.Variable(1.0)}, 10) end,
  function() return mg.data.TensorDataset(mg.ones(4, 2), mg.ones(4)) end,
  function() return mg.data.TensorDataset(mg.ones(4, 2)):map(same) end,
  function() return mg.data.DataLoader(mg.data.TensorDataset(mg.ones(4, 2)), {batch_size = 2}) end,
  function() return mg.Config end,
  function() return (mg.Variable(2.0) * 3).creator end,
}
local FIELDS = {"data", "grad", "name", "requires_grad", "shape", "creator", "lr", "momentum", "x",
                "train", "dtype"}

-- The documented methods of an object, by name
local function methods(object)
  local list = {}
  if mg.is_variable(object) then
    for name, value in pairs(mg) do
      if type(value) == "function" and not name:find "^_" and not OTHERS[name] and
        pcall(function() return object[name] end) then
        list[#list + 1] = {name = name, call = value}
      end
    end
  end
  local class = getmetatable(object)
  while type(class) == "table" and rawget(class, "__name") do
    add(list, "", class, true)
    class = getmetatable(class) and getmetatable(class).__index
    if type(class) == "function" then class = nil end
  end
  table.sort(list, by_name)
  return list
end

local function objects()
  return function(random)
    local object, args = OBJECTS[random(#OBJECTS)](), arguments(random)
    local how, name = random(4), FIELDS[random(#FIELDS)]
    if how == 1 then
      local key = random(2) == 1 and name or args[1]
      call(random, "set", function() object[key] = args[2] end, args)
    elseif how == 2 then
      call(random, "get", function() return object[args[1]] end, args)
    else
      local list = methods(object)
      if #list == 0 then return end
      local m = list[random(#list)]
      table.insert(args, 1, object)
      args.n = args.n + 1
      call(random, "method " .. m.name, m.call, args)
    end
  end
end

return {{name = "functions", start = functions}, {name = "objects", start = objects}}
