-- gallery.lua -- a page of what the examples draw: each is run in its quick mode.

local html = require "docs.html"

local gallery = {}

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

-- "-- Title: more\n-- and more" at the head of a program, as one line
local function caption(source)
  local words = {}
  for line in source:gmatch "([^\n]*)\n" do
    local text = line:match "^%-%- ?(.+)$"
    if not text or text:find "^%s*lua5%.4 lua/examples/" then break end
    words[#words + 1] = text
  end
  return table.concat(words, " ")
end

-- Runs the example of a name in `examples`; its pictures go to folder/gallery.
local function run(name, examples, folder)
  local pictures, args = {}, {}
  for _, letter in ipairs{"a", "b"} do
    args[#args + 1] = quote(("%s/gallery/%s-%s.png"):format(folder, name, letter))
  end
  local command = ("%s %s quick %s 2>&1"):format(arg[-1] or "lua5.4",
    quote(examples .. name .. ".lua"), table.concat(args, " "))
  local pipe = assert(io.popen(command))
  local output = pipe:read "a"
  if not pipe:close() then error(name .. ": " .. output, 0) end
  for _, letter in ipairs{"a", "b"} do
    local path = ("gallery/%s-%s.png"):format(name, letter)
    if read(folder .. "/" .. path) then pictures[#pictures + 1] = path end
  end
  local lines = {}
  for line in output:gmatch "[^\n]+" do -- but for where it wrote its pictures
    if not line:find(folder, 1, true) then lines[#lines + 1] = line end
  end
  return pictures, lines
end

-- The last lines of a long output
local function tail(lines, n)
  local from = math.max(1, #lines - n + 1)
  return (from > 1 and "...\n" or "") .. table.concat(lines, "\n", from)
end

local function article(name, source, pictures, lines)
  local out = {('<article id="%s"><h3>%s</h3>'):format(name, name)}
  for _, path in ipairs(pictures) do
    out[#out + 1] = ('<a href="%s"><img src="%s" alt="%s"></a>'):format(path, path, name)
  end
  out[#out + 1] = "<p>" .. html.prose(caption(source)) .. "</p>"
  out[#out + 1] = "<details><summary>what it prints</summary><pre>" ..
    html.escape(tail(lines, 20)) .. "</pre></details>"
  out[#out + 1] = "<details><summary>the program</summary><pre>" .. html.escape(source) ..
    "</pre></details></article>"
  return table.concat(out, "\n")
end

-- examples: the folder of programs; folder: where the page goes
function gallery.page(examples, folder)
  assert(os.execute("mkdir -p " .. quote(folder .. "/gallery")))
  local drawn, told = {}, {}
  for file in assert(io.popen("ls " .. quote(examples))):lines() do
    local name = file:match "^(.*)%.lua$"
    if name and name ~= "demo" then
      print("  RUN   lua/examples/" .. file)
      local source = read(examples .. file)
      local pictures, lines = run(name, examples, folder)
      local list = #pictures > 0 and drawn or told
      list[#list + 1] = article(name, source, pictures, lines)
    end
  end
  return {
    file = "gallery.html", title = "Gallery",
    body = "<h1>Gallery</h1>\n<p>The programs of <code>lua/examples</code>, each run in its " ..
      "quick mode while this page was made: <code>lua5.4 lua/examples/NAME.lua</code> takes " ..
      'longer and comes further.</p>\n<div class="gallery">' .. table.concat(drawn, "\n") ..
      '</div>\n<h2>Without pictures</h2>\n<div class="gallery">' .. table.concat(told, "\n") ..
      "</div>",
  }
end

return gallery
