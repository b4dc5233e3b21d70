-- A variational autoencoder (Kingma and Welling, arXiv 1312.6114) of Fashion-MNIST: pictures as 20
-- numbers and back, and new pictures made of random ones.
--   lua5.4 lua/examples/vae.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/vae.png"

mg.seed(0)
mg.Config.dtype = "float32"
local LATENT = 20

local VAE = nn.Module:extend "VAE"
function VAE:init()
  self.encoder = nn.Sequential(nn.Linear(784, 400), mg.relu)
  self.mean, self.log_variance = nn.Linear(400, LATENT), nn.Linear(400, LATENT)
  self.decoder = nn.Sequential(nn.Linear(LATENT, 400), mg.relu, nn.Linear(400, 784))
end

-- Logits of the pictures, and how far the code's distribution is from N(0, 1), for each picture
function VAE:forward(x)
  local h = self.encoder(x)
  local mean, log_variance = self.mean(h), self.log_variance(h)
  local z = mean + (log_variance / 2):exp() * mg.randn_like(mean)
  local kl = (mean ^ 2 + log_variance:exp() - 1 - log_variance):sum(2) / 2
  return self.decoder(z), kl
end

local model = VAE()
local opt = optim.Adam(model, { lr = 1e-3 })
local train = data.FashionMNIST()
if quick then train = data.Subset(train, mg.range(1, 500)) end
local loader = data.DataLoader(train, { batch_size = 100, shuffle = true })
local epochs = quick and 1 or 8

for epoch = 1, epochs do
  local sum, far, n = 0, 0, 0
  for x in mg.progress(loader, "epoch " .. epoch) do
    local logits, kl = model(x)
    local off = mg.binary_cross_entropy_with_logits(logits, x, { reduction = "sum" }) / #x
    local loss = off + kl:mean()
    model:cleargrads()
    loss:backward()
    opt:step()
    sum, far, n = sum + loss:item(), far + kl:mean():item(), n + 1
  end
  print(("epoch %d: loss %.2f, of it %.2f for the code"):format(epoch, sum / n, far / n))
end

-- Two rows of pictures, two of what comes back, and five of new ones
local rows = mg.no_grad(function()
  local x = data.FashionMNIST { split = "test" }:batch(1, 24)
  local back = model.decoder(model.mean(model.encoder(x))):sigmoid()
  local new = model.decoder(mg.randn(60, LATENT)):sigmoid()
  return mg.cat({ x, back, new }, 1):reshape(108, 28, 28)
end)
mg.save(path, data.grid(rows, { columns = 12 }))
print("2 rows of pictures, 2 of what comes back, 5 of new ones: " .. path)
