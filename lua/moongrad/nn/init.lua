-- mg.nn: modules and layers. Which file gives which names.

return require "moongrad.parts".join("nn", {
  module = "Buffer Module Parameter",
  layers = [[AlphaDropout Bilinear ChannelShuffle Dropout Dropout1d Dropout2d Dropout3d Embedding
    Flatten Linear LocalResponseNorm PixelShuffle PixelUnshuffle Unflatten]],
  convolution = "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d",
  containers = "MLP Sequential",
  recurrent = "GRU GRUCell LSTM LSTMCell RNN RNNCell",
  pooling = [[AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d
    AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d MaxPool1d MaxPool2d
    MaxPool3d Upsample]],
  normalization = "BatchNorm GroupNorm InstanceNorm LayerNorm RMSNorm",
  attention = "MultiHeadAttention",
  transformer = [[Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder
    TransformerEncoderLayer]],
  activation = [[CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh Identity LeakyReLU
    LogSigmoid LogSoftmax Mish PReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmin Softplus
    Softshrink Tanh]],
  initialize = "init",
})
