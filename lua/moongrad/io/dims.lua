-- dims.lua -- shapes as files claim them.

local dims = {}

local MAX = math.maxinteger // 16

-- The number of elements of a shape; nil where t is none, or would not fit an integer.
function dims.size(t)
  local size, n, empty = 1, #t, false
  for k, d in pairs(t) do
    if math.type(k) ~= "integer" or k < 1 or k > n or math.type(d) ~= "integer" or d < 0 then
      return nil
    end
    empty = empty or d == 0
  end
  if empty then return 0 end
  for _, d in ipairs(t) do
    if d > MAX // size then return nil end
    size = size * d
  end
  return size
end

-- Why the engine cannot have an array of this shape, or nil.
function dims.problem(t)
  if #t > 8 then return ("it has %d axes, there can be 8"):format(#t) end
  local size = 1
  for _, d in ipairs(t) do
    d = math.max(d, 1)
    if d > MAX // size then return "its shape is too large" end
    size = size * d
  end
end

return dims
