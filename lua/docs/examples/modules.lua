-- What is shown of mg.nn, mg.models, mg.optim, mg.data, mg.metrics, mg.training and their objects:
-- sessions by name, methods as "Class:method".

local image = "x = mg.rand(2, 3, 8, 8)\n"

-- A layer and the shape it gives.
local function shape_of(layer, x)
  return ("layer = mg.nn.%s\nlayer(%s).shape"):format(layer, x)
end

-- An activation layer, on three numbers.
local function on_three(layer)
  return ("mg.nn.%s(mg.tensor{-1, 0, 2})"):format(layer)
end

local fit = "model = mg.nn.Linear(2, 1)\nopt = mg.optim.%s(model, %s)\n" ..
  "x, t = mg.ones(4, 2), mg.zeros(4, 1)\n" ..
  "for i = 1, 20 do\n" ..
  "  loss = mg.mean_squared_error(model(x), t)\n" ..
  "  model:cleargrads(); loss:backward(); opt:step()\nend\nloss"

local function fitted(optimizer, options) return fit:format(optimizer, options) end

-- What a schedule makes of lr = 1.
local function rates(schedule, steps)
  return ("opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})\nschedule = %s\n"):format(schedule) ..
    ("for i = 1, %d do print(opt.lr); schedule:step() end"):format(steps or 4)
end

local pairs_of = "ds = mg.data.TensorDataset(mg.range(1, 6), mg.range(1, 6) * 10)\n"
local pictures = "x = mg.range(1, 9):reshape(1, 1, 3, 3)\n"
local predicted = "predicted = mg.tensor({1, 2, 2, 1}, \"int64\")\n" ..
  "labels = mg.tensor({1, 2, 1, 1}, \"int64\")\n"

return {
  ["nn.Module"] = [[
Net = mg.nn.Module:extend "Net"
function Net:init(n) self.l1, self.l2 = mg.nn.Linear(n), mg.nn.Linear(1) end
function Net:forward(x) return self.l2(self.l1(x):tanh()) end
net = Net(8)
net(mg.rand(5, 3)).shape
for name, p in net:named_parameters() do print(name, p.shape) end]],
  ["nn.Parameter"] = [[
layer = mg.nn.Linear(2, 2)
layer.scale = mg.nn.Parameter(1)
#layer:parameters()]],
  ["nn.Buffer"] = [[
layer = mg.nn.Linear(2, 2)
layer.count = mg.nn.Buffer(0)
layer:state().count
#layer:parameters()]],
  ["nn.Linear"] = shape_of("Linear(3, 4)", "mg.rand(5, 3)") .. "\nlayer.weight.shape\n" ..
    "mg.nn.Linear(4)(mg.rand(5, 3)).shape     -- the number of inputs is found",
  ["nn.Embedding"] = shape_of("Embedding(10, 4)", "mg.tensor({1, 10}, \"int64\")") ..
    "\nmg.nn.Embedding(10, 2, {padding_idx = 1}).weight[1]",
  ["nn.Dropout"] = [[
mg.nn.Dropout(0.5)(mg.ones(6))
mg.test_mode(mg.nn.Dropout(0.5), mg.ones(6))]],
  ["nn.Dropout1d"] = "mg.nn.Dropout1d(0.5)(mg.ones(1, 4, 3)):sum(3)",
  ["nn.Dropout2d"] = "mg.nn.Dropout2d(0.5)(mg.ones(1, 4, 2, 2)):sum{axis = {3, 4}}",
  ["nn.Dropout3d"] = "mg.nn.Dropout3d(0.5)(mg.ones(1, 4, 2, 2, 2)):sum{axis = {3, 4, 5}}",
  ["nn.AlphaDropout"] = shape_of("AlphaDropout(0.1)", "mg.randn(4, 3)"),
  ["nn.Bilinear"] = "layer = mg.nn.Bilinear(3, 4, 2)\nlayer(mg.rand(5, 3), mg.rand(5, 4)).shape",
  ["nn.PixelShuffle"] = shape_of("PixelShuffle(2)", "mg.rand(1, 8, 3, 3)"),
  ["nn.PixelUnshuffle"] = shape_of("PixelUnshuffle(2)", "mg.rand(1, 2, 6, 6)"),
  ["nn.ChannelShuffle"] = shape_of("ChannelShuffle(2)", "mg.rand(1, 4, 3)"),
  ["nn.LocalResponseNorm"] = shape_of("LocalResponseNorm(2)", "mg.rand(1, 4, 3)"),
  ["nn.Unflatten"] = shape_of("Unflatten(2, {3, 4})", "mg.rand(5, 12)"),
  ["nn.Flatten"] = shape_of("Flatten()", "mg.rand(2, 3, 4)"),
  ["nn.Conv1d"] = shape_of("Conv1d(3, 8, 5)", "mg.rand(2, 3, 20)"),
  ["nn.Conv2d"] = shape_of("Conv2d(3, 8, 3, {padding = 1})", "mg.rand(2, 3, 8, 8)") ..
    "\nlayer.weight.shape",
  ["optim.RAdam"] = fitted("RAdam", "{lr = 0.1}"),
  ["optim.Rprop"] = fitted("Rprop", "{lr = 0.01}"),
  ["optim.cyclic"] = rates("mg.optim.cyclic(opt, 0.1, 0.5, {up = 2})"),
  ["nn.ConvTranspose3d"] = shape_of("ConvTranspose3d(2, 1, 2, {stride = 2})",
                                    "mg.rand(1, 2, 3, 3, 3)"),
  ["nn.MaxPool3d"] = shape_of("MaxPool3d(2)", "mg.rand(1, 3, 4, 4, 4)"),
  ["nn.AvgPool3d"] = shape_of("AvgPool3d(2)", "mg.rand(1, 3, 4, 4, 4)"),
  ["nn.AdaptiveMaxPool3d"] = shape_of("AdaptiveMaxPool3d(2)", "mg.rand(1, 3, 5, 5, 5)"),
  ["nn.AdaptiveAvgPool3d"] = shape_of("AdaptiveAvgPool3d(1)", "mg.rand(1, 3, 5, 5, 5)"),
  ["nn.Conv3d"] = shape_of("Conv3d(1, 2, 3)", "mg.rand(1, 1, 5, 5, 5)"),
  ["nn.ConvTranspose1d"] = shape_of("ConvTranspose1d(3, 8, 4, {stride = 2})", "mg.rand(2, 3, 10)"),
  ["nn.ConvTranspose2d"] = shape_of("ConvTranspose2d(3, 8, 2, {stride = 2})",
                                    "mg.rand(2, 3, 8, 8)"),
  ["nn.Sequential"] = [[
net = mg.nn.Sequential(mg.nn.Linear(3, 8), mg.relu, mg.nn.Linear(8, 1))
net(mg.rand(5, 3)).shape
print(net)]],
  ["nn.MLP"] = shape_of("MLP({16, 16, 2}, {activation = mg.tanh})", "mg.rand(5, 3)"),
  ["nn.RNN"] = [[
rnn = mg.nn.RNN(3, 8)
y, h = rnn(mg.rand(10, 2, 3))     -- time, batch, inputs
y.shape, h.shape]],
  ["nn.LSTM"] = [[
lstm = mg.nn.LSTM(3, 8, {num_layers = 2})
y, h, c = lstm(mg.rand(10, 2, 3))
y.shape, h.shape, c.shape]],
  ["nn.GRU"] = [[
gru = mg.nn.GRU(3, 8)
y, h = gru(mg.rand(10, 2, 3))
y.shape, h.shape]],
  ["nn.RNNCell"] = [[
cell = mg.nn.RNNCell(3, 8)
h = cell(mg.rand(2, 3))
cell(mg.rand(2, 3), h).shape]],
  ["nn.LSTMCell"] = [[
cell = mg.nn.LSTMCell(3, 8)
h, c = cell(mg.rand(2, 3))
h, c = cell(mg.rand(2, 3), h, c)
h.shape, c.shape]],
  ["nn.GRUCell"] = [[
cell = mg.nn.GRUCell(3, 8)
h = cell(mg.rand(2, 3))
cell(mg.rand(2, 3), h).shape]],
  ["nn.MaxPool1d"] = shape_of("MaxPool1d(2)", "mg.rand(1, 3, 8)"),
  ["nn.MaxPool2d"] = shape_of("MaxPool2d(2)", "mg.rand(1, 3, 8, 8)"),
  ["nn.AvgPool1d"] = shape_of("AvgPool1d(2)", "mg.rand(1, 3, 8)"),
  ["nn.AvgPool2d"] = shape_of("AvgPool2d(2)", "mg.rand(1, 3, 8, 8)"),
  ["nn.AdaptiveMaxPool1d"] = shape_of("AdaptiveMaxPool1d(2)", "mg.rand(1, 3, 7)"),
  ["nn.AdaptiveMaxPool2d"] = shape_of("AdaptiveMaxPool2d(2)", "mg.rand(1, 3, 7, 7)"),
  ["nn.AdaptiveAvgPool1d"] = shape_of("AdaptiveAvgPool1d(2)", "mg.rand(1, 3, 7)"),
  ["nn.AdaptiveAvgPool2d"] = shape_of("AdaptiveAvgPool2d({1, 1})", "mg.rand(1, 3, 7, 7)"),
  ["nn.Upsample"] = shape_of("Upsample{scale_factor = 2}", "mg.rand(1, 3, 4, 4)"),
  ["nn.BatchNorm"] = image .. "norm = mg.nn.BatchNorm(3)\nnorm(x):mean():abs():item() < 1e-9\n" ..
    "norm.running_mean.shape",
  ["nn.InstanceNorm"] = shape_of("InstanceNorm(3)", "mg.rand(2, 3, 8)"),
  ["nn.GroupNorm"] = shape_of("GroupNorm(2, 4)", "mg.rand(2, 4, 8)"),
  ["nn.LayerNorm"] = "mg.nn.LayerNorm(3)(mg.tensor{{1, 2, 3}, {10, 20, 30}})",
  ["nn.RMSNorm"] = "mg.nn.RMSNorm(2)(mg.tensor{{3, 4}, {30, 40}})",
  ["nn.MultiHeadAttention"] = [[
layer = mg.nn.MultiHeadAttention(8, 2, {batch_first = true})
x = mg.rand(1, 5, 8)
layer(x, x, x).shape]],
  ["nn.TransformerEncoderLayer"] = [[
layer = mg.nn.TransformerEncoderLayer(8, 2)
layer(mg.rand(5, 1, 8)).shape]],
  ["nn.TransformerEncoder"] = [[
layer = mg.nn.TransformerEncoderLayer(8, 2)
mg.nn.TransformerEncoder(layer, 3)(mg.rand(5, 1, 8)).shape]],
  ["nn.TransformerDecoderLayer"] = [[
layer = mg.nn.TransformerDecoderLayer(8, 2)
layer(mg.rand(3, 1, 8), mg.rand(5, 1, 8), {tgt_is_causal = true}).shape]],
  ["nn.TransformerDecoder"] = [[
layer = mg.nn.TransformerDecoderLayer(8, 2)
mg.nn.TransformerDecoder(layer, 3)(mg.rand(3, 1, 8), mg.rand(5, 1, 8)).shape]],
  ["nn.Transformer"] = [[
net = mg.nn.Transformer(8, 2, {num_encoder_layers = 1, num_decoder_layers = 1})
net(mg.rand(5, 1, 8), mg.rand(3, 1, 8), {tgt_is_causal = true}).shape]],
  ["nn.CELU"] = on_three "CELU()", ["nn.Hardtanh"] = on_three "Hardtanh()",
  ["nn.Hardsigmoid"] = on_three "Hardsigmoid()", ["nn.Softmin"] = on_three "Softmin()",
  ["nn.Hardshrink"] = on_three "Hardshrink()", ["nn.Softshrink"] = on_three "Softshrink()",
  ["nn.Identity"] = on_three "Identity()", ["nn.PReLU"] = on_three "PReLU()",
  ["nn.ReLU"] = on_three "ReLU()", ["nn.ReLU6"] = on_three "ReLU6()",
  ["nn.ELU"] = on_three "ELU()", ["nn.SELU"] = on_three "SELU()",
  ["nn.GELU"] = on_three "GELU()", ["nn.SiLU"] = on_three "SiLU()",
  ["nn.Mish"] = on_three "Mish()", ["nn.Tanh"] = on_three "Tanh()",
  ["nn.Sigmoid"] = on_three "Sigmoid()", ["nn.LogSigmoid"] = on_three "LogSigmoid()",
  ["nn.Softmax"] = on_three "Softmax()", ["nn.LogSoftmax"] = on_three "LogSoftmax()",
  ["nn.Softplus"] = on_three "Softplus()", ["nn.Hardswish"] = on_three "Hardswish()",
  ["nn.LeakyReLU"] = on_three "LeakyReLU(0.1)",
  ["nn.GLU"] = "mg.nn.GLU()(mg.tensor{1, 2, 0, 100})",

  ["nn.init"] = [[
layer = mg.nn.Linear(100, 100)
mg.nn.init.xavier_uniform(layer.weight)
layer.weight:abs():max():item() <= (6 / 200) ^ 0.5]],
  ["nn.init.constant"] = [[
p = mg.nn.Parameter{1, 2}
mg.nn.init.constant(p, 7)]],
  ["nn.init.uniform"] = [[
p = mg.nn.Parameter{1, 2}
mg.nn.init.uniform(p, -1, 1)]],
  ["nn.init.normal"] = [[
p = mg.nn.Parameter{1, 2}
mg.nn.init.normal(p, 0, 0.02)]],
  ["nn.init.trunc_normal"] = [[
p = mg.nn.Parameter{1, 2}
mg.nn.init.trunc_normal(p)]],
  ["nn.init.zeros"] = [[
p = mg.nn.Parameter{1, 2}
mg.nn.init.zeros(p)]],
  ["nn.init.ones"] = [[
p = mg.nn.Parameter{1, 2}
mg.nn.init.ones(p)]],
  ["nn.init.eye"] = [[
p = mg.nn.Parameter{{1, 2}, {3, 4}}
mg.nn.init.eye(p)]],
  ["nn.init.xavier_uniform"] = [[
p = mg.nn.Parameter(mg.zeros(2, 3))
mg.nn.init.xavier_uniform(p)]],
  ["nn.init.xavier_normal"] = [[
p = mg.nn.Parameter(mg.zeros(2, 3))
mg.nn.init.xavier_normal(p)]],
  ["nn.init.kaiming_uniform"] = [[
p = mg.nn.Parameter(mg.zeros(2, 3))
mg.nn.init.kaiming_uniform(p)]],
  ["nn.init.kaiming_normal"] = [[
p = mg.nn.Parameter(mg.zeros(2, 3))
mg.nn.init.kaiming_normal(p)]],
  ["nn.init.orthogonal"] = [[
p = mg.nn.Parameter(mg.zeros(2, 2))
mg.nn.init.orthogonal(p)
mg.allclose(p:matmul(p.T), mg.eye(2), {atol = 1e-6})]],
  ["nn.init.calculate_gain"] = [[mg.nn.init.calculate_gain "relu"]],

  ["Module:extend"] = [[
Twice = mg.nn.Module:extend "Twice"
function Twice:forward(x) return 2 * x end
Twice()(mg.ones(2))]],
  ["Module:parameters"] = [[
#mg.nn.MLP{8, 1}:parameters()
layer = mg.nn.Linear(2, 3)
for p in layer:parameters() do print(p.shape) end]],
  ["Module:named_parameters"] = [[
layer = mg.nn.Linear(2, 3)
for name, p in layer:named_parameters() do print(name, p.shape) end]],
  ["Module:cleargrads"] = [[
layer = mg.nn.Linear(2, 3)
layer(mg.ones(1, 2)):sum():backward()
layer.bias.grad
layer:cleargrads()
layer.bias.grad]],
  ["Module:state"] = [[
s = mg.nn.Linear(2, 3):state()
s.weight.shape, s.bias.shape]],
  ["Module:load_state"] = [[
a, b = mg.nn.Linear(2, 3), mg.nn.Linear(2, 3)
b:load_state(a:state())
mg.equal(a.weight, b.weight)]],
  ["Module:save"] = [[
layer = mg.nn.Linear(2, 3)
layer:save "layer.safetensors"]],
  ["Module:load"] = [[
a, b = mg.nn.Linear(2, 3), mg.nn.Linear(2, 3)
a:save "a.safetensors"
b:load "a.safetensors"
mg.equal(a.weight, b.weight)]],
  ["Module:summary"] = "mg.nn.Sequential(mg.nn.Linear(3, 8), mg.relu):summary()",
  ["Module:to"] = [[
layer = mg.nn.Linear(2, 3)
layer:to "float32"
layer.weight.dtype]],
  ["Module:freeze"] = [[
layer = mg.nn.Linear(2, 3)
layer:freeze()
layer.weight.requires_grad
layer:freeze(false)
layer.weight.requires_grad]],
  ["Module:clone"] = [[
a = mg.nn.Linear(2, 3)
b = a:clone()
mg.equal(a.weight, b.weight), a.weight == b.weight]],
  ["Module:add_hook"] = [[
layer = mg.nn.Linear(2, 3)
layer:add_hook("forward", function(m, inputs, y) print(inputs[1].shape, y.shape) end)
y = layer(mg.ones(5, 2))]],

  ["models.LeNet"] = "mg.models.LeNet()(mg.rand(2, 1, 28, 28)).shape",
  ["models.VGG16"] = [[
VGG = mg.models.VGG16     -- 138 million parameters at its defaults
mg.help(VGG)]],
  ["models.ResNet18"] = [[
mg.test_mode(mg.models.ResNet18{num_classes = 10}, mg.rand(1, 3, 32, 32)).shape]],
  ["models.ResNet50"] = "mg.help(mg.models.ResNet50)",
  ["models.MobileNetV2"] = "mg.help(mg.models.MobileNetV2)",
  ["models.GPT"] = [[
gpt = mg.models.GPT(50, {block_size = 16, n_layer = 2, n_head = 2, n_embd = 32})
gpt(mg.randint(1, 50, {3, 16})).shape]],
  ["GPT:generate"] = [[
gpt = mg.models.GPT(50, {block_size = 16, n_layer = 1, n_head = 2, n_embd = 16})
gpt:generate(mg.tensor({{1, 2, 3}}, "int64"), 5).shape]],

  ["optim.SGD"] = fitted("SGD", "{lr = 0.1, momentum = 0.5}"),
  ["optim.Adam"] = fitted("Adam", "{lr = 0.1}"),
  ["optim.AdamW"] = fitted("AdamW", "{lr = 0.1, weight_decay = 0.1}"),
  ["optim.NAdam"] = fitted("NAdam", "{lr = 0.1}"),
  ["optim.Adamax"] = fitted("Adamax", "{lr = 0.1}"),
  ["optim.Lion"] = fitted("Lion", "{lr = 0.05}"),
  ["optim.RMSprop"] = fitted("RMSprop", "{lr = 0.05}"),
  ["optim.AdaGrad"] = fitted("AdaGrad", "{lr = 0.2}"),
  ["optim.AdaDelta"] = fitted("AdaDelta", "{lr = 10}"),
  ["optim.LBFGS"] = [[
p = mg.Variable{-1, 2}
opt = mg.optim.LBFGS({p})
opt:step(function()
  p:cleargrad()
  local loss = ((p - 3) ^ 2):sum()
  loss:backward()
  return loss
end)
p]],
  ["LBFGS:step"] = [[
p = mg.Variable(5)
opt = mg.optim.LBFGS({p})
loss = opt:step(function() p:cleargrad(); local y = p ^ 2; y:backward(); return y end)
p]],
  ["LBFGS:state"] = "type(mg.optim.LBFGS({mg.Variable(1)}):state())",
  ["LBFGS:load_state"] = [[
opt = mg.optim.LBFGS({mg.Variable(1)})
opt:load_state(opt:state())]],
  ["LBFGS:add_group"] = [[
opt = mg.optim.LBFGS({mg.Variable(1)})
!opt:add_group{params = {mg.Variable(2)}}]],
  ["optim.Optimizer"] = [[
Sign = mg.optim.Optimizer:extend("Sign", "lr: number(0..) = 0.1", "p - lr sign(g)")
function Sign:update(p, g) return {p}, {p - self.lr * g:sign()} end
p = mg.Variable{1, -2}
opt = Sign({p})
(p ^ 2):sum():backward()
opt:step()
p]],
  ["Optimizer:extend"] = [[
Plain = mg.optim.SGD:extend "Plain"
Plain({mg.Variable(1)}, {lr = 3}).lr]],
  ["Optimizer:cleargrads"] = [[
model = mg.nn.Linear(2, 1)
opt = mg.optim.SGD(model)
model(mg.ones(1, 2)):sum():backward()
opt:cleargrads()
model.weight.grad]],
  ["Optimizer:step"] = [[
p = mg.Variable(1)
opt = mg.optim.SGD({p}, {lr = 0.1})
(p ^ 2):backward()
opt:step()
p]],
  ["Optimizer:add_group"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 0.1})
opt:add_group{params = {mg.Variable(2)}, lr = 0.5}
#opt.groups]],
  ["Optimizer:add_hook"] = [[
p = mg.Variable(1)
opt = mg.optim.SGD({p}, {lr = 1})
opt:add_hook(mg.optim.clip_value(0.5))
(p * 100):backward()
opt:step()
p]],
  ["Optimizer:state"] = [[
opt = mg.optim.Adam({mg.Variable(1)}, {lr = 0.1})
type(opt:state())]],
  ["Optimizer:load_state"] = [[
opt = mg.optim.Adam({mg.Variable(1)}, {lr = 0.1})
mg.save("opt.safetensors", opt:state())
opt:load_state(mg.load "opt.safetensors")]],
  ["optim.clip_grad_norm"] = [[
p = mg.Variable{3, 4}
(p ^ 2):sum():backward()
mg.optim.clip_grad_norm({p}, 1)
p.grad]],
  ["optim.clip_grad_value"] = [[
p = mg.Variable{3, 4}
(p ^ 2):sum():backward()
mg.optim.clip_grad_value({p}, 7)
p.grad]],
  ["optim.clip_grad"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
opt:add_hook(mg.optim.clip_grad(1))]],
  ["optim.clip_value"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
opt:add_hook(mg.optim.clip_value(0.1))]],
  ["optim.weight_decay"] = [[
p = mg.Variable(2)
opt = mg.optim.SGD({p}, {lr = 1})
opt:add_hook(mg.optim.weight_decay(0.1))
(p * 0):backward()
opt:step()
p]],
  ["optim.freeze"] = [[
a, b = mg.Variable(1), mg.Variable(1)
opt = mg.optim.SGD({a, b}, {lr = 1})
opt:add_hook(mg.optim.freeze({a}))
(a + b):backward()
opt:step()
a
b]],
  ["optim.cosine"] = rates "mg.optim.cosine(opt, 3)",
  ["optim.warm_restarts"] = rates "mg.optim.warm_restarts(opt, 2)",
  ["optim.step"] = rates "mg.optim.step(opt, 2)",
  ["optim.multistep"] = rates "mg.optim.multistep(opt, {1, 3})",
  ["optim.exponential"] = rates "mg.optim.exponential(opt, 0.5)",
  ["optim.linear_lr"] = rates "mg.optim.linear_lr(opt, 2)",
  ["optim.polynomial"] = rates "mg.optim.polynomial(opt, 3)",
  ["optim.lambda"] = rates "mg.optim.lambda(opt, function(t) return 1 / (1 + t) end)",
  ["optim.warmup"] = rates "mg.optim.warmup(opt, 2)",
  ["optim.chained"] = rates("mg.optim.chained{mg.optim.step(opt, 2), " ..
                            "mg.optim.exponential(opt, 0.5)}"),
  ["optim.sequential"] = rates("mg.optim.sequential({mg.optim.warmup(opt, 2), " ..
                               "mg.optim.exponential(opt, 0.5)}, {2})"),
  ["optim.one_cycle"] = rates "mg.optim.one_cycle(opt, 10, 4)",
  ["optim.plateau"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
plateau = mg.optim.plateau(opt, {patience = 1})
for i = 1, 4 do plateau:step(0.5); print(opt.lr) end]],
  ["Schedule:step"] = rates("mg.optim.exponential(opt, 0.1)", 2),
  ["Schedule:state"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
type(mg.optim.cosine(opt, 10):state())]],
  ["Schedule:load_state"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
schedule = mg.optim.cosine(opt, 10)
state = schedule:state()
schedule:step()
schedule:load_state(state)
opt.lr]],
  ["Plateau:step"] = [[
opt = mg.optim.SGD({mg.Variable(1)}, {lr = 1})
plateau = mg.optim.plateau(opt, {patience = 0})
plateau:step(1)
plateau:step(2)
opt.lr]],

  ["data.Dataset"] = [[
Squares = mg.data.Dataset:extend "Squares"
function Squares:init(n) self.n = n end
function Squares:__len() return self.n end
function Squares:get(i) return mg.tensor(i), mg.tensor(i * i) end
ds = Squares(4)
ds:batch(1, 3)]],
  ["Dataset:batch"] = pairs_of .. "ds:batch(2, 4)",
  ["Dataset:map"] = pairs_of .. "ds:map(function(x, t) return x * 100, t end):batch(1, 2)",
  ["data.TensorDataset"] = pairs_of .. "#ds\nds:get(2)",
  ["data.Subset"] = pairs_of .. "mg.data.Subset(ds, {6, 1}):batch(1, 2)",
  ["data.Concat"] = pairs_of .. "#mg.data.Concat(ds, ds)",
  ["data.random_split"] = pairs_of ..
    "train, test = mg.data.random_split(ds, {4, 2})\n#train, #test",
  ["data.collate"] = pairs_of .. "mg.data.collate(ds, {1, 6})",
  ["data.DataLoader"] = pairs_of ..
    "loader = mg.data.DataLoader(ds, {batch_size = 2, shuffle = true})\n#loader\n" ..
    "for x, t in loader:batches() do print(x, t) end",
  ["DataLoader:batches"] = pairs_of ..
    "for x, t in mg.data.DataLoader(ds, {batch_size = 4}):batches() do print(x, t) end",
  ["DataLoader:state"] = pairs_of .. "type(mg.data.DataLoader(ds):state())",
  ["DataLoader:load_state"] = pairs_of .. "loader = mg.data.DataLoader(ds)\n" ..
    "loader:load_state(loader:state())",
  ["data.SequenceLoader"] = pairs_of ..
    "loader = mg.data.SequenceLoader(ds, {batch_size = 2, length = 2})\n" ..
    "for x in loader:batches() do print(x) end",
  ["SequenceLoader:batches"] = pairs_of ..
    "loader = mg.data.SequenceLoader(ds, {length = 3})\n" ..
    "for x, t in loader:batches() do print(x.shape, t.shape) end",
  ["data.Sampler"] = [[
Backwards = mg.data.Sampler:extend "Backwards"
function Backwards:init(n) self.n = n end
function Backwards:__len() return self.n end
function Backwards:positions() return mg.range(self.n, 1, -1, {dtype = "int64"}) end
Backwards(3):positions()]],
  ["data.RandomSampler"] = pairs_of ..
    "sampler = mg.data.RandomSampler(ds, {replacement = true, num_samples = 4})\n" ..
    "loader = mg.data.DataLoader(ds, {batch_size = 4, sampler = sampler})\n" ..
    "for x in loader do print(x) end",
  ["data.WeightedRandomSampler"] = pairs_of ..
    "sampler = mg.data.WeightedRandomSampler({0, 0, 1, 1, 0, 0}, 4)\n" ..
    "loader = mg.data.DataLoader(ds, {batch_size = 4, sampler = sampler})\n" ..
    "for x in loader do print(x) end",
  ["data.FashionMNIST"] = [[
test = mg.data.FashionMNIST{split = "test"}
#test
x, t = test:batch(1, 3)
x.shape, t]],
  ["data.MNIST"] = [[!mg.data.MNIST{root = "nowhere"}]],
  ["data.CIFAR10"] = [[!mg.data.CIFAR10{root = "nowhere"}]],
  ["data.Spiral"] = [[
x, t = mg.data.Spiral():batch(1, 4)
x.shape
t]],
  ["data.SinCurve"] = "mg.data.SinCurve():batch(1, 2)",
  ["data.CSV"] = [[
file = io.open("a.csv", "w")
file:write("length,width,kind\n1.5,2,cat\n3,4,dog\n"):close()
ds = mg.data.CSV("a.csv", {target = "kind"})
ds:batch(1, 2)]],
  ["data.Text"] = [[
ds = mg.data.Text{text = "hello world", length = 4}
#ds
ds:get(1)]],
  ["data.Tokenizer"] = [[
Vowels = mg.data.Tokenizer:extend "Vowels"
function Vowels:ids(text)
  local t = {}
  for c in text:gmatch "[aeiou]" do t[#t + 1] = ("aeiou"):find(c) end
  return t
end
function Vowels:token(id) return ("aeiou"):sub(id, id) end
function Vowels:__len() return 5 end
Vowels():encode "hello"]],
  ["data.ByteTokenizer"] = [[mg.data.ByteTokenizer():encode "Hi"]],
  ["data.CharTokenizer"] = [[
tokenizer = mg.data.CharTokenizer "hello"
#tokenizer
tokenizer:encode "hole"]],
  ["data.BPETokenizer"] = [[
tokenizer = mg.data.BPETokenizer(("low lower lowest "):rep(20), 260)
tokenizer:encode "lower"]],
  ["BPETokenizer:state"] = "tokenizer = mg.data.BPETokenizer(\"low low low lower\", 258)\n" ..
    "tokenizer:state().merges",
  ["BPETokenizer:load_state"] = "a = mg.data.BPETokenizer(\"low low low lower\", 258)\n" ..
    "b = mg.data.BPETokenizer(\"\", 256)\nb:load_state(a:state())\nb:encode \"low\"",
  ["ByteTokenizer:state"] = "type(mg.data.ByteTokenizer():state())",
  ["ByteTokenizer:load_state"] = "tokenizer = mg.data.ByteTokenizer()\n" ..
    "tokenizer:load_state(tokenizer:state())",
  ["CharTokenizer:state"] = "type(mg.data.CharTokenizer(\"abc\"):state())",
  ["CharTokenizer:load_state"] = "a = mg.data.CharTokenizer(\"abc\")\n" ..
    "b = mg.data.CharTokenizer(\"\")\n" ..
    "b:load_state(a:state())\n#b",
  ["Tokenizer:encode"] = [[mg.data.CharTokenizer("abc"):encode "cab"]],
  ["Tokenizer:decode"] = [[mg.data.CharTokenizer("abc"):decode(mg.tensor({3, 1, 2}, "int64"))]],
  ["data.grid"] = "mg.data.grid(mg.rand(6, 8, 8), {columns = 3}).shape",
  ["data.pad_sequence"] = [[
mg.data.pad_sequence({mg.tensor{1, 2}, mg.tensor{3}}, {batch_first = true})]],
  ["data.CenterCrop"] = pictures .. "mg.data.CenterCrop(1)(x)",
  ["data.Grayscale"] = "mg.data.Grayscale()(mg.rand(2, 3, 4, 4)).shape",
  ["data.RandomGrayscale"] = "mg.data.RandomGrayscale(0.5)(mg.rand(2, 3, 4, 4)).shape",
  ["data.ColorJitter"] = "jitter = mg.data.ColorJitter{brightness = 0.2, hue = 0.1}\n" ..
    "jitter(mg.rand(2, 3, 4, 4)):max():item() <= 1",
  ["data.RandomErasing"] = pictures .. "mg.data.RandomErasing(1)(x)",
  ["data.RandomAffine"] = pictures .. "mg.data.RandomAffine(10, {translate = {0.1, 0.1}})(x).shape",
  ["data.RandomResizedCrop"] = pictures .. "mg.data.RandomResizedCrop(2)(x).shape",
  ["data.MixUp"] = [[
mix = mg.data.MixUp{classes = 3}
x, t = mix(mg.rand(2, 1, 4, 4), mg.tensor({1, 3}, "int64"))
t:sum(2)]],
  ["data.CutMix"] = [[
mix = mg.data.CutMix{classes = 3}
x, t = mix(mg.rand(2, 1, 4, 4), mg.tensor({1, 3}, "int64"))
x.shape, t.shape]],
  ["data.RandomCrop"] = pictures .. "mg.data.RandomCrop(2)(x)",
  ["data.RandomHorizontalFlip"] = pictures .. "mg.data.RandomHorizontalFlip(1)(x)",
  ["data.RandomVerticalFlip"] = pictures .. "mg.data.RandomVerticalFlip(1)(x)",
  ["data.RandomRotation"] = pictures .. "mg.data.RandomRotation(10)(x).shape",
  ["data.Normalize"] = pictures .. "mg.data.Normalize(5, 2)(x)",
  ["data.Resize"] = pictures .. "mg.data.Resize(6)(x).shape",

  ["metrics.confusion_matrix"] = predicted .. "mg.metrics.confusion_matrix(predicted, labels)",
  ["metrics.precision"] = predicted ..
    "mg.metrics.precision(predicted, labels, {average = \"none\"})",
  ["metrics.recall"] = predicted .. "mg.metrics.recall(predicted, labels, {average = \"none\"})",
  ["metrics.f1"] = predicted .. "mg.metrics.f1(predicted, labels)",
  ["metrics.auc"] = "mg.metrics.auc({0.1, 0.4, 0.35, 0.8}, {0, 0, 1, 1})",
  ["metrics.r2"] = "mg.metrics.r2({1, 2, 3}, {1, 2, 4})",

  ["training.Checkpoint"] = [[
model = mg.nn.Linear(2, 1)
checkpoint = mg.training.Checkpoint("run", {model = model}, {keep = 2})
checkpoint:save(1, 0.5)
checkpoint:save(2, 0.7)
checkpoint:best()]],
  ["Checkpoint:save"] = [[
checkpoint = mg.training.Checkpoint("run1", {model = mg.nn.Linear(2, 1)})
checkpoint:save(1, 0.5)]],
  ["Checkpoint:load"] = [[
checkpoint = mg.training.Checkpoint("run2", {model = mg.nn.Linear(2, 1)})
checkpoint:save(3, 0.5)
checkpoint:load "best"]],
  ["Checkpoint:best"] = [[
checkpoint = mg.training.Checkpoint("run3", {model = mg.nn.Linear(2, 1)})
checkpoint:best()
checkpoint:save(1, 0.5)
checkpoint:best()]],
  ["training.EarlyStopping"] = [[
stopping = mg.training.EarlyStopping(1)
for epoch, loss in ipairs{3, 2, 2.5, 2.6, 2.7} do
  if stopping:step(loss) then print(epoch) break end
end]],
  ["EarlyStopping:step"] = [[
stopping = mg.training.EarlyStopping(0)
stopping:step(1)
stopping:step(2)]],
  ["EarlyStopping:state"] = [[
stopping = mg.training.EarlyStopping(3)
type(stopping:state())]],
  ["EarlyStopping:load_state"] = [[
stopping = mg.training.EarlyStopping(3)
stopping:load_state(stopping:state())]],
  ["dist.all_reduce"] = [[
dist = require "moongrad.dist"
dist.all_reduce(mg.tensor{1, 2}, "mean")
dist.rank, dist.size]],
  ["dist.broadcast"] = [[
dist = require "moongrad.dist"
dist.broadcast(mg.tensor{1, 2}, 1)]],
  ["dist.all_gather"] = [[
dist = require "moongrad.dist"
dist.all_gather(mg.tensor{1, 2}).shape]],
  ["dist.barrier"] = [[
dist = require "moongrad.dist"
dist.barrier()]],
  ["dist.DataParallel"] = [[
dist = require "moongrad.dist"
model = dist.DataParallel(mg.nn.Linear(2, 1))
model(mg.ones(3, 2)):sum():backward()
model.module.bias.grad]],
  ["training.EMA"] = [[
model = mg.nn.Linear(2, 1)
ema = mg.training.EMA(model, {decay = 0.9})
ema:update()
ema:apply(model, mg.ones(1, 2)).shape]],
  ["training.SWA"] = [[
model = mg.nn.Linear(2, 1)
swa = mg.training.SWA(model)
swa:update()
swa:copy()]],
  ["Average:update"] = [[
model = mg.nn.Linear(2, 1)
ema = mg.training.EMA(model)
ema:update()]],
  ["Average:apply"] = [[
model = mg.nn.Linear(2, 1)
ema = mg.training.EMA(model)
ema:update()
ema:apply(function() return model(mg.ones(1, 2)).shape end)]],
  ["Average:copy"] = [[
model = mg.nn.Linear(2, 1)
swa = mg.training.SWA(model)
swa:update()
swa:copy()]],
  ["Average:state"] = "type(mg.training.SWA(mg.nn.Linear(2, 1)):state())",
  ["Average:load_state"] = [[
swa = mg.training.SWA(mg.nn.Linear(2, 1))
swa:update()
swa:load_state(swa:state())]],
  ["Bar:set"] = [[
bar = mg.progress(2, "fit")
for i in bar do bar:set("loss " .. 1 / i) end]],
}
