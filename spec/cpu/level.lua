-- Results of the whole op table, for level_spec.lua to compare between processes.

local mg = require "moongrad"
local samples = require "spec.samples"

local SPECIAL = {0.0, -0.0, math.huge, -math.huge, 0 / 0, 1e-310, -1e300, 1e-40, 1e30, 2.5, -0.5}

-- What each op and reduction makes of some numbers, by op and dtype. Lengths are no multiple of a
-- vector's, large enough for machine code.
return function()
  local all = {}
  mg.seed(1)
  local random = {}
  for k = 1, 3 do random[k] = mg.cat{mg.rand(4103) * 10 - 5, mg.tensor(SPECIAL)} end
  for _, op in ipairs(mg._ops()) do
    local sample = samples[op.name]
    for _, dtype in ipairs(sample and sample.dtypes or {}) do
      local name = op.name .. " " .. dtype
      if op.kind == "elementwise" then
        local xs = {}
        for k, input in ipairs(sample.inputs) do
          local boolean = type(input[1]) == "boolean"
          xs[k] = boolean and random[k]:gt(0) or random[k]:to(dtype)
          if dtype == "int64" and k == 2 then xs[k] = xs[k] * 2 + 1 end
        end
        all[name] = sample.call(mg[op.name], table.unpack(xs))
      elseif op.kind == "reduce" then
        local x = (random[1][{{1, 4000}}] * 10):reshape(20, 10, 20):to(dtype)
        for axis = 1, 3 do all[name .. " " .. axis] = (mg[op.name](x, axis)) end
      end
    end
  end
  return all
end
