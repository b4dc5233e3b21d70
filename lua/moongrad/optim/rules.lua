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
  "lr: number(0..) = 1e-3, momentum: number(0..) = 0, dampening: number = 0, " ..
    "nesterov: bool = false, weight_decay: number(0..) = 0",
  "p - lr g, with momentum if any; opt:step() updates")

function SGD:prepare()
  if self.nesterov and (self.momentum == 0 or self.dampening ~= 0) then
    raise("SGD: nesterov needs momentum and no dampening")
  end
end

function SGD:buffers() return self.momentum ~= 0 and { "b" } or {} end

function SGD:update(p, g, s)
  g = decayed(self, p, g)
  if self.momentum == 0 then return { p }, { p - self.lr * g } end
  local b = self.momentum * s.b + (s.step == 1 and 1 or 1 - self.dampening) * g
  local d = self.nesterov and g + self.momentum * b or b
  return { p, s.b }, { p - self.lr * d, b }
end

-- Kingma and Ba, arXiv 1412.6980, algorithm 1, in the order of its section 2 that puts both bias
-- corrections into numbers:
--   m' = b1 m + (1 - b1) g     v' = b2 v + (1 - b2) g^2     c = sqrt(1 - b2^t)
--   p' = p - (lr c / (1 - b1^t)) m' / (sqrt(v') + eps c)
local BETAS = "lr: number(0..) = 1e-3, betas: numbers(0..<1) = {0.9, 0.999}, " ..
  "eps: number(0..) = 1e-8, weight_decay: number(0..) = "

local Adam = Optimizer:extend("Adam", BETAS .. "0",
  "steps by running means of g and g^2; opt:step() updates")
Adam.buffers = { "m", "v" }

function Adam:prepare()
  if #self.betas ~= 2 then
    raise("%s: betas has %d numbers, expected 2", getmetatable(self).__name, #self.betas)
  end
end

local function adam(self, p, g, s, kept)
  local b1, b2, t = self.betas[1], self.betas[2], s.step
  local m = b1 * s.m + (1 - b1) * g
  local v = b2 * s.v + (1 - b2) * g * g
  local c = math.sqrt(1 - b2 ^ t)
  local rate = self.lr * c / (1 - b1 ^ t)
  return { p, s.m, s.v }, { kept - rate * m / (sqrt(v) + self.eps * c), m, v }
end

function Adam:update(p, g, s) return adam(self, p, decayed(self, p, g), s, p) end

-- Loshchilov and Hutter, arXiv 1711.05101: the decay acts on p alone, p' = (1 - lr w) p - ...
local AdamW = Adam:extend("AdamW", BETAS .. "1e-2", "Adam whose decay acts on the parameter alone")

function AdamW:update(p, g, s)
  return adam(self, p, g, s, (1 - self.lr * self.weight_decay) * p) end

-- v' = alpha v + (1 - alpha) g^2     d = g / (sqrt(v') + eps)     p' = p - lr d
-- centered takes a'^2 from v', a' = alpha a + (1 - alpha) g;  momentum uses b' = momentum b + d.
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

function RMSprop:update(p, g, s)
  g = decayed(self, p, g)
  local targets, v = { p, s.v }, self.alpha * s.v + (1 - self.alpha) * g * g
  local values, spread = { p, v }, v
  if self.centered then
    local a = self.alpha * s.a + (1 - self.alpha) * g
    spread = mg.relu(v - a * a)     -- which is rounded
    table.insert(targets, s.a)
    table.insert(values, a)
  end
  local d = g / (sqrt(spread) + self.eps)
  if self.momentum ~= 0 then
    d = self.momentum * s.b + d
    table.insert(targets, s.b)
    table.insert(values, d)
  end
  values[1] = p - self.lr * d
  return targets, values
end

-- v' = v + g^2     p' = p - lr / (1 + (t - 1) lr_decay) g / (sqrt(v') + eps)
local AdaGrad = Optimizer:extend("AdaGrad",
  "lr: number(0..) = 1e-2, lr_decay: number(0..) = 0, weight_decay: number(0..) = 0, " ..
    "eps: number(0..) = 1e-10",
  "g by the root of the sum of its squares")
AdaGrad.buffers = { "v" }

function AdaGrad:update(p, g, s)
  g = decayed(self, p, g)
  local v = s.v + g * g
  local rate = self.lr / (1 + (s.step - 1) * self.lr_decay)
  return { p, s.v }, { p - rate * g / (sqrt(v) + self.eps), v }
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

return {
  Optimizer = Optimizer, SGD = SGD, Adam = Adam, AdamW = AdamW, RMSprop = RMSprop,
  AdaGrad = AdaGrad, AdaDelta = AdaDelta
}
