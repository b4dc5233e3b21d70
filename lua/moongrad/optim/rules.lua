-- The update rules, with PyTorch's formulas, names and defaults (torch.optim, 2.x).
-- In the formulas: p parameter, g gradient, t the number of this update, w weight_decay.
-- weight_decay adds w p to g, except in AdamW.

local Optimizer = require "moongrad.optim.optimizer"
local mg = require "moongrad"
local sqrt, raise = mg.sqrt, mg.raise

local function decayed(self, p, g)
  if self.weight_decay == 0 then return g end
  return g + self.weight_decay * p
end

-- momentum 0: p' = p - lr g.  Otherwise b' = momentum b + (1 - dampening) g (the first one is g)
-- and p' = p - lr b', or p - lr (g + momentum b') with nesterov.
local SGD = Optimizer:extend("SGD",
  "lr: number(0..) = 1e-3, momentum: number(0..) = 0, dampening: number(0..) = 0, " ..
    "nesterov: bool = false, weight_decay: number(0..) = 0",
  "p - lr g, with momentum if any; opt:step() updates. Parameters may come in groups with " ..
    "options of their own: {{params = a, lr = 0.1}, {params = b}}")

function SGD:prepare()
  if self.nesterov and (self.momentum == 0 or self.dampening ~= 0) then
    raise("SGD: nesterov needs momentum and no dampening")
  end
  if self.dampening ~= 0 and self.momentum == 0 then raise("SGD: dampening needs momentum") end
end

function SGD:buffers() return self.momentum ~= 0 and { "b" } or {} end

local function sgd_numbers(self, t)
  return self.momentum, t == 1 and 1 or 1 - self.dampening
end

function SGD:update(p, g, s)
  g = decayed(self, p, g)
  if self:is_zero "momentum" then return { p }, { p - self.lr * g } end
  local momentum, part = self:numbers(s, sgd_numbers)
  local b = momentum * s.b + part * g
  local d = self.nesterov and g + momentum * b or b
  return { p, s.b }, { p - self.lr * d, b }
end

-- Kingma and Ba, arXiv 1412.6980, algorithm 1, in the order of its section 2 that puts both bias
-- corrections into numbers:
--   m' = b1 m + (1 - b1) g     v' = b2 v + (1 - b2) g^2     c = sqrt(1 - b2^t)
--   p' = p - (lr c / (1 - b1^t)) m' / (sqrt(v') + eps c)
local BETAS = "lr: number(0..) = 1e-3, betas: numbers(0..<1) = {0.9, 0.999}, " ..
  "eps: number(0..) = 1e-8, weight_decay: number(0..) = "

-- amsgrad (Reddi, Kale and Kumar, arXiv 1904.09237): the largest v' there was, x, for v'.
local AMSGRAD = ", amsgrad: bool = false"

local Adam = Optimizer:extend("Adam", BETAS .. "0" .. AMSGRAD,
  "steps by running means of g and g^2; opt:step() updates")

function Adam:buffers() return self.amsgrad and {"m", "v", "x"} or {"m", "v"} end

function Adam:prepare()
  if #self.betas ~= 2 then
    raise("%s: betas has %d numbers, expected 2", getmetatable(self).__name, #self.betas)
  end
end

-- b and 1 - b of both
local function parts(self)
  local b1, b2 = self.betas[1], self.betas[2]
  return b1, 1 - b1, b2, 1 - b2
end

local function adam_numbers(self, t)
  local c = math.sqrt(1 - self.betas[2] ^ t)
  return self.lr * c / (1 - self.betas[1] ^ t), self.eps * c
end

local function adam(self, p, g, s, kept)
  local b1, c1, b2, c2 = self:numbers(s, parts)
  local rate, eps = self:numbers(s, adam_numbers)
  local m = b1 * s.m + c1 * g
  local v = b2 * s.v + c2 * g * g
  if self.amsgrad then
    local x = mg.maximum(s.x, v)
    return { p, s.m, s.v, s.x }, { kept - rate * m / (sqrt(x) + eps), m, v, x }
  end
  return { p, s.m, s.v }, { kept - rate * m / (sqrt(v) + eps), m, v }
end

function Adam:update(p, g, s) return adam(self, p, decayed(self, p, g), s, p) end

-- Loshchilov and Hutter, arXiv 1711.05101: the decay acts on p alone, p' = (1 - lr w) p - ...
local AdamW = Adam:extend("AdamW", BETAS .. "1e-2" .. AMSGRAD,
  "Adam whose decay acts on the parameter alone")

function AdamW:update(p, g, s)
  return adam(self, p, g, s, (1 - self.lr * self.weight_decay) * p) end

-- Dozat, "Incorporating Nesterov momentum into Adam", 2016, as torch.optim.NAdam:
--   u_t = b1 (1 - 0.96^(t momentum_decay) / 2)     U_t = u_1 u_2 ... u_t     m', v' as Adam's
--   p' = p - lr ((1 - u_t) / (1 - U_t) g + u_t+1 / (1 - U_t+1) m') / (sqrt(v' / (1 - b2^t)) + eps)
-- b1 may change from step to step: d = 1 - U_t is kept, d' = u_t d + (1 - u_t).
local NAdam = Adam:extend("NAdam",
  "lr: number(0..) = 2e-3, betas: numbers(0..<1) = {0.9, 0.999}, eps: number(0..) = 1e-8, " ..
    "weight_decay: number(0..) = 0, momentum_decay: number(0..) = 4e-3",
  "Adam with Nesterov's momentum")
NAdam.buffers, NAdam.single = { "m", "v", "d" }, { d = true }

local function nadam_momentum(self, t)
  return self.betas[1] * (1 - 0.5 * 0.96 ^ (t * self.momentum_decay))
end

local function nadam_numbers(self, t)
  local u, after = nadam_momentum(self, t), nadam_momentum(self, t + 1)
  local c = math.sqrt(1 - self.betas[2] ^ t)
  return u, 1 - u, after, 1 - after, self.lr * c * (1 - u), self.lr * c * after, self.eps * c
end

function NAdam:update(p, g, s)
  g = decayed(self, p, g)
  local b1, c1, b2, c2 = self:numbers(s, parts)
  local u, still, after, rest, of_g, of_m, eps = self:numbers(s, nadam_numbers)
  local m = b1 * s.m + c1 * g
  local v = b2 * s.v + c2 * g * g
  local d = u * s.d + still
  of_g, of_m = of_g / d, of_m / (after * d + rest)
  return { p, s.m, s.v, s.d }, { p - (of_g * g + of_m * m) / (sqrt(v) + eps), m, v, d }
end

-- Adam's paper, section 7.1:  m' as Adam's     u' = max(b2 u, |g| + eps)
--   p' = p - lr / (1 - b1^t) m' / u'
local Adamax = Adam:extend("Adamax",
  "lr: number(0..) = 2e-3, betas: numbers(0..<1) = {0.9, 0.999}, eps: number(0..) = 1e-8, " ..
    "weight_decay: number(0..) = 0",
  "Adam with the largest of the last |g| in place of the root of their mean square")
Adamax.buffers = { "m", "u" }

local function adamax_rate(self, t) return self.lr / (1 - self.betas[1] ^ t) end

function Adamax:update(p, g, s)
  g = decayed(self, p, g)
  local b1, c1, b2 = self:numbers(s, parts)
  local m, u = b1 * s.m + c1 * g, mg.maximum(b2 * s.u, g:abs() + self.eps)
  return { p, s.m, s.u }, { p - self:numbers(s, adamax_rate) * m / u, m, u }
end

-- Chen et al., arXiv 2302.06675, algorithm 2:
--   p' = (1 - lr w) p - lr sign(b1 m + (1 - b1) g)     m' = b2 m + (1 - b2) g
local Lion = Adam:extend("Lion",
  "lr: number(0..) = 1e-4, betas: numbers(0..<1) = {0.9, 0.99}, weight_decay: number(0..) = 0",
  "steps of one size, by the sign of a running mean; the decay acts on the parameter alone")
Lion.buffers = { "m" }

function Lion:update(p, g, s)
  local b1, c1, b2, c2 = self:numbers(s, parts)
  local kept = self.weight_decay == 0 and p or (1 - self.lr * self.weight_decay) * p
  return { p, s.m }, { kept - self.lr * mg.sign(b1 * s.m + c1 * g), b2 * s.m + c2 * g }
end

-- v' = alpha v + (1 - alpha) g^2     d = g / (sqrt(v') + eps)     p' = p - lr d
-- momentum uses b' = momentum b + d.  centered means by v the variance, PyTorch's v - a^2 with
-- a' = alpha a + (1 - alpha) g, in a form where nothing cancels (West 1979):
-- v' = alpha (v + (1 - alpha) (g - a)^2).
local RMSprop = Optimizer:extend("RMSprop",
  "lr: number(0..) = 1e-2, alpha: number(0..<1) = 0.99, eps: number(0..) = 1e-8, " ..
    "weight_decay: number(0..) = 0, momentum: number(0..) = 0, centered: bool = false",
  "g by the root of its mean square")

function RMSprop:buffers()
  local list = { "v" }
  if self.centered then table.insert(list, "a") end
  if self.momentum ~= 0 then table.insert(list, "b") end
  return list
end

local function momentum_of(self) return self.momentum end

function RMSprop:update(p, g, s)
  g = decayed(self, p, g)
  local targets, values, alpha = { p, s.v }, {}, self.alpha
  local v
  if self.centered then
    local off = g - s.a
    v = alpha * (s.v + (1 - alpha) * off * off)
    targets[3], values[3] = s.a, s.a + (1 - alpha) * off
  else
    v = alpha * s.v + (1 - alpha) * g * g
  end
  local d = g / (sqrt(v) + self.eps)
  if not self:is_zero "momentum" then
    d = self:numbers(s, momentum_of) * s.b + d
    table.insert(targets, s.b)
    values[#targets] = d
  end
  values[1], values[2] = p - self.lr * d, v
  return targets, values
end

-- v' = v + g^2     p' = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(v') + eps)
local AdaGrad = Optimizer:extend("AdaGrad",
  "lr: number(0..) = 1e-2, lr_decay: number(0..) = 0, weight_decay: number(0..) = 0, " ..
    "eps: number(0..) = 1e-10",
  "g by the root of the sum of its squares")
AdaGrad.buffers = { "v" }

local function adagrad_rate(self, t) return self.lr / (1 + (t - 1) * self.lr_decay) end

function AdaGrad:update(p, g, s)
  g = decayed(self, p, g)
  local v = s.v + g * g
  return { p, s.v }, { p - self:numbers(s, adagrad_rate) * g / (sqrt(v) + self.eps), v }
end

-- v' = rho v + (1 - rho) g^2     d = g sqrt(u + eps) / sqrt(v' + eps)     p' = p - lr d
-- u' = rho u + (1 - rho) d^2
local AdaDelta = Optimizer:extend("AdaDelta",
  "lr: number(0..) = 1, rho: number(0..1) = 0.9, eps: number(0..) = 1e-6, " ..
    "weight_decay: number(0..) = 0",
  "steps as large as the last ones were")
AdaDelta.buffers = { "v", "u" }

function AdaDelta:update(p, g, s)
  g = decayed(self, p, g)
  local v = self.rho * s.v + (1 - self.rho) * g * g
  local d = g * sqrt(s.u + self.eps) / sqrt(v + self.eps)
  local u = self.rho * s.u + (1 - self.rho) * d * d
  return { p, s.v, s.u }, { p - self.lr * d, v, u }
end

-- Liu et al., "On the variance of the adaptive learning rate and beyond", arXiv 1908.03265:
--   m', v' as Adam's     r = 2 / (1 - b2) - 1     r_t = r - 2 t b2^t / (1 - b2^t)
--   p' = p - lr / (1 - b1^t) m' while r_t <= 5, and then
--   p' = p - lr / (1 - b1^t) m' c q / (sqrt(v') + eps),
--   q^2 = (r_t - 4)(r_t - 2) r / ((r - 4)(r - 2) r_t)
local RAdam = Adam:extend("RAdam", BETAS .. "0",
  "Adam that steps by m alone until g^2 has been seen often enough")
RAdam.buffers = { "m", "v" }

local function radam_numbers(self, t)
  local b1, b2 = self.betas[1], self.betas[2]
  local rate, c2 = self.lr / (1 - b1 ^ t), 1 - b2 ^ t
  local most = 2 / (1 - b2) - 1
  local now = most - 2 * t * b2 ^ t / c2
  if now <= 5 then return rate, 0 end
  local r = (now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now)
  return 0, rate * math.sqrt(c2 * r)
end

function RAdam:update(p, g, s)
  g = decayed(self, p, g)
  local b1, c1, b2, c2 = self:numbers(s, parts)
  local plain, by_root = self:numbers(s, radam_numbers)
  local m = b1 * s.m + c1 * g
  local v = b2 * s.v + c2 * g * g
  return { p, s.m, s.v }, { p - m * (plain + by_root / (sqrt(v) + self.eps)), m, v }
end

-- Riedmiller and Braun, "A direct adaptive method for faster backpropagation learning", 1993:
--   z' = z times etas[2] where g goes on as before, times etas[1] where it turned (and counts as 0
--   then), within step_sizes     p' = p - sign(g) z'
local Rprop = Optimizer:extend("Rprop",
  "lr: number(0..) = 1e-2, etas: numbers(0..) = {0.5, 1.2}, " ..
    "step_sizes: numbers(0..inf) = {1e-6, 50}",
  "steps by the sign of g alone, each element its own, longer while it stays: for whole batches")
Rprop.buffers = { "g", "z" }

function Rprop:prepare()
  if #self.etas ~= 2 or self.etas[1] > 1 or self.etas[2] < 1 then
    raise("Rprop: etas must be two numbers, below 1 and above")
  elseif #self.step_sizes ~= 2 or self.step_sizes[1] > self.step_sizes[2] then
    raise "Rprop: step_sizes must be {least, most}"
  end
end

local function first_step(self, t) return t == 1 and self.lr or 0 end

function Rprop:update(p, g, s)
  local kept, low, high = g * s.g, self.step_sizes[1], self.step_sizes[2]
  local turned = kept:lt(0)
  local z = s.z + self:numbers(s, first_step)
  z = mg.where(kept:gt(0), z * self.etas[2], mg.where(turned, z * self.etas[1], z))
  z = z:clamp{min = low, max = high}
  g = mg.where(turned, 0, g)
  return { p, s.g, s.z }, { p - g:sign() * z, g, z }
end

local rules = {
  SGD = SGD, Adam = Adam, AdamW = AdamW, NAdam = NAdam, RAdam = RAdam, Adamax = Adamax, Lion = Lion,
  RMSprop = RMSprop, AdaGrad = AdaGrad, AdaDelta = AdaDelta, Rprop = Rprop
}

-- An option of one is nil in others.
local options = ""
for _, class in pairs(rules) do options = options .. table.concat(class.names, " ") .. " " end
for _, class in pairs(rules) do class:_strict(options) end

rules.Optimizer = Optimizer
return rules
