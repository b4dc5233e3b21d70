-- Small products, by kernels of our own: against plain loops, whatever lies around the operands.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local same = helper.same

-- Whole numbers, so that every order of additions gives the exact sum
local function whole(m, n, dtype) return mg.randint(-4, 4, {m, n}):to(dtype) end

local function product(a, b)
  local x, y, c = a:totable(), b:totable(), {}
  for i = 1, #x do
    c[i] = {}
    for j = 1, #y[1] do
      local sum = 0.0
      for q = 1, #y do sum = sum + x[i][q] * y[q][j] end
      c[i][j] = sum
    end
  end
  return mg.tensor(c, a.dtype)
end

-- x in the midst of something larger that is nan
local function framed(x)
  local m, n = x.shape[1], x.shape[2]
  local frame = mg.full({m + 2, n + 3}, 0 / 0, x.dtype)
  frame[{{2, m + 1}, {3, n + 2}}] = x
  return frame[{{2, m + 1}, {3, n + 2}}]
end

-- Its rows as neighbours, its columns, or neither
local function layouts(x)
  local turned = mg.zeros({x.shape[2], x.shape[1]}, {dtype = x.dtype})
  turned[{{}, {}}] = x.T
  return {x, turned.T, framed(x), framed(x.T).T}
end

describe("a small product", function()
  helper.guard(before_each, after_each)

  for _, dtype in ipairs{"float32", "float64"} do
    it("is right for all sizes and layouts in " .. dtype, function()
      mg.seed(1)
      local sizes = {1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 33}
      for _, m in ipairs{1, 2, 5, 6, 7, 8, 9, 12, 13, 17, 25} do
        for k, n in ipairs(sizes) do
          local inner = sizes[#sizes + 1 - k]
          local a, b = whole(m, inner, dtype), whole(inner, n, dtype)
          local want = product(a, b)
          for _, x in ipairs(layouts(a)) do
            for _, y in ipairs(layouts(b)) do
              assert(same(x:matmul(y), want), m .. " " .. n .. " " .. inner)
            end
          end
        end
      end
    end)

    it("is right for long sums and many rows in " .. dtype, function()
      mg.seed(2)
      for _, s in ipairs{{3, 5, 255}, {3, 5, 256}, {9, 17, 257}, {70, 40, 300}, {40, 3, 1030},
                         {1, 1, 5000}, {3, 1, 4097}, {1, 3, 4097}, {100, 130, 260}} do
        local a, b = whole(s[1], s[3], dtype), whole(s[3], s[2], dtype)
        local want = product(a, b)
        for _, x in ipairs(layouts(a)) do
          for _, y in ipairs(layouts(b)) do
              assert(same(x:matmul(y), want), table.concat(s, " "))
            end
        end
      end
    end)

    it("lets nan and infinity through in " .. dtype, function()
      for _, n in ipairs{1, 3, 8, 20, 40} do
        local a, b = mg.zeros({n, n}, {dtype = dtype}), mg.ones({n, n}, {dtype = dtype})
        local bad = mg.where(mg.eye(n):gt(0), mg.full({n, n}, math.huge, dtype), b)
        assert.is_true(a:matmul(bad):isnan():all():item())
        assert.is_true(bad:matmul(a):isnan():all():item())
        assert.is_true(bad:matmul(b):eq(math.huge):all():item())
      end
    end)

    it("has the same bits alone, in a batch, and on any number of threads, in " .. dtype, function()
      local threads = mg.num_threads()
      finally(function() mg.set_num_threads(threads) end)
      mg.seed(3)
      for _, s in ipairs{{4, 4, 4, 1000}, {8, 9, 10, 300}, {32, 32, 32, 64}, {33, 20, 70, 20},
                         {1, 50, 40, 100}, {50, 1, 40, 100}, {64, 64, 64, 5}} do
        local m, n, k, batch = table.unpack(s)
        local a = (mg.rand(batch, m, k) - 0.5):to(dtype)
        local b = (mg.rand(batch, k, n) - 0.5):to(dtype)
        local alone = {}
        mg.set_num_threads(1)
        for i = 1, batch do alone[i] = a[i]:matmul(b[i]) end
        local want = mg.stack(alone)
        for _, t in ipairs{1, 2, 4} do
          mg.set_num_threads(t)
          assert(same(a:matmul(b), want))
        end
      end
    end)
  end

  it("opens no library", function()
    local text, ok = child.run [[
      local mg = require "moongrad"
      mg.eval(mg.rand(90, 90):matmul(mg.rand(90, 90)))
      for line in io.lines "/proc/self/maps" do assert(not line:find "openblas", line) end
    ]]
    assert(ok, text)
  end)

  it("is right by the kernels of every level", function()
    for level = 2, mg._code().level - 1 do
      local text, ok = child.lua("/usr/bin/busted --ignore-lua --filter-out=level " ..
        "spec/cpu/product_spec.lua", nil, nil, "MOONGRAD_LEVEL=" .. level)
      assert(ok, text)
    end
  end)
end)
