-- What is shown of solvers and distributions: sessions by name.

-- A distribution, a draw from it, and the logarithm of its density somewhere.
local function drawn(made, at)
  return ("d = mg.distributions.%s\nd:sample(3)\nd:log_prob(%s)"):format(made, at)
end

return {
  odeint = [[
-- y' = -y, from 1
y, info = mg.odeint(function(t, y) return -y end, mg.tensor{1}, {0, 1, 2})
y
info.steps > 0]],
  minimize = [[
x, info = mg.minimize(function(x) return ((x - 3) ^ 2):sum() end, mg.tensor{0, 10})
x
info.converged]],
  root = [[
(mg.root(function(x) return x ^ 2 - 2 end, mg.tensor(1)))
-- and how it moves with what f captures: d sqrt(a) / da at 4
mg.grad(function(a) return (mg.root(function(x) return x ^ 2 - a end, mg.tensor(1))) end)(4)]],

  ["distributions.Normal"] = drawn("Normal(0, 1)", "0"),
  ["distributions.Uniform"] = drawn("Uniform(0, 10)", "{5, 11}"),
  ["distributions.Exponential"] = drawn("Exponential(2)", "1"),
  ["distributions.Gamma"] = drawn("Gamma(3, 2)", "1"),
  ["distributions.Beta"] = drawn("Beta(2, 5)", "0.3"),
  ["distributions.Laplace"] = drawn("Laplace(0, 1)", "{0, 1}"),
  ["distributions.Poisson"] = drawn("Poisson(4)", "{0, 4}"),
  ["distributions.Bernoulli"] = drawn("Bernoulli(0.3)", "{0, 1}"),
  ["distributions.Categorical"] = drawn("Categorical{0.2, 0.3, 0.5}", "{1, 3}"),
  ["distributions.Dirichlet"] = drawn("Dirichlet{1, 2, 3}", "{0.2, 0.3, 0.5}"),
  ["distributions.MultivariateNormal"] =
    drawn("MultivariateNormal({0, 0}, {{2, 1}, {1, 2}})", "{0, 0}"),
  ["distributions.kl"] = [[
normal = mg.distributions.Normal
mg.distributions.kl(normal(0, 1), normal(1, 2))]],
  ["Categorical:log_prob"] = "mg.distributions.Categorical({0.2, 0.8}):log_prob({1, 2})",
  ["Distribution:extend"] = [[
Mine = mg.distributions.Normal:extend "Mine"
function Mine:quartile() return self.loc - 0.67449 * self.scale end
Mine(10, 2):quartile()]],
  ["Distribution:sample"] = "mg.distributions.Normal(10, 0.1):sample(2, 2)",
  ["Distribution:rsample"] = [[
scale = mg.Variable(2)
mg.distributions.Normal(0, scale):rsample(1000):square():mean():backward()
scale.grad]],
  ["Distribution:log_prob"] = "mg.distributions.Normal(0, 1):log_prob({-1, 0, 1})",
  ["Distribution:entropy"] = "mg.distributions.Normal(0, {1, 10}):entropy()",
}
