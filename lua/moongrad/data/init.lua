-- mg.data: datasets and the DataLoader. Which file gives which names.

return require "moongrad.parts".join("data", {
  dataset = "Dataset TensorDataset collate",
  loader = "DataLoader",
  idx = "FashionMNIST MNIST",
  cifar = "CIFAR10",
  csv = "CSV",
  curves = "SinCurve Spiral",
  grid = "grid",
  subset = "Concat Subset random_split",
  samplers = "RandomSampler Sampler WeightedRandomSampler",
  text = "Text",
  tokenizers = "BPETokenizer ByteTokenizer CharTokenizer Tokenizer",
  sequences = "SequenceLoader pad_sequence",
  transforms = [[CenterCrop ColorJitter CutMix Grayscale MixUp Normalize RandomAffine RandomCrop
    RandomErasing RandomGrayscale RandomHorizontalFlip RandomResizedCrop RandomRotation
    RandomVerticalFlip Resize]],
})
