-- safetensors.lua -- github.com/huggingface/safetensors: a length (8 bytes), so much JSON
-- {name: {dtype, shape, data_offsets}, __metadata__: {string: string}}, the data without gaps.

local mg = require "moongrad.core"
local json = require "moongrad.io.json"
local sizes = require "moongrad.io.dims"
local raise = mg.raise

local safetensors = {ending = "safetensors"}

local MAX_HEADER = 100 * 1000 * 1000
local WIDTH = {F64 = 64, I64 = 64, U64 = 64, C64 = 64, F32 = 32, I32 = 32, U32 = 32, F16 = 16,
               BF16 = 16, I16 = 16, U16 = 16, U8 = 8, I8 = 8, BOOL = 8, F8_E5M2 = 8, F8_E4M3 = 8,
               F8_E8M0 = 8, F8_E4M3FNUZ = 8, F8_E5M2FNUZ = 8, F6_E2M3 = 6, F6_E3M2 = 6, F4 = 4}
local TO = {float64 = "F64", float32 = "F32", int64 = "I64", uint8 = "U8", bool = "BOOL",
            float16 = "F16", bfloat16 = "BF16", int8 = "I8", int16 = "I16", int32 = "I32",
            uint16 = "U16", uint32 = "U32", uint64 = "U64"}
local FROM = {}
for dtype, name in pairs(TO) do FROM[name] = dtype end

function safetensors.save(w, arrays, metadata)
  table.sort(arrays, function(a, b) -- the widest first keeps every array aligned
    local m, n = WIDTH[TO[a.dtype]], WIDTH[TO[b.dtype]]
    if m ~= n then return m > n end
    return mg._before(a.name, b.name)
  end)
  local entries, at = {metadata and '"__metadata__":' .. metadata}, 0
  for _, a in ipairs(arrays) do
    local to = at + a.x.size * WIDTH[TO[a.dtype]] // 8
    entries[#entries + 1] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}'):format(
      json.quote(a.name), TO[a.dtype], table.concat(a.x.shape, ","), at, to)
    at = to
  end
  local header = "{" .. table.concat(entries, ",") .. "}"
  header = header .. (" "):rep(-#header % 8)
  if #header > MAX_HEADER then raise("%s: names and metadata of %d bytes", w:label(), #header) end
  w:write(("<I8"):pack(#header), header)
  for _, a in ipairs(arrays) do w:array(a.x, a.dtype, a.name) end
end

local function fail(r, ...) raise("%s: " .. select(1, ...), r:label(), select(2, ...)) end

local function header_of(r)
  local size = r:left()
  local length = ("<i8"):unpack(r:read(8))
  if length < 2 or length > math.min(size - 8, MAX_HEADER) then
    fail(r, "a header of %.0f bytes does not fit a file of %d", length % 2.0 ^ 64, size)
  end
  local header, problem = json.decode(r:read(length))
  if type(header) ~= "table" or getmetatable(header) then
    fail(r, "the header is not JSON (%s)", problem or "no object")
  end
  return header
end

local function metadata_of(r, t)
  if t == nil or t == json.null then return nil end
  local ok = type(t) == "table" and not getmetatable(t)
  for _, v in pairs(ok and t or {}) do ok = ok and type(v) == "string" end
  if not ok then fail(r, "__metadata__ holds something else than strings by name") end
  return t
end

-- What the header says of one array
local function entry_of(r, name, e, room)
  local offsets = type(e) == "table" and e.data_offsets
  if getmetatable(offsets) ~= json.array or #offsets ~= 2 or
     math.type(offsets[1]) ~= "integer" or math.type(offsets[2]) ~= "integer" then
    fail(r, "the header's entry for %s is malformed", name)
  end
  local width = WIDTH[e.dtype]
  if not width then fail(r, "%s has dtype %s, which is none", name, tostring(e.dtype)) end
  local size = getmetatable(e.shape) == json.array and sizes.size(e.shape)
  local first, last = offsets[1], offsets[2]
  if not size or first < 0 or last < first or last > room or size > room * 8 // width or
     (last - first) * 8 ~= size * width then
    fail(r, "%s does not fit its offsets %d..%d in %d bytes of data", name, first, last, room)
  end
  local dims = setmetatable(e.shape, nil)
  return {name = name, dtype = FROM[e.dtype] or e.dtype, dims = dims, first = first, last = last,
          problem = not FROM[e.dtype] and "its dtype is " .. e.dtype or sizes.problem(dims)}
end

-- A list of entries {name, dtype, dims, problem or read}, and the metadata
function safetensors.open(r)
  local size = r:left()
  local header = header_of(r)
  local metadata = metadata_of(r, header.__metadata__)
  header.__metadata__ = nil
  local start, entries = size - r:left(), {}
  for name, e in pairs(header) do
    local entry = entry_of(r, name, e, size - start)
    function entry.read()
      return r:part(start + entry.first, entry.last - entry.first):array(entry.dtype, entry.dims)
    end
    entries[#entries + 1] = entry
  end
  table.sort(entries, function(a, b)
    if a.first ~= b.first then return a.first < b.first end
    return a.last < b.last
  end)
  local at = 0
  for _, e in ipairs(entries) do
    if e.first ~= at then fail(r, "a gap or an overlap before %s", e.name) end
    at = e.last
  end
  if at ~= size - start then fail(r, "%d bytes belong to no array", size - start - at) end
  return entries, metadata
end

return safetensors
