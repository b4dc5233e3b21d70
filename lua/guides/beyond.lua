-- # Beyond one process
--
-- Threads, several states, several processes, and Lua programs that use moongrad among other
-- things.

local mg = require "moongrad"

-- ## Threads
--
-- Ops use as many threads as there are cores for the process, a container's quota of their time
-- rounded up, or `OMP_NUM_THREADS`; results do not depend on it.

mg.set_num_threads(2)
print(mg.num_threads())

-- Each Lua state has its own Variables, modes and random numbers. States may run on threads of
-- one process (as lanes or an application's own do); a Variable stays in the state that made it.
-- Values go from one to the other as bytes:

local bytes = mg.tensor({{1, 2}, {3, 4}}, "float32"):tobytes()
print(#bytes, mg.frombytes(bytes, "float32", {2, 2}))

-- ## Random numbers in several places
--
-- A seed starts a stream; where it stands can be kept and gone back to. Processes that are to
-- draw different numbers take different seeds.

mg.seed(42)
local state = mg.get_rng_state()
local first = mg.rand(2)
mg.set_rng_state(state)
print(first, mg.equal(first, mg.rand(2)))

-- ## Adding up gradients of parts
--
-- A batch cut into parts gives the same gradient, up to rounding: what data-parallel training
-- rests on.

mg.seed(1)
local model = mg.nn.Linear(3, 1)
local x, t = mg.rand(8, 3), mg.rand(8, 1)
local function gradient(from, to)
  model:cleargrads()
  mg.mean_squared_error(model(x[{ {from, to} }]), t[{ {from, to} }]):backward()
  return model.weight.grad
end
local whole = gradient(1, 8)
local parts = (gradient(1, 4) + gradient(5, 8)) / 2
print(mg.allclose(whole, parts))

-- `moongrad.dist` does that in several processes; the next page is of them.
