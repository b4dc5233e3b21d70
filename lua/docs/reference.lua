-- reference.lua -- the pages of all names: their signatures taken apart, their docs, an example
-- that is run while the page is made, and what stands near them.

local catalog = require "docs.catalog"
local errors = require "docs.errors"
local examples = require "docs.examples"
local html = require "docs.html"
local session = require "docs.session"
local mg = require "moongrad"

local reference = {}
local escape = html.escape

-- Words of signatures, as the page of types explains them
reference.types = {
  {"array", "a Variable of any dtype; a number or a table becomes a constant"},
  {"float, float64, float32, int64, uint8, bool array", "the same, of this dtype alone; " ..
    "float: of float64 or float32. Tables and numbers are taken as such"},
  {"variable", "a Variable, and nothing that would have to be made one"},
  {"list", "a table of Variables"},
  {"int, number", "a whole number, a number. Behind them may stand what is allowed: int(1..), " ..
    "number(0..1); number(0<..) is above 0, number(..) anything finite; number(0..inf) takes " ..
    "infinity too"},
  {"bool, string, function, table, any", "as in Lua; a function is anything that can be called"},
  {"dtype", '"float64", "float32", "int64", "uint8" or "bool"'},
  {"\"a\" | \"b\"", "one of these strings"},
  {"axis, new_axis", "an axis from 1, or from -1 backwards; new_axis: where one is put in"},
  {"axes", "an axis, or a table of them"},
  {"ints, shape", "whole numbers in a table, or one; as dims they may stand side by side"},
  {"pair", "a whole number for both, or a table of two"},
  {"numbers, strings", "a table of numbers, of strings"},
  {"tree", "a Variable or number, or a table, a list or a module of trees"},
  {"module, optimizer, schedule, sampler, tokenizer", "an object of such a class"},
}

-- ---- names that other pages lead to -----------------------------------------------------------

local FILES = {["the module itself"] = "module", ["files and pictures"] = "files"}

local function file_of(group)
  return "ref-" .. (FILES[group.title] or group.title:gsub("%W+", "-")):lower() .. ".html"
end

local TITLES = {
  nn = "Layers: mg.nn", optim = "Optimizers and schedules: mg.optim",
}

local function title_of(group)
  return TITLES[group.title] or group.title:sub(1, 1):upper() .. group.title:sub(2) ..
    (group.module and ": mg." .. group.title or "")
end

-- All entries in one list, with .address; and by name.
local function all_entries(groups)
  local list, by_name = {}, {}
  local function add(e, file)
    e.address = file .. "#" .. html.id(e.path)
    list[#list + 1] = e
    if not by_name[e.name] then by_name[e.name] = e end
  end
  for _, group in ipairs(groups) do
    for _, e in ipairs(group.entries) do
      add(e, file_of(group))
      for _, m in ipairs(e.members or {}) do
        if m.name ~= "forward" then add(m, file_of(group)) end
      end
    end
  end
  return list, by_name
end

local function link(e) return ('<a href="%s"><code>%s</code></a>'):format(e.address, e.path) end

-- A doc, in which names that are no words lead to what they name.
local function linked(doc, by_name, own)
  local text = escape(doc)
  return (text:gsub("%f[%w_]([%a][%w_]*)%f[^%w_]", function(word)
    local e = by_name[word]
    if not e or e.name == own or not word:find "[_%d]" then return nil end
    return ('<a href="%s">%s</a>'):format(e.address, word)
  end))
end

-- What is near: names in its doc, those whose docs name it, the same with another number behind it,
-- an op and its layer.
local function near(e, list)
  local function stem(name) return name:lower():gsub("%d.*$", ""):gsub("_", "") end
  local own, found = stem(e.name), {}
  local function named_in(doc, name)
    return doc and name:find "[_%d]" and doc:find("%f[%w_]" .. name .. "%f[^%w_]")
  end
  for _, other in ipairs(list) do
    if other ~= e and other.kind ~= "property" and #found < 8 and other.path ~= e.path and
       (stem(other.name) == own and not other.path:find ":" or named_in(e.doc, other.name) or
        named_in(other.doc, e.name)) then
      found[#found + 1] = link(other)
    end
  end
  return found
end

-- ---- one entry --------------------------------------------------------------------------------

local kinds = {}
for _, op in ipairs(mg._ops()) do kinds[op.name] = op.kind end

local FACTS = {
  elementwise = "element by element: operands broadcast; large ones are computed late, fused",
  reduction = "a reduction: computed in one pass with the elementwise ops before it",
}

local function facts(e)
  local list = {}
  if e.method then list[#list + 1] = ("also <code>x:%s(...)</code>"):format(e.name) end
  if e.parent then list[#list + 1] = "a " .. escape(e.parent) end
  local fact = FACTS[kinds[e.name]]
  if fact and e.path == "mg." .. e.name then list[#list + 1] = fact end
  if e.call and e.call.gives and e.call.gives ~= "none" then
    list[#list + 1] = "gives " .. escape(e.call.gives)
  end
  return list
end

-- "ints(1..) | \"same\"" in words
local WORDS = {
  array = "a Variable, number or table", float = "floats", float64 = "float64",
  list = "a table of Variables",
  float32 = "float32", int64 = "int64", uint8 = "uint8", variable = "a Variable",
  int = "a whole number", number = "a number", bool = "true or false", string = "a string",
  dtype = "a dtype", ["function"] = "a function", table = "a table", any = "any value",
  tree = "a Variable or a tree of them", axis = "an axis", new_axis = "where the new axis goes",
  axes = "an axis or a table of them", ints = "a whole number or a table of them",
  shape = "dims", pair = "a whole number, or two in a table", numbers = "a table of numbers",
  strings = "a table of strings",
}

-- "1..", "0<..1" in words
local function bounds_in_words(bounds)
  local from, strict, to = bounds:match "^(.-)(<?)%.%.(.*)$"
  if bounds == ".." then return ", finite" end
  if from and to == "" then
    return (strict == "<" and " above " or " from ") .. from .. (strict == "<" and "" or " up")
  end
  return " in " .. escape(bounds)
end

local function in_words(type)
  local parts = {}
  for one in type:gsub("bool array", "mask"):gmatch "[^|]+" do
    one = one:match "^%s*(.-)%s*$"
    local word, bounds = one:match "^(%a[%w_]*)%(?(.-)%)?$"
    if one == "mask" then parts[#parts + 1] = "bools"
    elseif not word then parts[#parts + 1] = "<code>" .. escape(one) .. "</code>"
    else
      local text = WORDS[word] or (word:find "^[aeiou]" and "an " or "a ") .. word
      parts[#parts + 1] = text .. (bounds ~= "" and bounds_in_words(bounds) or "")
    end
  end
  return table.concat(parts, " or ")
end

local function argument_row(p, note)
  local default = p.default and "<code>" .. escape(p.default) .. "</code>" or
    (p.optional or note == "option") and '<span class="soft">may be left out</span>' or ""
  local type = in_words(p.type) .. (p.spread and ", side by side too" or "")
  return ("<tr><td><code>%s</code></td><td>%s</td><td>%s</td><td>%s</td></tr>"):format(
    p.name, note == "option" and "option" or "", type, default)
end

local function arguments(e)
  local call = e.call
  if not call or #call + #call.options == 0 or #call == 1 and #call.options == 0 and
     call[1].type == "array" then
    return ""
  end
  local rows = {"<table><tr><th>argument</th><th></th><th>takes</th><th>if left out</th></tr>"}
  for _, p in ipairs(e.call) do rows[#rows + 1] = argument_row(p) end
  if e.call.rest then
    rows[#rows + 1] = argument_row({name = "...", type = e.call.rest}, nil)
  end
  for _, p in ipairs(e.call.options) do rows[#rows + 1] = argument_row(p, "option") end
  rows[#rows + 1] = "</table>"
  return table.concat(rows, "\n")
end

-- What e refuses: the calls, and what they raise
local function refused(e)
  local list = errors.of(e)
  if #list == 0 then return "" end
  local rows = {'<details class="errors"><summary>Errors</summary>', "<table>"}
  for _, each in ipairs(list) do
    rows[#rows + 1] = ("<tr><td><code>%s</code></td><td>%s</td></tr>"):format(escape(each.call),
      escape(each.message))
  end
  rows[#rows + 1] = "</table></details>"
  return table.concat(rows, "\n")
end

local function shown_call(e)
  if e.kind == "property" then return e.path end
  local own = e.text:match "^[%w_]+(.*)$"
  if e.name == "forward" then return "layer" .. own end
  if e.path:sub(1, 2) == "x:" then -- the Variable stands before the colon
    own = own:gsub("^%(%w+: [%w_]+,? ?", "(")
  end
  return e.path .. own
end

local function section(e, list, by_name)
  local out = {('<section id="%s">'):format(html.id(e.path))}
  out[#out + 1] = ("<h3><code>%s</code></h3>"):format(e.path)
  if e.kind ~= "property" and e.text ~= e.name then
    out[#out + 1] = ('<pre class="signature">%s</pre>'):format(escape(shown_call(e)))
  end
  local doc = e.doc or ""
  out[#out + 1] = ('<p%s>%s</p>'):format(doc:find "\n" and ' class="lines"' or "",
                                       linked(doc, by_name, e.name))
  local known = facts(e)
  if #known > 0 then
    out[#out + 1] = '<p class="soft">' .. table.concat(known, "; ") .. ".</p>"
  end
  out[#out + 1] = arguments(e)
  for _, m in ipairs(e.members or {}) do
    if m.name == "forward" then
      out[#out + 1] = ("<p>Called: <code>%s</code>: %s</p>"):format(escape(shown_call(m)),
                                                                 linked(m.doc, by_name, ""))
    end
  end
  local example = examples.of(e)
  if example then out[#out + 1] = html.session(session.run(example)) end
  out[#out + 1] = refused(e)
  local also = near(e, list)
  if #also > 0 then
    out[#out + 1] = '<p class="soft">See also ' .. table.concat(also, ", ") .. "</p>"
  end
  out[#out + 1] = "</section>"
  for _, m in ipairs(e.members or {}) do
    if m.name ~= "forward" then out[#out + 1] = section(m, list, by_name) end
  end
  return table.concat(out, "\n")
end

-- ---- pages ------------------------------------------------------------------------------------

local function contents(entries)
  local links = {}
  for _, e in ipairs(entries) do
    links[#links + 1] = ('<a href="#%s">%s</a>'):format(html.id(e.path), e.name)
  end
  return '<p class="contents">' .. table.concat(links, "\n") .. "</p>"
end

-- Sections under a heading each, entries of a page that has several parts
local function sections(entries, list, by_name)
  local out = {}
  for _, e in ipairs(entries) do out[#out + 1] = section(e, list, by_name) end
  return table.concat(out, "\n")
end

local function index_page(groups, list)
  local out = {"<h1>Reference</h1>", [[
<p>All names, with what they take, from the signatures that calls are checked by: whatever does not
fit raises an error at the line of the call, which names the function, the argument and the shapes.
Those that an op, a function or a constructor raises stand on its page under Errors, with calls that
raised them while the page was made. <code>mg.help "softmax"</code> says the same in the REPL.</p>
<p>In a signature stand arguments with their types, then, in braces, options, given by name in one
table behind the arguments. A value after = is taken where nothing was given; a type with ? may be
nil; an argument in brackets may be left out though others follow.</p>]]}
  for _, group in ipairs(groups) do
    local links = {}
    for _, e in ipairs(group.entries) do
      links[#links + 1] = ('<a href="%s">%s</a>'):format(e.address, e.name)
    end
    out[#out + 1] = ('<h2><a href="%s">%s</a></h2>\n<p class="contents">%s</p>'):format(
      file_of(group), title_of(group), table.concat(links, "\n"))
  end
  out[#out + 1] = '<h2 id="types">Types in signatures</h2>\n<table>'
  for _, t in ipairs(reference.types) do
    out[#out + 1] = ("<tr><td><code>%s</code></td><td>%s</td></tr>"):format(escape(t[1]),
                                                                         escape(t[2]))
  end
  out[#out + 1] = "</table>\n<h2 id=\"names\">All names</h2>\n<div class=\"names\">"
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted, function(a, b)
    local x, y = a.name:lower(), b.name:lower()
    return x < y or x == y and a.path < b.path
  end)
  for _, e in ipairs(sorted) do
    out[#out + 1] = ('<a href="%s">%s</a>'):format(e.address, e.path)
  end
  out[#out + 1] = "</div>"
  return table.concat(out, "\n")
end

-- {file =, title =, body =}, the index first
function reference.pages()
  local groups = catalog.groups()
  for _, group in ipairs(groups) do
    if group.title == "Variables" then
      table.move(group.entries, 1, #group.entries, #catalog.properties() + 1)
      table.move(catalog.properties(), 1, #catalog.properties(), 1, group.entries)
    end
  end
  local list, by_name = all_entries(groups)
  local pages = {{file = "reference.html", title = "Reference", body = index_page(groups, list)}}
  for _, group in ipairs(groups) do
    pages[#pages + 1] = {
      file = file_of(group), title = title_of(group),
      body = ("<h1>%s</h1>\n%s\n%s"):format(title_of(group), contents(group.entries),
                                           sections(group.entries, list, by_name)),
    }
  end
  return pages
end

return reference
