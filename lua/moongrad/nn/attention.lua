-- Attention as a layer, with PyTorch's parameter names and its masks: here, unlike in
-- mg.scaled_dot_product_attention, a bool mask hides where it is true.
--
-- Vaswani et al., "Attention is all you need", 2017.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local Module, Parameter = module.Module, module.Parameter
local times = require "moongrad.nn.kinds".times
local options_of = require "moongrad.nn.describe"
local checked, raise = mg.checked, mg.raise

local layers = {}

local function text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

-- Glorot and Bengio 2010, as PyTorch's
local function xavier(rows, columns, dtype)
  local bound = math.sqrt(6 / (rows + columns))
  return Parameter((2 * mg.rand{rows, columns, dtype = dtype} - 1) * bound)
end

-- ---- MultiHeadAttention -----------------------------------------------------------------------

local MultiHeadAttention = Module:extend "MultiHeadAttention"
layers.MultiHeadAttention = MultiHeadAttention

MultiHeadAttention.init = checked(
  "MultiHeadAttention(self, embed_dim: int(1..), num_heads: int(1..), " ..
  "{dropout: number(0..1) = 0, bias: bool = true, kdim: int(1..)?, vdim: int(1..)?, " ..
  "batch_first: bool = false})",
  "attention of several heads: query (T, N, E), key (S, N, kdim), value (S, N, vdim) give " ..
  "(T, N, E)",
  function(self, width, heads, dropout, bias, kdim, vdim, batch_first)
    if width % heads ~= 0 then
      raise("MultiHeadAttention: embed_dim %d is no multiple of num_heads %d", width, heads)
    end
    local dtype = mg.Config.dtype
    self.embed_dim, self.num_heads, self.dropout = width, heads, dropout
    self.batch_first, self.dtype = batch_first, dtype
    kdim, vdim = kdim or width, vdim or width
    if kdim == width and vdim == width then
      self.in_proj_weight = xavier(times(3, width), width, dtype)
    else
      self.q_proj_weight = xavier(width, width, dtype)
      self.k_proj_weight = xavier(width, kdim, dtype)
      self.v_proj_weight = xavier(width, vdim, dtype)
    end
    if bias then self.in_proj_bias = Parameter(mg.zeros{3 * width, dtype = dtype}) end
    self.out_proj = mg.nn.Linear(width, width, {bias = bias})
    if bias then self.out_proj.bias = Parameter(mg.zeros{width, dtype = dtype}) end
  end)

function MultiHeadAttention:_describe()
  local K, V = self.k_proj_weight, self.v_proj_weight
  return options_of(self.embed_dim .. ", " .. self.num_heads, "dropout", self.dropout, 0,
    "bias", self.in_proj_bias ~= nil, true, "kdim", K and K.shape[2], self.embed_dim,
    "vdim", V and V.shape[2], self.embed_dim, "batch_first", self.batch_first, false)
end

-- Part k of a (3 E) axis, or of a matrix with so many rows
local function third(x, k, width)
  local range = {(k - 1) * width + 1, k * width}
  return x and x[{range}]
end

-- The three projections of what they are projected from, (..., E) each
local function projected(self, q, k, v)
  local width, W, b = self.embed_dim, self.in_proj_weight, self.in_proj_bias
  if W and q == k and k == v then
    local all = mg.linear(q, W, b)
    return all[{{}, {}, {1, width}}], all[{{}, {}, {width + 1, 2 * width}}],
      all[{{}, {}, {2 * width + 1, 3 * width}}]
  end
  local Wq, Wk, Wv = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
  if W then Wq, Wk, Wv = third(W, 1, width), third(W, 2, width), third(W, 3, width) end
  return mg.linear(q, Wq, third(b, 1, width)), mg.linear(k, Wk, third(b, 2, width)),
    mg.linear(v, Wv, third(b, 3, width))
end

-- What mg.scaled_dot_product_attention wants: true keeps, or what is added
local function joint_mask(self, mask, padding, n, T, S)
  local heads = self.num_heads
  for name, m in pairs{attn_mask = mask, key_padding_mask = padding} do
    if m.dtype ~= "bool" and not m.dtype:find "^float" then
      raise("MultiHeadAttention: %s is %s, expected bool or floats", name, m.dtype)
    end
  end
  if mask then
    local s = mask.shape
    local whole = #s == 3 and s[1] == n * heads and s[2] == T and s[3] == S
    if not whole and not (#s == 2 and s[1] == T and s[2] == S) then
      raise("MultiHeadAttention: attn_mask %s is neither %s nor %s", text(s), text{T, S},
        text{n * heads, T, S})
    end
    if whole then mask = mask:reshape(n, heads, T, S) end
    if mask.dtype == "bool" then mask = mask:logical_not() end
  end
  if not padding then return mask end
  if padding.ndim ~= 2 or padding.shape[1] ~= n or padding.shape[2] ~= S then
    raise("MultiHeadAttention: key_padding_mask %s is not %s", text(padding.shape), text{n, S})
  end
  padding = padding:reshape(n, 1, 1, S)
  if padding.dtype ~= "bool" then
    if mask and mask.dtype == "bool" then mask = mg.where(mask, 0, -math.huge) end
    return mask and mask + padding or padding
  end
  if not mask then return padding:logical_not() end
  if mask.dtype == "bool" then return mask:logical_and(padding:logical_not()) end
  return mg.where(padding, -math.huge, mask)
end

-- (T, N, E) or (N, T, E) as (N, heads, T, E / heads), and back
local function apart(self, x)
  local s = x.shape
  x = x:reshape(s[1], s[2], self.num_heads, s[3] // self.num_heads)
  if self.batch_first then return x:permute(1, 3, 2, 4) end
  return x:permute(2, 3, 1, 4)
end

local function together(self, y)
  y = self.batch_first and y:permute(1, 3, 2, 4) or y:permute(3, 1, 2, 4)
  local s = y.shape
  return y:reshape(s[1], s[2], s[3] * s[4])
end

MultiHeadAttention.forward = checked(
  "MultiHeadAttention(self, query: float, key: float?, value: float?, " ..
  "{attn_mask: array?, key_padding_mask: array?, is_causal: bool = false, " ..
  "need_weights: bool = false})",
  "key: the query, if nothing is said; value: the key. Bool masks hide where true, floats are " ..
  "added; need_weights: (N, T, S) second, of all heads the mean",
  function(self, query, key, value, mask, padding, causal, need_weights)
    local q, k = query, key or query
    local v = value or k
    local single = q.ndim == 2
    if single then
      local axis = self.batch_first and 1 or 2
      local same_k, same_v = k == q, v == k
      q = q:unsqueeze(axis)
      k = same_k and q or k:unsqueeze(axis)
      v = same_v and k or v:unsqueeze(axis)
      padding = padding and padding:unsqueeze(1)
    end
    local a, b, c = q.shape, k.shape, v.shape
    local form = self.batch_first and "(N, T, E)" or "(T, N, E)"
    local n = self.batch_first and a[1] or a[2]
    if #a ~= 3 or #b ~= 3 or #c ~= 3 or a[3] ~= self.embed_dim then
      raise("MultiHeadAttention: query %s, key %s, value %s: expected %s, E = %d", text(a),
        text(b), text(c), form, self.embed_dim)
    elseif n ~= b[self.batch_first and 1 or 2] or n ~= c[self.batch_first and 1 or 2] then
      raise("MultiHeadAttention: query %s, key %s, value %s: expected %s with one N", text(a),
        text(b), text(c), form)
    end
    local T, S = self.batch_first and a[2] or a[1], self.batch_first and b[2] or b[1]
    q, k, v = projected(self, q, k, v)
    q, k, v = apart(self, q), apart(self, k), apart(self, v)
    local options = {attn_mask = joint_mask(self, mask, padding, n, T, S), is_causal = causal,
                     dropout_p = self.dropout}
    local width, w = v.shape[4], nil
    if need_weights then     -- beside v each key's own column, so that the same are dropped of both
      local each = mg.eye(S, {dtype = v.dtype}):broadcast_to{n, self.num_heads, S, S}
      v = mg.cat({v, each}, 4)
    end
    local y = mg.scaled_dot_product_attention(q, k, v, options)
    if need_weights then
      y, w = y[{{}, {}, {}, {1, width}}], y[{{}, {}, {}, {width + 1, -1}}]:mean(2)
      if single then w = w:squeeze(1) end
    end
    y = self.out_proj(together(self, y))
    if single then y = y:squeeze(self.batch_first and 1 or 2) end
    if not need_weights then return y end
    return y, w
  end)

return layers
