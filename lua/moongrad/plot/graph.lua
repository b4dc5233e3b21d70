-- graph.lua -- the graph that made a Variable, through graphviz.

local mg = require "moongrad.core"
local program = require "moongrad.plot.program"
local raise, checked = mg.raise, mg.checked

local graph = {}

-- In labels graphviz reads HTML's names of characters.
local function dot_quote(s)
  return '"' .. s:gsub('[\\"]', "\\%0"):gsub("&", "&amp;"):gsub("\n", "\\n") .. '"'
end

local function dot_graph(y)
  local lines = {"digraph {", "  node [fontname = sans];"}
  local function add(format, ...) lines[#lines + 1] = "  " .. format:format(...) end

  -- Variables and Functions are numbered as they are met; each is drawn once.
  local variables, functions, stack = {y}, 0, {y}
  local number, function_number = {[y.id] = 1}, {}

  local function visit(x)
    local label = ("(%s) %s"):format(table.concat(x.shape, ", "), x.dtype)
    if x.name then label = program.plain(x.name) .. "\n" .. label end
    local colour = x.creator and "white" or x.requires_grad and "orange" or "lightgray"
    add("v%d [shape = box, style = filled, fillcolor = %s, label = %s];", number[x.id], colour,
      dot_quote(label))
    local f = x.creator
    if not f then return end
    local known = function_number[f.id]
    if not known then
      functions = functions + 1
      function_number[f.id] = functions
      add("f%d [label = %s];", functions, dot_quote(program.plain(f.name)))
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

graph.dot_graph = checked("dot_graph(y: variable)",
  "the graph that made y as graphviz text: Variables as boxes, Functions as ellipses", dot_graph)

graph.plot_graph = checked("plot_graph(y: variable, path: string?)",
  "the graph that made y, drawn by graphviz: .svg .png .pdf .ps .gif .jpg or .dot; in a " ..
    "notebook the path may be left out",
  function(y, path)
    local text, kind = dot_graph(y), "svg"
    if path then
      kind = program.ending("plot_graph", path, "svg png pdf ps gif jpg dot")
    elseif not mg._display then
      raise "plot_graph: argument 2 is a nil, expected a string (path); only a notebook needs none"
    end
    local picture = kind == "dot" and text or
      program.run("plot_graph", "graphviz", "dot -T" .. kind, text)
    if path then program.save("plot_graph", path, picture) else mg._display(picture, kind) end
  end)

return graph
