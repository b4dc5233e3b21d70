-- ops.lua -- ops composed of the core's own, in groups.
--
-- Whatever stands in ops/ is written with differentiable ops and is therefore right at every order.
-- Elementwise chains stay fused as long as nobody asks a pending array for a view (reshape, index,
-- broadcast_to): views come first or last here, reductions directly after the chain.

local GROUPS = {{"create", "new arrays"}, {"activation", "elementwise"},
                {"reduce", "reductions"}, {"shape", "shape and order"}, {"sampling", "sampling"},
                {"statistics", "statistics"}, {"linalg", "linear algebra"},
                {"einsum", "linear algebra"}, {"pooling", "pooling"},
                {"normalization", "normalization"},
                {"network", "networks"},
                {"attention", "networks"}}

return function(mg)
  local args = require "moongrad.ops.args"(mg)
  for _, group in ipairs(GROUPS) do
    mg._group(group[2])
    require("moongrad.ops." .. group[1])(mg, args)
  end
end
