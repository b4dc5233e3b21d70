-- A generative adversarial network (Goodfellow et al., arXiv 1406.2661; layers of DCGAN, arXiv
-- 1511.06434) draws clothes: one network makes pictures, the other tells them from real ones.
--   lua5.4 lua/examples/gan.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/gan.png"

mg.seed(0)
mg.Config.dtype = "float32"
local LATENT, WIDTH = 64, quick and 8 or 32

local Reshape = nn.Module:extend "Reshape"
function Reshape:init(...) self.dims = { ... } end
function Reshape:forward(x) return x:reshape(#x, table.unpack(self.dims)) end

local function slope(x) return mg.leaky_relu(x, 0.2) end

local generator = nn.Sequential(
  nn.Linear(LATENT, 2 * WIDTH * 49), Reshape(2 * WIDTH, 7, 7), nn.BatchNorm(2 * WIDTH), mg.relu,
  nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, { stride = 2, padding = 1 }), nn.BatchNorm(WIDTH),
  mg.relu,
  nn.ConvTranspose2d(WIDTH, 1, 4, { stride = 2, padding = 1 }), mg.tanh)
local critic = nn.Sequential(
  nn.Conv2d(1, WIDTH, 4, { stride = 2, padding = 1 }), slope,
  nn.Conv2d(WIDTH, 2 * WIDTH, 4, { stride = 2, padding = 1 }), slope, nn.Flatten(),
  nn.Dropout(0.3), nn.Linear(2 * WIDTH * 49, 1))
for _, net in ipairs { generator, critic } do          -- as DCGAN begins
  for p in net:parameters() do
    if p.ndim > 1 then p.data = 0.02 * mg.randn_like(p) end
  end
end

local of_generator = optim.Adam(generator, { lr = 1e-3, betas = { 0.5, 0.999 } })
local of_critic = optim.Adam(critic, { lr = 1e-3, betas = { 0.5, 0.999 } })
local train = data.FashionMNIST { flat = false }
if quick then train = data.Subset(train, mg.range(1, 300)) end
local loader = data.DataLoader(train, { batch_size = 64, shuffle = true, drop_last = true,
                                        transform = data.Normalize(0.5, 0.5) })

-- How far the critic is from calling these pictures real with this probability
local function judged(x, real)
  local y = critic(x)
  return mg.binary_cross_entropy_with_logits(y, mg.zeros_like(y) + real)
end

local function made(n) return generator(mg.randn(n, LATENT)) end

local epochs = quick and 1 or 6
for epoch = 1, epochs do
  local c, g, n = 0, 0, 0
  for x in mg.progress(loader, "epoch " .. epoch) do
    local fake = made(#x)
    local loss = judged(x, 0.9) + judged(fake:detach(), 0)
    critic:cleargrads()
    loss:backward()
    of_critic:step()
    local fooled = judged(fake, 1)
    generator:cleargrads()
    fooled:backward()
    of_generator:step()
    c, g, n = c + loss:item(), g + fooled:item(), n + 1
  end
  print(("epoch %2d: critic's loss %.3f, generator's %.3f"):format(epoch, c / n, g / n))
end

local pictures = mg.no_grad(made, 96)
mg.save(path, data.grid((pictures + 1) / 2, { columns = 12 }))
print("clothes that nobody wears are in " .. path)
