-- einsum is what its letters say, in any order of contraction, and differentiable twice.

local mg = require "moongrad"
local helper = require "spec.helper"
local near, exact, same, raises = helper.near, helper.exact, helper.same, helper.raises

-- In plain Lua: a sum over all values of all letters. Letters of length 1 broadcast.
local function plainly(spec, xs)
  local left, right = spec:match "^(.-)%->(.*)$"
  local terms, sizes, letters, values, shapes = {}, {}, {}, {}, {}
  for term in (left .. ","):gmatch "([^,]*)," do terms[#terms + 1] = term end
  for k, x in ipairs(xs) do
    shapes[k] = x.shape
    values[k] = x:reshape(x.size):totable()
    for i, n in ipairs(x.shape) do
      local letter = terms[k]:sub(i, i)
      if not sizes[letter] then letters[#letters + 1] = letter end
      if (sizes[letter] or 1) == 1 then sizes[letter] = n end
    end
  end
  local at, result, shape, size = {}, {}, {}, 1
  for i = 1, #right do
    shape[i] = sizes[right:sub(i, i)]
    size = size * shape[i]
  end
  for i = 1, size do result[i] = 0 end
  local function place(term, dims)
    local p = 0
    for i, n in ipairs(dims) do p = p * n + (n == 1 and 0 or at[term:sub(i, i)]) end
    return p + 1
  end
  local function visit(k)
    if k <= #letters then
      for i = 0, sizes[letters[k]] - 1 do
        at[letters[k]] = i
        visit(k + 1)
      end
      return
    end
    local v = 1
    for j in ipairs(xs) do v = v * values[j][place(terms[j], shapes[j])] end
    local to = place(right, shape)
    result[to] = result[to] + v
  end
  visit(1)
  return mg.tensor(result):reshape(shape)
end

local SIZES = {i = 2, j = 3, k = 4, l = 2, b = 3, a = 1}

local function operands(spec)
  local xs = {}
  for term in (spec:match "^[^-]*" .. ","):gmatch "([a-z]*)," do
    local shape = {}
    for i = 1, #term do shape[i] = SIZES[term:sub(i, i)] end
    xs[#xs + 1] = mg.randn(shape)
  end
  return xs
end

describe("einsum", function()
  helper.guard(before_each, after_each)
  before_each(function() mg.seed(1) end)

  local SPECS = {"ij->ji", "ij->", "ij->i", "ij->ij", "ii->", "ii->i", "iij->ji", "iji->j",
    "iii->i", "iijj->ij", "iijj->", ",->", "i,->i", "i,i->", "i,i->i", "i,j->ij", "i,j->ji",
    "i,j->",
    "ij,jk->ik", "ij,jk->ki", "ji,kj->ik", "ij,ij->", "ij,ij->i", "ij,ij->ij", "ij,j->i",
    "bij,bjk->bik", "bij,bjk->ikb", "bij,bjk->ik", "bij,jk->bik", "bij,kj->kbi", "bi,bi->b",
    "ij,kl->ijkl", "ij,kl->lk", "ij,kj,lk->il", "ij,jk,kl->il", "i,j,k->kji", "i,ij,j->",
    "ii,ij->ij", "iij,jkk->ik", "ijk,jkl,kli->", "aij,bjk->abik", "ij,jk,kl,lb->ib",
    "bi,bj,bk->ijk", "ij,ij,ij->j", "i,i,i,i,i,i,i,i->", "i,j,k,l,i,j,k,l->ijkl"}

  it("is the sum that it says", function()
    for _, spec in ipairs(SPECS) do
      local xs = operands(spec)
      local y, want = mg.einsum(spec, table.unpack(xs)), plainly(spec, xs)
      assert.same(want.shape, y.shape, spec)
      assert(near(y, want, 1e-12))
    end
  end)

  it("has its derivatives", function()
    for _, spec in ipairs(SPECS) do
      local xs = operands(spec)
      if #xs < 4 then
        assert(helper.differentiable(function(...) return mg.einsum(spec, ...) end, xs, 1e-6))
      end
    end
  end)

  it("broadcasts axes of length 1", function()
    local x, y = mg.randn(1, 3), mg.randn(2, 1)
    assert(near(mg.einsum("ij,ij->ij", x, y), x * y))
    assert(near(mg.einsum("ij,ij->", x, y), (x * y):sum()))
    assert(near(mg.einsum("ij,jk->ik", mg.ones(2, 1), y), y:sum(1):expand(2, 1)))
    assert(helper.differentiable(function(p, q) return mg.einsum("ij,ij->i", p, q) end, {x, y}))
    assert.same({0}, mg.einsum("i,i->i", mg.ones(1), mg.zeros(0)).shape)
  end)

  it("without -> gives the letters that occur once, in order", function()
    local x, y = mg.randn(3, 4), mg.randn(4, 2)
    assert(same(mg.einsum("ij,jk", x, y), x:matmul(y)))
    assert(same(mg.einsum("bj,ja", x, y), x:matmul(y).T))
    assert(exact(mg.einsum("ba", x), x.T))
    assert(exact(mg.einsum("ii", mg.eye(3)), 3))
    assert.same({5, 4, 3}, mg.einsum("...ba", mg.ones(5, 3, 4)).shape)
  end)

  it("takes ... for axes without a name", function()
    local x, y = mg.randn(2, 1, 3, 4), mg.randn(5, 4, 2)
    assert(near(mg.einsum("...ij,...jk->...ik", x, y), x:matmul(y)))
    assert(near(mg.einsum("...ij, ...jk", x, y), x:matmul(y)))
    assert(near(mg.einsum("i...->...", x), x:sum(1)))
    assert(near(mg.einsum("...->", x), x:sum()))
    assert(near(mg.einsum("...i->i...", x), x:permute(4, 1, 2, 3)))
    assert(near(mg.einsum("...,...->...", x, mg.tensor(2)), x * 2))
    assert(near(mg.einsum("...ij,...->ij", x, mg.ones(5)), x:sum{axis = {1, 2}} * 5))
    assert(near(mg.einsum("i...i->...", mg.eye(3):reshape(3, 1, 3)), {3}))
  end)

  it("multiplies in the cheapest order", function()
    local rows = {}
    local a, b, c = mg.randn(2, 600), mg.randn(600, 600), mg.randn(600, 600)
    local lines = helper.printed(mg.launches, mg.einsum, "ij,jk,kl->il", a, b, c)
    for shape in table.concat(lines):gmatch "matmul[^\n]*%-> float64 (%b())" do
      rows[#rows + 1] = shape
    end
    assert.same({"(2, 600)", "(2, 600)"}, rows)
  end)

  it("gives an array of its own where there is nothing to do", function()
    for spec, x in pairs{["->"] = mg.tensor(1.0), ["i->i"] = mg.ones(2), ["ij"] = mg.ones(2, 2),
                         ["..."] = mg.ones(2, 2)} do
      local y = mg.einsum(spec, x)
      y[{}] = 5
      assert(exact(x, mg.ones_like(x)), spec)
    end
    local v = mg.Variable{1, 2}
    local y = mg.einsum("i->i", v)
    y:sum():backward()
    assert(exact(v.grad, {1, 1}))
    assert.is_nil(y.grad)
  end)

  it("keeps whole numbers whole", function()
    local x = mg.tensor({{1, 2}, {3, 4}}, "int64")
    local y = mg.einsum("ij,jk->ik", x, x)
    assert.equal("int64", y.dtype)
    assert(exact(y, {{7, 10}, {15, 22}}))
    assert.equal("float32", mg.einsum("ij,jk", x, x:to("float32")).dtype)
  end)

  it("has the digits of its widest operand, whichever products are taken first", function()
    local a, c = mg.full({1}, 1 / 3, "float32"), mg.full({1}, 1 / 7, "float32")
    local want = {{{a:item() * c:item()}}}
    for _, xs in ipairs{{a, mg.ones(1), c}, {a, c, mg.ones(1)}, {mg.ones(1), a, c}} do
      assert(exact(mg.einsum("i,j,k->ijk", table.unpack(xs)), want))
    end
    local large = mg.full({1}, 1 << 62, "int64")
    assert(exact(mg.einsum("i,j,k->ijk", large, large, mg.ones(1)), {{{2.0 ^ 124}}}))
  end)

  it("refuses what does not fit", function()
    local x = mg.ones(2, 3)
    assert(raises('einsum: "ij,jk" is for 2 operands, got 1', mg.einsum, "ij,jk", x))
    assert(raises('einsum: operand 1 has 2 axes, "ijk" names 3', mg.einsum, "ijk", x))
    assert(raises('einsum: operand 1 has 2 axes, "i" names 1', mg.einsum, "i->i", x))
    assert(raises('einsum: operand 1 has 2 axes, "...ijk" names at least 3', mg.einsum,
      "...ijk", x))
    assert(raises("einsum: j is 2 in operand 2, and 3 before", mg.einsum, "ij,jk", x, x))
    assert(raises("einsum: i is 2 and 3 in one operand", mg.einsum, "ii", x))
    assert(raises("einsum: k of the result is in no operand", mg.einsum, "ij->ik", x))
    assert(raises("einsum: i is twice in the result", mg.einsum, "ij->ii", x))
    assert(raises('einsum: "1" at 2 of "i1" is no letter', mg.einsum, "i1", x))
  end)
end)
