-- markdown.lua -- the little Markdown that the pages beside the guides are written in: headings,
-- paragraphs, lists, tables, images and fenced code.

local html = require "docs.html"

local markdown = {}

local function cells(line)
  local list = {}
  for cell in line:gsub("^|", ""):gmatch "%s*(.-)%s*|" do list[#list + 1] = html.prose(cell) end
  return list
end

local function row(line, tag)
  local out = {}
  for i, cell in ipairs(cells(line)) do out[i] = ("<%s>%s</%s>"):format(tag, cell, tag) end
  return "<tr>" .. table.concat(out) .. "</tr>"
end

-- A table's lines: names of columns, a rule, rows
local function table_of(lines)
  local wide = #cells(lines[1]) > 6 and ' class="wide"' or ""
  local out = {"<table" .. wide .. ">"}
  if lines[1]:find "%w" then out[2] = row(lines[1], "th") end
  for i = 3, #lines do out[#out + 1] = row(lines[i], "td") end
  out[#out + 1] = "</table>"
  return table.concat(out, "\n")
end

-- What begins a line, and so ends the paragraph before it
local function kind_of(line)
  if line == "" then return "blank" end
  if line:find "^```" then return "fence" end
  if line:find "^#+ " then return "heading" end
  if line:find "^|" then return "table" end
  if line:find "^[*-] " then return "item" end
  return "text"
end

-- The title, the first paragraph as a line, and the whole as HTML
function markdown.read(text)
  local out, lines, i = {}, {}, 1
  local title, about
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  local function take(kind) -- the lines from i on that are of a kind
    local list = {}
    while lines[i] and kind_of(lines[i]) == kind do
      list[#list + 1] = lines[i]
      i = i + 1
    end
    return list
  end
  while i <= #lines do
    local line, kind = lines[i], kind_of(lines[i])
    if kind == "fence" then
      local code = {}
      i = i + 1
      while not lines[i]:find "^```" do
        code[#code + 1] = lines[i]
        i = i + 1
      end
      out[#out + 1] = html.program(table.concat(code, "\n"))
      i = i + 1
    elseif kind == "heading" then
      local level, name = line:match "^(#+) (.*)$"
      title = title or name
      out[#out + 1] = ('<h%d id="%s">%s</h%d>'):format(#level, html.id(name:lower()),
                                                    html.prose(name), #level)
      i = i + 1
    elseif kind == "table" then
      out[#out + 1] = table_of(take "table")
    elseif kind == "item" then
      out[#out + 1] = "<ul>"
      while lines[i] and kind_of(lines[i]) == "item" do
        i = i + 1
        local item = {lines[i - 1]:sub(3), table.unpack(take "text")}
        out[#out + 1] = "<li>" .. html.prose(table.concat(item, "\n")) .. "</li>"
      end
      out[#out + 1] = "</ul>"
    elseif kind == "text" then
      local words = table.concat(take "text", "\n")
      about = about or words:gsub("\n", " ")
      out[#out + 1] = "<p>" .. html.prose(words) .. "</p>"
    else
      i = i + 1
    end
  end
  return title, about, table.concat(out, "\n")
end

return markdown
