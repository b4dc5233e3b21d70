-- README.md and the pages of lua/guides: their programs run, and their sessions give what they say.
--
-- A ```lua block is a program, run by itself, or a session with an interactive Lua that has mg
-- loaded, told by its first line's prompt.

local child = require "spec.child"

local function describe_page(path)
  local text, line, block, first = child.read(path), 0, nil, nil

  local function program(code)
    local folder = child.folder()
    child.write(folder .. "/program.lua", code)
    local said, ok = child.lua("program.lua", folder)
    assert(ok, said)
  end

  local function session(transcript)
    local input = {}
    for entry in transcript:gmatch("[^\n]+") do
      input[#input + 1] = entry:match("^>>? ?(.*)")
    end
    local said = child.lua([[-e 'io.stdout:setvbuf "no"; mg = require "moongrad"' -i]],
      child.folder(), table.concat(input, "\n") .. "\n")
    said = said:gsub("^Lua [^\n]*\n", ""):gsub("> \n?$", "")
    assert.equal(transcript, said)
  end

  for entry in text:gmatch("([^\n]*)\n") do
    line = line + 1
    if entry:find("^```lua") then
      block, first = {}, line + 1
    elseif entry:find("^```") and block then
      local code = table.concat(block, "\n") .. "\n"
      it(first .. " a " .. (code:find("^> ") and "session" or "program"), function()
        if code:find("^> ") then session(code) else program(code) end
      end)
      block = nil
    elseif block then
      block[#block + 1] = entry
    end
  end
end

for path in assert(io.popen "ls README.md lua/guides/*.md"):lines() do
  describe(path .. ", at line", function() describe_page(path) end)
end

describe("lua/guides/ops.md", function()
  it("the ops: every public row of the table once, and nothing that is not there", function()
    local mg, listed = require "moongrad", {}
    local part = child.read("lua/guides/ops.md"):match("^(.-)\n\nOn top")
    for words in part:gmatch("\n| %a[%a ]* | ([^|\n]*) |") do
      if words ~= "ops" then
        for name in words:gmatch("[%w_]+") do
          assert(not listed[name], name .. " stands there twice")
          assert(mg[name] or mg.ones(1)[name], name .. " is no op")
          listed[name] = true
        end
      end
    end
    for _, op in ipairs(mg._ops()) do
      assert(op.name:find "^_" or listed[op.name], op.name .. " is missing")
    end
  end)
end)

describe("README.md", function()
  it("leads to what is there", function()
    for path in child.read "README.md":gmatch "%]%(([^)]+)%)" do
      assert(path:find "^https?:" or io.open(path), path)
    end
  end)
end)

describe("make env", function()
  it("lets Lua find a checkout from anywhere", function()
    if os.getenv "LD_PRELOAD" then return pending "what it names is not what the sanitizers run" end
    local command = [[cd %s && unset MAKEFLAGS LUA_PATH_5_4 LUA_CPATH_5_4 &&
      eval "$(make -s -C %s env)" && lua5.4 -e 'print(require("moongrad").version)']]
    local pipe = io.popen(command:format(child.folder(), child.here))
    assert.equal(require "moongrad".version .. "\n", pipe:read "a")
    pipe:close()
  end)
end)

describe("the rockspec", function()
  it("is of the version that the module says it is, and README tells of it", function()
    local version = require "moongrad".version
    local rock = {}
    assert(loadfile("moongrad-" .. version .. "-1.rockspec", "t", rock))()
    assert.equal(version .. "-1", rock.version)
    assert(child.read "README.md":find("* **" .. version .. "**", 1, true))
  end)
end)
