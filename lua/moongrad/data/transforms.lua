-- Transforms of whole batches of pictures: functions of x (N, C, H, W), floats; what is random is
-- another for each picture of a batch. They stand in a list, DataLoader(ds, {transform = {...}}),
-- and draw from the loader's seed there; or are called.

local mg = require "moongrad"
local checked, raise, drawing = mg.checked, mg.raise, mg._drawing

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
      return drawing(function(x)
        local n = check(name, x)
        return mg.where(mg.rand(n, 1, 1, 1):lt(p), x:flip(axis), x)
      end)
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
  "RandomCrop(size: pair(1..), {padding: pair(0..) = 0, value: number?})",
  "a transform: a part of size (h, w) of each picture, anywhere, after a border of padding rows " ..
    "and columns of value, 0, was put around it",
  function(size, padding, value)
    if value and padding[1] == 0 and padding[2] == 0 then
      raise "RandomCrop: value is of no use without padding"
    end
    return drawing(function(x)
      local n, _, h, w = check("RandomCrop", x)
      h, w = h + 2 * padding[1], w + 2 * padding[2]
      if size[1] > h or size[2] > w then
        raise("RandomCrop: %d x %d is larger than the picture with its border, %d x %d", size[1],
          size[2], h, w)
      end
      if padding[1] > 0 or padding[2] > 0 then
        x = x:pad({ padding[2], padding[2], padding[1], padding[1] }, { value = value or 0 })
      end
      local rows = mg.randint(1, h - size[1] + 1, { n }):totable()
      local columns = mg.randint(1, w - size[2] + 1, { n }):totable()
      return cut(x, size[1], size[2], function(i) return rows[i], columns[i] end)
    end)
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
  "Normalize(mean: number(..) | numbers(..), std: number(0<..) | numbers(0<..))",
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

-- ---- colours ------------------------------------------------------------------------------------

-- What a channel counts in how bright it is (ITU-R BT.601)
local LUMA = { 0.299, 0.587, 0.114 }

-- (N, 1, H, W)
local function grey(op, x)
  local _, c = check(op, x)
  if c == 1 then return x end
  if c ~= 3 then raise("%s: expected 1 or 3 channels, got %d", op, c) end
  return (x * mg.tensor(LUMA, x.dtype):reshape(3, 1, 1)):sum { axis = 2, keepdims = true }
end

local function with_probability(name, p, fn)
  return drawing(function(x)
    local n = check(name, x)
    return mg.where(mg.rand(n, 1, 1, 1):lt(p), fn(x), x)
  end)
end

transforms.Grayscale = checked("Grayscale(channels: int(1..) = 1)",
  "a transform: how bright pictures of 3 channels are, in so many channels",
  function(channels)
    return function(x)
      local n, _, h, w = check("Grayscale", x)
      return grey("Grayscale", x):expand(n, channels, h, w)
    end
  end)

transforms.RandomGrayscale = checked("RandomGrayscale(p: number(0..1) = 0.1)",
  "a transform: each picture of 3 channels loses its colours with probability p",
  function(p)
    return with_probability("RandomGrayscale", p, function(x)
      return grey("RandomGrayscale", x):expand(x.shape)
    end)
  end)

-- low..high of a factor, by how much it may be off 1 or by both
local function span(name, v)
  if type(v) == "number" then return math.max(1 - v, 0), 1 + v end
  if #v ~= 2 or v[1] > v[2] then
    raise("ColorJitter: %s must be a number or {low, high}", name)
  end
  return v[1], v[2]
end

local function factor(x, low, high)
  return mg.rand { x.shape[1], 1, 1, 1, dtype = x.dtype } * (high - low) + low
end

-- x turned in the plane of colours that are equally bright, U and V of YUV, by so much of a turn
local function turned(x, part)
  local r, g, b = x[{ {}, {1, 1} }], x[{ {}, {2, 2} }], x[{ {}, {3, 3} }]
  local y = r * LUMA[1] + g * LUMA[2] + b * LUMA[3]
  local u, v = (b - y) * 0.492, (r - y) * 0.877
  local cos, sin = (part * (2 * math.pi)):cos(), (part * (2 * math.pi)):sin()
  u, v = cos * u - sin * v, sin * u + cos * v
  r, b = y + v / 0.877, y + u / 0.492
  return mg.cat({ r, (y - r * LUMA[1] - b * LUMA[3]) / LUMA[2], b }, 2)
end

transforms.ColorJitter = checked(
  "ColorJitter({brightness: number(0..) | numbers(0..) = 0, contrast: number(0..) | " ..
    "numbers(0..) = 0, saturation: number(0..) | numbers(0..) = 0, hue: number(0..0.5) = 0})",
  "a transform of values in 0..1: each picture is made brighter, brought farther from its mean " ..
    "grey and from each grey of its own, by factors in 1 - v..1 + v or {low, high}; its hues " ..
    "are turned by up to so much of a whole turn",
  function(brightness, contrast, saturation, hue)
    local b1, b2 = span("brightness", brightness)
    local c1, c2 = span("contrast", contrast)
    local s1, s2 = span("saturation", saturation)
    return drawing(function(x)
      local _, c = check("ColorJitter", x)
      local function within(y) return y:clamp { min = 0, max = 1 } end
      if b1 ~= 1 or b2 ~= 1 then x = within(x * factor(x, b1, b2)) end
      if c1 ~= 1 or c2 ~= 1 then
        local mean = grey("ColorJitter", x):mean { axis = { 2, 3, 4 }, keepdims = true }
        x = within(mean + (x - mean) * factor(x, c1, c2))
      end
      local coloured = c > 1 and (s1 ~= 1 or s2 ~= 1 or hue > 0)
      if coloured and c ~= 3 then
        raise("ColorJitter: expected 1 or 3 channels, got %d", c)
      end
      if coloured and (s1 ~= 1 or s2 ~= 1) then
        local own = grey("ColorJitter", x)
        x = within(own + (x - own) * factor(x, s1, s2))
      end
      if coloured and hue > 0 then x = within(turned(x, factor(x, -hue, hue))) end
      return x
    end)
  end)

-- ---- parts --------------------------------------------------------------------------------------

-- By pictures: rows, columns, heights and widths (N, 1, 1) of a rectangle whose area is a share in
-- `scale` and whose shape is in `ratio`, anywhere within h x w
local function rectangles(n, h, w, scale, ratio)
  local area = (mg.rand(n, 1, 1) * (scale[2] - scale[1]) + scale[1]) * (h * w)
  local low, high = math.log(ratio[1]), math.log(ratio[2])
  local shape = (mg.rand(n, 1, 1) * (high - low) + low):exp()
  local height = (area * shape):sqrt():round():clamp { min = 1, max = h }
  local width = (area / shape):sqrt():round():clamp { min = 1, max = w }
  local row = (mg.rand(n, 1, 1) * (h - height + 1)):floor()
  local column = (mg.rand(n, 1, 1) * (w - width + 1)):floor()
  return row, column, height, width
end

local function check_range(op, name, range)
  if #range ~= 2 or range[1] > range[2] or range[1] <= 0 then
    raise("%s: %s must be {low, high}, both positive", op, name)
  end
end

transforms.RandomErasing = checked(
  "RandomErasing(p: number(0..1) = 0.5, {scale: numbers(0..1) = {0.02, 0.33}, " ..
    "ratio: numbers(0..) = {0.3, 3.3}, value: number = 0})",
  "a transform: with probability p a rectangle of each picture, of a share of it in scale and " ..
    "height / width in ratio, becomes value: Zhong et al., arXiv 1708.04896",
  function(p, scale, ratio, value)
    check_range("RandomErasing", "scale", scale)
    check_range("RandomErasing", "ratio", ratio)
    return with_probability("RandomErasing", p, function(x)
      local n, _, h, w = table.unpack(x.shape)
      local row, column, height, width = rectangles(n, h, w, scale, ratio)
      local i = mg.range(0, h - 1):reshape(1, h, 1)
      local j = mg.range(0, w - 1):reshape(1, 1, w)
      local inside = i:ge(row):logical_and(i:lt(row + height)):logical_and(j:ge(column))
        :logical_and(j:lt(column + width))
      return mg.where(inside:unsqueeze(2), value, x)
    end)
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
    local function whole(v, most) return v:clamp { min = 1, max = most }:to "int64" end
    local at = (whole(r, h) - 1) * w + whole(k, w)     -- of float32 beyond 2^24 there are not all
    local index = at:reshape(n, 1, th * tw):expand(n, c, th * tw)
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
    return drawing(function(x)
      local n, _, h, w = check("RandomRotation", x)
      local angle = (2 * mg.rand { n, 1, 1, dtype = x.dtype } - 1) * math.rad(degrees)
      local y = (mg.range(1, h, { dtype = x.dtype }) - (h + 1) / 2):reshape(1, h, 1)
      local z = (mg.range(1, w, { dtype = x.dtype }) - (w + 1) / 2):reshape(1, 1, w)
      local cos, sin = angle:cos(), angle:sin()
      return sample(x, cos * y + sin * z + (h + 1) / 2, cos * z - sin * y + (w + 1) / 2)
    end)
  end)

transforms.RandomAffine = checked(
  "RandomAffine(degrees: number(0..180), {translate: numbers(0..1) = {0, 0}, " ..
    "scale: numbers(0..) = {1, 1}, shear: number(0..<90) = 0})",
  "a transform: each picture is turned about its middle by an angle in -degrees..degrees, made " ..
    "larger by a factor in scale, slanted by up to shear degrees, and moved by up to translate, " ..
    "shares of its width and height; bilinear, 0 outside",
  function(degrees, translate, scale, shear)
    check_range("RandomAffine", "scale", scale)
    if #translate ~= 2 then raise("RandomAffine: translate must be {of width, of height}") end
    return drawing(function(x)
      local n, _, h, w = check("RandomAffine", x)
      local function any(low, high)
        return mg.rand { n, 1, 1, dtype = x.dtype } * (high - low) + low
      end
      local angle = any(-math.rad(degrees), math.rad(degrees))
      local factors, slant = any(scale[1], scale[2]), any(-math.rad(shear), math.rad(shear)):tan()
      local right = any(-translate[1], translate[1]) * w
      local down = any(-translate[2], translate[2]) * h
      local y = mg.range(1, h, { dtype = x.dtype }):reshape(1, h, 1) - (h + 1) / 2 - down
      local z = mg.range(1, w, { dtype = x.dtype }):reshape(1, 1, w) - (w + 1) / 2 - right
      local cos, sin = angle:cos() / factors, angle:sin() / factors
      local rows, columns = cos * y + sin * z, cos * z - sin * y
      columns = columns + slant * rows
      return sample(x, rows + (h + 1) / 2, columns + (w + 1) / 2)
    end)
  end)

transforms.RandomResizedCrop = checked(
  "RandomResizedCrop(size: pair(1..), {scale: numbers(0..1) = {0.08, 1}, " ..
    "ratio: numbers(0..) = {0.75, 1.3333333333333333}})",
  "a transform: a part of each picture, of a share of it in scale and height / width in ratio, " ..
    "as a picture of size (h, w); bilinear",
  function(size, scale, ratio)
    check_range("RandomResizedCrop", "scale", scale)
    check_range("RandomResizedCrop", "ratio", ratio)
    return drawing(function(x)
      local n, _, h, w = check("RandomResizedCrop", x)
      local row, column, height, width = rectangles(n, h, w, scale, ratio)
      local function places(first, extent, most, to, dims)
        local at = ((mg.range(1, to) - 0.5) / to):reshape(dims)
        return (first + at * extent + 0.5):clamp { min = 1, max = most }:to(x.dtype)
      end
      local rows = places(row, height, h, size[1], { 1, size[1], 1 })
      local columns = places(column, width, w, size[2], { 1, 1, size[2] })
      return sample(x, rows:expand(n, size[1], size[2]), columns:expand(n, size[1], size[2]))
    end)
  end)

transforms.Resize = checked("Resize(size: pair(1..))",
  "a transform: pictures of size (h, w), each element bilinear between its four neighbours, as " ..
    "interpolate {align_corners = false}",
  function(size)
    return function(x)
      check("Resize", x)
      return mg.interpolate(x, { size = size, mode = "bilinear" })
    end
  end)

-- ---- of two -------------------------------------------------------------------------------------

-- Labels as probabilities, whatever they are
local function soft(op, t, classes, dtype)
  if t.ndim == 2 then
    if classes and t.shape[2] ~= classes then
      raise("%s: classes = %d, but the probabilities are of %d", op, classes, t.shape[2])
    end
    return t
  end
  if not classes then raise("%s: labels need the number of classes: {classes = 10}", op) end
  return t:one_hot(classes):to(dtype)
end

local function check_two(op, x, t)
  if not mg.is_variable(x) or not mg.is_variable(t) or x.ndim < 1 or x.shape[1] ~= t.shape[1] then
    raise("%s: expected x (N, ...) and labels (N), or probabilities (N, classes)", op)
  end
end

transforms.MixUp = checked("MixUp({alpha: number(0<..) = 0.2, classes: int(1..)?})",
  "a function of a batch x, t that mixes each with another of it, l x + (1 - l) x', l of a beta " ..
    "distribution (alpha, alpha), and their labels, which become probabilities (N, classes), as " ..
    "cross_entropy takes them: Zhang et al., arXiv 1710.09412",
  function(alpha, classes)
    return drawing(function(x, t)
      check_two("MixUp", x, t)
      local l, order = mg.beta(alpha, alpha):item(), mg.randperm(x.shape[1])
      t = soft("MixUp", t, classes, x.dtype)
      return x * l + x:index_select(1, order) * (1 - l), t * l + t:index_select(1, order) * (1 - l)
    end)
  end)

transforms.CutMix = checked("CutMix({alpha: number(0<..) = 1, classes: int(1..)?})",
  "a function of a batch x (N, C, H, W), t that puts a rectangle of another picture into each, " ..
    "of a share 1 - l, and mixes their labels alike, see MixUp: Yun et al., arXiv 1905.04899",
  function(alpha, classes)
    return drawing(function(x, t)
      local _, _, h, w = check("CutMix", x)
      check_two("CutMix", x, t)
      local order = mg.randperm(x.shape[1])
      local side = (1 - mg.beta(alpha, alpha):item()) ^ 0.5
      local row, column = mg.randint(1, h):item(), mg.randint(1, w):item()
      local top, bottom = row - side * h / 2, row + side * h / 2
      local left, right = column - side * w / 2, column + side * w / 2
      local i, j = mg.range(1, h):reshape(h, 1), mg.range(1, w)
      local inside = i:ge(top):logical_and(i:lt(bottom)):logical_and(j:ge(left))
        :logical_and(j:lt(right))
      local l = 1 - inside:sum():item() / (h * w)
      t = soft("CutMix", t, classes, x.dtype)
      return mg.where(inside, x:index_select(1, order), x),
        t * l + t:index_select(1, order) * (1 - l)
    end)
  end)

return transforms
