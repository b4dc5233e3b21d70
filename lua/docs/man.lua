-- man.lua -- the man page moongrad(3), in mdoc: all names with their signatures.

local catalog = require "docs.catalog"
local mg = require "moongrad"

local man = {}

local WIDTH = 78

-- With nothing that roff would read
local function plain(text) return (text:gsub("\\", "\\e"):gsub("%-", "\\-")) end

-- Lines of text, none that roff would take for a request
local function lines(text)
  local out, line = {}, ""
  for word in text:gmatch "%S+" do
    if line ~= "" and (#line + #word >= WIDTH or line:find "%.$" and word:find "^%u") then
      out[#out + 1] = line
      line = ""
    end
    line = line == "" and word or line .. " " .. word
  end
  out[#out + 1] = line
  for i, each in ipairs(out) do out[i] = plain(each):gsub("^([.'])", "\\&%1") end
  return table.concat(out, "\n")
end

-- As the argument of a macro: one word for it, however many it is
local function quoted(text) return '"' .. plain(text):gsub('"', '""') .. '"' end

local HEAD = [[
.Dd %s
.Dt MOONGRAD 3
.Os
.Sh NAME
.Nm moongrad
.Nd automatic differentiation on CPU arrays for Lua
.Sh SYNOPSIS
.Bd -literal
local mg = require "moongrad"
local x = mg.Variable{1, 2, 3}
local y = (x ^ 2):sum()
y:backward()
print(x.grad)
.Ed
.Sh DESCRIPTION
.Nm
differentiates what is written in Lua 5.4.
Arrays are Variables: constants made by
.Fn mg.tensor ,
.Fn mg.zeros
and their like, or leaves made by
.Fn mg.Variable ,
which gradients come to.
Operators and ops work element by element and broadcast; each op is a function
of the module and, where an array comes first, a method.
Axes, indices and labels count from 1.
Whatever does not fit its signature raises an error at the line of the call.
.Pp
In the signatures below stand arguments with their types; a value after = is
taken where nothing was given, a type with ? may be nil, an argument in brackets
may be left out, and what stands in braces are options, given by name in one
table behind the arguments.
]]

local TAIL = [[
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev OMP_NUM_THREADS
how many threads compute
.It Ev MOONGRAD_CODE
off: no machine code is written at run time
.It Ev MOONGRAD_LEVEL
2: kernels for processors without AVX2
.El
.Sh SEE ALSO
.Xr lua5.4 1
.Pp
The pages in
.Pa /usr/local/share/doc/moongrad
have an example of every name, and guides.
]]

local function item(out, e)
  local own = e.text:match "^[%w_]+(.*)$" or ""
  if e.kind == "property" or e.text == e.name then own = "" end
  if e.path:sub(1, 2) == "x:" then own = own:gsub("^%(%w+: [%w_]+,? ?", "(") end
  out[#out + 1] = ".It Li " .. quoted((e.name == "forward" and "layer" or e.path) .. own)
  if e.doc then out[#out + 1] = lines(e.doc) end
  for _, m in ipairs(e.members or {}) do
    if m.name ~= "forward" then item(out, m) end
  end
end

local function list(out, title, entries)
  out[#out + 1] = ".Ss " .. title
  out[#out + 1] = ".Bl -tag -width Ds"
  for _, e in ipairs(entries) do item(out, e) end
  out[#out + 1] = ".El"
end

-- The page, as of a day: "November 26, 2026"
function man.text(day)
  local out = {(HEAD:format(day):gsub("\n$", "")), ".Sh FUNCTIONS AND CLASSES"}
  list(out, "Properties of a Variable", catalog.properties())
  for _, group in ipairs(catalog.groups()) do
    list(out, (group.module and "mg." or "") .. group.title, group.entries)
  end
  out[#out + 1] = (TAIL:gsub("\n$", ""))
  out[#out + 1] = ".Sh HISTORY\nThis is version " .. mg.version .. "."
  return table.concat(out, "\n") .. "\n"
end

return man
