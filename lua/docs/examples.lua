-- examples.lua -- the sessions of lua/docs/examples by the path of what they show, without "mg.":
-- "softmax", "nn.Linear", "Module:parameters". Methods of Variables have their bare name,
-- properties stand as "x.grad".

local examples = {}

for _, file in ipairs{"elementwise", "arrays", "transforms", "modules", "solvers", "tools"} do
  for path, text in pairs(require("docs.examples." .. file)) do
    assert(not examples[path], path .. " has two examples")
    examples[path] = text
  end
end

-- The one of an entry of the catalog, or nil
function examples.of(e)
  if e.kind == "property" then return examples[e.path] end
  return examples[(e.path:gsub("^mg%.", ""):gsub("^x[:.]", ""))]
end

return examples
