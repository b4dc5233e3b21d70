-- # Arrays and indexing
--
-- Making arrays, shapes and broadcasting, all kinds of indices, and writing into arrays.

local mg = require "moongrad"

-- ## Making
--
-- Dims stand as numbers, or in one table that may carry a dtype. There are `float64` (the
-- default), `float32`, `int64`, `uint8` and `bool`.

print(mg.zeros(2, 3))
print(mg.full({3}, 7), mg.range(1, 10, 3), mg.linspace(0, 1, 5))
print(mg.eye(2))
print(mg.tensor({1, 2, 3}, "int64").dtype, mg.ones{2, dtype = "float32"}.dtype)

-- A table of whole numbers becomes floats, since gradients need them; `int64` is asked for by
-- name. Floats of two widths promote to the wider one, a number never widens:

local a, b = mg.ones{2, dtype = "float32"}, mg.ones(2)
print((a + b).dtype, (a * 2.5).dtype, (mg.tensor({1}, "int64") / 2).dtype)

-- ## Shapes
--
-- `reshape`, `transpose`, slices and `broadcast_to` are views: they copy nothing. One dim of a
-- reshape may be -1.

local x = mg.range(1, 12):reshape(3, -1)
print(x)
print(x.T.shape, x:flatten().shape, x:unsqueeze(1).shape, x:permute(2, 1).shape)

-- Two shapes broadcast when, from the last axis on, dims are equal or one of them is 1.

print(x - x:mean(1))
print(x - x:mean{axis = 2, keepdims = true})
print(pcall(function() return x + mg.ones(3) end))

-- ## Indices
--
-- `x[i]` drops axis 1. A table has an entry for each axis: a number drops it, `{first, last}` is
-- a range, both ends included, with a step as a third; `{}` is all of it. -1 is the last.

print(x[1], x[-1][2])
print(x[{ {1, 2}, {} }])
print(x[{ {}, -1 }])
print(x[{ {1, 3, 2}, {4, 1, -3} }])

-- An int64 Variable picks rows, in its own shape; a bool one selects. `mg.newaxis` puts an axis
-- in. Masks are joined by `&`, `|` and `~`: `and`, `or`, `not` and `if` are Lua's, to which every
-- Variable is true, whatever is in it.

print(x[mg.tensor({3, 1, 3}, "int64")])
print(x[x:gt(9)], x[{ mg.newaxis, 2 }].shape)
print(x[x:gt(4) & ~x:gt(6)])

-- Arrays of indices on several axes go together, as in NumPy:

local i, j = mg.tensor({1, 2, 3}, "int64"), mg.tensor({4, 3, 2}, "int64")
print(x[{i, j}])

-- Whatever is read by an index sends its gradient back to where it was read:

local v = mg.Variable{10, 20, 30};
(v[1] * 2 + v[mg.tensor({3, 3}, "int64")]:sum()):backward()
print(v.grad)

-- ## Writing
--
-- `x[i] = v` writes into constants and into leaves, in x's dtype, as `v:to` gives it: into whole
-- numbers toward 0. What was computed is never overwritten: its gradient may need it. Writing is
-- not recorded: leaves are copied, and results whose gradients would be lost are refused. Arrays
-- of such are made by `mg.stack` and its kin, and `v.data` is the value alone. Nor is anything
-- written into what an index gave, for x would not see it: `x[{i, j}] = v` writes into x, and
-- `x[i]:clone()` is an array of its own.

x[{ {}, 1 }] = 0
x[x:gt(10)] = -1
print(x)
local computed = mg.Variable{1, 2} * 2
print(pcall(function() computed[1] = 0 end))

-- ## Along an axis
--
-- Lua's loops know Variables: `#x` is the length of axis 1, `ipairs` goes along it.

for k, row in ipairs(x) do io.write(k, ": ", tostring(row), "\n") end

-- ## Joining, ordering, looking up

print(mg.cat({mg.ones(2, 1), mg.zeros(2, 2)}, 2))
print(mg.stack{mg.tensor{1, 2}, mg.tensor{3, 4}})
local values, places = mg.tensor{30, 10, 20}:sort()
print(values, places)
print(mg.where(mg.tensor{-1, 4}:gt(0), mg.tensor{-1, 4}, 0))
print(mg.one_hot({1, 3}, 3))
