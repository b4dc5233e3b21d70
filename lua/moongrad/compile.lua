-- compile.lua -- mg.compile: a function recorded once, and replayed.

return function(mg)
  local compile = mg._compile
  mg.define("compile(f: function, {max: int(1..) = 64})",
    "f, recorded when it is first called with arguments of some form and replayed, without Lua, " ..
    "when it is called with others like them; the last max records are kept",
    function(f, max) return compile(f, max) end)
end
