-- Smaller ops written with others: activations, borders, sums, products, draws. PyTorch's numbers.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, raises, differentiable = helper.near, helper.raises, helper.differentiable

-- What was given to PyTorch: sines and cosines
local function sines(...) return (mg.range(1, mg.ones(...).size) * 1.3):sin():reshape(...) end
local function cosines(...) return (mg.range(1, mg.ones(...).size) * 0.7):cos():reshape(...) end

local exact, huge, nan = helper.exact, math.huge, 0 / 0

local PYTORCH = {
  celu = {2.89067455625158, 1.54650411546439, -0.663273040326034, -0.684123403665254},
  hardsigmoid = {1.0, 0.84366758121431, 0.0414892272106839, 0.0},
  hardtanh = {1.5, 1.03100274364293, -0.5, -0.5},
  hardshrink = {0.963558185417193, 0.515501371821464, -0.687766159183974, -0.883454655720153},
  softshrink = {0.663558185417193, 0.215501371821464, -0.387766159183974, -0.583454655720153},
  pad_reflect = {{-0.687766159183974, 0.515501371821464, 0.963558185417193, 0.515501371821464,
    -0.687766159183974, -0.883454655720153, -0.687766159183974}, {0.319098362349352,
    0.998543345374605, 0.215119988087816, 0.998543345374605, 0.319098362349352,
    -0.827826469085654, 0.319098362349352}, {0.986771964274613, 0.420167036826641,
    -0.761983583919032, 0.420167036826641, 0.986771964274613, 0.107753652299442,
    0.986771964274613}},
  pad_replicate = {{0.963558185417193, 0.963558185417193, 0.963558185417193, 0.515501371821464,
    -0.687766159183974, -0.883454655720153, -0.883454655720153}, {0.215119988087816,
    0.215119988087816, 0.215119988087816, 0.998543345374605, 0.319098362349352,
    -0.827826469085654, -0.827826469085654}, {-0.761983583919032, -0.761983583919032,
    -0.761983583919032, 0.420167036826641, 0.986771964274613, 0.107753652299442,
    0.107753652299442}},
  pad_circular = {{-0.687766159183974, -0.883454655720153, 0.963558185417193, 0.515501371821464,
    -0.687766159183974, -0.883454655720153, 0.963558185417193}, {0.319098362349352,
    -0.827826469085654, 0.215119988087816, 0.998543345374605, 0.319098362349352,
    -0.827826469085654, 0.215119988087816}, {0.986771964274613, 0.107753652299442,
    -0.761983583919032, 0.420167036826641, 0.986771964274613, 0.107753652299442,
    -0.761983583919032}},
  pad2 = {{0.420167036826641, -0.761983583919032, 0.420167036826641, 0.986771964274613,
    0.107753652299442, 0.986771964274613, 0.420167036826641, -0.761983583919032},
    {0.998543345374605, 0.215119988087816, 0.998543345374605, 0.319098362349352,
    -0.827826469085654, 0.319098362349352, 0.998543345374605, 0.215119988087816},
    {0.515501371821464, 0.963558185417193, 0.515501371821464, -0.687766159183974,
    -0.883454655720153, -0.687766159183974, 0.515501371821464, 0.963558185417193},
    {0.998543345374605, 0.215119988087816, 0.998543345374605, 0.319098362349352,
    -0.827826469085654, 0.319098362349352, 0.998543345374605, 0.215119988087816},
    {0.420167036826641, -0.761983583919032, 0.420167036826641, 0.986771964274613,
    0.107753652299442, 0.986771964274613, 0.420167036826641, -0.761983583919032},
    {0.998543345374605, 0.215119988087816, 0.998543345374605, 0.319098362349352,
    -0.827826469085654, 0.319098362349352, 0.998543345374605, 0.215119988087816}},
  mexp = {{-0.436578808489711, 3.03104759873218, 3.05818217282218}, {-0.471519692983595,
    -4.036447190724, -2.22296775491293}, {2.12116156289638, 4.28119182955702, 1.16926603615094}},
  mexp_small = {{1.09750902876974, 0.0574431476570214, -0.0667770793482126}, {-0.0918865087153228,
    1.01522132915221, 0.100029884151974}, {0.0358977412235037, -0.0795424567459282,
    0.921547230765581}},
  cov = {{0.815192345037651, 0.416718370722265, -0.424713337196626}, {0.416718370722265,
    0.568750810389939, 0.116220102244307}, {-0.424713337196626, 0.116220102244307,
    0.533615448080011}},
  corrcoef = {{1.0, 0.61200023059046, -0.643949271087079}, {0.61200023059046, 1.0,
    0.21096287821871}, {-0.643949271087079, 0.21096287821871, 1.0}},
  trapz = {-0.218345416195245, 1.67010932108702, 1.78329353584209},
  tensordot = {{3.46261559711216, 3.57842141747014}, {-3.25757898930256, -3.65560439568065}},
  cross = {{-0.143351210419976, -0.0395839770673457, -0.230503964978582}, {0.829627691279038,
    -1.3739730532686, 1.03000787896804}},
  bilinear = {{4.18669187309069, -1.19548677746618}, {3.23919419683785, -0.499333489993242}},
}

local a = sines(3, 4)

describe("activations of few", function()
  helper.guard(before_each, after_each)

  it("are PyTorch's", function()
    local x = a[1]
    assert(near(mg.celu(x * 3, 0.7), PYTORCH.celu, 1e-14))
    assert(near(mg.hardsigmoid(x * 4), PYTORCH.hardsigmoid, 1e-14))
    assert(near(mg.hardtanh(x * 2, {min = -0.5, max = 1.5}), PYTORCH.hardtanh, 1e-14))
    assert(near(mg.hardshrink(x), PYTORCH.hardshrink, 1e-14))
    assert(near(mg.softshrink(x, 0.3), PYTORCH.softshrink, 1e-14))
    assert(near(mg.softmin(x), mg.softmax(-x)))
  end)

  it("stay what they are far out, and are 0 beyond their bounds", function()
    local far = mg.tensor{-huge, huge, nan}
    assert(exact(mg.celu(far), {-1, huge, nan}))
    assert(exact(mg.hardtanh(far), {-1, 1, nan}))
    assert(exact(mg.hardshrink(far), far))
    assert(exact(mg.softshrink(far), far))
    assert(exact(mg.hardsigmoid(far), {0, 1, nan}))
    local sixth = 1 / 6
    for name, want in pairs{hardtanh = {0, 0, 1, 0, 0},
                            hardsigmoid = {sixth, sixth, sixth, sixth, sixth},
                            hardshrink = {1, 1, 0, 1, 1}, softshrink = {1, 1, 0, 1, 1},
                            celu = {math.exp(-2), math.exp(-1), 1, 1, 1}} do
      local x = mg.Variable{-2, -1, 0, 1, 2}
      mg[name](x):sum():backward()
      assert(near(x.grad, want))
    end
  end)

  it("have their derivatives, prelu of its weight too", function()
    local x = mg.tensor{{-4, -2.2, -1.3}, {-0.4, 0.6, 1.7}}
    for _, f in ipairs{mg.celu, mg.hardsigmoid, mg.hardtanh, mg.hardshrink, mg.softshrink} do
      assert(differentiable(f, {x}))
    end
    assert(differentiable(mg.prelu, {x, mg.tensor{0.1, -0.2, 0.3}}))
    assert(differentiable(mg.prelu, {x:reshape(1, 2, 3), mg.tensor{0.1, -0.2}}))
    assert(raises("prelu: W (4) does not fit x (2, 3)", mg.prelu, x, mg.ones(4)))
    assert(raises("hardtanh: min must be below max", mg.hardtanh, x, {min = 1}))
  end)
end)

describe("borders and shapes", function()
  helper.guard(before_each, after_each)

  it("pad by what is there, as PyTorch", function()
    local x = sines(1, 3, 4)
    for _, mode in ipairs{"reflect", "replicate", "circular"} do
      assert(near(x:pad({2, 1}, {mode = mode})[1], PYTORCH["pad_" .. mode]))
    end
    assert(near(x:pad({1, 3, 2, 1}, {mode = "reflect"})[1], PYTORCH.pad2))
    assert(near(x:pad({-1, 2}, {mode = "replicate"}), x[{ {}, {}, {2, 4} }]:pad({0, 2},
      {mode = "replicate"})))
    for _, mode in ipairs{"reflect", "replicate", "circular"} do
      assert(differentiable(function(v) return v:pad({2, 1, 1, 0}, {mode = mode}) end, {x[1]}))
    end
    assert(raises("pad: reflect of 4 and 0 is more than axis 3 of shape (1, 3, 4) has", x.pad, x,
      {4, 0}, {mode = "reflect"}))
    assert(raises("pad: value 1 is of no use to circular", x.pad, x, {1, 0},
      {mode = "circular", value = 1}))
  end)

  it("unflatten an axis", function()
    local x = mg.range(1, 12):reshape(2, 6)
    assert(near(x:unflatten(2, {-1, 2}), x:reshape(2, 3, 2)))
    assert(near(x:unflatten(-1, {3, 2}), x:reshape(2, 3, 2)))
    assert(raises("unflatten: axis 2 of (2, 6) has 6 elements, which dims (4, -1) do not make",
      x.unflatten, x, 2, {4, -1}))
    assert(raises("unflatten: dims (-1, -1): only one can be -1", x.unflatten, x, 2, {-1, -1}))
  end)

  it("diag_embed is what diagonal takes back", function()
    local x = sines(2, 3)
    for k = -2, 2 do
      local y = x:diag_embed{offset = k}
      assert.same({2, 3 + math.abs(k), 3 + math.abs(k)}, y.shape)
      assert(near(y:diagonal{offset = k, axis1 = 2, axis2 = 3}, x))
      assert(near(y:sum(), x:sum()))
      assert(differentiable(function(v) return v:diag_embed{offset = k}:square() end, {x}))
    end
    assert(near(mg.diag_embed{huge, 1}, {{huge, 0}, {0, 1}}))
  end)
end)

describe("sums and products", function()
  helper.guard(before_each, after_each)

  it("are PyTorch's", function()
    assert(near(mg.cov(a), PYTORCH.cov, 1e-13))
    assert(near(mg.corrcoef(a), PYTORCH.corrcoef, 1e-13))
    assert(near(mg.trapezoid(a, {0, 1, 3, 4}), PYTORCH.trapz, 1e-13))
    assert(near(mg.tensordot(sines(2, 3, 4), cosines(4, 3, 2), {{2, 3}, {2, 1}}),
      PYTORCH.tensordot, 1e-13))
    assert(near(mg.cross(sines(2, 3), cosines(2, 3)), PYTORCH.cross, 1e-13))
    assert(near(mg.bilinear(sines(2, 3), cosines(2, 4), sines(2, 3, 4), mg.tensor{1, 2}),
      PYTORCH.bilinear, 1e-13))
    assert(near(mg.matrix_exp(sines(3, 3) * 4), PYTORCH.mexp, 1e-12))
    assert(near(mg.matrix_exp(sines(3, 3) * 0.1), PYTORCH.mexp_small, 1e-14))
  end)

  it("have their derivatives", function()
    local b = cosines(2, 3)
    for _, f in ipairs{mg.cov, mg.corrcoef, mg.trapezoid, mg.nansum, mg.nanmean,
                       function(v) return v:diff{n = 2} end} do
      assert(differentiable(f, {a}))
    end
    assert(differentiable(mg.cross, {sines(2, 3), b}))
    assert(differentiable(mg.trapezoid, {sines(3), mg.tensor{0, 1, 3}}))
    assert(differentiable(mg.matrix_exp, {sines(2, 3, 3) * 3}, 1e-6))
    assert(differentiable(mg.bilinear, {sines(2, 3), cosines(2, 4), sines(2, 3, 4), mg.ones(2)}))
    assert(differentiable(function(v, w) return mg.tensordot(v, w, 1) end, {sines(2, 3), b.T}))
  end)

  it("matrix_exp of far and near zero is exact, of a batch each its own", function()
    assert(near(mg.matrix_exp(mg.zeros(2, 2)), mg.eye(2)))
    assert(near(mg.matrix_exp{{0, 1}, {0, 0}}, {{1, 1}, {0, 1}}))
    assert(near(mg.matrix_exp{{-200, 0}, {0, 3}}, {{math.exp(-200), 0}, {0, math.exp(3)}}, 1e-12))
    local x = sines(2, 3, 3)
    assert(near(mg.matrix_exp(x)[2], mg.matrix_exp(x[2]), 1e-13))
    assert(near(mg.matrix_exp{{nan}}, {{nan}}))
    x = mg.Variable(mg.cat{x, mg.full({1, 3, 3}, nan), mg.eye(3):unsqueeze(1) * 600, x * 30})
    local y = mg.matrix_exp(x)
    for i = 1, #x do
      assert(near(y[i], mg.matrix_exp(x[i]), 1e-13))
    end
    local g = mg.gradients(y[{ {1, 2} }]:sum(), x)
    assert(near(g[{ {1, 2} }], mg.grad(function(v)
      return mg.matrix_exp(v):sum() end)(x.data[{ {1, 2} }]), 1e-13))
    assert(near(g[{ {3, -1} }], mg.zeros(4, 3, 3), 0))
  end)

  it("pass over nan, and take differences", function()
    local x = mg.Variable{{1, nan, 3}, {nan, nan, nan}}
    assert(near(x:nansum(2), {4, 0}))
    assert(near(x:nanmean(2), {2, nan}))
    x:nansum():backward()
    assert(near(x.grad, {{1, 0, 1}, {0, 0, 0}}))
    assert(near(mg.diff({1, 4, 9}, {n = 0}), {1, 4, 9}))
    assert.same({0}, mg.diff({1, 4}, {n = 2}).shape)
    assert(near(mg.diff({{1, 2}, {5, 9}}, {axis = 1}), {{4, 7}}))
    assert(near(mg.trapezoid({1, 2, 3}, {dx = 2}), 8))
    assert(near(mg.trapezoid({{1, 1}, {3, 5}}, {1, 3}, {axis = 1}), {4, 6}))
    local most = mg.tensor({math.maxinteger, math.maxinteger}, "int64")
    assert.equal(2.0 ^ 63, most:nanmean():item())
    assert.equal(2.0 ^ 63, mg.trapezoid(most):item())
    assert.equal(mg.Config.dtype, mg.trapezoid(most[{ {1, 1} }]).dtype)
    assert.same({true, false, true}, mg.isclose({1, 2, huge}, {1, 2.1, huge}):totable())
    local far = mg.tensor({1 << 53}, "int64")
    assert.same({false}, mg.isclose(far, far + 1, {rtol = 0, atol = 0}):totable())
    assert.same({true, true}, mg.isclose({nan, 1}, {nan, 1}, {rtol = 0, atol = 0, equal_nan = true})
      :totable())
    assert.same({{true}, {false}}, mg.isin({{1}, {5}}, {1, 2}):totable())
    assert(near(mg.logspace(1, 3, 3, {base = 2}), {2, 4, 8}))
  end)

  it("refuse what does not fit", function()
    assert(raises("cross: axis -1 of shape (2) has not 3 elements", mg.cross, {1, 2}, {1, 2}))
    assert(raises("tensordot: a (2, 3) and b (2, 3) do not fit along axes (2) and (1)",
      mg.tensordot, mg.ones(2, 3), mg.ones(2, 3), 1))
    assert(raises("tensordot: axis a table is out of range for b (2, 3)", mg.tensordot,
      mg.ones(2, 3), mg.ones(2, 3), {{1}, {{}}}))
    assert(raises("tensordot: axis 3 is out of range for a (2, 3)", mg.tensordot, mg.ones(2, 3),
      mg.ones(2, 3), {{3}, {1}}))
    assert(raises("bilinear: x (2, 3), y (2, 4), W (2, 4, 3), b nil: expected", mg.bilinear,
      mg.ones(2, 3), mg.ones(2, 4), mg.ones(2, 4, 3)))
    assert(raises("matrix_exp: x has shape (2, 3), expected square", mg.matrix_exp, mg.ones(2, 3)))
    assert(raises("trapezoid: x (3) does not fit y (2)", mg.trapezoid, {1, 2}, {1, 2, 3}))
  end)
end)

describe("what drops and draws", function()
  helper.guard(before_each, after_each)

  it("drops whole channels, and keeps the mean", function()
    mg.seed(3)
    for axes = 1, 3 do
      local dims = {40, 50}
      for i = 1, axes do dims[i + 2] = 2 end
      local x = mg.ones(dims)
      local drop = mg["dropout" .. axes .. "d"]
      local y = drop(x, 0.25):reshape(40, 50, -1)
      assert(near(y:amax(3), y:amin(3)))
      assert.is_true(math.abs(y:mean():item() - 1) < 0.05)
      assert(near(y:amax(), 4 / 3))
      assert.same({50, 2}, {table.unpack(drop(x[1]).shape, 1, 2)})
      assert(near(mg.test_mode(drop, x), x))
      assert(near(mg.nn["Dropout" .. axes .. "d"](1)(x):sum(), 0))
    end
    assert(raises("dropout2d: x must be (N, C, H, W), or without N, got shape (3)", mg.dropout2d,
      mg.ones(3)))
  end)

  it("alpha_dropout keeps mean and variance of what selu gave", function()
    mg.seed(4)
    local x = mg.selu(mg.randn(100000))
    local y = mg.alpha_dropout(x, 0.3)
    assert.is_true(math.abs(y:mean():item()) < 0.02)
    assert.is_true(math.abs(y:std():item() - 1) < 0.02)
    assert(near(mg.test_mode(mg.nn.AlphaDropout(0.3), x), x))
  end)

  it("gumbel_softmax makes no nan of a draw of 0, which seed 13 has", function()
    mg.seed(13)
    assert.equal(0, mg.exponential(1, {2000, 1000}, {dtype = "float32"}):min():item())
    mg.seed(13)
    local y = mg.gumbel_softmax(mg.zeros{2000, 1000, dtype = "float32"})
    assert.is_true(y:isfinite():all():item())
  end)

  it("divides by no 0 and no infinity that a tiny or large number would be as float32", function()
    local zero = mg.tensor({0, 0, 0}, "float32")
    for _, case in ipairs{
      {function(x) return mg.celu(x, 1e-60) end, {0, 0, 2}, {0, 1, 1}},
      {function(x) return mg.softplus(x, {beta = 1e60}) end, {0, 0, 2}, {0, 0.5, 1}},
      {function(x) return mg.smooth_l1_loss(x, zero, {beta = 1e-60, reduction = "none"}) end,
       {1, 0, 2}, {-1, 0, 1}},
      {function(x) return mg.smooth_l1_loss(x, zero, {beta = 0x1p-1074, reduction = "none"}) end,
       {1, 0, 2}, {-1, 0, 1}},
    } do
      for _, dtype in ipairs{"float32", "float64"} do
        local x = mg.Variable(mg.tensor({-1, 0, 2}, dtype))
        local y = case[1](x)
        y:sum():backward()
        assert(near(y, case[2], 0, 1e-30))
        assert(near(x.grad, case[3], 1e-6, 1e-30))
      end
    end
  end)

  it("gumbel_softmax is a draw, however low tau is", function()
    for _, dtype in ipairs{"float64", "float32"} do
      for _, tau in ipairs{1e-30, 1e-60, 0x1p-1074} do
        local x = mg.Variable(mg.tensor({{1, -math.huge, 3, 0}, {0, 0, 0, 0}}, dtype))
        local y = mg.gumbel_softmax(x, {tau = tau})
        assert.same({{0, 1}, {0, 1}}, mg.stack({y:amin(2), y:amax(2)}, 2):totable())
        assert.same({1, 1}, y:sum(2):totable())
        y:square():sum():backward()
        assert.same({{0, 0, 0, 0}, {0, 0, 0, 0}}, x.grad:totable())
      end
    end
  end)

  it("gumbel_softmax draws classes by their probability, with the soft gradient", function()
    mg.seed(5)
    local p = mg.tensor{0.5, 0.3, 0.2}
    local x = mg.Variable(p:log():expand(20000, 3))
    local y = mg.gumbel_softmax(x, {hard = true, tau = 0.5})
    assert(near(y:sum(2), mg.ones(20000)))
    assert(near(y:max(), 1))
    assert.is_true((y:mean(1) - p):abs():max():item() < 0.02)
    mg.seed(6)
    local soft = mg.gumbel_softmax(x[1], {tau = 2})
    assert(near(soft:sum(), 1))
    mg.seed(6)
    local hard = mg.gumbel_softmax(x[1], {tau = 2, hard = true})
    local weights = mg.tensor{1, 2, 3}
    local a_, b_ = mg.gradients((soft * weights):sum(), x), mg.gradients((hard * weights):sum(), x)
    assert(near(a_, b_))
  end)
end)

describe("an embedding that pads", function()
  helper.guard(before_each, after_each)

  local index = mg.tensor({{1, 3}, {2, 3}}, "int64")

  it("has a row of zeros that no gradient moves", function()
    local e = mg.nn.Embedding(3, 2, {padding_idx = -1})
    assert.equal("Embedding(3, 2, padding_idx = 3)", tostring(e))
    assert(near(e.weight[3], {0, 0}))
    assert(near(e(index), e.weight:index_select(1, index:flatten()):reshape(2, 2, 2)))
    local opt = mg.optim.Adam(e)
    local before = e.weight.data
    e(index):square():sum():backward()
    assert(near(e.weight.grad, {(2 * before[1]):totable(), (2 * before[2]):totable(), {0, 0}}))
    local y = e(index) * 3 + 1
    y:sum():backward()
    assert(near(e.weight.grad[3], {0, 0}))
    opt:step()
    assert(near(e.weight[3], {0, 0}))
  end)

  it("gives what stands there, whatever it is", function()
    local W = mg.Variable{{1, 2}, {3, 4}, {5, 6}}
    local y = mg.embedding(index, W, {padding_idx = 3})
    assert(near(y[{1, 2}], {5, 6}))
    assert(differentiable(function(w)
      return mg.embedding(mg.tensor({1, 2}, "int64"), w, {padding_idx = 3}):square()
    end, {W}))
    assert(raises("embedding: padding_idx 4 is not among 3 rows", mg.embedding, index, W,
      {padding_idx = 4}))
    assert(raises("Embedding: padding_idx 0 is not among 3 rows", mg.nn.Embedding, 3, 2,
      {padding_idx = 0}))
  end)
end)
