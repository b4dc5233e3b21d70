-- The command moongrad: scripts, what is typed, completion, errors.

local mg = require "moongrad"
local session = require "moongrad.session"
local child = require "spec.child"

local MAIN = [[-e 'require("moongrad.repl").main(arg)' - ]]

-- What it shows of lines that are typed, prompts and greeting left out.
local function typed(lines, more)
  local text = child.lua(MAIN .. (more or "-i"), nil, lines)
  return (text:gsub("^moongrad [^\n]*\n", ""):gsub("> $", ""):gsub("%f[>]>+ ", ""))
end

describe("the REPL", function()
  it("shows what expressions give, and keeps what is defined", function()
    assert.equal("variable([1 2])\nvariable([2 4])\n3\n1\n2\nnil\n\n",
      typed "x = mg.tensor{1, 2}\nx\nlocal y = x * 2\ny\n= 1 + 2\n1, 2\nnil\nx:cleargrad()\n")
    assert.equal("text\n{1, {a = variable(1)}, [\"b c\"] = \"text\"}\n{}\n\n",
      typed "'text'\n{1, {a = mg.tensor(1)}, ['b c'] = 'text'}\n{}\n")
    assert.equal("function softmax(x: array, axis: axis = -1)\n{function softmax}\n" ..
      "Linear(2, 3)\n\n", typed "mg.softmax\n{mg.softmax}\nmg.nn.Linear(2, 3)\n")
  end)

  it("reads on until what was begun is whole", function()
    assert.equal("1\n2\n3\nvariable(6)\n\n",
      typed "for i = 1, 2 do\nprint(i)\nend\n1 +\n2\nmg.sum{\n1, 5}\n")
    assert.equal("a\nb\nab\nstdin:1: unfinished string near ''a'\n\n",
      typed "'a\\\nb'\n'a\\z\n  b'\n'a\n")
    assert.equal("stdin:2: attempt to perform arithmetic on a nil value\n  2: return nil + 1\n\n",
      typed "(function()\nreturn nil + 1\nend)()\n")
  end)

  it("says what was missing where the input ends", function()
    assert.equal("stdin:3: 'end' expected (to close 'for' at line 1) near <eof>\n\n",
      typed "for i = 1, 2 do\nprint(i)\n")
    assert.equal("1\nstdin:2: unexpected symbol near <eof>\n\n", typed "1\n1 +\n")
  end)

  it("tells errors with their line, and goes on", function()
    assert.equal("stdin:1: sum: axis 3 is out of range for shape (2)\n7\n\n",
      typed "mg.ones(2):sum(3)\n7\n")
    assert.equal("stdin:1: unexpected symbol near '<'\n{code = 7}\n(no)\n{1, (no)}\n\n",
      typed("< 3\nerror{code = 7}\nx = setmetatable({}, {\n" ..
        "__tostring = function() error 'no' end})\nx\n{1, x}\n"))
  end)

  it("goes on after errors that cannot be told, and endless recursion at once", function()
    assert.equal("(table)\n(table)\nstdin:1: stack overflow\n7\n\n", (typed(
      "bad = setmetatable({}, {__tostring = error})\nbad\nerror(bad)\n" ..
      "local function f() return 1 + f() end f()\n7\n"):gsub("(overflow)[^\n]*", "%1")))
  end)

  it("goes on when standard names are given other values", function()
    assert.equal("variable([3 3])\nstdin:1: sum: axis 3 is out of range for shape (2)\n" ..
      "Linear(2, 2)\n\n", typed("table, type, string = 1, 2, 3\nio, os, pcall = 4, 5, 6\n" ..
      "tostring, debug, require = nil\nmg.ones(2) * 3\nmg.ones(2):sum(3)\nmg.nn.Linear(2, 2)\n"))
    assert.is_truthy(typed "print = 1\n1\n?softmax\n":find("exp(x) / sum", 1, true))
  end)

  it("helps", function()
    local text = typed "?softmax\nmg.softmax?\nm = mg.nn.Linear(1, 2)\nm:forward?\nnone?\n"
    local one = "softmax(x: array, axis: axis = -1)\nexp(x) / sum(exp(x)) along an axis\n"
    assert.equal(one .. one, text:sub(1, 2 * #one))
    assert.is_truthy(text:find("Linear(x: any)", 1, true))
    assert.is_truthy(text:find "nothing is known of none")
  end)

  it("leaves the coroutines of scripts as they are", function()
    assert.equal("C C\n", child.lua(MAIN .. "-e \"local what = debug.getinfo " ..
      "print(what(coroutine.resume).what .. ' ' .. what(coroutine.wrap).what)\""))
  end)

  it("runs scripts, code and standard input", function()
    local folder = child.folder()
    local path = folder .. "/a.lua"
    child.write(path, "print(mg.version == require('moongrad').version, arg[0], ...)\n" ..
      "print(#arg)\nif ... == 'bad' then mg.ones(2):reshape(3) end\n")
    local text, ok = child.lua(MAIN .. path .. " x 'y z'")
    assert.equal("true\t" .. path .. "\tx\ty z\n2\n", text)
    assert.is_true(ok)
    text, ok = child.lua(MAIN .. path .. " bad")
    assert.is_false(ok)
    assert.is_truthy(text:find("moongrad: " .. path .. ":3: reshape", 1, true))
    assert.equal("2\n", child.lua(MAIN .. "-e 'print(mg.ones(2):sum():item() // 1 | 0)'"))
    assert.equal("5\n", child.lua(MAIN, nil, "x = 5\nprint(x)"))
    assert.equal("3\t-\ta\tb\n",
      child.lua(MAIN .. "-e 'x = 3' - a b", nil, "print(x, arg[0], ...)"))
    assert.equal("moongrad " .. mg.version .. "\n", child.lua(MAIN .. "-v"))
    assert.is_truthy(child.lua(MAIN .. "-h"):find "^moongrad %[options%]")
    text, ok = child.lua(MAIN .. "--what")
    assert.is_false(ok)
    assert.is_truthy(text:find "what is %-%-what%?")
    text, ok = child.lua(MAIN .. "-e")
    assert.is_false(ok)
    assert.is_truthy(text:find "%-e needs code")
    text, ok = child.lua(MAIN .. folder .. "/none.lua")
    assert.is_false(ok)
    assert.is_truthy(text:find "cannot open")
  end)

  -- Why nothing can be typed at a terminal here; nil: it can
  local function no_terminal()
    if not pcall(require, "readline") then return "lua-readline is not installed" end
    if not os.execute "script -qec true /dev/null >/dev/null 2>&1" then
      return "script is missing, or there are no terminals to be had"
    end
  end

  -- What a terminal shows; keys: a shell script that prints what is typed
  local function at_terminal(history, keys)
    local folder = child.folder()
    child.write(folder .. "/keys", keys)
    child.write(folder .. "/start", child.environment() .. " MOONGRAD_HISTORY=" .. history ..
      " TERM=dumb lua5.4 " .. MAIN)
    local pipe <close> = assert(io.popen(("sh %s/keys | script -qec 'sh %s/start' /dev/null")
      :format(folder, folder)))
    return pipe:read "a"
  end

  it("completes by Tab and keeps its history, on a terminal", function()
    if no_terminal() then return pending(no_terminal()) end
    local folder = child.folder()
    local text = at_terminal(folder .. "/history", "sleep 1.5; printf " ..
      "'x = mg.ones(2, 3):resh\\t(6)\\rx.nd\\t\\rmg.odei\\t\\r\\004'; sleep 0.5")
    assert.is_truthy(text:find("\n1\r\n", 1, true), text)
    assert.is_truthy(text:find("function odeint(", 1, true), text)
    assert.equal("x = mg.ones(2, 3):reshape(6)\nx.ndim\nmg.odeint\n",
      child.read(folder .. "/history"))
  end)

  it("says nothing of a history that cannot be kept, on a terminal", function()
    if no_terminal() then return pending(no_terminal()) end
    local text = at_terminal(child.folder() .. "/none/history",
      "sleep 1; printf '40 + 2\\r\\004'; sleep 0.5")
    assert.is_truthy(text:find("\n42\r\n", 1, true), text)
    assert.is_nil(text:find("No such file", 1, true), text)
  end)

  it("is interrupted by Ctrl-C as often as that is pressed", function()
    local text = typed("pid = io.open '/proc/self/stat':read 'n'\n" ..
      "kill = ('(sleep 0.1; kill -INT %d) &'):format(pid)\n" ..
      "os.execute(kill) while true do end\n" ..
      "mg.no_grad(function() os.execute(kill) while true do end end)\n" ..
      "mg.Config.enable_backprop\n")
    assert.is_truthy(text:find "interrupted!\n.*interrupted!\n.*true")
  end)

  it("is there still when Ctrl-C comes between what runs", function()
    local storm = child.path ".sh"
    child.write(storm, "for i in $(seq 300); do sleep 0.001; kill -INT $1; done; rm $0")
    local text = typed(("pid = io.open '/proc/self/stat':read 'n' storm = '%s'\n"):format(storm) ..
      "os.execute(('sh %s %d >/dev/null 2>&1 &'):format(storm, pid))\n" ..
      ("for i = 1, os.rename(storm, storm) and 1e4 or 0 do end error {}\n"):rep(10000) ..
      ("while os.rename(storm, storm) do end\n"):rep(400) ..        -- until it is over
      "40 + 2\n")
    assert.is_truthy(text:find "interrupted!\n")
    assert.is_truthy(text:find "\n42\n\n$", text:sub(-500))
  end)

  it("is interrupted at a line of what was typed, whatever the library did there", function()
    local text = typed("pid = io.open '/proc/self/stat':read 'n'\n" ..
      "kill = ('(sleep 0.1; kill -INT %d) &'):format(pid)\n" ..
      "os.execute(kill) mg.data.Spiral():map(function(...) while true do end end):get(1)\n" ..
      "os.execute(kill)\nwhile true do mg.nn.Linear(1, 1) end\n")
    assert.equal(2, select(2, text:gsub("stdin:1: interrupted!\n", "")), text)
  end)

  it("is interrupted within coroutines, and in what shows a value", function()
    local text = typed("pid = io.open '/proc/self/stat':read 'n'\n" ..
      "kill = ('(sleep 0.1; kill -INT %d; sleep 2; kill %d) 2>/dev/null & echo $!')" ..
      ":format(pid, pid)\n" ..
      "function loop() local k = io.popen(kill):read 'n' while true do end end\n" ..
      "coroutine.wrap(loop)()\n1\n" ..
      "co = coroutine.create(function() coroutine.yield(5) loop() end)\n" ..
      "coroutine.resume(co)\ncoroutine.resume(co)\ncoroutine.status(co)\n" ..
      "coroutine.wrap(function() coroutine.wrap(loop)() end)()\n2\n" ..
      "setmetatable({}, {__tostring = loop})\n3\ncoroutine.wrap(5)\ncoroutine.resume(5)\n")
    assert.equal("interrupted!\n1\ntrue\n5\nfalse\ninterrupted!\ndead\ninterrupted!\n2\n" ..
      "(interrupted!)\n3\nbad argument #1 to 'wrap' (function expected)\n" ..
      "bad argument #1 to 'resume' (coroutine expected)\n\n", (text:gsub("stdin:1: ", "")))
  end)

  it("begins a line anew at Ctrl-C, on a terminal", function()
    if no_terminal() then return pending(no_terminal()) end
    local text = at_terminal(child.folder() .. "/history",
      "sleep 1; printf 'print(7'; sleep 0.3; printf '\\003'; " ..
      "sleep 0.3; printf 'print(40 + 2)\\rfor i = 1, 2 do\\r'; sleep 0.3; printf '\\003'; " ..
      "sleep 0.3; printf '50 + 3\\r\\004'; sleep 0.5")
    local again = "\r\ninterrupted!\r\n.*"
    assert.is_truthy(text:find(again .. "\n42\r\n.*" .. again .. "\n53\r\n"), text)
  end)
end)

describe("completion", function()
  local function completes(text, wanted)
    local words, start = session.complete(text)
    assert.equal(wanted, table.concat(words, " "))
    return start
  end

  it("knows mg, Variables, modules, tables and words", function()
    _G.x, _G.model = mg.ones(2), mg.nn.Sequential(mg.nn.Linear(2, 3))
    _G.settings, _G.mg = {alpha = {beta = 1}, list = {{gamma = 2}}}, mg
    _G.opt, _G.normal = mg.optim.SGD(_G.model, {lr = 1}), mg.distributions.Normal(0, 1)
    finally(function()
      for _, name in ipairs{"x", "model", "settings", "mg", "opt", "normal"} do _G[name] = nil end
    end)
    assert.equal(5, completes("y = mg.softm", "mg.softmax mg.softmax_cross_entropy mg.softmin"))
    completes("mg.odei", "mg.odeint")
    completes("mg.nn.LayerN", "mg.nn.LayerNorm")
    completes("mg.Config.enab", "mg.Config.enable_backprop")
    completes("x:resh", "x:reshape")
    completes("x.nd", "x.ndim")
    completes("x:nd", "")
    completes("model[1].wei", "model[1].weight")
    completes("model:named", "model:named_parameters")
    completes("settings.alpha.b", "settings.alpha.beta")
    completes("settings.list[1].", "settings.list[1].gamma")
    completes("opt.l", "opt.load_state opt.lr")
    completes("normal.mea", "normal.mean")
    completes("print(mg.ones(2):cleargr", ":cleargrad")
    completes("whil", "while")
    completes("setti", "settings")
    completes("nothing.here.", "")
    completes("x.grad.", "")
  end)

  it("and help take what tables refuse as not there", function()
    local function no() error "no" end
    local before = getmetatable(_G)
    _G.odd = setmetatable({values = 3, first = 1}, {__index = {second = 2}, _ = 4})
    finally(function() setmetatable(_G, before).odd = nil end)
    completes("odd.", "odd.first odd.second odd.values")
    setmetatable(_G, {__index = no, __pairs = no})
    completes("odd.fi", "odd.first")
    completes("nothing.", "")
    completes("whil", "while")
    assert.is_nil(session.help "nothing_at_all")
  end)
end)
