-- ops.lua -- ops composed of the core's own, in groups.
--
-- Whatever stands in ops/ is written with differentiable ops and is therefore right at every order.
-- Elementwise chains stay fused as long as nobody asks a pending array for a view (reshape, index,
-- broadcast_to): views come first or last here, reductions directly after the chain.

return function(mg)
  local args = require "moongrad.ops.args"(mg)
  for _, group in ipairs{"create", "reduce", "shape", "linalg", "network"} do
    require("moongrad.ops." .. group)(mg, args)
  end
end
