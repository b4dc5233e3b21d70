-- mg.help and the docs behind it.

local mg = require "moongrad"
local helper = require "spec.helper"

describe("help", function()
  -- What mg.help prints.
  local function help(...)
    local lines, real = {}, print
    _G.print = function(line) lines[#lines + 1] = line end
    local ok, err = pcall(mg.help, ...)
    _G.print = real
    assert(ok, err)
    return table.concat(lines, "\n")
  end

  it("prints an op's signature and one line on it", function()
    assert.equal("softmax(x [, axis = -1])\nexp(x) / sum(exp(x)) along an axis", help "softmax")
    assert.is_truthy(help("matmul"):find("^matmul%(.-%)\n%C+$"))
    assert.is_truthy(help("no_grad"):find("^no_grad%(fn, ...%)\n"))
  end)

  it("knows all functions; each doc is a signature and a line", function()
    local docs = help()
    for name, value in pairs(mg) do
      local own = type(value) == "function" and name:sub(1, 1) ~= "_"
      if own and name ~= "help" and name ~= "define" and name ~= "raise" then
        local doc = help(name)
        assert(doc:find("^" .. name .. "%(.*%)\n%C+$"), doc)
        assert(docs:find("%f[%w_]" .. name .. "%f[^%w_]"), name)
      end
    end
  end)

  it("knows all that methods do", function()
    for _, name in ipairs{"backward", "cleargrad", "detach", "clone", "to", "item", "totable",
                          "free", "unchain", "unchain_backward", "set_creator", "reshape"} do
      assert.is_truthy(help(name):find("^" .. name .. "%("))
    end
  end)

  it("says when it knows nothing", function()
    assert(helper.raises("help: nothing is known of no_such_op", mg.help, "no_such_op"))
    assert(helper.raises("help: nothing is known of 3", mg.help, 3))
  end)
end)
