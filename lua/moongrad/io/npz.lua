-- npz.lua -- a zip of .npy members, stored or deflated (PKWARE's APPNOTE.TXT), up to zip64.
-- Metadata are a member of their own: __metadata__.npy, JSON {string: string} as NumPy's bytes.
--
-- A zip says most things twice. Where the two differ, members overlap, or bytes belong to nobody,
-- two readers would see two files; such a zip is refused.

local mg = require "moongrad.core"
local json = require "moongrad.io.json"
local npy = require "moongrad.io.npy"
local raise = mg.raise

local npz = {ending = "npz", sum = true}

local LOCAL, CENTRAL, END = "PK\3\4", "PK\1\2", "PK\5\6"
local END64, LOCATOR, DESCRIPTOR = "PK\6\6", "PK\6\7", "PK\7\8"
local DATE = 1 << 5 | 1 -- 1980-01-01; the same Variables make the same file
local METADATA = "__metadata__"
local LONG = 0xffffffff -- a size that stands elsewhere
local UTF8 = 0x800
local SHORTEST, LONGEST = 46, 46 + 3 * 0xffff -- of the directory for one member
local TAIL = 24 -- the most that stands behind a member's data

local function fail(r, ...) raise("%s: " .. select(1, ...), r:label(), select(2, ...)) end

-- ---- writing ----------------------------------------------------------------------------------

-- What both headers of a member say; the sizes go to the extra field where they are long.
local function common(m, extra)
  local size = m.size >= LONG and LONG or m.size
  -- version, flags, method, time, date, crc, size twice, length of the name, of the extra field
  return ("<I2I2I2I2I2I4I4I4I2I2"):pack(#extra > 0 and 45 or 20, UTF8, 0, 0, DATE, m.crc, size,
    size, #m.name, #extra)
end

local function extra_field(...)
  if select("#", ...) == 0 then return "" end
  return ("<I2s2"):pack(1, ("<" .. ("I8"):rep(select("#", ...))):pack(...))
end

local function local_header(m)
  local extra = m.size >= LONG and extra_field(m.size, m.size) or ""
  return LOCAL .. common(m, extra) .. m.name .. extra
end

local function central_header(m)
  local long = {}
  if m.size >= LONG then long = {m.size, m.size} end
  if m.at >= LONG then long[#long + 1] = m.at end
  local extra = extra_field(table.unpack(long))
  return CENTRAL .. ("<I2"):pack(45) .. common(m, extra) ..
    ("<I2I2I2I4I4"):pack(0, 0, 0, 0, math.min(m.at, LONG)) .. m.name .. extra
end

-- Writes a member of so many bytes by body(); its CRC is known after.
local function add(w, members, name, size, body)
  local m = {name = name .. ".npy", size = size, crc = 0, at = w:at()}
  if #m.name > 0xffff then raise("%s: a name of %d bytes", w:label(), #name) end
  members[#members + 1] = m
  w:write(local_header(m))
  w:crc()
  body()
  m.crc = w:crc()
  w:patch(m.at, local_header(m))
end

function npz.save(w, arrays, metadata)
  local members = {}
  table.sort(arrays, function(a, b) return mg._before(a.name, b.name) end)
  if metadata then
    local text = npy.header("|S" .. #metadata, {}) .. metadata
    add(w, members, METADATA, #text, function() w:write(text) end)
  end
  for _, a in ipairs(arrays) do
    local head = npy.header(npy.descr(w, a), a.x.shape)
    add(w, members, a.name, #head + npy.bytes(a), function()
      w:write(head)
      w:array(a.x, a.dtype, a.name)
    end)
  end
  local start, count = w:at(), #members
  for _, m in ipairs(members) do w:write(central_header(m)) end
  local stop = w:at()
  if count >= 0xffff or stop >= LONG then
    w:write(END64, ("<I8I2I2I4I4I8I8I8I8"):pack(44, 45, 45, 0, 0, count, count, stop - start,
      start), LOCATOR, ("<I4I8I4"):pack(0, stop, 1))
  end
  w:write(END, ("<I2I2I2I2I4I4I2"):pack(0, 0, math.min(count, 0xffff), math.min(count, 0xffff),
    math.min(stop - start, LONG), math.min(start, LONG), 0))
end

-- ---- the directory ----------------------------------------------------------------------------

local function bytes(r, at, n)
  if at < 0 or n < 0 or at + n > r:size() then fail(r, "it ends too early") end
  return r:part(at, n):read(n)
end

-- Where the end record is: followed by its comment and nothing else.
local function find_end(r)
  local size = r:size()
  local n = math.min(size, 22 + 0xffff)
  local tail = bytes(r, size - n, n)
  for i = #tail - 21, 1, -1 do
    if tail:sub(i, i + 3) == END and i + 21 + ("<I2"):unpack(tail, i + 20) == #tail then
      return size - n + i - 1, ("<I2I2I2I2I4I4"):unpack(tail, i + 4)
    end
  end
  fail(r, "it is no zip file, ends too early, or has bytes behind its end")
end

-- count, start and stop of the directory
local function directory_of(r)
  local at, disk, first_disk, here, count, length, start = find_end(r)
  local locator = at >= 20 and bytes(r, at - 20, 20) or ""
  if locator:sub(1, 4) == LOCATOR then
    local disk64, place, disks = ("<I4i8I4"):unpack(locator, 5)
    if place < 0 or place ~= at - 20 - 56 or disk64 ~= 0 or disks ~= 1 then
      fail(r, "the zip directory is broken")
    end
    local record = bytes(r, place, 56)
    local size
    size, disk, first_disk, here, count, length, start =
      ("<i8xxxxI4I4i8i8i8i8"):unpack(record, 5)
    if record:sub(1, 4) ~= END64 or size ~= 44 then fail(r, "the zip directory is broken") end
    at = place
  end
  if disk ~= 0 or first_disk ~= 0 or here ~= count then fail(r, "it is a zip of several disks") end
  if start < 0 or length < 0 or start > at or length ~= at - start then
    fail(r, "the zip directory is out of range, or bytes stand before or behind it")
  end
  if count < 0 or count > length // SHORTEST or length > count * LONGEST then
    fail(r, "the zip directory is broken")
  end
  return count, start, at
end

-- The numbers of the zip64 extra field, as many as are wanted.
local function long_numbers(r, extra, wanted)
  local pos, found, known = 1, nil, {}
  while pos + 3 <= #extra do
    local id, n = ("<I2I2"):unpack(extra, pos)
    if pos + 3 + n > #extra or known[id] then fail(r, "an extra field is broken") end
    known[id] = true
    if id == 1 then found = extra:sub(pos + 4, pos + 3 + n) end
    pos = pos + 4 + n
  end
  local numbers = {}
  if wanted > 0 and (not found or #found < 8 * wanted) then fail(r, "an extra field is broken") end
  for i = 1, wanted do
    numbers[i] = ("<i8"):unpack(found, 8 * i - 7)
    if numbers[i] < 0 then fail(r, "an extra field is broken") end
  end
  return numbers, found
end

-- Takes the place of those of m[fields] that are LONG.
local function lengthen(r, m, extra, fields)
  local wanted = {}
  for _, f in ipairs(fields) do
    if m[f] == LONG then wanted[#wanted + 1] = f end
  end
  local numbers = long_numbers(r, extra, #wanted)
  for i, f in ipairs(wanted) do m[f] = numbers[i] end
end

local function central(r, directory, pos)
  if directory:sub(pos, pos + 3) ~= CENTRAL or pos + 45 > #directory then
    fail(r, "the zip directory is broken")
  end
  local m, name, extra, comment = {}
  m.version, m.flags, m.method, m.crc, m.packed, m.size, name, extra, comment, m.disk, m.at =
    ("<xxxxxxBxI2I2xxxxI4I4I4I2I2I2I2xxxxxxI4"):unpack(directory, pos)
  local first = pos + 46
  if first + name + extra + comment - 1 > #directory then fail(r, "the zip directory is broken") end
  m.name = directory:sub(first, first + name - 1)
  lengthen(r, m, directory:sub(first + name, first + name + extra - 1), {"size", "packed", "at"})
  return m, first + name + extra + comment
end

-- What stands before a member's data must say the same; where these begin and end.
local function check_local(r, m)
  if m.at + 30 > m.stop then fail(r, "member %s is not where the directory says", m.name) end
  local head = bytes(r, m.at, 30)
  local h, name, extra = {}
  h.flags, h.method, h.crc, h.packed, h.size, name, extra =
    ("<xxxxxxI2I2xxxxI4I4I4I2I2"):unpack(head)
  m.first = m.at + 30 + name + extra
  if head:sub(1, 4) ~= LOCAL or m.packed > m.stop - m.first then
    fail(r, "member %s is not where the directory says", m.name)
  end
  local rest = bytes(r, m.at + 30, name + extra)
  if rest:sub(1, name) ~= m.name then fail(r, "member %s has another name there", m.name) end
  lengthen(r, h, rest:sub(name + 1), {"size", "packed"})
  local same = h.flags == m.flags and h.method == m.method
  local late = m.flags & 8 ~= 0 -- written without knowing its sizes, which follow its data
  for _, f in ipairs{"crc", "packed", "size"} do
    same = same and (h[f] == m[f] or late and h[f] == 0)
  end
  if not same then fail(r, "member %s differs from what the directory says", m.name) end
  local stop = m.first + m.packed
  if late and m.stop - stop <= TAIL then
    local tail = bytes(r, stop, m.stop - stop)
    local sum = tail:sub(1, 4) == DESCRIPTOR and tail:sub(5) or tail
    if sum ~= ("<I4I4I4"):pack(m.crc, m.packed & LONG, m.size & LONG) and
       sum ~= ("<I4I8I8"):pack(m.crc, m.packed, m.size) then
      fail(r, "member %s differs from what the directory says", m.name)
    end
  elseif stop ~= m.stop then
    fail(r, "bytes belong to nobody after member %s", m.name)
  end
end

-- Members in order of place, checked against each other
local function members_of(r)
  local count, start, stop = directory_of(r)
  local directory, pos, members, names = bytes(r, start, stop - start), 1, {}, {}
  for i = 1, count do
    local m
    m, pos = central(r, directory, pos)
    if not utf8.len(m.name) or m.name:find "\0" then fail(r, "a name is no UTF-8, or has a NUL") end
    m.key = m.name:match "^(.*)%.npy$" or m.name
    if names[m.key] then fail(r, "two members are called %s", m.key) end
    if m.disk ~= 0 then fail(r, "it is a zip of several disks") end
    members[i], names[m.key] = m, true
  end
  if pos ~= #directory + 1 then fail(r, "the zip directory is broken") end
  table.sort(members, function(a, b) return a.at < b.at end)
  for i, m in ipairs(members) do
    m.stop = members[i + 1] and members[i + 1].at or start
    if i == 1 and m.at ~= 0 then fail(r, "bytes stand before the first member") end
    check_local(r, m)
  end
  if count == 0 and start ~= 0 then fail(r, "bytes belong to no member") end
  return members
end

-- ---- members ----------------------------------------------------------------------------------

local PACKING = {[0] = "stored", [8] = "deflate"}
local RATIO = 1032 -- deflate cannot do more

local function problem_of(m)
  if m.version > 63 then return "it needs a later version of zip" end
  if m.flags & 0x2041 ~= 0 then return "it is encrypted" end
  if m.flags & 0x20 ~= 0 or not PACKING[m.method] then return "its compression is unknown" end
  if not m.name:find "%.npy$" then return "it is no .npy member" end
end

local function open_member(r, m)
  local label = ("%s: %s"):format(r:label(), m.name)
  if m.method == 0 and m.packed ~= m.size or m.method == 8 and m.size // RATIO > m.packed then
    raise("%s: it is damaged: %d bytes cannot become %d", label, m.packed, m.size)
  end
  return r:part(m.first, m.packed, PACKING[m.method], m.size, label)
end

local function check_end(part, m)
  part:done()
  if part:crc() ~= m.crc then fail(part, "it is damaged: the CRC differs") end
end

-- JSON in NumPy's bytes, or nil if it is something else
local function metadata_of(r, m)
  if problem_of(m) then return nil end
  local part <close> = open_member(r, m)
  local e = npy.entry(part)
  if not e.dtype:find "^|S" or #e.dims > 0 then return nil end
  local text = part:read(part:left())
  check_end(part, m)
  local t = json.decode(text)
  if getmetatable(t) or type(t) ~= "table" then t = {false} end
  for _, v in pairs(t) do
    if type(v) ~= "string" then fail(part, "it holds something else than strings by name") end
  end
  return t
end

-- A list of entries {name, problem or open}, and the metadata; open() gives the rest.
function npz.open(r)
  local entries, metadata = {}, nil
  for _, m in ipairs(members_of(r)) do
    local found = m.key == METADATA and metadata_of(r, m)
    metadata = metadata or found or nil
    if not found then
      entries[#entries + 1] = {name = m.key, problem = problem_of(m), open = function()
        local part = open_member(r, m)
        local e = npy.entry(part, m.key)
        local read = e.read
        function e.read()
          local x = read()
          check_end(part, m)
          part:close()
          return x
        end
        function e.close() part:close() end
        return e
      end}
    end
  end
  return entries, metadata
end

return npz
