-- make.lua -- `lua5.4 lua/docs/make.lua WHAT FOLDER`: what is made from the signatures, into a
-- folder (an absolute path). What examples write is left where this is run.

local html = require "docs.html"

local what, folder = arg[1], arg[2]

local function write(path, text)
  path = folder .. "/" .. path
  assert(os.execute("mkdir -p " .. path:match "^(.*)/"))
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
  print("  MAKE  " .. path:gsub("^.*/build/", "build/"))
end

local here = arg[0]:match "^(.*/)" or "./"

-- A file of this folder as it is
local function copy(name, path)
  local file <close> = assert(io.open(here .. name, "rb"))
  write(path, file:read "a")
end

-- Pages {file =, title =, body =}, each with the same line at the top.
local CHAPTERS = {{"index.html", "moongrad"}, {"index.html#guides", "Guides"},
                  {"reference.html", "Reference"}, {"gallery.html", "Gallery"}}

local function write_pages(pages)
  for _, page in ipairs(pages) do
    write("docs/" .. page.file, html.page(page.title, page.body, CHAPTERS))
  end
end

local makers = {
  docs = function()
    copy("style.css", "docs/style.css")
    copy("../../spec/bench/bench.svg", "docs/bench.svg")
    copy("../../spec/bench/dist.svg", "docs/dist.svg")
    write_pages(require "docs.guides".pages(here .. "../guides/"))
    write_pages(require "docs.reference".pages())
    local day = os.date "%B %d, %Y":gsub(" 0", " ")
    write("man/moongrad.3", require "docs.man".text(day))
  end,
  gallery = function()
    write_pages{require "docs.gallery".page(here .. "../examples/", folder .. "/docs")}
  end,
  meta = function() write("meta/moongrad.lua", require "docs.meta".text()) end,
}

(makers[what] or error("make.lua: nothing is known of " .. tostring(what)))()
