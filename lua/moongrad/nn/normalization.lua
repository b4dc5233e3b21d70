-- Layers that normalize, with PyTorch's names of parameters and buffers.
--
-- Their size may be left out: it is found at the first call, or by load_state.

local mg = require "moongrad"
local module = require "moongrad.nn.module"
local Module, Parameter, Buffer = module.Module, module.Parameter, module.Buffer
local options_of = require "moongrad.nn.describe"
local checked = mg.checked

local layers = {}

local function layer(name)
  layers[name] = Module:extend(name)
  return layers[name]
end

local function filled(make, sizes, dtype)
  return make(table.move(sizes, 1, #sizes, 1, { dtype = dtype }))
end

-- weight ones and bias zeros of these sizes, as the layer's options say.
local function build_affine(self, sizes)
  if self.affine then
    self.weight = Parameter(filled(mg.ones, sizes, self.dtype))
    if self.has_bias then self.bias = Parameter(filled(mg.zeros, sizes, self.dtype)) end
  end
end

-- What the batch after those that `seen` counts is to the average of all: 1 / (seen + 1), a number
local function share_of(seen)
  if not mg._recording() then return 1 / (seen:item() + 1) end
  return 1 / (mg._weak(seen:to "float64") + 1)
end

-- ---- by channel: BatchNorm, InstanceNorm --------------------------------------------------------

local function by_channel(name, doc, options, affine, track, run)
  local class = layer(name)

  class.init = checked(name .. "(self, num_features: int(1..)?, {eps: number(0..) = 1e-5, " ..
    'momentum: number(0..1) | "cumulative" = 0.1, affine: bool = ' .. affine ..
    ", track_running_stats: bool = " .. track .. options .. "})",
    doc .. "; momentum \"cumulative\": running_mean and running_var are averages of all batches",
    function(self, features, eps, momentum, with_affine, tracks, sync)
      if not tracks and momentum ~= 0.1 then
        mg.raise("%s: momentum is of no use without track_running_stats", name)
      end
      self.sync = sync
      self.eps, self.momentum, self.affine, self.tracks = eps, momentum, with_affine, tracks
      self.has_bias, self.dtype = true, mg.Config.dtype
      if features then self:build(features) end
    end)

  function class:build(features)
    build_affine(self, { features })
    if self.tracks then
      self.running_mean = Buffer(filled(mg.zeros, { features }, self.dtype))
      self.running_var = Buffer(filled(mg.ones, { features }, self.dtype))
      self.num_batches_tracked = Buffer(mg.tensor(0, "int64"))
    end
    self.features = features
  end

  function class:_infer(find)
    local some = self.affine and find "weight" or find "running_mean"
    if not self.features and some and some.ndim == 1 then self:build(some.size) end
  end

  function class:_is_waiting() return not self.features and (self.affine or self.tracks) end

  class.forward = checked(name .. "(self, x: float)", "x (N, C, ...) normalized",
    function(self, x)
      if not self.features then
        if x.ndim < 2 or x.shape[2] < 1 then
          mg.raise("%s: x must be (N, C, ...), got shape (%s)", name, table.concat(x.shape, ", "))
        end
        return self:_sized(self.build, x.shape[2], class.forward, x)
      end
      local momentum, seen = self.momentum, self.num_batches_tracked
      if momentum == "cumulative" then momentum = share_of(seen) end
      if not seen or not mg.Config.train then return run(self, x, momentum) end
      local kept = { seen, self.running_mean, self.running_var }
      return mg._attempt_values(kept, function() -- the batch counts where all is done
        mg.assign({ seen }, { seen.data + 1 })
        return run(self, x, momentum)
      end)
    end)

  function class:_describe()
    return options_of(tostring(self.features or "?"), "eps", self.eps, 1e-5,
      "momentum", self.momentum, 0.1, "affine", self.affine, affine == "true",
      "track_running_stats", self.tracks, track == "true", "sync", self.sync, false)
  end
end

-- In training, with the moments of all processes
local function run_together(self, x, momentum, dist)
  if x.ndim < 2 or x.shape[2] ~= self.features then
    mg.raise("BatchNorm: x must be (N, %d, ...), got shape (%s)", self.features,
      table.concat(x.shape, ", "))
  end
  local y, mean, var, n = dist._standardize(x, self.eps)
  local all = n:item()
  if all == 1 then
    mg.raise("BatchNorm: the x of all processes have one value for each channel, of which there " ..
      "is no variance")
  end
  if self.tracks and all > 0 then
    mg.assign({ self.running_mean, self.running_var }, {
      self.running_mean.data * (1 - momentum) + mean * momentum,
      self.running_var.data * (1 - momentum) + var * (momentum * n / (n - 1))
    })
  end
  if not self.affine then return y end
  local dims = { self.features }
  for i = 2, x.ndim - 1 do dims[i] = 1 end
  return y * self.weight:reshape(dims) + self.bias:reshape(dims)
end

by_channel("BatchNorm",
  "batch_norm of x (N, C, ...), any rank; sync: by mean and variance of all processes' x " ..
    "(moongrad.dist)",
  ", sync: bool = false", "true", "true",
  function(self, x, momentum)
    local dist = self.sync and mg.Config.train and require "moongrad.dist"
    if dist and dist.size > 1 then return run_together(self, x, momentum, dist) end
    return mg.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
      { momentum = momentum, eps = self.eps })
  end)

by_channel("InstanceNorm", "instance_norm of x (N, C, ...), any rank", "", "false", "false",
  function(self, x, momentum)
    return mg.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
      { momentum = momentum, eps = self.eps,
        use_input_stats = mg.Config.train or not self.tracks })
  end)

-- ---- GroupNorm ----------------------------------------------------------------------------------

local GroupNorm = layer "GroupNorm"

GroupNorm.init = checked(
  "GroupNorm(self, num_groups: int(1..), num_channels: int(1..)?, {eps: number(0..) = 1e-5, " ..
    "affine: bool = true})",
  "group_norm of x (N, C, ...)",
  function(self, groups, channels, eps, affine)
    self.groups, self.eps, self.affine, self.has_bias = groups, eps, affine, true
    self.dtype = mg.Config.dtype
    if channels then
      if channels % groups ~= 0 then
        mg.raise("GroupNorm: %d channels do not fall into %d groups", channels, groups)
      end
      self:build(channels)
    end
  end)

function GroupNorm:build(channels)
  build_affine(self, { channels })
  self.channels = channels
end

function GroupNorm:_infer(find)
  local W = find "weight"
  if not self.channels and W and W.ndim == 1 then self:build(W.size) end
end

function GroupNorm:_is_waiting() return self.affine and not self.weight end

GroupNorm.forward = checked("GroupNorm(self, x: float)", "x (N, C, ...) normalized",
  function(self, x)
    local C = x.shape[2]
    if not self.channels and C and C % self.groups == 0 then
      return self:_sized(self.build, C, GroupNorm.forward, x)
    end
    return mg.group_norm(x, self.groups, self.weight, self.bias, { eps = self.eps })
  end)

function GroupNorm:_describe()
  return options_of(("%d, %s"):format(self.groups, self.channels or "?"), "eps", self.eps, 1e-5,
    "affine", self.affine, true)
end

-- ---- the last axes: LayerNorm, RMSNorm ----------------------------------------------------------

local function of_last_axes(name, eps, options, doc, read, run)
  local class = layer(name)

  class.init = checked(name .. "(self, shape: ints(1..)?, {" .. options .. "})",
    doc .. " over the last axes, those of shape; without it the last axis, whatever its size",
    function(self, shape, ...)
      read(self, ...)
      self.dtype = mg.Config.dtype
      if shape then self:build(shape) end
    end)

  function class:build(shape)
    build_affine(self, shape)
    self.sizes = table.move(shape, 1, #shape, 1, {})
  end

  function class:_infer(find)
    local W = find "weight"
    if not self.sizes and W then self:build(W.shape) end
  end

  function class:_is_waiting() return self.affine and not self.weight end

  class.forward = checked(name .. "(self, x: array)", "x normalized over its last axes",
    function(self, x)
      if not self.sizes then
        return self:_sized(self.build, { x.shape[x.ndim] }, class.forward, x)
      end
      return run(self, x)
    end)

  function class:_describe()
    return options_of(self.sizes and table.concat(self.sizes, ", ") or "?", "eps", self.eps, eps,
      "elementwise_affine", self.affine, true, "bias", self.has_bias, true)
  end
end

of_last_axes("LayerNorm", 1e-5,
  "eps: number(0..) = 1e-5, elementwise_affine: bool = true, bias: bool = true", "layer_norm",
  function(self, eps, affine, bias) self.eps, self.affine, self.has_bias = eps, affine, bias end,
  function(self, x)
    return mg.layer_norm(x, self.sizes, self.weight, self.bias, { eps = self.eps })
  end)

of_last_axes("RMSNorm", nil, "eps: number(0..), elementwise_affine: bool = true", "rms_norm",
  function(self, eps, affine) self.eps, self.affine = eps, affine end,
  function(self, x) return mg.rms_norm(x, self.sizes, self.weight, { eps = self.eps }) end)

return layers
