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
    local folder = child.folder(finally)
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
    local folder = child.folder(finally)
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
    local folder = child.folder(finally)
    local path = folder .. "/a.svg"
    mg.plot{{{1, 3}, {5, 4}}, {{1, 3}, {4, 5}}, styles = {"points", "steps"}, path = path,
            image = mg.tensor{{0, 1}, {2, 3}}, extent = {1, 3, 4, 5}, palette = "color"}
    assert.equal(MAGIC.svg, child.read(path):sub(1, #MAGIC.svg))
    assert(raises("plot: styles[1] is dotted", mg.plot, {{1, 2}, styles = {"dotted"}}))
    assert(raises("plot: extent is {left, right, bottom, top}", mg.plot, {{1, 2}, extent = {1}}))
  end)

  it("draws in characters", function()
    local path = child.folder(finally) .. "/a.txt"
    mg.plot{mg.range(1, 10), style = "points", path = path}
    assert.is_truthy(child.read(path):find("10", 1, true))
    mg.plot{{1, 10, 100, 0 / 0}, log = "y", path = path}
  end)

  it("says what is wrong", function()
    assert(raises("plot: neither a curve nor an image", mg.plot, {}))
    assert(raises('got "dotted"', mg.plot, {{1, 2}, style = "dotted"}))
    assert(raises("plot: unknown option titel", mg.plot, {{1, 2}, titel = "x"}))
    assert(raises("plot: curve 1 must be 1-d, got shape (2, 2)", mg.plot, {mg.ones(2, 2)}))
    assert(raises("plot: curve 1 has 2 points, its x has 3", mg.plot, {{1, 2}, x = {1, 2, 3}}))
    assert(raises("plot: needs a table", mg.plot, 3))
    assert(raises("plot: gnuplot failed", mg.plot, {{1, 2}, path = "/no/such/x.png"}))
  end)
end)
