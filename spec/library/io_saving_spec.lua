-- Saving: a file comes whole or not at all, keeps what it was, and many may write it.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises

local function shell(command, ...)
  local pipe = assert(io.popen(command:format(...) .. " 2>&1"))
  local text = pipe:read "a"
  return text, pipe:close()
end

local KINDS = {".safetensors", ".npz", ".npy"}

local function value(kind, n)
  local x = mg.full({n}, n)
  return kind == ".npy" and x or {x = x}
end

local function loaded(path)
  local x = mg.load(path)
  return mg.is_variable(x) and x or x.x
end

describe("saving over a file", function()
  helper.guard(before_each, after_each)

  it("keeps its mode", function()
    local folder = child.folder()
    for _, kind in ipairs(KINDS) do
      local path = folder .. "/x" .. kind
      mg.save(path, value(kind, 2))
      local plain = folder .. "/plain"
      child.write(plain, "")
      assert.equal(shell("stat -c %%a %s", plain), (shell("stat -c %%a %s", path)))
      shell("chmod 640 %s", path)
      mg.save(path, value(kind, 3))
      assert.equal("640\n", (shell("stat -c %%a %s", path)))
      assert.equal(3, #loaded(path))
    end
  end)

  it("sets no mode where it is so already: FAT lets none but the mount's owner", function()
    local folder = child.folder()
    local path, library = folder .. "/x.npy", folder .. "/fat.so"
    child.write(folder .. "/fat.c", [[
      #include <errno.h>
      int fchmod(int fd, int mode) { errno = EPERM; return -1; }]])
    assert(os.execute(("cc -w -shared -fPIC -o %s %s/fat.c"):format(library, folder)))
    mg.save(path, mg.ones(2))
    for mode, size in pairs{[600] = 3, [640] = 2} do
      mg.save(path, mg.ones(2))
      shell("chmod %d %s", mode, path)
      child.run(([[local mg = require "moongrad"; mg.save(%q, mg.ones(3))]]):format(path), nil,
        ('LD_PRELOAD="$LD_PRELOAD %s"'):format(library))
      assert.equal(size, #mg.load(path))
    end
  end)

  it("leaves nothing of a process that ends while it writes", function()
    local folder = child.folder()
    local kind = shell("stat -f -c %%T %s", folder)
    if not ("tmpfs ext2/ext3 xfs btrfs"):find(kind:match "%S+", 1, true) then
      return pending "this file system may have no files without names"
    end
    child.write(folder .. "/x.npy", "mine")
    child.run(([[
      local mg = require "moongrad"
      local w = mg._create(%q, "save")
      w:write(("x"):rep(100000))
      os.exit(true)]]):format(folder .. "/x.npy"))
    assert.equal("x.npy\n", (shell("ls %s", folder)))
    assert.equal("mine", child.read(folder .. "/x.npy"))
  end)

  it("follows symbolic links to where they lead, and keeps them", function()
    local folder = child.folder()
    shell("mkdir %s/a %s/b; ln -s ../b/x.npy %s/a/l.npy; ln -s l.npy %s/a/m.npy", folder, folder,
      folder, folder)
    for n = 1, 2 do -- the first time they lead to nothing
      mg.save(folder .. "/a/m.npy", mg.ones(n))
      assert.equal(n, #mg.load(folder .. "/b/x.npy"))
    end
    assert.equal("l.npy\n", (shell("readlink %s/a/m.npy", folder)))
    assert.equal("l.npy m.npy x.npy \n", (shell("ls %s/a %s/b | grep npy | tr '\\n' ' '; echo",
      folder, folder)))
    shell("ln -s r.npy %s/r.npy", folder)
    assert(raises("Too many levels of symbolic links", mg.save, folder .. "/r.npy", mg.ones(1)))
    shell("ln -s /dev/full %s/f.npy", folder)
    assert(raises("f.npy: it is no regular file", mg.save, folder .. "/f.npy", mg.ones(1)))
  end)

  it("refuses what is no file, and waits for nobody", function()
    local folder = child.folder()
    shell("mkfifo %s/p.npy; mkdir %s/d.npy", folder, folder)
    for _, f in ipairs{mg.load, function(path) mg.save(path, mg.ones(1)) end} do
      assert(raises("p.npy: it is no regular file", f, folder .. "/p.npy"))
      assert(raises("d.npy: it is a directory", f, folder .. "/d.npy"))
      assert(raises("has a NUL", f, folder .. "/x.npy\0.npy"))
    end
    shell("ln -s /proc/cpuinfo %s/c.csv", folder) -- of 0 bytes, to look at it
    assert(raises("c.csv: it has more bytes than it says", mg.load, folder .. "/c.csv"))
    assert(raises("save: cannot write /proc/x.npy", mg.save, "/proc/x.npy", mg.ones(1)))
    assert(raises("save: cannot write " .. ("x"):rep(300), mg.save, ("x"):rep(300) .. ".npy",
      mg.ones(1)))
    mg.save(folder .. "/" .. ("y"):rep(251) .. ".npy", mg.ones(1))
    assert(raises("No such file", mg.save, folder .. "/none/x.npy", mg.ones(1)))
  end)

  it("leaves it as it was where the disk is full", function()
    local folder = child.folder()
    for _, kind in ipairs(KINDS) do
      local path = folder .. "/x" .. kind
      mg.save(path, value(kind, 3))
      child.write(folder .. "/p.lua", ([[
        local mg = require "moongrad"
        local x = mg.ones(100000)
        local ok, err = pcall(mg.save, %q, %s)
        print(ok, err:find "File too large" and "full" or err)]]):format(path,
        kind == ".npy" and "x" or "{x = x}"))
      local paths = ("LUA_PATH_5_4='%s' LUA_CPATH_5_4='%s'"):format(package.path, package.cpath)
      assert.equal("false\tfull\n", (shell("trap '' XFSZ; ulimit -f 100; %s lua5.4 %s/p.lua", paths,
        folder)))
      assert.equal(3, #loaded(path))
      assert.equal(("p.lua\nx%s\n"):format(kind), (shell("ls %s", folder)))
      os.remove(path)
    end
  end)

  it("leaves it as it was where memory is short, and loading raises", function()
    local folder = child.folder()
    for _, kind in ipairs(KINDS) do
      local path = folder .. "/x" .. kind
      mg.save(path, value(kind, 3))
      local x = value(kind, 4)
      for _, f in ipairs{mg.load, function() mg.save(path, x) end} do
        for n = 1, 50 do
          mg._fail_at(n)
          local ok, err = pcall(f, path)
          mg._fail_at(0)
          assert(ok or err:find "out of memory", err)
          assert(#loaded(path) == 3 or ok)
        end
        assert.equal("x" .. kind .. "\n", (shell("ls %s", folder)))
      end
      os.remove(path)
    end
  end)

  it("may be done by many at once", function()
    local folder = child.folder()
    for _, kind in ipairs{".safetensors", ".npz"} do
      local path = folder .. "/x" .. kind
      child.write(folder .. "/p.lua", ([[
        local mg = require "moongrad"
        for i = 1, 20 do
          mg.save(%q, {x = mg.full({1000 * i}, i)})
          local x = mg.load(%q).x
          assert(x:eq(#x // 1000):all():item())
        end]]):format(path, path))
      local paths = ("LUA_PATH_5_4='%s' LUA_CPATH_5_4='%s'"):format(package.path, package.cpath)
      local command = "for i in 1 2 3 4; do %s lua5.4 %s/p.lua & done; wait"
      assert.equal("", (shell(command, paths, folder)))
      assert.equal(("p.lua\nx%s\n"):format(kind), (shell("ls %s", folder)))
      os.remove(path)
    end
  end)
end)

describe("a name", function()
  helper.guard(before_each, after_each)

  it("that is no UTF-8, has a NUL or is too long is not written", function()
    local folder = child.folder()
    for _, kind in ipairs{".safetensors", ".npz"} do
      local path = folder .. "/x" .. kind
      for _, name in ipairs{"\xff", "a\0b", "\xed\xa0\x80"} do
        assert(raises("is no UTF-8, or has a NUL", mg.save, path, {[name] = mg.ones(1)}))
        assert(raises("is no UTF-8, or has a NUL", mg.save, path, {a = {[name] = 1}}))
      end
      assert.equal("", (shell("ls %s", folder)))
    end
    local long = ("n"):rep(70000)
    assert(raises("a name of 70000 bytes", mg.save, folder .. "/x.npz", {[long] = mg.ones(1)}))
    mg.save(folder .. "/x.safetensors", {[long] = mg.ones(1)})
    assert.equal(1, #mg.load(folder .. "/x.safetensors")[long])
  end)
end)
