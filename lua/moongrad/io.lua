-- io.lua -- Variables in files: .safetensors, .npy and .npz, after their name's ending.
--
-- A file is written beside its place and renamed when complete, so that no reader and no crash
-- meets half of it. What is read is trusted in nothing: every size is checked against the file
-- before memory is asked for. Formats: github.com/huggingface/safetensors (README);
-- numpy.org/neps/nep-0001-npy-format; PKWARE's APPNOTE.TXT for zip.

local mg = require "moongrad.core"
local raise = mg.raise

local files = {}

local SIZE = {float64 = 8, float32 = 4, int64 = 8, uint8 = 1, bool = 1}
local TO_SAFETENSORS = {float64 = "F64", float32 = "F32", int64 = "I64", uint8 = "U8",
                        bool = "BOOL"}
local TO_NPY = {float64 = "<f8", float32 = "<f4", int64 = "<i8", uint8 = "|u1", bool = "|b1"}
local FROM_SAFETENSORS, FROM_NPY = {}, {}
for dtype, name in pairs(TO_SAFETENSORS) do FROM_SAFETENSORS[name] = dtype end
for dtype, name in pairs(TO_NPY) do FROM_NPY[name] = dtype end

local function library(op, name)
  local ok, found = pcall(require, name)
  if not ok then raise("%s: needs the Lua module %s (Debian package lua-%s)", op, name, name) end
  return found
end

-- ---- checks -----------------------------------------------------------------------------------

-- Bytes of an array, or nil if they would be more than `limit`, or the dims are none.
local function byte_size(dtype, dims, limit)
  if type(dims) ~= "table" or #dims > 8 then return nil end
  local bytes, empty = SIZE[dtype], false
  for k, d in pairs(dims) do
    if math.type(k) ~= "integer" or math.type(d) ~= "integer" or d < 0 then return nil end
    empty = empty or d == 0
  end
  if empty then limit = 1 << 59 end -- an empty array's other dims must be such as the core takes
  for _, d in ipairs(dims) do
    if d > limit // bytes then return nil end
    bytes = bytes * math.max(d, 1)
  end
  if empty then return 0 end
  return bytes <= limit and bytes or nil
end

local function array(path, name, bytes, dtype, dims)
  if dtype == "bool" and bytes:find("[^\0\1]") then
    raise("load: %s: %s has a bool that is neither 0 nor 1", path, name)
  end
  return mg.frombytes(bytes, dtype, dims)
end

-- f:read(n), or an error where the file ends before.
local function read(f, path, n)
  local bytes = n == 0 and "" or f:read(n)
  if not bytes or #bytes < n then raise("load: %s ends too early", path) end
  return bytes
end

-- ---- safetensors ------------------------------------------------------------------------------
-- A length (8 bytes), so much JSON {name: {dtype, shape, data_offsets}}, the data without gaps.

local safetensors = {}

function safetensors.save(write, xs, names)
  if xs.__metadata__ then raise("save: in .safetensors the name __metadata__ is not an array's") end
  local quote = library("save", "dkjson").quotestring
  local entries, at = {}, 0
  table.sort(names, function(a, b) -- the widest first keeps every array aligned
    local m, n = SIZE[xs[a].dtype], SIZE[xs[b].dtype]
    if m ~= n then return m > n end
    return a < b
  end)
  for i, name in ipairs(names) do
    local x = xs[name]
    local to = at + x.size * SIZE[x.dtype]
    entries[i] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'):format(
      quote(name), TO_SAFETENSORS[x.dtype], table.concat(x.shape, ","), at, to)
    at = to
  end
  local header = "{" .. table.concat(entries, ",") .. "}"
  header = header .. (" "):rep(-#header % 8)
  write(("<I8"):pack(#header), header)
  for _, name in ipairs(names) do write(mg.tobytes(xs[name])) end
end

local MAX_HEADER = 100 * 1000 * 1000

function safetensors.load(f, path, size)
  local json = library("load", "dkjson")
  local length = ("<i8"):unpack(read(f, path, 8))
  if length < 2 or length > math.min(size - 8, MAX_HEADER) then
    raise("load: %s: a header of %d bytes does not fit a file of %d", path, length, size)
  end
  local ok, header, _, problem = pcall(json.decode, read(f, path, length), 1, false, nil, nil)
  if not ok or type(header) ~= "table" then
    raise("load: %s: the header is not JSON (%s)", path, tostring(ok and problem or header))
  end

  local room, entries = size - 8 - length, {}
  for name, e in pairs(header) do
    if name ~= "__metadata__" then
      local offsets = type(e) == "table" and e.data_offsets
      if type(name) ~= "string" or type(offsets) ~= "table" or
         math.type(offsets[1]) ~= "integer" or math.type(offsets[2]) ~= "integer" then
        raise("load: %s: the header's entry for %s is malformed", path, tostring(name))
      end
      local dtype = FROM_SAFETENSORS[e.dtype]
      if not dtype then
        raise("load: %s: %s has dtype %s, not one of F64 F32 I64 U8 BOOL", path, name,
          tostring(e.dtype))
      end
      local first, last = offsets[1], offsets[2]
      local bytes = byte_size(dtype, e.shape, room)
      if not bytes or first < 0 or last > room or last - first ~= bytes then
        raise("load: %s: %s does not fit its offsets %d..%d in %d bytes of data", path, name, first,
          last, room)
      end
      entries[#entries + 1] = {name = name, dtype = dtype, dims = e.shape, first = first,
                               last = last}
    end
  end
  table.sort(entries, function(a, b)
    if a.first ~= b.first then return a.first < b.first end
    return a.last < b.last
  end)

  local xs, at = {}, 0
  for _, e in ipairs(entries) do
    if e.first ~= at then raise("load: %s: a gap or an overlap before %s", path, e.name) end
    at = e.last
    xs[e.name] = array(path, e.name, read(f, path, e.last - e.first), e.dtype, e.dims)
  end
  if at ~= room then raise("load: %s: %d bytes belong to no array", path, room - at) end
  return xs
end

-- ---- npy --------------------------------------------------------------------------------------
-- Magic, version, length, a Python dict {descr, fortran_order, shape} padded to 64 bytes, the data.

local npy = {}

local function npy_header(x)
  local shape = table.concat(x.shape, ", ") .. (x.ndim == 1 and "," or "")
  local dict = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }"):format(TO_NPY[x.dtype],
    shape)
  dict = dict .. (" "):rep(-(#dict + 11) % 64) .. "\n"
  return "\x93NUMPY\1\0" .. ("<s2"):pack(dict)
end

function npy.save(write, x)
  write(npy_header(x), mg.tobytes(x))
end

local function npy_parse(path, bytes)
  if #bytes < 12 or bytes:sub(1, 6) ~= "\x93NUMPY" then raise("load: %s is no .npy data", path) end
  local major = bytes:byte(7)
  if major < 1 or major > 3 then raise("load: %s: .npy version %d is unknown", path, major) end
  local ok, dict, at = pcall(string.unpack, major == 1 and "<s2" or "<s4", bytes, 9)
  if not ok then raise("load: %s ends too early", path) end

  local descr = dict:match("'descr'%s*:%s*'([^']*)'")
  local order = dict:match("'fortran_order'%s*:%s*(%a+)")
  local shape = dict:match("'shape'%s*:%s*%(([%d%s,]*)%)")
  if not (order and shape) then raise("load: %s: the .npy header is malformed", path) end
  local dtype = FROM_NPY[descr]
  if not dtype then
    raise("load: %s: numpy dtype %s, not one of <f8 <f4 <i8 |u1 |b1", path, descr or "of records")
  end
  local dims = {}
  for d in shape:gmatch("%d+") do dims[#dims + 1] = math.tointeger(tonumber(d)) or -1 end
  local room = #bytes - at + 1
  if byte_size(dtype, dims, room) ~= room then
    raise("load: %s: %s of shape (%s) does not fit %d bytes of data", path, descr, shape, room)
  end
  bytes = bytes:sub(at)
  if order ~= "True" or #dims < 2 then return array(path, "it", bytes, dtype, dims) end
  local reversed = {}
  for i, d in ipairs(dims) do reversed[#dims + 1 - i] = d end
  return array(path, "it", bytes, dtype, reversed):transpose()
end

function npy.load(f, path, size)
  return npy_parse(path, read(f, path, size))
end

-- ---- npz: a zip of .npy members ---------------------------------------------------------------

local npz = {}

local LOCAL, CENTRAL, END = "PK\3\4", "PK\1\2", "PK\5\6"
local DATE = 1 << 5 | 1 -- 1980-01-01; the same Variables make the same file

function npz.save(write, xs, names)
  local zlib = library("save", "zlib")
  local directory, at = {}, 0
  table.sort(names)
  for i, name in ipairs(names) do
    local member, head, data = name .. ".npy", npy_header(xs[name]), mg.tobytes(xs[name])
    local crc, size = zlib.crc32(), #head + #data
    crc(head)
    local sum = math.tointeger(crc(data))
    -- version, flags (names are UTF-8), method, time, date, crc, size twice, name length, extra
    local common = ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 0x800, 0, 0, DATE, sum, size & 0xffffffff,
      size & 0xffffffff, #member, 0)
    directory[i] = CENTRAL .. ("<I2"):pack(20) .. common ..
      ("<I2I2I2I4I4"):pack(0, 0, 0, 0, at & 0xffffffff) .. member
    write(LOCAL, common, member, head, data)
    at = at + #LOCAL + #common + #member + size
    if at > 0xffffffff or i > 0xffff then
      raise("save: too much for a .npz file (4 GB, 65535 arrays); .safetensors has no such limit")
    end
  end
  local all = table.concat(directory)
  write(all, END, ("<I2I2I2I2I4I4I2"):pack(0, 0, #names, #names, #all, at, 0))
end

-- Inflated piece by piece, so that a member cannot grow past the size it claims.
local function inflate(path, data, size)
  local stream, out, length = library("load", "zlib").inflate(-15), {}, 0
  for at = 1, #data, 65536 do
    local ok, piece = pcall(stream, data:sub(at, at + 65535))
    length = length + (ok and #piece or 0)
    if not ok or length > size then raise("load: %s: compressed data is broken", path) end
    out[#out + 1] = piece
  end
  return table.concat(out)
end

local function member(f, path, size, e)
  f:seek("set", e.at)
  local head = read(f, path, 30)
  local skip = ("<I2"):unpack(head, 27) + ("<I2"):unpack(head, 29)
  if head:sub(1, 4) ~= LOCAL or e.at + 30 + skip + e.packed > size then
    raise("load: %s: member %s is not where the directory says", path, e.name)
  end
  f:seek("cur", skip)
  local data = read(f, path, e.packed)
  if e.flags & 1 ~= 0 or (e.method ~= 0 and e.method ~= 8) then
    raise("load: %s: member %s is encrypted or of an unknown compression", path, e.name)
  end
  if e.method == 8 then data = inflate(path, data, e.size) end
  if #data ~= e.size or library("load", "zlib").crc32()(data) ~= e.crc then
    raise("load: %s: member %s is damaged", path, e.name)
  end
  return npy_parse(path .. ": " .. e.name, data)
end

function npz.load(f, path, size)
  local tail = math.min(size, 22 + 0xffff)
  f:seek("end", -tail)
  local bytes = read(f, path, tail)
  local at
  for i = #bytes - 21, 1, -1 do
    if bytes:sub(i, i + 3) == END then at = i break end
  end
  if not at then raise("load: %s is no zip file, or ends too early", path) end
  local count, length, start = ("<I2I4I4"):unpack(bytes, at + 10)
  if count == 0xffff or start == 0xffffffff then raise("load: %s: zip64 is not supported", path) end
  if start + length > size then raise("load: %s: the zip directory is out of range", path) end
  f:seek("set", start)
  local directory = read(f, path, length)

  local xs, pos = {}, 1
  for _ = 1, count do
    if directory:sub(pos, pos + 3) ~= CENTRAL or pos + 45 > #directory then
      raise("load: %s: the zip directory is broken", path)
    end
    local flags, method, _, crc, packed, full, name_length, extra, comment =
      ("<I2I2I4I4I4I4I2I2I2"):unpack(directory, pos + 8)
    local at_member = ("<I4"):unpack(directory, pos + 42)
    local name = directory:sub(pos + 46, pos + 45 + name_length)
    pos = pos + 46 + name_length + extra + comment
    local key = name:match("^(.*)%.npy$")
    if key then
      xs[key] = member(f, path, size, {name = name, at = at_member, flags = flags,
        method = method, crc = crc, packed = packed, size = full})
    end
  end
  return xs
end

-- ---- save and load ----------------------------------------------------------------------------

local formats = {safetensors = safetensors, npy = npy, npz = npz}

local function format_of(op, path)
  if type(path) ~= "string" then raise("%s: path must be a string, got %s", op, type(path)) end
  local format = formats[path:match("%.(%w+)$")]
  if not format then
    raise('%s: "%s" does not end in .safetensors, .npz or .npy', op, path)
  end
  return format
end

-- Adds t's Variables to `flat`; tables within give names with dots.
local function flatten(t, prefix, flat, names, depth)
  if depth > 32 then raise("save: tables within tables, more than 32 deep") end
  for key, x in pairs(t) do
    if type(key) ~= "string" and math.type(key) ~= "integer" then
      raise("save: a %s cannot name a Variable", type(key))
    end
    local name = prefix .. key
    if type(x) == "number" then
      x = mg.tensor(x, math.type(x) == "integer" and "int64" or "float64")
    end
    if mg.is_variable(x) then
      if flat[name] then raise("save: two Variables are called %s", name) end
      flat[name] = x
      names[#names + 1] = name
    elseif type(x) == "table" then
      flatten(x, name .. ".", flat, names, depth + 1)
    else
      raise("save: %s is a %s, expected a Variable", name, type(x))
    end
  end
end

-- Writes to a file of another name, which takes path's place at the end.
local function replace(path, body)
  local temporary = ("%s.%s.tmp"):format(path, tostring({}):match("%x+$"))
  local f, problem = io.open(temporary, "wb")
  if not f then raise("save: cannot write %s", problem) end
  local function write(...)
    local done, why = f:write(...)
    if not done then raise("save: %s: %s", path, why) end
  end
  local ok, err = pcall(body, write)
  local closed, why = f:close()
  if ok and closed then
    closed, why = os.rename(temporary, path)
    if closed then return end
  end
  os.remove(temporary)
  if not ok then error(err, 0) end
  raise("save: %s: %s", path, why)
end

-- save(path, x) for .npy, save(path, {name = x, ...}) for the others.
function files.save(path, x)
  local format = format_of("save", path)
  if format == npy then
    if not mg.is_variable(x) then raise("save: a .npy file holds one Variable, got %s", type(x)) end
    replace(path, function(write) npy.save(write, x) end)
  else
    if type(x) ~= "table" then
      raise("save: this kind of file holds a table of Variables by name, got %s",
        mg.is_variable(x) and "a Variable" or type(x))
    end
    local flat, names = {}, {}
    flatten(x, "", flat, names, 0)
    replace(path, function(write) format.save(write, flat, names) end)
  end
end

-- What save wrote: a constant, or a table of constants by name.
function files.load(path)
  local format = format_of("load", path)
  local f <close>, problem = io.open(path, "rb")
  if not f then raise("load: cannot open %s", problem) end
  local _, unreadable = f:read(0)
  if unreadable then raise("load: %s: %s", path, unreadable) end
  local size = f:seek("end")
  f:seek("set")
  return format.load(f, path, size)
end

return files
