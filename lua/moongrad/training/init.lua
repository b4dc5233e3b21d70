-- mg.training: what goes around the loop. Which file gives which names.

return require "moongrad.parts".join("training", {
  checkpoint = "Checkpoint",
  stopping = "EarlyStopping",
  averages = "EMA SWA",
})
