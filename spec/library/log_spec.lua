-- mg.log: what a run logs is read by TensorBoard, and as tables.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises

local PYTHON = "build/tensorboard/bin/python" -- make tensorboard

local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end

local function now_is(seconds)
  local now = mg._now
  finally(function() mg._now = now end)
  mg._now = function() return seconds end
end

local function only_file(folder)
  local pipe <close> = io.popen(("ls '%s'"):format(folder))
  local name = pipe:read "l"
  assert(not pipe:read "l" and name:find "^events%.out%.tfevents%.%d+%.")
  return folder .. "/" .. name
end

describe("CRC-32C", function()
  it("is Castagnoli's", function()
    assert.equal(0, mg._crc32c "")
    assert.equal(0xe3069283, mg._crc32c "123456789")
    assert.equal(0x8a9136aa, mg._crc32c(("\0"):rep(32)))
  end)
end)

describe("a log for TensorBoard", function()
  helper.guard(before_each, after_each)

  -- These bytes were read by tensorboard 2.21.
  it("is records of events", function()
    local folder = child.folder() .. "/a run"
    now_is(1.5e9)
    local log = mg.log(folder)
    log:scalar("loss", 0.25, 300)
    log:text("note", "hi", 1)
    log:histogram("w", {0, 1, 1, 2, 0 / 0}, 2, {bins = 2})
    log:close()
    assert.equal(
      "1800000000000000a37f4b2209000000c00b5ad6411a0d627261696e2e4576656e743a324ca9a4641b000000" ..
      "000000001a0d9e1309000000c00b5ad64110ac022a0d0a0b0a046c6f7373150000803e44e9d8602d00000000" ..
      "0000003c418afb09000000c00b5ad64110012a200a1e0a046e6f74654a080a060a0474657874420c08071204" ..
      "120208014202686968f099046500000000000000ebd05a6909000000c00b5ad64110022a580a560a01772a51" ..
      "0900000000000000001100000000000000401900000000000010402100000000000010402900000000000018" ..
      "403210000000000000f03f00000000000000403a10000000000000f03f000000000000084000a0e848",
      hex(child.read(only_file(folder))))
  end)

  it("counts steps by itself, takes Variables, and says what is wrong", function()
    local folder = child.folder()
    local log <close> = mg.log(folder)
    log:scalars{a = mg.tensor(2.0), b = true}
    log:scalar("a", 3)
    assert.same({a = 2, b = 1}, log.steps)
    assert.equal(("Log(%s)"):format(folder), tostring(log))
    assert(raises("scalar: a is a string, expected a number", log.scalar, log, "a", "x"))
    assert(raises("scalars: the table is empty", log.scalars, log, {}))
    assert(raises("is no UTF-8", log.scalar, log, "\xff", 1))
    assert(raises("image: x: values 0..2, floats must be 0..1", log.image, log, "x", {{0, 2}}))
    assert(raises("histogram: w has no finite values", log.histogram, log, "w", {0 / 0}))
    assert(raises("text: x is no UTF-8", log.text, log, "x", "\xff"))
    assert(raises("unknown option bin", log.histogram, log, "w", {1}, 1, {bin = 3}))
    log:close()
    log:close()
    assert(raises("scalar: " .. folder .. " was closed", log.scalar, log, "a", 1))
    assert(raises("log: append is for .csv and .jsonl", mg.log, folder, {append = true}))
    for _, ending in ipairs{"txt", "log", "json", "tsv"} do
      local text = ("log: no log is a file .%s: there are .csv and .jsonl"):format(ending)
      assert(raises(text, mg.log, folder .. "/a." .. ending))
    end
    for _, kind in ipairs{".csv", ".jsonl"} do
      local endless = child.path(kind)
      os.execute("ln -s /dev/zero " .. endless)
      assert(raises("it is no regular file", mg.log, endless, {append = true}))
    end
    assert(raises("unknown option apend; did you mean append?", mg.log, folder, {apend = true}))
    assert(raises("log: cannot make /dev/null/x", mg.log, "/dev/null/x"))
    assert(raises("log: cannot write /no/such.csv", mg.log, "/no/such.csv"))
    assert(raises("log: the path", mg.log, "a\0b"))
  end)

  it("is read by TensorBoard, where that is installed", function()
    if not io.open(PYTHON) then return end
    local folder = child.folder()
    local log = mg.log(folder)
    for i = 1, 50 do log:scalar("loss", 1 / i) end
    log:image("picture", mg.rand(3, 4, 5))
    log:image("grid", mg.rand(5, 1, 4, 4), 7, {columns = 5})
    log:histogram("w", mg.range(1, 100), 1, {bins = 4})
    log:text("note", "**h\u{fc}**", 2)
    log:close()
    local program = folder .. "/read.py"
    child.write(program, [[
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
e = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
e.Reload()
s = e.Scalars("loss")
i, g = e.Images("picture")[0], e.Images("grid")[0]
h = e.Histograms("w")[0].histogram_value
t = e.Tensors("note")[0]
print(len(s), s[-1].step, round(s[-1].value, 6), i.width, i.height, g.step, g.width, g.height,
  h.min, h.max, h.num, h.bucket_limit, h.bucket, t.step, t.tensor_proto.string_val[0].decode())
]])
    local pipe <close> = io.popen(("%s %s %s 2>/dev/null"):format(PYTHON, program, folder))
    assert.equal("50 50 0.02 5 4 7 28 4 1.0 100.0 100.0 [25.75, 50.5, 75.25, 100.0] " ..
      "[25.0, 25.0, 25.0, 25.0] 2 **h\u{fc}**", pipe:read "l")
  end)
end)

describe("a log of scalars", function()
  helper.guard(before_each, after_each)

  it("counts what was written, and keeps a row until it is", function()
    local folder = child.folder()
    now_is(1)
    for _, ending in ipairs{"csv", "jsonl"} do
      local path = folder .. "/a." .. ending
      local log = mg.log(path)
      local file = log.file
      log:scalar("loss", 4)
      log.file = {write = function() return nil, "the disk is full" end, seek = function() end,
                  close = function() end}
      if ending == "csv" then assert(raises("the disk is full", log.close, log))
      else assert(raises("the disk is full", log.scalar, log, "loss", 3)) end
      log.file = file
      log:scalar("loss", 3)
      log:close()
      assert.equal(ending == "csv" and "step,time,loss\n1,1.000,4\n2,1.000,3\n" or
        '{"step":1,"time":1.000,"loss":4}\n{"step":2,"time":1.000,"loss":3}\n', child.read(path))
    end
  end)

  it("has whole rows alone, whatever failed", function()
    local folder = child.folder()
    for _, name in ipairs{"a.csv", "a.jsonl", "events"} do
      local out = child.run(([[local mg = require "moongrad"
        local log = mg.log %q
        local failed = 0
        for step = 1, 200 do
          local ok, err = pcall(log.scalars, log, {loss = step / 3, x = step}, step)
          if not ok then
            failed = failed + 1
            assert(err:find "scalars: log: cannot write .*: File too large", err)
          end
        end
        assert(failed > 0)
        io.write(log.name or log.path)]]):format(folder .. "/" .. name), nil,
        "trap '' XFSZ; ulimit -f 1;")
      local text, n = child.read(out), 0
      if name == "events" then
        local at = 1
        while at <= #text do
          local length = ("<I8"):unpack(text, at)
          at, n = at + 16 + length, n + 1
        end
        assert.equal(#text + 1, at)
      else
        local log <close> = mg.log(out, {append = true})
        log:scalars({loss = 1, x = 2}, 500)
        log:close()
        text = child.read(out)
        for line in text:gmatch "[^\n]*\n" do
          n = n + 1
          assert(line:find(name == "a.csv" and "^%w+,[%w.]+,[%w.]+,%w+\n$" or "^{.*}\n$"), line)
        end
        if name == "a.csv" then assert.equal(500, mg.load(out).step[-1]:item()) end
      end
      assert(n > 3 and n < 100)
    end
  end)

  it("is written when its block ends by an error, which goes on", function()
    local path = child.folder() .. "/a.csv"
    now_is(2.5)
    local ok, err = pcall(function()
      local log <close> = mg.log(path)
      log:scalar("loss", 1)
      error("mine", 0)
    end)
    assert.same({false, "mine"}, {ok, err})
    assert.equal("step,time,loss\n1,2.500,1\n", child.read(path))
  end)

  it("has a row for each step as .csv", function()
    local path = child.folder() .. "/a.csv"
    now_is(2.5)
    local log = mg.log(path)
    log:scalar("loss", 1)
    log:scalar('a "b"', 0.5)
    log:scalar("loss", 0.1)
    log:scalars({loss = 0 / 0, ['a "b"'] = math.huge}, 7)
    assert(raises("has no column new; those of the first row are all", log.scalar, log, "new", 1))
    assert(raises("text: " .. path .. " holds scalars alone", log.text, log, "x", "y"))
    assert(raises("image: " .. path .. " holds scalars alone", log.image, log, "x", {{1}}))
    log:close()
    assert.equal('step,time,"a ""b""",loss\n1,2.500,0.5,1\n2,2.500,,0.1\n7,2.500,inf,nan\n',
      child.read(path))
    log = mg.log(path, {append = true})
    log:scalar("loss", 3)
    log:close()
    local t = mg.load(path)
    assert.same({1, 2, 7, 8}, t.step:totable())
    assert.equal(3, t.loss[4]:item())
    child.write(path, "step,time,loss\n1,2,3") -- its last line was not ended
    log = mg.log(path, {append = true})
    log:scalar("loss", 4)
    log:close()
    assert.equal("step,time,loss\n1,2,3\n2,2.500,4\n", child.read(path))
    child.write(path, "a,b\n1,2\n")
    assert(raises("is no log", mg.log, path, {append = true}))
    assert.equal("a,b\n1,2\n", child.read(path))
  end)

  it("as .csv goes on where a run ended before its first row", function()
    local path = child.folder() .. "/a.csv"
    mg.log(path, {columns = {"loss"}}):close()
    assert.equal("step,time,loss\n", child.read(path))
    for k = 1, 2 do
      local log = mg.log(path, {append = true, columns = {"loss"}})
      if k == 2 then log:scalar("loss", 3) end
      log:close()
    end
    local t = mg.load(path)
    assert.same({1}, t.step:totable())
    assert.same({3}, t.loss:totable())
  end)

  it("in a folder that has no room leaves no empty file", function()
    local folder = child.folder()
    local text = child.lua(("-e %s"):format("'" .. [[
      print(select(2, pcall(require "moongrad".log, "runs")))]] .. "'"), folder, nil,
      "trap '' XFSZ; ulimit -f 0;")
    assert(text:find "log: cannot write runs: File too large", text)
    assert.equal("", assert(io.popen("ls " .. folder .. "/runs")):read "a")
  end)

  it("may be several processes', as .csv, too", function()
    local path = child.path ".csv"
    local logs = {}
    for i = 1, 3 do logs[i] = mg.log(path, {append = true}) end
    for i = 1, 2 do
      logs[i]:scalar("loss", i)
      logs[i]:close()
    end
    logs[3]:scalar("other", 3)
    assert(raises("was begun with other columns", logs[3].close, logs[3]))
    local log <close> = mg.log(child.path ".csv")
    log:scalar("loss", 1)
    assert(raises("log: " .. log.path .. " is being written to by what this interrupts",
      mg._locked, log.path, "spec", log.flush, log))
    assert.same({1, 2}, mg.load(path).loss:totable())
    local program = child.path ".lua"
    child.write(program, [[
      local log <close> = require "moongrad".log(arg[1], {append = true})
      for i = 1, 300 do log:scalar("loss", i) end]])
    path = child.path ".csv"
    local command = ("%s lua5.4 %s %s & "):format(child.environment(), program, path)
    assert(os.execute(command:rep(2) .. "wait"))
    assert.equal(600, #mg.load(path).loss)
  end)

  it("has its last row, though nobody closed it", function()
    local path = child.folder() .. "/a.csv"
    now_is(1)
    do
      local log = mg.log(path)
      for i = 1, 2 do log:scalar("loss", i) end
    end
    collectgarbage()
    assert.equal("step,time,loss\n1,1.000,1\n2,1.000,2\n", child.read(path))
    for _, ending in ipairs{"", "; error 'stop'"} do
      child.run(([[local log = require "moongrad".log "%s"
        for i = 1, 2 do log:scalar("loss", i) end%s]]):format(path, ending))
      assert(child.read(path):find "^step,time,loss\n1,[^\n]*,1\n2,[^\n]*,2\n$", child.read(path))
    end
  end)

  it("has the columns it is told to", function()
    local path = child.folder() .. "/a.csv"
    now_is(1)
    local log <close> = mg.log(path, {columns = {"loss", "acc"}})
    log:scalar("loss", 1, 1)
    log:scalar("acc", 2, 2)
    log:close()
    assert.equal("step,time,loss,acc\n1,1.000,1,\n2,1.000,,2\n", child.read(path))
    assert(raises("columns are those of a .csv", mg.log, path .. ".jsonl", {columns = {"x"}}))
    assert(raises("columns[1] is a number", mg.log, path, {columns = {1}}))
    local before = child.read(path)
    assert(raises("two columns are called a", mg.log, path, {columns = {"a", "a"}}))
    assert(raises("the name time is taken", mg.log, path, {columns = {"time"}}))
    assert.equal(before, child.read(path))
  end)

  it("has a line for each call as .jsonl", function()
    local path = child.folder() .. "/a.jsonl"
    now_is(1)
    local log = mg.log(path)
    log:scalar("loss", 0.1)
    log:scalars{loss = 0 / 0, n = 3, ["\u{fc}"] = -math.huge}
    log:text("note", 'a "b"')
    assert(raises("histogram: " .. path .. " holds scalars alone", log.histogram, log, "x", {1}))
    assert(raises("is no UTF-8", log.text, log, "\xff", "x"))
    log:close()
    mg.log(path, {append = true}):close()
    assert.equal('{"step":1,"time":1.000,"loss":0.1}\n' ..
      '{"step":1,"time":1.000,"loss":null,"n":3,"\u{fc}":-1e999}\n' ..
      '{"step":1,"time":1.000,"note":"a \\"b\\""}\n', child.read(path))
  end)

  it("counts the steps on where .jsonl is appended to", function()
    local path = child.folder() .. "/a.jsonl"
    local log = mg.log(path)
    for i = 1, 3 do log:scalars{loss = i, ["a b"] = i} end
    log:scalar("loss", 1, 20)
    log:text("note", "x")
    log:close()
    child.write(path, child.read(path) .. '[1]\n{"step":99,"ti') -- was cut off
    log = mg.log(path, {append = true})
    log:scalars{["a b"] = 1, loss = 2}
    log:scalar("loss", 2)
    log:scalar("other", 2)
    log:scalars({loss = 3, ["a b"] = 3}, 7)
    log:scalars{loss = 4, ["a b"] = 4}
    log:text("note", "y")
    log:close()
    local steps = {}
    for step in child.read(path):gsub("^.*ti\n", ""):gmatch '"step":(%d+)' do
      steps[#steps + 1] = tonumber(step)
    end
    assert.same({4, 21, 1, 7, 8, 2}, steps)
  end)

  it("leaves the logarithm as it was", function()
    assert(helper.near(mg.log(2.0), math.log(2)))
    assert(helper.near(mg.tensor{1, 2}:log(), {0, math.log(2)}))
    assert(raises("log: argument 1 is a nil, expected a Variable", mg.log, nil))
  end)
end)
