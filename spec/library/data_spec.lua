-- Datasets and the DataLoader.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local near, raises = helper.near, helper.raises
local data = mg.data

-- n items: i and its square
local Squares = data.Dataset:extend("Squares")
function Squares:init(n) self.n = n end
function Squares:__len() return self.n end
function Squares.get(_, i) return mg.tensor{i, i * i}, i end

local function labels(loader)
  local list = {}
  for _, t in loader:batches() do
    for _, v in ipairs(t:totable()) do list[#list + 1] = v end
  end
  return list
end

describe("a Dataset", function()
  helper.guard(before_each, after_each)

  it("has a length and items; batches come of them", function()
    local ds = Squares(10)
    assert.equal(10, #ds)
    local x, t = ds:batch(2, 4)
    assert(near(x, {{2, 4}, {3, 9}, {4, 16}}))
    assert.same({2, 3, 4}, t:totable())
    assert.equal("int64", t.dtype)
  end)

  it("is mapped, item by item or in batches", function()
    local calls = 0
    local function half(x, t)
      calls = calls + 1
      return x / 2, t
    end
    local ds = Squares(10):map(half)
    assert.equal(10, #ds)
    local x = ds:batch(1, 2)
    assert(near(x, {{0.5, 0.5}, {1, 2}}))
    assert.equal(2, calls)
    ds = data.TensorDataset(mg.range(1, 6), mg.range(1, 6)):map(half, {batched = true})
    x = ds:batch(1, 2)
    assert(near(x, {0.5, 1}))
    assert.equal(3, calls)
    assert.equal(6, #labels(data.DataLoader(ds, {batch_size = 4, shuffle = true})))
    assert.equal(5, calls)
  end)

  it("without a length is refused", function()
    local D = data.Dataset:extend("Endless")
    function D.get(_, i) return i end
    local told = "Endless has no length: function Endless:__len() ... end says how many items"
    assert(raises(told, data.DataLoader, D()))
    assert(raises(told, data.random_split, D(), {0.5, 0.5}))
    for _, n in ipairs{-3, 2.5, 0 / 0, "many"} do
      local ds = setmetatable({get = function() return 1 end}, {__len = function() return n end})
      assert(raises("DataLoader: the dataset's length is " .. tostring(n), data.DataLoader, ds))
      D.__len = function() return n end
      assert(raises("batch: the dataset's length is " .. tostring(n), D().batch, D(), 1, 2))
    end
    assert(raises("DataLoader: the dataset has no length: give it a metamethod __len",
      data.DataLoader, {get = function(_, i) return i end}))
  end)

  it("of Variables of one length", function()
    local ds = data.TensorDataset(mg.range(1, 6):reshape(3, 2), mg.tensor({7, 8, 9}, "int64"))
    assert.equal(3, #ds)
    local x, t = ds:get(2)
    assert(near(x, {3, 4}))
    assert.equal(8, t:item())
    x, t = ds:batch(2, 3)
    assert(near(x, {{3, 4}, {5, 6}}))
    assert.same({8, 9}, t:totable())
    assert(raises("TensorDataset: argument 2 has length 4, the first has 3",
      data.TensorDataset, mg.ones(3), mg.ones(4)))
  end)
end)

describe("a DataLoader", function()
  helper.guard(before_each, after_each)

  it("gives the batch that failed to who asks again, in whatever way it failed", function()
    local x = mg.range(1, 23)
    local Rows = mg.data.Dataset:extend("Rows")
    function Rows.__len() return 23 end
    function Rows.get(_, i) return x[i] end
    local fails
    local function change(b)
      if fails then error "here" end
      return b + mg.rand_like(b)
    end
    for _, ds in ipairs{mg.data.TensorDataset(x), Rows()} do
      for _, opts in ipairs{{shuffle = true, seed = 3}, {seed = 3}} do
        opts.batch_size, opts.transform = 5, change
        local expected, got = {}, {}
        for b in mg.data.DataLoader(ds, opts) do expected[#expected + 1] = b:totable() end
        local loader = mg.data.DataLoader(ds, opts)
        local last
        repeat
          fails = true
          if last and #got < #expected then
            assert(helper.raises("here", loader, nil, last))
          end
          fails = false
          last = loader(nil, last)
          if last then got[#got + 1] = last:totable() end
        until not last
        assert.same(expected, got)
        local iterator = mg.data.DataLoader(ds, opts):batches()
        for k = 1, #expected do
          fails = true
          assert(not pcall(iterator))
          mg._fail_at(k, 1 << 30)
          pcall(iterator)
          mg._fail_at(0)
          fails = false
          assert.same(expected[k], iterator():totable())
        end
        assert.is_nil(iterator())
        assert.is_nil(iterator())
      end
    end
  end)

  it("goes through a dataset in batches, the last one smaller", function()
    local loader = data.DataLoader(Squares(10), {batch_size = 4})
    assert.equal(3, #loader)
    local sizes = {}
    for x, t in loader:batches() do
      sizes[#sizes + 1] = #t
      assert.same({#t, 2}, x.shape)
    end
    assert.same({4, 4, 2}, sizes)
    assert.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, labels(loader))
  end)

  it("gives batches and items that are their taker's, to write into", function()
    local x, t = mg.range(1, 12):reshape(6, 2), mg.range(1, 6, {dtype = "int64"})
    local before = x:totable()
    local plain = data.TensorDataset(x, t)
    local text = data.Text{text = ("abcdefgh"):rep(3), length = 4, split = "all"}
    for _, ds in ipairs{plain, data.Subset(plain, {2, 1, 3}), data.Concat{plain, plain}, text} do
      for _, shuffle in ipairs{false, true} do
        for a, b in data.DataLoader(ds, {batch_size = 2, shuffle = shuffle, seed = 1}) do
          a.data, b.data = a * 2, b * 0
          a[1] = 7
          assert.equal(7, a[1]:max():item())
          assert.equal(0, b:sum():item())
        end
      end
      local a, b = ds:get(1)
      a.data, b.data = a * 3, b * 3
      a[1] = 7
    end
    assert.same(before, x:totable())
    assert.same({1, 2, 3, 4, 5, 6}, t:totable())
    assert.equal("abcd", text.tokenizer:decode((text:get(1))))
  end)

  it("drops a smaller last batch when told to", function()
    local loader = data.DataLoader(Squares(10), {batch_size = 4, drop_last = true})
    assert.equal(2, #loader)
    assert.equal(8, #labels(loader))
  end)

  it("shuffles: everything once, otherwise every time", function()
    mg.seed(0)
    for _, ds in ipairs{Squares(100), data.TensorDataset(mg.ones(100), mg.range(1, 100))} do
      local loader = data.DataLoader(ds, {batch_size = 7, shuffle = true})
      local first, second = labels(loader), labels(loader)
      assert.are_not.same(first, second)
      table.sort(first)
      for i = 1, 100 do assert.equal(i, first[i]) end
    end
  end)

  it("with a seed has its own order, and leaves other random numbers alone", function()
    local function order()
      local loader = data.DataLoader(Squares(50), {shuffle = true, seed = 3})
      return {labels(loader), labels(loader)}
    end
    mg.seed(1)
    local state = mg.get_rng_state()
    local first = order()
    assert.same(state, mg.get_rng_state())
    mg.seed(2)
    assert.same(first, order())
    assert.are_not.same(first[1], first[2])
  end)

  it("stands in a for by itself, also in one that it is in", function()
    local loader = data.DataLoader(Squares(6), {batch_size = 2})
    local seen = {}
    for _, t in loader do
      for _, u in loader do seen[#seen + 1] = t[1]:item() * 10 + u[1]:item() end
    end
    assert.same({11, 13, 15, 31, 33, 35, 51, 53, 55}, seen)
    local first = loader(nil, nil)
    loader(nil, first)
    assert(near(loader(nil, nil)[1], {1, 1}))
    assert(raises("DataLoader: this batch was not the last of a pass", loader, nil, first))
  end)

  it("meets another order in each pass of each seed", function()
    local seen = {}
    for seed = 1, 5 do
      local loader = data.DataLoader(Squares(50), {shuffle = true, seed = seed})
      for _ = 1, 5 do
        local key = table.concat(labels(loader), " ")
        assert.is_nil(seen[key])
        seen[key] = true
      end
    end
  end)

  it("draws for each batch what no pass and no other batch has", function()
    for _, seed in ipairs{0, 1} do
      local seen, n = {}, 0
      local function note(order)
        assert.is_nil(seen[order])
        seen[order], n = true, n + 1
      end
      local loader = data.DataLoader(Squares(50), {shuffle = true, seed = seed, batch_size = 10,
        transform = function(x)
          note(table.concat(mg.randperm(50):totable(), " "))
          return x
        end})
      for _ = 1, 6 do note(table.concat(labels(loader), " ")) end
      for rank = 1, 2 do
        loader.pass, loader.rank, loader.ranks = 6, rank, 2
        labels(loader)
      end
      assert.equal(36 + 6, n)
    end
  end)

  it("refuses items of nothing", function()
    for _, opts in ipairs{{}, {shuffle = true}} do
      for _, map in ipairs{{}, {batched = true}} do
        local ds = data.TensorDataset(mg.ones(4, 2)):map(function() end, map)
        assert(raises("map: the function gave nothing", data.DataLoader(ds, opts):batches()))
      end
      local empty = setmetatable({get = function() end}, {__len = function() return 3 end})
      assert(raises("collate: item ", data.DataLoader(empty, opts):batches()))
    end
    local some = setmetatable({get = function(_, i) return i, i > 1 and i or nil end},
      {__len = function() return 2 end})
    assert(raises("collate: value 2 of an item is nil", data.DataLoader(some, {batch_size = 2})
      :batches()))
  end)

  it("says what it is, as datasets do", function()
    local ds = data.TensorDataset(mg.ones(4, 2))
    assert(raises("get: argument 2, a number, is one too many", ds.get, ds, 1, 2))
    assert(raises("batch: argument 3, a number, is one too many", ds.batch, ds, 1, 2, 3))
    assert.equal("TensorDataset(4 items)", tostring(ds))
    assert.equal("DataLoader(TensorDataset(4 items), 2 batches of 3)",
      tostring(data.DataLoader(ds, {batch_size = 3})))
  end)

  it("takes any object with a length and get", function()
    local ds = {get = function(_, i) return i * 10 end}
    setmetatable(ds, {__len = function() return 3 end})
    local got = {}
    for x in data.DataLoader(ds, {batch_size = 2}):batches() do got[#got + 1] = x:totable() end
    assert.same({{10, 20}, {30}}, got)
    assert.equal(2, #data.DataLoader(ds, {batch_size = 2, shuffle = true}))
  end)

  it("refuses sizes that are none", function()
    assert(raises("DataLoader: batch_size must be at least 1, got 0", data.DataLoader, Squares(3),
      {batch_size = 0}))
    assert(raises("DataLoader: unknown option batch", data.DataLoader, Squares(3), {batch = 1}))
    assert.equal(1, #data.DataLoader(Squares(3), {batch_size = math.maxinteger}))
    assert.equal(0, #data.DataLoader(Squares(3), {batch_size = math.maxinteger, drop_last = true}))
  end)

  it("refuses to go through items that make no batch", function()
    local loader = data.DataLoader(Squares(3), {batch_size = 4, drop_last = true})
    local text = "DataLoader: 3 items make no batch of 4, and drop_last drops what is left"
    assert(raises(text, loader.batches, loader))
    assert(raises(text, function() for _ in loader do error "none" end end))
    for _ in data.DataLoader(Squares(0), {batch_size = 4, drop_last = true}) do error "none" end
    assert(raises("SequenceLoader: 2 steps make no batch of 3", data.SequenceLoader, Squares(8),
      {batch_size = 4, length = 3, drop_last = true}))
  end)

  it("refuses datasets that are none", function()
    assert(raises("DataLoader: argument 1 is a nil", data.DataLoader))
    assert(raises("DataLoader: the dataset is a table", data.DataLoader, {1, 2}))
    assert(raises("TensorDataset: needs Variables", data.TensorDataset))
    assert(raises("TensorDataset: argument 2 is a table", data.TensorDataset, mg.ones(2), {1, 2}))
  end)
end)

describe("the dataset", function()
  helper.guard(before_each, after_each)

  it("FashionMNIST is read from its files", function()
    local test = data.FashionMNIST{split = "test"}
    assert.equal(10000, #test)
    local x, t = test:batch(1, 100)
    assert.same({100, 784}, x.shape)
    assert.equal("float64", x.dtype)
    assert.equal("int64", t.dtype)
    assert.equal(0, x:min():item())
    assert.equal(1, x:max():item())
    assert.is_true(t:min():item() == 1 and t:max():item() == 10)
    assert.equal(10, t[1]:item())                -- an ankle boot
    x, t = test:get(1)
    assert.same({784}, x.shape)
    assert.same({}, t.shape)
    assert.equal("float32", mg.using_config("dtype", "float32", test.batch, test, 1, 2).dtype)
    assert(raises('FashionMNIST: split must be "train" or "test", got "all"', data.FashionMNIST,
      {split = "all"}))
    assert(raises("FashionMNIST: cannot open /no/such", data.FashionMNIST, {root = "/no/such"}))
  end)

  it("MNIST is read from files of the same kind", function()
    local root = child.folder()
    local function idx(dims, bytes)
      local head = "\0\0\8" .. string.char(#dims)
      for _, d in ipairs(dims) do head = head .. (">I4"):pack(d) end
      return head .. bytes
    end
    local images, digits = root .. "/t10k-images-idx3-ubyte", root .. "/t10k-labels-idx1-ubyte"
    child.write(images, idx({2, 2, 2}, "\0\255\0\255\51\0\0\0"))
    child.write(digits, idx({2}, "\7\0"))
    local ds = data.MNIST{split = "test", root = root}
    local x, t = ds:batch(1, 2)
    assert(near(x, {{0, 1, 0, 1}, {0.2, 0, 0, 0}}))
    assert.same({8, 1}, t:totable())
    local damaged = {"", "\0\0\8\3", "not an idx file", idx({2, 2, 2}, "\0\255"),
                     idx({2 ^ 31 | 0, 2 ^ 31 | 0, 4}, ""), idx({}, ""),
                     -- 641 * 6700417 = 2^32 + 1: in 64 bits these dims make 1
                     idx({641, 6700417, 2^32 - 1 | 0, 641, 6700417, 2^32 - 1 | 0}, "\0")}
    for _, bytes in ipairs(damaged) do
      child.write(images, bytes)
      assert(raises("is not an idx file", data.MNIST, {split = "test", root = root}))
    end
    child.write(images, idx({1, 2, 2}, "\0\0\0\0"))
    assert(raises("MNIST: 1 images but 2 labels", data.MNIST, {split = "test", root = root}))
    child.write(images, idx({2, 2, 2}, ("\0"):rep(8)))
    child.write(digits, idx({2}, "\9\10"))
    assert(raises("MNIST: " .. root .. " holds labels above 9", data.MNIST,
      {split = "test", root = root}))
    child.write(images .. ".gz", "no gzip")
    assert(raises("is damaged", data.MNIST, {split = "test", root = root}))
    assert(raises("MNIST: root", data.MNIST))
  end)

  it("Spiral has three arms, the same every time", function()
    local state = mg.get_rng_state()
    local a, b, test = data.Spiral(), data.Spiral(), data.Spiral{split = "test"}
    assert.same(state, mg.get_rng_state())
    assert.equal(300, #a)
    local x, t = a:batch(1, 300)
    assert.same({300, 2}, x.shape)
    for k = 1, 3 do assert.equal(100, t:eq(k):to("int64"):sum():item()) end
    assert(helper.same(x, (b:batch(1, 300))))
    assert.is_false(mg.equal(x, (test:batch(1, 300))))
    assert.is_true(x:square():sum(2):max():item() <= 1)
  end)

  it("loaders have no items, and ipairs does not pass over them", function()
    local ds = data.TensorDataset(mg.ones(4))
    for name, loader in pairs{DataLoader = data.DataLoader(ds, {batch_size = 2}),
                              SequenceLoader = data.SequenceLoader(ds, {length = 2})} do
      assert(raises(name .. ": there is no [1]: its batches come by for", function()
        for _ in ipairs(loader) do error "a batch" end
      end))
    end
  end)

  it("SinCurve gives each value and the next", function()
    local train = data.SinCurve()
    assert.equal(999, #train)
    local x, t = train:batch(1, 999)
    assert.same({999, 1}, x.shape)
    assert(near(x[{{2, 999}}], t[{{1, 998}}]))
    x = data.SinCurve{split = "test"}:batch(1, 1)
    assert(near(x, {{1}}))
  end)
end)
