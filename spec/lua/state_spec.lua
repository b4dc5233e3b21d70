-- The module in a process: opened again, in other states, closed at any moment, and small.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"

describe("the module", function()
  it("is one, however often it is required", function()
    assert.equal(mg, require "moongrad")
    assert.equal(mg, require "moongrad.core")
  end)

  it("opened again knows the Variables of before", function()
    local x = mg.Variable{1, 2}
    local names = {}
    for name in pairs(package.loaded) do
      if name:find("^moongrad") then names[#names + 1] = name end
    end
    local kept = {}
    for _, name in ipairs(names) do kept[name], package.loaded[name] = package.loaded[name], nil end
    local again = require "moongrad"
    for _, name in ipairs(names) do package.loaded[name] = kept[name] end
    assert.is_true(mg ~= again)
    assert.is_true(again.is_variable(x))
    local y = again.exp(x) + mg.exp(x)
    y:backward()
    assert.is_true(again.allclose(x.grad, 2 * mg.exp(x)))
    again.Config.train = false
    assert.is_false(mg.Config.train)
    mg.Config.train = true
  end)

  it("is refused to Luas before 5.4.3 when it is compiled", function()
    local dir = child.folder()
    local file = assert(io.open(dir .. "/lua.h", "w"))
    file:write("#include_next <lua.h>\n#undef LUA_VERSION_RELEASE_NUM\n",
      "#define LUA_VERSION_RELEASE_NUM (LUA_VERSION_NUM * 100)\n")
    file:close()
    local text = child.path ".txt"
    assert.is_nil(os.execute(("cc -std=gnu11 -fsyntax-only -Isrc -I%s " ..
      "$(pkg-config --cflags lua5.4) src/lua/modes.c 2>%s"):format(dir, text)))
    assert.truthy(child.read(text):find("moongrad needs Lua 5.4.3", 1, true))
  end)

  it("is refused as another copy, which would find the first one's state", function()
    local dir = child.folder()
    local core = assert(package.searchpath("moongrad.core", package.cpath))
    assert(os.execute(("mkdir %s/moongrad && cp '%s' %s/moongrad/core.so"):format(dir, core, dir)))
    local text, ok = child.run(([[
      local mg = require "moongrad"
      package.cpath = %q .. package.cpath
      local first = package.loaded["moongrad.core"]
      package.loaded["moongrad.core"] = nil
      local _, err = pcall(require, "moongrad.core")
      print(err)
      package.loaded["moongrad.core"] = first
      print((mg.ones(2):sum() + 1):item(), mg.nn.Linear(2, 1)(mg.ones(2)).size)
    ]]):format(dir .. "/?.so;"))
    assert(ok, text)
    assert.equal("moongrad: another copy of its core.so is open in this Lua state\n3.0\t1\n", text)
  end)

  it("has all that is promised", function()
    for _, name in ipairs{"nn", "optim", "data", "metrics", "training"} do
      assert.equal("table", type(mg[name]))
    end
    for _, name in ipairs{"save", "load", "progress", "plot", "plot_graph", "dot_graph"} do
      assert.equal("function", type(mg[name]))
    end
    assert.is_truthy(mg.version:find("^%d+%.%d+%.%d+"))
    assert.is_nil(mg.no_such_thing)
    assert.equal(mg.cross_entropy, mg.softmax_cross_entropy)
  end)
end)

describe("a process", function()
  local function ends_well(program)
    local text, ok = child.run(program)
    assert(ok, text)
    assert.equal("", text)
  end

  it("ends well", function()
    ends_well [[require "moongrad"]]
    ends_well [[require "moongrad.core"]]
  end)

  it("ends well with graphs alive", function()
    ends_well [[
      local mg = require "moongrad"
      x = mg.Variable(mg.rand(1000, 10), "x")
      y = x:exp():matmul(mg.rand(10, 10)):sum()
      y:backward{create_graph = true, retain_grad = true}
      pending = (x * 2 + 1):tanh()
      Same = mg.Function{forward = function(_, v) return v * 1 end,
                         backward = function(_, g) return g end}
      z = mg.checkpoint(Same, x)
      deep = mg.Variable(1.0)
      for _ = 1, 300000 do deep = deep + 1 end
    ]]
    ends_well [[
      local mg = require "moongrad"
      local x = mg.Variable(mg.ones(3)) * 2
      setmetatable({}, {__gc = function() assert(#x == 3 and x.requires_grad) end})
      held = x:exp()
    ]]
    ends_well [[
      local mg = require "moongrad"
      mg.no_grad(function()
        x = mg.rand(300, 300)
        x:matmul(x):sum():item()
        os.exit(true, true)
      end)
    ]]
  end)

  it("ends well with finalizers that compute, older ones and younger ones than moongrad", function()
    local text, ok = child.run [[
      local made = {}
      local function compute()
        local x = mg.Variable(mg.rand(50000))
        local y = (x:exp() * 2):sum()
        y:backward{create_graph = true}
        made[#made + 1] = {x, y, y.creator, y.creator.inputs, mg.checkpoint(mg.tanh, x)}
        x.name = "one of many"
      end
      local function later() print(select(2, pcall(compute))) end
      local function reads()
        for _, t in ipairs(made) do print(pcall(mg.exp, t[1])) print(pcall(tostring, t[3])) end
      end
      a = setmetatable({}, {__gc = later})
      b = setmetatable({}, {__gc = reads})
      mg = require "moongrad"
      c = setmetatable({}, {__gc = compute})
    ]]
    assert(ok, text)
    assert.equal("false\texp: argument 1 is a userdata, expected a Variable\n" ..
                 "false\ttostring: argument 1 is a userdata, expected a Function\n" ..
                 "this Lua state is closing\n", (text:gsub("%(command line%):%d+: ", "")))
  end)

  it("ends well when it fails, in backward even", function()
    local text, ok = child.run [[
      local mg = require "moongrad"
      local Bad = mg.Function{forward = function(_, v) return v * 1 end,
                              backward = function() error "stop here" end}
      x = mg.Variable(mg.rand(1000))
      Bad(x:exp()):sum():backward()
    ]]
    assert.is_false(ok)
    assert(text:find("stop here", 1, true) and text:find("stack traceback", 1, true), text)
  end)

  it("grows by little when the module is loaded", function()
    if helper.asan then return end -- its shadow is not ours
    local text, ok = child.run [[
      local function resident()
        for line in io.lines "/proc/self/status" do
          local kb = line:match "^VmRSS:%s*(%d+)"
          if kb then return tonumber(kb) end
        end
      end
      local before = resident()
      local mg = require "moongrad"
      local x = mg.Variable{1, 2, 3}
      x:exp():sum():backward()
      print(resident() - before)
    ]]
    assert(ok, text)
    assert(tonumber(text) < 12 * 1024, text)
  end)

  it("lets no file take the place of standard output that was closed", function()
    local dir = child.folder()
    child.write(dir .. "/main.lua", [[
      local mg = require "moongrad"
      local log <close> = mg.log("log.csv")
      for i = 1, 3 do
        io.stdout:write("printed\n"):flush()
        io.stderr:write "told\n"
        log:scalar("loss", i)
      end
    ]])
    for _, closed in ipairs{">&-", "2>&-"} do
      assert(os.execute(("cd %s && %s lua5.4 main.lua >/dev/null 2>/dev/null %s"):format(dir,
        child.environment(), closed)), closed)
      assert.same({1, 2, 3}, mg.load(dir .. "/log.csv").loss:totable())
    end
  end)

  it("loads no part before it is named", function()
    ends_well [[
      local mg = require "moongrad"
      for _, name in ipairs{"nn", "optim", "data", "io", "plot", "progress"} do
        assert(not package.loaded["moongrad." .. name], name)
      end
      assert(mg.nn and package.loaded["moongrad.nn"])
    ]]
  end)
end)

describe("where things are scarce", function()

  it("OMP_NUM_THREADS is the default number of threads", function()
    local program = [[io.write((require "moongrad").num_threads())]]
    assert.equal("3", (child.run(program, nil, "OMP_NUM_THREADS=3")))
    assert.equal("3", (child.run(program, nil, "OMP_NUM_THREADS=3,2")))
    local usual = child.run(program, nil, "OMP_NUM_THREADS=")
    for _, odd in ipairs{"none", "0", "-1", "99999999999"} do
      assert.equal(usual, (child.run(program, nil, "OMP_NUM_THREADS=" .. odd)))
    end
  end)

  it("the time that cgroups leave a process bounds the default number of threads", function()
    local folder = child.folder()
    local library = folder .. "/elsewhere.so"
    child.write(folder .. "/elsewhere.c", ([[
      #define _GNU_SOURCE
      #include <sched.h>
      #include <stdio.h>
      #include <string.h>
      #include <sys/syscall.h>
      #include <unistd.h>
      int sched_getaffinity(int pid, size_t size, cpu_set_t *set) {
        memset(set, 0, size);
        for (int i = 0; i < 12; i++) CPU_SET(i, set);
        return 0;
      }
      int open(const char *path, int flags, int mode) {
        char at[5000] = "%s";
        int ours = !strncmp(path, "/sys/fs/cgroup", 14) || !strcmp(path, "/proc/self/cgroup");
        return syscall(SYS_openat, -100, ours ? strcat(at, path) : path, flags, mode);
      }]]):format(folder))
    assert(os.execute(("cc -w -shared -fPIC -o %s %s/elsewhere.c"):format(library, folder)))
    local group, v1 = folder .. "/sys/fs/cgroup", folder .. "/sys/fs/cgroup/cpu"
    assert(os.execute(("mkdir -p %s/a/b %s %s/proc/self"):format(group, v1, folder)))
    local function threads(path, text, before)
      child.write(path, text)
      local program = [[io.write((require "moongrad").num_threads())]]
      return tonumber((child.run(program, nil,
        ('%s LD_PRELOAD="$LD_PRELOAD %s"'):format(before or "OMP_NUM_THREADS=", library))))
    end
    assert.equal(12, threads(group .. "/cpu.max", "max 100000\n"))
    assert.equal(7, threads(group .. "/cpu.max", "650000 100000\n"))
    assert.equal(20, threads(group .. "/cpu.max", "650000 100000\n", "OMP_NUM_THREADS=20"))
    assert.equal(7, threads(group .. "/a/cpu.max", "500000 100000\n"))
    assert.equal(5, threads(folder .. "/proc/self/cgroup", "1:name=systemd:/\n0::/a/b\n"))
    assert.equal(1, threads(group .. "/a/b/cpu.max", "1000 100000\n"))
    assert.equal(5, threads(group .. "/a/b/cpu.max", "2000000 100000\n"))
    assert.equal(5, threads(v1 .. "/cpu.cfs_period_us", "50000\n"))
    assert.equal(5, threads(v1 .. "/cpu.cfs_quota_us", "-1\n"))
    assert.equal(3, threads(v1 .. "/cpu.cfs_quota_us", "150000\n"))
  end)

  it("threads that cannot be started are done without", function()
    if helper.asan then return end
    for _, kb in ipairs{200000, 600000} do
      local text, ok = child.run([[
        local mg = require "moongrad"
        mg.set_num_threads(1000)
        local x = mg.ones{2000, 2000, dtype = "float32"} + 0
        mg.eval(x)
        assert(x:exp():sum():item() > 0)
      ]], nil, ("ulimit -v %d;"):format(kb))
      assert(ok and text == "", text)
    end
  end)

  it("products do without OpenBLAS where it would not have the memory", function()
    if helper.asan then return end
    for _, limit in ipairs{"v 100000", "v 300000", "v 450000", "d 60000", "d 300000"} do
      local text, ok = child.run([[
        local mg = require "moongrad"
        local x = mg.eye(300) * 2
        assert(mg.equal(x:matmul(x), mg.eye(300) * 4))
        local _, err = pcall(mg.inv, x)
        assert(err:find("inv: needs LAPACK.*found no memory"), err)
      ]], nil, ("ulimit -t 20; ulimit -%s;"):format(limit))
      assert(ok and text == "", text)
    end
  end)

  it("a product finds its stack where there is no address space any more", function()
    if helper.asan then return end
    for _, dtype in ipairs{"float64", "float32"} do
      local text, ok = child.run(([[
        local mg = require "moongrad"
        mg.set_num_threads(1)
        local x = mg.eye(100):to %q * 2
        mg.eval(x)
        for _ = 1, 3 do                            -- room for the result and its sum
          local y = x + 1
          mg.eval(y)
          assert(y:sum():item() > 0)
          y:free()
        end
        local function of(path, pattern)
          local file <close> = assert(io.open("/proc/self/" .. path))
          return file:read "a":match(pattern)
        end
        local pid, kb = of("stat", "^%%d+"), of("status", "VmSize:%%s+(%%d+)")
        assert(os.execute(("prlimit --pid %%s --as=%%d"):format(pid, kb * 1024)))
        assert(x:matmul(x):sum():item() == 400)
      ]]):format(dtype), nil, "ulimit -v 4000000;")  -- it is looked after where there is a limit
      assert(ok and text == "", text)
    end
  end)

  it("another Lua is told", function()
    local init = assert(loadfile("lua/moongrad/init.lua", "t", setmetatable({
      _VERSION = "Lua 5.1",
      _G = {jit = {version = "LuaJIT 2.1"}},
    }, {__index = _G})))
    local ok, err = pcall(init)
    assert.is_false(ok)
    assert(err:find("moongrad needs Lua 5.4; this is LuaJIT 2.1", 1, true), err)
  end)

  -- A module that forks: Lua has nothing that does without running another program.
  local function forking()
    local dir = child.folder()
    child.write(dir .. "/fork.c", [[
      #include <lauxlib.h>
      #include <lualib.h>
      #include <pthread.h>
      #include <sys/wait.h>
      #include <unistd.h>
      static int in_child(lua_State *L) { /* runs 1 in a child; its exit status */
        pid_t pid = fork();
        if (pid == 0) {
          alarm(20);
          _exit(lua_pcall(L, 0, 0, 0) == LUA_OK ? 7 : 1);
        }
        int status = 0;
        waitpid(pid, &status, 0);
        lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
        return 1;
      }
      static void *compute(void *program) {
        lua_State *L = luaL_newstate();
        luaL_openlibs(L);
        int failed = luaL_dostring(L, program);
        lua_close(L);
        return failed ? program : NULL;
      }
      static int beside(lua_State *L) { /* 2() while a thread runs 1: did that go well? */
        pthread_t t;
        void *failed;
        pthread_create(&t, NULL, compute, (void *)luaL_checkstring(L, 1));
        lua_call(L, 0, 0);
        pthread_join(t, &failed);
        lua_pushboolean(L, !failed);
        return 1;
      }
      int luaopen_fork(lua_State *L) {
        lua_pushcfunction(L, in_child);
        lua_setglobal(L, "in_child");
        lua_pushcfunction(L, beside);
        lua_setglobal(L, "beside");
        return 0;
      }
    ]])
    assert(os.execute(("cc -shared -fPIC $(pkg-config --cflags lua5.4) -o %s/fork.so %s/fork.c " ..
      "-lpthread"):format(dir, dir)))
    return ("package.cpath = %q .. package.cpath require 'fork'\n"):format(dir .. "/?.so;")
  end

  it("a child of fork multiplies while another thread does", function()
    if helper.asan then return end                 -- whose own locks a child may find taken
    local text, ok = child.run(forking() .. [[
      local mg = require "moongrad"
      mg.set_num_threads(1)
      local x = mg.rand(300, 300)
      local want = x:matmul(x):sum():item()
      assert(beside([=[
        local mg = require "moongrad"
        mg.set_num_threads(1)
        local x = mg.rand(700, 700)
        for _ = 1, 25 do mg.eval(x:matmul(x)) end
      ]=], function()
        for _ = 1, 10 do
          assert(in_child(function() assert(x:matmul(x):sum():item() == want) end) == 7)
        end
      end))
    ]])
    assert(ok and text == "", text)
  end)

  it("a child of fork computes after threads were used", function()
    local text, ok = child.run(forking() .. [[
      local mg = require "moongrad"
      mg.set_num_threads(4)
      local x = mg.rand(600, 600)
      mg.eval(x)
      local want, product = x:exp():sum():item(), x:matmul(x):sum():item()
      local function again()
        assert(x:exp():sum():item() == want and x:matmul(x):sum():item() == product)
      end
      assert(in_child(again) == 7)
      assert(in_child(function() assert(in_child(again) == 7) end) == 7)
      again()
      -- while the next batch is being copied, too
      local ds = mg.data.TensorDataset(x)
      local loader = mg.data.DataLoader(ds, {batch_size = 200, shuffle = true})
      for _ = 1, 10 do
        local batches, sum = loader:batches(), 0
        local function rest()
          local sum = sum
          for b in batches do sum = sum + b:sum():item() end
          assert(math.abs(sum / x:sum():item() - 1) < 1e-9)
          local all = 0
          for b in loader do all = all + #b end
          assert(all == 600)
        end
        sum = batches():sum():item()
        assert(in_child(rest) == 7)
        rest()
      end
    ]])
    assert(ok and text == "", text)
  end)
end)
