-- A script's globals are its own: the library works on, whatever standard names come to mean.

local child = require "spec.child"

-- Runs all examples of the reference, after every standard name but print and require was
-- overwritten; they themselves see those that were.
local SCRIPT = [==[
local G, saved = _G, {}
for name, value in pairs(G) do saved[name] = value end
saved._G = saved
package.path = ... .. package.path
local mg = require "moongrad"
local examples = require "docs.examples"
local path = assert(package.searchpath("docs.session", package.path))
local session = assert(loadfile(path, "t", saved))()
local print, pcall, sort, tostring, type = print, pcall, table.sort, tostring, type
local names = {}
for name, text in pairs(examples) do
  if type(text) == "string" then names[#names + 1] = name end
end
sort(names)
local others, kept = 0, {print = true, require = true, _G = true}
for name in saved.pairs(saved) do
  if not kept[name] then G[name], others = false, others + 1 end
end
for i = 1, #names do
  local ok, problem = pcall(session.run, examples[names[i]])
  if not ok then print("failed: " .. names[i] .. ": " .. tostring(problem)) end
end
print(others > 20 and #names > 500 and "done")]==]

describe("the library", function()
  it("does not look at the script's globals", function()
    local folder = child.folder()
    child.write(folder .. "/script.lua", SCRIPT)
    local said, ok = child.lua(("script.lua '%s/lua/?.lua;'"):format(child.here), folder)
    assert.is_true(ok, said)
    assert.equal("done\n", said:match "[^\n]*\n$")
    assert.is_nil(said:match "failed: [^\n]*")
  end)

  it("lends its name to no standard function in tracebacks", function()
    for _ = 1, 5 do                                -- tables of modules are walked in any order
      local said = child.lua([[-e 'local mg = require "moongrad"; local _ = mg.nn
        print((select(2, xpcall(function() error "x" end, debug.traceback))))']], child.folder())
      assert.is_truthy(said:find("in function 'error'", 1, true), said)
    end
  end)

  it("is there without debug, and where it was bundled", function()
    local folder = child.folder()
    child.write(folder .. "/bundle.lua", [[
      local path, others = assert(package.searchpath("moongrad", package.path)), nil
      local file <close> = io.open(path)
      local text = file:read "a"
      package.preload.moongrad = load(text, "=bundle")
      others = require "moongrad"
      print(others.ones(2), pcall(others.ones, "x"))]])
    child.write(folder .. "/bare.lua", [[
      debug, package.loaded.debug = nil, nil
      local mg = require "moongrad"
      local y = mg.nn.Linear(2, 1)(mg.ones(3, 2))
      print(y.shape, pcall(function() return mg.ones(2) + mg.ones(3) end))]])
    local said = child.lua("bundle.lua", folder)
    assert.is_truthy(said:find "^variable%(%[1 1%]%)\tfalse\t", said)
    said = child.lua("bare.lua", folder)
    assert.is_truthy(said:find("(3, 1)\tfalse\tbare.lua:4: add: shapes", 1, true), said)
  end)

  it("prints as the script does", function()
    local said = child.lua([[-e 'local mg = require "moongrad"
      local real = print
      function print(text) real("<" .. text .. ">") end
      mg.help(mg.exp)']], child.folder())
    assert.is_truthy(said:find("^<"), said)
  end)
end)
