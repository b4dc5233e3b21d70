-- An LSTM writes Lua: characters of moongrad's own sources, or of any text that is named, gone
-- through once in many parallel pieces whose state is carried on (truncated backpropagation).
--   lua5.4 lua/examples/char_lstm.lua [quick] [curve.png] [text file]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/char_lstm.png"

mg.seed(0)
mg.Config.dtype = "float32"
local HIDDEN, BATCH, LENGTH, EPOCHS = quick and 32 or 256, 32, 64, quick and 1 or 10

-- The text: all Lua sources beside moongrad's own, unless a file is named.
local files = { not quick and arg[2] or nil }
if #files == 0 then
  local root = package.searchpath("moongrad", package.path):match "^(.*)init%.lua$"
  local find = "find '%s' -name '*.lua' %s | sort"
  for name in io.popen(find:format(root, quick and "-path '*/io/*'" or "")):lines() do
    files[#files + 1] = name
  end
end

-- Logits (T, N, vocabulary) of the next characters, and the state after the last
local Writer = nn.Module:extend "Writer"
function Writer:init(vocabulary)
  self.token = nn.Embedding(vocabulary, HIDDEN)
  self.lstm, self.head = nn.LSTM(HIDDEN, HIDDEN), nn.Linear(HIDDEN, vocabulary)
end
function Writer:forward(ids, h, c)
  local y
  y, h, c = self.lstm(self.token(ids), h, c)
  return self.head(y), h, c
end

local train = data.Text { path = files, length = LENGTH, split = "train" }
local test = data.Text { path = files, length = LENGTH, split = "test",
                         tokenizer = train.tokenizer }
local model = Writer(#train.tokenizer)
local opt = optim.Adam(model, { lr = 2e-3 })
opt:add_hook(optim.clip_grad(1))
local loader = data.SequenceLoader(train, { batch_size = BATCH, length = LENGTH, drop_last = true })
local schedule = optim.cosine(opt, EPOCHS * #loader)
print(("%d characters, %d of them unlike, %d steps an epoch"):format(
  #train.tokens + #test.tokens, #train.tokenizer, #loader))

local function loss_of(logits, t) return mg.cross_entropy(logits:flatten(1, 2), t:flatten()) end

local function test_loss()
  return mg.test_mode(mg.no_grad, function()
    local x, t = test:batch(1, math.min(#test, 500))
    return loss_of(model(x.T), t.T):item()
  end)
end

local curve = {}
for epoch = 1, EPOCHS do
  local sum, h, c = 0, nil, nil
  for x, t in loader do
    local logits
    logits, h, c = model(x, h, c)
    local loss = loss_of(logits, t)
    h, c = h:detach(), c:detach()
    model:cleargrads()
    loss:backward()
    opt:step()
    schedule:step()
    sum = sum + loss:item()
  end
  curve[epoch] = sum / #loader
  print(("epoch %2d: loss %.3f, test loss %.3f per character"):format(epoch, curve[epoch],
    test_loss()))
end

-- Writes on from a beginning, a character at a time.
local ids = train.tokenizer:encode "local function "
mg.test_mode(mg.no_grad, function()
  local logits, h, c = model(ids:unsqueeze(2))
  for _ = 1, quick and 20 or 400 do
    local chance = (logits[{ -1, 1 }] / 0.7):softmax()
    local id = mg.searchsorted(chance:cumsum(1), mg.rand(1)):clamp { max = #train.tokenizer }
    ids = mg.cat({ ids, id }, 1)
    logits, h, c = model(id:unsqueeze(2), h, c)
  end
end)
print(train.tokenizer:decode(ids))
mg.plot { curve, title = "loss per character", xlabel = "epoch", path = path }
print("the curve is in " .. path)
