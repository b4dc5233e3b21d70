-- log.lua -- mg.log(path): what a run says of itself. A path that ends in .csv or .jsonl is a file
-- of scalars; any other a folder for TensorBoard (tensorboard --logdir PATH).
--
-- An event file is records one after the other: length (8 bytes), its checksum, an Event as
-- protobuf (event.proto, summary.proto of TensorFlow), its checksum. Every record is one write:
-- what was logged is in the file, whatever happens after, in this process or a child.

local mg = require "moongrad"
local Object = require "moongrad.class"
local json = require "moongrad.io.json"
local number_of = require "moongrad.number"
local picture = require "moongrad.io.picture"
local folders = require "moongrad.io.folder"
local checked, raise = mg.checked, mg.raise

-- ---- protobuf ---------------------------------------------------------------------------------

local function varint(n)
  local bytes = {}
  while n < 0 or n > 127 do
    bytes[#bytes + 1] = string.char(n & 127 | 128)
    n = n >> 7
  end
  bytes[#bytes + 1] = string.char(n)
  return table.concat(bytes)
end

-- Fields of a message: key (number and how it is written), value
local function integer(field, n) return varint(field << 3) .. varint(n) end
local function double(field, v) return varint(field << 3 | 1) .. ("<d"):pack(v) end
local function single(field, v) return varint(field << 3 | 5) .. ("<f"):pack(v) end
local function bytes(field, s) return varint(field << 3 | 2) .. varint(#s) .. s end

local function event(now, step, rest)
  return double(1, now) .. (step and integer(2, step) or "") .. rest
end

-- A Summary of one Value
local function summary(tag, rest) return bytes(5, bytes(1, bytes(1, tag) .. rest)) end

local function masked(s)
  local crc = mg._crc32c(s)
  return ("<I4"):pack(((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff)
end

local function record(data)
  local length = ("<I8"):pack(#data)
  return length .. masked(length) .. data .. masked(data)
end

-- ---- files ------------------------------------------------------------------------------------

local function open(path, mode)
  local f, problem = io.open(path, mode)
  if not f then raise("log: cannot write %s", problem) end
  f:setvbuf "no"
  return f
end

local function put(self, text)
  if not self.file then raise("log: %s was closed", self.path) end
  local at = self.file:seek "end"
  local ok, problem = self.file:write(text)
  if ok then return end
  if at then mg._cut(self.file, at) end -- what comes after is not to stand behind half a record
  raise("log: cannot write %s: %s", self.path, problem)
end

local Log = Object:extend "Log"
Log:_refuse_torch "a log"

-- The step of what is logged without one: 1, 2, 3 ... for each name, of what was written
local function step_of(self, name, step) return step or (self.steps[name] or 0) + 1 end

local function check_name(name)
  if not utf8.len(name) or name:find "\0" then
    raise("log: the name %q is no UTF-8, or has a NUL", name)
  end
end

-- {name, value}, in order of names
local function sorted(op, values)
  local list = {}
  for name, v in pairs(values) do
    if type(name) ~= "string" then raise("%s: a %s is no name", op, type(name)) end
    check_name(name)
    list[#list + 1] = {name, number_of(op, name, v)}
  end
  if #list == 0 then raise("%s: the table is empty", op) end
  table.sort(list, function(a, b) return mg._before(a[1], b[1]) end)
  return list
end

-- ---- TensorBoard ------------------------------------------------------------------------------

local Events = Log:extend "Log"

local function word_of(path, pattern, other)
  local f <close> = io.open(path)
  return f and (f:read "l" or ""):match(pattern) or other
end

local opened = 0

function Events:open(path)
  folders.make("log", path)
  opened = opened + 1
  self.name = ("%s/events.out.tfevents.%010d.%s.%s.%d"):format(path, os.time(),
    word_of("/etc/hostname", "^[%w.-]+", "host"), word_of("/proc/self/stat", "^%d+", "0"), opened)
  self.file = open(self.name, "wb")
  local ok, problem = pcall(put, self, record(event(mg._now(), nil, bytes(3, "brain.Event:2"))))
  if ok then return end
  self.file:close()
  os.remove(self.name)
  error(problem, 0)
end

function Events:rows(list, step)
  local now, records, steps = mg._now(), {}, {}
  for i, e in ipairs(list) do
    steps[i] = step_of(self, e[1], step)
    records[i] = record(event(now, steps[i], summary(e[1], single(2, e[2]))))
  end
  put(self, table.concat(records))
  for i, e in ipairs(list) do self.steps[e[1]] = steps[i] end
end

function Events:value(name, step, rest)
  check_name(name)
  step = step_of(self, name, step)
  put(self, record(event(mg._now(), step, summary(name, rest))))
  self.steps[name] = step
end

local function doubles(field, x)
  return bytes(field, x:to "float64":tobytes())
end

-- HistogramProto: min, max, how many, sum, sum of squares, upper edges, counts
local function histogram(name, x, bins)
  x = x:detach():flatten():to "float64"
  x = x[x:isfinite()]
  if x.size == 0 then raise("histogram: %s has no finite values", name) end
  local counts, edges = mg.histogram(x, bins)
  return double(1, x:min():item()) .. double(2, x:max():item()) .. double(3, x.size) ..
    double(4, x:sum():item()) .. double(5, x:square():sum():item()) ..
    doubles(6, edges[{{2, -1}}]) .. doubles(7, counts)
end

local TEXT = bytes(9, bytes(1, bytes(1, "text"))) -- metadata: the plugin's name
local STRINGS = integer(1, 7) .. bytes(2, bytes(2, integer(1, 1))) -- a tensor of one string

-- ---- tables of scalars ------------------------------------------------------------------------

local function shortest(v)
  local text
  for digits = 9, 17 do
    text = mg._format(("%%.%dg"):format(digits), v)
    if tonumber(text) == v then break end
  end
  return text
end

-- One line for each call
local Lines = Log:extend "Log"

local function json_number(v)
  return v ~= v and "null" or v == math.huge and "1e999" or v == -math.huge and "-1e999" or
    math.type(v) == "integer" and tostring(v) or shortest(v)
end

-- A reader of what is in the file already, if there is something
local function begun(path)
  if not mg._exists(path) then return nil end
  local r = mg._open(path, "log")
  if r:size() > 0 then return r end
  r:close()
end

-- Behind a line that was cut off begins a new one.
local function open_lines(self, path, append)
  local r <close> = append and begun(path)
  local cut = r and r:part(r:size() - 1, 1):read(1) ~= "\n"
  self.file = open(path, append and "ab" or "wb")
  if cut then put(self, "\n") end
end

function Lines:open(path, append)
  open_lines(self, path, append)
  self.unread = append
end

-- The steps of the lines that are in the file already; half a line has none.
local function read_steps(self)
  local r <close> = begun(self.path)
  for line in (r and r:read(r:size()) or ""):gmatch "[^\n]+" do
    local t, names = json.decode(line), {}
    for name in pairs(type(t) == "table" and t or {}) do
      if name ~= "step" and name ~= "time" then names[#names + 1] = name end
    end
    if #names > 0 and math.type(t.step) == "integer" then
      table.sort(names, mg._before)
      self.steps[table.concat(names, "\0")] = t.step
    end
  end
  self.unread = false
end

function Lines:line(name, step, parts)
  if not step and self.unread then read_steps(self) end
  step = step_of(self, name, step)
  put(self, ('{"step":%d,"time":%s,%s}\n'):format(step, mg._format("%.3f", mg._now()),
    table.concat(parts, ",")))
  self.steps[name] = step
end

-- What stands in each line or row beside
local function check_free(self, name)
  if name == "step" or name == "time" then
    raise("log: in %s the name %s is taken", self.path, name)
  end
end

function Lines:rows(list, step)
  local parts, names = {}, {}
  for i, e in ipairs(list) do
    check_free(self, e[1])
    names[i] = e[1]
    parts[i] = json.quote(e[1]) .. ":" .. json_number(e[2])
  end
  self:line(table.concat(names, "\0"), step, parts)
end

function Lines:string(name, s, step)
  check_free(self, name)
  self:line(name, step, {json.quote(name) .. ":" .. json.quote(s)})
end

-- One row for each step, written when the next begins; the columns are those of the first.
local Rows = Log:extend "Log"

local function cell(text)
  if not text:find '[,"\n\r]' then return text end
  return '"' .. text:gsub('"', '""') .. '"'
end

-- The first line of a table with these columns, and a set of them
local function heading(self, columns)
  local cells, known = {"step", "time"}, {}
  for i, name in ipairs(columns) do
    check_free(self, name)
    if known[name] then raise("log: two columns are called %s", name) end
    cells[i + 2], known[name] = cell(name), true
  end
  return table.concat(cells, ",") .. "\n", known
end

function Rows:open(path, append, columns)
  local r <close> = append and begun(path)
  if r then
    local t, keys = require "moongrad.io.csv".read(r, nil, false, true)
    if keys[1] ~= "step" or keys[2] ~= "time" or #t.step > 0 and t.step.dtype ~= "int64" then
      raise("log: %s is no log", path)
    end
    local known = table.move(keys, 3, #keys, 1, {})
    if columns and table.concat(columns, "\0") ~= table.concat(known, "\0") then
      raise("log: %s has the columns %s", path, table.concat(known, ", "))
    end
    columns = known
    self.row_step = #t.step > 0 and t.step[-1]:item() or nil
  end
  if columns then heading(self, columns) end -- what it refuses leaves the file as it is
  open_lines(self, path, append)
  if columns then self:take(columns, r) end
end

-- The first line, unless another process has written it since the file was opened.
local function head(self, line)
  local there <close> = io.open(self.path)
  if (self.file:seek "end" or 0) == 0 then put(self, line)
  elseif not there or there:read(#line) ~= line then
    raise("log: %s was begun with other columns", self.path)
  end
end

function Rows:take(columns, written)
  local line, known = heading(self, columns)
  if not written then mg._locked(self.path, "log", head, self, line) end
  self.columns, self.known = columns, known
end

function Rows:rows(list, step)
  local first = list[1][1]
  step = step or self.row and self.row[first] == nil and self.row_step or
    (self.row_step or 0) + 1
  if self.row and step ~= self.row_step then self:flush() end
  for _, e in ipairs(list) do
    check_free(self, e[1])
    if self.columns and not self.known[e[1]] then
      raise("log: %s has no column %s; those of the first row are all, or columns = {...}",
        self.path, e[1])
    end
  end
  self.row, self.row_step = self.row or {}, step
  for _, e in ipairs(list) do self.row[e[1]] = e[2] end
end

function Rows:flush()
  local row = self.row
  if not row then return end
  if not self.columns then
    local names = {}
    for name in pairs(row) do names[#names + 1] = name end
    table.sort(names, mg._before)
    self:take(names)
  end
  local cells = {("%d"):format(self.row_step), mg._format("%.3f", mg._now())}
  for i, name in ipairs(self.columns) do
    local v = row[name]
    cells[i + 2] = v == nil and "" or v ~= v and "nan" or
      math.type(v) == "integer" and tostring(v) or shortest(v)
  end
  put(self, table.concat(cells, ",") .. "\n")
  self.row = nil
end

-- ---- methods ----------------------------------------------------------------------------------

local function refuse(self, what)
  raise("%s: %s holds scalars alone; a folder holds all", what, self.path)
end

local function method(name, signature, doc, fn)
  local f = checked(name .. "(self, " .. signature .. ")", doc, function(self, ...)
    if not self.file then raise("%s: %s was closed", name, self.path) end
    fn(self, ...)
  end)
  for _, class in ipairs{Log, Events, Lines, Rows} do class[name] = f end
end

method("scalar", "name: string, value: any, step: int?",
  "a number, or a Variable of one; without a step they are counted for each name, from 1, or on " ..
    "from what a file has that is appended to",
  function(self, name, value, step) self:rows(sorted("scalar", {[name] = value}), step) end)

method("scalars", "values: table, step: int?", "numbers by name, of one step",
  function(self, values, step) self:rows(sorted("scalars", values), step) end)

method("image", "name: string, x: array, step: int?, {columns: int(1..)?}",
  "a picture (H, W) or (C, H, W), or a grid of (N, C, H, W); uint8, or floats 0..1",
  function(self, name, x, step, columns)
    if not self.value then refuse(self, "image") end
    local png, h, w, channels = picture.png("image: " .. name, x, columns)
    self:value(name, step, bytes(4, integer(1, h) .. integer(2, w) .. integer(3, channels) ..
      bytes(4, png)))
  end)

method("histogram", "name: string, x: array, step: int?, {bins: int(1..) = 30}",
  "how the values of x, the finite ones, are spread",
  function(self, name, x, step, bins)
    if not self.value then refuse(self, "histogram") end
    self:value(name, step, bytes(5, histogram(name, x, bins)))
  end)

method("text", "name: string, text: string, step: int?", "a text, in Markdown",
  function(self, name, text, step)
    check_name(name)
    if not utf8.len(text) then raise("text: %s is no UTF-8", name) end
    if self.string then return self:string(name, text, step) end
    if not self.value then refuse(self, "text") end
    self:value(name, step, TEXT .. bytes(8, STRINGS .. bytes(8, text)))
  end)

local close = checked("close(self)", "the end; what is logged after is an error", function(self)
  if not self.file then return end
  if self.flush then self:flush() end
  self.file:close()
  self.file = nil
end)

for _, class in ipairs{Log, Events, Lines, Rows} do
  class:_seal("path steps name file unread columns known row row_step last", "flush string value")
  class.close = close
  class.__close = function(self) close(self) end -- which gets the error, too
  class.__tostring = function(self) return ("Log(%s)"):format(self.path) end
end

-- Of a log that nobody closed. Finalizers run in the reverse order of their making: this one is
-- made after the file's, which would close it.
local function close_at_last(self)
  self.last = setmetatable({}, {__gc = function() pcall(close, self) end})
end

-- log(path, {append, columns})
local function log(path, append, columns)
  folders.check("log", path)
  local kind = path:match "%.(%w+)$"
  if kind == "txt" or kind == "log" or kind == "json" or kind == "tsv" then
    raise("log: no log is a file .%s: there are .csv and .jsonl, and folders for TensorBoard", kind)
  end
  local class = kind == "csv" and Rows or kind == "jsonl" and Lines or Events
  if class == Events and append then raise("log: append is for .csv and .jsonl") end
  if columns and class ~= Rows then raise("log: columns are those of a .csv") end
  for _, name in ipairs(columns or {}) do check_name(name) end
  local self = class()
  self.path, self.steps = path, {}
  self:open(path, append, columns)
  if self.flush then close_at_last(self) end
  return self
end

return {
  log = checked("log(path: string, {append: bool = false, columns: strings?})", "", log), Log = Log,
}
