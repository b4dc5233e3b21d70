-- For `luarocks --lua-version=5.4 make` in a checkout, and `make rock`; the Makefile knows how to build.
-- DEPS=no: a rock asks for its libraries here and leaves the system's packages alone. OpenBLAS, zlib and
-- the drawing programs are looked for when they are first wanted.
rockspec_format = "3.0"
package = "moongrad"
version = "0.1.0-1"
source = {
  url = "git+file://.",
  tag = "v0.1.0",
}
description = {
  summary = "Automatic differentiation on CPU arrays, computed late and fused",
  detailed = [[
moongrad differentiates what is written in Lua: a C core of arrays, ops and gradients, and layers,
optimizers, data and files in Lua on top. Backward keeps nothing it does not need; elementwise
operations on large arrays run fused; results have the same bits for any number of threads.]],
  license = "MIT",
  labels = {"math", "machine learning", "autodiff"},
}
dependencies = {
  "lua >= 5.4, < 5.5",
}
external_dependencies = {
  RANDOM123 = {header = "Random123/philox.h"},
  STB = {header = "stb/stb_image.h"},
}
build = {
  type = "make",
  build_variables = {
    DEPS = "no",
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LUA_CFLAGS = "-I$(LUA_INCDIR)",
  },
  install_variables = {
    DEPS = "no",
    DOCS = "no",
    LUADIR = "$(LUADIR)",
    LIBDIR = "$(LIBDIR)",
    BINDIR = "$(BINDIR)",
  },
}
test_dependencies = {
  "busted >= 2.0",
  "lua-zlib",
}
test = {
  type = "command",
  command = "make DEPS=no test",
}
