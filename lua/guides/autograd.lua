-- # Gradients and transforms
--
-- What backward does, what it keeps, and the functions that make derivatives of functions.

local mg = require "moongrad"

-- ## What is recorded
--
-- A result that came from a tracked Variable has a creator, the Function that made it; a leaf
-- has none. `mg.dot_graph` and `mg.plot_graph` draw what hangs together.

local x = mg.Variable({1, 2}, "x")
local y = (x * x):sum()
print(x.requires_grad, x.creator, y.creator, y.generation)
print(y.creator.inputs[1].creator)

-- Nothing is recorded of constants, within `mg.no_grad`, and behind `:detach()`:

print(mg.no_grad(function() return (x * x).creator end), (x:detach() * 2).creator)

-- ## backward
--
-- Gradients of leaves add up until `cleargrad`. Those in between are dropped as soon as they are
-- used, unless `retain_grad` is given; what Functions saved is let go of on the way, so a second
-- backward through the same graph needs `retain_graph` in the first.

y:backward()
print(x.grad)
print(pcall(y.backward, y))
local z = x:exp()
local s = z:sum()
x:cleargrad()
s:backward{retain_grad = true}
print(x.grad, z.grad)

-- `create_graph` records the gradients themselves, so that they can be differentiated: Newton's
-- method on x^4 - 2 x^2.

local p = mg.Variable(2.0)
for _ = 1, 6 do
  local f = p ^ 4 - 2 * p ^ 2
  p:cleargrad()
  f:backward{create_graph = true}
  local first = p.grad
  p:cleargrad()
  first:backward()
  p.data = p.data - first.data / p.grad.data
end
print(p)

-- ## Transforms
--
-- They take a function and give one; nothing is left in `.grad`. An argument may be a Variable
-- or a tree: a table, a list or a module of them, and the gradient has its form.

local function loss(params, inputs)
  return ((params.w * inputs + params.b) ^ 2):sum()
end
local params = {w = mg.tensor(2), b = mg.tensor(1)}
local value, g = mg.value_and_grad(loss)(params, mg.tensor{1, 2})
print(value, g.w, g.b)

local function f(v) return v[1] ^ 2 * v[2] end
local at = mg.tensor{2, 3}
print(mg.hessian(f, at))
print(mg.hvp(f, at, mg.tensor{1, 0}))
print(mg.jacobian(function(v) return mg.stack{v[1] * v[2], v[1]} end, at))

-- `vjp` pulls a gradient back, `jvp` pushes a direction forward:

local result, back = mg.vjp(mg.sin, mg.tensor{0, 1})
print(result, back(mg.tensor{1, 1}))
print(mg.jvp(mg.sin, mg.tensor{0, 1}, mg.tensor{1, 0}))

-- `mg.gradients(y, xs)` is for a graph that is there already.

local u, w = mg.Variable(3), mg.Variable(4)
local product = u * w
local grads = mg.gradients(product, {u, w})
print(grads[1], grads[2], u.grad)

-- ## Higher orders
--
-- Every rule is made of ops, so derivatives go on as long as there is memory for them.

local function nth(fn, n)
  for _ = 1, n do
    local inner = fn
    fn = mg.grad(function(v) return inner(v):sum() end)
  end
  return fn
end
for n = 1, 5 do print(n, nth(mg.tanh, n)(mg.tensor(1))) end

-- ## Where a derivative is a choice
--
-- relu, abs and norm have gradient 0 at 0; maximum and minimum give half to each at a tie; a
-- zero gradient stays zero through an infinite slope, so `where` needs no second guard:

print(mg.grad(function(v) return mg.where(v:gt(0), v:sqrt(), 0):sum() end)(mg.tensor{0, 4}))

-- ## Checking
--
-- `gradcheck` compares with differences, and says where they disagree.

print(mg.gradcheck(function(v) return v:sigmoid() end, {mg.randn(3)}, {order = 2}))
