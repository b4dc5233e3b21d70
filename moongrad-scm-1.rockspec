-- For `luarocks --lua-version=5.4 make` in a checkout; the Makefile knows how to build.
-- DEPS=no: a rock asks for its libraries here and leaves the system's packages alone.
rockspec_format = "3.0"
package = "moongrad"
version = "scm-1"
source = {
  url = "git+file://.",
}
description = {
  summary = "Automatic differentiation on CPU arrays, computed late and fused",
  license = "MIT",
}
dependencies = {
  "lua >= 5.4, < 5.5",
}
external_dependencies = {
  SLEEF = {library = "sleef"},
  RANDOM123 = {header = "Random123/philox.h"},
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
