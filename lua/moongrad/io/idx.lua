-- idx.lua -- the files of MNIST and its kin, plain or gzipped: two zero bytes, the type, the number
-- of dims, the dims as big-endian 32-bit integers, the values (yann.lecun.com/exdb/mnist).

local mg = require "moongrad.core"
local sizes = require "moongrad.io.dims"
local raise = mg.raise

local idx = {ending = "idx", single = true}

local TYPES = {[8] = "uint8", [9] = "int8", [0xb] = "int16", [0xc] = "int32", [0xd] = "float32",
               [0xe] = "float64"}
local SIZE = {uint8 = 1, int8 = 1, int16 = 2, int32 = 4, float32 = 4, float64 = 8}
local RATIO = 1032 -- deflate cannot do more

local function none(r) raise("%s: it is not an idx file", r:label()) end

function idx.open(r)
  local size = r:left()
  local zipped = r:label():find "%.gz$"
  if zipped then r = r:part(0, size, "gzip") end
  if not zipped and size < 4 then none(r) end
  local zeros, kind, n = ("<I2BB"):unpack(r:read(4))
  local dtype = TYPES[kind]
  if zeros ~= 0 or not dtype or n == 0 or not zipped and size < 4 + 4 * n then none(r) end
  local dims = {(">" .. ("I4"):rep(n)):unpack(r:read(4 * n))}
  dims[n + 1] = nil -- where unpack stopped
  local count = sizes.size(dims)
  local room = zipped and size * RATIO or r:left()
  if not count or count > room // SIZE[dtype] then none(r) end
  if not zipped and count * SIZE[dtype] ~= room then none(r) end
  return {name = "it", dtype = dtype, dims = dims, problem = sizes.problem(dims), read = function()
    local x = r:array(dtype, dims, true)
    r:done()
    return x
  end}
end

return idx
