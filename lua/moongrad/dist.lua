-- Training in several processes: mpirun -n 4 lua5.4 train.lua
--
--   local dist = require "moongrad.dist"
--   local model = dist.DataParallel(nn.MLP{128, 10})
--   local loader = data.DataLoader(train, {batch_size = 100, shuffle = true, shard = dist})
--   ... and on as in one process: each goes its own way through its own part of the data, and
--   backward leaves the same gradients, averaged, in all of them.
--
-- Without mpirun there is one process, rank 1 of 1, and MPI is not looked for. What is exchanged
-- must be of one shape and dtype everywhere, and asked for by all in the same order: where what
-- they ask for differs, all raise an error that says who came to what.

local _ENV = require "moongrad.globals"()
local mg = require "moongrad"
local Module = require "moongrad.nn.module".Module
local checked, raise = mg.checked, mg.raise

-- Beside the functions: what is asked of it by its name alone
local facts = { is_dist = true, rank = 1, size = 1 }
local dist = setmetatable({}, { __index = function(_, name)
  local value = facts[name]
  if value == nil and type(name) == "string" then require "moongrad.help".missing("dist", name) end
  return value
end })

local function under_mpirun()
  for _, name in ipairs { "OMPI_COMM_WORLD_SIZE", "PMIX_RANK" } do
    if os.getenv(name) then return true end
  end
  if (os.getenv "PMI_SIZE" or "1") ~= "1" then -- MPICH's, Intel's: each process would run alone
    raise("moongrad.dist: this is not Open MPI's mpirun, which moongrad/mpi.so needs")
  end
  return false
end

local mpi
if under_mpirun() then
  if not package.searchpath("moongrad.mpi", package.cpath) then
    raise("moongrad.dist: under mpirun moongrad/mpi.so is needed; make mpi builds it")
  end
  mpi = require "moongrad.mpi"
  facts.rank, facts.size = mpi.rank, mpi.size
end
local several = dist.size > 1

-- ---- threads and random numbers --------------------------------------------------------------

if several and not os.getenv "OMP_NUM_THREADS" then
  mg.set_num_threads(math.max(1, mg.num_threads() // mpi.sharing))
end

-- Rank 1 has the stream of a single process, the others streams of their own.
local function keyed(seed)
  if dist.rank == 1 then return seed end
  local x = seed + dist.rank * 0x9e3779b97f4a7c15
  x = (x ~ (x >> 30)) * 0xbf58476d1ce4e5b9
  x = (x ~ (x >> 27)) * 0x94d049bb133111eb
  return x ~ (x >> 31)
end

-- A state that rank 1 had, as this rank would have it
function facts._rng_state(state) return { keyed(state[1]), state[2] } end

if several then
  mg.set_rng_state(dist._rng_state(mg.get_rng_state()))
  local seed = mg.seed
  mg.seed = checked("seed(n: int)",
    "starts the random numbers anew, on each rank another stream",
    function(n) seed(keyed(n)) end)
end

-- ---- arrays ----------------------------------------------------------------------------------

local exchanges = 0 -- that were made, by all ranks

-- fn(x), with a gradient where one is wanted: gradient(gy, of), for exchange `of`. Where backward
-- comes to those of several exchanges in another order than on other ranks, that tells.
local function with_gradient(name, x, fn, gradient)
  local number
  local function exchange(v)
    local y = fn(v)
    exchanges = exchanges + 1
    number = exchanges
    return y
  end
  if not (x.requires_grad and mg.Config.enable_backprop) then return exchange(x) end
  return mg.Function {
    name = name,
    forward = function(_, v) return exchange(v) end,
    backward = function(_, gy) return gradient(gy, number) end
  }(x)
end

local function all_reduce(x, op, exact, of)
  return with_gradient("all_reduce", x,
    function(v) return mpi.all_reduce(v, op, exact, of) end,
    function(gy, number) return all_reduce(gy, op, exact, number) end)
end

dist.all_reduce = checked(
  'all_reduce(x: array, op: "sum" | "mean" | "max" | "min", {exact: bool = false})',
  "the ranks' values of x combined, the same on all; exact: in pairs, (1, 2), (3, 4), ..., " ..
    "their results again in pairs and so on: the same bits in every run. Sums and means have " ..
    "gradients",
  function(x, op, exact)
    if not several then return x end
    if (op == "max" or op == "min") and x.requires_grad and mg.Config.enable_backprop then
      raise("all_reduce: %s has no gradient here; take x:detach()", op)
    end
    return all_reduce(x, op, exact)
  end)

local function check_root(who, root)
  if root > dist.size then raise("%s: no rank %d, there are %d", who, root, dist.size) end
end

dist.broadcast = checked("broadcast(x: array, root: int(1..) = 1)",
  "what x is on rank root; x has the same shape on all",
  function(x, root)
    check_root("broadcast", root)
    if not several then return x end
    return with_gradient("broadcast", x,
      function(v) return mpi.broadcast(v, root) end,
      function(gy, number)
        local sum = all_reduce(gy, "sum", false, number)
        return dist.rank == root and sum or sum * 0
      end)
  end)

dist.all_gather = checked("all_gather(x: array)",
  "the ranks' values of x along a new axis 1: y[r] is that of rank r",
  function(x)
    if not several then return x:unsqueeze(1) end
    return with_gradient("all_gather", x, mpi.all_gather,
      function(gy, number) return all_reduce(gy, "sum", false, number)[dist.rank] end)
  end)

dist.barrier = checked("barrier()", "waits until all ranks have come to it",
  function() if several then mpi.barrier() end end)

-- ---- parameters in common --------------------------------------------------------------------

-- Variables become what they are on rank 1, those of one dtype in one go.
local function share(list)
  local by_dtype, order = {}, {}
  for _, v in ipairs(list) do
    if not by_dtype[v.dtype] then
      by_dtype[v.dtype] = {}
      order[#order + 1] = v.dtype
    end
    table.insert(by_dtype[v.dtype], v)
  end
  for _, dtype in ipairs(order) do
    local group, flat, values, at = by_dtype[dtype], {}, {}, 0
    for i, v in ipairs(group) do flat[i] = v:detach():reshape(v.size) end
    local all = dist.broadcast(mg.cat(flat, 1))
    for i, v in ipairs(group) do
      values[i] = all[{ { at + 1, at + v.size } }]:reshape(v.shape)
      at = at + v.size
    end
    mg.assign(group, values)
  end
end

-- Parameters and buffers of a model, by order of names; buffers are what is not tracked.
local function owned(model)
  local parameters, buffers, seen = {}, {}, {}
  model:_walk(function(_, v, kind)
    if seen[v.id] then return end
    seen[v.id] = true
    table.insert(kind == "parameter" and parameters or buffers, v)
  end)
  return parameters, buffers
end

local BYTES = { float64 = 8, float32 = 4 }

-- How many of these parameters make a bucket, one after the other: of one dtype, of so many bytes.
local function buckets(list, bytes)
  local counts, dtype, full = {}, nil, 0
  for _, p in ipairs(list) do
    if p.dtype ~= dtype or full >= bytes then
      counts[#counts + 1], dtype, full = 0, p.dtype, 0
    end
    counts[#counts], full = counts[#counts] + 1, full + p.size * BYTES[p.dtype]
  end
  return counts
end

local function layout(state, list, known, counts)
  local text, hash = {}, 0
  for i, p in ipairs(list) do
    text[i] = known[p.id] .. p.dtype .. table.concat(p.shape, ",")
  end
  for c in (table.concat(text, ";") .. "|" .. table.concat(counts, ",")):gmatch "." do
    hash = hash * 31 + c:byte()
  end
  return ("the backward of a DataParallel model with %d parameters in %d buckets%s (number %d, " ..
    "layout %x)"):format(#list, #counts, state.exact and ", exact" or "", state.number, hash)
end

-- What hangs on a model while it is trained: its parameters as they were last seen, the watch on
-- their gradients, whether their order is that in which backward is done with them, and which have
-- been made the same on all ranks. By its number and by the places of its parameters among all that
-- it has (known) ranks tell it from another with the same shapes.
local hanging = setmetatable({}, { __mode = "k" })
local shared = 0 -- models, by all ranks in the same order

local function hang(self, model)
  local state = { list = {}, known = {}, same = {}, bytes = self.bucket, exact = self.exact }
  hanging[model] = state
  return state
end

local function share_new(state, parameters)
  local new = {}
  for _, p in ipairs(parameters) do
    if not state.same[p.id] then new[#new + 1] = p end
  end
  share(new)
  if #new > 0 and not state.number then
    shared = shared + 1
    state.number = shared
  end
  for _, p in ipairs(new) do state.same[p.id] = true end
end

-- What fails in here is begun anew by the next forward, which finds nothing that is known.
local function watch(state, list, known, ordered)
  state.known = {}
  if state.watch then state.watch:close() end
  state.watch, state.list = nil, list
  if #list > 0 then
    local counts = buckets(list, state.bytes)
    state.watch = mpi.watch(list, counts, state.exact, layout(state, list, known, counts))
  end
  state.known, state.ordered = known, ordered
end

-- Parameters in the order in which rank 1's backward was done with them, once there was one.
local function reorder(state)
  local order = state.watch and state.watch:order() or {}
  local list, n = {}, #state.list
  if n == 0 or dist.all_reduce(#order, "min"):item() < n then return end
  for i, k in ipairs(dist.broadcast(mg.tensor(order, "int64")):totable()) do
    list[i] = state.list[k]
  end
  watch(state, list, state.known, true)
end

-- Before a forward that backward may follow
local function prepare(self, state)
  local parameters, buffer_list = owned(self.module)
  local tracked, places, known = {}, {}, 0
  for i = #parameters, 1, -1 do
    local p = parameters[i]
    if p.requires_grad and not p.creator then
      tracked[#tracked + 1], places[p.id] = p, i
      known = known + (state.known[p.id] and 1 or 0)
    end
  end
  share_new(state, tracked)
  if known ~= #tracked or known ~= #state.list then
    watch(state, tracked, places, false)
  elseif not state.ordered then
    reorder(state)
  end
  local floats = {}
  for _, b in ipairs(buffer_list) do
    if BYTES[b.dtype] then floats[#floats + 1] = b end
  end
  if not self.broadcast_buffers or not mg.Config.train or #floats == 0 then return end
  if mg._recording() then
    raise("DataParallel: mg.compile cannot record that all take rank 1's buffers: call the " ..
      "model outside of it, or in mg.test_mode")
  end
  share(floats)
end

local function share_all(model, state)
  local parameters, buffer_list = owned(model)
  share_new(state, table.move(buffer_list, 1, #buffer_list, #parameters + 1, parameters))
end

local DataParallel = Module:extend("DataParallel")

DataParallel.init = checked(
  "DataParallel(self, model: module, {bucket: int(1..) = 1048576, exact: bool = false, " ..
    "broadcast_buffers: bool = true})",
  "model (its field `module`), the same on all ranks: rank 1's parameters at the start, and " ..
    "gradients that backward averages over ranks, in buckets of so many bytes, while it goes " ..
    "on; exact: adding up in pairs as all_reduce does. Each forward in training takes rank 1's " ..
    "buffers (running means), unless broadcast_buffers = false. Gradients of mg.gradients and " ..
    "mg.grad are each rank's own",
  function(self, model, bucket, exact, broadcast_buffers)
    self.module, self.broadcast_buffers = model, broadcast_buffers
    if not several then return end
    local old = hanging[model]
    if old and old.watch then old.watch:close() end
    self.bucket, self.exact = bucket, exact
    local state = hang(self, model)
    if not model:_waits() then share_all(model, state) end
  end)

local function size_and_share(model, state, ...)
  mg.test_mode(mg.no_grad, model, ...)
  share_all(model, state)
end

function DataParallel:forward(...)
  local model = self.module
  if several then
    local state = hanging[model] or hang(self, model) -- of a copy there is none yet
    if not state.sized then
      if model:_waits() then
        mg._unnoted(size_and_share, model, state, ...)
        mg._grown()
      end
      state.sized = true
    end
    if mg._foreseen() then mg._unnoted(prepare, self, state) end
  end
  return model(...)
end

dist.DataParallel = DataParallel

-- ---- batch norm ------------------------------------------------------------------------------

-- x (N, C, ...) normalized in each channel by mean and variance of all ranks' x, which are also
-- given, and how many values they are of.
function facts._standardize(x, eps)
  local axes, dims = { 1 }, { x.shape[2] }
  for i = 3, x.ndim do axes[i - 1], dims[i - 1] = i, 1 end
  local C = x.shape[2]
  local n = mg.full({ 1 }, x.size // C, { dtype = x.dtype })
  local sums = dist.all_reduce(mg.cat({ x:sum(axes), n }, 1), "sum")
  n = sums[C + 1]:detach()
  local mean = sums[{ { 1, C } }] / n
  local d = x - mean:reshape(dims)
  local var = dist.all_reduce((d * d):sum(axes), "sum") / n
  return d * (var + eps):rsqrt():reshape(dims), mean:detach(), var:detach(), n
end

-- Seconds and bytes that averaging has cost since the last call (src/mpi.c)
facts._times = mpi and mpi.times or function()
  return { start = 0, step = 0, wait = 0, bytes = 0, buckets = 0 }
end

mg.dist = dist

return dist
