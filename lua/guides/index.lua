-- # moongrad
--
-- Automatic differentiation of whatever one writes in Lua 5.4: a C core of arrays, ops and
-- gradients behind `require "moongrad"`, and layers, optimizers and data in plain Lua on top.

local mg = require "moongrad"

local x = mg.Variable{1, 2, 3}
local y = (x ^ 2):sum()
y:backward()
print(y, x.grad)

-- It keeps nothing it does not need: backward drops gradients nobody asked for, and chains of
-- operations on large arrays never exist as arrays but run fused, in tiles that stay in the cache.
-- It starts in milliseconds, and gives the same bits for any number of threads.
--
-- ## Installing
--
-- On a Debian with `make` and `gcc`, two commands do everything: `make demo` installs what is
-- missing by apt, builds, and trains a network on real images; `make test` runs every spec.
-- `make install` puts the module, these pages, the man page and the annotations for editors under
-- `PREFIX` (default `/usr/local`).
--
-- ## In a terminal, in a notebook
--
-- `make repl`, or `moongrad` once it is installed, shows what one types: `mg` is there, Tab
-- completes names, `?softmax` is help, plots stand as text where there is no display. `moongrad
-- program.lua` runs a program. `make jupyter` installs a kernel for Jupyter's notebooks.
-- `man moongrad` lists all names.
--
-- ## In an editor
--
-- `make meta` writes annotations of all names for lua-language-server; `.luarc.json` points to
-- them.
-- Elsewhere its setting `workspace.library` is to name the folder they were installed in,
-- `/usr/local/share/moongrad/meta`.
