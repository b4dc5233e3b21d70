-- CIFAR-10 in its binary version (www.cs.toronto.edu/~kriz/cifar.html): files of records, a byte of
-- label and 3 x 32 x 32 bytes of picture. The pictures stay the bytes they are.

local mg = require "moongrad"
local dataset = require "moongrad.data.dataset"
local raise = mg.raise

local RECORD = 1 + 3 * 32 * 32

-- x (3, 32, 32) or (n, 3, 32, 32), of Config.dtype, 0..1        t () or (n), int64, 1..10
local CIFAR10 = dataset.Dataset:extend("CIFAR10"):_seal "get"

CIFAR10.classes = { "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
                    "ship", "truck" }

local function read(path)
  if not mg._exists(path) then
    raise("CIFAR10: cannot open %s; root is the folder of the binary version's files", path)
  end
  local r <close> = mg._open(path, "CIFAR10")
  local size = r:left()
  if size == 0 or size % RECORD ~= 0 then
    raise("CIFAR10: %s has %d bytes, which are no records of %d", path, size, RECORD)
  end
  local records = r:array("uint8", { size // RECORD, RECORD }, true)
  r:done()
  return records
end

CIFAR10.init = mg.checked(
  'CIFAR10(self, {split: "train" | "test" = "train", root: string, flat: bool = false})',
  "50,000 or 10,000 pictures of ten things: x (3, 32, 32) in 0..1, labels 1..10, their names in " ..
    "classes; root: the folder of data_batch_1.bin ... test_batch.bin",
  function(self, split, root, flat)
    if not root then raise("CIFAR10: root, the folder of its files, is missing") end
    local records = {}
    if split == "test" then
      records[1] = read(root .. "/test_batch.bin")
    else
      for i = 1, 5 do records[i] = read(("%s/data_batch_%d.bin"):format(root, i)) end
    end
    local all = #records == 1 and records[1] or mg.cat(records, 1)
    self.labels = all[{ {}, 1 }]:to("int64") + 1
    if #self.labels > 0 and self.labels:max():item() > 10 then
      raise("CIFAR10: %s holds labels above 9", root)
    end
    local images = all[{ {}, { 2, RECORD } }]
    self.images = flat and images or images:reshape(#self.labels, 3, 32, 32)
    mg.eval(self.images, self.labels)
  end)

function CIFAR10:raw() return self.images, self.labels end
function CIFAR10.made(_, images, labels) return images:to(mg.Config.dtype) / 255, labels end

dataset.gives_picks(CIFAR10)

function CIFAR10:__len() return #self.labels end

return { CIFAR10 = CIFAR10 }
