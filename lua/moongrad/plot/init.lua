-- plot -- pictures: graphs through graphviz (graph.lua), all others through gnuplot.
--
-- mg.plot{layers and options}: a layer is a curve, or has a kind's name as a key; layers.lua draws
-- each. One layer of a kind may stand in the plot's own table, options and all.

local mg = require "moongrad"
local graph = require "moongrad.plot.graph"
local layers = require "moongrad.plot.layers"
local program = require "moongrad.plot.program"
local raise, checked = mg.raise, mg.checked
local quote, text = layers.quote, layers.text

local plot = {dot_graph = graph.dot_graph, plot_graph = graph.plot_graph}

-- ---- options ----------------------------------------------------------------------------------

-- Of a panel, and of a picture of one or more
local PANEL = {
  "x: array", "labels: table", "title: string", "xlabel: string", "ylabel: string",
  'log: "x" | "y" | "xy"', "xlim: numbers", "ylim: numbers", "clim: numbers",
  "xticks: table", "yticks: table",
  'style: ' .. layers.styles .. ' = "lines"', "styles: table",
  'palette: "gray" | "color" | "diverging"', "grid: bool = false",
  'legend: "top right" | "top left" | "bottom right" | "bottom left" | "outside" | "none"',
  "hlines: numbers", "vlines: numbers",
}
local PICTURE = {"path: string", "size: ints", "plots: table", "columns: int(1..)",
                 "live: bool = false"}
local KINDS = {"image", "heatmap", "contour", "histogram", "bars", "scatter"}

-- reader(lists): a function that gives the options of a table, by name
local function reader(...)
  local names, texts, known = {}, {}, {}
  for _, list in ipairs{...} do
    for _, option in ipairs(list) do
      if not known[option] then
        texts[#texts + 1] = option
        names[#names + 1] = option:match "^%w+"
        known[option] = true
      end
    end
  end
  local read = mg.signature("plot({" .. table.concat(texts, ", ") .. "})")
  return function(given)
    local t, values = {}, table.pack(read(given))
    for i, name in ipairs(names) do t[name] = values[i] end
    return t
  end
end

local readers = {panel = reader(PANEL, PICTURE), curve = reader(layers.curve.options)}
for _, kind in ipairs(KINDS) do
  readers[kind] = reader(layers[kind].options)
  readers["panel " .. kind] = reader(PANEL, PICTURE, layers[kind].options)
end

-- The keys of a list are 1..n, and no others.
local function check_list(what, list)
  local n, most = 0, 0
  for key in pairs(list) do
    if math.type(key) ~= "integer" or key < 1 then
      raise("plot: %s: a list is expected, it has the key %s", what, tostring(key))
    end
    n, most = n + 1, math.max(most, key)
  end
  if n < most then
    raise("plot: %s: a list is expected, of its %d values some are nil", what, most)
  end
  return list
end

-- Strings and numbers, no more than there are `things`
local function check_texts(what, list, n, things)
  for i, v in ipairs(check_list(what, list or {})) do
    if type(v) ~= "string" and type(v) ~= "number" then
      raise("plot: %s[%d] is a %s, expected a string or a number", what, i, type(v))
    end
  end
  if list and n and #list > n then
    raise("plot: there are %d %s for %d %s", #list, what, n, things)
  end
end

local function check_finite(what, list)
  for i, v in ipairs(list or {}) do
    if type(v) == "number" and (v ~= v or math.abs(v) == math.huge) then
      raise("plot: %s[%d] is %g", what, i, v)
    end
  end
end

local function part(given)
  local list, named = {}, {}
  for key, v in pairs(given) do
    if math.type(key) == "integer" then list[key] = v else named[key] = v end
  end
  return check_list("layers", list), named
end

local function kind_of(named)
  for _, kind in ipairs(KINDS) do
    if named[kind] ~= nil then return kind end
  end
end

-- A curve is ys, or {xs, ys}, or the numbers themselves, with its options perhaps.
local function curve_of(given)
  if mg.is_variable(given) then given = {given} end
  if type(given) ~= "table" then raise("plot: a curve is a %s, expected a table", type(given)) end
  local list, named = part(given)
  local o = readers.curve(named)
  if type(list[1]) == "number" or #list == 0 then o.y = list
  elseif #list == 1 then o.y = list[1]
  elseif #list == 2 then o.x, o.y = list[1], list[2]
  else raise("plot: a curve is ys or {xs, ys}, got a table of %d tables", #list) end
  return o
end

-- ---- the script -------------------------------------------------------------------------------

local PALETTES = {
  gray = "gray", -- the next ones stay apart in grey too, or are light in the middle
  color = "defined (0 '#440154', 1 '#3b528b', 2 '#21918c', 3 '#5ec962', 4 '#fde725')",
  diverging = "defined (0 '#2166ac', 1 '#92c5de', 2 '#f7f7f7', 3 '#f4a582', 4 '#b2182b')",
}
local KEYS = {["top right"] = "inside right top", ["top left"] = "inside left top",
              ["bottom right"] = "inside right bottom", ["bottom left"] = "inside left bottom",
              outside = "outside right top", none = "off"}

-- The least and most of what is finite in a list of arrays, if anything is
local function extent(arrays)
  local least, most
  for _, a in ipairs(arrays) do
    a = a[a:isfinite()]
    if a.size > 0 then
      local low, high = a:min():item(), a:max():item()
      least, most = math.min(least or low, low), math.max(most or high, high)
    end
  end
  return least, most
end

-- arrays: what the axis is of, and ends with if it fits. Where none of it is, gnuplot would find no
-- end of open limits.
local function limits(axis, pair, log, arrays, fits)
  if #pair ~= 2 or not (pair[1] < pair[2] or pair[1] > pair[2]) then
    raise("plot: %slim is {from, to}", axis)
  end
  if (log or ""):find(axis) and not (pair[1] > 0 and pair[2] > 0) then
    raise("plot: an axis of logarithms cannot show %s from %g to %g", axis, pair[1], pair[2])
  end
  local words, low, high = {}, extent(arrays or {})
  for i, v in ipairs(pair) do
    local other, last = pair[3 - i], v == math.huge and high or v == -math.huge and low
    if last and last < other and v > 0 then v = other + math.max(1, math.abs(other))
    elseif last and last > other and v < 0 then v = other - math.max(1, math.abs(other))
    elseif last and last ~= other and fits then v = last end
    words[i] = math.abs(v) < math.huge and mg._format("%.17g", v) or "*"
  end
  return ("set %srange [%s]"):format(axis == "c" and "cb" or axis, table.concat(words, ":"))
end

-- Names at 1, 2, 3 ..., or the places themselves
local function ticks(axis, list)
  local words = {}
  for i, v in ipairs(list) do
    words[i] = type(v) == "number" and mg._format("%.17g", v) or
      text(v):gsub("%%", "%%%%") .. " " .. i -- gnuplot takes it for a format
  end
  return ("set %stics (%s) nomirror%s"):format(axis, table.concat(words, ", "),
    axis == "x" and #list > 8 and " rotate by -45" or "")
end

local function count(list, kind)
  local n = 0
  for _, layer in ipairs(list) do n = n + (layer.kind == kind and 1 or 0) end
  return n
end

-- The layers of a panel, each with its kind and options
local function layers_of(curves, kind, opts, styled)
  local list = {}
  if kind then list[1] = {kind = kind, options = opts} end
  for i, given in ipairs(curves) do
    local own = type(given) == "table" and kind_of(given)
    local o = own and readers[own](given) or curve_of(given)
    o.label = o.label or opts.labels and opts.labels[i]
    local style = opts.styles and opts.styles[i]
    if style and not (layers.styles .. " "):find('"' .. tostring(style) .. '"', 1, true) then
      raise("plot: styles[%d] is %s", i, tostring(style))
    end
    list[#list + 1] = {kind = own or "curve", options = o, style = style}
  end
  if #list == 0 then raise("plot: neither a curve nor an image") end
  for _, what in ipairs{"labels", "styles"} do
    check_texts(what, opts[what], #curves, "layers")
  end
  if styled and count(list, "curve") == 0 then
    raise("plot: style is that of curves, and there are none")
  elseif styled and opts.styles and #opts.styles == #list then
    raise("plot: style is of no use where styles has one for each")
  end
  if opts.x and count(list, "curve") + count(list, "bars") + count(list, "contour") == 0 then
    raise("plot: x is that of curves, bars and contours, and there are none")
  end
  return list
end

-- What stands in a panel's script; and its first image, for text.
local function panel(sheet, given)
  local curves, named = part(given)
  if type(curves[1]) == "number" then curves = {curves} end
  local kind = kind_of(named)
  local opts = readers[kind and "panel " .. kind or "panel"](named)
  for _, axis in ipairs{"x", "y"} do
    check_texts(axis .. "ticks", opts[axis .. "ticks"])
    check_finite(axis .. "ticks", opts[axis .. "ticks"])
  end
  check_finite("hlines", opts.hlines)
  check_finite("vlines", opts.vlines)
  local list = layers_of(curves, kind, opts, named.style ~= nil)
  local lines, drawn, all, xs, ys, image = {}, {}, {}, {}, {}, nil
  local function add(format, ...) lines[#lines + 1] = format:format(...) end
  local bars, bar, number = count(list, "bars"), 0, 0
  for _, layer in ipairs(list) do
    if layer.kind == "bars" then bar = bar + 1 end
    if not layers[layer.kind].options[1]:find "^image" then number = number + 1 end
    local made = layers[layer.kind].draw(sheet, layer.options, {
      x = opts.x, number = number, style = layer.style or opts.style, bars = bars, bar = bar,
      log = opts.log, xlim = opts.xlim, histograms = count(list, "histogram")})
    if made.before then add("%s", made.before) end
    table.move(made.clauses, 1, #made.clauses, #drawn + 1, drawn)
    table.move(made.xs or {}, 1, #(made.xs or {}), #xs + 1, xs)
    table.move(made.ys or {}, 1, #(made.ys or {}), #ys + 1, ys)
    for key, v in pairs(made) do all[key] = all[key] or v end
    image = image or made.text
  end
  add "set border lc rgb '#444444'\nset tics nomirror out scale 0.6 textcolor rgb 'black'"
  add("set title %s\nset xlabel %s\nset ylabel %s", text(opts.title or ""),
    text(opts.xlabel or ""), text(opts.ylabel or ""))
  add("set key %s", KEYS[opts.legend or "top right"])
  if all.tight then add("set key opaque\nset autoscale fix") end
  for _, what in ipairs{"palette", "clim"} do
    if opts[what] and not all.gray and not all.colours then
      raise("plot: %s is of no use where no values are shown as colours", what)
    end
  end
  local palette = all.gray and not all.colours and "gray" or "color"
  add("set palette %s", PALETTES[opts.palette or palette])
  if not all.bar then add("unset colorbox") end
  if all.equal then add("set size ratio -1") end
  if all.down then add("set yrange [] reverse") end
  if opts.log and all.tight then raise "plot: an image has no logarithmic axes" end
  local low, high = extent(ys)
  if opts.log then add("set logscale %s", opts.log)
  elseif all.zero and low and (low >= 0 or high <= 0) then
    add("set yrange [%s]\nset offsets 0, 0, graph 0.05, 0", low >= 0 and "0:*" or "*:0")
  end
  if all.fitx then add("%s", limits("x", {extent(xs)}, opts.log)) end
  if all.fity and not all.down then add("%s", limits("y", {low, high}, opts.log)) end
  for _, axis in ipairs{"x", "y"} do
    local cells = all.down and all.cells[axis == "x" and 2 or 1]
    if opts[axis .. "ticks"] then add("%s", ticks(axis, opts[axis .. "ticks"]))
    elseif cells and cells <= 20 then add("set %stics 1 nomirror", axis) end
  end
  if opts.grid then add("set grid lc rgb '#cccccc' dt 1 lw 1") end
  local of = {x = xs, y = ys}
  for _, axis in ipairs{"x", "y", "c"} do
    local pair = opts[axis .. "lim"]
    if pair then add("%s", limits(axis, pair, opts.log, of[axis], all["fit" .. axis])) end
  end
  for _, v in ipairs(opts.vlines or {}) do
    add(mg._format("set arrow from first %.17g, graph 0 to first %.17g, graph 1 nohead dt 2 " ..
      "lc rgb '#555555'", v, v))
  end
  for _, v in ipairs(opts.hlines or {}) do
    add(mg._format("set arrow from graph 0, first %.17g to graph 1, first %.17g nohead dt 2 " ..
      "lc rgb '#555555'", v, v))
  end
  if #drawn == 0 then
    drawn[1] = "NaN notitle"
    add("set xrange [1:10]\nset yrange [1:10]")
  end
  add("plot %s\n", table.concat(drawn, ", \\\n  "))
  return table.concat(lines, "\n"), image, opts
end

-- The options of several plots in one picture
local WHOLE = {title = true, path = true, size = true, plots = true, columns = true, live = true}

local TEXT = {80, 24} -- characters

local function terminal(kind, size, rows, columns)
  if kind == "txt" then
    local w, h = (size or TEXT)[1], (size or TEXT)[2]
    return ("dumb size %d,%d noenhanced"):format(w - 1, size and h or h * rows)
  end
  local w, h = 800, 600
  if rows * columns > 1 then w, h = 480 * columns, 380 * rows end
  if size then w, h = size[1], size[2] end
  if kind == "pdf" then
    return mg._format("pdfcairo noenhanced size %gin,%gin", w / 110, h / 110)
  end
  return ("%s size %d,%d noenhanced font 'sans,12'%s"):format(kind == "png" and "pngcairo" or "svg",
    w, h, kind == "svg" and " background rgb 'white'" or "")
end

-- Gives the script: of what kind, and the panels one after the other.
local function script_of(sheet, given, kind)
  local panels, images, picture = {}, {}
  if type(given.plots) == "table" then
    local list, named = part(given)
    if #list > 0 or kind_of(named) then raise("plot: layers stand in each of the plots") end
    picture = readers.panel(named)
    for name in pairs(named) do
      if not WHOLE[name] then raise("plot: %s is that of each of the plots", name) end
    end
    for i, p in ipairs(check_list("plots", picture.plots)) do
      local opts
      if mg.is_variable(p) then p = {p} end
      if type(p) ~= "table" then raise("plot: plots[%d] is a %s", i, type(p)) end
      panels[i], images[i], opts = panel(sheet, p)
      if opts.path or opts.size or opts.plots or opts.live then
        raise("plot: plots[%d]: path and size are those of the whole", i)
      end
    end
    if #panels == 0 then raise("plot: plots is empty") end
  else
    panels[1], images[1], picture = panel(sheet, given)
    if picture.columns then raise("plot: columns are those of several plots") end
  end
  if picture.size and (#picture.size ~= 2 or picture.size[1] < 40 or picture.size[2] < 10 or
     picture.size[1] > 20000 or picture.size[2] > 20000) then
    raise("plot: size is {width, height}, from {40, 10} to {20000, 20000}")
  end
  local columns = math.min(picture.columns or math.ceil(math.sqrt(#panels)), #panels)
  local rows = -(-#panels // columns)
  local lines = {}
  if kind then lines[1] = "set terminal " .. terminal(kind, picture.size, rows, columns) end
  lines[#lines + 1] = "set encoding utf8\nset termoption noenhanced"
  if given.plots then
    lines[#lines + 1] = ("set multiplot layout %d,%d%s"):format(rows, columns,
      picture.title and " title " .. text(picture.title) or "")
    lines[#lines + 1] = table.concat(panels, "reset\n")
    lines[#lines + 1] = "unset multiplot\n"
  else lines[#lines + 1] = panels[1] end
  return table.concat(lines, "\n"), images
end

-- ---- drawing ----------------------------------------------------------------------------------

-- The picture, but of no kind a window; and the images in it
local function draw(given, kind)
  local data <close> = program.temporary "plot"
  local sheet = layers.sheet(quote(data.path))
  local script, images = script_of(sheet, given, kind)
  local ok, problem = program.write_file(data.path, table.concat(sheet.parts))
  if not ok then raise("plot: no file for the data: %s", problem) end
  -- What somebody's ~/.gnuplot and GNUTERM say is for windows: a picture is the same everywhere.
  local command = kind and "GNUTERM= gnuplot -d" or "gnuplot -persist"
  return program.run("plot", "gnuplot", command, script, not kind), images
end

-- As characters; an image alone as shades
local function text_of(given)
  local drawn, images = draw(given, "txt")
  local title = type(given.title) == "string" and given.title .. "\n" or ""
  if images[1] and not given.plots and #given == 0 then
    return title .. layers.shades(images[1], (given.size or TEXT)[1])
  end
  return (drawn:gsub("^%s*\f", ""):gsub("[ \t]+\n", "\n"):gsub("^\n", ""))
end

-- A gnuplot that has no windows (Debian's gnuplot-nox) would draw nothing, and say nothing.
local function has_windows()
  local display = (os.getenv "DISPLAY" or "") ~= "" or (os.getenv "WAYLAND_DISPLAY" or "") ~= ""
  return display and os.execute [[gnuplot -e 'exit status (GPVAL_TERM eq "unknown")' 2>/dev/null]]
end

local function show(given)
  local path = given.path
  local kind = path and program.ending("plot", path, "png svg pdf txt")
  local picture
  if kind == "txt" then picture = text_of(given)
  elseif kind or mg._display then
    picture = draw(given, kind or "png")
  elseif has_windows() then
    draw(given)
    return
  else return io.write(text_of(given)) end
  if path then program.save("plot", path, picture) else mg._display(picture, "png") end
end

plot.plot = checked("plot(layers: any)", [[
layers and options in one table, drawn by gnuplot to path (.png .svg .pdf .txt), else in a window,
in the notebook, or as text where no display is. A layer is
  ys, {xs, ys} or {ys, style =, width =, errors = sizes, band = {low, high}, label =, color =}
  {scatter = {x, y}, by = labels or values, width =, label =, color =}
  {bars = ys, label =, color =}, side by side where there are more
  {histogram = values, bins = 10, range =, density =, label =, color =}
  {image = (H, W) or (3, H, W), extent = {left, right, bottom, top} of the outer pixels' middles}
  {heatmap = (H, W), values = true: their numbers in the cells}
  {contour = (H, W), y = of its rows, levels = 10 or numbers, width =, label =, color =}
One with a name may stand in the plot's table itself: mg.plot{histogram = x, title = "x"}. x is of
all layers that say none, labels and styles are lists, one for each; color "#rrggbb", a name, 1..10.
plots = {{...}, {...}}: several in one picture, with title, columns, size = {width, height}.
live = true gives an object with add(x, y1, y2, ...) and close(): curves that grow while one looks
]], function(given)
  if mg.is_variable(given) then given = {given} end
  if type(given) ~= "table" then raise("plot: needs a table, got %s", type(given)) end
  if given.live ~= nil and type(given.live) ~= "boolean" then
    raise("plot: live is a %s, expected true or false", type(given.live))
  end
  if given.live then return require "moongrad.plot.live"(given, show, text_of) end
  show(given)
end)

local OPTIONS = {}
for _, list in ipairs{PICTURE, PANEL} do table.move(list, 1, #list, #OPTIONS + 1, OPTIONS) end
mg._docs[plot.plot] = mg._docs[plot.plot]:gsub("^plot%b()", function()
  return "plot{layer, ..., " .. table.concat(OPTIONS, ", ") .. "}"
end):gsub("%s+$", "")

return plot
