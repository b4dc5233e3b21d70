-- Pictures: graphs through graphviz, curves and images through gnuplot.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises

local MAGIC = {png = "\x89PNG", svg = "<?xml", pdf = "%PDF", dot = "digraph"}

describe("dot_graph", function()
  helper.guard(before_each, after_each)

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  it("draws every Variable and Function once", function()
    local x = mg.Variable({1, 2}, "x")
    local a = x:exp()
    local text = mg.dot_graph(a * a + x)
    assert.equal(4, count(text, "shape = box"))
    assert.equal(3, count(text, "f%d+ %[label"))
    assert.equal(5, count(text, "v%d+ %-> f%d+;"))
    assert.equal(3, count(text, "f%d+ %-> v%d+;"))
    assert.is_truthy(text:find('label = "x\\n(2) float64"', 1, true))
    assert.is_truthy(text:find("label = \"exp\"", 1, true))
  end)

  it("tells leaves from constants, and quotes names", function()
    local text = mg.dot_graph(mg.Variable(1.0, 'a "b"\\') * mg.tensor(2.0))
    assert.equal(1, count(text, "fillcolor = orange"))
    assert.equal(1, count(text, "fillcolor = lightgray"))
    assert.is_truthy(text:find([["a \"b\"\\\n() float64"]], 1, true))
    for name, shown in pairs{["<&lt;>"] = "<&amp;lt;>", ["a\nb\1"] = "a b ", ["\u{e9}"] = "\u{e9}",
                             ["\xe9\xff"] = "??", ["\u{ffff}!\u{fffe}"] = "?!?"} do
      assert.is_truthy(mg.dot_graph(mg.Variable(1, name)):find('"' .. shown .. "\\n", 1, true))
    end
  end)

  it("works after backward, for long chains and for Functions with several outputs", function()
    local x = mg.Variable(1.0)
    local y = x
    for _ = 1, 3000 do y = y * 1.0 end
    y:backward()
    assert.equal(3000, count(mg.dot_graph(y), "f%d+ %[label"))
    y = (mg.Variable(mg.rand(30, 40)) + 1):exp():sum()
    helper.settle()
    y:backward()
    assert.equal(3, count(mg.dot_graph(y), "%(30, 40%) float64"))
    local Two = mg.Function{name = "two", forward = function(_, v) return v * 1, v * 2 end,
                            backward = function(_, g, h) return g + 2 * h end}
    local a, b = Two(x)
    local text = mg.dot_graph(a + b)
    assert.equal(1, count(text, 'label = "two"'))
    assert.equal(4, count(text, "shape = box"))
    assert(raises("dot_graph: argument 1 is a number, expected a Variable (y)", mg.dot_graph, 3))
  end)
end)

describe("plot_graph", function()
  it("draws pictures of several kinds, of any name", function()
    local folder = child.folder()
    local y = mg.Variable({1, 2}, "x"):tanh():exp()
    for kind, magic in pairs(MAGIC) do
      local path = folder .. "/it's a $(graph)." .. kind
      mg.plot_graph(y, path)
      assert.equal(magic, child.read(path):sub(1, #magic))
    end
  end)

  it("says what is wrong", function()
    local y = mg.Variable(1.0) * 2
    assert(raises('plot_graph: "x.txt" does not end in one of .svg', mg.plot_graph, y, "x.txt"))
    assert(raises("plot_graph: argument 2 is a nil, expected a string (path)", mg.plot_graph, y))
    assert(raises("plot_graph", mg.plot_graph, y, "/no/such/folder/x.svg"))
    assert(raises("plot_graph: cannot write /no/such", mg.plot_graph, y, "/no/such/x.dot"))
  end)
end)

describe("plot", function()
  it("draws curves and images", function()
    local folder = child.folder()
    local x = mg.linspace(0, 6, 50)
    for _, kind in ipairs{"png", "svg", "pdf"} do
      local path = folder .. "/a." .. kind
      mg.plot{x:sin(), {x, x:cos()}, {1, 4, 9}, labels = {"it's", "cos"}, title = "a \"b\"",
              xlabel = "x", ylabel = "y", path = path}
      assert.equal(MAGIC[kind], child.read(path):sub(1, #MAGIC[kind]))
      mg.plot{image = mg.rand(28, 28), path = path}
      assert.equal(MAGIC[kind], child.read(path):sub(1, #MAGIC[kind]))
    end
  end)

  it("draws each curve in its style, and an image where it lies, in colours", function()
    local folder = child.folder()
    local path = folder .. "/a.svg"
    mg.plot{{{1, 3}, {5, 4}}, {{1, 3}, {4, 5}}, styles = {"points", "steps"}, path = path,
            image = mg.tensor{{0, 1}, {2, 3}}, extent = {1, 3, 4, 5}, palette = "color"}
    assert.equal(MAGIC.svg, child.read(path):sub(1, #MAGIC.svg))
    assert(raises("plot: styles[1] is dotted", mg.plot, {{1, 2}, styles = {"dotted"}}))
    assert(raises("plot: unknown option extent", mg.plot, {{1, 2}, extent = {1, 2, 3, 4}}))
    assert(raises("plot: extent is {left, right, bottom, top}", mg.plot,
      {image = mg.ones(2, 2), extent = {1}}))
  end)

  it("shows a curve of one point", function()
    local path = child.folder() .. "/one.svg"
    mg.plot{{3}, path = path}
    assert.truthy(child.read(path):find "<use xlink:href='#gpPt%d+' transform=")
  end)

  it("draws in characters", function()
    local path = child.folder() .. "/a.txt"
    mg.plot{mg.range(1, 10), style = "points", path = path}
    assert.is_truthy(child.read(path):find("10", 1, true))
    mg.plot{{1, 10, 100, 0 / 0}, log = "y", path = path}
    local odd = child.folder() .. "/|'new\nline$(x).txt"
    mg.plot{{1, 2}, path = odd}
    assert(#child.read(odd) > 100)
    assert(raises("plot: path must be the name of a file", mg.plot, {{1, 2}, path = "a\0.svg"}))
  end)

  it("says what is wrong", function()
    assert(raises("plot: neither a curve nor an image", mg.plot, {}))
    assert(raises('got "dotted"', mg.plot, {{1, 2}, style = "dotted"}))
    assert(raises("plot: unknown option titel", mg.plot, {{1, 2}, titel = "x"}))
    assert(raises("plot: curve 1 must be 1-d, got shape (2, 2)", mg.plot, {mg.ones(2, 2)}))
    assert(raises("plot: curve 1 has 2 points, its x has 3", mg.plot, {{1, 2}, x = {1, 2, 3}}))
    assert(raises("plot: needs a table", mg.plot, 3))
    assert(raises("plot: cannot write /no/such/x.png: No such", mg.plot,
      {{1, 2}, path = "/no/such/x.png"}))
  end)

  it("draws while signals come", function()
    local dir = child.folder()
    child.write(dir .. "/tick.c", [[
      #include <lua.h>
      #include <signal.h>
      #include <sys/time.h>
      static void nothing(int number) { (void)number; }
      int luaopen_tick(lua_State *L) { /* not SA_RESTART: calls end where a signal comes */
        struct sigaction a = {.sa_handler = nothing};
        struct itimerval every = {{0, 1000}, {0, 1000}};
        sigaction(SIGALRM, &a, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
        return 0;
      }
    ]])
    assert(os.execute(("cc -shared -fPIC -Wl,-z,nodelete $(pkg-config --cflags lua5.4) " ..
      "-o %s/tick.so %s/tick.c"):format(dir, dir)))
    local text, ok = child.run(([[
      local mg = require "moongrad"
      package.cpath = %q .. package.cpath
      require "tick"
      mg.plot{{1, 2, 3}, path = "p.svg"}
      mg.plot_graph(mg.Variable(1) * 2, "g.svg")
    ]]):format(dir .. "/?.so;"), dir)
    assert(ok and text == "", text)
    for _, name in ipairs{"/p.svg", "/g.svg"} do
      assert(child.read(dir .. name):find "</svg>")
    end
  end)
end)

describe("plot's layers", function()
  helper.guard(before_each, after_each)

  -- The script that gnuplot is given, and what its data are: it is not run here.
  local function script(given)
    local program, written = require "moongrad.plot.program", {}
    local run, write, save = program.run, program.write_file, program.save
    local function back() program.run, program.write_file, program.save = run, write, save end
    finally(back)
    program.save = function() end
    program.write_file = function(path, bytes)
      written[path] = bytes
      return true
    end
    local text
    program.run = function(_, _, _, s) text = s end
    given.path = "x.svg"
    mg.plot(given)
    back()
    local _, data = next(written)
    return text, data
  end

  local function doubles(data, at, n)
    return {("<" .. ("d"):rep(n)):unpack(data, at + 1)}
  end

  local function has(text, what) return assert(text:find(what, 1, true), text) end

  it("give gnuplot doubles, whatever they were", function()
    local text, data = script{{{1, 2}, mg.tensor({3, 4}, "int64"), label = "it's"}, x = {1}}
    has(text, "skip=0 record=(2) format='%float64%float64' using 1:2 with lines lw 2")
    has(text, "lc rgb '#1f77b4'")
    has(text, "title 'it'.\"\\047\".'s'")
    assert.same({1, 3, 2, 4}, {table.unpack(doubles(data, 0, 4), 1, 4)})
  end)

  it("leave out what is nowhere", function()
    local text, data = script{{1, math.huge, 0 / 0, 4}, {}}
    assert.same({3, 1, 2}, {select(2, text:gsub("nan", "")) + 3, doubles(data, 0, 2)[1], 2})
    local v = doubles(data, 0, 8)
    assert(v[4] ~= v[4] and v[6] ~= v[6] and v[8] == 4)
    has(script{{}}, "plot NaN")
    has(script{{0 / 0}}, "plot NaN")
  end)

  it("have options of their own, and a plot's table may be one", function()
    local text = script{{1, 2, color = "red", width = 3, style = "dashed", band = {{0, 1}, {2, 3}},
                         errors = {0.1, 0.2}}, {{1, 2}, {3, 4}}}
    has(text, "with lines dt 2 lw 3 lc rgb 'red'")
    has(text, "using 1:2:3 with filledcurves fs transparent solid 0.2 noborder lc rgb 'red'")
    has(text, "using 1:2:3 with yerrorbars ps 0 lw 1.5 lc rgb 'red'")
    has(text, "lc rgb '#d95f02'")
    local data
    text, data = script{histogram = {0, 1, 1, 3}, bins = 3, title = "t"}
    has(text, "with boxes lc rgb '#1f77b4'")
    has(text, "set title 't'")
    has(text, "set yrange [0:*]")
    assert.same({0.5, 1, 1, 1.5, 2, 1, 2.5, 1, 1}, {table.unpack(doubles(data, 0, 9), 1, 9)})
    data = select(2, script{histogram = {0, 1, 1, 3}, bins = {0, 1, 4}, density = true})
    assert.same({0.5, 0.25, 1, 2.5, 0.25, 3}, {table.unpack(doubles(data, 0, 6), 1, 6)})
  end)

  it("share axes that show them all", function()
    local text = script{{bars = {3, 1, 2}}, {{-5, 10}, {-2, 2}}}
    has(text, "set xrange [-5:10]")
    assert.is_nil(text:find "yrange")
    text = script{{bars = {3, 1}}, {bars = {-3, -1}}}
    assert.is_nil(text:find "yrange")
    has(script{{bars = {3, 1}}, {4, 5, 6}}, "set yrange [0:*]")
    has(script{{bars = {3, 1}}, {1, 2, errors = {2, 2}}}, "plot")
    assert.is_nil(script{{bars = {3, 1}}, {1, 2, errors = {2, 2}}}:find "yrange")
    has(script{{heatmap = mg.ones(3, 4)}, {contour = mg.rand(3, 4)}}, "set xrange [0.5:4.5]")
    has(script{{contour = mg.rand(3, 4)}, {{0, 9}, {2, 7}}}, "set yrange [1:7]")
  end)

  it("stand side by side if they are bars", function()
    local text, data = script{{bars = {3, -5}}, {bars = {4, 4}}, xticks = {"a", "b"}}
    assert.same({0.8, 3, 1.8, -5}, {table.unpack(doubles(data, 0, 4), 1, 4)})
    assert.same({1.2, 4, 2.2, 4}, {table.unpack(doubles(data, 32, 4), 1, 4)})
    has(text, "(0.40000000000000002) with boxes")
    has(text, "set xtics ('a' 1, 'b' 2)")
    assert(raises("two of them have one x", mg.plot, {{bars = {1, 2}, x = {1, 1}}}))
  end)

  it("may be points, one colour for each label, or by a value", function()
    local text, data = script{scatter = {{1, 2, 3}, {4, 5, 6}}, by = mg.tensor({2, 1, 2}, "int64")}
    assert.same({2, 5, 1, 4, 3, 6}, {table.unpack(doubles(data, 0, 6), 1, 6)})
    has(text, "title '2'")
    has(script{scatter = mg.ones(3, 2), by = {1, 2, 3.5}},
      "using 1:2:3 with points pt 7 ps 0.8 lc palette")
    assert(raises("scatter is {x, y}", mg.plot, {scatter = mg.ones(3)}))
  end)

  it("may be images: by a palette, in colours, cells with their values", function()
    local text, data = script{image = mg.tensor{{1, 2, 3}, {4, 5, 6}}, extent = {0, 4, 1, 2}}
    has(text, "array=(3,2) origin=(0,1) dx=2 dy=1 flipy format='%float64' using 1 with image")
    has(text, "set palette gray")
    assert.same({1, 2, 3, 4, 5, 6}, {table.unpack(doubles(data, 0, 6), 1, 6)})
    text, data = script{image = mg.tensor{{{0, 1}}, {{0.5, 2}}, {{1, -1}}}}
    has(text, "using 1:2:3 with rgbimage")
    has(text, "set yrange [] reverse")
    has(text, "array=(2,2) origin=(1,0.75) dx=1 dy=0.5") -- of one row gnuplot draws nothing
    assert.equal(("\0\128\255\255\255\0"):rep(2), data)
    text, data = script{image = mg.tensor{{7}}, extent = {0, 1, 4, 2}}
    has(text, "array=(2,2) origin=(-0.25,1.5) dx=0.5 dy=1 format")
    assert.same({7, 7, 7, 7}, {table.unpack(doubles(data, 0, 4), 1, 4)})
    text = script{heatmap = {{1, 2}, {3, 4}}, values = true, yticks = {"a", "b"}, clim = {0, 1 / 0}}
    has(text, "set ytics ('a' 1, 'b' 2)")
    has(text, "set cbrange [0:*]")
    has(text, "($3 < 2.5 ? sprintf('%.4g', $3) : '') with labels tc rgb 'white'")
    assert(raises("image must be (H, W) or (3, H, W), got shape (2, 1, 1)", mg.plot,
      {image = mg.ones(2, 1, 1)}))
  end)

  it("may be contours", function()
    local text, data = script{contour = {{1, 2, 3}, {4, 5, 6}}, x = {0, 1, 2}, y = {5, 6},
                              levels = {2.5}}
    has(text, "set cntrparam levels discrete 2.5")
    has(text, "record=(3,2)")
    assert.same({0, 5, 1, 1, 5, 2, 2, 5, 3, 0, 6, 4}, {table.unpack(doubles(data, 0, 12), 1, 12)})
    assert(raises("contour's y has 1 values, expected 2", mg.plot,
      {contour = {{1, 2}, {3, 4}}, y = {1}}))
  end)

  it("stand in panels, on axes with limits, lines and a legend", function()
    local text = script{plots = {{1, 2, 3}, {{1, 2}, title = "b"}, {histogram = {1, 2}}},
                        columns = 3, title = "all"}
    has(text, "set multiplot layout 1,3 title 'all'")
    assert.equal(2, select(2, text:gsub("\nreset\n", "")))
    text = script{{1, 2}, xlim = {0, 1 / 0}, ylim = {0.5, 3}, hlines = {0.5}, vlines = {1},
                  legend = "outside", log = "y", grid = true, size = {300, 200}}
    has(text, "set xrange [0:*]")
    has(text, "set yrange [0.5:3]")
    has(text, "set key outside right top")
    has(text, "set logscale y")
    has(text, "graph 0, first 0.5 to graph 1, first 0.5")
    has(text, "svg size 300,200")
    assert(raises("plots[1]: path and size", mg.plot, {plots = {{{1, 2}, path = "x.png"}}}))
    assert(raises("plot: plots is empty", mg.plot, {plots = {}}))
    assert(raises("plot: unknown option x", mg.plot, {plots = {{1}}, xlims = {1, 2}}))
    assert(raises("plot: size is {width, height}", mg.plot, {{1, 2}, size = {1}}))
    assert(raises("unknown option bin; did you mean bins?", mg.plot, {{histogram = {1}, bin = 3}}))
    assert(raises('color is "red\'; x"', mg.plot, {{1, 2, color = "red'; x"}}))
    assert(raises("curve is a boolean", mg.plot, {true}))
  end)

  it("are drawn by gnuplot, all of them", function()
    local folder = child.folder()
    for _, kind in ipairs{"svg", "pdf", "txt", "png"} do
      local path = folder .. "/a." .. kind
      mg.plot{path = path, plots = {
        {{1, 2, errors = {1, 1}, band = {{0, 1}, {2, 3}}, style = "points"}, {bars = {1, 2}}},
        {histogram = mg.randn(100), log = "y"}, {image = mg.rand(3, 4, 5)}, {{}},
        {heatmap = mg.rand(3, 4), values = true}, {{contour = mg.rand(5, 5)}, {1, 2, 3}},
        {scatter = mg.rand(9, 2), by = mg.rand(9), palette = "diverging"}}}
      assert(#child.read(path) > 500)
    end
  end)

  it("have names as they are", function()
    local path = child.folder() .. "/a.txt"
    mg.plot{{1, 2, 3}, xticks = {"a%g", "50% of", "%d%%"}, yticks = {"%", "b"}, path = path}
    local text = child.read(path)
    for _, name in ipairs{"a%g", "50% of", "%d%%", "% "} do
      assert(text:find(" " .. name, 1, true), text)
    end
    -- which are no macros of gnuplot's
    mg.plot{{1, 2, 3}, title = "it's P@k", labels = {"'@a'@b ''@c"}, path = path}
    assert(child.read(path):find("it's P@k\n", 1, true), child.read(path))
    assert(child.read(path):find(" '@a'@b ''@c ", 1, true), child.read(path))
  end)

  it("are text where no display is", function()
    local code = [[local mg = require "moongrad"
      mg.plot{1, 2, 3, title = "three"}
      mg.plot{image = mg.tensor{{0, 1}, {1, 0}}, title = "shades"}
      local live <close> = mg.plot{live = true, labels = {"a", "b"}}
      for i = 1, 5 do live:add(i, i * i, i > 2 and 1 or nil) end]]
    local home = child.folder()
    child.write(home .. "/.gnuplot", "set terminal unknown\n") -- as of a gnuplot without windows
    for _, display in ipairs{"DISPLAY= WAYLAND_DISPLAY=", "DISPLAY=:0 HOME=" .. home} do
      local out = child.run(code, nil, display)
      assert(out:find "three", out)
      assert(out:find("\nshades\n  @@\n@@\n", 1, true), out)
      assert(out:find "a %*", out)
    end
  end)

  it("are drawn or refused, whatever they hold", function()
    local path = child.folder() .. "/a.svg"
    local nan = 0 / 0
    for _, given in ipairs{
      {{{1, 2}, {1, 2}, label = "'~"}, title = "\xff'"},
      {{1, 2, label = "it''s a\xc3"}, title = "''", xticks = {"''a'", 2}},
      {{nan, nan}},
      {{{1, 2}, {3, 4}}, xlim = {5, 6}}, {histogram = {nan, 1}}, {histogram = {nan}},
      {{-1, -2}, log = "y"}, {{bars = {nan, 1}}}, {heatmap = {{nan, 1}}, values = true},
      {contour = {{1, 2}, {3, 4}}, levels = {9}}, {contour = {{nan, nan}, {nan, nan}}},
      {{image = {{1}, {2}}, extent = {-1, 0, 5, 2}}, xlim = {0, 3}},
      {image = {{1, 2}, {3, 4}}, xlim = {5, 6}}, {heatmap = {{1, 2}, {3, 4}}, xlim = {5, 6}},
      {image = {{nan, nan}}}, {heatmap = {{1}}}, {{1e308, 1e308}}, {histogram = {1e308, 1.1e308}},
      {{bars = {nan}}, {bars = {3}}, xlim = {0, 1}}, {{histogram = {-0.9, -0.1}}, {bars = {-1}}},
      {{bars = {0, 0}}}, {{1}}, {{{3, 3}, {4, 4}}}, {{-1, -2}, ylim = {0, 1 / 0}},
      {{bars = {1, 2}}, ylim = {-1 / 0, 0}}, {image = {{1, 2}, {3, 4}}, ylim = {9, 1 / 0}},
      {{contour = {{1, 2}, {3, 4}}}, xlim = {1 / 0, 5}},
      {{{1, 2, 3}, {5, 7, 8}}, xlim = {2, 3}, ylim = {-1 / 0, 6}},
      {scatter = {{1, 2, 3}, {5, 7, 8}}, xlim = {2, 3}, ylim = {-1 / 0, 6}},
      {bars = {5, 7, 8}, xlim = {2, 3}, ylim = {-1 / 0, 6}},
      {contour = {{1, 2}, {3, 4}}, xlim = {1.2, 1.3}, ylim = {-1 / 0, 1.1}},
      {histogram = {1, 2, 2, 2}, bins = 2, xlim = {1.6, 2}, ylim = {-1 / 0, 2}},
    } do
      given.path = path
      os.remove(path)
      mg.plot(given)
      assert(#child.read(path) > 500)
    end
    assert(raises("plot: bars: x is not finite", mg.plot, {{bars = {1, 2}, x = {1, nan}}}))
    assert(raises("all x or all y are the same", mg.plot, {contour = {{1, 2}, {3, 4}}, x = {1, 1}}))
    assert(raises("cannot show x from -1 to 2", mg.plot, {{1, 2}, xlim = {-1, 2}, log = "x"}))
    assert(raises("an image has no logarithmic axes", mg.plot, {image = mg.ones(2, 2), log = "x"}))
    assert(raises("plot: levels is 0, expected 1 or more", mg.plot,
      {contour = {{1, 2}, {3, 4}}, levels = 0}))
  end)

  it("are the same whatever gnuplot does at somebody's start", function()
    local folder = child.folder()
    child.write(folder .. "/.gnuplot", "set output '" .. folder .. "/mine'\nset xrange [0:1]\n")
    local drawn = {}
    for i, before in ipairs{"HOME=/nowhere", "HOME=" .. folder, "GNUTERM=qt", "GNUTERM=none"} do
      local program = [[require "moongrad".plot{{1, 2, 3}, path = "%s/%d.txt"}]]
      local said = child.run(program:format(folder, i), nil, before)
      assert.equal("", said)
      drawn[i] = child.read(("%s/%d.txt"):format(folder, i))
      assert.equal(drawn[1], drawn[i])
    end
    assert(drawn[1]:find "2.5")
  end)

  it("that fail leave what was there", function()
    local folder = child.folder()
    local path = folder .. "/a.svg"
    child.write(path, "mine")
    local program = require "moongrad.plot.program"
    local run = program.run
    finally(function() program.run = run end)
    program.run = function(op, package, command, text)
      return run(op, package, command, text .. "\nplot nonsense(")
    end
    assert(raises("plot: gnuplot failed", mg.plot, {{1, 2}, path = path}))
    assert.equal("mine", child.read(path))
    assert(raises("plot_graph: graphviz failed", mg.plot_graph, mg.Variable(1) * 2, path))
    assert.equal("mine", child.read(path))
    local pipe <close> = io.popen("ls " .. folder)
    assert.equal("a.svg\n", pipe:read "a")
  end)

  it("are whole or an error where the disk is full", function()
    local folder = child.folder()
    child.write(folder .. "/a.png", "mine")
    local out = child.run(([[local mg = require "moongrad"
      local folder = %q
      local y = mg.Variable(1)
      for _ = 1, 40 do y = y:sin() end
      for _, f in ipairs{function(path) mg.plot{mg.rand(300), path = path, size = {2000, 2000}} end,
                         function(path) mg.plot_graph(y, path) end} do
        local ok, err = pcall(f, folder .. "/a.png")
        print(err:find "plot[_graph]*: [^\n]*a.png: File too large$" and "full" or err)
      end]]):format(folder), nil, "trap '' XFSZ; ulimit -f 60;")
    assert.equal("full\nfull\n", out)
    assert.equal("mine", child.read(folder .. "/a.png"))
  end)

  it("leave no files, even where what removes them was interrupted", function()
    local program = require "moongrad.plot.program"
    local path
    assert.is_false(pcall(function()
      local file <close> = program.temporary "plot"
      path = file.path
      debug.sethook(function()
        debug.sethook()
        error "refused"
      end, "c")
    end))
    collectgarbage()
    assert.is_nil(io.open(path))
  end)

  it("are an error where gnuplot draws nothing, and says that all is well", function()
    local path = child.path ".png"
    child.write(path, "mine")
    assert(raises("plot: gnuplot drew nothing", mg.plot, {{image = mg.ones(2, 2)}, {{1}, {1e15}},
      path = path}))
    assert.equal("mine", child.read(path))
  end)

  it("are an error where Lua runs no programs, as in some hosts", function()
    local popen = io.popen
    finally(function() io.popen = popen end) -- luacheck: ignore 122
    io.popen = function() error("'popen' not supported", 0) end -- luacheck: ignore 122
    assert(raises("plot: cannot run gnuplot: 'popen' not supported", mg.plot,
      {{1, 2}, path = child.path ".svg"}))
    io.popen = function() return nil, "no more processes", 11 end -- luacheck: ignore 122
    assert(raises("plot: cannot run gnuplot: no more processes", mg.plot,
      {{1, 2}, path = child.path ".svg"}))
  end)

  it("grow while one looks", function()
    local path = child.folder() .. "/live.svg"
    local live = mg.plot{live = true, path = path, title = "loss"}
    for i = 1, 4 do live:add(i, i, mg.tensor(2.0)) end
    live:close()
    assert.equal(MAGIC.svg, child.read(path):sub(1, #MAGIC.svg))
    assert.equal("Live(2 curves)", tostring(live))
    assert(raises("add: this plot was closed", live.add, live, 1, 2))
    assert(raises("add: y of curve 1 is a string", mg.plot{live = true, path = path}.add,
      mg.plot{live = true, path = path}, 1, "x"))
    local refused = mg.plot{live = true, path = path}   -- for one y, and has no point of the others
    assert.is_false(pcall(refused.add, refused, 1, 2, "x"))
    assert.same({}, refused.curves)
    refused:add(1, 2, 3)
    assert.is_false(pcall(refused.add, refused, 2, 2, "x"))
    assert.same({{x = {1}, y = {2}}, {x = {1}, y = {3}}}, refused.curves)
    assert(raises("plot: unknown option titel", mg.plot, {live = true, titel = "x"}))
  end)
end)
