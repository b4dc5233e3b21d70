-- Transforms of whole batches of pictures: functions of x (N, C, H, W), floats; what is random is
-- another for each picture of a batch. They stand in a list, DataLoader(ds, {transform = {...}}),
-- and draw from the loader's seed there; or are called.

local mg = require "moongrad"
local checked, raise = mg.checked, mg.raise

local transforms = {}

local function check(op, x)
  if not mg.is_variable(x) or x.ndim ~= 4 or x.dtype:sub(1, 5) ~= "float" then
    raise("%s: expected floats (N, C, H, W), got %s", op, mg.is_variable(x) and
      ("%s (%s)"):format(x.dtype, table.concat(x.shape, ", ")) or "a " .. type(x))
  end
  return x.shape[1], x.shape[2], x.shape[3], x.shape[4]
end

local function flip(name, axis, how)
  transforms[name] = checked(name .. "(p: number(0..1) = 0.5)",
    "a transform: each picture is mirrored " .. how .. " with probability p",
    function(p)
      return function(x)
        local n = check(name, x)
        return mg.where(mg.rand(n, 1, 1, 1):lt(p), x:flip(axis), x)
      end
    end)
end

flip("RandomHorizontalFlip", -1, "left to right")
flip("RandomVerticalFlip", -2, "top to bottom")

-- Pictures (h, w) of x from row and column first(n) on; one copy
local function cut(x, h, w, first)
  local list = {}
  for i = 1, #x do
    local row, column = first(i)
    list[i] = x[{ i, {}, { row, row + h - 1 }, { column, column + w - 1 } }]
  end
  return mg.stack(list)
end

transforms.RandomCrop = checked(
  "RandomCrop(size: pair(1..), {padding: pair(0..) = 0, value: number = 0})",
  "a transform: a part of size (h, w) of each picture, anywhere, after a border of padding rows " ..
    "and columns of value was put around it",
  function(size, padding, value)
    return function(x)
      local n, _, h, w = check("RandomCrop", x)
      h, w = h + 2 * padding[1], w + 2 * padding[2]
      if size[1] > h or size[2] > w then
        raise("RandomCrop: %d x %d is larger than the picture with its border, %d x %d", size[1],
          size[2], h, w)
      end
      if padding[1] > 0 or padding[2] > 0 then
        x = x:pad({ padding[2], padding[2], padding[1], padding[1] }, { value = value })
      end
      local rows = mg.randint(1, h - size[1] + 1, { n }):totable()
      local columns = mg.randint(1, w - size[2] + 1, { n }):totable()
      return cut(x, size[1], size[2], function(i) return rows[i], columns[i] end)
    end
  end)

transforms.CenterCrop = checked("CenterCrop(size: pair(1..))",
  "a transform: the middle of size (h, w) of each picture",
  function(size)
    return function(x)
      local _, _, h, w = check("CenterCrop", x)
      if size[1] > h or size[2] > w then
        raise("CenterCrop: %d x %d is larger than the picture, %d x %d", size[1], size[2], h, w)
      end
      local row, column = (h - size[1]) // 2 + 1, (w - size[2]) // 2 + 1
      return x[{ {}, {}, { row, row + size[1] - 1 }, { column, column + size[2] - 1 } }]
    end
  end)

local function per_channel(v)
  local x = mg.tensor(v)
  if not x:isfinite():all():item() then raise("Normalize: mean and std must be finite") end
  if x.ndim > 1 then raise("Normalize: expected a number or a list, one for each channel") end
  return x:reshape(x.size, 1, 1)
end

transforms.Normalize = checked(
  "Normalize(mean: number | numbers, std: number(0<..) | numbers(0<..))",
  "a transform: (x - mean) / std, of each channel its own",
  function(mean, std)
    local m, s = per_channel(mean), per_channel(std)
    return function(x)
      local _, c = check("Normalize", x)
      if m.size ~= 1 and m.size ~= c or s.size ~= 1 and s.size ~= c then
        raise("Normalize: %d means and %d stds for %d channels", m.size, s.size, c)
      end
      return (x - m:to(x.dtype)) / s:to(x.dtype)
    end
  end)

-- x at fractional rows and columns (N, h, w), from 1, by its four neighbours; 0 outside
local function sample(x, rows, columns)
  local n, c, h, w = table.unpack(x.shape)
  local th, tw = rows.shape[2], rows.shape[3]
  local flat = x:reshape(n, c, h * w)
  local top, left = rows:floor(), columns:floor()
  local down, right = rows - top, columns - left
  local function corner(i, j, weight)
    local r, k = top + i, left + j
    local inside = r:ge(1):logical_and(r:le(h)):logical_and(k:ge(1)):logical_and(k:le(w))
    local at = (r:clamp { min = 1, max = h } - 1) * w + k:clamp { min = 1, max = w }
    local index = at:to("int64"):reshape(n, 1, th * tw):expand(n, c, th * tw)
    local picked = mg.gather(flat, 3, index):reshape(n, c, th, tw)
    return picked * mg.where(inside, weight, 0):unsqueeze(2)
  end
  return corner(0, 0, (1 - down) * (1 - right)) + corner(0, 1, (1 - down) * right) +
    corner(1, 0, down * (1 - right)) + corner(1, 1, down * right)
end

transforms.RandomRotation = checked("RandomRotation(degrees: number(0..180))",
  "a transform: each picture is turned about its middle by an angle in -degrees..degrees; " ..
    "bilinear, 0 outside",
  function(degrees)
    return function(x)
      local n, _, h, w = check("RandomRotation", x)
      local angle = (2 * mg.rand { n, 1, 1, dtype = x.dtype } - 1) * math.rad(degrees)
      local y = (mg.range(1, h, { dtype = x.dtype }) - (h + 1) / 2):reshape(1, h, 1)
      local z = (mg.range(1, w, { dtype = x.dtype }) - (w + 1) / 2):reshape(1, 1, w)
      local cos, sin = angle:cos(), angle:sin()
      return sample(x, cos * y + sin * z + (h + 1) / 2, cos * z - sin * y + (w + 1) / 2)
    end
  end)

transforms.Resize = checked("Resize(size: pair(1..))",
  "a transform: pictures of size (h, w), each element bilinear between its four neighbours, as " ..
    "interpolate {align_corners = false}",
  function(size)
    return function(x)
      local n, _, h, w = check("Resize", x)
      local function places(from, to)
        local at = (mg.range(1, to, { dtype = x.dtype }) - 0.5) * (from / to) + 0.5
        return at:clamp { min = 1, max = from }
      end
      local rows = places(h, size[1]):reshape(1, size[1], 1):expand(n, size[1], size[2])
      local columns = places(w, size[2]):reshape(1, 1, size[2]):expand(n, size[1], size[2])
      return sample(x, rows, columns)
    end
  end)

return transforms
