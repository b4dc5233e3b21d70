-- # Coming from PyTorch, NumPy, torch7 or JAX
--
-- What is otherwise here, and what the names are.

local mg = require "moongrad"

-- ## For everybody
--
-- - Axes, indices, labels and argument numbers count from 1, as Lua does; -1 is the last. Ranges
--   include both ends.
-- - Numbers are float64 unless told otherwise: `mg.Config.dtype = "float32"` for a whole script.
-- - Methods are called by a colon, `x:sum(1)`; `x.sum(1)` is an error that says so.
-- - `x == y` asks whether both are one Variable. `mg.eq(x, y)` goes by elements, `mg.equal` and
--   `mg.allclose` give true or false.
-- - Options stand in one table behind the arguments: `x:sum{axis = 2, keepdims = true}`.
-- - A name of PyTorch's that is spelt otherwise says so:

print(pcall(function() return mg.ones(2, 3):view(6) end))
print(pcall(function() return mg.mse_loss end))

-- ## From PyTorch
--
-- - `dim` is `axis`, `keepdim` is `keepdims`; `view` is `reshape`, `clip` is `clamp`, `numel()`
--   is `size`, `tolist()` is `totable()`, `zero_grad` is `cleargrads`, `state_dict` is `state`.
-- - `x:transpose(a, b)` is `x:swapaxes(a, b)`; our `transpose` is NumPy's, of all axes.
-- - There is no `train()` and `eval()`: modes come from `mg.Config.train`, and
--   `mg.test_mode(f, ...)` switches it off for a call.
-- - `cross_entropy` takes labels 1..K. `nn.functional` is `mg` itself: every op is a function
--   and a method.
-- - `mg.Variable` is a leaf with `requires_grad`, `mg.tensor` one without; there is no device.
-- - `x.data = ...` gives a parameter new values; ops in place do not exist, `x[i] = v` is for
--   leaves.
-- - Layers name their parameters as PyTorch's do and start from the same distributions: a
--   state_dict saved as safetensors loads by `model:load`.
-- - Sizes of inputs may be left out: `nn.Linear(10)` finds them at its first call.

local layer = mg.nn.Linear(3, 2)
for name, p in layer:named_parameters() do print(name, p.shape) end
print(mg.cross_entropy(mg.tensor{{2, 0, 0}, {0, 3, 0}}, {1, 2}))

-- ## From NumPy
--
-- - Shapes, broadcasting, reductions, `einsum`, indices by arrays and masks are NumPy's, from 1.
-- - `x[2:5]` is `x[{ {3, 5} }]`, `x[:, 0]` is `x[{ {}, 1 }]`, `x[::2]` is `x[{ {1, -1, 2} }]`,
--   `x[None]` is `x[{ mg.newaxis }]`.
-- - `np.arange(5)` is `mg.range(0, 4)`: both ends are included. `astype` is `to`, `concatenate`
--   is `cat`.
-- - Reductions give 0-d Variables; `:item()` makes a number of one.
-- - `npy` and `npz` files are read and written by `mg.load` and `mg.save`.

local x = mg.range(1, 12):reshape(3, 4)
print(x[{ {2, 3}, {} }])
print(x[{ {}, 1 }], x[{ {1, -1, 2}, -1 }], x[{ mg.newaxis }].shape)
print(mg.einsum("ij->j", x))

-- ## From torch7
--
-- - `require "moongrad"` instead of `torch`, `nn` and `optim`. Indexing by tables, `{}` for all
--   of an axis, counting from 1 and labels from 1 are as they were.
-- - There is no `forward`/`backward` of modules to be written: `model(x)`, and gradients of
--   whatever it computes.
-- - Results are new Variables; `x:add(y)` does not change x.
-- - An optimizer is an object with `step()`, not a function of `feval`; `optim.LBFGS` takes such
--   a function in `step`.

local y = mg.Variable{1, 2}
print(y:add(1), y)

-- ## From JAX
--
-- - `grad`, `value_and_grad`, `vjp`, `jvp`, `jacobian`, `hessian`, `checkpoint` take functions
--   and give functions. Arguments are counted from 1: `mg.grad(f, 2)`.
-- - Trees are Lua tables; `mg.tree_map` goes over them. A module is a tree as well.
-- - Functions may have effects; random numbers come from one stream, started by `mg.seed`.
-- - Ops wait and are fused by themselves; there is nothing to be traced for it.

local function loss(p, v) return ((p.w * v + p.b) ^ 2):sum() end
local g = mg.grad(loss)({w = mg.tensor(2), b = mg.tensor(0)}, mg.tensor{1, 2})
print(g.w, g.b)
print(mg.tree_map(function(v) return v * 2 end, g).w)
