# Builds moongrad and runs what there is to run. On a bare Debian 12 with make and gcc, `make demo`
# is enough: what is missing is installed by apt first.
#
#   make            build lua/moongrad/core.so
#   make demo       train a network on real images
#   make mpi        build lua/moongrad/mpi.so, for processes under mpirun
#   make demo-mpi   train a network in two processes
#   make test       run spec/; the last line is "N passed, N failed"
#   make repl       what people type is run and shown, names are completed: the command `moongrad`
#   make env        prints what lets Lua find this checkout from anywhere: eval "$(make -s env)"
#   make jupyter    a kernel for Jupyter's notebooks, for this user; ipykernel comes from PyPI
#   make install    into $(DESTDIR)$(PREFIX)/{share,lib}/lua/5.4, with docs, man page and annotations
#                   if not DOCS=no; `make uninstall` takes it away
#   make meta       build/meta/moongrad.lua: all names and types, for editors
#   make docs       build/docs/index.html, and the man page build/man/moongrad.3
#   make rock       a source rock for LuaRocks, build/rock/
#   make lint       luacheck, clang-format, cppcheck
#   make asan       spec/ under the address, undefined-behaviour and leak sanitizers
#   make tsan       three Lua states, on three threads each, under the thread sanitizer
#   make fuzz       random trials under them: SECONDS=60 SEED=1 KINDS="files.npz" CASE=n
#   make bench      speed and memory beside hand-written loops and the peers: build/bench.md, .svg;
#                   ROWS="mse mem_*" and QUICK=yes make it shorter
#   make bench-check   the same, an error where a bound is missed
#   make bench-mpi  steps in 1, 2 and 4 processes, and what more would gain: build/dist.svg
#   make bench-peers   PyTorch, JAX and CasADi from PyPI, into build/peers
#   make tensorboard   TensorBoard from PyPI, into build/tensorboard: a spec lets it read our logs
#   make clean
#
# DEPS=no leaves apt alone, for those whose libraries come from elsewhere. V=1 shows the commands.

PREFIX = /usr/local
LUADIR = $(PREFIX)/share/lua/5.4
LIBDIR = $(PREFIX)/lib/lua/5.4
BINDIR = $(PREFIX)/bin
DATADIR = $(PREFIX)/share/moongrad
DOCDIR = $(PREFIX)/share/doc/moongrad
MANDIR = $(PREFIX)/share/man
CC     = gcc
LUA    = lua5.4
BUSTED = /usr/bin/busted
DEMO   = lua/examples/demo.lua
DEPS   = yes
DOCS   = yes

SHELL       = /bin/bash
.SHELLFLAGS = -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: docs meta rock build demo test repl env jupyter build/jupyter install uninstall lint asan asan-core tsan fuzz bench bench-check bench-peers tensorboard clean packages \
        compile

build:

# ---- Debian packages ---------------------------------------------------------------------------
# What each goal needs. They are asked for together, so that a run has one apt-get at most.

packages.build   := gcc libc6-dev pkg-config lua5.4 liblua5.4-dev libsleef-dev librandom123-dev \
                    libopenblas-openmp-dev zlib1g-dev libstb-dev
packages.meta    := $(packages.build)
packages.jupyter := $(packages.build) python3 python3-venv
packages.repl    := $(packages.build) lua-readline gnuplot-nox
packages.demo    := $(packages.build) graphviz gnuplot-nox dataset-fashion-mnist
packages.docs    := $(packages.demo)
packages.install := $(if $(filter yes,$(DOCS)),$(packages.docs),$(packages.build))
packages.test    := $(packages.demo) lua-busted lua-zlib lua-readline locales python3 python3-venv
packages.asan    := $(packages.test)
packages.tsan    := $(packages.test)
packages.fuzz    := $(packages.test)
packages.rock    := git luarocks
packages.lint    := lua-check clang-format cppcheck
packages.bench   := $(packages.demo) lua-socket util-linux
packages.bench-check := $(packages.bench)
packages.bench-peers := python3 python3-venv g++
packages.tensorboard := python3 python3-venv
packages.mpi     := $(packages.build) libopenmpi-dev openmpi-bin
packages.demo-mpi := $(packages.mpi) dataset-fashion-mnist
packages.bench-mpi := $(packages.mpi) gnuplot-nox
packages.test    += $(packages.mpi)
packages.asan    += $(packages.mpi)
wanted = $(sort $(foreach goal,$(or $(MAKECMDGOALS),build),$(packages.$(goal))))

packages:
ifeq ($(DEPS),yes)
	@command -v dpkg-query >/dev/null || { \
	  echo "This is no Debian: install the like of $(wanted), then say make DEPS=no."; exit 1; }; \
	have=$$(dpkg-query -W -f='$${db:Status-Status}:$${Package} ' $(wanted) 2>/dev/null); \
	missing=; for p in $(wanted); do \
	  case " $$have" in *" installed:$$p "*) ;; *) missing+=" $$p" ;; esac; done; \
	[ -n "$$missing" ] || exit 0; \
	[ "$$(id -u)" = 0 ] && sudo= || sudo=sudo; \
	echo "Installing by apt:$$missing"; \
	apt="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q"; \
	$$apt update; \
	$$apt install -y --no-install-recommends $$missing </dev/null
endif

# ---- the C core --------------------------------------------------------------------------------
# Compiled by a second make: only after the packages are there does pkg-config know of Lua. It is
# told where to put things (BUILD, CORE), so that the sanitizers' build lies beside the usual one.
# The kernels are built once for each x86-64 level and chosen at run time; nothing else is. For other
# processors, or with LEVELS=plain, once, in plain C with the C library's functions. TUNE: a
# node is cleared by a few vector stores, not by `rep stos`, which takes longer than a scalar op. LTO: a
# small op is a dozen short functions of as many files; inlined, it takes a ninth less. Not by clang, whose
# linker would need a plugin.

BUILD = build
CORE  = lua/moongrad/core.so
MPI   = $(dir $(CORE))mpi.so

CFLAGS     = -O3 -Wall -Wextra -Werror=implicit-function-declaration
LDFLAGS    =
LUA_CFLAGS = $(shell pkg-config --cflags lua5.4)
ALL_CFLAGS = -std=gnu11 $(CFLAGS) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
             -fno-trapping-math -fopenmp-simd -fsigned-char $(PLAIN:%=-D%) $(SANITIZE) -Isrc -MMD -MP

KERN   = src/cpu/kern.c
WINDOW = src/cpu/window.c
MULTIPLY = src/cpu/multiply.c
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
LEVELS = $(if $(filter-out x86_64%,$(MACHINE)),plain,v2 v3 v4)
PLAIN  = $(if $(filter plain,$(LEVELS)),PLAIN_C)
OBJ    = $(patsubst src/%.c,$(BUILD)/%.o,$(filter-out $(KERN) $(WINDOW) $(MULTIPLY),$(wildcard src/*/*.c))) \
         $(foreach l,$(LEVELS),$(BUILD)/kern_$l.o $(BUILD)/window_$l.o $(BUILD)/multiply_$l.o)

# A line for each file that is made; its command with V=1.
Q   = $(if $(V),,@)
say = @$(if $(V),:,printf '  %-5s %s\n' $1 $2)

build: packages
	@$(MAKE) --no-print-directory $(jobs) compile

jobs = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

compile: $(CORE) $(if $(WITH_MPI),$(MPI))
	@:

# A module of its own, which only those who name it need MPI for.
.PHONY: mpi demo-mpi bench-mpi
test: mpi
mpi: build
	@$(MAKE) --no-print-directory compile WITH_MPI=yes

demo-mpi: mpi
	@mpirun --oversubscribe $(if $(filter 0,$(shell id -u)),--allow-run-as-root) -n 2 \
	  $(LUA) lua/examples/distributed.lua

bench-mpi: mpi
	@$(LUA) spec/bench/dist.lua build/dist.svg

$(MPI): src/mpi.c src/moongrad.h Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) $(LUA_CFLAGS) $$(pkg-config --cflags ompi-c) -shared \
	  -Wl,-z,nodelete $(LDFLAGS) -o $@ $< $$(pkg-config --libs ompi-c)

# nodelete: the sanitizers want the symbols of what a closing Lua state unloads.
$(CORE): $(OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared -Wl,-z,nodelete $(SANITIZE) $(LTO) $(LDFLAGS) -o $@ $(OBJ) $(if $(PLAIN),,-lsleef) -lm -ldl

TUNE = $(if $(filter x86_64%,$(MACHINE)),-mtune=skylake)
ARCH = $(if $(PLAIN),,-march=x86-64-$*)
LTO  = $(if $(SANITIZE)$(findstring clang,$(CC)),,-flto=auto)
$(BUILD)/%.o: src/%.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(TUNE) $(LTO) $(LUA_CFLAGS) -c -o $@ $<

# stb_image counts on numbers that wrap, copies nothing to nowhere, and by itself draws no warnings.
$(BUILD)/file/picture.o: ALL_CFLAGS += -fwrapv $(if $(SANITIZE),-fno-sanitize=nonnull-attribute)
$(BUILD)/file/picture.o: LTO =

$(BUILD)/kern_v4.o: WIDTH = -mprefer-vector-width=512
$(LEVELS:%=$(BUILD)/kern_%.o): $(BUILD)/kern_%.o: $(KERN) Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -O3 -DISA=$* $(ARCH) $(WIDTH) -c -o $@ $<

# What convolutions and products multiply they may contract: their bits are this machine's own.
define CONTRACTED
@mkdir -p $(@D)
$(call say,CC,$@)
$(Q)$(CC) $(ALL_CFLAGS) -O3 -ffp-contract=fast -DISA=$* $(ARCH) -c -o $@ $<
endef

$(LEVELS:%=$(BUILD)/window_%.o): $(BUILD)/window_%.o: $(WINDOW) Makefile
	$(CONTRACTED)

$(LEVELS:%=$(BUILD)/multiply_%.o): $(BUILD)/multiply_%.o: $(MULTIPLY) Makefile
	$(CONTRACTED)

-include $(OBJ:.o=.d)

# ---- running it --------------------------------------------------------------------------------
# This tree comes before whatever is installed, in child processes too.

export LUA_PATH_5_4  := ./lua/?.lua;./lua/?/init.lua;$(or $(LUA_PATH_5_4),$(LUA_PATH),;)
export LUA_CPATH_5_4 := ./lua/?.so;$(or $(LUA_CPATH_5_4),$(LUA_CPATH),;)

demo: build
	@$(LUA) $(DEMO)

repl: build
	@$(LUA) -e 'require("moongrad.repl").main{"-i"}'

env:
	@echo "export LUA_PATH_5_4='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;'" \
	  "LUA_CPATH_5_4='$(CURDIR)/lua/?.so;;'"

# Without PyPI there is no ipykernel: then the kernel's spec is left out.
build/jupyter: packages
	@build/jupyter/bin/python -c 'import ipykernel' 2>/dev/null || { \
	  echo "Installing ipykernel from PyPI into build/jupyter"; \
	  python3 -m venv build/jupyter && build/jupyter/bin/pip install -q --timeout 10 --retries 1 ipykernel; } || \
	  echo "ipykernel cannot be had: there is no Jupyter kernel."

jupyter: build build/jupyter
	@LUA_PATH_5_4='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;' LUA_CPATH_5_4='$(CURDIR)/lua/?.so;;' \
	  MOONGRAD_LUA='$(LUA)' build/jupyter/bin/python lua/moongrad/jupyter/kernel.py install

# $(call busted,environment,options): shows what busted says of each file of specs, then all their sums in
# one line. A process for each: what allocations and finalizers do is tried under full collections, whose cost
# grows with all that other specs have loaded. A busted that dies, before its closing line or after it, counts
# as one failure more.
SPECS = $(wildcard spec/*/*_spec.lua spec/*_spec.lua)
define busted
@mkdir -p build; \
for part in $(SPECS); do \
  $1 $(LUA) -e 'io.stdout:setvbuf "line"' $(BUSTED) --ignore-lua $2 $$part 2>&1; \
  echo "$$part: exit status $$?"; \
done | tee build/log; \
awk ' \
  /^[0-9]+ success(es)? \/ [0-9]+ failures? \/ [0-9]+ errors? \/ [0-9]+ pending/ { \
    passed += $$1; bad = $$4 + $$7; failed += bad; summed = 1 } \
  /^spec\/[^ ]*: exit status [0-9]+$$/ { \
    if (!summed || $$NF && !bad) { failed++; print "\nbusted: " $$0 } \
    summed = bad = 0; parts++ } \
  END { \
    if (!parts) failed++; \
    printf "%d passed, %d failed\n", passed, failed; exit failed > 0 }' build/log | tee build/tests
endef

test: build build/jupyter
	$(call busted,,)

# Leaks are looked for in Lua alone, not in the shells and drawing programs it starts.
# intercept_tls_get_addr=0: gcc 12's leak search takes thread-local variables that begin 16 bytes into
# a page for a block of glibc 2.19, reads its bounds from what lies before, and dies of them. Without,
# it comes to them as to all else, through pointers.
asan-core: packages
	@$(MAKE) --no-print-directory $(jobs) compile BUILD=build/asan CORE=build/asan/moongrad/core.so WITH_MPI=yes \
	  SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g'
	@echo leak:libopenblas >build/asan/leaks
	@echo detect_leaks=1:intercept_tls_get_addr=0 >build/asan/$(notdir $(LUA)).options

sanitized = LUA_CPATH_5_4="./build/asan/?.so;$$LUA_CPATH_5_4" \
  LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:include_if_exists=build/asan/%b.options \
  LSAN_OPTIONS=suppressions=build/asan/leaks:print_suppressions=0 \
  UBSAN_OPTIONS=print_stacktrace=1

asan: asan-core
	$(call busted,$(sanitized),--cpath='./build/asan/?.so')

# Each state has helpers, too.
tsan: packages
	@$(MAKE) --no-print-directory $(jobs) compile BUILD=build/tsan CORE=build/tsan/moongrad/core.so \
	  SANITIZE='-fsanitize=thread -g'
	$(call say,CC,build/tsan/states)
	$(Q)$(CC) -g -fsanitize=thread $$(pkg-config --cflags lua5.4) -o build/tsan/states \
	  spec/threads/states.c $$(pkg-config --libs lua5.4) -lpthread
	@LUA_CPATH_5_4="./build/tsan/?.so;$$LUA_CPATH_5_4" OMP_NUM_THREADS=3 \
	  TSAN_OPTIONS=halt_on_error=0:exitcode=66 build/tsan/states spec/threads/program.lua

# spec/fuzz/run.lua says what a kind is, and how a case is run again.
SECONDS = 60
SEED    = 1
fuzz: asan-core
	@$(sanitized) $(LUA) spec/fuzz/run.lua '$(SECONDS)' '$(SEED)' '$(CASE)' '$(KINDS)'

# ---- the bench ---------------------------------------------------------------------------------
# The limits are compiled for this very processor, with all that the library itself forgoes.

bench: build build/bench/limit_f32 build/bench/limit_f64
	@$(LUA) spec/bench/run.lua $(if $(QUICK),quick) $(ROWS)

bench-check: build build/bench/limit_f32 build/bench/limit_f64
	@$(LUA) spec/bench/run.lua check $(if $(QUICK),quick) $(ROWS)

build/bench/limit_%: spec/bench/limit.c Makefile | packages
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) -O3 -ffast-math -march=native -fopenmp $(LUA_CFLAGS) \
	  -DREAL=$(if $(filter f32,$*),float,double) -o $@ $< -lsleefgnuabi -lopenblas -llua5.4 -lm

bench-peers: packages
	python3 -m venv build/peers
	build/peers/bin/python -m pip install torch jax casadi numpy

# ---- what is made from the signatures ------------------------------------------------------------

# Examples write where they are run: into a folder of their own.
made = cd build/docs/work && \
  LUA_PATH_5_4='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;' \
  LUA_CPATH_5_4='$(CURDIR)/lua/?.so;;' $(LUA) '$(CURDIR)/lua/docs/make.lua' $1 '$(CURDIR)/build'

# Made again where a source is younger: who has made them as a user installs them as root.
documented := $(shell find lua src spec/bench -name '*.lua' -o -name '*.[ch]' -o -name '*.md' -o \
  -name '*.def' -o -name '*.css' -o -name '*.svg')

meta: build/meta/moongrad.lua
docs: build/docs/gallery.html

build/meta/moongrad.lua: $(documented) Makefile | build
	@mkdir -p build/docs/work
	@$(call made,meta)

build/docs/gallery.html: $(documented) Makefile | build build/meta/moongrad.lua
	@rm -rf build/docs && mkdir -p build/docs/work
	@$(call made,docs)
	@$(call made,gallery)
	@rm -rf build/docs/work

tensorboard: packages
	python3 -m venv build/tensorboard
	build/tensorboard/bin/python -m pip install tensorboard

# ---- the rest ----------------------------------------------------------------------------------

install: build $(if $(filter yes,$(DOCS)),meta docs)
	@find lua/moongrad -name '*.lua' -printf '%P\n' | \
	  xargs -I{} install -D -m 644 lua/moongrad/{} '$(DESTDIR)$(LUADIR)/moongrad/{}'
	@install -D -m 644 lua/moongrad/jupyter/kernel.py '$(DESTDIR)$(LUADIR)/moongrad/jupyter/kernel.py'
	@install -D -m 755 $(CORE) '$(DESTDIR)$(LIBDIR)/moongrad/core.so'
	@[ ! -e $(MPI) ] || install -D -m 755 $(MPI) '$(DESTDIR)$(LIBDIR)/moongrad/mpi.so'
	@printf '%s\n' '#!/usr/bin/env $(LUA)' \
	  'package.path = "$(LUADIR)/?.lua;$(LUADIR)/?/init.lua;" .. package.path' \
	  'package.cpath = "$(LIBDIR)/?.so;" .. package.cpath' \
	  'require("moongrad.repl").main(arg)' | \
	  install -D -m 755 /dev/stdin '$(DESTDIR)$(BINDIR)/moongrad'
ifeq ($(DOCS),yes)
	@install -D -m 644 build/meta/moongrad.lua '$(DESTDIR)$(DATADIR)/meta/moongrad.lua'
	@install -D -m 644 build/man/moongrad.3 '$(DESTDIR)$(MANDIR)/man3/moongrad.3'
	@find build/docs -type f -printf '%P\n' | \
	  xargs -I{} install -D -m 644 build/docs/{} '$(DESTDIR)$(DOCDIR)/{}'
endif
	@echo "moongrad is in $(DESTDIR)$(LUADIR) and $(DESTDIR)$(LIBDIR)"

uninstall:
	rm -rf '$(DESTDIR)$(LUADIR)/moongrad' '$(DESTDIR)$(LIBDIR)/moongrad' '$(DESTDIR)$(DATADIR)' \
	  '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(MANDIR)/man3/moongrad.3' '$(DESTDIR)$(BINDIR)/moongrad'

# A rock of the sources as they are committed: build/rock/moongrad-VERSION-1.src.rock
ROCK = moongrad-$(VERSION)
VERSION = $(shell sed -n 's/^#define VERSION "\(.*\)"/\1/p' src/lua/module.c)
rock: packages
	@rm -rf build/rock && mkdir -p build/rock
	@git archive --prefix=$(ROCK)/ -o build/rock/$(ROCK).tar.gz HEAD
	@sed 's|git+file://.",|file://$(CURDIR)/build/rock/$(ROCK).tar.gz", dir = "$(ROCK)",|; /^  tag = /d' \
	  $(ROCK)-1.rockspec >build/rock/$(ROCK)-1.rockspec
	@cd build/rock && luarocks --lua-version=5.4 pack $(ROCK)-1.rockspec

# cppcheck is shown one configuration, that of one kernel level, and no system headers; an array's
# bytes are cast to its dtype everywhere.
lint: packages
	luacheck --quiet --no-color lua spec *.rockspec
	find src -name '*.c' -print0 | xargs -0r clang-format --dry-run -Werror
	cppcheck --quiet --error-exitcode=1 --std=c11 -j$$(nproc) --inline-suppr \
	  --suppress=invalidPointerCast \
	  --enable=warning,performance,portability -Isrc -DISA=v3 -D_OPENMP=201511 -DLUAMOD_API= src

clean:
	rm -rf build $(CORE) $(MPI)
