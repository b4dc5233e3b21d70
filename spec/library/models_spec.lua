-- Models known by a name; values for parameters to start from; hooks of modules.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises
local fill = helper.fill
local nn, models = mg.nn, mg.models

local function flat(x) return x:reshape(x.size) end
local function tokens(t) return mg.tensor(t, "int64") end

describe("GPT", function()
  helper.guard(before_each, after_each)

  local function small(options)
    return fill(models.GPT(5, {n_layer = 2, n_embd = 4, n_head = 2, block_size = 6,
      dropout = options and options.dropout}))
  end

  it("gives what the same in PyTorch gives, and its gradients", function()
    local m = small()
    local y = m(tokens{{1, 4, 2}, {5, 5, 3}})
    assert(near(flat(y[2]), {0.316064184592, -0.384690345736, 0.408863491392, -0.385790286011,
      0.318136961193, 0.295770476484, -0.367057820904, 0.395929681863, -0.379049762266,
      0.318368626601, 0.342255682611, -0.413655663359, 0.43725553211, -0.410328198512,
      0.335985259178}, 1e-10))
    local loss = mg.cross_entropy(y:reshape(6, 5), tokens{4, 2, 3, 5, 3, 1})
    assert(near(loss:item(), 1.61043005401, 1e-10))
    loss:backward()
    assert(near(m.transformer.h[1].attn.c_attn.bias.grad, {-3.68380592113e-05,
      3.73661019279e-05, -1.72931107747e-05, 6.14390503035e-06, 0, 0, 0, 0, 0.00312634106166,
      -2.44024527149e-05, -0.00316366911228, -0.00481501275464}, 1e-8, 1e-14))
  end)

  it("goes on from a cache as if from the start, by any steps", function()
    local m = small()
    local x = tokens{{1, 4, 2, 2, 3, 5}, {5, 5, 3, 1, 1, 4}}
    local want = m(x)
    for _, sizes in ipairs{{6}, {1, 1, 1, 1, 1, 1}, {2, 3, 1}, {1, 5}} do
      local cache, parts, at = {}, {}, 0
      for i, n in ipairs(sizes) do
        parts[i] = m(x[{{}, {at + 1, at + n}}], {cache = cache})
        at = at + n
      end
      assert(near(mg.cat(parts, 2), want, 1e-12))
      assert(raises("GPT: 7 tokens, expected at most block_size, 6", m, x[{{}, {1, 1}}],
        {cache = cache}))
    end
  end)

  it("draws tokens, the likeliest or by chance, past its length too", function()
    local m = small()
    local x = tokens{{1, 4}, {5, 3}}
    local y = m:generate(x, 7, {temperature = 0})
    assert.same({2, 9}, y.shape)
    assert(same(y[{{}, {1, 2}}], x))
    for at = 3, 9 do
      local logits = m(y[{{}, {math.max(1, at - 6), at - 1}}])[{{}, -1}]
      assert(same(y[{{}, at}], logits:argmax(2)))
    end
    assert(same(m:generate(x[1], 7, {temperature = 0}), y[1]))
    assert(same(m:generate(x, 5, {top_k = 1}), y[{{}, {1, 7}}]))
    assert(same(m:generate(x, 0), x))
    for _, dtype in ipairs{"float64", "float32"} do
      local one = small():to(dtype)
      local likeliest = one:generate(x, 7, {temperature = 0})
      for _, t in ipairs{1e-9, 1e-60, 0x1p-1074} do
        assert(same(one:generate(x, 7, {temperature = t}), likeliest))
      end
      one:generate(x, 7, {temperature = math.huge})
    end
    mg.seed(1)
    local counts = {0, 0, 0, 0, 0}
    for _, row in ipairs(m:generate(tokens{{1}}:tile(4000, 1), 1):totable()) do
      counts[row[2]] = counts[row[2]] + 1
    end
    local p = mg.softmax(m(tokens{{1}})[{1, 1}]):totable()
    for i = 1, 5 do assert(near(counts[i] / 4000, p[i], 0, 0.03)) end
    assert.is_nil(m:generate(x, 1).creator)
    assert(raises("generate: tokens must be (N, T) or (T)", m.generate, m, tokens{{}}, 1))
  end)

  it("draws the likeliest, be the random number 0", function()
    local one = small():to "float32"
    local x = tokens{1, 2, 3}
    local likeliest = one:generate(x, 1, {temperature = 0})
    local zeros = {[2] = {5, 2920362}, [3] = {13, 417258}, [4] = {4, 4289149}}
    mg.set_rng_state(zeros[likeliest[-1]:item()])
    assert(same(one:generate(x, 1, {top_k = 1}), likeliest))
  end)

  it("draws no token where the model gives nan or infinite logits", function()
    for _, bad in ipairs{0 / 0, math.huge} do
      local m = small()
      m.transformer.ln_f.bias.data = m.transformer.ln_f.bias.data * bad
      for _, temperature in ipairs{0, 1} do
        assert(raises("generate: the model gives logits that are not finite", m.generate, m,
          tokens{1, 2}, 3, {temperature = temperature}))
      end
    end
  end)

  it("goes on from a cache of its own dtype, heads and rows alone", function()
    local m, x, cache = small(), tokens{{1, 4}}, {}
    m(x, {cache = cache})
    local function refused(model, y)
      local length, k = cache.length, cache[1].k
      assert(raises("GPT: cache is of ", model, y, {cache = cache}))
      assert.equal(length, cache.length)
      assert.equal(k, cache[1].k)
    end
    refused(m, tokens{{1, 4}, {1, 2}})
    refused(m:clone():to "float32", x)
    refused(models.GPT(5, {n_layer = 2, n_embd = 4, n_head = 1, block_size = 6}), x)
    assert(raises("GPT: cache must be an empty table, or one that earlier calls were given",
      models.GPT(5, {n_layer = 1, n_embd = 4, n_head = 2, block_size = 6}), x, {cache = cache}))
    assert.same({1, 2, 5}, m(x, {cache = cache}).shape)
  end)

  it("has one weight for what goes in and out, saved under both names", function()
    local m = models.GPT(7, {n_layer = 1, n_embd = 4, n_head = 1, block_size = 3})
    assert.equal(m.lm_head.weight, m.transformer.wte.weight)
    local state = m:state()
    assert(state["transformer.h.0.attn.c_attn.weight"] and state["lm_head.weight"])
    local path = child.folder() .. "/gpt.safetensors"
    m:save(path)
    local other = models.GPT(7, {n_layer = 1, n_embd = 4, n_head = 1, block_size = 3})
    other:load(path)
    local x = tokens{{1, 7, 3}}
    assert(same(other(x), m(x)))
    assert.equal(other.lm_head.weight, other.transformer.wte.weight)
    assert(raises("GPT: n_embd 4 is no multiple of n_head 3", models.GPT, 7,
      {n_embd = 4, n_head = 3}))
    assert(raises("GPT: tokens must be (N, T)", m, tokens{1, 2}))
  end)

  it("drops in training alone", function()
    local m, x = small{dropout = 0.5}, tokens{{1, 4, 2}}
    mg.seed(1)
    assert.is_false(mg.allclose(m(x), small()(x)))
    assert(same(mg.test_mode(m, x), small()(x)))
  end)
end)

describe("models for images", function()
  helper.guard(before_each, after_each)

  local function wave(...)
    local n = 1
    for _, d in ipairs{...} do n = n * d end
    return (mg.range(1, n) * 0.9):cos():reshape(...)
  end

  -- In training: statistics of the batch
  local TORCHVISION = {
    ResNet18 = {1.44892382071, -0.778930884008, -2.76287533849, 1.41769912435, -0.815093211689,
                -2.80157343105},
    ResNet50 = {174.4928069, -3.2251563281, -178.033774808, 172.955742198, -6.79327436297,
                -180.147611285},
    MobileNetV2 = {20.5670127197, -62.0307844022, 80.0294601437, 19.9601541369, -61.6005017564,
                   79.9492074758},
  }

  for name, want in pairs(TORCHVISION) do
    it(name .. " gives what torchvision's gives", function()
      local m = fill(models[name]{num_classes = 3,
        dropout = name == "MobileNetV2" and 0 or nil})
      mg.no_grad(function()
        assert(near(flat(m(wave(2, 3, 64, 64))), want, 1e-7))
        if name == "ResNet18" then
          local kept = m.layer4[2].bn2.running_var
          assert(near(kept[{{1, 3}}], {26.6483574837, 8.13905476688, 9.12198982627}, 1e-7))
          assert.equal(1, m:state()["bn1.num_batches_tracked"]:item())
        end
      end)
    end)
  end

  it("have torchvision's names and shapes", function()
    local function shape_of(m, name) return m:state()[name].shape end
    local vgg = mg.using_config("dtype", "float32", models.VGG16, {num_classes = 10})
    assert.equal(32, #vgg:parameters())
    assert.same({64, 3, 3, 3}, shape_of(vgg, "features.0.weight"))
    assert.same({512, 512, 3, 3}, shape_of(vgg, "features.28.weight"))
    assert.same({4096, 25088}, shape_of(vgg, "classifier.0.weight"))
    assert.same({10, 4096}, shape_of(vgg, "classifier.6.weight"))
    local m = models.MobileNetV2{num_classes = 5}
    assert.same({32, 1, 3, 3}, shape_of(m, "features.1.conv.0.0.weight"))
    assert.same({5, 1280}, shape_of(m, "classifier.1.weight"))
    local r = models.ResNet18{in_channels = 1}
    assert.same({64, 1, 7, 7}, shape_of(r, "conv1.weight"))
    assert.same({128, 64, 1, 1}, shape_of(r, "layer2.0.downsample.0.weight"))
    assert.same({1000, 512}, shape_of(r, "fc.weight"))
  end)

  it("LeNet is 20 and 50 channels, then 500, and learns", function()
    mg.seed(2)
    local m = models.LeNet()
    local x, t = mg.rand(4, 1, 28, 28), tokens{1, 10, 3, 3}
    assert.same({4, 10}, m(x).shape)
    assert.same({500, 800}, m.fc1.weight.shape)
    assert.same({50, 20, 5, 5}, m.conv2.weight.shape)
    local opt, first = mg.optim.SGD(m, {lr = 0.1})
    for _ = 1, 12 do
      local loss = mg.cross_entropy(m(x), t)
      first = first or loss:item()
      m:cleargrads()
      loss:backward()
      opt:step()
    end
    assert.is_true(mg.cross_entropy(m(x), t):item() < 0.9 * first)
  end)
end)

describe("nn.init", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(11) end)

  local init = nn.init
  local function blank(...) return mg.Variable(mg.zeros(...)) end
  local function spread(p) return p.data:std{correction = 0}:item() end

  it("sets all of a parameter, keeps its dtype, gives it back", function()
    local p = mg.Variable(mg.zeros{3, 3, dtype = "float32"})
    for name, f in pairs(init) do
      if name ~= "calculate_gain" then
        local args = name == "constant" and {0.5} or {}
        assert.equal(p, f(p, table.unpack(args)))
        assert.equal("float32", p.dtype)
        assert.is_true(p.requires_grad)
        assert.is_nil(p.creator)
      end
    end
    assert(exact(init.constant(p, 3), mg.full({3, 3}, 3)))
    assert(exact(init.zeros(p), mg.zeros(3, 3)))
    assert(exact(init.ones(p), mg.ones(3, 3)))
    assert(exact(init.eye(blank(2, 3)), {{1, 0, 0}, {0, 1, 0}}))
  end)

  it("has the spread that the papers ask for", function()
    local function conv() return blank(60, 20, 5, 5) end           -- 500 inputs, 1500 outputs
    local function is(p, std, uniform)
      assert(near(spread(p), std, 0.02))
      assert(near(p.data:mean():item(), 0, 0, 0.02 * std + 1e-3))
      if uniform then
        assert(near(p.data:abs():max():item(), std * math.sqrt(3), 0.01))
      end
    end
    is(init.xavier_uniform(conv()), math.sqrt(2 / 2000), true)
    is(init.xavier_normal(conv(), {gain = 2}), 2 * math.sqrt(2 / 2000))
    is(init.kaiming_uniform(conv(), {nonlinearity = "relu"}), math.sqrt(2 / 500), true)
    is(init.kaiming_normal(conv(), {mode = "fan_out", a = 1}), math.sqrt(1 / 1500))
    is(init.normal(conv(), 0, 3), 3)
    is(init.uniform(conv(), -1, 1), math.sqrt(1 / 3), true)
    assert(near(init.calculate_gain("leaky_relu", 0.1), math.sqrt(2 / 1.01)))
    assert(near(init.calculate_gain "tanh", 5 / 3))
  end)

  it("trunc_normal knows its ends to all digits, whatever Config.dtype is", function()
    mg.using_config("dtype", "float32", function()
      local p = init.trunc_normal(mg.Variable(mg.zeros{1000, dtype = "float64"}), {a = 5.5, b = 7})
      assert.is_true(p:amin():item() < 5.51 and p:amax():item() > 6)
    end)
  end)

  it("trunc_normal stays inside, and is normal there", function()
    local p = init.trunc_normal(blank(20000), {mean = 1, std = 2, a = 0, b = 3})
    assert.is_true(p:min() >= 0 and p:max() <= 3)
    assert(near(p.data:mean():item(), 1.4155, 0, 0.02))            -- of the truncated density
    local q = init.trunc_normal(blank(20000))
    assert(near(spread(q), 0.8796, 0.02))
  end)

  it("orthogonal has orthogonal rows or columns", function()
    for _, shape in ipairs{{3, 5}, {5, 3}, {4, 4}, {3, 2, 2, 2}} do
      local p = init.orthogonal(blank(shape), {gain = 2}).data
      p = p:reshape(shape[1], p.size // shape[1])
      local product = shape[1] <= p.shape[2] and p:matmul(p.T) or p.T:matmul(p)
      assert(near(product, 4 * mg.eye(product.shape[1]), 1e-10))
    end
  end)

  it("refuses what does not fit", function()
    assert(raises("xavier_uniform: p (3): expected two axes or more", init.xavier_uniform,
      blank(3)))
    assert(raises("eye: p (2, 2, 2): expected two axes", init.eye, blank(2, 2, 2)))
    assert(raises("trunc_normal: a must be below b", init.trunc_normal, blank(2), {a = 3}))
    local p0, inf = blank(2), math.huge
    for _, ends in ipairs{{a = 9, b = 10}, {a = 9, b = inf}, {a = -inf, b = -9}} do
      assert(raises("trunc_normal: next to nothing of the distribution lies within",
        init.trunc_normal, p0, ends))
    end
    assert(same(p0, blank(2)))
    assert(init.trunc_normal(p0, {a = -9, b = inf}):lt(9):all():item())
    assert(init.trunc_normal(p0, {a = 6, b = 7}):lt(7):all():item())
    assert(raises("nn.init has no normal_; here it is normal", function() return init.normal_ end))
  end)
end)

describe("hooks of modules", function()
  helper.guard(before_each, after_each)

  it("see what goes in and out, and may change it", function()
    local l, seen = nn.Linear(2, 2), {}
    local x = mg.ones(1, 2)
    local y = l(x)
    local off = l:add_hook("forward", function(m, inputs, out)
      seen[#seen + 1] = {m, inputs[1], out}
    end)
    assert(same(l(x), y))
    assert.equal(l, seen[1][1])
    assert.equal(x, seen[1][2])
    assert(same(seen[1][3], y))
    local double = l:add_hook("forward", function(_, _, out) return out * 2 end)
    assert(near(l(x), y * 2))
    off()
    double()
    assert(same(l(x), y))
    assert.equal(2, #seen)
  end)

  it("see the gradient that comes to an output, and may change it", function()
    local m, seen = nn.GRU(2, 3), {}
    local x = mg.Variable(mg.ones(4, 1, 2))
    local off = m:add_hook("backward", function(module, g, k)
      seen[k] = g
      assert.equal(m, module)
      return k == 2 and g * 10 or nil
    end)
    local y, h = m(x)
    mg.add(y:sum(), h:sum()):backward()
    assert(exact(seen[1], mg.ones(4, 1, 3)))
    assert(exact(seen[2], mg.ones(1, 1, 3)))
    local hooked = x.grad
    off()
    x:cleargrad()
    y, h = m(x)
    mg.add(y:sum(), 10 * h:sum()):backward()
    assert(near(hooked, x.grad, 1e-13))
    mg.no_grad(m, x)
    local names = {}
    for name in m:named_parameters() do names[#names + 1] = name end
    assert.equal(4, #names)
    assert(raises('add_hook: when must be "forward" or "backward"', m.add_hook, m, "after", print))
  end)
end)
