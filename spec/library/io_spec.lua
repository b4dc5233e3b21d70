-- Files: what is saved comes back; what others wrote is read; what nobody should trust is refused.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises
local zlib = require "zlib"

local function samples()
  return {
    a = mg.Variable{{1.5, -2}, {math.huge, 1e-300}},
    b = mg.rand{3, 4, 5, dtype = "float32"},
    c = mg.tensor({math.mininteger, 0, math.maxinteger}, "int64"),
    d = mg.tensor({0, 255}, "uint8"),
    e = mg.tensor{{true, false, true}},
    f = mg.tensor(3.25),
    g = mg.zeros(0, 3),
    ["a name\n\"quoted\" \\ übel"] = mg.ones(1),
    h = mg.range(1, 6):reshape(2, 3).T,
  }
end

-- The same form, numbers and strings; Variables of the same bits.
local function alike(a, b, path)
  if mg.is_variable(b) then return helper.same(a, b) end
  if type(b) ~= "table" then
    local same = a == b and math.type(a) == math.type(b) or a ~= a and b ~= b
    return same and (a ~= 0 or 1 / a == 1 / b), ("%s is %s, expected %s"):format(path, a, b)
  end
  for k in pairs(a) do
    if b[k] == nil then return false, path .. "." .. k .. " is too much" end
  end
  for k, v in pairs(b) do
    local ok, message = alike(a[k], v, path .. "." .. k)
    if not ok then return false, message end
  end
  return true
end

describe("saved and loaded again", function()
  helper.guard(before_each, after_each)

  for _, kind in ipairs{".safetensors", ".npz"} do
    it("a table as " .. kind, function()
      local path = child.folder() .. "/t" .. kind
      local t = samples()
      mg.save(path, t)
      local got = mg.load(path)
      for name, x in pairs(t) do
        assert(helper.same(got[name], x.data))
        assert.is_false(got[name].requires_grad)
        got[name] = nil
      end
      assert.is_nil(next(got))
    end)

    it("tables of any form as " .. kind, function()
      local path = child.folder() .. "/t" .. kind
      local t = {
        model = {["0.weight"] = mg.rand(2, 3), ["0.bias"] = mg.rand(3)},
        layers = {{w = mg.ones(2)}, {w = mg.zeros(2)}, 7, "x"},
        lr = 0.1, step = 3, one = 1.0, least = math.mininteger, zero = -0.0,
        inf = math.huge, less = -math.huge, nan = 0 / 0,
        note = "\u{fc}\n\0\"\\", bytes = "\255\0", yes = true, no = false,
        empty = {}, [3] = "three", ["#"] = "hash", [""] = mg.ones(1),
        mixed = {1, 2, [5] = 3, a = false}, holes = {[1] = 1, [3] = mg.ones(1)},
        rng = mg.get_rng_state(),
      }
      mg.save(path, t)
      assert(alike(mg.load(path), t, "t"))
      mg.save(path, {})
      assert.same({}, (mg.load(path)))
    end)

    it("parts of a file as " .. kind, function()
      local path = child.folder() .. "/t" .. kind
      mg.save(path, {a = mg.ones(2), ["a.b"] = mg.zeros(2)})
      assert(alike(mg.load(path, {"a.b"}), {["a.b"] = mg.zeros(2)}, "t"))
      assert(raises("t" .. kind .. ": there is no c in it", mg.load, path, {"a", "c"}))
      mg.save(path, {model = {w = mg.ones(2), b = mg.zeros(2)}, epoch = 3, no = false})
      assert(alike(mg.load(path, {"model.w", "no"}), {model = {w = mg.ones(2)}, no = false}, "t"))
      assert(alike(mg.load(path, {"model"}), {model = {w = mg.ones(2), b = mg.zeros(2)}}, "t"))
      assert(raises("there is no model.x in it", mg.load, path, {"model.x"}))
      assert(raises("name 2 is a number", mg.load, path, {"model", 3}))
      local twice = {a = {b = 1}, ["a.b"] = 2, x = mg.ones(2)}
      mg.save(path, twice)
      assert(alike(mg.load(path), twice, "t"))
      assert(alike(mg.load(path, {"a"}), {a = {b = 1}}, "t"))
      assert(raises("two things are called a.b", mg.load, path, {"a.b"}))
      assert(raises("load: unknown option names", mg.load, path, {names = {"model"}}))
      for _, model in ipairs{mg.nn.Linear(2, 2), mg.nn.Identity()} do
        assert(raises("load: argument 2 is a module, expected names and options: model:load(path)",
          mg.load, path, model))
      end
      local unnamed = {[""] = {a = mg.ones(2), [""] = 3}, a = mg.zeros(2)}
      mg.save(path, unnamed)
      assert(alike(mg.load(path), unnamed, "t"))
      assert(alike(mg.load(path, {""}), {[""] = unnamed[""]}, "t"))
      assert(alike(mg.load(path, {".a"}), {[""] = {a = mg.ones(2)}}, "t"))
    end)

    it("what is in a file as " .. kind, function()
      local path = child.folder() .. "/t" .. kind
      local k = mg.tensor({1, 2}, "int64")
      mg.save(path, {a = mg.ones(2, 3), l = {k}, n = 3}, {dtype = "int8"})
      assert.same({a = {dtype = "float64", shape = {2, 3}},
                   ["l.1"] = {dtype = "int8", shape = {2}}}, (mg.load(path, {list = true})))
      local one = mg.load(path, {"l.1", list = true})
      assert.same({["l.1"] = {dtype = "int8", shape = {2}}}, one)
      assert.equal("l.1  int8 (2)", tostring(one))
      assert.equal("int8 (2)", tostring(one["l.1"]))
    end)

    it("metadata as " .. kind, function()
      local path = child.folder() .. "/t" .. kind
      local given = {format = "pt", ["a \"b\""] = "\u{fc}\0\n"}
      for _, t in ipairs{{x = mg.ones(2)}, {x = {mg.ones(2)}, 3}} do
        mg.save(path, t, {metadata = given})
        local got, metadata = mg.load(path)
        assert(alike(got, t, "t"))
        assert.same(given, metadata)
        assert.same(given, select(2, mg.load(path, {list = true})))
        mg.save(path, t)
        assert.equal(1, select("#", mg.load(path)))
      end
      assert(raises("metadata: a is a number", mg.save, path, {}, {metadata = {a = 3}}))
      assert(raises("metadata: a number is no name", mg.save, path, {}, {metadata = {"a"}}))
      assert(raises("is no UTF-8", mg.save, path, {}, {metadata = {a = "\255"}}))
      assert(raises("the name moongrad is taken", mg.save, path, {}, {metadata = {moongrad = "a"}}))
      assert(raises("metadata is a number", mg.save, path, {}, {metadata = 3}))
    end)

    it("a checkpoint as " .. kind, function()
      local path = child.folder() .. "/t" .. kind
      local nn, optim = mg.nn, mg.optim
      local function make()
        local model = nn.Sequential(nn.Linear(3, 4), mg.tanh, nn.Linear(4, 1))
        return model, optim.Adam(model, {lr = 0.25})
      end
      local function step(model, opt)
        model:cleargrads()
        model(mg.ones(2, 3)):sum():backward()
        opt:step()
      end
      local model, opt = make()
      step(model, opt)
      local rng = mg.get_rng_state()
      mg.save(path, {model = model:state(), opt = opt:state(), epoch = 3, rng = rng})
      local other, its = make()
      local t = mg.load(path)
      other:load_state(t.model)
      its:load_state(t.opt)
      assert.equal(3, t.epoch)
      assert.same(rng, t.rng)
      step(model, opt)
      step(other, its)
      for name, x in pairs(model:state()) do assert(helper.same(other:state()[name], x)) end
    end)
  end

  it("one Variable as .npy", function()
    local path = child.folder() .. "/x.npy"
    for _, x in pairs(samples()) do
      mg.save(path, x)
      assert(helper.same(mg.load(path), x.data))
    end
  end)

  it("by the dtypes of files", function()
    local folder = child.folder()
    local x = mg.tensor{1, -2.5, 65504, 1 / 3, 2^-24, 1e-40, math.huge, 0 / 0, 1e300}
    local k = mg.tensor({0, 1, 100, 127}, "int64")
    -- by hand: 65504 is the largest float16, 2^-24 the least; a bfloat16 has 8 bits
    local want = {
      float16 = {1, -2.5, 65504, 0x1.554p-2, 2^-24, 0, math.huge, 0 / 0, math.huge},
      bfloat16 = {1, -2.5, 65536, 0x1.56p-2, 2^-24, 2^-133, math.huge, 0 / 0, math.huge},
      float32 = x:to("float32"):totable(),
      float64 = x:totable(),
    }
    for dtype, values in pairs(want) do
      local path = folder .. "/x.safetensors"
      mg.save(path, {x = x, k = k}, {dtype = dtype})
      local got = mg.load(path)
      assert(helper.same(got.x, mg.tensor(values, dtype == "float64" and dtype or "float32")))
      assert(helper.same(got.k, k))
      assert.equal(dtype, (mg.load(path, {list = true})).x.dtype)
    end
    for _, dtype in ipairs{"int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"} do
      for _, kind in ipairs{".safetensors", ".npz"} do
        local path = folder .. "/k" .. kind
        mg.save(path, {x = x, k = k}, {dtype = dtype})
        local got = mg.load(path)
        assert(helper.same(got.k, k))
        assert(helper.same(got.x, x))
        assert.equal(dtype, (mg.load(path, {list = true})).k.dtype)
      end
      mg.save(folder .. "/k.npy", k, {dtype = dtype})
      assert.same({dtype = dtype, shape = {4}}, mg.load(folder .. "/k.npy", {list = true}))
      mg.save(folder .. "/k.npy", mg.tensor{2.5, 3.5, 1.0}, {dtype = dtype})  -- to even
      assert.same({2, 4, 1}, mg.load(folder .. "/k.npy"):totable())
    end
    mg.save(folder .. "/k.npy", k, {dtype = "uint8"})
    assert(helper.same(mg.load(folder .. "/k.npy"), k:to "uint8"))
    mg.save(folder .. "/k.npy", k, {dtype = "float16"})
    assert(helper.same(mg.load(folder .. "/k.npy"), k:to "float32"))
    mg.save(folder .. "/m.npz", {b = mg.tensor{true}, k = k}, {dtype = "int16"}) -- each of its kind
    assert(helper.same(mg.load(folder .. "/m.npz").b, mg.tensor{true}))
    assert(helper.same(mg.load(folder .. "/m.npz").k, k))
    mg.save(folder .. "/k.npy", mg.tensor(7, "int64"), {dtype = "int16"})
    assert(helper.same(mg.load(folder .. "/k.npy"), mg.tensor(7, "int64")))
  end)

  it("unless a dtype cannot hold a whole number", function()
    local path = child.folder() .. "/x.npy"
    for dtype, bad in pairs{
      int8 = {128, -129}, int16 = {32768}, int32 = {1 << 31}, uint8 = {-1, 256},
      uint16 = {-1, 65536}, uint32 = {1 << 32}, uint64 = {-1}, bool = {2}, float16 = {2049, 65536},
      float32 = {(1 << 24) + 1}, float64 = {(1 << 53) + 1, math.maxinteger},
    } do
      for _, v in ipairs(bad) do
        local message = ("save: %s: %s cannot hold %d, at position 2"):format(path, dtype, v)
        assert(raises(message, mg.save, path, mg.tensor({1, v}, "int64"), {dtype = dtype}))
      end
    end
    for _, v in ipairs{300.0, -129.5, 0 / 0, math.huge} do
      assert(raises("int8 cannot hold", mg.save, path, mg.tensor{1, v}, {dtype = "int8"}))
    end
    assert(raises('got "float8"', mg.save, path, mg.ones(1), {dtype = "float8"}))
    child.write(path, "\x93NUMPY\1\0" ..
      ("<s2"):pack "{'descr': '|S3', 'fortran_order': False, 'shape': ()}" .. "abc")
    assert(raises("x.npy: it cannot be read: numpy dtype", mg.load, path))
    os.remove(path)
    assert(raises("NumPy has no bfloat16", mg.save, path, mg.ones(1), {dtype = "bfloat16"}))
    assert(raises("unknown option dtpe", mg.save, path, mg.ones(1), {dtpe = "int8"}))
    assert.is_nil(io.open(path))
  end)

  it("as bytes of other dtypes", function()
    local x = mg.tensor{1.5, -2}
    assert.equal("\xc0\x3f\0\xc0", x:tobytes "bfloat16")
    assert(helper.same(mg.frombytes("\xc0\x3f\0\xc0", "bfloat16", {2}), x:to "float32"))
    assert(helper.same(mg.frombytes("\xff\xff", "int16", {}), mg.tensor(-1, "int64")))
    assert(raises("uint64 at position 2 is more", mg.frombytes,
      ("\0"):rep(8) .. ("\xff"):rep(8), "uint64", {2}))
    assert(raises("tobytes: int8 cannot hold 300, at position 2", mg.tobytes,
      mg.tensor({1, 300}, "int64"), "int8"))
  end)

  it("the same bytes every time", function()
    local folder = child.folder()
    for _, kind in ipairs{".safetensors", ".npz"} do
      mg.seed(0)
      mg.save(folder .. "/a" .. kind, samples())
      mg.seed(0)
      mg.save(folder .. "/b" .. kind, samples())
      assert.equal(child.read(folder .. "/a" .. kind), child.read(folder .. "/b" .. kind))
    end
  end)
end)

-- The file `x.kind` with these bytes.
local function loaded(kind, bytes)
  local path = child.path("." .. kind)
  child.write(path, bytes)
  return mg.load(path)
end

local function safetensors(header, body)
  return ("<I8"):pack(#header) .. header .. (body or "")
end

local function npy(dict, body)
  return "\x93NUMPY\1\0" .. ("<s2"):pack(dict) .. (body or "")
end

-- A zip of one deflated member.
local function npz(name, bytes, change)
  local packed, crc = zlib.deflate(9, -15)(bytes, "finish"), math.tointeger(zlib.crc32()(bytes))
  local e = {method = 8, flags = 0, crc = crc, packed = #packed, size = #bytes, at = 0}
  for k, v in pairs(change or {}) do e[k] = v end
  local common = ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, e.flags, e.method, 0, 33, e.crc, e.packed,
    e.size, #name, 0)
  local head = "PK\3\4" .. common .. name .. packed
  local directory = "PK\1\2" .. ("<I2"):pack(20) .. common ..
    ("<I2I2I2I4I4"):pack(0, 0, 0, 0, e.at) .. name
  return head .. directory .. "PK\5\6" ..
    ("<I2I2I2I2I4I4I2"):pack(0, 0, 1, 1, #directory, #head, 0)
end

describe("of others is read", function()
  helper.guard(before_each, after_each)

  it("a .safetensors file with metadata", function()
    local got = loaded("safetensors", safetensors(
      '{"__metadata__":{"format":"pt"},' ..
      '"b":{"dtype":"I64","shape":[],"data_offsets":[8,16]},' ..
      '"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}   ',
      ("<ffi8"):pack(1.5, -2, 7)))
    assert(helper.same(got.a, mg.tensor({{1.5, -2}}, "float32")))
    assert.equal(7, got.b:item())
    assert.is_nil(got.__metadata__)
  end)

  it("a .npy file of NumPy, in Fortran's order too", function()
    local dict = "{'descr': '<f8', 'fortran_order': %s, 'shape': (2, 3), }"
    local body = ("<dddddd"):pack(1, 2, 3, 4, 5, 6)
    assert(helper.same(loaded("npy", npy(dict:format "False", body)),
      mg.tensor{{1, 2, 3}, {4, 5, 6}}))
    assert(helper.same(loaded("npy", npy(dict:format "True", body)),
      mg.tensor{{1, 3, 5}, {2, 4, 6}}))
    local v2 = "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }"
    assert(helper.same(loaded("npy", "\x93NUMPY\2\0" .. ("<s4"):pack(v2) .. "\3\4"),
      mg.tensor({3, 4}, "uint8")))
  end)

  it("a compressed .npz file", function()
    local got = loaded("npz", npz("x.npy",
      npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000,), }", ("\0"):rep(8000))))
    assert(helper.same(got.x, mg.zeros(1000)))
  end)
end)

describe("a model's state", function()
  helper.guard(before_each, after_each)

  it("is taken from a file with metadata, and saved by other dtypes", function()
    local path = child.folder() .. "/m.safetensors"
    local model, other = mg.nn.Linear(2, 3), mg.nn.Linear(2, 3)
    model:save(path, {dtype = "bfloat16", metadata = {format = "pt"}})
    assert.same({dtype = "bfloat16", shape = {3, 2}}, (mg.load(path, {list = true})).weight)
    other:load_state(mg.load(path))
    assert(helper.near(other.weight.data, model.weight.data, 1e-2))
    local opt = mg.optim.SGD(model)
    mg.save(path, opt:state(), {metadata = {epoch = "3"}})
    opt:load_state(mg.load(path))
  end)
end)

describe("a file that cannot be trusted is refused:", function()
  helper.guard(before_each, after_each)

  local function refused(kind, cases)
    for i, case in ipairs(cases) do
      local ok, message = raises(case[2] or "load: ", loaded, kind, case[1])
      assert(ok, ("case %d: %s"):format(i, message))
    end
  end

  it(".safetensors", function()
    local function entry(fields, body) return safetensors('{"x":{' .. fields .. "}}", body) end
    refused("safetensors", {
      {"", "ends too early"},
      {"\8\0\0", "ends too early"},
      {("<I8"):pack(1 << 62) .. "{}", "does not fit a file"},
      {("<i8"):pack(-1) .. "{}", "does not fit a file"},
      {("<I8"):pack(3) .. "{}", "does not fit a file"},
      {safetensors '{"x":', "the header is not JSON"},
      {safetensors '[1, 2]', nil},
      {safetensors(("["):rep(100000)), nil},
      {safetensors '{"x":3}', "malformed"},
      {entry '"dtype":"F64","shape":[1]', "malformed"},
      {entry('"dtype":"F64","shape":[1],"data_offsets":["a","b"]', ("\0"):rep(8)), "malformed"},
      {entry('"dtype":"Q7","shape":[1],"data_offsets":[0,2]', "\0\0"), "has dtype Q7"},
      {entry('"shape":[1],"data_offsets":[0,2]', "\0\0"), "has dtype nil"},
      {entry('"dtype":"F64","shape":[2],"data_offsets":[0,8]', ("\0"):rep(8)), "does not fit"},
      {entry('"dtype":"F64","shape":[-1],"data_offsets":[0,8]', ("\0"):rep(8)), "does not fit"},
      {entry('"dtype":"F64","shape":[1.5],"data_offsets":[0,8]', ("\0"):rep(8)), "does not fit"},
      {entry('"dtype":"F64","shape":"x","data_offsets":[0,8]', ("\0"):rep(8)), "does not fit"},
      {entry('"dtype":"F64","shape":[1],"data_offsets":[0,8]', "\0"), "does not fit"},
      {entry('"dtype":"F64","shape":[1],"data_offsets":[-8,0]', ("\0"):rep(8)), "does not fit"},
      {entry('"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,0]'), nil},
      {entry('"dtype":"U8","shape":[1],"data_offsets":[1,2]', "\0\0"), "a gap or an overlap"},
      {entry('"dtype":"U8","shape":[1],"data_offsets":[0,1]', "\0\0"), "belong to no array"},
      {entry('"dtype":"BOOL","shape":[1],"data_offsets":[0,1]', "\2"), "neither 0 nor 1"},
      {safetensors('{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},' ..
        '"y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', "\0\0\0"), "overlap"},
    })
  end)

  it(".npy", function()
    local function dict(descr, shape)
      return ("{'descr': %s, 'fortran_order': False, 'shape': %s, }"):format(descr, shape)
    end
    refused("npy", {
      {"", "no .npy data"},
      {"\x93NUMPY", "no .npy data"},
      {("x"):rep(100), "no .npy data"},
      {"\x93NUMPY\9\0" .. ("\0"):rep(20), "version 9 is unknown"},
      {"\x93NUMPY\1\0\255\255" .. ("x"):rep(20), "ends too early"},
      {npy "{'descr': '<f8'}", "malformed"},
      {npy(dict("'<c16'", "(1,)"), ("\0"):rep(16)), "numpy dtype <c16"},
      {npy(dict("'|O'", "(1,)"), ("\0"):rep(8)), "numpy dtype |O"},
      {npy(dict("[('a', '<f8')]", "(1,)"), ("\0"):rep(8)), "of records"},
      {npy(dict("'<f8'", "(2,)"), ("\0"):rep(8)), "does not fit 8 bytes"},
      {npy(dict("'<f8'", "(1,)"), ("\0"):rep(9)), "does not fit 9 bytes"},
      {npy(dict("'<f8'", "(-1,)"), ("\0"):rep(8)), nil},
      {npy(dict("'<f8'", "(99999999999999999999,)"), ("\0"):rep(8)), "does not fit"},
      {npy(dict("'|u1'", "(4294967296, 4294967296)"), "\0"), "does not fit"},
    })
  end)

  it(".npz", function()
    local x = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (100,), }", ("\0"):rep(100))
    local good = npz("x.npy", x)
    assert.equal(100, loaded("npz", good).x.size)
    refused("npz", {
      {"", "no zip file"},
      {("x"):rep(100), "no zip file"},
      {good:sub(1, -2), nil},
      {good:sub(2), nil},
      {npz("x.npy", x, {size = 10}), nil},
      {npz("x.npy", x, {size = 1 << 31}), "damaged"},
      {npz("x.npy", x, {crc = 1}), "damaged"},
      {npz("x.npy", x, {at = 1 << 31}), nil},
      {npz("x.npy", x, {packed = 1 << 31}), "not where the directory says"},
      {npz("x.npy", "no array"), "no .npy data"},
    })
    for cut = 1, #good - 1, 7 do
      local ok, err = pcall(loaded, "npz", good:sub(1, cut))
      assert.is_false(ok)
      assert.equal("string", type(err))
    end
  end)
end)

describe("a file", function()
  helper.guard(before_each, after_each)

  it("that is not there, or is a folder, is an error", function()
    local folder = child.folder()
    assert(raises("load: cannot open " .. folder .. "/no.npz", mg.load, folder .. "/no.npz"))
    os.execute("mkdir " .. folder .. "/dir.npy")
    assert(raises("load: " .. folder .. "/dir.npy", mg.load, folder .. "/dir.npy"))
  end)

  it("of another kind is an error", function()
    assert(raises('save: "x.pt" does not end in .safetensors, .npz, .npy', mg.save, "x.pt", {}))
    assert(raises('load: "x" does not end in', mg.load, "x"))
    assert(raises("save: path must be a string, got number: it stands before the values", mg.save,
      3, {}))
  end)

  it("takes only what fits its kind", function()
    local folder = child.folder()
    local x = mg.ones(2)
    assert(raises("holds a table of Variables by name", mg.save, folder .. "/x.npz", x))
    assert(raises("holds one Variable", mg.save, folder .. "/x.npy", {x = x}))
    assert(raises("save: x.y is a function", mg.save, folder .. "/x.npz", {x = {y = print}}))
    assert(raises("save: two Variables are called a.b", mg.save, folder .. "/x.npz",
      {a = {b = x}, ["a.b"] = x}))
    assert(raises("save: in .safetensors the name __metadata__", mg.save,
      folder .. "/x.safetensors", {["__metadata__"] = x}))
    assert(raises("save: argument 2 is an object of Linear, not a plain table; save its " ..
      ":state()", mg.save,
      folder .. "/x.npz", mg.nn.Linear(2, 3)))
    assert(raises("save: opt is an object of SGD", mg.save, folder .. "/x.npz",
      {opt = mg.optim.SGD{mg.Variable(1)}}))
    mg.save(folder .. "/shape.npz", {shape = x.shape})
    assert.same({2}, mg.load(folder .. "/shape.npz").shape)
    local ring = {}
    ring.ring = ring
    assert(raises("save: tables within tables", mg.save, folder .. "/x.npz", ring))
    assert.is_nil(io.open(folder .. "/x.npz"))
  end)

  it("is replaced as a whole, or not at all", function()
    local folder = child.folder()
    local path = folder .. "/x.npz"
    local function files()
      local pipe <close> = io.popen("ls " .. folder)
      return pipe:read "a"
    end
    mg.save(path, {x = mg.ones(3)})
    local broken = mg.ones(3)
    assert(raises("int8 cannot hold 300", mg.save, path,
      {a = mg.tensor({1}, "int64"), b = mg.tensor({300}, "int64")}, {dtype = "int8"}))
    assert.equal("x.npz\n", files())
    assert(helper.same(mg.load(path).x, mg.ones(3)))
    mg.save(path, {x = mg.zeros(2)})
    assert.equal("x.npz\n", files())
    assert(helper.same(mg.load(path).x, mg.zeros(2)))
    os.execute("mkdir -p " .. folder .. "/dir.npy/full")
    assert(raises("save: " .. folder .. "/dir.npy", mg.save, folder .. "/dir.npy", broken))
    assert.equal("dir.npy\nx.npz\n", files())
    assert(raises("save: cannot write /no/such", mg.save, "/no/such/x.npy", broken))
  end)
end)
