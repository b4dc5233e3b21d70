-- The Jupyter kernel, driven by jupyter_client as a notebook drives it (jupyter.py).

local json = require "moongrad.io.json"
local child = require "spec.child"

local PYTHON = "build/jupyter/bin/python"

local function has_kernel()
  return os.execute(PYTHON .. " -c 'import ipykernel' 2>/dev/null") == true
end

-- The answers to {do, code} each, from one kernel
local function drive(list)
  local folder, asked, answers = child.folder(), {}, {}
  for i, t in ipairs(list) do
    asked[i] = ('{"do": %s, "code": %s}'):format(json.quote(t[1]), json.quote(t[2]))
  end
  child.write(folder .. "/asked", table.concat(asked, "\n") .. "\n")
  local before = child.environment() ..
    (" JUPYTER_DATA_DIR=%s JUPYTER_PREFER_ENV_PATH=1 DISPLAY= "):format(folder)
  local install = "lua/moongrad/jupyter/kernel.py install --prefix build/jupyter"
  local pipe <close> = assert(io.popen(("{ %s %s %s; %s %s spec/library/jupyter.py <%s/asked; } " ..
    "2>%s/log"):format(before, PYTHON, install, before, PYTHON, folder, folder)))
  for line in pipe:lines() do
    if line:find "^{" then answers[#answers + 1] = assert(json.decode(line)) end
  end
  assert.equal(#list, #answers, child.read(folder .. "/log"))
  return answers
end

describe("the Jupyter kernel", function()
  it("shows, completes, explains, draws, is interrupted and survives", function()
    if os.getenv "LD_PRELOAD" then return pending "Python does not run under the sanitizers" end
    if not has_kernel() then return pending "ipykernel is not in build/jupyter" end
    local loop = "print 'now'\nwhile true do end"
    local answers = drive({
      {"run", "local x = mg.tensor{1, 2}\nprint('\u{e9}')\nx"},
      {"run", "x, 5"},
      {"run", "y = 1\nx:foo()"},
      {"run", "print(1)\nmg.plot{1, 4, 2}\nmg.plot_graph(mg.Variable(1) * 2)"},
      {"interrupt", loop}, {"interrupt", loop},
      {"run", "y"},
      {"run", "mg.softmax?"}, {"run", "?none"},
      {"complete", "y = '\u{e9}' .. mg.softm"},
      {"inspect", "mg.softmax"}, {"inspect", "none"},
      {"whole", "for i = 1, 2 do"}, {"whole", "x +"}, {"whole", "x"}, {"whole", "1 1"},
      {"run", "io.stderr:write 'oh'\nos.exit(3)"},
      {"run", "y"},
    })
    local at = 0
    local function next_answer()
      at = at + 1
      return answers[at]
    end
    local function shows(list, status)
      local t = next_answer()
      assert.same(list, t.shown)
      assert.equal(status or "ok", t.status)
    end
    local doc = "softmax(x: array, axis: axis = -1)\nexp(x) / sum(exp(x)) along an axis"
    shows{{"stdout", "\u{e9}\n"}, {"result", "variable([1 2])"}}
    shows{{"result", "variable([1 2])\n5"}}
    shows({{"error", 'In [3]:2: a Variable has no property or method "foo"\n  2: x:foo()'}},
      "error")
    local pictures = next_answer().shown
    assert.same({{"stdout", "1\n"}, {"image/png", "iVBORw0KGgoA"}}, {pictures[1], pictures[2]})
    assert.equal("image/svg+xml", pictures[3][1])
    for _ = 1, 2 do                 -- wherever the interrupt came, before the loop or in it
      local t = next_answer()
      assert.same({{"stdout", "now\n"}, {"error"}}, {t.shown[1], {t.shown[2][1]}})
      assert.is_truthy(t.shown[2][2]:find "interrupted!")
      assert.same({"error", 2}, {t.status, #t.shown})
    end
    shows{{"result", "1"}}
    shows{{"stdout", doc .. "\n"}}
    shows{{"stdout", "nothing is known of none\n"}}
    local t = next_answer()
    assert.same({{"mg.softmax", "mg.softmax_cross_entropy", "mg.softmin"}, 11, 19},
      {t.matches, t.cursor_start, t.cursor_end})
    assert.equal(doc, next_answer().data["text/plain"])
    assert.is_false(next_answer().found)
    for _, status in ipairs{"incomplete", "incomplete", "complete", "invalid"} do
      assert.equal(status, next_answer().status)
    end
    shows({{"stderr", "oh"}, {"error", "Lua has ended (status 3) and was started anew"}}, "error")
    shows{{"result", "nil"}}
  end)

  it("says that Lua has ended, though a child lives on; late interrupts end nothing", function()
    if os.getenv "LD_PRELOAD" then return pending "Python does not run under the sanitizers" end
    if not os.execute "python3 -c 0 2>/dev/null" then return pending "needs python3" end
    local folder = child.folder()
    child.write(folder .. "/p.py", ([[
import sys
sys.path.insert(0, "lua/moongrad/jupyter")
import kernel
lua = kernel.Lua()
def ask(code):
    return lua.ask({"ask": "run", "code": code, "count": 1}, print, print)
print(ask("os.execute 'sleep 30 >/dev/null 2>&1 & echo $! >%s/pid' return 7")["text"])
import os, signal, time
for code in ("x = 5", "x", "setmetatable({}, {__tostring = error})"):
    answer = ask(code)
    os.kill(lua.process.pid, signal.SIGINT)        # too late: nothing to it
    time.sleep(0.1)
    print(answer["text"], answer["shown"])
print(ask("os.exit(3)"), lua.close())
]]):format(folder))
    local pipe <close> = io.popen(child.environment() .. " timeout 10 python3 -B " .. folder ..
      "/p.py 2>&1")
    local text = pipe:read "a"
    os.execute("kill " .. child.read(folder .. "/pid"))
    assert.equal("7\n False\n5 True\n(table) True\nNone 3\n", text)
  end)

  it("is interrupted in what runs programs, with these, as at a terminal", function()
    if os.getenv "LD_PRELOAD" then return pending "Python does not run under the sanitizers" end
    if not os.execute "python3 -c 0 2>/dev/null" then return pending "needs python3" end
    local folder = child.folder()
    child.write(folder .. "/p.py", [[
import os, signal, sys, threading
sys.path.insert(0, "lua/moongrad/jupyter")
import kernel
lua = kernel.Lua()
for code in ("os.execute 'sleep 30'", "io.popen 'sleep 30':read 'a'"):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    answer = lua.ask({"ask": "run", "code": code, "count": 1}, print, print)
    print(answer.get("text", answer.get("error")))
lua.close()
]])
    local pipe <close> = io.popen(child.environment() .. " timeout 10 python3 -B " .. folder ..
      "/p.py 2>&1")
    assert.equal("nil\nsignal\n2\nIn [1]:1: interrupted!\n", pipe:read "a")
  end)
end)
