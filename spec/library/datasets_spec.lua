-- Datasets of files and of texts, datasets made of datasets, samplers, sequences and transforms.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local near, raises = helper.near, helper.raises
local data = mg.data

-- n items: i and its square
local Squares = data.Dataset:extend("Squares")
function Squares:init(n) self.n = n end
function Squares:__len() return self.n end
function Squares.get(_, i) return i, i * i end

local function numbers(n) return data.TensorDataset(mg.range(1, n), mg.range(1, n) * 10) end

local function all(loader)
  local list = {}
  for x in loader do
    for _, v in ipairs(x:totable()) do list[#list + 1] = v end
  end
  return list
end

describe("CIFAR10", function()
  helper.guard(before_each, after_each)

  local function record(label, at) -- the k-th byte is (at + k) % 256
    local bytes = {string.char(label)}
    for k = 0, 3071 do bytes[#bytes + 1] = string.char((at + k) % 256) end
    return table.concat(bytes)
  end

  it("reads the binary version", function()
    local root = child.folder()
    for i = 1, 5 do
      child.write(("%s/data_batch_%d.bin"):format(root, i), record(i, i) .. record(i + 4, 0))
    end
    child.write(root .. "/test_batch.bin", record(0, 7))
    local train, test = data.CIFAR10{root = root}, data.CIFAR10{root = root, split = "test"}
    assert.same({10, 1}, {#train, #test})
    local x, t = train:get(3)
    assert.same({3, 32, 32}, x.shape)
    assert.same({3, "int64", "float64"}, {t:item(), t.dtype, x.dtype})
    assert(near(x[{2, 1, 3}], (2 + 1026) % 256 / 255))
    x, t = test:batch(1, 1)
    assert.same({1, 3, 32, 32}, x.shape)
    assert.equal("airplane", data.CIFAR10.classes[t:item()])
    x = data.CIFAR10{root = root, split = "test", flat = true}:get(1)
    assert.same({3072}, x.shape)
  end)

  it("refuses what is none", function()
    local root = child.folder()
    assert(raises("CIFAR10: root, the folder of its files, is missing", data.CIFAR10))
    assert(raises("CIFAR10: cannot open " .. root, data.CIFAR10, {root = root}))
    child.write(root .. "/test_batch.bin", "abc")
    assert(raises("has 3 bytes, which are no records", data.CIFAR10, {root = root, split = "test"}))
    child.write(root .. "/test_batch.bin", record(10, 0))
    assert(raises("holds labels above 9", data.CIFAR10, {root = root, split = "test"}))
  end)
end)

describe("pictures of Fashion-MNIST", function()
  it("may keep their axes", function()
    local ds = data.FashionMNIST{split = "test", flat = false}
    local x = ds:batch(1, 2)
    assert.same({2, 1, 28, 28}, x.shape)
    assert(helper.same(x:reshape(2, 784), (data.FashionMNIST{split = "test"}:batch(1, 2))))
  end)
end)

describe("datasets of datasets:", function()
  helper.guard(before_each, after_each)

  it("Subset", function()
    for _, ds in ipairs{numbers(10), Squares(10)} do
      local some = data.Subset(ds, {7, 2, 2})
      assert.equal(3, #some)
      local x = some:get(1)
      assert.equal(7, mg.is_variable(x) and x:item() or x)
      assert.same({7, 2, 2}, all(data.DataLoader(some, {batch_size = 2})))
      local shuffled = all(data.DataLoader(some, {batch_size = 2, shuffle = true, seed = 1}))
      table.sort(shuffled)
      assert.same({2, 2, 7}, shuffled)
    end
    assert.equal(3, #data.Subset(numbers(10), mg.range(2, 4)))
    assert(raises("Subset: positions must be whole numbers", data.Subset, numbers(10), {1.5}))
    assert(raises("Subset: positions must be in 1..10", data.Subset, numbers(10), {11}))
    local mask = mg.ones{10, dtype = "bool"}
    assert(raises("Subset: positions are a mask; mask:nonzero():flatten()", data.Subset,
      numbers(10), mask))
    assert.equal(10, #data.Subset(numbers(10), mask:nonzero():flatten()))
    assert(raises("Subset: the dataset is a number", data.Subset, 3, {1}))
  end)

  it("Concat", function()
    for _, parts in ipairs{{numbers(3), numbers(2), numbers(4)},
                            {Squares(3), numbers(2), Squares(4)}} do
      local ds = data.Concat(table.unpack(parts))
      assert.equal(9, #ds)
      assert.same({1, 2, 3, 1, 2, 1, 2, 3, 4}, all(data.DataLoader(ds, {batch_size = 4})))
      local shuffled = all(data.DataLoader(ds, {batch_size = 4, shuffle = true, seed = 1}))
      assert.are_not.same({1, 2, 3, 1, 2, 1, 2, 3, 4}, shuffled)
      table.sort(shuffled)
      assert.same({1, 1, 1, 2, 2, 2, 3, 3, 4}, shuffled)
    end
    local x, t = data.Concat(numbers(3), numbers(2)):take(mg.tensor({5, 1, 4, 3}, "int64"))
    assert(near(x, {2, 1, 1, 3}))
    assert(near(t, {20, 10, 10, 30}))
    assert(raises("get: item 4 is not in 1..3", data.Concat(numbers(3)).get,
      data.Concat(numbers(3)), 4))
    assert(raises("Concat: needs datasets", data.Concat))
    assert(raises("Concat: needs datasets", data.Concat, {}))
    assert.equal(5, #data.Concat{numbers(3), numbers(2)})
  end)

  it("random_split", function()
    local a, b, c = data.random_split(numbers(10), {0.5, 0.25, 0.25}, {seed = 3})
    assert.same({6, 2, 2}, {#a, #b, #c})
    local list = all(data.DataLoader(data.Concat(a, b, c), {batch_size = 3}))
    assert.are_not.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, list)
    local again = data.random_split(numbers(10), {6, 4}, {seed = 3})
    assert.same(all(data.DataLoader(a)), all(data.DataLoader(again)))
    table.sort(list)
    assert.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, list)
    assert.equal(10, #data.random_split(numbers(10), {1.0}))
    assert(raises("random_split: the parts are 9 items, the dataset has 10", data.random_split,
      numbers(10), {5, 4}))
    assert(raises("random_split: the fractions add up to 0.9", data.random_split, numbers(10),
      {0.5, 0.4}))
    assert(raises("random_split: part 2 is -1", data.random_split, numbers(10), {11, -1}))
  end)
end)

describe("a DataLoader takes", function()
  helper.guard(before_each, after_each)

  it("a sampler", function()
    local ds = numbers(6)
    local loader = data.DataLoader(ds, {batch_size = 4, seed = 1,
      sampler = data.WeightedRandomSampler({0, 1, 0, 3, 0, 0}, 4000)})
    assert.equal(1000, #loader)
    local count = {}
    for _, v in ipairs(all(loader)) do count[v] = (count[v] or 0) + 1 end
    assert.equal(4000, count[2] + count[4])
    assert.is_true(math.abs(count[4] - 3000) < 4 * math.sqrt(4000 * 3 / 16))
    local function pass(sampler, seed)
      return all(data.DataLoader(ds, {sampler = sampler, seed = seed}))
    end
    local list = pass(data.WeightedRandomSampler({0, 1, 0, 3, 1, 0}, 3, {replacement = false}))
    table.sort(list)
    assert.same({2, 4, 5}, list)
    list = pass(data.RandomSampler(ds), 5)
    assert.same(list, pass(data.RandomSampler(ds), 5))
    table.sort(list)
    assert.same({1, 2, 3, 4, 5, 6}, list)
    assert.equal(100, #pass(data.RandomSampler(ds, {replacement = true, num_samples = 100})))
    local Backwards = data.Sampler:extend("Backwards")
    function Backwards:init(n) self.n = n end
    function Backwards:positions() return mg.range(1, self.n, {dtype = "int64"}):flip(1) end
    assert.same({6, 5, 4, 3, 2, 1}, pass(Backwards(6)))
    assert.equal("RandomSampler(6 items)", tostring(data.RandomSampler(ds)))
  end)

  it("no sampler that cannot be", function()
    local ds = numbers(6)
    assert(raises("RandomSampler: num_samples = 7 of 6 items needs replacement", data.RandomSampler,
      ds, {num_samples = 7}))
    assert(raises("weights must be numbers that are not negative", data.WeightedRandomSampler,
      {1, -1}, 1))
    assert(raises("weights must be numbers that are not negative", data.WeightedRandomSampler,
      {0, 0}, 1))
    assert(raises("2 samples of 1 items with a weight need replacement",
      data.WeightedRandomSampler, {0, 1}, 2, {replacement = false}))
    assert(raises("beside a sampler there is no shuffle", data.DataLoader, ds,
      {shuffle = true, sampler = data.RandomSampler(ds)}))
  end)

  it("a function that collates", function()
    local Rows = data.Dataset:extend("Rows")
    function Rows.__len() return 3 end
    function Rows.get(_, i) return mg.ones(i), i end
    local loader = data.DataLoader(Rows(), {batch_size = 3, collate = function(items)
      local xs, ts = {}, {}
      for k, item in ipairs(items) do xs[k], ts[k] = item[1], item[2] end
      local x, lengths = data.pad_sequence(xs, {batch_first = true})
      return x, mg.tensor(ts), lengths
    end})
    local x, t, lengths = loader:batches()()
    assert(near(x, {{1, 0, 0}, {1, 1, 0}, {1, 1, 1}}))
    assert(near(t, {1, 2, 3}))
    assert.same({1, 2, 3}, lengths:totable())
  end)

  it("transforms, which draw from its seed", function()
    local function noise(x) return x + mg.rand_like(x) end
    local function pass(seed)
      local loader = data.DataLoader(numbers(6), {batch_size = 4, seed = seed,
                                                  transform = {noise, function(x) return -x end}})
      return all(loader), all(loader)
    end
    mg.seed(1)
    local state = mg.get_rng_state()
    local first, second = pass(3)
    assert.same(state, mg.get_rng_state())
    assert.are_not.same(first, second)
    assert.are_not.equal(first[1] + 1, first[5] + 5)
    assert.same({first, second}, {pass(3)})
    assert.is_true(first[6] < -6 and first[6] > -7)
    assert(raises("DataLoader: transform 2 is a number", data.DataLoader, numbers(6),
      {transform = {noise, 3}}))
    local loader = data.DataLoader(numbers(6), {transform = function() end})
    assert(raises("DataLoader: transform 1 gave nothing", loader:batches()))
  end)
end)

describe("transforms", function()
  helper.guard(before_each, after_each)

  local function pictures(n, h, w) return mg.range(1, n * 2 * h * w):reshape(n, 2, h, w) end

  it("flip pictures or leave them", function()
    local x = pictures(64, 3, 4)
    for name, axis in pairs{RandomHorizontalFlip = -1, RandomVerticalFlip = -2} do
      mg.seed(1)
      local y, turned = data[name]()(x), 0
      for i = 1, 64 do
        if mg.equal(y[i], x[i]:flip(axis)) then turned = turned + 1
        else assert(helper.same(y[i], x[i])) end
      end
      assert.is_true(turned > 16 and turned < 48)
      assert(helper.same(data[name](1)(x), x:flip(axis)))
      assert(helper.same(data[name](0)(x), x + 0))
    end
  end)

  it("crop, with a border", function()
    local x = pictures(200, 3, 4)
    mg.seed(2)
    local y, seen = data.RandomCrop({3, 4}, {padding = {1, 0}, value = -1})(x), {}
    assert.same({200, 2, 3, 4}, y.shape)
    local padded = x:pad({0, 0, 1, 1}, {value = -1})
    for i = 1, 200 do
      for row = 1, 3 do
        if mg.equal(y[i], padded[{i, {}, {row, row + 2}}]) then seen[row] = (seen[row] or 0) + 1 end
      end
    end
    assert.equal(200, seen[1] + seen[2] + seen[3])
    for row = 1, 3 do assert.is_true(seen[row] > 40) end
    assert(helper.same(data.CenterCrop{1, 2}(x), x[{{}, {}, {2, 2}, {2, 3}}] + 0))
    assert.same({200, 2, 2, 2}, data.RandomCrop(2)(x).shape)
    assert(raises("RandomCrop: 9 x 9 is larger than the picture with its border, 3 x 4",
      data.RandomCrop(9), x))
    assert(raises("CenterCrop: 4 x 4 is larger than the picture, 3 x 4", data.CenterCrop(4), x))
    assert(raises("RandomCrop: expected floats (N, C, H, W), got float64 (2, 3)",
      data.RandomCrop(1), mg.ones(2, 3)))
  end)

  it("normalize, by channel", function()
    local x = pictures(2, 2, 2):to "float32"
    local y = data.Normalize({1, 2}, {4, 8})(x)
    assert.equal("float32", y.dtype)
    assert(near(y[{{}, 2}], (x[{{}, 2}] - 2) / 8))
    assert(near(data.Normalize(1, 2)(x), (x - 1) / 2))
    assert(raises("Normalize: 3 means and 1 stds for 2 channels", data.Normalize({1, 2, 3}, 1), x))
  end)

  it("resize, as PyTorch's bilinear interpolate", function()
    local x = mg.tensor{{{{1, 2, 3}, {4, 5, 6}}}}
    assert(near(data.Resize{4, 3}(x), {{{{1, 2, 3}, {1.75, 2.75, 3.75}, {3.25, 4.25, 5.25},
                                        {4, 5, 6}}}}))
    assert(near(data.Resize{1, 2}(x), {{{{2.75, 4.25}}}}))
    assert(helper.same(data.Resize{2, 3}(x), x))
  end)

  it("rotate about the middle", function()
    local x = mg.zeros(50, 1, 9, 9)
    x[{{}, 1, 5, 8}] = 1                          -- right of the middle
    mg.seed(3)
    local y = data.RandomRotation(90)(x)
    local at, rows = mg.range(-4, 4), {}
    for i = 1, 50 do
      local mass = y[{i, 1}]:sum():item()
      local row = (y[{i, 1}]:sum(2) * at):sum():item() / mass
      local column = (y[{i, 1}]:sum(1) * at):sum():item() / mass
      assert(near(math.sqrt(row ^ 2 + column ^ 2), 3, 0.15))
      assert.is_true(column > -0.2)
      rows[i] = row
    end
    assert.is_true(math.min(table.unpack(rows)) < -2 and math.max(table.unpack(rows)) > 2)
    assert(helper.same(data.RandomRotation(0)(x), x))
  end)
end)

describe("tokenizers", function()
  helper.guard(before_each, after_each)

  it("of bytes and characters", function()
    local bytes = data.ByteTokenizer()
    assert.same({1, 98, 256}, bytes:encode("\0a\255"):totable())
    assert.equal(256, #bytes)
    local text = ("x"):rep(5000) .. "äb"
    assert.equal(text, bytes:decode(bytes:encode(text)))
    local chars = data.CharTokenizer "banänä"
    assert.equal(4, #chars)
    assert.same({2, 1, 3, 4}, chars:encode("banä"):totable())
    assert.equal("nanä", chars:decode({3, 1, 3, 4}))
    assert(raises('encode: "c" at character 3 is not among the tokens', chars.encode, chars, "bac"))
    assert(raises("decode: token 5 at position 2 is not in 1..4", chars.decode, chars, {1, 5}))
    assert(raises("CharTokenizer: the text is no UTF-8", data.CharTokenizer, "\255"))
    for broken, at in pairs{["ban\255n"] = 4, ["\128ba"] = 1, ["\xff\xfeb"] = 1, ["b\xc3"] = 2} do
      assert(raises("encode: the text is no UTF-8, at byte " .. at, chars.encode, chars, broken))
    end
    assert.equal("CharTokenizer(4 tokens)", tostring(chars))
    assert.equal(0, #data.CharTokenizer "":encode "")
  end)

  it("of byte pairs: the most frequent first, within words", function()
    local text = ("low low low lower newest newest widest "):rep(10)
    local bpe = data.BPETokenizer(text, 262)
    assert.equal(262, #bpe)
    local pieces = {}
    for i = 257, 262 do pieces[#pieces + 1] = bpe:token(i) end
    assert.same({"lo", "low", " low", "es", "est", "ne"}, {pieces[1], pieces[2], pieces[3],
                "es", "est", "ne"})
    for _, s in ipairs{text, " lowest!  42\n\tünïcode x", "", "low"} do
      assert.equal(s, bpe:decode(bpe:encode(s)))
    end
    assert.is_true(#bpe:encode(text) < #text / 2)
    assert.is_true(#data.BPETokenizer("ab ab", 1000) < 262)      -- nothing else comes twice
  end)

  it("are saved and loaded", function()
    local path = child.folder() .. "/t.safetensors"
    local text = ("the cat sat on the mat "):rep(5)
    for name, make in pairs{
      CharTokenizer = function() return data.CharTokenizer(text), data.CharTokenizer "x" end,
      BPETokenizer = function() return data.BPETokenizer(text, 270), data.BPETokenizer("", 256) end,
      ByteTokenizer = function() return data.ByteTokenizer(), data.ByteTokenizer() end,
    } do
      local first, second = make()
      mg.save(path, {tokenizer = first:state()})
      assert.equal(second, second:load_state(mg.load(path).tokenizer))
      assert.same(first:encode(text):totable(), second:encode(text):totable())
      assert(raises("load_state: this is no state of a " .. name, second.load_state, second, {}))
    end
    local bpe = data.BPETokenizer("", 256)
    assert(raises("load_state: merge 1 is of tokens that are not there", bpe.load_state, bpe,
      {kind = "BPETokenizer", merges = mg.tensor({{1, 257}}, "int64")}))
  end)

  it("take no list in which a token would be another one, or none", function()
    local chars, bpe = data.CharTokenizer "xy", data.BPETokenizer("abab", 258)
    for _, s in ipairs{"ba", "aab", "aba"} do
      assert(raises("load_state: chars are not in order of their codes, each once",
        chars.load_state, chars, {kind = "CharTokenizer", chars = s}))
    end
    assert.same({1, 2}, chars:encode("xy"):totable())
    assert(raises("load_state: merge 3 is one before it", bpe.load_state, bpe,
      {kind = "BPETokenizer", merges = mg.tensor({{1, 2}, {2, 1}, {1, 2}}, "int64")}))
    assert.same({257, 257}, bpe:encode("abab"):totable())
  end)

  it("are as they were where load_state fails for want of memory", function()
    if helper.asan then return end
    local text, ok = child.run([[
      local mg = require "moongrad"
      local bpe, merges = mg.data.BPETokenizer("abab", 258), {{1, 1}}
      for i = 2, 40 do merges[i] = {255 + i, 255 + i} end             -- the last of 2^40 bytes
      local state = {kind = "BPETokenizer", merges = mg.tensor(merges, "int64")}
      assert(not pcall(bpe.load_state, bpe, state))
      assert(#bpe == 257 and mg.equal(bpe:encode "abab", mg.tensor({257, 257}, "int64")))]],
      nil, "ulimit -v 600000;")
    assert(ok, text)
  end)
end)

describe("text", function()
  helper.guard(before_each, after_each)

  local text = "abcdefghij"

  it("comes in windows, with what follows", function()
    local ds = data.Text{text = text, length = 3}
    assert.equal(3, #ds)
    local x, t = ds:get(2)
    assert.equal("def efg", ds.tokenizer:decode(x) .. " " .. ds.tokenizer:decode(t))
    x, t = ds:batch(1, 3)
    assert.same({{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}, x:totable())
    assert.same({{2, 3, 4}, {5, 6, 7}, {8, 9, 10}}, t:totable())
    ds = data.Text{text = text, length = 3, stride = 1}
    assert.equal(7, #ds)
    x = ds:take(mg.tensor({7, 1}, "int64"))
    assert.same({{7, 8, 9}, {1, 2, 3}}, x:totable())
  end)

  it("of a file, in two parts, with a tokenizer", function()
    local path = child.folder() .. "/text"
    child.write(path, text)
    local train = data.Text{path = path, length = 2, split = "train", test_fraction = 0.4}
    local test = data.Text{path = path, length = 2, split = "test", test_fraction = 0.4,
                           tokenizer = train.tokenizer}
    assert.same({1, 2, 3, 4, 5, 6}, train.tokens:totable())
    assert.same({7, 8, 9, 10}, test.tokens:totable())
    assert.equal(98, data.Text{path = path, tokenizer = data.ByteTokenizer(), length = 2}:get(1)[1]
      :item())
    assert(raises("Text: needs path or text", data.Text))
    local folder = child.folder()
    os.execute("mkfifo " .. folder .. "/fifo")
    assert(raises("Text: cannot open /nowhere: No such file", data.Text, {path = "/nowhere"}))
    assert(raises("Text: cannot open /nowhere", data.Text, {path = {path, "/nowhere"}}))
    assert(raises("Text: path[1] is a boolean, expected a string", data.Text, {path = {true}}))
    assert(raises("Text: the list of paths has the key 3, expected a list", data.Text,
      {path = {path, nil, path}}))
    assert(raises("Text: the list of paths has the key x, expected a list", data.Text,
      {path = {path, x = path}}))
    assert(raises("Text: path is empty", data.Text, {path = {}}))
    assert(raises("it is a directory", data.Text, {path = folder}))
    assert(raises("Text: the path has a NUL, behind " .. path, data.Text, {path = path .. "\0x"}))
    for _, endless in ipairs{folder .. "/fifo", "/dev/zero"} do
      assert(raises("it is no regular file", data.Text, {path = endless}))
    end
    assert(raises("Text: 10 tokens, but a window needs 65", data.Text, {text = text}))
  end)
end)

describe("sequences", function()
  helper.guard(before_each, after_each)

  it("are padded to one length", function()
    local x, lengths = data.pad_sequence({mg.ones(2, 2), mg.full({1, 2}, 3)}, {value = -1})
    assert(near(x, {{{1, 1}, {3, 3}}, {{1, 1}, {-1, -1}}}))
    assert.same({2, 1}, lengths:totable())
    assert.same({2, 3}, data.pad_sequence({{1, 2, 3}, {4}}, {batch_first = true}).shape)
    assert(raises("pad_sequence: sequence 2 is a number", data.pad_sequence, {{1}, 2}))
    assert(raises("pad_sequence: no sequences", data.pad_sequence, {}))
  end)

  it("are gone through side by side, in pieces", function()
    local loader = data.SequenceLoader(numbers(11), {batch_size = 2, length = 3})
    assert.equal(2, #loader)
    local list = {}
    for x, t in loader do
      assert(near(t, x * 10))
      list[#list + 1] = x:totable()
    end
    assert.same({{{1, 6}, {2, 7}, {3, 8}}, {{4, 9}, {5, 10}}}, list)
    assert.equal(1, #data.SequenceLoader(Squares(11), {batch_size = 2, length = 3,
                                                       drop_last = true}))
    local text = data.Text{text = "abcdefg", length = 1}
    local x, t = data.SequenceLoader(text, {batch_size = 2, length = 3}):batches()()
    assert.same({{1, 4}, {2, 5}, {3, 6}}, x:totable())
    assert.same({{2, 5}, {3, 6}, {4, 7}}, t:totable())
    assert(raises("SequenceLoader: 2 items make no 3 sequences", data.SequenceLoader, numbers(2),
      {batch_size = 3, length = 1}))
    local count = 0
    for _ in loader do
      for _ in loader do count = count + 1 end
    end
    assert.equal(4, count)
    assert(raises("SequenceLoader: this batch was not the last of a pass", loader, nil, x))
    assert(raises("SequenceLoader: length is missing", data.SequenceLoader, numbers(2)))
  end)

  it("are given again where one failed, not skipped", function()
    local fails = true
    local items = numbers(6):map(function(x)
      if fails then error "not yet" end
      return x
    end)
    local next_batch = data.SequenceLoader(items, {length = 2}):batches()
    assert.is_false(pcall(next_batch))
    fails = false
    local got = {}
    for x in next_batch do
      for _, v in ipairs(x:flatten():totable()) do got[#got + 1] = v end
    end
    fails = true
    assert.same(numbers(6).tensors[1]:flatten():totable(), got)
    assert.is_nil(next_batch())
    assert.is_nil(next_batch())
  end)
end)
