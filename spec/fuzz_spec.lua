-- The first seconds of make fuzz: no trial fails.

local child = require "spec.child"

it("random trials find nothing", function()
  local text, ok = child.lua "spec/fuzz/run.lua 3 1 '' ''"
  assert(ok and text:find "^fuzz: %d+ cases from seed 1, 0 failed\n$", text)
end)
