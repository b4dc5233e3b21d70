-- Encoders and decoders of attention: PyTorch's outputs and gradients from the same weights.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises = helper.near, helper.raises
local nn = mg.nn

-- Of nn.Transformer(8, 2, 2, 2, 16, dropout = 0, batch_first, gelu), by norm_first
local PYTORCH = {
  [false] = { y = {-0.46816326837, 0.6435640338138, 0.3117163710248, -0.4565866190231,
  0.634095922404, 0.31221423064, -0.4567304606503, 0.631302588481, 0.3120020338186}, src =
  {-2.576773081315e-05, -5.53676661084e-05, -2.274595636053e-05, 0.0, 0.0}, tgt =
  {0.01086318646724, -0.00058530978865, -0.0001422913209835}, weights = {-0.03728429669601,
  0.07121441860857, 0.005677854968763, 0.008232691631105, 5.20417042793e-18,
  -4.336808689942e-18, 0.4064250292657, -0.8331604605316, 0.06605580804265, 0.09661423056569,
  5.551115123126e-17, -5.551115123126e-17, -0.0006427834689234, -0.001292905266647,
  -0.001517663557558, -0.0004871361691072}}, [true] = { y = {-0.1098187913955,
  0.8452928022267, 0.358834195773, -0.3857803680525, 0.8039743880949, 0.337162840977,
  -0.1855706924879, 0.5421748957647, 0.3582885989988}, src = {0.001291420870735,
  -0.001742879983763, 0.001037719977437, 0.0, 0.0}, tgt = {0.003027858740983,
  -0.03398806451143, -0.09108514364882}, weights = {-0.6785375609116, -0.05403538302212,
  -0.2174103715319, 0.03693125900257, -1.110223024625e-16, 8.153200337091e-17,
  -0.3250447812051, -0.3743221469366, 0.1973235411169, -0.04155375173842, -1.110223024625e-16,
  -1.405126015541e-16, 0.0713616046725, 0.003759005872287, 0.06215647417309,
  -0.001653287412556}}, decoder = {-0.5496180238307, 0.3585192552822, -0.5320959433374,
  -0.5388415818246, -0.2743118765105, 0.7503728070988, 0.3315353218592, -0.2161909291008}
}

local function sines(...) return (mg.range(1, mg.ones(...).size) * 1.3):sin():reshape(...) end

-- Weights that PyTorch was given too, by the order of their names
local function fill(model)
  local list = {}
  for name, p in model:named_parameters() do list[#list + 1] = {name, p} end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  for i, entry in ipairs(list) do
    local p = entry[2]
    p.data = ((mg.range(1, p.size) * 1.3 + (i - 1)):sin() * 0.4):reshape(p.shape)
  end
  return list
end

describe("a Transformer", function()
  helper.guard(before_each, after_each)

  it("is PyTorch's, with masks of what pads and what comes later", function()
    for _, norm_first in ipairs{false, true} do
      local want = PYTORCH[norm_first]
      local model = nn.Transformer(8, 2, {num_encoder_layers = 2, num_decoder_layers = 2,
        dim_feedforward = 16, dropout = 0, batch_first = true, norm_first = norm_first,
        activation = mg.gelu})
      local list = fill(model)
      local src, tgt = mg.Variable(sines(2, 5, 8)), mg.Variable(sines(2, 3, 8) * 0.7)
      local pads = mg.tensor{{false, false, false, false, false}, {false, false, false, true, true}}
      local y = model(src, tgt, {tgt_is_causal = true, src_key_padding_mask = pads,
        memory_key_padding_mask = pads})
      assert(near(y[{2, {}, {1, 3}}]:flatten(), want.y, 1e-11))
      local later = mg.ones(3, 3):triu(1):to "bool"
      assert(near(model(src, tgt, {tgt_mask = later, src_key_padding_mask = pads,
        memory_key_padding_mask = pads}), y, 1e-12))
      local loss = (y * mg.range(1, y.size):sin():reshape(y.shape)):sum()
      loss:backward()
      assert(near(src.grad[{2, {}, 1}], want.src, 1e-10))
      assert(near(tgt.grad[{1, {}, 1}], want.tgt, 1e-10))
      local sums = {}
      for _, entry in ipairs(list) do
        if entry[1]:find "multihead" or entry[1]:find "linear1" then
          sums[#sums + 1] = entry[2].grad:sum():item()
        end
      end
      assert(near(sums, want.weights, 1e-10))
    end
  end)

  it("decodes with PyTorch's names, steps first", function()
    local layer = nn.TransformerDecoderLayer(8, 2, {dim_feedforward = 16, dropout = 0})
    fill(layer)
    assert(near(layer(sines(3, 2, 8), sines(4, 2, 8) * 0.5)[{2, 2}], PYTORCH.decoder, 1e-11))
    local names = {}
    for name in nn.Transformer(8, 2, {num_encoder_layers = 1, num_decoder_layers = 1})
      :named_parameters() do names[name] = true end
    for _, name in ipairs{"encoder.layers.0.self_attn.in_proj_weight", "encoder.norm.weight",
        "decoder.layers.0.multihead_attn.out_proj.bias", "decoder.layers.0.norm3.bias"} do
      assert.is_true(names[name], name)
    end
  end)

  it("has copies of a layer that share nothing, frozen ones too", function()
    local layer = nn.TransformerDecoderLayer(8, 2, {dim_feedforward = 16})
    layer.linear1:freeze()
    local stack = nn.TransformerDecoder(layer, 2)
    local one, two = stack.layers[1].linear1.weight, stack.layers[2].linear1.weight
    assert(near(one, two))
    assert.is_false(one == two)
    assert.equal(2 * #layer:parameters(), #stack:parameters())
    assert.is_false(one.requires_grad)
  end)

  it("prints what its layers are made with", function()
    local text = tostring(nn.Transformer(8, 2, {num_encoder_layers = 1, num_decoder_layers = 1,
      dim_feedforward = 16, dropout = 0, norm_first = true}))
    local options = "(dropout = 0, norm_first = true)"
    for _, line in ipairs{"encoder.layers.0: TransformerEncoderLayer" .. options,
        "decoder.layers.0: TransformerDecoderLayer" .. options,
        "decoder.layers.0.multihead_attn: MultiHeadAttention(8, 2)",
        "decoder.layers.0.linear1: Linear(8, 16)", "decoder.norm: LayerNorm(8)"} do
      assert(text:find("\n  " .. line .. "\n", 1, true), text)
    end
  end)

  it("drops in training alone", function()
    local model = nn.Transformer(8, 2, {num_encoder_layers = 1, num_decoder_layers = 1,
      dim_feedforward = 16, dropout = 0.5})
    local src, tgt = sines(5, 2, 8), sines(3, 2, 8)
    local a, b = mg.test_mode(model, src, tgt), mg.test_mode(model, src, tgt)
    assert(near(a, b))
    assert.is_false(mg.allclose(model(src, tgt), a))
  end)

  it("tells what does not fit, and where", function()
    local net = nn.Transformer(8, 2, {num_encoder_layers = 1, num_decoder_layers = 1})
    assert(raises("query (5, 2, 6), key (5, 2, 6), value (5, 2, 6): expected (T, N, E), E = 8; " ..
      "in net.encoder.layers[1].self_attn (MultiHeadAttention)", function()
        net(mg.ones(5, 2, 6), mg.ones(3, 2, 8))
      end))
  end)
end)
