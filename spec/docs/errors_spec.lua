-- What the reference says that is refused: every message that the sources of ops have is raised by
-- one of its calls.

local child = require "spec.child"
local catalog = require "docs.catalog"
local errors = require "docs.errors"

-- All messages that the reference shows, those of a thing by its path
local function shown()
  local all, by_path = {}, {}
  local function look(e)
    local list = errors.of(e)
    by_path[e.path] = list
    for _, each in ipairs(list) do all[#all + 1] = each.message end
    for _, m in ipairs(e.members or {}) do look(m) end
  end
  for _, p in ipairs(catalog.properties()) do look(p) end
  for _, group in ipairs(catalog.groups()) do
    for _, e in ipairs(group.entries) do look(e) end
  end
  return all, by_path
end

-- A format as a pattern of what it makes; from its beginning, as it may go on in another string.
local function pattern_of(format)
  local text = format:gsub("%%[%d.]*l*([sdqgzc])u?", function(kind)
    return kind == "d" and "\0" or "\1"
  end)
  text = text:gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
  return "^" .. text:gsub("%z", "%%-?%%d+"):gsub("\1", ".-")
end

-- What no call of a public name raises, or none that fits on a page
local UNSEEN = {
  -- of more than there is memory for, or a library that is not there
  "too large", "%d axes, at most", "more than 2^31", "needs LAPACK", "no convergence",
  "more than the %d axes", "%d in a table, there can be", "gives more than %d axes",
  -- ops that only others use, whose arguments these have looked at
  "powi: ", "attention: q", "attention: mask", "recurrent: ", "lu_solve: ", "standardize: ",
  "fold: ", "no such groups", "no windows lead", "those of a max_pool", "%d firsts", "_ranks: ",
  "_distance: ", "_pull: ",
  "%s: shape %s does not fit axis %d of %s", "no gradient", "did not save", "too many inputs",
  "%s: shapes %s and %s differ",
  -- what the signature has refused before
  "rand: dtype must be", "the index is %s", "must be at least 1, padding 0",
  -- in the middle of something: a backward, several processes, a state that closes
  "not while a backward runs", "averaged", "which processes", "in another process",
  "after the last", "state is closing", "no tracked leaf", "was let go", "whose gradient needs it",
  "needs this value",
}

describe("the errors of the reference", function()
  local all, by_path = shown()

  -- Formats of the messages in a file that do not stand in the reference
  local function forgotten(path, pattern)
    local list = {}
    for format in child.read(path):gmatch(pattern) do
      local found = false
      local wanted = pattern_of(format:gsub("\\$", ""))
      for _, message in ipairs(all) do found = found or message:find(wanted) ~= nil end
      for _, part in ipairs(UNSEEN) do found = found or format:find(part, 1, true) ~= nil end
      if not found then list[#list + 1] = path .. ": " .. format end
    end
    return list
  end

  it("are all that the ops written in Lua raise", function()
    local list = {}
    for path in io.popen("ls lua/moongrad/ops/*.lua"):lines() do
      local missing = forgotten(path, 'raise%s*%(?%s*"([^"]*)')
      table.move(missing, 1, #missing, #list + 1, list)
    end
    assert.same({}, list)
  end)

  it("are all that the core's ops raise", function()
    local list = {}
    local files = "src/graph/*.c src/cpu/lapack.c src/lua/ops.c src/lua/subscript.c"
    for path in io.popen("ls " .. files):lines() do
      for _, call in ipairs{"[^_%w]fail", "refuse"} do
        local missing = forgotten(path, call .. '%s*%([^",]*,%s*"([^"]*)')
        table.move(missing, 1, #missing, #list + 1, list)
      end
    end
    assert.same({}, list)
  end)

  -- Indices, operators, modes and another name of an op have names of their own.
  it("name what was called", function()
    local others, same = {}, {"^index: ", "^a Variable has no ", "^pairs: ", "^[&|~]: operand ",
      "^Config: ", "^cross_entropy: ", "^assign: "}
    for path, list in pairs(by_path) do
      for _, each in ipairs(list) do
        local named = each.message:find(path:match "[%w_]+$", 1, true)
        for _, start in ipairs(same) do named = named or each.message:find(start) end
        if not named then others[#others + 1] = each.call .. ": " .. each.message end
      end
    end
    assert.same({}, others)
  end)
end)
