-- A small GPT writes Lua: characters of moongrad's own sources, or of any text that is named, and
-- what comes next.
--   lua5.4 lua/examples/char_gpt.lua [quick] [curve.png] [text file]

local mg = require "moongrad"
local nn, optim, data = mg.nn, mg.optim, mg.data
local quick = arg[1] == "quick"
local path = arg[quick and 2 or 1] or "build/char_gpt.png"

mg.seed(0)
mg.Config.dtype = "float32"
local LAYERS, HEADS, WIDTH, LENGTH = quick and 1 or 4, 4, quick and 32 or 128, quick and 32 or 64

-- The text: all Lua sources beside moongrad's own, unless a file is named.
local files = { not quick and arg[2] or nil }
if #files == 0 then
  local root = package.searchpath("moongrad", package.path):match "^(.*)init%.lua$"
  local find = "find '%s' -name '*.lua' %s | sort"
  for name in io.popen(find:format(root, quick and "-path '*/io/*'" or "")):lines() do
    files[#files + 1] = name
  end
end

local Block = nn.Module:extend "Block"
function Block:init()
  self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
  self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
  self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), mg.gelu, nn.Linear(4 * WIDTH, WIDTH))
end
function Block:forward(x)
  local b, n = #x, x.shape[2]
  local parts = self.qkv(self.ln1(x)):reshape(b, n, 3, HEADS, WIDTH // HEADS):permute(3, 1, 4, 2, 5)
  local seen = mg.scaled_dot_product_attention(parts[1], parts[2], parts[3], { is_causal = true })
  x = x + self.out(seen:transpose(1, 3, 2, 4):reshape(b, n, WIDTH))
  return x + self.mlp(self.ln2(x))
end

local GPT = nn.Module:extend "GPT"
function GPT:init(vocabulary)
  self.token, self.place = nn.Embedding(vocabulary, WIDTH), nn.Embedding(LENGTH, WIDTH)
  self.token.weight.data = 0.02 * self.token.weight
  self.place.weight.data = 0.02 * self.place.weight
  self.blocks = {}
  for i = 1, LAYERS do self.blocks[i] = Block() end
  self.ln, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocabulary, { bias = false })
end
function GPT:forward(ids)
  local x = self.token(ids) + self.place(mg.range(1, ids.shape[2], { dtype = "int64" }))
  for _, block in ipairs(self.blocks) do x = block(x) end
  return self.head(self.ln(x))
end

local train = data.Text { path = files, length = LENGTH, stride = 1, split = "train" }
local test = data.Text { path = files, length = LENGTH, split = "test",
                         tokenizer = train.tokenizer }
local model = GPT(#train.tokenizer)
local steps = quick and 20 or 2000
local opt = optim.AdamW(model, { lr = 1e-3, betas = { 0.9, 0.99 } })
opt:add_hook(optim.clip_grad(1))
local schedule = optim.warmup(opt, steps // 20, { after = optim.cosine(opt, steps) })
local anywhere = data.RandomSampler(train, { replacement = true })
local next_batch = data.DataLoader(train, { batch_size = 12, sampler = anywhere }):batches()
local size = 0
for p in model:parameters() do size = size + p.size end
print(("%d characters, %d of them unlike, %d parameters"):format(#train.tokens + #test.tokens,
  #train.tokenizer, size))

local function loss_of(x, t) return mg.cross_entropy(model(x):flatten(1, 2), t:flatten()) end

local curve, at, sum, every = {}, {}, 0, math.max(steps // 20, 10)
for step = 1, steps do
  local loss = loss_of(next_batch())
  model:cleargrads()
  loss:backward()
  opt:step()
  schedule:step()
  sum = sum + loss:item()
  if step % every == 0 then
    curve[#curve + 1], at[#at + 1] = sum / every, step
    print(("step %4d: loss %.3f"):format(step, sum / every))
    sum = 0
  end
end
local count = math.min(#test, 500)
print(("test loss %.3f per character"):format(mg.test_mode(mg.no_grad, function()
  return loss_of(test:batch(1, count)):item()
end)))

-- Writes on from a beginning, a character at a time.
local ids = train.tokenizer:encode "local function "
mg.test_mode(mg.no_grad, function()
  for _ = 1, quick and 20 or 400 do
    local context = ids[{ { math.max(#ids - LENGTH + 1, 1), #ids } }]
    local chance = (model(context:unsqueeze(1))[{ 1, -1 }] / 0.8):softmax()
    local id = mg.searchsorted(chance:cumsum(1), mg.rand(1)):clamp { max = #train.tokenizer }
    ids = mg.cat({ ids, id }, 1)
  end
end)
print(train.tokenizer:decode(ids))
mg.plot { curve, x = at, title = "loss per character", xlabel = "step", path = path }
print("the curve is in " .. path)
