-- mg.progress: a loop that says on stderr how far it is.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"

describe("progress", function()
  -- What the program writes, stderr included, with mg at hand; on a slow machine it says 0 s too.
  local function said(program)
    local text, ok = child.run([[local mg = require "moongrad"; ]] .. program)
    assert(ok, text)
    return (text:gsub("%d+ s%f[%s]", "0 s"))
  end

  it("counts", function()
    assert.equal("6\nfit  3/3  0 s\n", said [[
      local sum = 0
      for i in mg.progress(3, "fit") do sum = sum + i end
      print(sum) io.stdout:flush()
    ]]:gsub("(fit.-\n)(.*)", "%2%1"))
  end)

  it("goes through a loader, with all its values", function()
    local text = said [[
      local ds = mg.data.TensorDataset(mg.range(1, 5), mg.range(11, 15))
      for x, t in mg.progress(mg.data.DataLoader(ds, {batch_size = 2}), "epoch 1") do
        io.stderr:write(#x, " ", t:sum():item(), "\n")
      end
    ]]
    assert.equal("2 23\n2 27\n1 15\nepoch 1  3/3  0 s\n", text)
  end)

  it("begins no pass whose first batch fails", function()
    local text = said [[
      local fails = true
      local ds = mg.data.TensorDataset(mg.range(1, 6)):map(function(x)
        if fails then error "no" end
        return x
      end)
      local function order(loader, bar)
        fails = true
        pcall(function() for _ in bar(loader) do end end)
        fails = false
        for x in bar(loader) do io.stdout:write(x:item(), " ") end
      end
      for _, bar in ipairs{function(v) return v end, mg.progress} do
        mg.seed(3)
        order(mg.data.DataLoader(ds, {shuffle = true, seed = 2}), bar)
        order(mg.data.DataLoader(ds, {shuffle = true}), bar)
        print ""
      end
    ]]
    local plain, barred = text:gsub("progress[^\n]*\n", ""):match "^(.-)\n(.-)\n$"
    assert.equal(plain, barred)
  end)

  it("goes through any iterator, of a known length or not", function()
    local loop = [[
      for w in mg.progress(("a b c"):gmatch "%%a", "read"%s) do io.stderr:write(w) end
    ]]
    assert.equal("abcread  3  0 s\n", said(loop:format ""))
    assert.equal("abcread  3/4  0 s\n", said(loop:format ", 4"))
  end)

  it("shows a note", function()
    assert.equal("fit  2/2  0 s  loss 0.5\n", said [[
      local bar = mg.progress(2, "fit")
      for i in bar do bar:set("loss 0.5") end
    ]])
  end)

  it("ends its line when the loop is left early, or fails", function()
    assert.equal("fit  2/9  0 s\n", said [[
      for i in mg.progress(9, "fit") do if i == 2 then break end end
    ]])
    assert.equal("fit  1/9  0 s\n", said [[
      pcall(function() for i in mg.progress(9, "fit") do error "x" end end)
    ]])
  end)

  it("is for one loop", function()
    local text = said [[
      local bar = mg.progress(2, "fit")
      for i in bar do end
      local ok, err = pcall(function() for i in bar do end end)
      io.stderr:write(err)
    ]]
    assert(text:find("progress: this one, fit, has ended; each loop has one of its own", 1, true))
  end)

  it("draws a bar on a terminal", function()
    local text = said [[
      os.execute = function() return true end    -- `test -t 2`
      for i in mg.progress(4, "fit") do end
    ]]
    assert.is_truthy(text:find("\rfit  [" .. ("#"):rep(30) .. "]  4/4", 1, true))
    assert.equal("\n", text:sub(-1))
  end)

  it("of nothing is nothing", function()
    assert.equal("fit  0/0  0 s\n", said [[for _ in mg.progress(0, "fit") do error "" end]])
  end)

  it("refuses what it cannot go through", function()
    assert(helper.raises("progress: got a boolean", mg.progress, true))
    assert(helper.raises("progress: got a table", mg.progress, {}))
  end)
end)
