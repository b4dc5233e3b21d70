-- Networks for images (N, C, H, W), their parameters named as in torchvision.

local mg = require "moongrad"
local nn = mg.nn
local Module, Sequential, Conv2d, Linear = nn.Module, nn.Sequential, nn.Conv2d, nn.Linear
local checked = mg.checked

local models = {}

local function halved(x) return mg.max_pool2d(x, 2) end

-- Weights of convolutions as He et al. 2015 have it, by outputs
local function start(model)
  for _, p in model:named_parameters() do
    if p.ndim == 4 then nn.init.kaiming_normal(p, {mode = "fan_out", nonlinearity = "relu"}) end
  end
end

-- ---- LeCun et al. 1998, as in Caffe -----------------------------------------------------------

local LeNet = Module:extend "LeNet"
models.LeNet = LeNet

LeNet.init = checked("LeNet(self, {num_classes: int(1..) = 10, in_channels: int(1..) = 1})",
  "two convolutions (20, 50) and two Linear layers (500): LeCun et al. 1998",
  function(self, classes, channels)
    self.conv1, self.conv2 = Conv2d(channels, 20, 5), Conv2d(20, 50, 5)
    self.fc1, self.fc2 = Linear(500), Linear(500, classes)
  end)

LeNet.forward = checked("LeNet(self, x: float)", "logits (N, num_classes) of images",
  function(self, x)
    x = halved(mg.relu(self.conv1(x)))
    x = halved(mg.relu(self.conv2(x)))
    return self.fc2(mg.relu(self.fc1(x:flatten(2))))
  end)

-- ---- Simonyan and Zisserman, arXiv 1409.1556 ----------------------------------------------------

local VGG16 = Module:extend "VGG16"
models.VGG16 = VGG16

VGG16.init = checked("VGG16(self, {num_classes: int(1..) = 1000, in_channels: int(1..) = 3, " ..
  "dropout: number(0..1) = 0.5})",
  "13 convolutions and 3 Linear layers: Simonyan and Zisserman 2014",
  function(self, classes, channels, dropout)
    local features = Sequential()
    local function add(f) features[#features + 1] = f end
    for _, group in ipairs{{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512},
                           {512, 512, 512}} do
      for _, n in ipairs(group) do
        add(Conv2d(channels, n, 3, {padding = 1}))
        add(mg.relu)
        channels = n
      end
      add(halved)
    end
    self.features = features
    self.classifier = Sequential(Linear(512 * 49, 4096), mg.relu, nn.Dropout(dropout),
      Linear(4096, 4096), mg.relu, nn.Dropout(dropout), Linear(4096, classes))
    start(self)
  end)

VGG16.forward = checked("VGG16(self, x: float)", "logits (N, num_classes) of images",
  function(self, x)
    return self.classifier(mg.adaptive_avg_pool2d(self.features(x), 7):flatten(2))
  end)

-- ---- He et al., arXiv 1512.03385 ----------------------------------------------------------------

local function conv(from, to, size, stride, groups)
  return Conv2d(from, to, size,
    {stride = stride, padding = size // 2, groups = groups or 1, bias = false})
end

local BasicBlock = Module:extend "BasicBlock"
BasicBlock.widening = 1

function BasicBlock:init(from, n, stride)
  self.conv1, self.bn1 = conv(from, n, 3, stride), nn.BatchNorm(n)
  self.conv2, self.bn2 = conv(n, n, 3, 1), nn.BatchNorm(n)
  if stride > 1 or from ~= n then
    self.downsample = Sequential(conv(from, n, 1, stride), nn.BatchNorm(n))
  end
end

function BasicBlock:forward(x)
  local y = mg.relu(self.bn1(self.conv1(x)))
  y = self.bn2(self.conv2(y))
  return mg.relu(y + (self.downsample and self.downsample(x) or x))
end

local Bottleneck = Module:extend "Bottleneck"
Bottleneck.widening = 4

function Bottleneck:init(from, n, stride)
  self.conv1, self.bn1 = conv(from, n, 1, 1), nn.BatchNorm(n)
  self.conv2, self.bn2 = conv(n, n, 3, stride), nn.BatchNorm(n)
  self.conv3, self.bn3 = conv(n, 4 * n, 1, 1), nn.BatchNorm(4 * n)
  if stride > 1 or from ~= 4 * n then
    self.downsample = Sequential(conv(from, 4 * n, 1, stride), nn.BatchNorm(4 * n))
  end
end

function Bottleneck:forward(x)
  local y = mg.relu(self.bn1(self.conv1(x)))
  y = mg.relu(self.bn2(self.conv2(y)))
  y = self.bn3(self.conv3(y))
  return mg.relu(y + (self.downsample and self.downsample(x) or x))
end

local function resnet(name, block, counts, doc)
  local ResNet = Module:extend(name)
  models[name] = ResNet

  ResNet.init = checked(name .. "(self, {num_classes: int(1..) = 1000, " ..
    "in_channels: int(1..) = 3})", doc,
    function(self, classes, channels)
      self.conv1, self.bn1 = conv(channels, 64, 7, 2), nn.BatchNorm(64)
      local from = 64
      for i, count in ipairs(counts) do
        local n, layer = 64 << (i - 1), Sequential()
        for k = 1, count do
          layer[k] = block(from, n, k == 1 and i > 1 and 2 or 1)
          from = n * block.widening
        end
        self["layer" .. i] = layer
      end
      self.fc = Linear(from, classes)
      start(self)
    end)

  ResNet.forward = checked(name .. "(self, x: float)", "logits (N, num_classes) of images",
    function(self, x)
      x = mg.relu(self.bn1(self.conv1(x)))
      x = mg.max_pool2d(x, 3, {stride = 2, padding = 1})
      for i = 1, #counts do x = self["layer" .. i](x) end
      return self.fc(x:mean{3, 4})
    end)
end

resnet("ResNet18", BasicBlock, {2, 2, 2, 2}, "residual blocks of two convolutions: He et al. 2015")
resnet("ResNet50", Bottleneck, {3, 4, 6, 3}, "residual blocks of three: He et al. 2015")

-- ---- Sandler et al., arXiv 1801.04381 -----------------------------------------------------------

local function convolved(from, to, size, stride, groups)
  return Sequential(conv(from, to, size, stride, groups), nn.BatchNorm(to), mg.relu6)
end

local InvertedResidual = Module:extend "InvertedResidual"

function InvertedResidual:init(from, to, stride, widening)
  local hidden, layers = from * widening, Sequential()
  if widening > 1 then layers[1] = convolved(from, hidden, 1, 1) end
  layers[#layers + 1] = convolved(hidden, hidden, 3, stride, hidden)
  layers[#layers + 1] = conv(hidden, to, 1, 1)
  layers[#layers + 1] = nn.BatchNorm(to)
  self.conv, self.adds = layers, stride == 1 and from == to
end

function InvertedResidual:forward(x)
  local y = self.conv(x)
  return self.adds and x + y or y
end

local MobileNetV2 = Module:extend "MobileNetV2"
models.MobileNetV2 = MobileNetV2

MobileNetV2.init = checked("MobileNetV2(self, {num_classes: int(1..) = 1000, " ..
  "in_channels: int(1..) = 3, dropout: number(0..1) = 0.2})",
  "inverted residual blocks of convolutions by channel: Sandler et al. 2018",
  function(self, classes, channels, dropout)
    local features = Sequential(convolved(channels, 32, 3, 2))
    local from = 32
    for _, s in ipairs{{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1},
                       {6, 160, 3, 2}, {6, 320, 1, 1}} do
      local widening, to, count, stride = table.unpack(s)
      for k = 1, count do
        features[#features + 1] = InvertedResidual(from, to, k == 1 and stride or 1, widening)
        from = to
      end
    end
    features[#features + 1] = convolved(from, 1280, 1, 1)
    self.features = features
    self.classifier = Sequential(nn.Dropout(dropout), Linear(1280, classes))
    start(self)
  end)

MobileNetV2.forward = checked("MobileNetV2(self, x: float)", "logits (N, num_classes) of images",
  function(self, x) return self.classifier(self.features(x):mean{3, 4}) end)

return models
