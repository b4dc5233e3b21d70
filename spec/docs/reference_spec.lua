-- The reference: every public name has an example, all examples run, and every link within the
-- pages leads somewhere.

local child = require "spec.child"
local catalog = require "docs.catalog"
local examples = require "docs.examples"

describe("the reference", function()
  it("has an example of every public name", function()
    local missing, known = {}, {}
    local function look(e)
      local example = examples.of(e)
      if not example and e.name ~= "forward" then
        missing[#missing + 1] = e.path
      end
      if example then known[example] = true end
    end
    for _, p in ipairs(catalog.properties()) do look(p) end
    for _, group in ipairs(catalog.groups()) do
      for _, e in ipairs(group.entries) do
        if group.title ~= "objects" then look(e) end
        for _, m in ipairs(e.members or {}) do look(m) end
      end
    end
    assert.equal("", table.concat(missing, " "))
    local lost = {}
    for path, example in pairs(examples) do
      if type(example) == "string" and not known[example] then lost[#lost + 1] = path end
    end
    assert.equal("", table.concat(lost, " "), "examples of what is not there")
  end)

  it("says what mg.help says", function()
    local help, others = require "moongrad.help", {}
    local function look(e)
      local ok, text = pcall(help.text, e.path)
      if not ok or e.doc and not text:find(e.doc, 1, true) then others[#others + 1] = e.path end
      for _, m in ipairs(e.members or {}) do
        if m.name ~= "forward" then look(m) end
      end
    end
    for _, p in ipairs(catalog.properties()) do look(p) end
    for _, group in ipairs(catalog.groups()) do
      for _, e in ipairs(group.entries) do look(e) end
    end
    assert.equal("", table.concat(others, " "))
  end)

  it("is a man page as well, with every name", function()
    local text = require "docs.man".text "November 26, 2026"
    for line in text:gmatch "[^\n]+" do
      local macro = line:match "^[.'](%S*)"
      if macro then
        local macros = " Dd Dt Os Sh Nm Nd Bd Ed Bl El It Ss Pp Fn Ev Xr Pa "
        assert(macros:find(" " .. macro .. " "), line)
      end
    end
    for _, group in ipairs(catalog.groups()) do
      for _, e in ipairs(group.entries) do
        assert(text:find(".It Li \"" .. e.path:gsub("%-", "\\-"), 1, true), e.path)
      end
    end
  end)

  it("is made, runs examples and guides on the way, and no link leads nowhere", function()
    local folder = child.folder()
    child.write(folder .. "/x", "")
    local said, ok = child.lua(("%s/lua/docs/make.lua docs %s"):format(child.here, folder), folder)
    assert(ok, said)
    local pages, ids, count = {}, {}, 0
    for name in io.popen("cd " .. folder .. "/docs && ls"):lines() do
      if name:find "%.html$" then
        pages[name] = child.read(folder .. "/docs/" .. name)
        for id in pages[name]:gmatch ' id="([^"]*)"' do
          assert(not ids[name .. "#" .. id], name .. " has two places called " .. id)
          ids[name .. "#" .. id] = true
        end
      end
    end
    for name, text in pairs(pages) do
      local open, void = {}, {meta = true, link = true, img = true}
      for slash, tag in text:gsub("<!.->", ""):gmatch "<(/?)(%a%w*)[^>]*>" do
        if slash == "/" then assert.equal(table.remove(open), tag, name)
        elseif not void[tag] then open[#open + 1] = tag end
      end
      assert.equal(0, #open, name)
      for attribute, address in text:gmatch ' (%a+)="([^"]*)"' do
        if attribute == "href" or attribute == "src" then
          local file, id = address:match "^([^#]*)#?(.*)$"
          if file == "" then file = name end
          -- the gallery's programs have a spec of their own
          if not file:find "^https?:" and file ~= "gallery.html" then
            assert(pages[file] or io.open(folder .. "/docs/" .. file),
              ("%s leads to %s"):format(name, file))
            assert(id == "" or ids[file .. "#" .. id],
              ("%s leads to %s#%s"):format(name, file, id))
            count = count + 1
          end
        end
      end
    end
    assert(count > 1000)
  end)
end)
