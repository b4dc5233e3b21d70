-- What editors read: the annotations are Lua, their types are well formed and declared, and every
-- public name has one.

local mg = require "moongrad"
local catalog = require "docs.catalog"
local meta = require "docs.meta"

-- ---- a parser of LuaCATS' types ---------------------------------------------------------------

-- Reads `text` from `at` on as a type; gives where it ends, and tells `named` of every name in it.
local read_type

local function one_type(text, at, named)
  local string_end = text:match('^"[^"]*"()', at)
  if string_end then return string_end end
  local name, after = text:match("^([%a_][%w_.]*)()", at)
  assert(name, "a type is expected at: " .. text:sub(at))
  if name == "fun" then
    after = assert(text:match("^%(()", after), "fun without (")
    while not text:find("^%)", after) do
      local colon = text:match("^[%w_]+%??:%s*()", after) or text:match("^%.%.%.:%s*()", after)
      after = read_type(text, assert(colon, "an argument is expected: " .. text), named)
      after = text:match("^,%s*()", after) or after
    end
    after = after + 1
    local result = text:match("^:%s*()", after)
    return result and read_type(text, result, named) or after
  end
  named(name)
  after = text:match("^%?()", after) or after
  while text:find("^%[%]", after) do after = after + 2 end
  return after
end

function read_type(text, at, named)
  at = one_type(text, at, named)
  while text:find("^|", at) do at = one_type(text, at + 1, named) end
  return at
end

-- ---- the specs --------------------------------------------------------------------------------

describe("the annotations for editors", function()
  local text = meta.text()
  local lines = {}
  for line in text:gmatch "([^\n]*)\n" do lines[#lines + 1] = line end

  it("are Lua", function()
    assert(load(text, "@moongrad.lua", "t"))
    assert.equal("---@meta moongrad", lines[1])
  end)

  it("have types that are well formed and declared, and name each argument once", function()
    local declared, used = {}, {}
    for word in ("any nil boolean number integer string table function"):gmatch "%a+" do
      declared[word] = true
    end
    local line
    local function named(name) used[name] = line end
    local function whole(body, from)
      local after = read_type(body, from or 1, named)
      return body:sub(after)
    end
    local params = {}
    local readers = {
      meta = function(body) assert.equal("moongrad", body) end,
      alias = function(body)
        local name, from = body:match "^([%w_.]+) ()"
        declared[name] = true
        assert.equal("", whole(body, from))
      end,
      class = function(body)
        local name, parent = body:match "^([%w_.]+)(.*)$"
        declared[name] = true
        if parent ~= "" then assert.equal("", whole(parent:match "^: (.*)$")) end
      end,
      field = function(body)
        local from = body:match "^[%w_]+%??%s()" or body:match "^%[[^%]]+%]%s()"
        assert(whole(body, from):find "^%s" or whole(body, from) == "", body)
      end,
      param = function(body)
        local name, from = body:match "^([%w_]+)%??%s()"
        if not name then name, from = body:match "^(%.%.%.)%s()" end
        params[#params + 1] = name
        local rest = whole(body, from)
        assert(rest == "" or rest:find "^ # ", body)
      end,
      ["return"] = function(body)
        local rest = whole(body)
        assert(rest == "" or rest:find "^ [%w_]+$" or rest == " ...", body)
      end,
      overload = function(body) assert.equal("", whole(body)) end,
      operator = function(body)
        local operand, from = body:match "^%a+(%b()):%s()"
        if operand then assert.equal(")", whole(operand, 2)) end
        assert.equal("", whole(body, from or body:match "^%a+:%s()"))
      end,
    }
    for i, each in ipairs(lines) do
      line = i
      local what, body = each:match "^%-%-%-@(%a+)%s?(.*)$"
      if what then
        local reader = assert(readers[what], each)
        local ok, err = pcall(reader, body)
        assert(ok, ("line %d, %s: %s"):format(i, each, tostring(err)))
      elseif each:find "^function " or each:find " = function%(" then
        assert.equal(each:match "%((.-)%) end$", table.concat(params, ", "))
        params = {}
      end
    end
    for name, i in pairs(used) do
      assert(declared[name], ("line %d: %s is not declared"):format(i, name))
    end
  end)

  it("have every public name", function()
    for _, group in ipairs(catalog.groups()) do
      for _, e in ipairs(group.entries) do
        local name = e.path:gsub("%W", "%%%0")
        if e.kind == "class" then assert(text:find("\n[%a ]*" .. name .. " = {}\n"), e.path)
        elseif e.kind == "table" then assert(text:find("\n" .. name .. " = {}\n"), e.path)
        else
          name = name:gsub("^x%%:", "Variable:")
          assert(text:find("\nfunction " .. name .. "%(") or
                 text:find("\n[%w.]+%[\"" .. e.name .. "\"%] = function"), e.path)
        end
        for _, m in ipairs(e.members or {}) do
          assert(m.name == "forward" or m.kind == "class" and
            text:find("\n" .. m.path .. " = {}", 1, true) or text:find("function " ..
              (m.path:find ":" and e.path .. ":" .. m.name or m.path) .. "(", 1, true), m.path)
        end
      end
    end
  end)

  it("know the properties that Variables have", function()
    local x, known = mg.ones(2), {}
    for _, p in ipairs(catalog.properties()) do
      known[p.name] = true
      assert(pcall(function() return x[p.name] end), p.name)
    end
    local file <close> = assert(io.open "src/lua/box.c")
    local list = file:read "a":match "properties%[%] = {(.-)NULL"
    for name in list:gmatch '"(%a[%w_]*)"' do assert(known[name], name) end
  end)
end)
