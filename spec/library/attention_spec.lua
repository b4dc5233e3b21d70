-- Attention against loops that do what it says: masks, grouped heads, what is masked stays unseen.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises
local differentiable = helper.differentiable
local huge, nan = math.huge, 0 / 0
local attention = mg.scaled_dot_product_attention

local randn = mg.randn

-- Of one head, plain tables: q (T, D), k (S, D), v (S, E); seen(i, j) is nil or what is added.
local function plain(q, k, v, scale, seen)
  local out = {}
  for i, qi in ipairs(q) do
    local weights, sum, row = {}, 0, {}
    for j, kj in ipairs(k) do
      local bias, dot = seen(i, j), 0
      for d, x in ipairs(qi) do dot = dot + x * kj[d] end
      weights[j] = bias and math.exp(dot * scale + bias)
      sum = sum + (weights[j] or 0)
    end
    for d = 1, #v[1] do
      row[d] = 0
      for j, w in pairs(weights) do row[d] = row[d] + w / sum * v[j][d] end
    end
    out[i] = row
  end
  return out
end

local function all() return 0 end
local function causal(i, j) return j <= i and 0 or nil end

describe("scaled_dot_product_attention", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(7) end)

  local function inputs(T, S, D, E)
    return randn(T, D), randn(S, D), randn(S, E)
  end

  local function agrees(T, S, D, E, options, seen, scale)
    local q, k, v = inputs(T, S, D, E)
    local want = plain(q:totable(), k:totable(), v:totable(), scale or D ^ -0.5, seen)
    assert(near(attention(q, k, v, options), want, 1e-12))
    local low = attention(q:to "float32", k:to "float32", v:to "float32", options)
    assert.equal("float32", low.dtype)
    assert(near(low, want, 1e-4, 1e-5))
  end

  it("is what loops give, of any lengths", function()
    for _, size in ipairs{{1, 1, 1, 1}, {5, 3, 4, 2}, {1, 7, 3, 3}, {70, 130, 8, 5},
                            {33, 64, 2, 9}} do
      local T, S, D, E = table.unpack(size)
      agrees(T, S, D, E, {}, all)
      agrees(T, S, D, E, {is_causal = true}, causal)
      agrees(T, S, D, E, {scale = 0.3}, all, 0.3)
      agrees(T, S, D, E, {scale = -2}, all, -2)
    end
  end)

  it("keeps where a bool mask is true, adds one of floats, both with is_causal", function()
    local T, S = 6, 9
    local bias = randn(T, S)
    local mask = bias:gt(-0.5)
    local first = mg.ones(T, S):triu():tril():gt(0)           -- no row is empty
    local kept, added = mask:totable(), bias:totable()
    agrees(T, S, 4, 3, {attn_mask = mask:logical_or(first)},
      function(i, j) return (kept[i][j] or i == j) and 0 or nil end)
    agrees(T, S, 4, 3, {attn_mask = bias}, function(i, j) return added[i][j] end)
    agrees(T, S, 4, 3, {attn_mask = bias, is_causal = true},
      function(i, j) return j <= i and added[i][j] or nil end)
    local hidden = mg.where(mask:logical_or(first), bias, -huge)
    agrees(T, S, 4, 3, {attn_mask = hidden},
      function(i, j) return (kept[i][j] or i == j) and added[i][j] or nil end)
    local row = mg.tensor({true, false, true, true, false, true, true, true, false}, "bool")
    local shown = row:totable()
    agrees(T, S, 4, 3, {attn_mask = row}, function(_, j) return shown[j] and 0 or nil end)
  end)

  it("broadcasts leading axes, masks too, and takes views", function()
    local q, k, v = randn(2, 3, 4, 5), randn(3, 6, 5), randn(2, 1, 6, 2)
    local mask = mg.rand(2, 1, 4, 6):gt(0.3)
    local y = attention(q, k, v, {attn_mask = mask})
    assert.same({2, 3, 4, 2}, y.shape)
    for b = 1, 2 do
      for h = 1, 3 do
        assert(near(y[{b, h}],
          attention(q[{b, h}], k[h], v[{b, 1}], {attn_mask = mask[{b, 1}]}), 1e-12))
      end
    end
    local turned = q:permute(1, 3, 2, 4):clone():permute(1, 3, 2, 4)
    assert(near(attention(turned, k, v, {attn_mask = mask}), y, 1e-14))
    local backward = k[{{}, {6, 1, -1}}]
    assert(near(attention(q, backward, v[{{}, {}, {6, 1, -1}}]), attention(q, k, v), 1e-12))
  end)

  it("lets several heads of q look at one of k and v", function()
    local q, k, v = randn(2, 6, 4, 3), randn(2, 2, 5, 3), randn(2, 2, 5, 2)
    for _, mask in ipairs{false, mg.rand(4, 5):gt(0.3), mg.rand(2, 6, 4, 5):gt(0.3),
                          mg.rand(2, 1, 1, 5):gt(0.2)} do
      local options = {enable_gqa = true, attn_mask = mask or nil}
      local y = attention(q, k, v, options)
      options.enable_gqa = false
      assert(near(y, attention(q, k:repeat_interleave(3, 2), v:repeat_interleave(3, 2), options),
        1e-13))
    end
    assert(differentiable(function(a, b, c)
      return attention(a, b, c, {enable_gqa = true, is_causal = true})
    end, {randn(4, 2, 2), randn(2, 3, 2), randn(2, 3, 1)}))
  end)

  it("is differentiable twice, whatever the mask", function()
    local q, k, v = randn(2, 3, 2), randn(2, 4, 2), randn(2, 4, 3)
    local mask = mg.tensor({{true, true, false, true}, {false, false, false, false},
      {false, true, false, false}}, "bool")
    for _, options in ipairs{{}, {is_causal = true}, {attn_mask = mask},
                             {attn_mask = mask, is_causal = true}, {scale = 0.7}} do
      assert(differentiable(function(a, b, c) return attention(a, b, c, options) end, {q, k, v}))
    end
    assert(differentiable(function(a, bias)
      return attention(a, k, v, {attn_mask = bias, is_causal = true})
    end, {q, randn(3, 4)}))
    assert(differentiable(function(a) return attention(a, a, a) end, {randn(3, 2)}))
  end)

  it("gives 0 for a row that sees nothing, and no gradient that is not a number", function()
    for _, mask in ipairs{mg.zeros{3, 4, dtype = "bool"}, mg.full({3, 4}, -huge)} do
      local q, k, v = mg.Variable(randn(3, 2)), mg.Variable(randn(4, 2)), mg.Variable(randn(4, 2))
      local y = attention(q, k, v, {attn_mask = mask})
      assert(exact(y, mg.zeros(3, 2)))
      y:sum():backward()
      for _, x in ipairs{q, k, v} do assert(exact(x.grad, mg.zeros_like(x))) end
    end
    assert(exact(attention(mg.ones(2, 3), mg.ones(0, 3), mg.ones(0, 2)), mg.zeros(2, 2)))
    assert.same({0, 2}, attention(mg.ones(0, 3), mg.ones(4, 3), mg.ones(4, 2)).shape)
    assert.same({0, 5, 2}, attention(mg.ones(0, 5, 3), mg.ones(4, 3), mg.ones(4, 2)).shape)
  end)

  -- Nobody sees key 2; query 3 sees nothing; query 1 does not see the keys behind it.
  it("lets nothing through from a masked place, be it nan", function()
    local mask = mg.tensor({{true, false, false, false}, {true, false, true, true},
      {false, false, false, false}, {true, false, true, true}}, "bool")
    local function run(at, value, options, create)
      mg.seed(1)
      local xs = {randn(4, 3), randn(4, 3), randn(4, 2)}
      local g = randn(4, 2)
      for _, where in ipairs(at) do
        if where[1] == 4 then g[where[2]] = value else xs[where[1]][where[2]] = value end
      end
      for i, x in ipairs(xs) do xs[i] = mg.Variable(x) end
      local y = attention(xs[1], xs[2], xs[3], options)
      local grads = mg.gradients((y * g):sum(), xs, {create_graph = create})
      return {y, table.unpack(grads)}
    end
    for _, create in ipairs{false, true} do
      local unseen = {{2, 2}, {3, 2}, {1, 3}}
      for _, options in ipairs{{attn_mask = mask},
                               {attn_mask = mg.where(mask, 0.25, -huge)}} do
        local want = run(unseen, 0, options, create)
        for _, value in ipairs{nan, huge, -huge} do
          local got = run(unseen, value, options, create)
          for k = 1, 4 do assert(near(got[k], want[k], 1e-12)) end
        end
        local got = run({{4, 3}}, nan, options, create)
        for k = 2, 4 do assert(near(got[k], run({{4, 3}}, 0, options, create)[k], 1e-12)) end
      end
      local want = run({{2, 4}, {3, 4}}, 0, {is_causal = true}, create)
      local got = run({{2, 4}, {3, 4}}, nan, {is_causal = true}, create)
      assert(near(got[1][{{1, 3}}], want[1][{{1, 3}}], 1e-12))
      assert(got[1][4]:isnan():all():item())
      got = run({{3, 4}}, nan, {is_causal = true}, create)
      assert(near(got[1][{{1, 3}}], want[1][{{1, 3}}], 1e-12))
      got = run({{3, 4}}, nan, {}, create)                     -- seen by all
      assert(got[1]:isnan():all():item())
    end
  end)

  -- Lengths past one block of queries and one tile of keys
  it("is the same for any number of threads, and as when it is composed of ops", function()
    for _, case in ipairs{{1, 200, 300, 8, 5}, {3, 70, 70, 4, 4}, {1, 1, 600, 3, 2}} do
      local n, T, S, D, E = table.unpack(case)
      local xs = {randn(n, T, D), randn(n, S, D), randn(n, S, E)}
      local mask = mg.rand(T, S):gt(0.1)
      local function run(options, create)
        local leaves = {}
        for i, x in ipairs(xs) do leaves[i] = mg.Variable(x) end
        mg.seed(5)
        local y = attention(leaves[1], leaves[2], leaves[3], options)
        local g = mg.gradients((y * mg.range(1, y.size):sin():reshape(y.shape)):sum(), leaves,
          {create_graph = create})
        return {y, table.unpack(g)}
      end
      for _, options in ipairs{{}, {is_causal = true}, {attn_mask = mask}, {dropout_p = 0.2},
                               {attn_mask = mask, is_causal = true, dropout_p = 0.1}} do
        local threads = mg.num_threads()
        finally(function() mg.set_num_threads(threads) end)
        mg.set_num_threads(1)
        local want = run(options)
        for _, t in ipairs{2, 3} do
          mg.set_num_threads(t)
          local got = run(options)
          for k = 1, 4 do assert(same(got[k], want[k])) end
        end
        local ops = run(options, true)
        for k = 2, 4 do assert(near(ops[k], want[k], 1e-10, 1e-11)) end
      end
    end
  end)

  it("takes memory that grows with the lengths, not with their product", function()
    local function peak(T)
      local xs = {}
      for i = 1, 3 do xs[i] = mg.Variable(mg.randn{T, 4, dtype = "float32"}) end
      mg.reset_peak()
      local before = mg.memory().live
      attention(xs[1], xs[2], xs[3], {is_causal = true}):sum():backward()
      return mg.memory().peak - before
    end
    peak(1000)
    local small, large = peak(1000), peak(4000)
    assert(large < 5 * small, large .. " bytes against " .. small)
    assert(large < 4000 * 4000 * 4 / 10)
  end)

  it("reads one row of a gradient whose rows are all the same", function()
    local shape = {2, 3, 300, 5}
    local function grads(g)
      mg.seed(3)
      local q, k, v = mg.Variable(randn(2, 3, 300, 4)), mg.Variable(randn(2, 3, 70, 4)),
        mg.Variable(randn(2, 3, 70, 5))
      local y = attention(q, k, v)
      y.grad = g
      y:backward()
      return {q.grad, k.grad, v.grad}
    end
    for _, dims in ipairs{{}, {5}, {1, 1, 1, 5}, {2, 3, 1, 5}, {2, 3, 1, 1}, {2, 1, 300, 1}} do
      local g = randn(dims):broadcast_to(shape)
      for i, x in ipairs(grads(g + 0)) do assert(exact(grads(g)[i], x)) end
    end
    local ones = grads(mg.tensor{1}:repeat_interleave(mg.ones(shape).size):reshape(shape))
    for i, x in ipairs(grads()) do assert(exact(x, ones[i])) end
  end)

  it("takes no memory for ones that backward begins with", function()
    local q, k, v = mg.Variable(randn(8, 1024, 64)), mg.Variable(randn(8, 16, 64)),
      mg.Variable(randn(8, 16, 64))
    local y = attention(q, k, v)
    local size = 8 * y.size
    helper.settle()
    mg.reset_peak()
    local before = mg.memory().live
    y:backward()
    assert.is_true(mg.memory().peak - before < 1.7 * size)
  end)

  it("drops weights in training alone, and scales the others", function()
    local q, k, v = randn(3, 64, 8), randn(3, 64, 8), mg.eye(64)
    local w = attention(q, k, v)
    local y = attention(q, k, v, {dropout_p = 0.25})
    local kept = y:ne(0)
    assert(near(mg.where(kept, y, w), mg.where(kept, w / 0.75, w), 1e-12))
    assert(near(kept:mean():item(), 0.75, 0, 0.02))
    assert(same(mg.test_mode(attention, q, k, v, {dropout_p = 0.25}), w))
    assert(exact(attention(q, k, v, {dropout_p = 1}), mg.zeros_like(w)))
    assert(differentiable(function(a, b, c)
      mg.seed(3)
      return attention(a, b, c, {dropout_p = 0.5})
    end, {randn(3, 2), randn(3, 2), randn(3, 2)}))
  end)

  it("refuses what does not fit", function()
    local x = mg.ones(2, 3, 4)
    local name = "scaled_dot_product_attention: "
    assert(raises(name .. "q (2, 3, 4), k (2, 3, 5), v (2, 3, 4): the last axes of q and k differ",
      attention, x, mg.ones(2, 3, 5), x))
    assert(raises(name .. "q (2, 3, 4), k (2, 3, 4), v (2, 2, 4): k and v differ in length",
      attention, x, x, mg.ones(2, 2, 4)))
    assert(raises(name .. "q (4), k (2, 3, 4), v (2, 3, 4): expected (..., T, D)",
      attention, mg.ones(4), x, x))
    assert(raises(name .. "q (3, 3, 4), k (2, 3, 4), v (2, 3, 4): the leading axes do not " ..
      "broadcast", attention, mg.ones(3, 3, 4), x, x))
    assert(raises("the heads of q are no multiple of those of k and v",
      attention, mg.ones(3, 3, 4), x, x, {enable_gqa = true}))
    for _, shape in ipairs{{3, 4}, {3, 3, 3}, {1, 2, 3, 3}} do
      assert(raises(("%sattn_mask (%s) does not fit (2, 3, 3)"):format(name,
        table.concat(shape, ", ")), attention, x, x, x, {attn_mask = mg.ones(shape)}))
    end
    assert(raises(name .. "attn_mask is int64, expected bool or float",
      attention, x, x, x, {attn_mask = mg.ones{3, 3, dtype = "int64"}}))
    assert(raises("unknown option causal", attention, x, x, x, {causal = true}))
  end)
end)
