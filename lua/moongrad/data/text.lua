-- Text(options): windows of a text for models that say what comes next. The tokens stay as they
-- are, one array; a batch of windows is gathered from it in one go.

local mg = require "moongrad"
local check_list = require "moongrad.list"
local dataset = require "moongrad.data.dataset"
local tokenizers = require "moongrad.data.tokenizers"
local raise = mg.raise

local Text = dataset.Dataset:extend("Text"):_seal "get"

local function read(path)
  local texts, paths = {}, type(path) == "table" and path or { path }
  if check_list("Text", "the list of paths", paths) == 0 then raise "Text: path is empty" end
  for i, name in ipairs(paths) do
    if type(name) ~= "string" then
      raise("Text: path[%d] is a %s, expected a string", i, type(name))
    end
    local file <close> = mg._open(name, "Text")
    texts[i] = file:read(file:size())
  end
  return table.concat(texts)
end

-- x (length) or (n, length), int64        t: the same, one token later
Text.init = mg.checked(
  "Text(self, {path: string | table?, text: string?, length: int(1..) = 64, " ..
    'stride: int(1..) = length, tokenizer: tokenizer?, ' ..
    'split: "all" | "train" | "test" = "all", ' ..
    "test_fraction: number(0..1)?})",
  "windows of length tokens, each stride after the last: x, and t, the same one token later. " ..
    "path may be a list of files. The tokens are characters (of the whole text) if no " ..
    "tokenizer is given; test is the last part, a test_fraction of 0.1",
  function(self, path, text, length, stride, tokenizer, split, fraction)
    if (path == nil) == (text == nil) then raise("Text: needs path or text, one of them") end
    if fraction and split == "all" then
      raise 'Text: test_fraction is of no use to split = "all"'
    end
    text = text or read(path)
    self.tokenizer = tokenizer or tokenizers.CharTokenizer(text)
    local tokens = self.tokenizer:encode(text)
    local cut = #tokens - math.floor((fraction or 0.1) * #tokens)
    if split == "train" then tokens = tokens[{ { 1, cut } }]:clone()
    elseif split == "test" then tokens = tokens[{ { cut + 1, -1 } }]:clone() end
    if #tokens <= length then
      raise("Text: %d tokens, but a window needs %d", #tokens, length + 1)
    end
    self.tokens, self.length, self.stride = tokens, length, stride
  end)

function Text:__len() return (#self.tokens - self.length - 1) // self.stride + 1 end

local function get(self, i)
  local first = (i - 1) * self.stride + 1
  local last = first + self.length - 1
  return dataset.own(self.tokens[{ { first, last } }]),
    dataset.own(self.tokens[{ { first + 1, last + 1 } }])
end

function Text:take(index)
  local places = ((index - 1) * self.stride):unsqueeze(2) +
    mg.range(1, self.length, { dtype = "int64" })
  return dataset.own(self.tokens[places]), dataset.own(self.tokens[places + 1])
end

dataset.gives(Text, get, function(self, i, j)
  return self:take(mg.range(i, j, { dtype = "int64" }))
end)

-- The tokens one by one: x, and t, the one after; for a SequenceLoader
function Text:_steps()
  local n = #self.tokens
  return dataset.TensorDataset(self.tokens[{ { 1, n - 1 } }], self.tokens[{ { 2, n } }])
end

return { Text = Text }
