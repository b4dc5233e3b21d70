-- Damaged files of every format are read or refused: with a message of ours, without a crash, in
-- little time and memory. What is saved comes back, whatever its form.

local mg = require "moongrad"
local child = require "spec.child"
local zlib = require "zlib"

local LIMIT = 64 << 20

-- ---- damage -----------------------------------------------------------------------------------

local WORDS = {"\0", "\xff", "\x7f", "\x80", "\0\0\0\0", "\xff\xff\xff\xff", "\xff\xff\xff\x7f",
               "\0\0\0\x80", "\0\0\1\0", "0", "-1", "1e9", "99999999999999999999", "{", "}", "[",
               "]", ",", '"', "'", "(", ")", ":", " ", "\n", "null", "True", "\\u0000", "PK\3\4",
               "PK\1\2", "PK\5\6", "PK\6\6", "\xed\xa0\x80", "f4", "|O", "F4", "BF16", "0.5", ";",
               "nan", '""', "\r\n", "true"}

local function damaged(random, s)
  for _ = 1, random(3) do
    local at, n = random(#s + 1), random(8)
    local kind, word = random(8), WORDS[random(#WORDS)]
    if kind == 1 and #s > 0 then -- a bit
      at = math.min(at, #s)
      s = s:sub(1, at - 1) .. string.char(s:byte(at) ~ 1 << random(0, 7)) .. s:sub(at + 1)
    elseif kind == 2 then s = s:sub(1, at - 1) .. word .. s:sub(at + #word)
    elseif kind == 3 then s = s:sub(1, at - 1) .. word .. s:sub(at)
    elseif kind == 4 then s = s:sub(1, at - 1) .. s:sub(at + n)
    elseif kind == 5 then s = s:sub(1, at - 1)
    elseif kind == 6 then s = s:sub(1, at + n) .. s:sub(at)
    elseif kind == 7 then s = s:sub(1, at - 1) .. ("\0"):rep(random(100)) .. s:sub(at)
    else s = s:sub(1, at - 1) .. string.char(random(0, 255)) .. s:sub(at + 1) end
  end
  return s
end

-- ---- originals --------------------------------------------------------------------------------

local DTYPES = {"float64", "float32", "float16", "bfloat16", "int8", "int16", "int32", "int64",
                "uint8", "uint16", "uint32", "uint64", "bool"}

local function saved(path, ...)
  mg.save(path, ...)
  return child.read(path)
end

local function some_tables()
  local x, k = mg.rand(3, 4), mg.randint and mg.randint(0, 9, {5}) or mg.tensor({1, 2}, "int64")
  return {
    {x = x, k = k, b = x:gt(0.5), s = mg.tensor(2.5), e = mg.zeros(0, 3)},
    {model = {["0.w"] = x}, epoch = 3, lr = 0.5, note = "x", list = {1, k, {2}}, [7] = true},
    {},
  }
end

local function originals(folder, kind)
  local list = {}
  for _, t in ipairs(some_tables()) do
    list[#list + 1] = saved(folder .. "/original." .. kind, t)
    list[#list + 1] = saved(folder .. "/original." .. kind, t, {metadata = {a = "b"}})
    for _, dtype in ipairs(DTYPES) do
      local ok, s = pcall(saved, folder .. "/original." .. kind, t, {dtype = dtype})
      if ok then list[#list + 1] = s end
    end
  end
  return list
end

local function npys(folder)
  local list = {}
  for _, dtype in ipairs(DTYPES) do
    if dtype ~= "bfloat16" then
      list[#list + 1] = saved(folder .. "/original.npy", mg.ones(3, 4), {dtype = dtype})
      list[#list + 1] = list[#list]:gsub("<", ">"):gsub("False", "True ")
    end
  end
  return list
end

-- ---- trials -----------------------------------------------------------------------------------

-- Reads the file of these bytes, in one of the ways of load.
local function read(random, path, bytes, options)
  child.write(path, bytes)
  local opts = random(4) == 1 and {list = true} or random(4) == 1 and {"x", "model"} or nil
  if options and random(2) == 1 then opts = options(random) end
  mg.memory_limit(LIMIT)
  local began = os.clock()
  local result = table.pack(pcall(mg.load, path, opts))
  local took = os.clock() - began
  mg.memory_limit(0)
  if took > 10 then error("it took " .. took .. " s") end
  if not result[1] then
    local message = tostring(result[2])
    local ours = message:find "load: " or message:find "out of memory"
    if not ours or message:find "attempt to" then
      error("a message of nobody's: " .. message)
    end
    return
  end
  local function touch(t)
    if mg.is_variable(t) then t:tobytes()
    elseif type(t) == "table" then
      for _, v in pairs(t) do touch(v) end
    end
  end
  touch(result[2])
end

-- A format whose files are damaged as they are, or inside, where `inside` wraps them again.
local function reading(kind, make, inside, options)
  return {name = kind, start = function(folder)
    local list = make(folder)
    local stderr = io.open("/dev/null", "w")
    return function(random)
      local bytes = list[random(#list)]
      if inside and random(2) == 1 then bytes = inside(random, bytes)
      else bytes = damaged(random, bytes) end
      local err = io.stderr
      io.stderr = stderr -- luacheck: ignore
      local ok, message = pcall(read, random, folder .. "/damaged." .. kind, bytes, options)
      io.stderr = err -- luacheck: ignore
      if not ok then error(message, 0) end
    end
  end}
end

-- The header damaged, its length right
local function safetensors_inside(random, s)
  local n = ("<I8"):unpack(s)
  local header = damaged(random, s:sub(9, 8 + n))
  return ("<I8"):pack(#header) .. header .. s:sub(9 + n)
end

local function npy_inside(random, s)
  local header, at = ("<s2"):unpack(s, 9)
  return s:sub(1, 8) .. ("<s2"):pack(damaged(random, header)) .. s:sub(at)
end

-- A zip whose members are damaged, with the right sums
local function npz_inside(random)
  local parts, directory, at, count = {}, {}, 0, random(3)
  for i = 1, count do
    local data = "\x93NUMPY\1\0" .. ("<s2"):pack("{'descr': '<i2', 'fortran_order': False, " ..
      "'shape': (2, 3), }") .. ("\1\2"):rep(6)
    if random(3) > 1 then data = (random(2) == 1 and npy_inside or damaged)(random, data) end
    local name = random(9) == 1 and damaged(random, "x.npy") or ("x%d.npy"):format(i)
    if i == 1 and random(4) == 1 then
      local text = damaged(random, '{"a":"b","moongrad":"{\\"x2\\":null,\\"n\\":[1,2.5,true]}"}')
      data = "\x93NUMPY\1\0" .. ("<s2"):pack(("{'descr': '|S%d', 'fortran_order': False, " ..
        "'shape': (), }"):format(#text)) .. text
      name = "__metadata__.npy"
    end
    local sum, size, method = math.tointeger(zlib.crc32()(data)), #data, 0
    if random(2) == 1 then data, method = zlib.deflate(9, -15)(data, "finish"), 8 end
    local common = ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 0, method, 0, 33, sum, #data, size, #name, 0)
    if random(9) == 1 then data = damaged(random, data) end
    parts[i] = "PK\3\4" .. common .. name .. data
    directory[i] = "PK\1\2\20\0" .. common .. ("<I2I2I2I4I4"):pack(0, 0, 0, 0, at) .. name
    at = at + #parts[i]
  end
  local list = table.concat(directory)
  return table.concat(parts) .. list .. "PK\5\6" ..
    ("<I2I2I2I2I4I4I2"):pack(0, 0, count, count, #list, at, 0)
end

local IDX = "\0\0\x0b\2" .. (">I4I4i2i2i2i2"):pack(2, 2, 1, -2, 3, 4)

local function pictures(ending)
  local list = {}
  local pipe <close> = io.popen "ls spec/files"
  for name in pipe:lines() do
    if name:find(ending) then list[#list + 1] = child.read("spec/files/" .. name) end
  end
  return list
end

-- A chunk damaged, perhaps its deflated data, with the right sum
local function png_inside(random, s)
  local parts, at = {s:sub(1, 8)}, 9
  while at < #s do
    local data = s:sub(at + 8, at + 7 + (">I4"):unpack(s, at))
    local name, n = s:sub(at + 4, at + 7), #data
    if random(2) == 1 then
      if name == "IDAT" and random(2) == 1 then
        data = zlib.deflate()(damaged(random, (zlib.inflate()(data))), "finish")
      else data = damaged(random, data) end
    end
    if random(9) > 1 then
      parts[#parts + 1] = (">s4"):pack(data):sub(1, 4) .. name .. data ..
        (">I4"):pack(math.tointeger(zlib.crc32()(name .. data)))
    end
    at = at + 12 + n
  end
  return table.concat(parts)
end

local function gzip(s) return (zlib.deflate(9, 31)(s, "finish")) end

local CSVS = {'a,b,"c ""q""",d,e\r\n1,2.5,x,true,\r\n-3,1e3,"y,\n""z""",False,NA\n\n4,nan,,TRUE,7',
              "1,2\n3,4\n", "x\n" .. ("0.30000000000000004\n"):rep(20), '"a";"b"\n"1";"2"\n'}

local function csv_options(random)
  return {header = ({true, false, {"a", "b"}, "auto"})[random(4)],
          delimiter = (",;\t"):sub(random(3)):sub(1, 1), missing = random(2) == 1 and {"1"} or nil,
          dtype = random(2) == 1 and "float32" or nil}
end

-- Tables of any form come back.
local function random_table(random, depth)
  local t = {}
  for i = 1, random(0, 4) do
    local key = random(2) == 1 and i or ("k%d%s"):format(i, random(5) == 1 and "#" or "")
    local kind = random(depth > 3 and 6 or 8)
    if kind == 1 then t[key] = random(0)
    elseif kind == 2 then t[key] = (random() - 0.5) * 10.0 ^ random(-300, 300)
    elseif kind == 3 then t[key] = random(2) == 1
    elseif kind == 4 then t[key] = string.char(random(0, 255), random(0, 255), random(32, 126))
    elseif kind <= 6 then
      local dims = {}
      for axis = 1, random(0, 3) do dims[axis] = random(0, 3) end
      t[key] = mg.rand(dims):to(({"float64", "float32", "int64", "uint8", "bool"})[random(5)])
    else t[key] = random_table(random, depth + 1) end
  end
  return t
end

local function same(a, b)
  if mg.is_variable(a) then
    return mg.is_variable(b) and a.dtype == b.dtype and a:tobytes() == b:tobytes() and
      table.concat(a.shape, ",") == table.concat(b.shape, ",")
  end
  if type(a) ~= "table" then return a == b and math.type(a) == math.type(b) end
  if type(b) ~= "table" then return false end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function trees(folder)
  return function(random)
    local t = random_table(random, 0)
    local path = folder .. (random(2) == 1 and "/t.npz" or "/t.safetensors")
    local ok, err = pcall(mg.save, path, t)
    if not ok then
      if err:find "two Variables are called" then return end
      error(err, 0)
    end
    if not same(t, (mg.load(path))) then error("another table came back from " .. path) end
  end
end

-- ---- logs and plots -----------------------------------------------------------------------------

local function some_name(random)
  return random(4) > 1 and ({"loss", "a/b", "\u{fc}", 'q"', "x,y", " ", ""})[random(7)] or
    string.char(random(0, 255), random(0, 255))
end

local function some_number(random)
  local v = (random() - 0.5) * 10.0 ^ random(-300, 300)
  return ({0, random(0), 0 / 0, -1 / 0, v, true})[random(6)]
end

local function some_array(random)
  local dims = {}
  for axis = 1, random(0, 4) do dims[axis] = random(0, 4) end
  local x = mg.rand(dims)
  if random(5) == 1 then x = mg.log(x - 0.5) end -- some are nan
  return x:to(({"float64", "float32", "int64", "uint8", "bool"})[random(5)])
end

-- Does what may be refused, in our words.
local function attempt(what, fn, ...)
  local ok, err = pcall(fn, ...)
  err = tostring(err)
  local theirs = err:find "gnuplot failed" or err:find "attempt to" or err:find "bad argument"
  if not ok and (theirs or not err:find "%l: ") then
    error(what .. ": " .. err, 0)
  end
  return ok
end

-- Every record has its length and sums.
local function check_events(bytes)
  local function masked(s)
    local crc = mg._crc32c(s)
    return ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff
  end
  local at = 1
  while at <= #bytes do
    local n, sum = ("<I8I4"):unpack(bytes, at)
    assert(sum == masked(bytes:sub(at, at + 7)), "the sum of a length is wrong")
    assert(("<I4"):unpack(bytes, at + 12 + n) == masked(bytes:sub(at + 12, at + 11 + n)),
      "the sum of a record is wrong")
    at = at + 16 + n
  end
  assert(at == #bytes + 1)
end

local function logs(folder)
  return function(random)
    local ending = ({".csv", ".jsonl", ""})[random(3)]
    local path = folder .. "/log" .. ending
    os.execute("rm -rf '" .. path .. "'")
    if ending == ".csv" and random(2) == 1 then
      child.write(path, damaged(random, "step,time,loss\n1,2.5,0.5\n2,3,1e-3\n"))
    end
    local log
    local function open() log = mg.log(path, ending ~= "" and {append = true} or nil) end
    if not attempt("log", open) then return end
    for _ = 1, random(10) do
      local k, step = random(5), random(3) == 1 and random(-3, 9) or nil
      local name = some_name(random)
      if k == 1 then attempt("scalar", log.scalar, log, name, some_number(random), step)
      elseif k == 2 then
        attempt("scalars", log.scalars, log, {[name] = some_number(random), n = 1}, step)
      elseif k == 3 then attempt("image", log.image, log, name, some_array(random), step)
      elseif k == 4 then attempt("histogram", log.histogram, log, name, some_array(random), step)
      else attempt("text", log.text, log, name, some_name(random), step) end
    end
    log:close()
    if ending == ".csv" then mg.load(path)
    elseif ending == ".jsonl" then
      for line in io.lines(path) do
        local t, problem = require "moongrad.io.json".decode(line)
        if not t then error(problem .. ": " .. line) end
      end
    else
      local pipe <close> = io.popen("cat '" .. path .. "'/*")
      check_events(pipe:read "a")
    end
  end
end

-- An array of these dims, mostly
local function fitting(random, ...)
  if random(20) == 1 then return some_array(random) end
  local x = mg.rand(...) - random(0, 1)
  if random(3) == 1 then x = mg.where(x:lt(0.3), ({0 / 0, 1 / 0, 0})[random(3)], x) end
  return random(4) == 1 and (x * 9):nan_to_num():to "int64" or x
end

local function some_layer(random)
  local kind = ({"image", "heatmap", "contour", "histogram", "bars", "scatter", "curve"})[random(7)]
  local n, layer = random(0, 5), {}
  if kind == "image" then
    layer.image = random(2) == 1 and fitting(random, 3, n + 1, 2) or fitting(random, 2, n + 1)
    if random(3) == 1 then layer.extent = {0, random(-1, 1), 0, random(-1, 1)} end
  elseif kind == "heatmap" then
    layer.heatmap, layer.values = fitting(random, n, 3), random(2) == 1
  elseif kind == "contour" then
    layer.contour = fitting(random, n, 4)
    if random(2) == 1 then layer.x, layer.y = fitting(random, 4), fitting(random, n) end
    if random(3) == 1 then layer.levels = random(2) == 1 and random(0, 20) or {random(), 1} end
  elseif kind == "histogram" then
    layer.histogram, layer.density = fitting(random, 4 * n), random(2) == 1
  elseif kind == "bars" then
    layer.bars = fitting(random, n)
    if random(3) == 1 then layer.x = fitting(random, n) end
  elseif kind == "scatter" then
    layer.scatter = random(2) == 1 and fitting(random, n, 2) or
      {fitting(random, n), fitting(random, n)}
    if random(2) == 1 then layer.by = fitting(random, n) end
  else
    layer[1] = fitting(random, n)
    if random(2) == 1 then layer[2] = fitting(random, n) end
    if random(3) == 1 then layer.errors = fitting(random, n) end
    if random(3) == 1 then layer.band = {fitting(random, n), fitting(random, n)} end
  end
  local plain = not layer.image and not layer.heatmap
  if random(3) == 1 and plain then layer.label = some_name(random) end
  if random(9) == 1 then layer.color = ({"red", "#112233", 3, "x'"})[random(4)] end
  return layer
end

-- Pictures that gnuplot draws, of whatever is not refused before
local function plots(folder)
  return function(random)
    local given = {path = folder .. "/plot." .. ({"txt", "svg", "png"})[random(3)]}
    if random(3) == 1 then given.title = some_name(random) end
    if random(5) == 1 then given.log = ({"x", "y", "xy"})[random(3)] end
    if random(5) == 1 then given.xlim = {random(0, 3), random(0, 3)} end
    if random(5) == 1 then given.xticks = {some_name(random), 3} end
    if random(4) == 1 then
      given.plots = {{some_layer(random)}, {some_layer(random)}}
    else
      for i = 1, random(3) do given[i] = some_layer(random) end
    end
    attempt("plot", mg.plot, given)
  end
end

return {
  {name = "logs", start = logs},
  {name = "plots", start = plots},
  reading("safetensors", function(folder) return originals(folder, "safetensors") end,
    safetensors_inside),
  reading("npz", function(folder) return originals(folder, "npz") end, npz_inside),
  reading("npy", npys, npy_inside),
  reading("idx", function() return {IDX} end),
  reading("idx.gz", function() return {gzip(IDX)} end, function(random)
    return gzip(damaged(random, IDX))
  end),
  reading("png", function() return pictures "%.png$" end, png_inside),
  reading("jpg", function() return pictures "%.jpg$" end),
  reading("csv", function() return CSVS end, nil, csv_options),
  {name = "trees", start = trees},
}
