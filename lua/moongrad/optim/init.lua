-- mg.optim: optimizers, hooks and schedules. Which file gives which names.
--
--   local opt = optim.Adam(model, {lr = 1e-3})
--   local schedule = optim.cosine(opt, steps)
--   opt:add_hook(optim.clip_grad(1))
--   ... model:cleargrads(); loss:backward(); opt:step(); schedule:step()

return require "moongrad.parts".join("optim", {
  rules = "AdaDelta AdaGrad Adam AdamW Adamax Lion NAdam Optimizer RAdam RMSprop Rprop SGD",
  lbfgs = "LBFGS",
  hooks = "clip_grad clip_grad_norm clip_grad_value clip_value freeze weight_decay",
  schedules = [[chained cosine cyclic exponential lambda linear_lr multistep one_cycle plateau
    polynomial sequential step warm_restarts warmup]],
})
