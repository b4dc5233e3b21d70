-- Small made-up datasets: {split = "train" | "test", seed =}. The two splits differ; each is the
-- same every time, unless a seed asks for another one.

local mg = require "moongrad"
local seeded = require "moongrad.data.seeded"
local TensorDataset = require "moongrad.data.dataset".TensorDataset

local OPTIONS = '{split: "train" | "test" = "train", seed: int}'

local Spiral = TensorDataset:extend("Spiral"):_seal "get"

Spiral.init = mg.checked("Spiral(self, " .. OPTIONS .. ")",
  "three arms of 100 points each, in random order: x (300, 2), t (300) of 1..3",
  function(self, split, seed)
    if split == "test" then seed = seed and seed ~ 0x9e3779b97f4a7c15 or 2020 end
    seeded(seed or 1984, function()
      local radius = mg.range(0, 99) / 100
      local arms, labels = {}, {}
      for k = 1, 3 do
        local angle = 4 * (k - 1) + 4 * radius + 0.2 * mg.randn(100)
        arms[k] = mg.stack({ radius * angle:sin(), radius * angle:cos() }, 2)
        labels[k] = mg.full({ 100 }, k, "int64")
      end
      local order = mg.randperm(300)
      TensorDataset.init(self, mg.cat(arms, 1)[order], mg.cat(labels, 1)[order])
    end)
  end)

local SinCurve = TensorDataset:extend("SinCurve"):_seal "get"

SinCurve.init = mg.checked("SinCurve(self, " .. OPTIONS .. ")",
  "one period of a sine in 1,000 steps, with noise of at most 0.05 (train), or of a cosine " ..
    "(test), to be continued: t is x one step later; x, t (999, 1)",
  function(self, split, seed)
    local angle = mg.linspace(0, 2 * math.pi, 1000):reshape(1000, 1)
    local y = angle:cos()
    if split == "train" then
      local noise = seeded(seed or 1984, function() return 0.1 * mg.rand(1000, 1) - 0.05 end)
      y = angle:sin() + noise
    elseif seed then
      mg.raise("SinCurve: a seed is of no use to the test split, which has no noise")
    end
    TensorDataset.init(self, y[{ { 1, 999 } }], y[{ { 2, 1000 } }])
  end)

return { Spiral = Spiral, SinCurve = SinCurve }
