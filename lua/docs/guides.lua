-- guides.lua -- pages made of programs: comments that begin a line are the prose, what stands
-- between them is code, and what it printed when the page was made stands below it.
--
-- In prose, "# " is the title, "## " a heading, "- " an item; `code`, **bold** and [text](address).
-- A comment that belongs to code is indented, or stands behind it.

local html = require "docs.html"
local markdown = require "docs.markdown"

local guides = {}

-- A program as a list of {prose = {lines}} and {code = text, line =}.
function guides.parts(text)
  local parts, line = {}, 0
  local function last(kind)
    local part = parts[#parts]
    if not part or not part[kind] then
      part = {[kind] = {}, line = line}
      parts[#parts + 1] = part
    end
    return part[kind]
  end
  for each in (text:gsub("\n$", "") .. "\n"):gmatch "([^\n]*)\n" do
    line = line + 1
    local prose = each:match "^%-%- ?(.*)$"
    if prose then table.insert(last "prose", prose)
    elseif each ~= "" or parts[#parts] and parts[#parts].code then table.insert(last "code", each)
    end
  end
  for _, part in ipairs(parts) do
    if part.code then part.code = table.concat(part.code, "\n"):gsub("%s+$", "") end
  end
  return parts
end

-- Runs it, and puts what each part of code printed into its .output. The program stays at its
-- lines: the calls that tell where it is stand before the first word of a part.
local function run(parts, path)
  local lines, now = {}, nil
  local env = setmetatable({}, {__index = _G})
  local function printed(text) if now then now.output[#now.output + 1] = text end end
  function env.print(...)
    local words = {}
    for i = 1, select("#", ...) do words[i] = tostring((select(i, ...))) end
    printed(table.concat(words, "\t") .. "\n")
  end
  env.io = setmetatable({write = function(...) printed(table.concat({...})) end}, {__index = io})
  function env.__at(i) now = parts[i] end
  for i, part in ipairs(parts) do
    while #lines < part.line - 1 do lines[#lines + 1] = "" end
    if part.code then
      part.output = {}
      local first = true
      for each in (part.code .. "\n"):gmatch "([^\n]*)\n" do
        lines[#lines + 1] = first and ("__at(%d) %s"):format(i, each) or each
        first = false
      end
    end
  end
  local program = assert(load(table.concat(lines, "\n"), "@" .. path:match "[^/]*$", "t", env))
  local outer = print
  print = env.print -- luacheck: ignore
  local ok, err = xpcall(program, debug.traceback)
  print = outer -- luacheck: ignore
  if not ok then error(path .. ": " .. err, 0) end
  for _, part in ipairs(parts) do
    if part.output then part.output = table.concat(part.output):gsub("%s+$", "") end
  end
end

local function prose(lines)
  local out, open, listed = {}, nil, false
  local function close()
    if open then out[#out + 1] = open .. (open:find "^<li>" and "</li>" or "</p>") end
    open = nil
  end
  local function list(on)
    if listed ~= on then out[#out + 1] = on and "<ul>" or "</ul>" end
    listed = on
  end
  for _, line in ipairs(lines) do
    local level, title = line:match "^(#+) (.*)$"
    local item = line:match "^%- (.*)$"
    if line == "" then
      close()
      list(false)
    elseif level then
      close()
      list(false)
      local tag = "h" .. #level
      out[#out + 1] = ('<%s id="%s">%s</%s>'):format(tag, html.id(title:lower()), html.prose(title),
                                                  tag)
    elseif item then
      close()
      list(true)
      open = "<li>" .. html.prose(item)
    else
      open = (open and open .. "\n" or "<p>") .. html.prose(line)
    end
  end
  close()
  list(false)
  return table.concat(out, "\n")
end

-- The one below the title, as a line
local function paragraph(lines)
  local words = {}
  for i = 3, #lines do
    if lines[i] == "" then break end
    words[#words + 1] = lines[i]
  end
  return table.concat(words, " ")
end

-- {file =, title =, about =, body =} of the program at a path
function guides.page(path)
  local name = path:match "([%w_]+)%.lua$"
  local file <close> = assert(io.open(path))
  local parts = guides.parts(file:read "a")
  run(parts, path)
  local out = {}
  for _, part in ipairs(parts) do
    out[#out + 1] = part.prose and prose(part.prose) or html.program(part.code, part.output)
  end
  local title = parts[1].prose[1]:match "^# (.*)$"
  out[#out + 1] = ('<p class="soft">This page is the program <code>lua/guides/%s.lua</code>, ' ..
                   "and what it printed.</p>"):format(name)
  return {file = "guide-" .. name .. ".html", title = title, about = paragraph(parts[1].prose),
          body = table.concat(out, "\n")}
end

-- In the order they are to be read
guides.names = {
  "first_hour", "arrays", "autograd", "memory", "training", "solving", "files", "functions",
  "precision", "performance", "compiled", "beyond", "processes",
  "coming_from", "everyday", "ops", "speed", "inside",
}

-- Of Markdown, whose programs spec/readme_spec.lua runs
local function text_page(path)
  local file <close> = assert(io.open(path))
  local title, about, body = markdown.read(file:read "a")
  return {file = "guide-" .. path:match "([%w_]+)%.md$" .. ".html", title = title, about = about,
          body = body:gsub('src="[^"]*/', 'src="')}
end

local function page_of(folder, name)
  local file = io.open(folder .. name .. ".lua")
  if not file then return text_page(folder .. name .. ".md") end
  file:close()
  return guides.page(folder .. name .. ".lua")
end

-- The first is the one that leads to the others.
function guides.pages(folder)
  local index = guides.page(folder .. "index.lua")
  index.file = "index.html"
  local pages, links = {index}, {}
  for i, name in ipairs(guides.names) do
    local page = page_of(folder, name)
    pages[i + 1] = page
    links[i] = ('<li><a href="%s">%s</a>: %s'):format(page.file, html.prose(page.title),
                                                     html.prose(page.about)) .. "</li>"
  end
  index.body = index.body .. '\n<h2 id="guides">Guides</h2>\n<ul>' .. table.concat(links, "\n") ..
    "</ul>\n<h2>Reference</h2>\n<p>All names, by what they are for, and by the alphabet, stand " ..
    'in the <a href="reference.html">reference</a>; what can be done with them, in the ' ..
    '<a href="gallery.html">gallery</a>.</p>'
  return pages
end

return guides
