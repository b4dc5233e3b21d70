-- npy.lua -- numpy.org/neps/nep-0001-npy-format: magic, version, length, a Python dict {descr,
-- fortran_order, shape} padded to 64 bytes, the data.

local mg = require "moongrad.core"
local literal = require "moongrad.io.literal"
local sizes = require "moongrad.io.dims"
local raise = mg.raise

local npy = {ending = "npy", single = true}

local MAX_HEADER = 1 << 20
local TO = {float64 = "<f8", float32 = "<f4", int64 = "<i8", uint8 = "|u1", bool = "|b1",
            float16 = "<f2", int8 = "|i1", int16 = "<i2", int32 = "<i4", uint16 = "<u2",
            uint32 = "<u4", uint64 = "<u8"}
local SIZE = {float64 = 8, float32 = 4, int64 = 8, uint8 = 1, bool = 1, float16 = 2, int8 = 1,
              int16 = 2, int32 = 4, uint16 = 2, uint32 = 4, uint64 = 8}

-- NumPy's names on Linux
local FROM = {}
for dtype, names in pairs{
  float64 = "f8 d float64 float double", float32 = "f4 f float32 single",
  float16 = "f2 e float16 half", int64 = "i8 q l p int64 int int_ intp long longlong",
  int32 = "i4 i int32 intc", int16 = "i2 h int16 short", int8 = "i1 b int8 byte",
  uint64 = "u8 Q L P uint64 uint uintp ulong ulonglong", uint32 = "u4 I uint32 uintc",
  uint16 = "u2 H uint16 ushort", uint8 = "u1 B uint8 ubyte", bool = "b1 ? bool bool_",
} do
  for name in names:gmatch "%S+" do FROM[name] = dtype end
end

-- ---- writing ----------------------------------------------------------------------------------

function npy.header(descr, shape)
  local dims = table.concat(shape, ", ") .. (#shape == 1 and "," or "")
  local dict = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }"):format(descr, dims)
  dict = dict .. (" "):rep(-(#dict + 11) % 64) .. "\n"
  return "\x93NUMPY\1\0" .. ("<s2"):pack(dict)
end

function npy.descr(w, a)
  return TO[a.dtype] or raise("%s: NumPy has no %s; .safetensors has", w:label(), a.dtype)
end

function npy.bytes(a) return a.x.size * SIZE[a.dtype] end

function npy.save(w, a)
  w:write(npy.header(npy.descr(w, a), a.x.shape))
  w:array(a.x, a.dtype)
end

-- ---- reading ----------------------------------------------------------------------------------

local function fail(r, ...) raise("%s: " .. select(1, ...), r:label(), select(2, ...)) end

local function dict_of(r)
  if r:left() < 10 then fail(r, "it is no .npy data") end
  local magic, major, minor = ("c6BB"):unpack(r:read(8))
  if magic ~= "\x93NUMPY" then fail(r, "it is no .npy data") end
  if major < 1 or major > 3 then fail(r, ".npy version %d is unknown", major) end
  if minor ~= 0 then fail(r, ".npy version %d.%d is unknown", major, minor) end
  local length = major == 1 and ("<I2"):unpack(r:read(2)) or ("<I4"):unpack(r:read(4))
  if length > MAX_HEADER then fail(r, "a header of %d bytes", length) end
  local dict = literal.decode(r:read(length))
  if getmetatable(dict) ~= literal.dict then fail(r, "the .npy header is malformed") end
  return dict
end

-- The storage dtype that descr means, whether its bytes are swapped; or NumPy's name, and why not.
local function dtype_of(r, descr)
  if type(descr) == "table" then return "records", false, "it is an array of records" end
  local order, code = (type(descr) == "string" and descr or ""):match "^([<>|=]?)(.+)$"
  if FROM[code] then return FROM[code], order == ">" end
  if not (code and code:find "^[cfgFDGSUVaOMm]%d*%f[%[\0]") then
    fail(r, "the .npy header is malformed: descr")
  end
  return descr, false, ("numpy dtype %s is none of ours"):format(descr)
end

local function shape_text(t)
  if getmetatable(t) ~= literal.tuple then return "that is no tuple" end
  local words = {}
  for i, d in ipairs(t) do words[i] = tostring(d) end
  return "(" .. table.concat(words, ", ") .. ")"
end

-- The entry of an array, with the reader behind its header
function npy.entry(r, name)
  local dict = dict_of(r)
  local dtype, big, problem = dtype_of(r, dict.descr)
  local keys = 0
  for _ in pairs(dict) do keys = keys + 1 end
  local size = getmetatable(dict.shape) == literal.tuple and sizes.size(dict.shape)
  if keys ~= 3 or type(dict.fortran_order) ~= "boolean" then
    fail(r, "the .npy header is malformed")
  end
  local room = r:left()
  if not size or (SIZE[dtype] and (size > room // SIZE[dtype] or size * SIZE[dtype] ~= room)) then
    fail(r, "%s of shape %s does not fit %d bytes of data", dtype, shape_text(dict.shape), room)
  end
  local dims = setmetatable(dict.shape, nil)
  local entry = {name = name, dtype = dtype, dims = dims, problem = problem or sizes.problem(dims)}
  function entry.read()
    if not dict.fortran_order or #dims < 2 then return r:array(dtype, dims, big) end
    local reversed = {}
    for i, d in ipairs(dims) do reversed[#dims + 1 - i] = d end
    return r:array(dtype, reversed, big):transpose()
  end
  return entry
end

function npy.open(r) return npy.entry(r) end

return npy
