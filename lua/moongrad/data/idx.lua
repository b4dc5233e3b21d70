-- MNIST and its kin: images and labels in idx files, plain or gzipped.
--
-- idx: two zero bytes, 8 for "unsigned bytes", the number of dims, the dims as big-endian 32-bit
-- integers, the values (http://yann.lecun.com/exdb/mnist). The images stay the bytes they are,
-- (N, 784) of uint8; only what is asked for becomes floats.

local mg = require "moongrad"
local options = require "moongrad.options"
local Dataset = require "moongrad.data.dataset".Dataset
local raise = mg.raise

local function inflate(op, path, bytes)
  local found, zlib = pcall(require, "zlib")
  if not found then
    raise("%s: reading %s needs lua-zlib (Debian: apt install lua-zlib)", op, path)
  end
  local ok, plain, complete = pcall(zlib.inflate(), bytes)
  if not ok or not complete then raise("%s: %s is damaged", op, path) end
  return plain
end

-- All values as one flat uint8 array, and the first dim: the number of items.
local function read(op, path, hint)
  local zipped = true
  local file = io.open(path .. ".gz", "rb")
  if not file then
    zipped, file = false, io.open(path, "rb")
  end
  if not file then raise("%s: cannot open %s.gz%s", op, path, hint) end
  local bytes = file:read("a")
  file:close()
  if zipped then bytes = inflate(op, path .. ".gz", bytes) end

  local dims, size, at = {}, 1, 5
  if #bytes >= 4 and bytes:sub(1, 3) == "\0\0\8" and #bytes >= 4 + 4 * bytes:byte(4) then
    for k = 1, bytes:byte(4) do
      dims[k], at = string.unpack(">I4", bytes, at)
      size = math.min(size * dims[k], #bytes + 1) -- too many are too many, none overflow
    end
  end
  if size == 0 or #dims == 0 or #bytes ~= at - 1 + size then
    raise("%s: %s is not an idx file", op, path)
  end
  return mg.frombytes(bytes, "uint8", { #bytes })[{ { at, #bytes } }], dims[1]
end

-- FashionMNIST{split = "train" | "test", root =}: 60,000 or 10,000 pictures of clothes.
--   x (784) or (n, 784), of Config.dtype, 0..1        t () or (n), int64, 1..10
local FashionMNIST = Dataset:extend("FashionMNIST")
FashionMNIST.root = "/usr/share/datasets/fashion-mnist"
FashionMNIST.hint = " (Debian: apt install dataset-fashion-mnist, or give root =)"

function FashionMNIST:init(opts)
  local name = getmetatable(self).__name
  opts = options(name, opts, { split = "train", root = self.root })
  local files = ({ train = "train", test = "t10k" })[opts.split]
  if not files then
    raise('%s: split is "%s", expected "train" or "test"', name, opts.split)
  end
  if not opts.root then raise("%s: root, the folder of its files, is missing", name) end
  local path = opts.root .. "/" .. files
  local pixels, n = read(name, path .. "-images-idx3-ubyte", self.hint)
  local labels = read(name, path .. "-labels-idx1-ubyte", self.hint)
  if #labels ~= n then raise("%s: %d images but %d labels", name, n, #labels) end
  self.images = pixels:reshape(n, #pixels // n)
  self.labels = labels:to("int64") + 1
end

function FashionMNIST:pick(index)
  return self.images[index]:to(mg.Config.dtype) / 255, self.labels[index]
end

FashionMNIST.get = FashionMNIST.pick
FashionMNIST.take = FashionMNIST.pick

function FashionMNIST:batch(i, j) return self:pick { { i, j } } end

function FashionMNIST:__len() return #self.labels end

-- MNIST{root =, split =}: the same, of digits; label 1 is the digit 0.
local MNIST = FashionMNIST:extend("MNIST")
MNIST.root, MNIST.hint = false, ""

return { FashionMNIST = FashionMNIST, MNIST = MNIST }
