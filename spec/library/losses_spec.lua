-- Distances, and losses by margins, of distributions and of sequences: PyTorch's numbers, their
-- derivatives, and what they refuse.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises, differentiable = helper.near, helper.raises, helper.differentiable

-- What was given to PyTorch: sines and cosines
local function sines(...) return (mg.range(1, mg.ones(...).size) * 1.3):sin():reshape(...) end
local function cosines(...) return (mg.range(1, mg.ones(...).size) * 0.7):cos():reshape(...) end

local PYTORCH = {
  cosine_similarity = {0.966580479210262, -0.710814419339753, -0.194192403573643},
  cosine_similarity0 = {-0.115682300213955, -0.0775613693134006, 0.801368586176511,
    0.0833860660737175},
  pairwise = {0.442488619778, 2.47610886091613, 2.07441567320259},
  pairwise1 = {0.785939966586549, 4.3763611826166, 3.55601784647199},
  normalize = {{0.615883842112347, 0.329496412667727, -0.439604033263107, -0.564683540580777},
    {0.159000165798012, 0.738046514795511, 0.235852990558505, -0.611865717391499},
    {-0.577245535220537, 0.318300224799585, 0.747535409790202, 0.0816294681489734}},
  normalize1 = {{0.496510111425178, 0.266517546876314, -0.344980724460031, -0.485672218497138},
    {0.11084877994059, 0.516253374687579, 0.160058448278265, -0.455091062306697},
    {-0.392641108634232, 0.217229078436108, 0.494960827261704, 0.059236719196165}},
  margin_ranking = 0.549368611842584,
  hinge = -0.00869976034404183,
  soft_margin = 0.858277400240681,
  cosine_embedding = 0.409203974787915,
  triplet = 1.53409064875626,
  triplet_swap = 8.93308693595942,
  multi_margin = 0.818531319366148,
  multi_margin2 = 3.69737787072237,
  multilabel = 2.21818837259056,
  poisson = 1.80093847266525,
  poisson_full = 3.437525933262,
  gaussian = 2.48218900875757,
  gaussian1 = 0.361429344023765,
  ctc = {5.65622745511068, 4.7382311071264},
  ctc_mean = 3.78317241734087,
  ctc0 = {math.huge, 2.28285510470037},
}

local a, b = sines(3, 4), cosines(3, 4)
local c = a * b + 0.3
local signs = mg.tensor{{1, -1, 1, 1}, {1, -1, 1, 1}, {1, -1, 1, 1}}
local labels = mg.tensor({1, 4, 2}, "int64")
local counts = mg.tensor{{0, 1, 2, 5}, {0, 1, 2, 5}, {0, 1, 2, 5}}
local ways = (sines(4, 2, 5) * 2):log_softmax()
local int = function(t) return mg.tensor(t, "int64") end
local sum, none = {reduction = "sum"}, {reduction = "none"}

describe("distances", function()
  helper.guard(before_each, after_each)

  it("are PyTorch's", function()
    assert(near(mg.cosine_similarity(a, b), PYTORCH.cosine_similarity, 1e-13))
    assert(near(a:cosine_similarity(b, {axis = 1}), PYTORCH.cosine_similarity0, 1e-13))
    assert(near(mg.pairwise_distance(a, b), PYTORCH.pairwise, 1e-13))
    assert(near(mg.pairwise_distance(a, b, {p = 1}), PYTORCH.pairwise1, 1e-13))
    assert(near(mg.normalize(a), PYTORCH.normalize, 1e-13))
    assert(near(mg.normalize(a, {p = 1, axis = 1}), PYTORCH.normalize1, 1e-13))
  end)

  it("broadcast, and take the only axis there is", function()
    local all = mg.cosine_similarity(a:unsqueeze(2), b, {axis = -1})
    assert.same({3, 3}, all.shape)
    assert(near(all:diagonal(), PYTORCH.cosine_similarity, 1e-13))
    assert(near(mg.cosine_similarity(b[2], a, {axis = -1})[2], PYTORCH.cosine_similarity[2]))
    local one = a[{ {}, {2, 2} }]                    -- stands for all along the axis, in norms, too
    local wide = one:expand(3, 4)
    for axis = 1, 2 do
      local row, opts = a[{ {2, 2} }], {axis = axis}
      assert(near(mg.cosine_similarity(one, b, opts), mg.cosine_similarity(wide, b, opts)))
      assert(near(mg.cosine_similarity(b, row, opts),
        mg.cosine_similarity(b, row:expand(3, 4), opts)))
      assert(near(mg.cosine_similarity(one, row, opts),
        mg.cosine_similarity(wide, row:expand(3, 4), opts)))
    end
    assert(near(mg.cosine_similarity({{1, 2}, {2, 1}}, {3}), {0.9 ^ 0.5, 0.9 ^ 0.5}))
    assert(near(mg.cosine_similarity(mg.ones(2, 0), mg.ones(2, 1)), {0, 0}))
    assert(near(mg.normalize{3, 4}, {0.6, 0.8}))
    assert(near(mg.cosine_similarity({1, 0}, {1, 1}), 0.5 ^ 0.5))
    assert(near(mg.pairwise_distance({0, 0}, {3, 4}, {eps = 0, keepdims = true}), {5}))
  end)

  it("neither overflow nor have a gradient where all is 0", function()
    assert(near(mg.cosine_similarity({1e200, 1e200}, {1e-200, 0}, {eps = 0}), 0.5 ^ 0.5))
    local x = mg.Variable{{0, 0}, {3, 4}}
    local y = mg.normalize(x)
    assert(near(y, {{0, 0}, {0.6, 0.8}}))
    y[1]:sum():backward()
    assert(near(x.grad, {{1e12, 1e12}, {0, 0}}))
    x = mg.Variable{{0, 0}}
    mg.pairwise_distance(x, x:detach(), {eps = 0}):backward()
    assert(near(x.grad, {{0, 0}}))
  end)

  it("have their derivatives", function()
    assert(differentiable(mg.cosine_similarity, {a, b}))
    assert(differentiable(mg.cosine_similarity, {a, b[{ {}, {1, 1} }]}))
    assert(differentiable(mg.pairwise_distance, {a, b}))
    assert(differentiable(function(x) return x:normalize{p = 3, axis = 1} end, {a}))
  end)

  it("refuse what does not fit", function()
    assert(raises("cosine_similarity: x (3, 4) and y (5) do not broadcast", mg.cosine_similarity,
      a, mg.ones(5)))
    assert(raises("normalize: axis 3 is out of range for 2 axes", mg.normalize, a, {axis = 3}))
    assert(raises("pairwise_distance: (3, 4) and (2, 4) do not broadcast", mg.pairwise_distance, a,
      mg.ones(2, 4)))
  end)
end)

describe("losses by margins", function()
  helper.guard(before_each, after_each)

  it("are PyTorch's", function()
    local function is(name, loss) assert(near(loss, PYTORCH[name], 1e-13)) end
    is("margin_ranking", mg.margin_ranking_loss(a, b, signs, {margin = 0.2}))
    is("hinge", mg.hinge_embedding_loss(a, signs, {margin = 0.7}))
    is("soft_margin", mg.soft_margin_loss(a, signs))
    is("cosine_embedding", mg.cosine_embedding_loss(a, b, {1, -1, 1}, {margin = -0.5}))
    is("triplet", mg.triplet_margin_loss(a, b, c))
    is("triplet_swap", mg.triplet_margin_loss(a, b, c,
      {margin = 2, swap = true, p = 1, reduction = "sum"}))
    is("multi_margin", mg.multi_margin_loss(a, labels))
    is("multi_margin2", mg.multi_margin_loss(a, labels,
      {p = 2, margin = 0.5, weight = {1, 2, 3, 4}}))
    is("multilabel", mg.multilabel_soft_margin_loss(a, signs:gt(0):to "float64",
      {weight = {1, 2, 3, 4}}))
  end)

  it("are reduced as is said", function()
    for _, of in ipairs{
      function(how) return mg.margin_ranking_loss(a, b, signs, how) end,
      function(how) return mg.hinge_embedding_loss(a, signs, how) end,
      function(how) return mg.soft_margin_loss(a, signs, how) end,
      function(how) return mg.cosine_embedding_loss(a, b, {1, -1, 1}, how) end,
      function(how) return mg.triplet_margin_loss(a, b, c, how) end,
      function(how) return mg.multi_margin_loss(a, labels, how) end,
      function(how) return mg.multilabel_soft_margin_loss(a, counts:gt(1), how) end,
      function(how) return mg.poisson_nll_loss(a, counts, how) end,
      function(how) return mg.gaussian_nll_loss(a, b, {1, 2, 3}, how) end,
      function(how) return mg.ctc_loss(ways, int{{2, 2}, {3, 5}}, {4, 3}, {2, 2}, how) end,
    } do
      local each = of(none)
      assert.is_true(each.size == 12 or each.size == 3 or each.size == 2)
      assert(near(of(sum), each:sum()))
      if each.size ~= 2 then assert(near(of(), each:mean())) end
    end
  end)

  it("have their derivatives", function()
    for _, f in ipairs{
      function(x, y) return mg.margin_ranking_loss(x, y, signs, {margin = 0.2}) end,
      function(x) return mg.hinge_embedding_loss(x, signs, {margin = 0.7}) end,
      function(x) return mg.soft_margin_loss(x, signs) end,
      function(x, y) return mg.cosine_embedding_loss(x, y, {1, -1, 1}, {margin = -0.5}) end,
      function(x, y) return mg.triplet_margin_loss(x, y, c, {margin = 2, swap = true}) end,
      function(x) return mg.multi_margin_loss(x, labels, {p = 2}) end,
      function(x) return mg.multilabel_soft_margin_loss(x, counts:gt(1)) end,
    } do
      assert(differentiable(f, {a, b}))
    end
  end)

  it("refuse what does not fit", function()
    assert(raises("margin_ranking_loss: a (3, 4) and b (4) have different shapes",
      mg.margin_ranking_loss, a, b[1], signs))
    assert(raises("soft_margin_loss: y must be 1 or -1 everywhere", mg.soft_margin_loss, a, counts))
    assert(raises("multi_margin_loss: label 5 at position 2 is not in 1..4", mg.multi_margin_loss,
      a, int{1, 5, 1}))
    assert(raises("multi_margin_loss: labels (2) do not fit x (3, 4)", mg.multi_margin_loss, a,
      int{1, 1}))
    assert(raises("cosine_embedding_loss: the cosine of a and b (3) and y (2) have different",
      mg.cosine_embedding_loss, a, b, {1, 1}))
  end)
end)

describe("losses by distributions", function()
  helper.guard(before_each, after_each)

  it("of float32 beside whole numbers are float32", function()
    local x, whole = mg.rand{3, dtype = "float32"}, mg.tensor({1, 0, 2}, "int64")
    assert.equal("float32", mg.poisson_nll_loss(x, whole, {full = true}).dtype)
    assert.equal("float32", mg.gaussian_nll_loss(x, whole, whole).dtype)
    assert.equal("float32", mg.kl_div(x, whole).dtype)
    assert.equal("float32", mg.kl_div(x, whole, {log_target = true}).dtype)
    assert.equal("float32", mg.poisson_nll_loss(whole, x, {full = true}).dtype)
    assert.equal("float32", mg.gaussian_nll_loss(whole, x, whole).dtype)
    assert.equal("float32", mg.kl_div(whole, x).dtype)
    local sure = mg.tensor({1, 0, 1}, "int64")
    assert.equal("float32", mg.binary_cross_entropy(sure, x).dtype)
    assert.equal("float32", mg.binary_cross_entropy_with_logits(whole, x).dtype)
    assert.equal("float32", mg.binary_cross_entropy_with_logits(whole, x, {pos_weight = x}).dtype)
    assert.equal("float32", mg.hinge_embedding_loss(whole, mg.ones_like(x)).dtype)
  end)

  it("are PyTorch's", function()
    assert(near(mg.poisson_nll_loss(a, counts), PYTORCH.poisson, 1e-13))
    assert(near(mg.poisson_nll_loss(a:abs(), counts, {log_input = false, full = true}),
      PYTORCH.poisson_full, 1e-13))
    assert(near(mg.gaussian_nll_loss(a, b, b * b, {full = true}), PYTORCH.gaussian, 1e-13))
    for _, var in ipairs{mg.tensor{0.5, 1, 2}, mg.tensor{{0.5}, {1}, {2}}} do
      assert(near(mg.gaussian_nll_loss(a, b, var), PYTORCH.gaussian1, 1e-13))
    end
  end)

  it("have their derivatives, below eps too", function()
    assert(differentiable(function(x) return mg.poisson_nll_loss(x, counts) end, {a}))
    assert(differentiable(function(x, v) return mg.gaussian_nll_loss(x, b, v:square() + 0.1) end,
      {a, c}))
    local v = mg.Variable{1e-9}
    mg.gaussian_nll_loss({1}, {1}, v):backward()
    assert(near(v.grad, {0.5e6}))
    assert(raises("gaussian_nll_loss: var is negative", mg.gaussian_nll_loss, {1}, {1}, {-1}))
    assert(raises("gaussian_nll_loss: var (2) does not fit x (3, 4)", mg.gaussian_nll_loss, a, b,
      {1, 2}))
  end)
end)

describe("ctc_loss", function()
  helper.guard(before_each, after_each)

  -- Of all ways through T steps those that become these labels, one by one
  local function by_counting(x, wanted)
    local rows, total = x:totable(), 0
    local function walk(t, last, found, log_p)
      if t > #rows then
        if found == #wanted then total = total + math.exp(log_p) end
        return
      end
      for k, v in ipairs(rows[t]) do
        local new = k ~= 1 and k ~= last
        if not new or wanted[found + 1] == k then
          walk(t + 1, k, new and found + 1 or found, log_p + v)
        end
      end
    end
    walk(1, nil, 0, 0)
    return -math.log(total)
  end

  it("counts all ways, as PyTorch does", function()
    local each = mg.ctc_loss(ways, int{{2, 2}, {3, 5}}, {4, 3}, {2, 1}, none)
    assert(near(each, PYTORCH.ctc, 1e-13))
    assert(near(each[1], by_counting(ways[{ {}, 1 }], {2, 2})))
    assert(near(each[2], by_counting(ways[{ {1, 3}, 2 }], {3})))
    assert(near(mg.ctc_loss(ways, int{2, 2, 3}, {4, 3}, {2, 1}), PYTORCH.ctc_mean, 1e-13))
    assert(near(mg.ctc_loss(ways[{ {}, 1 }], int{2, 2}, {4}, {2}, none), PYTORCH.ctc[1], 1e-13))
  end)

  it("of labels that do not fit is infinite, or 0, with gradient 0; of none all blank", function()
    local function of(options)
      return mg.ctc_loss(ways, int{{2, 2}, {2, 2}}, {2, 3}, {2, 0}, options)
    end
    assert(near(of(none), PYTORCH.ctc0, 1e-13))
    assert(near(of{reduction = "none", zero_infinity = true}, {0, PYTORCH.ctc0[2]}, 1e-13))
    local x = mg.Variable(ways)
    mg.ctc_loss(x, int{{2, 2}, {2, 2}}, {2, 3}, {2, 0}, {reduction = "sum"}):backward()
    assert(near(x.grad[{ {}, 1 }], mg.zeros(4, 5)))
    assert(near(mg.ctc_loss(ways, mg.zeros{2, 0, dtype = "int64"}, {2, 3}, {0, 0}, none)[2],
      PYTORCH.ctc0[2], 1e-13))
  end)

  it("has its derivatives", function()
    assert(differentiable(function(x)
      return mg.ctc_loss(x:log_softmax(), int{{2, 2}, {3, 5}}, {4, 3}, {2, 2}, none)
    end, {sines(4, 2, 5)}))
  end)

  it("takes another blank", function()
    local turned = mg.cat({ways[{ {}, {}, {2, 5} }], ways[{ {}, {}, {1, 1} }]}, 3)
    assert(near(mg.ctc_loss(turned, int{{1, 1}, {2, 4}}, {4, 3}, {2, 1}, {blank = 5}),
      PYTORCH.ctc_mean, 1e-13))
  end)

  it("refuses what does not fit", function()
    assert(raises("ctc_loss: label 1 of sequence 2 is the blank or not in 1..5", mg.ctc_loss, ways,
      int{{2, 2}, {1, 2}}, {4, 4}, {2, 1}))
    assert(raises("ctc_loss: input_lengths: 5 at position 1 is not in 0..4", mg.ctc_loss, ways,
      int{{2}, {2}}, {5, 4}, {1, 1}))
    assert(raises("ctc_loss: target_lengths add up to 2, labels are 3", mg.ctc_loss, ways,
      int{2, 2, 2}, {4, 4}, {1, 1}))
    assert(raises("ctc_loss: target_lengths has 1 numbers, expected 2", mg.ctc_loss, ways,
      int{{2}, {2}}, {4, 4}, {1}))
    assert(raises("ctc_loss: input_lengths must be int64, got bool", mg.ctc_loss, ways,
      int{{2}, {2}}, {true, true}, {1, 1}))
  end)
end)
