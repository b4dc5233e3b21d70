-- picture.lua -- .png and .jpg: (H, W), or (C, H, W) of grey and alpha, RGB or RGBA. What was
-- written of floats comes back as floats; anything else as the bytes it is, 16 bits as int64.

local mg = require "moongrad.core"
local raise = mg.raise

local picture = {ending = "png"}

picture.loading = mg.signature "load(path: string, {list: bool = false, dtype: dtype?})"
picture.saving = mg.signature("save(path: string, x: any, " ..
  "{columns: int(1..)?, padding: int(0..)?})")

function picture.get(r, names, list, dtype)
  if names then raise("%s: a picture holds one array, and no names", r:label()) end
  if list then
    if dtype then raise("%s: dtype is of what is loaded, list loads nothing", r:label()) end
    local kind, dims = mg._picture(r, true)
    return {dtype = kind, shape = dims}
  end
  local x, floats = mg._picture(r)
  if not dtype and not floats then return x end
  if dtype and not dtype:find "float" then
    if dtype == "uint8" and x:max():item() > 255 then
      raise("%s: uint8 cannot hold values of 16 bits, up to %d", r:label(), x:max():item())
    end
    return x:to(dtype)
  end
  return x:to(dtype or mg.Config.dtype) / (x.dtype == "uint8" and 255 or 65535)
end

local function shape(x) return "(" .. table.concat(x.shape, ", ") .. ")" end

-- grid(x): pictures (N, H, W) or (N, C, H, W), in rows of so many, as one.
function picture.grid(x, columns, padding)
  local n, dims = #x, x.shape
  columns = math.min(columns or math.ceil(math.sqrt(n)), n)
  local rows = -(-n // columns)
  local c, h, w = dims[3] and x.ndim == 4 and dims[2] or 1, dims[x.ndim - 1], dims[x.ndim]
  x = x:reshape(n, c, h, w):pad({0, padding, 0, padding, 0, 0, 0, rows * columns - n})
  h, w = h + padding, w + padding
  x = x:reshape(rows, columns, c, h, w):permute(3, 1, 4, 2, 5):reshape(c, rows * h, columns * w)
  x = x[{{}, {1, rows * h - padding}, {1, columns * w - padding}}]
  return c == 1 and x[1] or x
end

-- As bytes; and whether they were floats
local function bytes_of(label, x)
  if x.dtype == "uint8" then return x, false end
  if x.dtype == "bool" then return (x:to "uint8" * 255):to "uint8", false end
  local least, most = x:amin():item(), x:amax():item()
  if x.dtype == "int64" then
    if least < 0 or most > 255 then
      raise("%s: values %d..%d, whole numbers must be 0..255", label, least, most)
    end
    return x:to "uint8", false
  end
  if not (least >= 0 and most <= 1) then
    raise("%s: values %g..%g, floats must be 0..1: say x:clamp{min = 0, max = 1}, or uint8", label,
      least, most)
  end
  return (x * 255):round():to "uint8", true
end

-- The bytes of x, (H, W, C), and whether they were floats; many become a grid.
local function pixels(label, x, columns, padding)
  if not mg.is_variable(x) then raise("%s: a Variable is expected, got a %s", label, type(x)) end
  x = x:detach()
  if x.size == 0 then raise("%s: %s has no pixels", label, shape(x)) end
  if x.ndim == 4 then x = picture.grid(x, columns, padding or 2)
  elseif columns or padding then
    raise("%s: columns are those of a grid, of (N, C, H, W); so is padding", label)
  end
  local channels = x.ndim == 3 and x.shape[1] or x.ndim == 2 and 1
  if not channels or channels > 4 then
    raise("%s: %s is no picture: (H, W), (C, H, W) of 1 to 4 channels, or (N, C, H, W) for a grid",
      label, shape(x))
  end
  local bytes, floats = bytes_of(label, x)
  if x.ndim == 2 then bytes = bytes:unsqueeze(1) end
  return bytes:permute(2, 3, 1), floats
end

function picture.put(w, x, columns, padding)
  local label = w:label()
  if not label:find "%.png$" then raise("%s: pictures are written as .png", label) end
  mg._png(w, pixels(label, x, columns, padding))
end

-- A picture as the bytes of a PNG; its height, width and channels
function picture.png(label, x, columns)
  local bytes = pixels(label, x, columns)
  return mg._png(nil, bytes), table.unpack(bytes.shape)
end

return picture
