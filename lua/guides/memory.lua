-- # Laziness and memory
--
-- When things are computed, what is kept, and how to keep less.

local mg = require "moongrad"

-- ## When a value is computed
--
-- An elementwise op or reduction of a large array computes nothing when it is called; it waits
-- until somebody reads a value: `item`, `print`, a product, a save, `mg.eval`. What is read
-- together is computed in one pass over memory, and what lies in between never exists as an
-- array.

local x = mg.rand(1000, 1000)
mg.eval(x)
mg.reset_peak()
local before = mg.memory().live
local mean = ((x - 0.5) ^ 2):mean()
print(mean)
print(mg.memory().peak - before, "bytes more, beside an array of", 8 * x.size)
print(mg.memory())

-- `mg.launches` shows what goes to the machine, `mg.profile` what took the time.

mg.launches(function() return ((x - 0.5) ^ 2):exp():sum(1):sum():item() end)

-- Values that stand for the same numbers can be asked for in one go:

local a, b = x:sin():sum(), x:cos():sum()
mg.eval(a, b)

-- ## What backward keeps
--
-- Leaves keep their gradients. All other gradients are dropped the moment they have been used,
-- and so is what Functions saved. Nothing at all is recorded under `mg.no_grad`.

local square = mg.square
local v = mg.Variable(mg.ones(100, 100, 100))
local y = square(square(square(v)))
y:backward()
print(v.grad:mean(), y.grad)
print(mg.no_grad(square, v).creator)

-- ## Numbers, not losses
--
-- A loss that is kept keeps its graph. What is added up over steps should be numbers:

local w, total = mg.Variable(mg.zeros(10)), 0
for _ = 1, 3 do
  local loss = ((w - 1) ^ 2):sum()
  w:cleargrad()
  loss:backward()
  w.data = w.data - 0.1 * w.grad
  total = total + loss:item()
end
print(total)

-- ## Letting go
--
-- Lua's collector is told of the memory that arrays take, so a plain loop stays small.
-- `mg.tidy(fn)` frees what a call made at its end without waiting for it; `local x <close>` and
-- `x:free()` free one. A result that waits holds what it will be computed of: `mg.eval` it in the
-- call. A ring through the graph is not seen: a result that its own function holds
-- (`m.last = mg.checkpoint(m, x)`) stays, and m with it, until it has seen backward or another is
-- in its place.

local result = mg.tidy(function()
  local big = mg.rand(1000, 1000):exp()
  return big:sum()
end)
print(result.shape)
do
  local scratch <close> = mg.rand(1000)
  print(#scratch)
end

-- ## Recomputing instead of storing
--
-- `mg.checkpoint(f, x)` forgets what is inside f, and computes it again in backward: here only
-- the four values between the parts are kept. Elementwise ops that are cheap are computed again
-- anyway; with `Config.lean`, those that are dear are too. What an activation such as gelu or a
-- normalization gives to a product is not kept either, where its own gradient keeps what it takes
-- to compute it: of `linear(gelu(linear(x, W)), V)` that is the inner product alone.
--
-- f runs again with the values, the random numbers and the modes of the first time. What else it
-- reads of Lua, fields, upvalues, numbers, is to be what it was: where other Variables with
-- gradients were read, or the results are others beyond rounding, backward raises. Only of a
-- function whose ops are all elementwise, which is not worth a checkpoint, of one that takes
-- gradients itself, and in mg.compile no results are compared.

local W = mg.rand(300, 300) * 0.1
local function five(t)
  for _ = 1, 5 do t = t:matmul(W):tanh() end
  return t
end
local function twenty(t) return five(five(five(five(t)))) end
local function in_parts(t)
  for _ = 1, 4 do t = mg.checkpoint(five, t) end
  return t
end
local function peak_of(fn)
  local t = mg.Variable(mg.rand(300, 300))
  collectgarbage()
  mg.eval(t)
  mg.reset_peak()
  local from = mg.memory().live
  fn(t):sum():backward()
  return ("%.1f MB at most"):format((mg.memory().peak - from) / 1e6)
end
print(peak_of(twenty), peak_of(in_parts))

-- ## Who has it
--
-- `mg.memory{by = "name"}` and `{by = "op"}` say whose the live bytes are.
-- `mg.memory_limit(bytes)` makes an allocation beyond it an error of Lua, which leaves nothing
-- half done.

local named = mg.Variable(mg.rand(1000), "named")
mg.eval(named)
print(mg.memory{by = "name"}.named)
mg.memory_limit(mg.memory().live + 2 ^ 20 // 1 | 0)
print(pcall(mg.eval, mg.rand(1000, 1000)))
mg.memory_limit()
