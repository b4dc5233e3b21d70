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
    assert.equal("softmax(x: array, axis: axis = -1)\nexp(x) / sum(exp(x)) along an axis",
      help "softmax")
    assert.is_truthy(help("matmul"):find("^matmul%(.-%)\n%C+$"))
    assert.is_truthy(help("Config"):find("^Config{.*debug}\n.*errors"))
    assert.is_truthy(help("no_grad"):find("^no_grad%(fn, ...%)\n"))
  end)

  it("knows the parts written in Lua, with their table's name or without", function()
    for _, part in ipairs{"nn", "optim", "data"} do
      for name in pairs(mg[part]) do
        if name ~= "Optimizer" and name ~= "Dataset" then
          local doc = help(part .. "." .. name)
          assert(doc:find("^" .. name .. "[(:].*%)[^\n]*\n%C+$"), part .. "." .. name)
          assert.equal(doc, help(name))
        end
      end
    end
    for _, name in ipairs{"save", "load", "plot", "plot_graph", "dot_graph", "progress"} do
      assert.is_truthy(help(name):find("^" .. name .. "[({]"))
    end
  end)

  it("knows all functions; each doc is a signature and a line", function()
    local documented, alias = {}, {}
    local core, parts = help():match "^(%C+)\n(%C+)$"
    assert(parts:find "%f[%w]LayerNorm%f[^%w_]")
    for name in core:gmatch "%S+" do
      local doc = help(name)
      assert(doc:find("^" .. name .. "[({].*[)}]\n%C+$"), doc)
      if mg[name] then documented[mg[name]] = name end
    end
    for name, value in pairs(mg) do
      if type(value) == "function" and name:sub(1, 1) ~= "_" and documented[value] ~= name then
        alias[#alias + 1] = name
        assert(documented[value] or name == "define" or name == "help" or name == "raise", name)
      end
    end
    table.sort(alias)
    assert.same({"define", "help", "raise", "softmax_cross_entropy"}, alias)
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
