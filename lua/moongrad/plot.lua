-- plot.lua -- pictures: graphs through graphviz, curves and images through gnuplot.
--
-- Both programs are given a script file, never a pipe: writing to one whose reader died would kill
-- Lua. Names and paths are quoted for the shell and for the script.

local mg = require "moongrad.core"
local raise, checked = mg.raise, mg.checked

local plot = {}

-- ---- files and programs -----------------------------------------------------------------------

local function write_file(path, text)
  local f, problem = io.open(path, "wb")
  if not f then return nil, problem end
  local ok, why = f:write(text)
  local closed, late = f:close()
  return ok and closed, why or late
end

local function read_file(path)
  local f <close> = io.open(path, "rb")
  return f and f:read("a") or ""
end

local function shell_quote(s)
  return "'" .. s:gsub("'", "'\\''") .. "'"
end

-- Runs command on a file that holds the script. What it complains of goes into the error.
local function run(op, package, command, script)
  local made, file = pcall(os.tmpname)
  local made_too, complaint = pcall(os.tmpname)
  if not (made and made_too) then raise("%s: no file for the script: %s", op, complaint) end
  local ok, problem = write_file(file, script)
  local status
  if ok then
    ok, problem, status = os.execute(("%s %s 2>%s"):format(command, shell_quote(file),
      shell_quote(complaint)))
  end
  local said = read_file(complaint)
  os.remove(file)
  os.remove(complaint)
  if status == 127 then raise("%s: needs a program of the Debian package %s", op, package) end
  if not ok then
    raise("%s: %s failed (%s %s)\n%s", op, package, problem, tostring(status), said)
  end
end

-- The ending of a picture's path, one of `kinds` (a string of words).
local function ending(op, path, kinds)
  if type(path) ~= "string" or path:find("%c") then
    raise("%s: path must be the name of a file, got %s", op, tostring(path))
  end
  local kind = path:match("%.(%w+)$")
  if not kind or not kinds:find(("%%f[%%w]%s%%f[%%W]"):format(kind)) then
    raise('%s: "%s" does not end in one of %s', op, path, (kinds:gsub("%w+", ".%0")))
  end
  return kind
end

-- ---- graphs -----------------------------------------------------------------------------------

local function dot_quote(s)
  return '"' .. s:gsub('[\\"]', "\\%0"):gsub("\n", "\\n") .. '"'
end

local function dot_graph(y)
  local lines = {"digraph {", "  node [fontname = sans];"}
  local function add(format, ...) lines[#lines + 1] = "  " .. format:format(...) end

  -- Variables and Functions are numbered as they are met; each is drawn once.
  local variables, functions, stack = {y}, 0, {y}
  local number, function_number = {[y.id] = 1}, {}

  local function visit(x)
    local label = ("(%s) %s"):format(table.concat(x.shape, ", "), x.dtype)
    if x.name then label = x.name .. "\n" .. label end
    local colour = x.creator and "white" or x.requires_grad and "orange" or "lightgray"
    add("v%d [shape = box, style = filled, fillcolor = %s, label = %s];", number[x.id], colour,
      dot_quote(label))
    local f = x.creator
    if not f then return end
    local known = function_number[f.id]
    if not known then
      functions = functions + 1
      function_number[f.id] = functions
      add("f%d [label = %s];", functions, dot_quote(f.name))
      for _, input in ipairs(f.inputs) do
        if not number[input.id] then
          variables[#variables + 1] = input
          number[input.id] = #variables
          stack[#stack + 1] = input
        end
        add("v%d -> f%d;", number[input.id], functions)
      end
    end
    add("f%d -> v%d;", function_number[f.id], number[x.id])
  end

  while #stack > 0 do visit(table.remove(stack)) end
  lines[#lines + 1] = "}\n"
  return table.concat(lines, "\n")
end

plot.dot_graph = checked("dot_graph(y: variable)",
  "the graph that made y as graphviz text: Variables as boxes, Functions as ellipses", dot_graph)

plot.plot_graph = checked("plot_graph(y: variable, path: string)",
  "the graph that made y, drawn by graphviz: .svg .png .pdf .ps .gif .jpg or .dot",
  function(y, path)
    local kind = ending("plot_graph", path, "svg png pdf ps gif jpg dot")
    local text = dot_graph(y)
    if kind == "dot" then
      local ok, problem = write_file(path, text)
      if not ok then raise("plot_graph: cannot write %s", problem) end
    else
      run("plot_graph", "graphviz", ("dot -T%s -o%s"):format(kind, shell_quote(path)), text)
    end
  end)

-- ---- curves and images ------------------------------------------------------------------------

local TERMINALS = {png = "pngcairo size 800,600", svg = "svg size 800,600", pdf = "pdfcairo",
                   txt = "dumb"}

-- In single quotes all is literal but the quote itself, and a line break ends the string.
local function quote(s)
  return "'" .. s:gsub("%c", " "):gsub("'", "''") .. "'"
end

local function number(v)
  return v == v and math.abs(v) < math.huge and mg._format("%.17g", v) or "NaN"
end

-- An array of ndim axes as Lua numbers.
local function values(a, ndim, what)
  if type(a) == "table" then a = mg.tensor(a) end
  if not mg.is_variable(a) then raise("plot: %s must be a Variable or a table", what) end
  if a.ndim ~= ndim then
    raise("plot: %s must be %d-d, got shape (%s)", what, ndim, table.concat(a.shape, ", "))
  end
  return a:detach():to("float64"):totable()
end

-- Lines "x y" of a curve: ys over 1, 2 ... or over the shared x, or {xs, ys}.
local function curve_data(curve, x, what)
  if type(curve) == "table" and #curve == 2 and type(curve[1]) ~= "number" then
    x, curve = curve[1], curve[2]
  end
  local ys, xs = values(curve, 1, what), x and values(x, 1, "x of " .. what)
  if xs and #xs ~= #ys then raise("plot: %s has %d points, its x has %d", what, #ys, #xs) end
  local lines = {}
  for i, y in ipairs(ys) do lines[i] = number(xs and xs[i] or i) .. " " .. number(y) end
  return table.concat(lines, "\n")
end

local function image_data(image)
  local lines = {}
  for i, row in ipairs(values(image, 2, "image")) do
    for j, v in ipairs(row) do row[j] = number(v) end
    lines[i] = table.concat(row, " ")
  end
  return table.concat(lines, "\n")
end

-- Colours from dark to light that stay apart in grey too (viridis)
local COLOUR = "defined (0 '#440154', 1 '#3b528b', 2 '#21918c', 3 '#5ec962', 4 '#fde725')"

local STYLES = {lines = "lines lw 2", points = "points pt 7 ps 0.7",
                linespoints = "linespoints lw 1.5 pt 7 ps 0.6", dots = "dots", steps = "steps lw 2",
                impulses = "impulses lw 2"}

-- How the image's columns and rows, from 0, become x and y
local function image_places(image, extent)
  if not extent then return "($1 + 1):($2 + 1)" end
  local h, w = image.shape[1], image.shape[2]
  return mg._format("(%.17g + $1 * %.17g):(%.17g + $2 * %.17g)", extent[1],
    (extent[2] - extent[1]) / math.max(w - 1, 1), extent[4],
    (extent[3] - extent[4]) / math.max(h - 1, 1))
end

local function style_of(opts, i)
  local style = opts.styles and opts.styles[i] or opts.style
  local text = STYLES[style] or raise("plot: styles[%d] is %s", i, tostring(style))
  return i > 8 and text .. " dt 2" or text -- there are eight colours
end

local function script_of(curves, opts)
  local lines, drawn = {}, {}
  local function add(format, ...) lines[#lines + 1] = format:format(...) end
  local terminal = opts.path and TERMINALS[opts.path:match("%.(%w+)$")]
  local window = os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY")
  if terminal or not window then add("set terminal %s", terminal or "dumb") end
  -- a leading | would make the path a command
  if terminal then add("set output %s", quote((opts.path:gsub("^|", "./|")))) end
  add("set termoption noenhanced")
  add("set title %s", quote(opts.title))
  add("set xlabel %s", quote(opts.xlabel))
  add("set ylabel %s", quote(opts.ylabel))
  if opts.log then add("set logscale %s", opts.log) end
  if opts.image then
    add("set key opaque")
    add("$image << END\n%s\nEND", image_data(opts.image))
    add("set palette %s\nset autoscale fix", opts.palette == "color" and COLOUR or "gray")
    if opts.extent then
      add(mg._format("set xrange [%.17g:%.17g]\nset yrange [%.17g:%.17g]",
        table.unpack(opts.extent)))
    else
      add("set size ratio -1\nset yrange [] reverse")
    end
    drawn[1] = ("$image matrix using %s:3 with image notitle"):format(
      image_places(opts.image, opts.extent))
  end
  for i, curve in ipairs(curves) do
    add("$curve%d << END\n%s\nEND", i, curve_data(curve, opts.x, "curve " .. i))
    local label = opts.labels and opts.labels[i]
    drawn[#drawn + 1] = ("$curve%d with %s %s"):format(i, style_of(opts, i),
      label and "title " .. quote(tostring(label)) or "notitle")
  end
  add("plot %s\n", table.concat(drawn, ", "))
  return table.concat(lines, "\n")
end

local OPTIONS = 'x: array, labels: table, title: string = "", xlabel: string = "", ' ..
  'ylabel: string = "", log: "x" | "y" | "xy", image: array, path: string, ' ..
  'style: "lines" | "points" | "linespoints" | "dots" | "steps" | "impulses" = "lines", ' ..
  'styles: table, extent: numbers, palette: "gray" | "color" = "gray"'
local read = mg.signature("plot({" .. OPTIONS .. "})")

-- One table holds curves and, by name, options: they are parted here.
plot.plot = checked("plot(curves: any)",
  "curves of 1-d Variables or tables, over a 2-d image if there is one, through gnuplot; the " ..
    "path ends in .png .svg .pdf .txt; without one a window, or text where no display is. " ..
    "styles: one for each curve; extent {left, right, bottom, top}: where the image lies",
  function(given)
    if mg.is_variable(given) then given = {given} end
    if type(given) ~= "table" then raise("plot: needs a table, got %s", type(given)) end
    local curves, named, opts = {}, {}, {}
    for key, v in pairs(given) do
      if math.type(key) == "integer" then curves[key] = v else named[key] = v end
    end
    opts.x, opts.labels, opts.title, opts.xlabel, opts.ylabel, opts.log, opts.image, opts.path,
      opts.style, opts.styles, opts.extent, opts.palette = read(named)
    if opts.extent and (#opts.extent ~= 4 or not opts.image) then
      raise("plot: extent is {left, right, bottom, top} of an image")
    end
    if #curves == 0 and not opts.image then raise("plot: neither a curve nor an image") end
    if opts.path then ending("plot", opts.path, "png svg pdf txt") end
    run("plot", "gnuplot", "gnuplot -persist", script_of(curves, opts))
  end)
mg._docs[plot.plot] = mg._docs[plot.plot]:gsub("^plot%b()", function()
  return "plot{curve or {xs, ys}, ..., " .. OPTIONS .. "}"
end)

return plot
