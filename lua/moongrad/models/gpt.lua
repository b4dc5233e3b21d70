-- A transformer that predicts the next token, its parameters named as in nanoGPT.
--
-- Radford et al., "Language models are unsupervised multitask learners", 2019.

local mg = require "moongrad"
local nn = mg.nn
local field = require "moongrad.field"
local times = require "moongrad.nn.kinds".times
local Module, checked, raise = nn.Module, mg.checked, mg.raise

local Attention = Module:extend "Attention"

function Attention:init(config)
  self.heads, self.dropout = config.n_head, config.dropout
  self.c_attn = nn.Linear(config.n_embd, times(3, config.n_embd), {bias = config.bias})
  self.c_proj = nn.Linear(config.n_embd, config.n_embd, {bias = config.bias})
end

-- Keys or values that were kept, and those of x behind them
local function behind(past, x)
  local rows, heads, _, width = table.unpack(past.shape)
  local n, h, _, w = table.unpack(x.shape)
  if past.dtype ~= x.dtype or rows ~= n or heads ~= h or width ~= w then
    raise("cache is of %d rows, %d heads, %d wide, %s; here are %d, %d, %d, %s", rows, heads, width,
      past.dtype, n, h, w, x.dtype)
  end
  return mg.cat({past, x}, 3)
end

-- past: keys and values (N, H, T, D) of what came before; those of x are added.
function Attention:forward(x, past)
  local n, T, width = table.unpack(x.shape)
  local all = self.c_attn(x)
  local function part(k)
    return all[{{}, {}, {(k - 1) * width + 1, k * width}}]
      :reshape(n, T, self.heads, width // self.heads):swapaxes(2, 3)
  end
  local q, k, v = part(1), part(2), part(3)
  local options = {is_causal = true, dropout_p = self.dropout}
  if past then
    local before = past.k and past.k.shape[3] or 0
    if before > 0 then k, v = behind(past.k, k), behind(past.v, v) end
    past.k, past.v = k, v
    if before > 0 then -- query i stands at before + i
      options.is_causal = false
      options.attn_mask = T > 1 and mg.ones{T, before + T, dtype = "bool"}:tril(before) or nil
    end
  end
  local y = mg.scaled_dot_product_attention(q, k, v, options)
  return mg.dropout(self.c_proj(y:swapaxes(2, 3):reshape(n, T, width)), self.dropout)
end

local MLP = Module:extend "MLP"

function MLP:init(config)
  self.dropout = config.dropout
  local inner = times(4, config.n_embd)
  self.c_fc = nn.Linear(config.n_embd, inner, {bias = config.bias})
  self.c_proj = nn.Linear(inner, config.n_embd, {bias = config.bias})
end

function MLP:forward(x)
  return mg.dropout(self.c_proj(mg.gelu(self.c_fc(x))), self.dropout)
end

local Block = Module:extend "Block"

function Block:init(config)
  self.ln_1 = nn.LayerNorm(config.n_embd, {bias = config.bias})
  self.attn = Attention(config)
  self.ln_2 = nn.LayerNorm(config.n_embd, {bias = config.bias})
  self.mlp = MLP(config)
end

function Block:forward(x, past)
  x = x + self.attn(self.ln_1(x), past)
  return x + self.mlp(self.ln_2(x))
end

local GPT = Module:extend "GPT"

GPT.init = checked("GPT(self, vocab_size: int(1..), {block_size: int(1..) = 64, " ..
  "n_layer: int(1..10000) = 4, n_head: int(1..) = 4, n_embd: int(1..) = 128, " ..
  "dropout: number(0..1) = 0, bias: bool = true})",
  "tokens (N, T) in 1..vocab_size give logits (N, T, vocab_size) of the next one; T up to " ..
  "block_size; the last layer's weight is the embedding's",
  function(self, vocabulary, length, layers, heads, width, dropout, bias)
    if width % heads ~= 0 then
      raise("GPT: n_embd %d is no multiple of n_head %d", width, heads)
    end
    local config = {n_head = heads, n_embd = width, dropout = dropout, bias = bias}
    self.vocab_size, self.block_size, self.dropout = vocabulary, length, dropout
    local h = {}
    for i = 1, layers do h[i] = Block(config) end
    self.transformer = {wte = nn.Embedding(vocabulary, width), wpe = nn.Embedding(length, width),
                        h = h, ln_f = nn.LayerNorm(width, {bias = bias})}
    for name, p in self:named_parameters() do
      local residual = name:find "c_proj%.weight$"
      if name:find "bias$" then nn.init.zeros(p)
      elseif p.ndim == 2 then
        nn.init.normal(p, 0, residual and 0.02 / math.sqrt(2 * layers) or 0.02)
      end
    end
    self.lm_head = nn.Linear(width, vocabulary, {bias = false})
    self.lm_head.weight = self.transformer.wte.weight
  end)

-- It is empty, or what calls have left there.
local function check_cache(cache, n)
  if next(cache) == nil then return end
  local ok = math.type(cache.length) == "integer" and #cache == n
  for i = 1, n do
    local past = cache[i]
    ok = ok and type(past) == "table" and mg.is_variable(past.k) and mg.is_variable(past.v)
  end
  if not ok then
    raise "GPT: cache must be an empty table, or one that earlier calls were given"
  end
end

GPT.forward = checked("GPT(self, tokens: int64 | uint8, {cache: table?})",
  "logits of the next token at each place; cache: an empty table, that keeps what later calls " ..
  "with it go on from",
  function(self, tokens, cache)
    if tokens.ndim ~= 2 then raise("GPT: tokens must be (N, T), got %s", tokens.shape) end
    if cache then check_cache(cache, #self.transformer.h) end
    local t = self.transformer
    local T, before = tokens.shape[2], cache and cache.length or 0
    if before + T > self.block_size then
      raise("GPT: %d tokens, expected at most block_size, %d", before + T, self.block_size)
    end
    local x = t.wte(tokens) + t.wpe(mg.range(before + 1, before + T, {dtype = "int64"}))
    x = mg.dropout(x, self.dropout)
    local kept = {}
    for i, block in ipairs(t.h) do
      local past = cache and cache[i] or {}
      kept[i] = cache and {k = past.k, v = past.v}
      x = block(x, kept[i])
    end
    x = self.lm_head(t.ln_f(x))
    if cache then
      local fields = {n = 3, cache, "length", before + T}
      for i, past in ipairs(kept) do field(fields, cache, i, past) end
      mg._commit({}, {}, fields)
    end
    return x
  end)

-- One of logits (N, V) each: the largest, with noise that makes it a sample (Gumbel 1954)
local function drawn(logits, temperature, k)
  local most = logits:amax(2, {keepdims = true})
  if not most:isfinite():all():item() then
    raise "generate: the model gives logits that are not finite"
  end
  if temperature == 0 then return logits:argmax(2) end
  -- none is above 0, then: however low the temperature, the largest stays that and finite
  logits = (logits - most) / math.max(temperature, 1e-30)
  if k and k < logits.shape[2] then
    local least = logits:topk(k)[{{}, {k, k}}]
    logits = mg.where(logits:lt(least), -math.huge, logits)
  end
  local u = mg.rand_like(logits):clamp{min = 0x1p-54} -- of 0 the likeliest would be as the others
  return (logits - (-u:log()):log()):argmax(2)
end

GPT.generate = checked("generate(self, tokens: int64 | uint8, n: int(0..), " ..
  "{temperature: number(0..inf) = 1, top_k: int(1..)?})",
  "tokens (N, T) or (T) with n more behind, drawn one by one; temperature 0: the likeliest",
  mg._drawing(function(self, tokens, n, temperature, top_k)
    if temperature == 0 and top_k then
      raise("generate: top_k is of no use at temperature 0, which takes the likeliest")
    end
    local single = tokens.ndim == 1
    if single then tokens = tokens:unsqueeze(1) end
    if tokens.ndim ~= 2 or tokens.shape[2] == 0 then
      raise("generate: tokens must be (N, T) or (T), of one token or more, got %s", tokens.shape)
    end
    tokens = tokens:to "int64"
    return mg.no_grad(mg.test_mode, function()
      local cache, new = {}, tokens
      for _ = 1, n do
        local T = tokens.shape[2]
        if T > self.block_size then -- places move: nothing kept is of use
          cache, new = nil, tokens[{{}, {T - self.block_size + 1, T}}]
        end
        local logits = self(new, {cache = cache})
        new = drawn(logits[{{}, -1}], temperature, top_k):unsqueeze(2)
        tokens = mg.cat({tokens, new}, 2)
        mg.eval(tokens)
      end
      return single and tokens:squeeze(1) or tokens
    end)
  end))

return {GPT = GPT}
