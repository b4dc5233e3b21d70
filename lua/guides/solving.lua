-- # Solving and sampling
--
-- Minima, roots, differential equations and probability distributions, all of functions written
-- with ops. Wherever a Variable is taken a tree may stand: a table of Variables and numbers.

local mg = require "moongrad"

-- ## Minima
--
-- `mg.minimize` goes down by L-BFGS, or by Newton-CG, which multiplies the Hessian by vectors
-- instead of making it. What it finds has the form that it began with.

local function rosenbrock(p) return 100 * (p.y - p.x ^ 2) ^ 2 + (1 - p.x) ^ 2 end
local found, info = mg.minimize(rosenbrock, {x = -1.2, y = 1})
print(found.x, found.y, info.converged)
print((mg.minimize(rosenbrock, {x = -1.2, y = 1}, {method = "Newton-CG"}).x))

-- ## Roots
--
-- `mg.root` is Newton's method with the Jacobian; a step that does not help is halved. Its result
-- depends on what the function captures, as the implicit function theorem says, and can be
-- differentiated: the square root of a, and its first two derivatives at 2.

local function root(a) return (mg.root(function(x) return x ^ 2 - a end, 1.0)) end
local slope = mg.grad(root)
print(root(mg.tensor(2)), slope(2.0), mg.grad(slope)(2.0))

-- ## Differential equations
--
-- `mg.odeint(f, y, times)` gives the solution of dy/dt = f(t, y) at all times, by the method of
-- Dormand and Prince with steps as the tolerances ask for, or with steps of a fixed length by
-- `method = "rk4"`. A pendulum that swings for half a minute keeps its energy:

local function pendulum(_, s) return {angle = s.speed, speed = -s.angle:sin()} end
local path, steps = mg.odeint(pendulum, {angle = mg.tensor(1.0), speed = mg.tensor(0.0)},
  mg.linspace(0, 30, 61))
local energy = path.speed ^ 2 / 2 - path.angle:cos()
print(path.angle.shape, steps.steps > 0)
print((energy - energy[1]):abs():max() < 1e-5)

-- Gradients go through the steps. With `checkpoint = true` only the ends of steps are kept, and
-- backward computes one after the other again: that is how a network in the place of f is learned.

local k = mg.Variable(0.5)
local y = mg.odeint(function(_, v) return -k * v end, mg.tensor(1.0), {0, 2}, {checkpoint = true})
y[2]:backward()
print(math.abs(k.grad:item() + 2 * math.exp(-1)) < 1e-6)

-- ## Distributions
--
-- `mg.distributions` has torch.distributions' names: `log_prob`, `sample`, `rsample`, whose draws
-- lead gradients to the parameters, `entropy`, `mean`, `variance`, and `kl` of two of a kind.

local D = mg.distributions
mg.seed(1)
local normal = D.Normal(mg.tensor{0, 1}, 2)
print(normal, normal.mean, normal.variance)
print(normal:log_prob(mg.tensor{0, 1}), normal:sample(1000).shape)
print(D.kl(D.Normal(0, 1), D.Normal(1, 2)))

-- The mean and the width of a normal distribution that comes nearest to another, by its divergence:

local mu, log_sigma = mg.Variable(0.0), mg.Variable(0.0)
local opt = mg.optim.Adam({mu, log_sigma}, {lr = 0.05})
for _ = 1, 400 do
  local loss = D.kl(D.Normal(mu, log_sigma:exp()), D.Normal(1, 0.5))
  mu:cleargrad()
  log_sigma:cleargrad()
  loss:backward()
  opt:step()
end
print(mg.allclose(mu, 1, {rtol = 1e-3}), mg.allclose(log_sigma:exp(), 0.5, {rtol = 1e-3}))

-- Parameters are checked when a distribution is made, by each replay too where `mg.compile` records
-- it; `{validate_args = false}` leaves that out.
