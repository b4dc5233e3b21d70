-- Helper threads: how many there are cannot be seen; they come at need, and go with whom they help.

local mg = require "moongrad"
local child = require "spec.child"
local helper = require "spec.helper"
local same = helper.same

describe("helper threads", function()
  helper.guard(before_each, after_each)

  it("may become more and fewer from one loop to the next", function()
    local threads = mg.num_threads()
    finally(function() mg.set_num_threads(threads) end)
    mg.seed(1)
    local x = mg.rand(100, 600)
    local function results()
      return {x:exp():sum(1), x:sum(), x:cumsum(1), x:matmul(x.T), (x:sort(2)), x[{{1, 3}}]:exp()}
    end
    mg.set_num_threads(1)
    local want = results()
    mg.eval(table.unpack(want))
    for _, n in ipairs{2, 7, 3, 1, 40, 2, 5} do
      mg.set_num_threads(n)
      for _ = 1, 5 do
        for i, y in ipairs(results()) do assert(same(y, want[i]), n .. " " .. i) end
      end
    end
  end)

  it("may be as many as can be asked for", function()
    local text, ok = child.run [[
      local mg = require "moongrad"
      local x = mg.rand(3e6)
      local function sums()
        return x:exp():sum():item(), x:reshape(3000, 1000):sum(1):sum():item()
      end
      mg.set_num_threads(1)
      local a, b = sums()
      mg.set_num_threads(4096)
      for _ = 1, 3 do
        local c, d = sums()
        assert(a == c and b == d)
      end
    ]]
    assert(ok and text == "", text)
  end)

  it("sleep when there is nothing to do, and do not keep a process alive", function()
    local text, ok = child.run [[
      local mg = require "moongrad"
      mg.set_num_threads(8)
      mg.eval(mg.rand(1e6):exp())
      for try = 1, 100 do
        local asleep = 0
        for line in io.popen("cat /proc/$PPID/task/*/stat"):lines() do
          asleep = asleep + (line:find "%) S" and 1 or 0)
        end
        if asleep >= 7 then break end
        assert(try < 100, asleep)
        os.execute "sleep 0.05"
      end
    ]]
    assert(ok and text == "", text)
  end)

  -- Threads that open states of their own: Lua has nothing that starts one.
  it("end with the thread they help", function()
    local dir = child.folder()
    child.write(dir .. "/threads.c", [[
      #include <dirent.h>
      #include <lauxlib.h>
      #include <lualib.h>
      #include <pthread.h>
      static const char *program;
      static void *one(void *to) {
        lua_State *L = luaL_newstate();
        luaL_openlibs(L);
        *(int *)to = luaL_dostring(L, program) == LUA_OK;
        lua_close(L);
        return NULL;
      }
      static int tasks(void) {
        DIR *d = opendir("/proc/self/task");
        int n = -2;
        while (readdir(d)) n++;
        closedir(d);
        return n;
      }
      static int run(lua_State *L) { /* program: did it run well thrice; tasks left */
        pthread_t t[3];
        int well[3];
        program = luaL_checkstring(L, 1);
        for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, one, &well[i]);
        for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
        lua_pushboolean(L, well[0] && well[1] && well[2]);
        lua_pushinteger(L, tasks());
        return 2;
      }
      int luaopen_threads(lua_State *L) { return lua_pushcfunction(L, run), 1; }
    ]])
    assert(os.execute(("cc -shared -fPIC $(pkg-config --cflags lua5.4) -o %s/threads.so " ..
      "%s/threads.c -lpthread"):format(dir, dir)))
    local text, ok = child.run(([[
      package.cpath = %q .. package.cpath
      local well, left = require "threads" [=[
        local mg = require "moongrad"
        mg.set_num_threads(4)
        local x = mg.ones(200, 3000)
        for _ = 1, 10 do
          assert((x + 1):sum():item() == 1200000)
          assert(x:matmul(x.T)[200]:sum():item() == 600000)
        end
      ]=]
      assert(well and left == 1, left)
    ]]):format(dir .. "/?.so;"))
    assert(ok and text == "", text)
  end)
end)
