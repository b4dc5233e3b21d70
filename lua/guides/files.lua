-- # Saving and loading
--
-- Arrays, models and whole trainings in files that others can read: safetensors, npy, npz, csv,
-- png.

local mg = require "moongrad"
local folder = os.tmpname()
os.remove(folder)
os.execute("mkdir " .. folder)
local function at(name) return folder .. "/" .. name end

-- ## Arrays
--
-- The ending says the format. A file is written under another name and renamed, so a reader sees
-- the old one or the new one, never half.

mg.save(at "x.npy", mg.range(1, 6):reshape(2, 3))
print(mg.load(at "x.npy"))
mg.save(at "both.npz", {x = mg.ones(2), y = mg.zeros(3)})
print(mg.load(at "both.npz").y)

-- ## Trees
--
-- A safetensors file takes nested tables, numbers, strings and booleans too, and gives them back
-- in the form they had; metadata are the second result of a load.

mg.save(at "run.safetensors", {
  epoch = 3, name = "run", layers = {mg.ones(2), mg.zeros(2)},
}, {metadata = {made = "in a guide"}})
local t, metadata = mg.load(at "run.safetensors")
print(t.epoch, t.name, #t.layers, metadata.made)

-- Some of a file, or what is in it:

print(mg.load(at "both.npz", {"x"}).y)
for name, is in pairs(mg.load(at "both.npz", {list = true})) do print(name, is.dtype) end

-- ## Narrower numbers
--
-- Files may hold dtypes that arrays have not, `float16`, `bfloat16`, `int8` and others; they are
-- converted on the way.

mg.save(at "half.safetensors", {x = mg.tensor{1 / 3, 2 / 3}}, {dtype = "bfloat16"})
local half = mg.load(at "half.safetensors").x
print(half, half.dtype)

-- ## Models and trainings
--
-- `state()` of modules, optimizers, schedules, loaders and averages is such a tree.

local model = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.tanh, mg.nn.Linear(4, 1))
local opt = mg.optim.Adam(model, {lr = 1e-3})
mg.save(at "training.safetensors", {model = model:state(), opt = opt:state(), epoch = 7,
  rng = mg.get_rng_state()})
local saved = mg.load(at "training.safetensors")
model:load_state(saved.model)
opt:load_state(saved.opt)
mg.set_rng_state(saved.rng)
print(saved.epoch)

model:save(at "model.safetensors")
print(model:load(at "model.safetensors"))

-- Layers name their parameters as PyTorch does, so its files fit. `strict = false` takes what
-- fits and says what did not.

local other = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.tanh, mg.nn.Linear(4, 2))
print(pcall(other.load, other, at "model.safetensors"))

-- ## Tables and pictures

mg.save(at "table.csv", mg.tensor{{1, 2}, {3, 4}})
for k, column in ipairs(mg.load(at "table.csv")) do print(k, column) end
mg.save(at "picture.png", mg.rand(8, 8))
print(mg.load(at "picture.png").shape)
os.execute("rm -r " .. folder)
