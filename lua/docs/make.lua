-- make.lua -- `lua5.4 lua/docs/make.lua WHAT ...`: what is made from the signatures, into build/.

local function write(path, text)
  assert(os.execute("mkdir -p " .. path:match "^(.*)/"))
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
  print("  MAKE  " .. path)
end

local makers = {
  meta = function() write("build/meta/moongrad.lua", require "docs.meta".text()) end,
}

for _, what in ipairs(arg) do
  (makers[what] or error("make.lua: nothing is known of " .. what))()
end
