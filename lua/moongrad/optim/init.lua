-- mg.optim: optimizers, hooks and schedules. Each file below gives a table; they are joined here.
--
--   local opt = optim.Adam(model, {lr = 1e-3})
--   local schedule = optim.cosine(opt, steps)
--   opt:add_hook(optim.clip_grad(1))
--   ... model:cleargrads(); loss:backward(); opt:step(); schedule:step()

local optim = {}

for _, file in ipairs { "rules", "lbfgs", "hooks", "schedules" } do
  for name, value in pairs(require("moongrad.optim." .. file)) do optim[name] = value end
end

return optim
