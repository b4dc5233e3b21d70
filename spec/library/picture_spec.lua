-- Pictures: PNG and JPEG in, PNG out. Those of spec/files are made by the script there.

local mg = require "moongrad"
local helper = require "spec.helper"
local child = require "spec.child"
local raises = helper.raises
local same = helper.same

local W, H = 30, 20

-- f(x, y) of all pixels
local function plane(f)
  local rows = {}
  for y = 0, H - 1 do
    rows[y + 1] = {}
    for x = 0, W - 1 do rows[y + 1][x + 1] = f(x, y) end
  end
  return mg.tensor(rows, "int64")
end

local red, green = plane(function(x) return 8 * x end), plane(function(_, y) return 12 * y end)
local blue = plane(function(x, y) return 5 * (x + y) end)
local alpha = plane(function(x) return 255 - 4 * x end)
local rgb = mg.stack{red, green, blue}

local function bytes(x) return x:to "uint8" end
local function path(name) return "spec/files/" .. name end

-- A PNG of 3 by 2 pixels of these chunks, {name, data}; those of pixels are packed here.
local function png(kind, bits, ...)
  local zlib, to = require "zlib", child.path ".png"
  local parts = {"\x89PNG\r\n\x1a\n"}
  local function chunk(name, data)
    if name == "IDAT" then data = zlib.deflate()(data, "finish") end
    local sum = (">I4"):pack(math.tointeger(zlib.crc32()(name .. data)))
    parts[#parts + 1] = (">I4"):pack(#data) .. name .. data .. sum
  end
  chunk("IHDR", (">I4I4BBBBB"):pack(3, 2, bits, kind, 0, 0, 0))
  for _, c in ipairs{...} do chunk(c[1], c[2]) end
  chunk("IEND", "")
  child.write(to, table.concat(parts))
  return to
end

describe("a picture", function()
  helper.guard(before_each, after_each)

  it("as .png is read of any colours", function()
    for name, expected in pairs{
      rgb = bytes(rgb), rgba = bytes(mg.stack{red, green, blue, alpha}), grey = bytes(red),
      grey_alpha = bytes(mg.stack{red, alpha}), grey16 = 257 * red + 1,
      bits = bytes(red:gt(100):to "int64" * 255), palette = bytes(mg.stack{red, red, red}),
      interlaced = bytes(rgb), transparent = bytes(mg.stack{red, red:ne(16):to "int64" * 255}),
    } do
      local got = mg.load(path(name .. ".png"))
      assert(same(got, expected), name)
      assert.same({dtype = name == "grey16" and "uint16" or "uint8", shape = got.shape},
        mg.load(path(name .. ".png"), {list = true}))
    end
  end)

  it("as .jpg is read, baseline and progressive", function()
    for name, expected in pairs{rgb = rgb, progressive = rgb, grey = red} do
      local got = mg.load(path(name .. ".jpg"))
      assert.equal("uint8", got.dtype)
      assert((got:to "int64" - expected):abs():max():item() <= (name == "progressive" and 8 or 4))
      assert.same(expected.shape, mg.load(path(name .. ".jpg"), {list = true}).shape)
    end
  end)

  it("as .jpg has libjpeg's bits, where colours were stored coarsely, too", function()
    for _, name in ipairs{"both", "columns", "rows", "narrow"} do
      assert(same(mg.load(path(name .. ".jpg")), mg.load(path(name .. ".png"))), name)
    end
  end)

  it("becomes floats if it is asked to", function()
    local x = mg.load(path "rgb.png", {dtype = "float32"})
    assert(same(x, rgb:to "float32" / 255))
    assert(helper.near(mg.load(path "grey16.png", {dtype = "float64"}), (257 * red + 1) / 65535))
    assert(same(mg.load(path "rgb.png", {dtype = "int64"}), rgb))
    assert(raises("dtype is of what is loaded, list loads nothing", mg.load, path "grey.png",
      {list = true, dtype = "float32"}))
    assert(raises("uint8 cannot hold values of 16 bits, up to 59625", mg.load,
      "spec/files/grey16.png", {dtype = "uint8"}))
  end)

  it("is written, and comes back", function()
    local to = child.folder() .. "/x.png"
    for _, x in ipairs{rgb, red, mg.stack{red, alpha}, mg.stack{red, green, blue, alpha},
                       red[{{1, 1}, {1, 1}}], rgb[{{}, {3, 3}}], rgb[{{}, {}, {5, 5}}]} do
      mg.save(to, bytes(x))
      assert(same(mg.load(to), bytes(x)))
      mg.save(to, x)
      assert(same(mg.load(to), bytes(x)))
    end
    local noise = bytes(mg.randint and mg.randint(0, 255, {3, 50, 70}) or mg.rand(3, 50, 70) * 255)
    mg.save(to, noise)
    assert(same(mg.load(to), noise))
    local x = mg.rand(3, 20, 30)
    mg.save(to, x)
    local got = mg.load(to)
    assert.equal("float64", got.dtype)
    assert.is_true((got - x):abs():max():item() <= 0.5 / 255 + 1e-12)
    mg.save(to, x:gt(0.5))
    assert(same(mg.load(to), (x:gt(0.5):to "int64" * 255):to "uint8"))
    assert(helper.near(mg.load(to, {dtype = "float64"}), x:gt(0.5):to "float64"))
    mg.save(to, mg.Variable(x))
    assert(same(mg.load(to), got))
  end)

  it("and many become one grid", function()
    local to = child.folder() .. "/x.png"
    local x = mg.range(1, 5 * 2 * 3):to("int64"):reshape(5, 1, 2, 3)
    mg.save(to, x, {padding = 1})
    assert.same({{1, 2, 3, 0, 7, 8, 9, 0, 13, 14, 15}, {4, 5, 6, 0, 10, 11, 12, 0, 16, 17, 18},
                 {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {19, 20, 21, 0, 25, 26, 27, 0, 0, 0, 0},
                 {22, 23, 24, 0, 28, 29, 30, 0, 0, 0, 0}}, mg.load(to):totable())
    assert(same(mg.data.grid(x, {padding = 1}), mg.load(to):to "int64"))
    assert(same(mg.data.grid(x:reshape(5, 2, 3), {padding = 1}), mg.load(to):to "int64"))
    assert.same({3, 2, 2 * 40 + 2}, mg.data.grid(mg.rand(2, 3, 2, 40), {columns = 9}).shape)
    assert.same({3, 8, 3}, mg.data.grid(mg.rand(4, 3, 2, 3), {columns = 1, padding = 0}).shape)
    assert(raises("grid: shape (2, 2)", mg.data.grid, mg.ones(2, 2)))
  end)

  it("that is none is refused", function()
    local to = child.folder() .. "/x.png"
    assert(raises("values -1..1, floats must be 0..1", mg.save, to, mg.tensor{{-1, 1}}))
    assert(raises("floats must be 0..1", mg.save, to, mg.tensor{{0 / 0, 1}}))
    assert(raises("whole numbers must be 0..255", mg.save, to, mg.tensor({{256}}, "int64")))
    assert(raises("(5, 2, 2) is no picture", mg.save, to, mg.ones(5, 2, 2)))
    assert(raises("(2) is no picture", mg.save, to, mg.ones(2)))
    assert(raises("(0, 2) has no pixels", mg.save, to, mg.ones(0, 2)))
    assert(raises("a Variable is expected", mg.save, to, {}))
    assert(raises("columns are those of a grid", mg.save, to, mg.ones(2, 2), {columns = 2}))
    assert(raises("pictures are written as .png", mg.save, (to:gsub("png", "jpg")), mg.ones(2, 2)))
    assert(raises("unknown option dtype", mg.save, to, mg.ones(2, 2), {dtype = "uint8"}))
    assert.is_nil(io.open(to))
  end)

  it("has black for colours that its palette has not", function()
    local x = mg.load(png(3, 8, {"PLTE", "\1\2\3\4\5\6"}, {"IDAT", "\0\0\1\2\0\255\1\0"}))
    assert.same({{{1, 4, 0}, {0, 4, 1}}, {{2, 5, 0}, {0, 5, 2}}, {{3, 6, 0}, {0, 6, 3}}},
      x:totable())
  end)

  it("has as many bits as its colours may have, and one palette before its pixels", function()
    local pixels = {"IDAT", ("\0"):rep(2 * 25)}
    for kind, depths in pairs{[0] = "1 2 4 8 16", [2] = "8 16", [3] = "1 2 4 8", [4] = "8 16",
                              [6] = "8 16"} do
      for bits = 0, 32 do
        local file = png(kind, bits, {"PLTE", "\1\2\3"}, pixels)
        if (" " .. depths .. " "):find(" " .. bits .. " ", 1, true) then
          local x = mg.load(file)
          assert.equal(3, x.shape[x.ndim])
        else
          assert(raises("it is damaged: a bad header", mg.load, file))
        end
      end
    end
    local one, other = {"PLTE", "\1\2\3"}, {"PLTE", "\4\5\6"}
    for _, chunks in ipairs{{one, other, pixels}, {one, pixels, other}, {pixels, one}} do
      assert(raises("chunks out of order", mg.load, png(3, 8, table.unpack(chunks))))
    end
    for _, between in ipairs{"tEXt", "abCd"} do -- no pixels after something else
      local rest = {"IDAT", ""}
      assert(raises("chunks out of order", mg.load, png(3, 8, one, pixels, {between, "a\0"}, rest)))
      assert.equal(3, mg.load(png(3, 8, one, pixels, rest, {between, "a\0"})).ndim)
    end
  end)

  it("that is damaged is refused", function()
    local folder = child.folder()
    local function damaged(name, change)
      local to = folder .. "/" .. name
      child.write(to, change(child.read(path(name))))
      assert(raises("load: " .. to, mg.load, to))
    end
    for _, name in ipairs{"rgb.png", "rgb.jpg", "progressive.jpg"} do
      local n = #child.read(path(name))
      for cut = 1, n - 1, 7 do
        damaged(name, function(s) return s:sub(1, cut) end)
      end
      damaged(name, function() return "GIF89a" end)
      damaged(name, function() return "" end)
    end
    damaged("rgb.png", function(s) return s:gsub("IDAT(.)", "IDAT\0") end)
    damaged("grey.png", function(s) return s:sub(1, 16) .. "\0\0\0\0" .. s:sub(21) end)
    damaged("rgb.png", function(s) -- the sum of the pixels, in a chunk whose own sum is right
      local at = s:find("IDAT", 1, true)
      local n = (">I4"):unpack(s, at - 4)
      local last = at + 3 + n
      local chunk = s:sub(at, last - 1) .. string.char(s:byte(last) ~ 1)
      local sum = (">I4"):pack(math.tointeger(require "zlib".crc32()(chunk)))
      return s:sub(1, at - 1) .. chunk .. sum .. s:sub(last + 5)
    end)
    mg.memory_limit(helper.settle() + 1000)
    finally(function() mg.memory_limit(0) end)
    assert(raises("out of memory", mg.load, path "rgb.png"))
  end)

  it("is whole or an error where memory is short", function()
    local to = child.folder() .. "/x.png"
    local x = bytes(rgb)
    for _, name in ipairs{"interlaced.png", "progressive.jpg"} do
      for n = 1, 40 do
        mg._fail_at(n)
        local ok, err = pcall(mg.load, path(name))
        mg._fail_at(0)
        assert(ok or err:find "out of memory", err)
      end
    end
    for n = 1, 40 do
      mg._fail_at(n)
      local ok, err = pcall(mg.save, to, x)
      mg._fail_at(0)
      assert(ok and same(mg.load(to), x) or err:find "out of memory", err)
    end
  end)
end)
