-- Three arms of a spiral told apart by a small network, and what it sees where, as a picture and in
-- characters.
--   lua5.4 lua/examples/spiral.lua [quick] [picture.png]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/spiral.png"

mg.seed(0)
local loader = data.DataLoader(data.Spiral(), { batch_size = 30, shuffle = true })
local model = nn.Sequential(nn.Linear(2, 32), mg.tanh, nn.Linear(32), mg.tanh, nn.Linear(3))
local epochs = quick and 20 or 100
local opt = optim.Adam(model, { lr = 1e-2 })
local schedule = optim.cosine(opt, epochs)

for epoch = 1, epochs do
  local sum = 0
  for x, t in loader do
    local loss = mg.cross_entropy(model(x), t)
    model:cleargrads()
    loss:backward()
    opt:step()
    sum = sum + loss:item()
  end
  schedule:step()
  if epoch % 20 == 0 then print(("epoch %3d: loss %.4f"):format(epoch, sum / #loader)) end
end

local test = data.Spiral { split = "test" }
local x, t = test:batch(1, #test)
print(("test accuracy %.3f"):format(mg.accuracy(model(x), t):item()))

-- Which arm the model sees at each point of the square -1..1.
local function arms(rows, columns)
  local across = mg.linspace(-1, 1, columns):expand(rows, columns)
  local down = mg.linspace(1, -1, rows):unsqueeze(2):expand(rows, columns)
  return mg.no_grad(function()
    return model(mg.stack({ across:flatten(), down:flatten() }, 2)):argmax(2):reshape(rows, columns)
  end)
end

for _, row in ipairs(arms(21, 42):totable()) do
  for i, arm in ipairs(row) do row[i] = (".o+"):sub(arm, arm) end
  print(table.concat(row))
end

local picture = { image = arms(200, 200), extent = { -1, 1, -1, 1 }, style = "points", path = path,
                  title = "what the network sees, and the test points", labels = {} }
for k = 1, 3 do
  local own = x[t:eq(k)]
  picture[k], picture.labels[k] = { own[{ {}, 1 }], own[{ {}, 2 }] }, "arm " .. k
end
mg.plot(picture)
print("the picture is in " .. path)
