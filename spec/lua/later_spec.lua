-- What is read when it is first asked for: the files of ops, each by the names it defines.

require "moongrad"
local groups = require "moongrad.ops"
local child = require "spec.child"

describe("files of ops", function()
  it("are read when one of their names is asked for, of mg or of a Variable", function()
    local function loaded(code)
      local text, ok = child.run("local mg = require 'moongrad' " .. code .. [[
        local list = {}
        for name in pairs(package.loaded) do
          if name:find "^moongrad%." then list[#list + 1] = name:sub(10) end
        end
        table.sort(list)
        print(table.concat(list, " "))]])
      assert.is_true(ok, text)
      return text
    end
    assert.equal("core globals ops\n",
      loaded "local x = mg.Variable(2.0); (x * x):exp():backward()")
    assert.equal("core globals ops ops.args ops.network\n", loaded "mg.softmax(mg.ones(2))")
    assert.equal("core globals ops ops.args ops.shape\n", loaded "mg.ones(2):unsqueeze(1)")
    assert.equal("core globals ops ops.args profile\n", loaded "local f = mg.profile")
    assert.equal("core globals help ops\n", loaded "assert(mg.nothing == nil)")
    assert.is_truthy(loaded "pairs(mg)":find "ops.shape .* transform")
    assert.is_truthy(loaded "pcall(function() return mg.ones(2).nothing end)":find "ops.shape")
  end)

  it("are there for a script that begins with a module, by whatever path", function()
    for _, path in ipairs{"moongrad.nn", "moongrad.optim", "moongrad.data", "moongrad.training",
                          "moongrad.models", "moongrad/nn", "moongrad/optim"} do
      local text, ok = child.run(([[
        local module = require %q
        local text = tostring(module)
        print(text:match "^%%a+", #text > 20, pcall(function() return module.sum end))
        local mg = require "moongrad"
        mg.help %q
        print(mg.tensor{1, 2}:std())]]):format(path, path:match "%a+$"))
      assert.is_true(ok, text)
      local name = path:match "%a+$"
      assert.equal(("%s\ttrue\tfalse\t(command line):3: %s has no sum; here it is mg.sum\n")
        :format(name, name), text:match "^[^\n]*\n")
      assert.is_truthy(text:find("\n" .. name .. "\n", 1, true))
      assert.is_truthy(text:find "variable%(0.70710678%)")
    end
    local text, ok = child.run [[
      local nn = require "moongrad.nn"
      local mg = require "moongrad"
      mg.help(nn)
      print(mg.nn == nn)]]
    assert.is_true(ok, text)
    assert.is_truthy(text:find "^nn\n.*Linear.*true\n$")
    local path = child.path ".txt"
    text, ok = child.run(([[require "moongrad.plot".plot{1, 2, 3, path = %q} print(
      require "moongrad.io".load)]]):format(path))
    assert.is_true(ok, text)
    assert(io.open(path)):close()
  end)

  it("define the names they are listed with, and no others", function()
    local owner = {}
    for _, group in ipairs(groups) do
      for name in group[3]:gmatch "%S+" do
        assert.is_nil(owner[name], name)
        owner[name] = group[1]
      end
      local text, ok = child.run(([[
        local mg = require "moongrad"
        local before, name = {}, %q
        for k in next, mg do before[k] = true end
        local args = require "moongrad.ops.args"(mg)
        args.core = {softplus = mg.relu, nan_to_num = mg.relu}
        local wanted, loads = {}, getmetatable(mg).__index
        for k in (%q):gmatch "%%S+" do wanted[k] = true end
        getmetatable(mg).__index = function(t, k) if not wanted[k] then return loads(t, k) end end
        local more = {}
        mg.define = (function(define) return function(text, ...)
          more[text:match "^[%%w_]+"] = true
          return define(text, ...)
        end end)(mg.define)
        require("moongrad." .. name)(mg, args)
        for k in pairs(wanted) do if rawget(mg, k) == nil then print("not there", k) end end
        for k in pairs(more) do if not wanted[k] then print("not listed", k) end end]])
        :format(group[1], group[3]))
      assert.equal("", text, group[1])
      assert.is_true(ok)
    end
  end)

  it("are read again when that failed", function()
    local text = child.run [[
      local mg = require "moongrad"
      local own = require "moongrad.globals"()
      local real, fails = own.require, 2
      function own.require(name)
        if name == "moongrad.ops.shape" and fails > 0 then fails = fails - 1 error "no memory" end
        return real(name)
      end
      print(pcall(function() return mg.stack end))
      print(pcall(function() return mg.ones(2).unsqueeze end))
      print(mg.stack{mg.ones(1)}.shape, mg.ones(1):unsqueeze(1).shape)]]
    local failed = "false\t[^\n]*no memory\n"
    assert.is_truthy(text:find("^" .. failed .. failed .. "%(1, 1%)\t%(1, 1%)\n$"))
  end)

  it("are read again when that was interrupted, anywhere", function()
    local text = child.run [[
      local k, done = 0, false
      while not done do
        for name in pairs(package.loaded) do
          if name:find "^moongrad" and name ~= "moongrad.core" then package.loaded[name] = nil end
        end
        local mg, count = require "moongrad", 0
        mg.launches, mg.profile = nil, nil
        k = k + 1
        pcall(function()
          debug.sethook(function()
            count = count + 1
            if count == k then error "interrupted" end
          end, "crl", 1)
          local _ = mg.profile
          debug.sethook()
        end)
        debug.sethook()
        done = count < k
        assert(rawget(mg, "profile") or mg.profile, k)
        assert(mg.launches, k)
      end
      print(k > 200)]]
    assert.equal("true\n", text)
  end)

  it("do not change whose name a mode, a tidy or a coroutine makes them read for", function()
    assert.equal("1\n", child.run [[
      local mg = require "moongrad"
      local y = mg.using_config("dtype", "float32", mg.no_grad, function()
        return mg.tidy(coroutine.wrap(function(x) return x:softmax():sum() end), mg.ones(3))
      end)
      print(y:to "int64":item())]])
  end)
end)

describe("modules of several files", function()
  it("read a file when one of its names is asked for, and list what it gives", function()
    local text, ok = child.run [[
      local mg = require "moongrad"
      local lists = require "moongrad.parts".lists
      local function read() return package.loaded["moongrad.nn.transformer"] ~= nil end
      local layer = mg.nn.Linear(2, 1)
      print(read(), rawget(mg.nn, "Conv2d"), mg.nn.Transformer ~= nil, read())
      local _, internal = {mg.optim, mg.data, mg.training, mg.models, mg.metrics},
        {any = true, check = true, gives = true, gives_picks = true, items = true, own = true,
         takes = true}
      local count = 0
      for what, files in pairs(lists) do
        for file, names in pairs(files) do
          local gives = require(("moongrad.%s.%s"):format(what, file))
          local listed = {}
          for name in names:gmatch "%S+" do
            listed[name], count = true, count + 1
            if gives[name] == nil or gives[name] ~= mg[what][name] then print("lost", name) end
          end
          for name in pairs(gives) do
            if not listed[name] and not (file == "dataset" and internal[name]) then
              print("not listed", name)
            end
          end
        end
      end
      local all = {}
      for name in pairs(mg.nn) do all[#all + 1] = name end
      print(count > 120, #all > 70, mg.nn.nothing)]]
    assert.is_true(ok, text)
    assert.equal("false\tnil\ttrue\ttrue\ntrue\ttrue\tnil\n", text)
  end)
end)
