-- Recurrent layers and cells against PyTorch's results, differences and each other.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, same, raises, fill = helper.near, helper.same, helper.raises, helper.fill
local nn = mg.nn

local KINDS = {"RNN", "LSTM", "GRU"}
local GATES = {RNN = 1, LSTM = 4, GRU = 3}

-- Inputs that the scripts behind the numbers below had, too.
local function wave(...)
  local shape = {...}
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  return (mg.range(1, n) * 0.9):cos():reshape(shape)
end

local function flat(x) return x:reshape(x.size) end

-- PyTorch 2.15's, of sequence 2; gradients of sequence 1
local TORCH = {
  RNN = {
    options = {nonlinearity = "relu", num_layers = 2},
    y = {0.511228821968, 0, 0.153488660213, 0.0211044213544, 0.475534431279, 0},
    h = {0.799416272622, 0.491717572221, 0.647278807205, 0.15697568818},
    gx = {0.190836577464, 0.169778167914, 0.0688704331371, 0.0849950996048, 0.197103790052,
          0.216511488207, 0.203689107135, 0.284542081278, 0.231570468504},
    gw = {0.377274549969, 0.985440073942, 0.245145122427, 0.278166983851},
    short_y = {0.511228821968, 0, 0, 0, 0, 0},
    short_h = {0.567341627844, 0, 0.511228821968, 0},
  },
  GRU = {
    options = {bidirectional = true},
    y = {-0.281902788142, 0.11764726487, 0.156054675134, 0.513064123187, -0.35349035473,
         0.436338946659, 0.474554691774, 0.205693395134, -0.2939866798, 0.34938058001,
         0.440310322262, -0.112454848574},
    h = {-0.251937635883, -0.616441969304, 0.151187072532, -0.194514366526},
    gx = {-0.426553251763, -0.527816858399, -0.380839949164, -0.151540478766, -0.276968229819,
          -0.27213349464, -0.253603113354, -0.192855755375, -0.0414053221891},
    gw = {0.00974125897902, -0.0126780322169, 0.0310047855262, -0.013924874228,
          -0.00639714516939, -0.04567844569, 0.0222650564269, -0.0819449926146,
          -0.0849348412469, -0.363582972877, -0.257382707621, 0.160065993432},
    short_y = {-0.281902788142, 0.11764726487, -0.0761965638699, 0.429259564535, 0, 0, 0, 0, 0, 0,
               0, 0},
    short_h = {-0.281902788142, 0.11764726487, -0.0761965638699, 0.429259564535},
  },
  LSTM = {
    options = {num_layers = 2, bidirectional = true},
    y = {-0.0955169032248, -0.11637005028, -0.119854797492, -0.0511921608246, -0.111560382905,
         -0.148066687271, -0.10333104469, -0.0616694474625, -0.10915981277, -0.157074967773,
         -0.0702335592129, -0.0564281781472},
    h = {0.266771653557, -0.247880943142, -0.00123857123046, -0.285013323997, -0.171096341593,
         -0.0662335133735, -0.0881823218147, -0.0623093409785},
    c = {0.464079161198, -0.656068461104, -0.00308155972897, -0.633371143446, -0.490166719853,
         -0.120068965675, -0.163533048759, -0.10564785504},
    gx = {0.0262733578554, 0.0217941922318, 0.00706487745787, 0.0353102328249, 0.040544062355,
          0.0267093858412, 0.0387070579385, 0.0416646530182, 0.0250267107554},
    gw = {-0.000304780788942, 0.000230375266828, 0.00184100592045, -0.000841861637623,
          -0.000200374595475, 0.000137646201324, 0.000406250584661, -0.000449743332407,
          -0.00150205602769, 0.00133026658404, -0.0041879049618, 0.00103738715134,
          -0.000423012467944, 0.000330295324946, 0.00400641028692, -0.00294452596703},
    short_y = {-0.100238214321, -0.110373542266, -0.102370761435, -0.020475401466, 0, 0, 0, 0, 0,
               0, 0, 0},
    short_h = {-0.0540509356909, 0.0417676436369, -0.0412219161157, 0.0404487670709,
               -0.100238214321, -0.110373542266, -0.102370761435, -0.020475401466},
  },
}

describe("recurrent layers", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(3) end)

  for _, kind in ipairs(KINDS) do
    local want = TORCH[kind]

    it(kind .. " gives what PyTorch's gives, and its gradients", function()
      local m = fill(nn[kind](3, 2, want.options))
      local x = mg.Variable(wave(3, 2, 3))
      local y, h, c = m(x)
      assert(near(flat(y[{{}, 2}]), want.y, 1e-10, 1e-11))
      assert(near(flat(h[{{}, 1}]), want.h, 1e-10, 1e-11))
      if want.c then assert(near(flat(c[{{}, 1}]), want.c, 1e-10, 1e-11)) end
      y:sum():backward()
      assert(near(flat(x.grad[{{}, 1}]), want.gx, 1e-10, 1e-11))
      assert(near(flat(m.weight_hh_l0.grad), want.gw, 1e-10, 1e-11))
    end)

    it(kind .. " stops where a sequence ends, both ways", function()
      local m = fill(nn[kind](3, 2, want.options))
      local y, h = m(wave(3, 2, 3), {lengths = {3, 1}})
      assert(near(flat(y[{{}, 2}]), want.short_y, 1e-10, 1e-11))
      assert(near(flat(h[{{}, 2}]), want.short_h, 1e-10, 1e-11))
      local x = wave(3, 2, 3)
      x[{{2, 3}, 2}] = 1e3                      -- behind the end: nobody's business
      assert(same(m(x, {lengths = {3, 1}}), y))
      local none, start = m(x, {lengths = {0, 0}})
      assert(near(none, mg.zeros_like(none)))
      assert(near(start, mg.zeros_like(start)))
    end)

    it(kind .. " in pieces is the same as in one", function()
      local m = fill(nn[kind](3, 4, {num_layers = 2}))
      local x = wave(5, 2, 3)
      local y, h, c = m(x)
      local y1, h1, c1 = m(x[{{1, 2}}])
      local y2, h2, c2 = m(x[{{3, 5}}], h1, c1)
      assert(near(mg.cat({y1, y2}, 1), y, 1e-13))
      assert(near(h2, h, 1e-13))
      if c then assert(near(c2, c, 1e-13)) end
      local first = fill(nn[kind](3, 4, {num_layers = 2, batch_first = true}))
      assert(near(first(x:swapaxes(1, 2)):swapaxes(1, 2), y, 1e-13))
      local one, state = m(x[{{}, 2}])          -- without a batch
      assert(near(one, y[{{}, 2}], 1e-13))
      assert.same({2, 4}, state.shape)
      assert(near(m(x:to "float32"):to "float64", y, 1e-5))
    end)

    it(kind .. "'s cell is a step of it", function()
      local cell, m = fill(nn[kind .. "Cell"](3, 4)), fill(nn[kind](3, 4))
      local x = wave(2, 5, 3)
      local y, last, lastc = m(x)
      local h, c = cell(x[1])
      assert(near(h, y[1], 1e-13))
      h, c = cell(x[2], h, c)
      assert(near(h, last[1], 1e-13))
      if c then assert(near(c, lastc[1], 1e-13)) end
      assert.same({4}, cell(x[{1, 1}]).shape)
      local open = nn[kind .. "Cell"](4)
      assert.same({5, 4}, open(x[1]).shape)
      assert.same({4 * GATES[kind], 3}, open.weight_ih.shape)
    end)

    local cell = kind == "RNN" and "tanh" or kind:lower()
    it(kind .. " is differentiable twice, with the state and either way", function()
      local k = GATES[kind]
      local xs = {mg.randn(3, 2, 2), mg.randn(2, 3), mg.randn(2, 3), mg.randn(3 * k, 2),
                  mg.randn(3 * k, 3), mg.randn(3 * k), mg.randn(3 * k)}
      for _, options in ipairs{{}, {lengths = mg.tensor({3, 1}, "int64")}, {reverse = true},
                               {reverse = true, lengths = mg.tensor({1, 2}, "int64")}} do
        assert(helper.differentiable(function(x, h, c, wi, wh, bi, bh)
          if kind ~= "LSTM" then c = nil end
          local y, cells = mg._recurrent(x, h, c, wi, wh, bi, bh, options.lengths,
            {cell = cell, reverse = options.reverse})
          return cells and mg.cat({y, cells}, 3) or y
        end, xs, 1e-6))
      end
    end)

    -- Blocks of rows and of columns
    it(kind .. " has the same bits for any number of threads, and gradients as of ops", function()
      local m = nn[kind](20, 70, {bidirectional = true})
      local x = mg.randn(4, 66, 20)
      local threads = mg.num_threads()
      finally(function() mg.set_num_threads(threads) end)
      local function run(n, create)
        mg.set_num_threads(n)
        local v = mg.Variable(x)
        local y, h, c = m(v, {lengths = mg.range(1, 66) % 5})
        local loss = (y * y:detach():cos()):sum() + h:sum()
        if c then loss = loss + c:square():sum() end
        local all = {v, table.unpack(m:parameters())}
        return y:detach(), mg.gradients(loss, all, {create_graph = create})
      end
      local y, g = run(1)
      for n = 2, 3 do
        local y2, g2 = run(n)
        assert(same(y2, y))
        for i = 1, #g do assert(same(g2[i], g[i])) end
      end
      local _, g3 = run(2, true)
      for i = 1, #g do assert(near(g3[i], g[i], 1e-9, 1e-10)) end
    end)

    it(kind .. " takes no steps, no sequences and one of each", function()
      local m = nn[kind](3, 2, {bidirectional = true})
      for _, shape in ipairs{{0, 4, 3}, {4, 0, 3}, {1, 1, 3}} do
        local x = mg.Variable(mg.ones(shape))
        local y, h = m(x)
        assert.same({shape[1], shape[2], 4}, y.shape)
        assert.same({2, shape[2], 2}, h.shape)
        m:cleargrads()
        mg.add(y:sum(), h:sum()):backward()
        assert.same(shape, x.grad.shape)
      end
    end)
  end

  it("learns past the steps it is cut at, by unchain_backward or detach", function()
    local m = fill(nn.LSTM(1, 3))
    local x = wave(6, 1, 1)
    local _, h, c = m(x[{{1, 3}}])
    m(x[{{4, 6}}], h:detach(), c:detach()):sum():backward()
    local want = m.weight_hh_l0.grad:clone()
    m:cleargrads()
    _, h, c = m(x[{{1, 3}}])
    h:unchain_backward()
    c:unchain_backward()
    m(x[{{4, 6}}], h, c):sum():backward()
    assert(same(m.weight_hh_l0.grad, want))
  end)

  it("has the same gradients, in less memory, in place of what was kept", function()
    for _, kind in ipairs(KINDS) do
      for _, lengths in ipairs{false, true} do
        mg.seed(4)
        local model = nn[kind](20, 40, {bidirectional = true})
        local x = mg.Variable(mg.randn(30, 9, 20))
        local options = lengths and {lengths = mg.tensor({30, 1, 7, 30, 12, 2, 29, 5, 6}, "int64")}
        local function gradients(how)
          model:cleargrads()
          x:cleargrad()
          local y = model(x, nil, options or nil)
          local loss = (y * wave(30, 9, 80)):sum()
          helper.settle()
          mg.reset_peak()
          local before = mg.memory().live
          loss:backward(how)
          local more, all = mg.memory().peak - before, {x.grad}
          for _, p in model:named_parameters() do all[#all + 1] = p.grad end
          if how then
            model:cleargrads()
            x:cleargrad()
            loss:backward()
            for i, g in ipairs{x.grad} do assert(helper.exact(g, all[i])) end
          end
          assert(raises("released", function() loss:backward() end))
          return all, more
        end
        local want, most = gradients{retain_graph = true}
        local got, more = gradients()
        for i, g in ipairs(got) do assert(helper.exact(g, want[i])) end
        local gates = 8 * 30 * 9 * 40 * GATES[kind]
        assert(more < most - gates, kind .. ": " .. more .. " bytes against " .. most)
      end
    end
  end)

  it("drops between layers, in training alone", function()
    local m = fill(nn.GRU(3, 50, {num_layers = 2, dropout = 0.5}))
    local x = wave(2, 4, 3)
    local plain = fill(nn.GRU(3, 50, {num_layers = 2}))(x)
    assert(same(mg.test_mode(m, x), plain))
    assert.is_false(mg.allclose(m(x), plain))
  end)

  it("has PyTorch's names, finds its inputs, says what it is", function()
    local names = {}
    for name in nn.LSTM(2, 3, {num_layers = 2, bidirectional = true}):named_parameters() do
      names[name] = true
    end
    for _, name in ipairs{"weight_ih_l0", "weight_hh_l1", "bias_ih_l0_reverse",
                          "bias_hh_l1_reverse"} do
      assert(names[name], name)
    end
    local late, state = nn.GRU(3), fill(nn.GRU(5, 3)):state()
    late:load_state(state)
    assert.equal(5, late.input_size)
    local x = wave(2, 1, 5)
    assert(same(late(x), fill(nn.GRU(5, 3))(x)))
    assert.equal("LSTM(?, 4, bidirectional)", tostring(nn.LSTM(4, {bidirectional = true})))
    assert.is_nil(nn.RNN(2, 3, {bias = false}).bias_ih_l0)
    local float = mg.using_config("dtype", "float32", nn.RNN, 2, 3)
    assert.equal("float32", float.weight_hh_l0.dtype)
    assert.equal("float32", float(mg.ones{1, 1, 2, dtype = "float32"}).dtype)
  end)

  it("refuses what does not fit", function()
    local m = nn.LSTM(3, 2)
    local x = mg.ones(4, 2, 3)
    assert(raises("LSTM: num_layers must be a number in 1..10000, got 9007199254740992", nn.LSTM,
      3, 2, {num_layers = 1 << 53}))
    assert(raises("LSTM: x (4): expected (T, N, I), or (T, I)", m, mg.ones(4)))
    assert(raises("LSTM: x has 5 features, expected 3", m, mg.ones(4, 2, 5)))
    assert(raises("LSTM: h is given, but no c", m, x, mg.zeros(1, 2, 2)))
    assert(raises("LSTM: h has shape (2, 2), expected (1, 2, 2)", m, x, mg.zeros(2, 2),
      mg.zeros(2, 2)))
    assert(raises("LSTM: lengths has shape (3), expected (2)", m, x, {lengths = {1, 2, 3}}))
    assert(raises("LSTM: length 5 at position 2 is not in 0..4", m, x, {lengths = {1, 5}}))
    assert(raises("LSTM: lengths must be int64, got bool", m, x,
      {lengths = mg.tensor{true, false}}))
    assert(raises("unknown option length", m, x, {length = {1, 5}}))
    assert(raises("GRU: unknown option nonlinearity", nn.GRU, 3, 2, {nonlinearity = "relu"}))
    assert(raises("RNNCell: h must be float, got bool", nn.RNNCell(3, 1), mg.ones(1, 3),
      mg.tensor{{true}}))
    assert(raises("RNNCell: x (1, 2, 3): expected (N, I) or (I)", nn.RNNCell(3, 2),
      mg.ones(1, 2, 3)))
    assert(near(m(x, {mg.zeros(1, 2, 2), mg.zeros(1, 2, 2)}), m(x)))
  end)
end)

describe("attention layers", function()
  helper.guard(before_each, after_each)

  it("MultiHeadAttention gives what PyTorch's gives, masks too", function()
    local m = fill(nn.MultiHeadAttention(4, 2))
    local x = mg.Variable(wave(3, 2, 4))
    local mask = mg.ones(3, 3):triu(1):gt(0)
    local padding = mg.tensor({{false, false, false}, {false, true, false}}, "bool")
    local y, w = m(x, x, x, {attn_mask = mask, key_padding_mask = padding, need_weights = true})
    assert(near(flat(y[{{}, 2}]), {-0.353061230234, 0.489977994664, -1.00650034649,
      0.00986439970407, -0.353061230234, 0.489977994664, -1.00650034649, 0.00986439970407,
      -0.328797039978, 0.496365521752, -1.04280147819, 0.0718843471809}, 1e-10))
    assert(near(flat(w[2]), {1, 0, 0, 1, 0, 0, 0.774535458649, 0, 0.225464541351}, 1e-10))
    y:sum():backward()
    assert(near(flat(x.grad[{{}, 2}]), {0.326382030817, 0.208148806687, -0.00798005364289,
      -0.220355770053, 0, 0, 0, 0, -0.00446384361385, 0.00297758136516, 0.00901860330214,
      0.0108180351866}, 1e-9, 1e-11))
    assert(near(m(x, {is_causal = true, key_padding_mask = padding}), y, 1e-12))
    local added = mg.where(mask, -math.huge, 0)
    assert(near(m(x, {attn_mask = added, key_padding_mask = padding}), y, 1e-12))
    assert(near(m(x, {attn_mask = mask, key_padding_mask = mg.where(padding, -math.huge, 0)}), y,
      1e-12))
    local all = mask:broadcast_to(4, 3, 3)
    assert(near(m(x, {attn_mask = all, key_padding_mask = padding}), y, 1e-12))
    local first = fill(nn.MultiHeadAttention(4, 2, {batch_first = true}))
    assert(near(first(x:swapaxes(1, 2), {is_causal = true, key_padding_mask = padding})
      :swapaxes(1, 2), y, 1e-12))
    assert(near(m(x[{{}, 2}], {is_causal = true, key_padding_mask = padding[2]}), y[{{}, 2}],
      1e-12))
  end)

  it("MultiHeadAttention gives the weights that made its result, dropped as they were", function()
    local m = nn.MultiHeadAttention(3, 1, {dropout = 0.5, batch_first = true, bias = false})
    m.in_proj_weight.data = mg.cat({mg.randn(6, 3), mg.eye(3)}, 1)
    m.out_proj.weight.data = mg.eye(3)
    local x = mg.randn(2, 4, 3)
    local y, w = m(x, nil, nil, {need_weights = true})
    assert(near(w:matmul(x), y, 1e-14))
    assert.is_true(w:eq(0):any():item() and w:sum(-1):sub(1):abs():max():item() > 0.1)
  end)

  it("MultiHeadAttention takes keys and values of other widths", function()
    local m = fill(nn.MultiHeadAttention(4, 2, {kdim = 3, vdim = 2, batch_first = true}))
    assert(near(flat(m(wave(1, 2, 4), wave(1, 3, 3), wave(1, 3, 2))), {-0.173635248981,
      0.342465096041, -0.9079464305, -0.0283421044795, -0.202732616205, 0.343203595936,
      -0.880240725475, -0.0812904728508}, 1e-10))
    local self = fill(nn.MultiHeadAttention(4, 2))
    local x, k = wave(3, 2, 4), wave(5, 2, 4)
    assert(near(self(x, k), self(x, k:clone(), k:clone()), 1e-13))
    assert(near(self(x), self(x, x:clone(), x:clone()), 1e-13))
  end)

  it("TransformerEncoderLayer gives what PyTorch's gives, the norm first or last", function()
    local want = {
      [false] = {{-0.3348222607, 0.866625617524, 0.340041346376, 0.105731231641, 0.333719686301,
                  -0.157456224175, 0.451294993854, 0.0422856364831},
                 {-0.503615997455, 0.0367007247226, 0.0227861721521, 0.437918547087,
                  0.0825105673981, -0.090063955663, 0.180892332496, 0.152891559606}},
      [true] = {{-0.529073784246, -0.223495564822, -1.56591556116, -1.51096689421, -1.16346477023,
                 0.591582098167, 0.197351348731, 0.172747235564},
                {0.586005522719, -0.218022284018, -0.911711574293, -0.862694349182,
                 -0.210695409926, 0.650367699003, 0.990198083019, 0.602236655331}},
    }
    for first, numbers in pairs(want) do
      local m = fill(nn.TransformerEncoderLayer(4, 2, {dim_feedforward = 3, dropout = 0,
        norm_first = first, activation = mg.gelu}))
      local x = mg.Variable(wave(2, 1, 4))
      local y = m(x)
      assert(near(flat(y), numbers[1], 1e-10))
      ;(y * wave(2, 1, 4)):sum():backward()
      assert(near(flat(x.grad), numbers[2], 1e-10))
    end
  end)

  it("TransformerEncoder is layers of the same start, each with its own parameters", function()
    local layer = nn.TransformerEncoderLayer(4, 2, {dim_feedforward = 3, dropout = 0})
    local m = nn.TransformerEncoder(layer, 2, {norm = nn.LayerNorm(4)})
    local x = wave(3, 2, 4)
    assert(near(m(x, {is_causal = true}),
      m.norm(layer(layer(x, {is_causal = true}), {is_causal = true})), 1e-13))
    assert.equal(2 * 12 + 2, #m:parameters())
    m(x):sum():backward()
    for name, p in m:named_parameters() do assert(p.grad, name) end
    assert.is_nil(layer.linear1.weight.grad)
  end)

  it("refuse what does not fit", function()
    local m = nn.MultiHeadAttention(4, 2)
    local x = mg.ones(3, 2, 4)
    assert(raises("embed_dim 5 is no multiple of num_heads 2", nn.MultiHeadAttention, 5, 2))
    assert(raises("query (3, 2, 5), key (3, 2, 5), value (3, 2, 5): expected (T, N, E), E = 4", m,
      mg.ones(3, 2, 5)))
    assert(raises("attn_mask (2, 2) is neither (3, 3) nor (4, 3, 3)", m, x,
      {attn_mask = mg.ones(2, 2)}))
    assert(raises("key_padding_mask (3, 2) is not (2, 3)", m, x,
      {key_padding_mask = mg.ones(3, 2)}))
  end)
end)

describe("activations as layers", function()
  helper.guard(before_each, after_each)

  it("are the ops of their names", function()
    local x = mg.tensor{{-2, -0.5, 0, 1}, {3, 7, -4, 0.25}}
    for name, op in pairs{ReLU = "relu", ReLU6 = "relu6", SELU = "selu", SiLU = "silu",
                          Mish = "mish", Hardswish = "hardswish", Sigmoid = "sigmoid",
                          LogSigmoid = "logsigmoid", Tanh = "tanh", LeakyReLU = "leaky_relu",
                          ELU = "elu", GELU = "gelu", Softplus = "softplus", Softmax = "softmax",
                          LogSoftmax = "log_softmax", GLU = "glu"} do
      assert(same(nn[name]()(x), mg[op](x)))
    end
    assert(same(nn.LeakyReLU(0.3)(x), mg.leaky_relu(x, 0.3)))
    assert(same(nn.ELU(2)(x), mg.elu(x, 2)))
    assert(same(nn.GELU{approximate = "tanh"}(x), mg.gelu(x, {approximate = "tanh"})))
    assert(same(nn.Softplus{beta = 2}(x), mg.softplus(x, {beta = 2})))
    assert(same(nn.Softmax(1)(x), mg.softmax(x, 1)))
    assert.equal(x, nn.Identity()(x))
    assert(raises("ReLU: argument 1, a bool", nn.ReLU, true))
  end)

  it("PReLU learns its slope", function()
    local p, x = nn.PReLU(), mg.tensor{-2, 3}
    assert(near(p(x), {-0.5, 3}))
    p(x):sum():backward()
    assert(near(p.weight.grad, {-2}))
    assert.same({2, 3, 4, 5}, nn.PReLU(3)(mg.ones(2, 3, 4, 5)).shape)
  end)
end)
