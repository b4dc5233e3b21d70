-- Files of others: what NumPy and the safetensors library read is read, what they refuse is
-- refused; and where two readers would see two things, or bytes belong to nobody.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises
local zlib = require "zlib"

-- What mg.load gives for a file of these bytes.
local function loaded(kind, bytes, ...)
  local path = child.path("." .. kind)
  child.write(path, bytes)
  return mg.load(path, ...)
end

-- What fn writes to stderr
local function said(fn)
  local path, stderr = child.path "", io.stderr
  local f = io.open(path, "w")
  io.stderr = f -- luacheck: ignore
  local ok, err = pcall(fn)
  io.stderr = stderr -- luacheck: ignore
  f:close()
  assert(ok, err)
  return child.read(path)
end

-- ---- npy --------------------------------------------------------------------------------------

local function npy(dict, body, version)
  return "\x93NUMPY" .. string.char(version or 1) .. "\0" ..
    ((version or 1) == 1 and "<s2" or "<s4"):pack(dict) .. (body or ("\0"):rep(8))
end

local DICT = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"
local function dict(from, to)
  local i, j = DICT:find(from, 1, true)
  return DICT:sub(1, i - 1) .. to .. DICT:sub(j + 1)
end

describe("a .npy file", function()
  helper.guard(before_each, after_each)

  it("may spell its header as Python can", function()
    for _, text in ipairs{
      DICT, DICT .. "\n", "  " .. DICT, "\n" .. DICT, (DICT:gsub("'", '"')), "(" .. DICT .. ")",
      dict("'<f8'", "'<' 'f8'"), dict("'<f8'", "'\\x3cf8'"), dict("'<f8'", "u'<f8'"),
      dict(", }", "}"), dict(", }", ", # a comment\n}"), DICT .. "# a comment",
      dict("(1,)", "(1L,)"), dict("(1,)", "(0x1,)"), dict("(1,)", "(+1,)"), dict("(1,)", "( 1 , )"),
      "{'shape':(1,),'fortran_order':True,'descr':'<f8'}", DICT .. (" "):rep(9000),
    } do
      assert.same({1}, loaded("npy", npy(text)).shape)
      if #text < 100 then
        for version = 2, 3 do assert.same({1}, loaded("npy", npy(text, nil, version)).shape) end
      end
    end
    assert.same({10}, loaded("npy", npy(dict("(1,)", "(1_0,)"), ("\0"):rep(80))).shape)
    assert.same({}, loaded("npy", npy(dict("(1,)", "()"))).shape)
    assert.same({1, 1}, loaded("npy", npy(dict("(1,)", "(1, 1)"))).shape)
  end)

  it("may not be less than that", function()
    for _, text in ipairs{
      dict("False", "Tsue"), dict("False", "1"), dict("False", "None"), dict("False", "'True'"),
      dict("(1,)", "(1)"), dict("(1,)", "[1]"), dict("(1,)", "1,"), dict("(1,)", "(1 1)"),
      dict("(1,)", "(01,)"), dict("(1,)", "(1.0,)"), dict("(1,)", "(-1,)"), dict("(1,)", "(True,)"),
      dict("(1,)", "('1',)"), dict("(1,)", "None"), dict("(1,)", "(1,,)"), dict("(1,)", "(,)"),
      dict(", }", ",, }"), dict(", }", ", 'a': 1}"), dict(", 'shape': (1,)", ""),
      dict(", }", ", 'descr': '<f8'}"), dict("'<f8'", "b'<f8'"), dict("'<f8'", "`<f8`"),
      dict("'<f8'", "'!f8'"), dict("'<f8'", "'<f8 '"), dict("'<f8'", "' <f8'"),
      dict("'<f8'", "'float_'"), dict("'<f8'", "3"), dict("'<f8'", "''"),
      DICT .. "x", DICT .. "\0", "x" .. DICT, DICT .. DICT, "{'descr', 'shape'}", "", "{", "()",
      "dict(descr='<f8',fortran_order=False,shape=(1,))", ("("):rep(10000), DICT .. "'",
      dict("(1,)", "(" .. ("1"):rep(400) .. ",)"), dict("(1,)", "(0, 9223372036854775807, 4,)"),
    } do
      assert(raises("load: ", loaded, "npy", npy(text)), text)
    end
    for _, head in ipairs{"\0\0", "\1\1", "\4\0", "\9\0"} do
      local bytes = npy(DICT)
      bytes = bytes:sub(1, 6) .. head .. bytes:sub(9)
      assert(raises(" is unknown", loaded, "npy", bytes))
    end
    assert(raises("does not fit 7 bytes", loaded, "npy", npy(DICT, ("\0"):rep(7))))
    assert(raises("does not fit 9 bytes", loaded, "npy", npy(DICT, ("\0"):rep(9))))
  end)

  it("has any dtype of numbers, in any byte order", function()
    local function check(descr, format, v, dtype)
      local x = loaded("npy", npy(dict("'<f8'", "'" .. descr .. "'"), format:pack(v)))
      assert(helper.same(x, mg.tensor({v}, dtype)))
    end
    for _, c in ipairs{{"f8", "d", 2.5, "float64"}, {"f4", "f", 2.5, "float32"},
                       {"i8", "i8", -3, "int64"}, {"i4", "i4", -3, "int64"},
                       {"i2", "i2", -3, "int64"}, {"u8", "I8", 2^62 | 0, "int64"},
                       {"u4", "I4", 0xffffffff, "int64"}, {"u2", "I2", 0xffff, "int64"}} do
      check("<" .. c[1], "<" .. c[2], c[3], c[4])
      check(">" .. c[1], ">" .. c[2], c[3], c[4])
      check("=" .. c[1], "<" .. c[2], c[3], c[4])
      check(c[1], "<" .. c[2], c[3], c[4])
    end
    for _, order in ipairs{"", "<", ">", "|"} do
      check(order .. "i1", "i1", -3, "int64")
      check(order .. "u1", "I1", 200, "uint8")
      check(order .. "b1", "I1", 1, "bool")
    end
    for descr, format in pairs{float64 = "<d", d = "<d", float = "<d", float32 = "<f", f = "<f",
                               int = "<i8", q = "<i8", i = "<i4", h = "<i2", b = "<i1", B = "<I1",
                               ["?"] = "<I1", bool = "<I1", uint16 = "<I2", Q = "<I8"} do
      assert.equal(1, loaded("npy", npy(dict("<f8", descr), format:pack(1))):to("int64"):item())
    end
    assert.equal(1.5, loaded("npy", npy(dict("<f8", ">f2"), "\x3e\0"))[1]:item())
    assert(raises("uint64 is more than an int64", loaded, "npy", npy(dict("<f8", "<u8"),
      ("\xff"):rep(8))))
    local t = loaded("npy", npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3)}",
      (">i2i2i2i2i2i2"):pack(1, 2, 3, 4, 5, 6)))
    assert.same({{1, 3, 5}, {2, 4, 6}}, t:totable())
  end)

  it("of a dtype that is none of ours says so", function()
    for _, descr in ipairs{"<c16", "|O", "<U3", "|S5", "|V8", "<M8[us]", "<f16", "g", "F"} do
      local text = dict("<f8", descr)
      assert(raises("numpy dtype " .. descr .. " is none of ours", loaded, "npy", npy(text)))
      assert.equal(descr, loaded("npy", npy(text), {list = true}).dtype)
    end
    assert(raises("array of records", loaded, "npy", npy(dict("'<f8'", "[('a', '<f8', (2,))]"))))
    assert(raises("has 9 axes", loaded, "npy", npy(dict("(1,)", "(1,1,1,1,1,1,1,1,1)"))))
    assert(raises("holds one array, and no names", loaded, "npy", npy(DICT), {"x"}))
  end)
end)

-- ---- safetensors ------------------------------------------------------------------------------

local FOUR = ("<f"):pack(1.5)
local ONE = '"dtype":"F32","shape":[1],"data_offsets":[0,4]'

local function safetensors(header, body)
  return ("<I8"):pack(#header) .. header .. (body or FOUR)
end
local function one(from, to, body)
  local i, j = ONE:find(from, 1, true)
  return safetensors('{"x":{' .. ONE:sub(1, i - 1) .. to .. ONE:sub(j + 1) .. "}}", body)
end

describe("a .safetensors file", function()
  helper.guard(before_each, after_each)

  it("has a header of JSON", function()
    assert(raises("a header of 9223372036854775808 bytes does not fit a file of 10", loaded,
      "safetensors", ("<I8"):pack(math.mininteger) .. "{}"))
    for _, header in ipairs{
      '{"x":{' .. ONE .. "}}", '{"x":{' .. ONE .. "}}   ", ' {"x":{' .. ONE .. "}}\n\t\r",
      '{"\\u0078":{' .. ONE .. "}}", '{"x":{"else":[1.5e3,{}],' .. ONE .. "}}",
      '{"__metadata__":null,"x":{' .. ONE .. "}}", '{"__metadata__":{},"x":{' .. ONE .. "}}",
    } do
      assert.equal(1.5, loaded("safetensors", safetensors(header)).x:item())
    end
    for name, text in pairs{["a\0b"] = "a\\u0000b", ["a/b"] = "a\\/b", [""] = "",
                            ["\u{1f600}"] = "\\ud83d\\ude00", ["\u{fc}"] = "\u{fc}"} do
      local t = loaded("safetensors", safetensors('{"' .. text .. '":{' .. ONE .. "}}"))
      assert.equal(1.5, t[name]:item())
    end
    local _, metadata = loaded("safetensors", safetensors('{"__metadata__":{"a":"\\u00fc"},"x":{' ..
      ONE .. "}}"))
    assert.same({a = "\u{fc}"}, metadata)
  end)

  it("and of nothing else", function()
    local good = '{"x":{' .. ONE .. "}}"
    for _, header in ipairs{
      good .. "x", good .. "\0", good .. good, "\u{feff}" .. good, good:sub(1, -2) .. ",}",
      "{/*c*/" .. good:sub(2), "//c\n" .. good, good:gsub('"', "'"), good:gsub('"x"', "x"),
      "[" .. good .. "]", "null", '"x"', '{"x":{' .. ONE .. '},"x":{' .. ONE .. "}}",
      '{"x":{"dtype":"F32",' .. ONE .. "}}", good:gsub('"x"', '"\xff"'), good:gsub('"x"', '"\n"'),
      good:gsub('"x"', '"\\ud800"'), good:gsub('"x"', '"\\x"'), '{"x":' .. ("["):rep(100000),
      '{"__metadata__":{"a":1},' .. good:sub(2), '{"__metadata__":{"a":{}},' .. good:sub(2),
      '{"__metadata__":[],' .. good:sub(2), '{"__metadata__":{},"__metadata__":{},' .. good:sub(2),
      '{"__metadata__":{"a":"1","a":"2"},' .. good:sub(2), '{"x":["F32",[1],[0,4]]}', '{"x":null}',
    } do
      assert(raises("load: ", loaded, "safetensors", safetensors(header)), header:sub(1, 100))
    end
    for _, case in ipairs{
      {"[0,4]", "[0,4,8]"}, {"[0,4]", "[0]"}, {"[0,4]", "[0.0,4.0]"}, {"[0,4]", "[-0,4]"},
      {"[0,4]", "[4,8]", FOUR .. FOUR}, {"[0,4]", "[4,0]"}, {"[0,4]", "{}"}, {"[1]", "[01]"},
      {"[0,4]", "[18446744073709551616,4]"}, {"[1]", "[1e0]"}, {"[1]", "[1.0]"}, {"[1]", "null"},
      {"[1]", "{}"}, {"[1]", "[[1]]"}, {"[1]", "[true]"}, {"F32", "f32"}, {"F32", "U4"},
      {'"F32"', "null"}, {"F32", "F64"}, {"[1]", "[2]"}, {"[0,4]", "[0,4]", FOUR .. "\0"},
      {"[0,4]", "[0,4]", "\0"}, {'"F32","shape":[1]', '"F4","shape":[7]'},
    } do
      assert(raises("load: ", loaded, "safetensors", one(case[1], case[2], case[3])), case[2])
    end
    local two = '{"x":{%s},"y":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}}'
    for _, y in ipairs{{4, 0, 4}, {1, 3, 4}, {0, 2, 2}, {1, 5, 6}} do
      local bytes = safetensors(two:format(ONE, y[1], y[2], y[3]), FOUR .. "\0\0")
      assert(raises("load: ", loaded, "safetensors", bytes))
    end
    assert.equal(0, loaded("safetensors", safetensors(two:format(ONE, 0, 4, 4))).y.size)
  end)

  it("may hold what the engine cannot have: only who asks for it by name is told", function()
    local header = '{"x":{' .. ONE .. '},' ..
      '"y":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[4,8]},' ..
      '"z":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[8,12]},' ..
      '"e":{"dtype":"F32","shape":[0,4611686018427387904,4],"data_offsets":[12,12]}}'
    local bytes = safetensors(header, FOUR .. FOUR .. FOUR)
    local t
    local text = said(function() t = loaded("safetensors", bytes) end)
    assert.is_nil(t.y or t.z or t.e)
    assert.equal(1.5, t.x:item())
    assert(text:find "safetensors: y is left out: its dtype is F8_E4M3\n", text)
    assert(text:find "z is left out: it has 9 axes, there can be 8\n", text)
    assert.equal("", said(function() loaded("safetensors", bytes, {"x"}) end))
    assert(raises("y cannot be read: its dtype is F8", loaded, "safetensors", bytes, {"x", "y"}))
    assert.same({dtype = "F8_E4M3", shape = {4}, problem = "its dtype is F8_E4M3"},
      loaded("safetensors", bytes, {list = true}).y)
  end)

  it("says the form of nested tables, and says it well", function()
    local function formed(form)
      form = form:gsub('[\\"]', "\\%0")
      return safetensors('{"__metadata__":{"moongrad":"' .. form .. '"},"x":{' .. ONE .. "}}")
    end
    local t = loaded("safetensors", formed '{"a":1}')
    assert(t.a == 1 and t.x:item() == 1.5) -- an array that another program has added
    for _, form in ipairs{
      "", "3", "null", '{"y":null}', '{"a":{"#":"b"}}', '{"a":{"#":"bytes"}}', '{"x":3}',
      '{"a":{"#":"bytes","hex":"0"}}', '{"a":{"#":"bytes","hex":"0g"}}', '{"#":"table"}',
      '{"#":"table","pairs":[[1]]}', '{"#":"table","pairs":[[1,2],[1,3]]}', '{"a":1}x',
      '{"#":"table","pairs":[[true,2]]}', '{"#":"table","pairs":{}}', ('{"a":'):rep(1000),
    } do
      assert(raises("load: ", loaded, "safetensors", formed(form)), form)
    end
  end)
end)

-- ---- npz --------------------------------------------------------------------------------------

local function crc(bytes) return math.tointeger(zlib.crc32()(bytes)) end

-- A zip of members {name, bytes}. m.head, m.central change what the headers say, m.extra and
-- m.behind stand in them and behind the data; z changes the end record.
local function zip(members, z)
  local parts, directory, at = {z and z.before or ""}, {}, #(z and z.before or "")
  for _, m in ipairs(members) do
    local data = m.deflate and zlib.deflate(9, -15)(m[2], "finish") or m[2]
    local function header(change, extra)
      local e = {flags = 0, method = m.deflate and 8 or 0, crc = crc(m[2]), packed = #data,
                 size = #m[2], name = m[1]}
      for k, v in pairs(change or {}) do e[k] = v end
      return ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, e.flags, e.method, 0, 33, e.crc, e.packed, e.size,
        #e.name, #(extra or "")), e.name .. (extra or "")
    end
    local common, rest = header(m.head, m.extra)
    local own, tail = header(m.central, m.central_extra)
    parts[#parts + 1] = "PK\3\4" .. common .. rest .. data .. (m.behind or "")
    directory[#directory + 1] = "PK\1\2" .. ("<I2"):pack(20) .. own ..
      ("<I2I2I2I4I4"):pack(0, 0, 0, 0, m.at or at) .. tail
    at = at + #parts[#parts]
  end
  local list = table.concat(directory)
  local e = {count = #members, here = #members, length = #list, start = at, disk = 0, comment = "",
             between = "", after = ""}
  for k, v in pairs(z or {}) do e[k] = v end
  return table.concat(parts) .. list .. e.between ..
    "PK\5\6" .. ("<I2I2I2I2I4I4s2"):pack(e.disk, 0, e.here, e.count, e.length, e.start,
    e.comment) .. e.after
end

describe("a .npz file", function()
  helper.guard(before_each, after_each)

  local x = npy(DICT, ("<d"):pack(1.5))
  local function reads(members, z)
    assert.equal(1.5, loaded("npz", zip(members, z)).x:item())
  end

  it("is a zip in any of its forms", function()
    reads{{"x.npy", x}}
    reads{{"x.npy", x, deflate = true}, {"y.npy", x}}
    reads({{"x.npy", x}}, {comment = "a comment"})
    assert.same({}, loaded("npz", zip{}))
    local long = {size = 0xffffffff, packed = 0xffffffff}
    local sizes = ("<I2I2I8I8"):pack(1, 16, #x, #x)
    reads{{"x.npy", x, head = long, extra = sizes}} -- as NumPy writes it
    reads{{"x.npy", x, head = long, extra = sizes, central = long, central_extra = sizes}}
    local late = {flags = 8}
    local behind = ("<I4I4I4"):pack(crc(x), #x, #x)
    for _, tail in ipairs{behind, "PK\7\8" .. behind, ("<I4I8I8"):pack(crc(x), #x, #x)} do
      reads{{"x.npy", x, head = {flags = 8, crc = 0, size = 0, packed = 0}, central = late,
             behind = tail}, {"y.npy", x}}
    end
    local bytes = zip{{"x.npy", x}, {"y.npy", x}}
    local start, count = #bytes - 22, 2 -- the same with zip64's end record
    local first = ("<I4"):unpack(bytes, #bytes - 5)
    local record = "PK\6\6" .. ("<I8I2I2I4I4I8I8I8I8"):pack(44, 45, 45, 0, 0, count, count,
      start - first, first)
    local locator = "PK\6\7" .. ("<I4I8I4"):pack(0, start, 1)
    local stop = "PK\5\6" .. ("<I2I2I2I2I4I4I2"):pack(0, 0, 0xffff, 0xffff, 0xffffffff, 0xffffffff,
      0)
    assert.equal(1.5, loaded("npz", bytes:sub(1, start) .. record .. locator .. stop).y:item())
    for _, changed in ipairs{record:gsub("^PK", "pk"), record:gsub("\2", "\3", 1)} do
      assert(raises("load: ", loaded, "npz", bytes:sub(1, start) .. changed .. locator .. stop))
    end
  end)

  it("says everything the same twice, once, and wholly", function()
    local function refused(text, members, z)
      assert(raises(text, loaded, "npz", zip(members, z)))
    end
    local X = {"x.npy", x}
    refused("has another name there", {{"x.npy", x, head = {name = "y.npy"}}})
    refused("two members are called x", {X, X})
    refused("two members are called x", {X, {"x", x}})
    refused("no UTF-8, or has a NUL", {{"\xff.npy", x}})
    refused("no UTF-8, or has a NUL", {{"a\0.npy", x}})
    for _, change in ipairs{{flags = 2}, {method = 8}, {crc = 1}, {size = 3}, {packed = 3},
                            {flags = 8}} do
      refused("load: ", {{"x.npy", x, head = change}})
      refused("load: ", {{"x.npy", x, central = change}})
    end
    refused("the CRC differs", {{"x.npy", x, head = {crc = 1}, central = {crc = 1}}})
    refused("belong to nobody after member x", {{"x.npy", x, behind = "junk"}, {"y.npy", x}})
    refused("belong to nobody after member y", {X, {"y.npy", x, behind = "junk"}})
    refused("bytes stand before", {X}, {before = "junk"})
    refused("bytes behind its end", {X}, {after = "junk"})
    refused("before or behind it", {X}, {between = "junk"})
    refused("several disks", {X}, {disk = 1})
    refused("several disks", {X}, {count = 2})
    refused("directory is broken", {X}, {count = 2, here = 2})
    refused("directory is broken", {X, {"y.npy", x}}, {count = 1, here = 1})
    refused("load: ", {X}, {length = 3})
    refused("load: ", {X}, {start = 1})
    refused("not where the directory says", {X, {"y.npy", x, at = 0}})
    refused("extra field is broken", {{"x.npy", x, extra = ("<I2I2"):pack(1, 100)}})
    refused("load: ", {{"x.npy", x, central = {size = 0xffffffff, packed = 0xffffffff}}})
    refused("no .npy data", {{"x.npy", "no array"}})
    refused("does not fit", {{"x.npy", x .. "\0"}})
  end)

  it("is limited before it is inflated", function()
    local head = "{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }"
    local big = npy(head:format(10^9 | 0), ("\0"):rep(1000))
    local claim = {size = 10^9 + #big - 1000 | 0}
    assert(raises("cannot become", loaded, "npz", zip{{"x.npy", big, deflate = true, head = claim,
      central = claim}}))
    claim = {size = #x + 1}
    assert(raises("load: ", loaded, "npz", zip{{"x.npy", x, deflate = true, head = claim,
      central = claim}}))
    local zeros = zip{{"x.npy", npy(head:format(10^7 | 0), ("\0"):rep(10^7 | 0)), deflate = true}}
    assert.equal(10^7 | 0, loaded("npz", zeros).x.size)
    mg.memory_limit(helper.settle() + (1 << 20))
    finally(function() mg.memory_limit(0) end)
    assert(raises("out of memory", loaded, "npz", zeros))
  end)

  it("is no reason to read what cannot be", function()
    local path, far = child.path "", 1 << 32
    local function sparse(ending, ...)
      local f <close> = assert(io.open(path .. ending, "wb"))
      for _, part in ipairs{...} do
        if type(part) == "number" then f:seek("set", part) else f:write(part) end
      end
      return path .. ending
    end
    local function end_record(count, size, start)
      return "PK\5\6" .. ("<I2I2I2I2I4I4I2"):pack(0, 0, count, count, size, start, 0)
    end
    mg.memory_limit(helper.settle() + (1 << 20))
    finally(function() mg.memory_limit(0) end)
    local most = 0xfffffff0
    assert(raises("the zip directory is broken", mg.load,
      sparse(".npz", most, end_record(9, most, 0))))
    local late = ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 8, 0, 0, 0x21, 0, 0, 0, 5, 0)
    local directory = "PK\1\2\20\0" .. late .. ("\0"):rep(14) .. "x.npy"
    assert(raises("bytes belong to nobody after member x.npy", mg.load, sparse(".npz",
      "PK\3\4" .. late .. "x.npy", most, directory, end_record(1, #directory, most))))
    assert(raises("it is too large for a picture", mg.load, sparse(".png", far, "x")))
    assert(raises(".txt: out of memory: 4294967297 bytes wanted", mg.data.Text,
      {path = sparse(".txt", far, "x")}))
  end)

  it("may hold what is no array of ours: only who asks for it by name is told", function()
    local bytes = zip{{"x.npy", x}, {"readme.txt", "hello"}, {"c.npy", npy(dict("<f8", "<c8"))},
      {"m.npy", x, head = {method = 9}, central = {method = 9}},
      {"e.npy", x, head = {flags = 1}, central = {flags = 1}}}
    local t
    local text = said(function() t = loaded("npz", bytes) end)
    assert.equal(1.5, t.x:item())
    t.x = nil
    assert.is_nil(next(t))
    for name, problem in pairs{["readme.txt"] = "it is no .npy member", c = "numpy dtype <c8",
                               m = "its compression is unknown", e = "it is encrypted"} do
      assert(text:find(name .. " is left out: " .. problem, 1, true), text)
      assert(raises(name .. " cannot be read: " .. problem, loaded, "npz", bytes, {name}))
    end
    text = said(function()
      assert.is_nil(loaded("npz", (zip{{"x.npy", x}}:gsub("PK\1\2(..).", "PK\1\2%1\127"))).x)
    end)
    assert(text:find("x is left out: it needs a later version of zip", 1, true), text)
    assert.same({dtype = "<c8", shape = {1}, problem = "numpy dtype <c8 is none of ours"},
      loaded("npz", bytes, {list = true}).c)
    assert.equal("its compression is unknown", tostring(loaded("npz", bytes, {list = true}).m))
  end)

  it("has its metadata in a member", function()
    local function with(text)
      local head = "{'descr': '|S%d', 'fortran_order': False, 'shape': (), }"
      return zip{{"x.npy", x}, {"__metadata__.npy", npy(head:format(#text), text)}}
    end
    local t, metadata = loaded("npz", with '{"a":"b"}')
    assert.equal(1.5, t.x:item())
    assert.same({a = "b"}, metadata)
    for _, text in ipairs{"{", "[]", '{"a":1}', ""} do
      assert(raises("load: ", loaded, "npz", with(text)), text)
    end
    assert.equal(1.5, loaded("npz", zip{{"__metadata__.npy", x}}).__metadata__:item())
  end)
end)

-- ---- idx, and others --------------------------------------------------------------------------

describe("an idx file", function()
  helper.guard(before_each, after_each)

  local bytes = "\0\0\x0b\2" .. (">I4I4i2i2i2i2"):pack(2, 2, 1, -2, 3, 4)
  it("is plain or gzipped, of any of its types", function()
    assert.same({{1, -2}, {3, 4}}, loaded("idx", bytes):totable())
    local zipped = zlib.deflate(9, 31)(bytes, "finish")
    assert.same({{1, -2}, {3, 4}}, loaded("idx.gz", zipped):totable())
    assert.same({{1, -2}, {3, 4}}, loaded("x-idx2-short.gz", zipped):totable())
    assert.same({dtype = "int16", shape = {2, 2}}, loaded("idx", bytes, {list = true}))
    assert(helper.same(loaded("idx", "\0\0\x0d\1" .. (">I4f"):pack(1, 1.5)),
      mg.tensor({1.5}, "float32")))
    local first = zlib.deflate(9, 31)(bytes:sub(1, 9), "finish")
    local second = zlib.deflate(9, 31)(bytes:sub(10), "finish")
    assert.equal(2, loaded("idx.gz", first .. second).shape[1]) -- two, one after the other
    for _, n in ipairs{1, 511, 200000} do -- zeros fill a tape's block, as gzip has it
      local zeros = ("\0"):rep(n)
      assert.same({{1, -2}, {3, 4}}, loaded("idx.gz", first .. zeros .. second .. zeros):totable())
    end
  end)

  it("is refused if it is less or more than it says", function()
    local zipped = zlib.deflate(9, 31)(bytes, "finish")
    for _, bad in ipairs{"", "\0", "\0\0\x0b\0", bytes:sub(1, -2), bytes .. "\0",
                         "\1" .. bytes:sub(2), "\0\0\x0a" .. bytes:sub(4),
                         "\0\0\8\xff" .. ("\0"):rep(20)} do
      assert(raises("not an idx file", loaded, "idx", bad))
    end
    for _, bad in ipairs{"", "\0", bytes, zipped:sub(1, -2), zipped .. "\1", zipped .. "\0\1",
                         zipped .. zipped, "\0" .. zipped,
                         zipped:sub(1, 15) .. "\0" .. zipped:sub(17)} do
      assert(raises("load: ", loaded, "idx.gz", bad), ("%q"):format(bad))
    end
    local bomb = "\0\0\8\2" .. (">I4I4"):pack(1 << 20, 1 << 20)
    bomb = zlib.deflate(9, 31)(bomb, "finish")
    assert(raises("not an idx file", loaded, "idx.gz", bomb))
  end)
end)

describe("a file of arrays", function()
  helper.guard(before_each, after_each)

  it("lets pass what a hook throws while it is read", function()
    local thrown, endings = {"by a hook"}, {".npy", ".npz", ".safetensors"}
    for _, ending in ipairs(endings) do
      local path = child.path(ending)
      mg.save(path, ending == ".npy" and mg.ones(2) or {x = mg.ones(2), y = mg.ones(3)})
      local n, ok, err = 0
      repeat
        n = n + 20
        ok, err = pcall(function()
          debug.sethook(function()
            debug.sethook()
            error(thrown, 0)
          end, "", n)
          mg.load(path)
          debug.sethook()
        end)
        assert(ok or err == thrown, tostring(err))
      until ok
    end
  end)

  it("is named where there is no memory for it", function()
    local path, n = child.path "", 10^6 | 0
    local zeros = ("\0"):rep(n)
    local bytes = {
      [".npy"] = npy(("{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }"):format(n),
        zeros),
      [".safetensors"] = ("<s8"):pack(('{"x":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}')
        :format(n, n)) .. zeros,
      ["-idx1-ubyte"] = (">I2BBI4"):pack(0, 8, 1, n) .. zeros,
    }
    bytes[".npz"] = zip{{"x.npy", bytes[".npy"]}}
    for ending, all in pairs(bytes) do
      local file <close> = assert(io.open(path .. ending, "wb"))
      file:write(all)
    end
    mg.memory_limit(helper.settle() + (1 << 19))
    finally(function() mg.memory_limit(0) end)
    for ending in pairs(bytes) do
      assert(raises(path .. ending .. (ending == ".npz" and ": x.npy" or "") ..
        ": out of memory: 1000000 bytes wanted", mg.load, path .. ending))
    end
  end)
end)

describe("a pickle of PyTorch's", function()
  it("is not read; what converts it is said", function()
    assert(raises("this converts it:\npython3 -c", mg.load, "no/it's.pt"))
    local _, message = pcall(mg.load, "no/it's.pth")
    assert(message:find([['no/it'\''s.pth' 'no/it'\''s.safetensors']], 1, true), message)
  end)
end)
