-- mg.models: networks that are known by a name.

return require "moongrad.parts".join("models", {
  gpt = "GPT",
  vision = "LeNet MobileNetV2 ResNet18 ResNet50 VGG16",
})
