-- Encoders and decoders of attention, with PyTorch's parameter names and masks (attention.lua).
--
-- Vaswani et al., "Attention is all you need", 2017; norm_first: Xiong et al., arXiv 2002.04745.

local mg = require "moongrad"
local Module = require "moongrad.nn.module".Module
local MultiHeadAttention = require "moongrad.nn.attention".MultiHeadAttention
local options = require "moongrad.nn.describe"
local checked = mg.checked

local layers = {}

local function layer(name)
  layers[name] = Module:extend(name)
  return layers[name]
end

local SIZES = "d_model: int(1..), nhead: int(1..), "
local OPTIONS = "dim_feedforward: int(1..) = 2048, dropout: number(0..1) = 0.1, " ..
  "activation: module | function?, layer_norm_eps: number(0..) = 1e-5, " ..
  "batch_first: bool = false, " ..
  "norm_first: bool = false, bias: bool = true})"

-- ---- one layer --------------------------------------------------------------------------------

-- The two Linear layers and so many norms; three: of a decoder, which attends to the memory too.
local function prepare(self, norms, width, heads, hidden, dropout, activation, eps, batch_first,
                       norm_first, bias)
  local nn = mg.nn
  local function attention()
    return MultiHeadAttention(width, heads,
      {dropout = dropout, batch_first = batch_first, bias = bias})
  end
  self.self_attn = attention()
  if norms == 3 then self.multihead_attn = attention() end
  self.linear1 = nn.Linear(width, hidden, {bias = bias})
  self.linear2 = nn.Linear(hidden, width, {bias = bias})
  for i = 1, norms do self["norm" .. i] = nn.LayerNorm(width, {eps = eps, bias = bias}) end
  self.dropout, self.activation, self.norm_first = dropout, activation or mg.relu, norm_first
end

local function feed(self, x)
  x = mg.dropout(self.activation(self.linear1(x)), self.dropout)
  return mg.dropout(self.linear2(x), self.dropout)
end

local function attend(self, part, x, memory, mask, padding, causal)
  return mg.dropout(self[part](x, memory, memory, {attn_mask = mask, key_padding_mask = padding,
    is_causal = causal}), self.dropout)
end

-- x and what fn makes of it, normalized before or after
local function added(self, norm, x, fn)
  if self.norm_first then return x + fn(self[norm](x)) end
  return self[norm](x + fn(x))
end

local TransformerEncoderLayer = layer "TransformerEncoderLayer"

TransformerEncoderLayer.init = checked("TransformerEncoderLayer(self, " .. SIZES .. "{" .. OPTIONS,
  "attention, then two Linear layers with the activation (mg.relu) between, each added to x " ..
  "(T, N, d_model) and normalised, or with norm_first added after being given x normalised",
  function(self, ...) prepare(self, 2, ...) end)

TransformerEncoderLayer.forward = checked(
  "TransformerEncoderLayer(self, src: float, src_mask: array?, src_key_padding_mask: array?, " ..
  "{is_causal: bool = false})",
  "masks as those of MultiHeadAttention", function(self, x, mask, padding, causal)
    x = added(self, "norm1", x, function(v)
      return attend(self, "self_attn", v, nil, mask, padding, causal)
    end)
    return added(self, "norm2", x, function(v) return feed(self, v) end)
  end)

local TransformerDecoderLayer = layer "TransformerDecoderLayer"

TransformerDecoderLayer.init = checked("TransformerDecoderLayer(self, " .. SIZES .. "{" .. OPTIONS,
  "attention to the target, attention of it to the memory (what an encoder gave), then two " ..
  "Linear layers with the activation (mg.relu) between; each added and normalised as in " ..
  "TransformerEncoderLayer",
  function(self, ...) prepare(self, 3, ...) end)

local DECODER = "tgt: float, memory: float, {tgt_mask: array?, memory_mask: array?, " ..
  "tgt_key_padding_mask: array?, memory_key_padding_mask: array?, tgt_is_causal: bool = false, " ..
  "memory_is_causal: bool = false})"

TransformerDecoderLayer.forward = checked("TransformerDecoderLayer(self, " .. DECODER,
  "tgt (T, N, d_model), memory (S, N, d_model); masks as those of MultiHeadAttention",
  function(self, x, memory, mask, memory_mask, padding, memory_padding, causal, memory_causal)
    x = added(self, "norm1", x, function(v)
      return attend(self, "self_attn", v, nil, mask, padding, causal)
    end)
    x = added(self, "norm2", x, function(v)
      return attend(self, "multihead_attn", v, memory, memory_mask, memory_padding, memory_causal)
    end)
    return added(self, "norm3", x, function(v) return feed(self, v) end)
  end)

for _, class in ipairs{TransformerEncoderLayer, TransformerDecoderLayer} do
  function class:_describe()
    return options("", "dropout", self.dropout, 0.1, "norm_first", self.norm_first, false)
  end
end

-- ---- stacks -----------------------------------------------------------------------------------

local function stack(self, one, n, norm)
  self.layers = {}
  for i = 1, n do self.layers[i] = one:clone() end
  self.norm = norm
end

local TransformerEncoder = layer "TransformerEncoder"

TransformerEncoder.init = checked(
  "TransformerEncoder(self, encoder_layer: module, num_layers: int(1..10000), {norm: module?})",
  "so many copies of a layer, equal to begin with, one after the other, then the norm", stack)

TransformerEncoder.forward = checked(
  "TransformerEncoder(self, src: float, mask: array?, src_key_padding_mask: array?, " ..
  "{is_causal: bool = false})",
  "masks as those of MultiHeadAttention", function(self, x, mask, padding, causal)
    for _, one in ipairs(self.layers) do x = one(x, mask, padding, {is_causal = causal}) end
    return self.norm and self.norm(x) or x
  end)

local TransformerDecoder = layer "TransformerDecoder"

TransformerDecoder.init = checked(
  "TransformerDecoder(self, decoder_layer: module, num_layers: int(1..10000), {norm: module?})",
  "so many copies of a layer, equal to begin with, one after the other, then the norm", stack)

TransformerDecoder.forward = checked("TransformerDecoder(self, " .. DECODER,
  "as TransformerDecoderLayer",
  function(self, x, memory, mask, memory_mask, padding, memory_padding, causal, memory_causal)
    for _, one in ipairs(self.layers) do
      x = one(x, memory, {tgt_mask = mask, memory_mask = memory_mask,
        tgt_key_padding_mask = padding, memory_key_padding_mask = memory_padding,
        tgt_is_causal = causal, memory_is_causal = memory_causal})
    end
    return self.norm and self.norm(x) or x
  end)

local Transformer = layer "Transformer"

-- All matrices by Glorot and Bengio 2010, the layers each of their own.
Transformer.init = checked(
  "Transformer(self, d_model: int(1..) = 512, nhead: int(1..) = 8, " ..
  "{num_encoder_layers: int(1..10000) = 6, num_decoder_layers: int(1..10000) = 6, " .. OPTIONS,
  "an encoder of src (S, N, d_model) and a decoder of tgt (T, N, d_model), each with a norm " ..
  "behind it: what comes out (T, N, d_model)",
  function(self, width, heads, encoders, decoders, hidden, dropout, activation, eps, batch_first,
           norm_first, bias)
    local nn = mg.nn
    local given = {dim_feedforward = hidden, dropout = dropout, activation = activation,
      layer_norm_eps = eps, batch_first = batch_first, norm_first = norm_first, bias = bias}
    local function norm() return nn.LayerNorm(width, {eps = eps, bias = bias}) end
    self.encoder = TransformerEncoder(TransformerEncoderLayer(width, heads, given), encoders,
      {norm = norm()})
    self.decoder = TransformerDecoder(TransformerDecoderLayer(width, heads, given), decoders,
      {norm = norm()})
    for _, p in self:named_parameters() do
      if p.ndim > 1 then nn.init.xavier_uniform(p) end
    end
  end)

Transformer.forward = checked(
  "Transformer(self, src: float, tgt: float, {src_mask: array?, tgt_mask: array?, " ..
  "memory_mask: array?, src_key_padding_mask: array?, tgt_key_padding_mask: array?, " ..
  "memory_key_padding_mask: array?, src_is_causal: bool = false, tgt_is_causal: bool = false, " ..
  "memory_is_causal: bool = false})",
  "masks as those of MultiHeadAttention; tgt_is_causal: no element sees those behind it",
  function(self, src, tgt, src_mask, tgt_mask, memory_mask, src_padding, tgt_padding,
           memory_padding, src_causal, tgt_causal, memory_causal)
    local memory = self.encoder(src, src_mask, src_padding, {is_causal = src_causal})
    return self.decoder(tgt, memory, {tgt_mask = tgt_mask, memory_mask = memory_mask,
      tgt_key_padding_mask = tgt_padding, memory_key_padding_mask = memory_padding,
      tgt_is_causal = tgt_causal, memory_is_causal = memory_causal})
  end)

return layers
