-- The kernels of every level this processor has: MOONGRAD_LEVEL=2 takes those for x86-64-v2. Ops
-- made of arithmetic, and reductions, have the same bits at each; functions are as exact, and at
-- level 4, where single numbers are left to level 3's kernels, they have those of level 3.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local results = require "spec.cpu.level"

-- Ops whose body calls functions: DEAR in the op table, where some go without their _
local dear = {}
for name in child.read "src/ops.def":gmatch "\n%u+%(([%w_]+), %u+, DEAR," do dear[name] = true end

local function level_of(n, program)
  return child.run(program, nil, "MOONGRAD_LEVEL=" .. n)
end

describe("the kernels", function()
  helper.guard(before_each, after_each)

  local own = mg._code().level

  it("are those of the level that is asked for, if the processor has it", function()
    for _, word in ipairs{"2", "3", "4", "1", "5", "22", "x", ""} do
      local n = tonumber(word)
      local want = n and n >= 2 and n <= 4 and math.min(n, own) or own
      assert.equal(want .. "\n", (level_of("'" .. word .. "'",
        [[print(math.tointeger(require "moongrad"._code().level))]])))
    end
  end)

  for level = 2, own - 1 do
    it("of level " .. level .. " give what this processor's own do", function()
      local path = child.folder() .. "/results.safetensors"
      local text, ok = level_of(level, ([[
        local mg = require "moongrad"
        mg.save(%q, require "spec.cpu.level"())
      ]]):format(path))
      assert(ok, text)
      local other = mg.load(path)
      for name, y in pairs(results()) do
        local x = other[name]
        local op = name:match "^%S+"
        if level < 3 and (dear[op] or dear[op:sub(2)]) and y.dtype:find "float" then
          local eps = y.dtype == "float32" and 2.0 ^ -21 or 2.0 ^ -50
          assert(helper.near(x, y, eps, eps), name)
        else
          assert(helper.same(x, y), name)
        end
      end
    end)

    it("of level " .. level .. " are exact", function()
      local text, ok = child.lua("/usr/bin/busted --ignore-lua spec/cpu/ulp_spec.lua " ..
        "spec/cpu/elementwise_spec.lua", nil, nil, "MOONGRAD_LEVEL=" .. level)
      assert(ok, text)
    end)
  end

  -- Said, so that nobody takes them for tried: a fault of theirs shows on newer processors alone.
  for level = own + 1, 4 do
    pending("of level " .. level .. ": this processor has none to try them on")
  end
end)
