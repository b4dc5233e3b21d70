-- grid(x): many pictures as one, for mg.save and mg.plot.

local mg = require "moongrad"
local picture = require "moongrad.io.picture"

return {
  grid = mg.checked("grid(x: array, {columns: int(1..)?, padding: int(0..) = 2})",
    "pictures (N, H, W) or (N, C, H, W) in rows of so many (about as many as rows), with " ..
    "padding of 0 between them, as one: (H, W) or (C, H, W)",
    function(x, columns, padding)
      if x.ndim ~= 3 and x.ndim ~= 4 or x.size == 0 then
        mg.raise("grid: shape (%s), expected pictures (N, H, W) or (N, C, H, W)",
          table.concat(x.shape, ", "))
      end
      return picture.grid(x, columns, padding)
    end),
}
