-- MNIST and its kin: images and labels in idx files, plain or gzipped. The images stay the bytes
-- they are, (N, 784) of uint8; only what is asked for becomes floats.

local mg = require "moongrad"
local idx = require "moongrad.io.idx"
local dataset = require "moongrad.data.dataset"
local raise, checked = mg.raise, mg.checked

-- The bytes of a file, gzipped or not, with ndim axes.
local function read(op, path, ndim, hint)
  if mg._exists(path .. ".gz") then path = path .. ".gz"
  elseif not mg._exists(path) then raise("%s: cannot open %s.gz%s", op, path, hint) end
  local r <close> = mg._open(path, op)
  local e = idx.open(r)
  if e.dtype ~= "uint8" or #e.dims ~= ndim then
    raise("%s: %s holds no bytes of %d axes", op, path, ndim)
  end
  return e.read()
end

-- x (784) or (n, 784), of Config.dtype, 0..1        t () or (n), int64, 1..10
local FashionMNIST = dataset.Dataset:extend("FashionMNIST"):_seal "get"

local function open(self, split, root, flat, hint)
  local name = getmetatable(self).__name
  if not root then raise("%s: root, the folder of its files, is missing", name) end
  local path = root .. (split == "train" and "/train" or "/t10k")
  local images = read(name, path .. "-images-idx3-ubyte", 3, hint)
  local labels = read(name, path .. "-labels-idx1-ubyte", 1, hint)
  if #labels ~= #images then raise("%s: %d images but %d labels", name, #images, #labels) end
  self.images = flat and images:flatten(2) or images:unsqueeze(2)
  if #labels > 0 and labels:max():item() > 9 then
    raise("%s: %s holds labels above 9", name, root)
  end
  self.labels = labels:to("int64") + 1
end

FashionMNIST.init = checked(
  'FashionMNIST(self, {split: "train" | "test" = "train", ' ..
    'root: string = "/usr/share/datasets/fashion-mnist", flat: bool = true})',
  "60,000 or 10,000 pictures of clothes: x (784) in 0..1, or (1, 28, 28) if not flat, labels 1..10",
  function(self, split, root, flat)
    open(self, split, root, flat, " (Debian: apt install dataset-fashion-mnist, or give root =)")
  end)

function FashionMNIST:raw() return self.images, self.labels end
function FashionMNIST.made(_, images, labels) return images:to(mg.Config.dtype) / 255, labels end

dataset.gives_picks(FashionMNIST)

function FashionMNIST:__len() return #self.labels end

local MNIST = FashionMNIST:extend("MNIST"):_seal "get"

MNIST.init = checked(
  'MNIST(self, {split: "train" | "test" = "train", root: string, flat: bool = true})',
  "the same of digits; label 1 is the digit 0",
  function(self, split, root, flat) open(self, split, root, flat, "") end)

return { FashionMNIST = FashionMNIST, MNIST = MNIST }
