-- Numbers have a point, whatever locale the program has chosen.

local child = require "spec.child"

-- Makes a locale with a decimal comma in a folder of ours, since a system may have none.
local function german(folder)
  local command = "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>/dev/null"
  return os.execute(command:format(folder))
end

it("a decimal comma stays outside", function()
  local folder = child.folder()
  if not german(folder) then return pending "needs localedef and the Debian package locales" end
  child.write(folder .. "/p.lua", [[
    assert(os.setlocale "de_DE.UTF-8" and tostring(0.5) == "0,5")
    local mg = require "moongrad"
    local folder = ...
    local function is(got, expected)
      assert(got == expected, ("%s, expected %s"):format(got, expected))
    end
    is(tostring(mg.tensor{0.5}), "variable([0.5])")
    is(tostring(mg.tensor({1 / 3}, "float32")), "variable([0.3333333])")
    is(tostring(mg.nn.Dropout(0.25)), "Dropout(0.25)")
    local opt = mg.optim.SGD({mg.Variable(1)}, {lr = 0.25})
    assert(tostring(opt):find "lr = 0%.25", tostring(opt))
    assert(tostring(mg.optim.Adam{mg.Variable(1)}):find "{0%.9, 0%.999}")
    is(tostring(mg.optim.step(opt, 3)), "Schedule(step, t = 0, lr = 0.25)")
    for _, kind in ipairs{".npz", ".safetensors"} do
      mg.save(folder .. "/x" .. kind, {x = mg.tensor{0.5}, lr = 0.1, {1e300, -1.5}})
      local t = mg.load(folder .. "/x" .. kind)
      assert(t.x[1]:item() == 0.5 and t.lr == 0.1 and t[1][1] == 1e300 and t[1][2] == -1.5)
    end
    mg.save(folder .. "/x.npy", mg.tensor{0.5})
    is(mg.load(folder .. "/x.npy")[1]:item(), 0.5)
    local _, message = pcall(mg.full, {0.5}, 1)
    assert(message:find "0%.5", message)
    _, message = pcall(mg.optim.SGD, {mg.Variable(1)}, {lr = -0.5})
    assert(message:find "-0%.5", message)
    _, message = mg.gradcheck(function(x) return x:sum():floor() * 0.5 + x:sum():detach() end,
      {mg.tensor{0.25}})
    assert(message:find "numeric [%d.]+$", message)
    mg.plot{{0.5, 1.25}, path = folder .. "/p.txt"}
    mg.plot{image = mg.tensor{{0.5, 1.25}, {2, 3}}, path = folder .. "/q.svg"}
    local program, scripts = require "moongrad.plot.program", {}
    program.run = function(_, _, _, script) scripts[#scripts + 1] = script return "" end
    for _, locale in ipairs{"C", "de_DE.UTF-8"} do
      assert(os.setlocale(locale))
      local list = {{scatter = {{0.5}, {1}}, width = 1.5}, {histogram = {0.1, 0.5}, bins = 2},
                    {{histogram = {0.1, 0.5}}, {histogram = {0.5, 0.9}}, labels = {0.5, 1.5}},
                    {contour = {{1, 2}, {3, 4.5}}, levels = {1.5}, width = 0.5},
                    {1.5, 2, xlim = {0.5, 2.5}, xticks = {0.5, 1}, hlines = {0.25}, vlines = {1.5}},
                    {{1, 2, errors = {0.5, 0.5}, band = {{0.5, 1}, {1, 1.5}}, width = 0.25}},
                    {heatmap = {{0.5, 0.25}, {1, 3}}, values = true, clim = {0.25, 0.75}}}
      for style in ("lines dashed points linespoints dots steps impulses"):gmatch "%a+" do
        list[#list + 1] = {{1, 2, style = style, width = 1.5}}
      end
      for i, given in ipairs(list) do
        given.path, given.size = folder .. "/x.pdf", {333, 222}
        mg.plot(given)
        if locale ~= "C" then
          is((scripts[#list + i]:gsub("'/tmp/[^']*'", "")), (scripts[i]:gsub("'/tmp/[^']*'", "")))
        end
      end
    end
    assert(mg.softmax(mg.tensor{0.5, 0.5})[1]:item() == 0.5)
    assert(mg.leaky_relu(mg.tensor{-1})[1]:item() == -0.01)
    mg.profile(function() mg.eval(mg.rand(1000):exp()) end)
    -- names are in the order of their bytes
    local path, x = folder .. "/x.csv", {a = mg.ones(1), B = mg.zeros(1)}
    mg.save(path, {x = {1, 2, 3}, t = {"a", "B", "_"}})
    is(table.concat(mg.data.CSV(path, {target = "t"}).classes, " "), "B _ a")
    local Net = mg.nn.Module:extend "Net"
    function Net:init()
      self.a, self.B, self[1] = mg.Variable(1), mg.Variable(2), mg.nn.Linear(1, 1)
    end
    local names = {}
    for name in Net():named_parameters() do names[#names + 1] = name end
    is(table.concat(names, " "), "0.bias 0.weight B a")
    is(mg.tree_leaves(x)[2], x.a)
    mg.save(path, {a = {1}, B = {2}})
    is(io.open(path):read "l", "B,a")
    for _, kind in ipairs{".npz", ".safetensors"} do
      mg.save(folder .. "/x" .. kind, x)
      local bytes = io.open(folder .. "/x" .. kind, "rb"):read "a"
      local first = kind == ".npz" and {"B.npy", "a.npy"} or {'"B"', '"a"'}
      assert(bytes:find(first[1], 1, true) < bytes:find(first[2], 1, true))
    end
    is(tostring(mg.einsum("aB", mg.ones(2, 3)).shape), "(3, 2)")
    print "fine"]])
  local paths = ("LOCPATH=%s LUA_PATH_5_4='%s' LUA_CPATH_5_4='%s'"):format(folder, package.path,
    package.cpath)
  local pipe <close> = io.popen(("%s lua5.4 %s/p.lua %s 2>&1"):format(paths, folder, folder))
  local text = pipe:read "a"
  assert(text:find "fine\n$", text)
  assert.is_nil(text:find "%d,%d", text)
  assert(child.read(folder .. "/p.txt"):find "1%.2")
end)
